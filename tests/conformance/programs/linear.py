"""Linear regression by gradient descent: a single features tensor, no tf.layers."""

import numpy as np
import tensorflow.compat.v1 as tf

from programs.program import Program, name_loss, wrap_for_cores


def make_examples(num_examples, seed):
    random = np.random.RandomState(seed)
    features = random.randn(num_examples, 5).astype(np.float32)
    targets = features.dot(np.arange(1, 6) / 5.0) + 0.5 + 0.1 * random.randn(num_examples)
    return features, targets.astype(np.float32)


def build_model_fn(api):
    def metric_fn(labels, predictions):
        return {
            "rmse": tf.metrics.root_mean_squared_error(labels, predictions),
            "mean_absolute_error": tf.metrics.mean_absolute_error(labels, predictions),
        }

    def model_fn(features, labels, mode, params):
        weights = tf.get_variable(
            "weights", [5, 1], initializer=tf.random_normal_initializer(stddev=0.3)
        )
        bias = tf.get_variable("bias", [], initializer=tf.zeros_initializer())
        predictions = tf.squeeze(tf.matmul(features, weights), axis=1) + bias
        if mode == api.ModeKeys.PREDICT:
            return api.TPUEstimatorSpec(mode=mode, predictions={"value": predictions})
        loss = name_loss(tf.losses.mean_squared_error(labels, predictions))
        if mode == api.ModeKeys.EVAL:
            return api.TPUEstimatorSpec(
                mode=mode, loss=loss, eval_metrics=(metric_fn, [labels, predictions])
            )
        optimizer = wrap_for_cores(tf.train.GradientDescentOptimizer(0.05), api, params)
        train_op = optimizer.minimize(loss, global_step=tf.train.get_global_step())
        return api.TPUEstimatorSpec(mode=mode, loss=loss, train_op=train_op)

    return model_fn


PROGRAM = Program("linear", build_model_fn, make_examples)
