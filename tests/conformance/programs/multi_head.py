"""Two heads on one trunk: nested dict features, dict labels, a dict of losses summed with weights."""

import numpy as np
import tensorflow.compat.v1 as tf

from programs.program import Program, name_loss, wrap_for_cores

LOSS_WEIGHTS = {"kind": 1.0, "size": 0.5}


def make_examples(num_examples, seed):
    random = np.random.RandomState(seed)
    shape = random.randn(num_examples, 5).astype(np.float32)
    colour = random.randint(4, size=num_examples).astype(np.int32)
    kind = (shape.sum(axis=1) + colour > 1.5).astype(np.int32)
    size = (shape[:, :2].sum(axis=1) - 0.3 * colour).astype(np.float32)
    return {"seen": {"shape": shape, "colour": colour}}, {"kind": kind, "size": size}


def build_heads(features):
    colour = tf.one_hot(features["seen"]["colour"], 4)
    trunk = tf.concat([features["seen"]["shape"], colour], axis=-1)
    trunk = tf.layers.dense(trunk, 12, tf.nn.relu, name="trunk")
    return {
        "kind": tf.layers.dense(trunk, 2, name="kind"),
        "size": tf.squeeze(tf.layers.dense(trunk, 1, name="size"), axis=-1),
    }


def build_losses(labels, outputs):
    return {
        "kind": tf.losses.sparse_softmax_cross_entropy(labels["kind"], outputs["kind"]),
        "size": tf.losses.huber_loss(labels["size"], outputs["size"]),
    }


def metric_fn(kind_labels, kind_logits, size_labels, size):
    return {
        "kind/accuracy": tf.metrics.accuracy(kind_labels, tf.argmax(kind_logits, axis=-1)),
        "size/rmse": tf.metrics.root_mean_squared_error(size_labels, size),
    }


def build_model_fn(api):
    def model_fn(features, labels, mode, params):
        outputs = build_heads(features)
        if mode == api.ModeKeys.PREDICT:
            predictions = {"kind": tf.nn.softmax(outputs["kind"]), "size": outputs["size"]}
            return api.TPUEstimatorSpec(mode=mode, predictions=predictions)
        losses = build_losses(labels, outputs)
        loss = name_loss(tf.add_n([LOSS_WEIGHTS[head] * losses[head] for head in sorted(losses)]))
        if mode == api.ModeKeys.EVAL:
            tensors = {
                "kind_labels": labels["kind"],
                "kind_logits": outputs["kind"],
                "size_labels": labels["size"],
                "size": outputs["size"],
            }
            return api.TPUEstimatorSpec(mode=mode, loss=loss, eval_metrics=(metric_fn, tensors))
        optimizer = wrap_for_cores(tf.train.AdamOptimizer(0.02), api, params)
        train_op = optimizer.minimize(loss, global_step=tf.train.get_global_step())
        return api.TPUEstimatorSpec(mode=mode, loss=loss, train_op=train_op)

    return model_fn


PROGRAM = Program("multi_head", build_model_fn, make_examples)
