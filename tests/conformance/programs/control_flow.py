"""tf.cond, tf.case and tf.while_loop in the model, with gradients through them."""

import numpy as np
import tensorflow.compat.v1 as tf

from programs.program import Program, name_loss, wrap_for_cores


def make_examples(num_examples, seed):
    random = np.random.RandomState(seed)
    features = random.randn(num_examples, 4).astype(np.float32)
    return {"x": features}, np.sin(features.sum(axis=1)).astype(np.float32)


def refine(state, kernel):
    """Applies one shared layer three times. state: float32 [batch, 4]."""
    return tf.while_loop(
        lambda step, _: step < 3,
        lambda step, value: (step + 1, value + tf.tanh(tf.matmul(value, kernel))),
        (tf.constant(0), state),
        maximum_iterations=3,
    )[1]


def build_model_fn(api):
    def metric_fn(labels, predictions):
        return {"mean_squared_error": tf.metrics.mean_squared_error(labels, predictions)}

    def model_fn(features, labels, mode, params):
        kernel = tf.get_variable(
            "kernel", [4, 4], initializer=tf.random_normal_initializer(stddev=0.2)
        )
        readout = tf.get_variable(
            "readout", [4, 1], initializer=tf.random_uniform_initializer(-0.5, 0.5)
        )
        state = refine(features["x"], kernel)
        predictions = tf.squeeze(tf.matmul(state, readout), axis=1)
        if mode == api.ModeKeys.PREDICT:
            return api.TPUEstimatorSpec(
                mode=mode, predictions={"value": predictions, "state": state}
            )
        loss = name_loss(tf.reduce_mean(tf.square(predictions - labels)))
        if mode == api.ModeKeys.EVAL:
            return api.TPUEstimatorSpec(
                mode=mode, loss=loss, eval_metrics=(metric_fn, [labels, predictions])
            )
        global_step = tf.train.get_global_step()
        is_early = tf.less(global_step, 10)
        learning_rate = tf.cond(is_early, lambda: tf.constant(0.02), lambda: tf.constant(0.05))
        weight_penalty = tf.cond(
            is_early, lambda: tf.nn.l2_loss(kernel), lambda: 2.0 * tf.nn.l2_loss(readout)
        )
        optimizer = wrap_for_cores(tf.train.GradientDescentOptimizer(learning_rate), api, params)
        train_op = optimizer.minimize(loss + 0.1 * weight_penalty, global_step=global_step)
        return api.TPUEstimatorSpec(mode=mode, loss=loss, train_op=train_op)

    return model_fn


PROGRAM = Program("control_flow", build_model_fn, make_examples)
