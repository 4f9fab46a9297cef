"""Optimizers of tf.contrib.opt take TensorFlow 1.15's steps; values were recorded from 1.15.5."""

import numpy as np
import pytest
import tensorflow as tf

from tpuest.compat import optimizers

v1 = tf.compat.v1
# Three steps; float32 in another order of operations.
TOLERANCE = 2e-5
RECORDED = [
    (
        optimizers.AdamWOptimizer,
        {"weight_decay": 0.01, "learning_rate": 0.1},
        [[0.0, -0.07339], [0.2, 0.3], [0.09902, 0.19342], [0.6, 0.7]],
    ),
    (
        optimizers.LazyAdamOptimizer,
        {"learning_rate": 0.1},
        [[0.0, -0.07444], [0.2, 0.3], [0.1074, 0.20487], [0.6, 0.7]],
    ),
    (
        optimizers.MomentumWOptimizer,
        {"weight_decay": 0.01, "learning_rate": 0.1, "momentum": 0.9},
        # Of resource variables in 13 runs of 15: the original's decay races with the model's read.
        [[0.0, 0.00466], [0.2, 0.3], [0.01866, 0.02332], [0.6, 0.7]],
    ),
    (
        optimizers.LARSOptimizer,
        {"learning_rate": 0.1},
        [[0.0, 0.09994], [0.19989, 0.29983], [0.39978, 0.49972], [0.59966, 0.69961]],
    ),
]


@pytest.mark.parametrize("use_resource", [False, True])
@pytest.mark.parametrize(("optimizer", "arguments", "expected"), RECORDED)
def test_three_steps_are_the_originals(optimizer, arguments, expected, use_resource):
    is_dense = optimizer is optimizers.LARSOptimizer
    with tf.Graph().as_default(), v1.Session() as session:
        first = (np.arange(8).reshape(4, 2) * 0.1).astype(np.float32)
        weights = v1.get_variable("w", initializer=first, use_resource=use_resource)
        used = weights if is_dense else tf.gather(weights, [0, 2])
        step = optimizer(**arguments).minimize(tf.reduce_sum(tf.square(used) + 1.0))
        session.run(v1.global_variables_initializer())
        for _ in range(3):
            session.run(step)
        np.testing.assert_allclose(session.run(weights), expected, atol=TOLERANCE)


def test_gradients_are_clipped_one_by_one():
    with tf.Graph().as_default(), v1.Session() as session:
        weights = v1.get_variable("w", initializer=[0.0, 0.0], use_resource=True)
        optimizer = optimizers.clip_gradients_by_norm(v1.train.GradientDescentOptimizer(1.0), 1.0)
        step = optimizer.minimize(tf.reduce_sum(weights * [3.0, 4.0]))
        session.run(v1.global_variables_initializer())
        session.run(step)
        np.testing.assert_allclose(session.run(weights), [-0.6, -0.8], rtol=1e-6)
