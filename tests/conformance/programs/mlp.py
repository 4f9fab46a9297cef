"""Classifier of two tf.layers.dense layers, trained by Adam; batch_axis and names at their defaults."""

import tensorflow.compat.v1 as tf

from programs.program import Program, classification_spec, make_blobs, wrap_for_cores


def make_examples(num_examples, seed):
    return make_blobs(num_examples, seed, num_features=10, num_classes=4)


def build_model_fn(api):
    def model_fn(features, labels, mode, params):
        hidden = tf.layers.dense(features, 16, activation=tf.nn.relu)
        hidden = tf.layers.dense(
            hidden,
            12,
            activation=tf.tanh,
            kernel_initializer=tf.truncated_normal_initializer(stddev=0.2),
        )
        logits = tf.layers.dense(hidden, 4, name="logits")

        def build_train_op(loss):
            optimizer = wrap_for_cores(tf.train.AdamOptimizer(params["learning_rate"]), api, params)
            return optimizer.minimize(loss, global_step=tf.train.get_global_step())

        return classification_spec(api, mode, params, logits, labels, build_train_op)

    return model_fn


PROGRAM = Program("mlp", build_model_fn, make_examples, params={"learning_rate": 0.01})
