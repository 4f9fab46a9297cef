"""A classifier with dropout, by tf.nn or tf.layers: seeds of operations that run at each step."""

import tensorflow.compat.v1 as tf

from programs.program import Program, classification_spec, make_blobs, wrap_for_cores


def make_examples(num_examples, seed):
    return make_blobs(num_examples, seed, num_features=10, num_classes=4)


def make_program(name, drop):
    """Gives the program whose training passes `hidden` (float32 [batch, 16]) through `drop`."""

    def build_model_fn(api):
        def model_fn(features, labels, mode, params):
            with tf.variable_scope("hidden"):
                kernel = tf.get_variable("kernel", [10, 16])
                hidden = tf.nn.relu(tf.matmul(features, kernel))
            if mode == api.ModeKeys.TRAIN:
                hidden = drop(hidden)
            with tf.variable_scope("logits"):
                kernel = tf.get_variable("kernel", [16, 4])
                bias = tf.get_variable("bias", [4], initializer=tf.zeros_initializer())
                logits = tf.matmul(hidden, kernel) + bias

            def build_train_op(loss):
                optimizer = wrap_for_cores(tf.train.GradientDescentOptimizer(0.1), api, params)
                return optimizer.minimize(loss, global_step=tf.train.get_global_step())

            return classification_spec(api, mode, params, logits, labels, build_train_op)

        return model_fn

    return Program(
        name,
        build_model_fn,
        make_examples,
        has_dropout=True,
        exact_on_cores=False,
        why_inexact_on_cores="each core draws its own mask",
    )


PROGRAMS = (
    make_program("dropout", lambda hidden: tf.nn.dropout(hidden, rate=0.3)),
    make_program(
        "layers_dropout", lambda hidden: tf.layers.dropout(hidden, rate=0.3, training=True)
    ),
)
