"""Adam's update of small variables: the same numbers as the kernel's, for the sizes and devices where it is faster."""

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tpuest import _tf, small_updates
from tpuest.small_updates import _SIZES
from tpuest.transplant import TransplantSource

SMALL, LARGE = _SIZES[0], _SIZES[-1] + 1


def train_op(size, dtype, uses_nesterov):
    """Builds Adam's update of a variable `[size]`."""
    w = tf.get_variable("w", [size], dtype, tf.ones_initializer(), use_resource=True)
    gradient = tf.random.stateless_normal([size], [1, 2], dtype=dtype) * w
    slots = [
        tf.get_variable(name, [size], dtype, tf.zeros_initializer(), use_resource=True)
        for name in ("m", "v")
    ]
    scalars = [tf.constant(value, dtype) for value in (0.81, 0.998, 0.01, 0.9, 0.999, 1e-8)]
    handles = [variable.handle for variable in (w, *slots)]
    return tf.raw_ops.ResourceApplyAdam(
        **dict(zip(("var", "m", "v"), handles)),
        **dict(zip(("beta1_power", "beta2_power", "lr", "beta1", "beta2", "epsilon"), scalars)),
        grad=gradient,
        use_nesterov=uses_nesterov,
    )


def run(size, dtype, uses_nesterov, on_cpu):
    """Runs two updates; gives the values of the variable and its slots, and the types of the nodes."""
    with tf.Graph().as_default() as graph:
        op = train_op(size, dtype, uses_nesterov)
    source = TransplantSource(graph)
    source.set_update(op, on_cpu)
    with _tf.eager_mode():
        variables = {
            name: tf.Variable(np.full([size], value, dtype.as_numpy_dtype))
            for name, value in (("w", 1.0), ("m", 0.1), ("v", 0.2))
        }
        bindings = {f"{name}:0": variable.handle for name, variable in variables.items()}

        @tf.function(autograph=False)
        def step():
            with tf.control_dependencies(source.transplant([op], bindings)):
                return tf.constant(0)

        for _ in range(2):
            step()
        values = {name: variable.numpy() for name, variable in variables.items()}
    return values, {node.op for node in source.nodes().values()}


@pytest.mark.parametrize("uses_nesterov", [False, True])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_a_small_variable_gets_the_kernels_values(dtype, uses_nesterov):
    expected, by_kernel = run(SMALL, dtype, uses_nesterov, on_cpu=False)
    values, by_function = run(SMALL, dtype, uses_nesterov, on_cpu=True)
    assert "ResourceApplyAdam" in by_kernel
    assert "ResourceApplyAdam" not in by_function
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-6)


@pytest.mark.parametrize("size", [SMALL - 1, LARGE])
def test_the_kernel_updates_tiny_and_large_variables(size):
    _, ops = run(size, tf.float32, uses_nesterov=False, on_cpu=True)
    assert "ResourceApplyAdam" in ops


@pytest.mark.parametrize("num_cores", [models.CPU, models.TWO_CORES])
def test_training_with_adam_is_the_originals(tmp_path, num_cores, monkeypatch):
    def train(directory):
        def model_fn(features, labels, mode, params):
            hidden = tf.layers.dense(features["x"], 512, tf.nn.relu)
            loss = tf.losses.mean_squared_error(labels, tf.layers.dense(hidden, 1))
            optimizer = tf.tpu.CrossShardOptimizer(tf.train.AdamOptimizer(0.01))
            step = tf.train.get_global_step()
            return models.TPUEstimatorSpec(
                mode, loss=loss, train_op=optimizer.minimize(loss, global_step=step)
            )

        with models.simulation(num_cores):
            estimator = models.make_estimator(
                tmp_path / directory, num_cores, model_fn, tf_random_seed=3
            )
            estimator.train(models.train_input_fn, steps=6)
        return {n: estimator.get_variable_value(n) for n in estimator.get_variable_names()}

    values = train("functions")
    monkeypatch.setattr(small_updates, "_SIZES", range(0))
    for name, value in train("kernels").items():
        np.testing.assert_allclose(values[name], value, rtol=1e-5, atol=1e-7)
