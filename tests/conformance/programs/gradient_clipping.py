"""Clipping by global norm, on either side of the sum over cores.

`gradient_clipping` clips what each core computed (the usual way); `clipping_optimizer` clips inside the
wrapped optimizer, after the sum, so that cores and one device agree.
"""

import tensorflow.compat.v1 as tf

from programs.program import Program, classification_spec, make_blobs, wrap_for_cores

CLIP_NORM = 0.3


class ClippingOptimizer(tf.train.AdamOptimizer):
    """Adam on gradients clipped by their global norm."""

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        gradients, variables = zip(*grads_and_vars)
        gradients, _ = tf.clip_by_global_norm(gradients, CLIP_NORM)
        return super().apply_gradients(
            zip(gradients, variables), global_step=global_step, name=name
        )


def make_examples(num_examples, seed):
    return make_blobs(num_examples, seed, num_features=8, num_classes=3)


def build_logits(features):
    hidden = tf.layers.dense(features, 10, activation=tf.nn.elu, name="hidden")
    return tf.layers.dense(hidden, 3, use_bias=False, name="logits")


def build_clipping_model_fn(api):
    def model_fn(features, labels, mode, params):
        def build_train_op(loss):
            optimizer = wrap_for_cores(tf.train.AdamOptimizer(0.02), api, params)
            gradients, variables = zip(*optimizer.compute_gradients(loss))
            gradients, global_norm = tf.clip_by_global_norm(gradients, CLIP_NORM)
            tf.identity(global_norm, name="gradient_norm")
            return optimizer.apply_gradients(
                zip(gradients, variables), global_step=tf.train.get_global_step()
            )

        return classification_spec(
            api, mode, params, build_logits(features), labels, build_train_op
        )

    return model_fn


def build_clipping_optimizer_model_fn(api):
    def model_fn(features, labels, mode, params):
        def build_train_op(loss):
            optimizer = wrap_for_cores(ClippingOptimizer(0.02), api, params)
            return optimizer.minimize(loss, global_step=tf.train.get_global_step())

        return classification_spec(
            api, mode, params, build_logits(features), labels, build_train_op
        )

    return model_fn


GRADIENT_CLIPPING = Program(
    "gradient_clipping",
    build_clipping_model_fn,
    make_examples,
    fetches=("gradient_norm",),
    exact_on_cores=False,
    why_inexact_on_cores="each core clips its own gradients",
)
CLIPPING_OPTIMIZER = Program("clipping_optimizer", build_clipping_optimizer_model_fn, make_examples)
