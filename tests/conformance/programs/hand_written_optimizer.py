"""An optimizer written by hand, in the manner of BERT's, and two programs that train by it.

The optimizer makes its slots with get_variable, assigns by hand and leaves global_step to the caller.
`adam_weight_decay` reduces gradients with compute_gradients (equal on cores); `bert_clipping` does as
BERT's create_optimizer does: tf.gradients, clip_by_global_norm, apply_gradients.
"""

import re

import tensorflow.compat.v1 as tf

from programs.program import Program, classification_spec, make_blobs, wrap_for_cores

NUM_TRAIN_STEPS = 40
NUM_WARMUP_STEPS = 6
BASE_LEARNING_RATE = 0.005


class AdamWeightDecay(tf.train.Optimizer):
    """Adam without bias correction and with weight decay apart from the moments."""

    def __init__(self, learning_rate, weight_decay_rate, exclude):
        super().__init__(False, "AdamWeightDecay")
        self._learning_rate = learning_rate
        self._weight_decay_rate = weight_decay_rate
        self._exclude = exclude

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        assignments = []
        for gradient, variable in grads_and_vars:
            if gradient is None or variable is None:
                continue
            assignments.extend(self._assign(gradient, variable))
        return tf.group(*assignments, name=name)

    def _assign(self, gradient, variable):
        variable_name = re.match("^(.*):\\d+$", variable.name).group(1)
        mean, square = [
            tf.get_variable(
                name=variable_name + suffix,
                shape=variable.shape.as_list(),
                dtype=tf.float32,
                trainable=False,
                initializer=tf.zeros_initializer(),
            )
            for suffix in ("/adam_m", "/adam_v")
        ]
        next_mean = tf.multiply(0.9, mean) + tf.multiply(0.1, gradient)
        next_square = tf.multiply(0.999, square) + tf.multiply(0.001, tf.square(gradient))
        update = next_mean / (tf.sqrt(next_square) + 1e-6)
        if not any(re.search(pattern, variable_name) for pattern in self._exclude):
            update += self._weight_decay_rate * variable
        next_value = variable - self._learning_rate * update
        return [variable.assign(next_value), mean.assign(next_mean), square.assign(next_square)]


def make_learning_rate(global_step):
    """Gives BERT's schedule: linear warm-up, then linear decay to zero. float32 []."""
    decayed = tf.train.polynomial_decay(
        tf.constant(BASE_LEARNING_RATE),
        global_step,
        NUM_TRAIN_STEPS,
        end_learning_rate=0.0,
        power=1.0,
        cycle=False,
    )
    step = tf.cast(global_step, tf.float32)
    warmup = BASE_LEARNING_RATE * step / NUM_WARMUP_STEPS
    is_warmup = tf.cast(step < NUM_WARMUP_STEPS, tf.float32)
    return tf.identity((1.0 - is_warmup) * decayed + is_warmup * warmup, name="learning_rate")


def make_examples(num_examples, seed):
    features, labels = make_blobs(num_examples, seed, num_features=12, num_classes=3)
    return {"features": features}, {"label_ids": labels}


def build_logits(features):
    with tf.variable_scope("encoder"):
        kernel = tf.get_variable(
            "kernel", [12, 10], initializer=tf.truncated_normal_initializer(stddev=0.3)
        )
        bias = tf.get_variable("bias", [10], initializer=tf.zeros_initializer())
        hidden = tf.matmul(features["features"], kernel) + bias
        mean, variance = tf.nn.moments(hidden, axes=[-1], keep_dims=True)
        gamma = tf.get_variable("LayerNorm/gamma", [10], initializer=tf.ones_initializer())
        hidden = tf.nn.relu((hidden - mean) * tf.rsqrt(variance + 1e-12) * gamma)
    with tf.variable_scope("output"):
        weights = tf.get_variable(
            "weights", [3, 10], initializer=tf.truncated_normal_initializer(stddev=0.3)
        )
        return tf.matmul(hidden, weights, transpose_b=True)


def make_model_fn_builder(compute_gradients):
    """Gives a build_model_fn that differs only in `compute_gradients(optimizer, loss)`."""

    def build_model_fn(api):
        def build_train_op_with(params):
            def build_train_op(loss):
                global_step = tf.train.get_or_create_global_step()
                optimizer = AdamWeightDecay(
                    make_learning_rate(global_step), 0.01, exclude=["LayerNorm", "bias"]
                )
                optimizer = wrap_for_cores(optimizer, api, params)
                train_op = optimizer.apply_gradients(
                    compute_gradients(optimizer, loss), global_step=global_step
                )
                return tf.group(train_op, [global_step.assign(global_step + 1)])

            return build_train_op

        def model_fn(features, labels, mode, params):
            label_ids = labels["label_ids"] if labels is not None else None
            logits = build_logits(features)
            return classification_spec(
                api, mode, params, logits, label_ids, build_train_op_with(params)
            )

        return model_fn

    return build_model_fn


def compute_plain_gradients(optimizer, loss):
    return optimizer.compute_gradients(loss, tf.trainable_variables())


def compute_clipped_gradients(optimizer, loss):
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), clip_norm=0.2)
    return zip(gradients, variables)


ADAM_WEIGHT_DECAY = Program(
    "adam_weight_decay",
    make_model_fn_builder(compute_plain_gradients),
    make_examples,
    fetches=("learning_rate",),
)
BERT_CLIPPING = Program(
    "bert_clipping",
    make_model_fn_builder(compute_clipped_gradients),
    make_examples,
    fetches=("learning_rate",),
    exact_on_cores=False,
    why_inexact_on_cores="each core clips its own gradients, and the sum is not divided by the number of cores",
)
