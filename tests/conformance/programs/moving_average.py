"""Exponential moving averages of the trainable variables, kept after each update."""

import tensorflow.compat.v1 as tf

from programs.program import Program, classification_spec, make_blobs, wrap_for_cores


def make_examples(num_examples, seed):
    return make_blobs(num_examples, seed, num_features=6, num_classes=3)


def build_model_fn(api):
    def model_fn(features, labels, mode, params):
        with tf.variable_scope("model", initializer=tf.variance_scaling_initializer()):
            kernel = tf.get_variable("kernel", [6, 3])
            bias = tf.get_variable("bias", [3], initializer=tf.zeros_initializer())
        logits = tf.matmul(features, kernel) + bias

        def build_train_op(loss):
            global_step = tf.train.get_global_step()
            optimizer = wrap_for_cores(tf.train.MomentumOptimizer(0.1, 0.9), api, params)
            train_op = optimizer.minimize(loss, global_step=global_step)
            average = tf.train.ExponentialMovingAverage(decay=0.95, num_updates=global_step)
            with tf.control_dependencies([train_op]):
                return average.apply(tf.trainable_variables())

        return classification_spec(api, mode, params, logits, labels, build_train_op)

    return model_fn


PROGRAM = Program("moving_average", build_model_fn, make_examples)
