"""The shape of a conformance program: what to run, on which data, and what may be asked of it.

First in the chain `program -> runner -> {record, test_conformance}`: holds data, starts nothing.
Everything under `programs/` runs under TF 1.15, 2.15 and 2.21 alike (so: Python 3.7 syntax).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf


@dataclasses.dataclass(frozen=True)
class Api:
    """The estimator's names, as the original or tpuest spells them."""

    TPUEstimator: Any
    TPUEstimatorSpec: Any
    RunConfig: Any
    TPUConfig: Any
    InputPipelineConfig: Any
    CrossShardOptimizer: Any
    ModeKeys: Any


@dataclasses.dataclass(frozen=True)
class Program:
    """One old-style TPUEstimator program with its data.

    Attributes:
      name: file name of its goldens.
      build_model_fn: takes an `Api`, gives `model_fn(features, labels, mode, params)`. The model
        names its training loss `training_loss`.
      make_examples: takes `(num_examples, seed)`, gives `(features, labels)`, numpy arrays or dicts of them.
      params: user's params of the estimator.
      fetches: names of scalar tensors of the training graph (beside the loss) recorded each step.
      has_batch_norm: moments over a core's own examples, so cores and one device differ.
      has_dropout: draws masks at each training step: equal on one device, where the seeds are the same.
      exact_on_cores: N cores and one device give the same numbers for the same global batch.
      why_inexact_on_cores: the reason where `exact_on_cores` is False.
    """

    name: str
    build_model_fn: Callable
    make_examples: Callable
    params: dict[str, Any] = dataclasses.field(default_factory=dict)
    fetches: tuple[str, ...] = ()
    has_batch_norm: bool = False
    has_dropout: bool = False
    exact_on_cores: bool = True
    why_inexact_on_cores: str = ""
    num_train_examples: int = 96
    num_eval_examples: int = 44  # 2 full batches of 16 and 12 more
    num_predict_examples: int = 37  # 2 full batches of 16 and 5 more
    train_batch_size: int = 16
    eval_batch_size: int = 16
    predict_batch_size: int = 16

    def train_input_fn(self, params):
        """Gives full batches in a fixed order, for ever."""
        dataset = tf.data.Dataset.from_tensor_slices(
            self.make_examples(self.num_train_examples, seed=1)
        )
        return dataset.repeat().batch(params["batch_size"], drop_remainder=True)

    def eval_input_fn(self, params):
        """Gives every evaluation example once; the last batch is partial."""
        dataset = tf.data.Dataset.from_tensor_slices(
            self.make_examples(self.num_eval_examples, seed=2)
        )
        return dataset.batch(params["batch_size"])

    def full_batches_eval_input_fn(self, params):
        """Gives the evaluation examples that fill whole batches."""
        dataset = tf.data.Dataset.from_tensor_slices(
            self.make_examples(self.num_eval_examples, seed=2)
        )
        return dataset.batch(params["batch_size"], drop_remainder=True)

    def predict_input_fn(self, params):
        """Gives the features of every prediction example once; the last batch is partial."""
        features, _ = self.make_examples(self.num_predict_examples, seed=3)
        return tf.data.Dataset.from_tensor_slices(features).batch(params["batch_size"])


def wrap_for_cores(optimizer, api, params):
    """Makes the optimizer sum gradients over cores where there are any, as programs of the time did."""
    return api.CrossShardOptimizer(optimizer) if params.get("use_tpu") else optimizer


def name_loss(loss):
    """Gives the loss the name by which the recording hook finds it."""
    return tf.identity(loss, name="training_loss")


def make_blobs(num_examples, seed, num_features, num_classes):
    """Makes noisy class centres: float32 [num_examples, num_features], int32 labels [num_examples]."""
    centres = np.random.RandomState(0).randn(num_classes, num_features)
    random = np.random.RandomState(seed)
    labels = random.randint(num_classes, size=num_examples)
    features = centres[labels] + 0.7 * random.randn(num_examples, num_features)
    return features.astype(np.float32), labels.astype(np.int32)


def classification_spec(api, mode, params, logits, labels, build_train_op, extra_loss=None):
    """Gives the spec of a softmax classifier: mean cross-entropy, accuracy, predicted classes."""
    if mode == api.ModeKeys.PREDICT:
        predictions = {"classes": tf.argmax(logits, axis=1), "probabilities": tf.nn.softmax(logits)}
        return api.TPUEstimatorSpec(mode=mode, predictions=predictions)
    loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    loss = name_loss(loss if extra_loss is None else loss + extra_loss)
    if mode == api.ModeKeys.TRAIN:
        return api.TPUEstimatorSpec(mode=mode, loss=loss, train_op=build_train_op(loss))
    return api.TPUEstimatorSpec(
        mode=mode, loss=loss, eval_metrics=(classification_metrics, [labels, logits])
    )


def classification_metrics(labels, logits):
    """Gives the metric pairs of a classifier over the whole evaluation."""
    return {
        "accuracy": tf.metrics.accuracy(labels, tf.argmax(logits, axis=1)),
        "mean_confidence": tf.metrics.mean(tf.reduce_max(tf.nn.softmax(logits), axis=1)),
    }
