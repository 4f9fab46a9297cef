"""A model that tells which examples it was given, its data, and estimators of it."""

import threading

import numpy as np
import tensorflow.compat.v1 as tf

import tpuest
from tpuest import ModeKeys, TPUEstimatorSpec

BATCH_SIZE = 4
NUM_EXAMPLES = 12
IDS = np.arange(NUM_EXAMPLES, dtype=np.int32)


class Recorder:
    """Keeps what the model was given, batch by batch."""

    def __init__(self):
        self.batches = []
        self.calls = []

    @property
    def ids(self):
        return [int(i) for batch in self.batches for i in batch]

    def keep(self, ids):
        self.batches.append(ids.tolist())
        return np.int32(0)


def ids_of_features(features, labels):
    """Finds the ids in features that are a dict, or a tensor."""
    return features["id"] if isinstance(features, dict) else features


def echo_model(recorder=None, find_ids=ids_of_features):
    """Gives a `model_fn` whose predictions are the ids; in training and evaluation `recorder` gets them.

    Args:
      recorder: a `Recorder`; gets the ids of each step, those of all cores side by side.
      find_ids: gives the examples' ids, int32 `[batch_size]`, from features and labels.
    """
    recorder = recorder or Recorder()

    def record(ids):
        return tf.numpy_function(recorder.keep, [ids], tf.int32, stateful=True)

    def record_metric(ids):
        return {"recorded": (tf.constant(0), record(ids))}

    def model_fn(features, labels, mode, params):
        recorder.calls.append((mode, dict(params)))
        ids = tf.cast(find_ids(features, labels), tf.int32)
        w = tf.get_variable("w", [], initializer=tf.ones_initializer())
        if mode == ModeKeys.PREDICT:
            return TPUEstimatorSpec(mode, predictions={"id": ids})
        loss = w * tf.reduce_mean(tf.cast(ids, tf.float32))
        optimizer = tf.train.GradientDescentOptimizer(0.01)
        if params.get("use_tpu"):
            optimizer = tf.tpu.CrossShardOptimizer(optimizer)
        return TPUEstimatorSpec(
            mode,
            loss=loss,
            train_op=optimizer.minimize(loss, tf.train.get_global_step()),
            host_call=(record, [ids]) if mode == ModeKeys.TRAIN else None,
            eval_metrics=(record_metric, [ids]),
        )

    return model_fn


def batches_of_ids(params):
    """Is an `input_fn`: every id once, in order, as features and as labels."""
    dataset = tf.data.Dataset.from_tensor_slices(({"id": IDS}, IDS))
    return dataset.batch(params["batch_size"], drop_remainder=True)


def make_estimator(model_dir, model_fn, num_cores=None, batch_size=BATCH_SIZE, tpu=None, **options):
    """Gives a quiet estimator.

    Args:
      model_dir: of the estimator.
      model_fn: of the estimator.
      num_cores: `None` is use_tpu=False.
      batch_size: of all modes.
      tpu: arguments of `TPUConfig`.
      **options: further arguments of `TPUEstimator`.
    """
    config = tpuest.RunConfig(
        model_dir=str(model_dir),
        save_checkpoints_steps=1000,
        save_summary_steps=0,
        tpu_config=tpuest.TPUConfig(**(tpu or {})),
    )
    sizes = {f"{mode}_batch_size": batch_size for mode in ("train", "eval", "predict")}
    return tpuest.TPUEstimator(
        model_fn, config=config, use_tpu=num_cores is not None, **{**sizes, **options}
    )


def live_threads():
    """Names the threads, but for those of event files, which the process keeps open as TF 1 does."""
    names = [thread.name for thread in threading.enumerate()]
    return sorted(name for name in names if not name.startswith("EventLoggerThread"))
