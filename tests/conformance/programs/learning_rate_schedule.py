"""Learning-rate schedules in the graph, of global_step: piecewise constant times exponential and cosine decay."""

import tensorflow.compat.v1 as tf

from programs.program import Program, classification_spec, make_blobs, wrap_for_cores


def make_examples(num_examples, seed):
    return make_blobs(num_examples, seed, num_features=6, num_classes=3)


def make_learning_rate(global_step):
    """Gives float32 []: the product of three schedules of global_step (int64 [])."""
    pieces = tf.train.piecewise_constant(global_step, [3, 9], [0.02, 0.4, 0.2])
    exponential = tf.train.exponential_decay(
        1.0, global_step, decay_steps=4, decay_rate=0.8, staircase=True
    )
    cosine = tf.train.cosine_decay(1.0, global_step, decay_steps=50)
    return tf.identity(pieces * exponential * cosine, name="learning_rate")


def build_model_fn(api):
    def model_fn(features, labels, mode, params):
        kernel = tf.get_variable("kernel", [6, 3], initializer=tf.glorot_uniform_initializer())
        logits = tf.matmul(features, kernel)

        def build_train_op(loss):
            global_step = tf.train.get_or_create_global_step()
            optimizer = tf.train.MomentumOptimizer(make_learning_rate(global_step), 0.9)
            return wrap_for_cores(optimizer, api, params).minimize(loss, global_step=global_step)

        return classification_spec(api, mode, params, logits, labels, build_train_op)

    return model_fn


PROGRAM = Program(
    "learning_rate_schedule", build_model_fn, make_examples, fetches=("learning_rate",)
)
