"""Names of `tf.tpu` in `model_fn`: on simulated cores they compute what a TPU computes."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import simulation
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.ops import control_flow_ops
from tensorflow.python.tpu import tpu_function
from tensorflow.python.tpu.ops import tpu_ops

import tpuest
from tpuest import TPUEstimatorSpec
from tpuest.compat import layers, tpu

BATCH_SIZE = 8
VALUES = np.random.RandomState(0).rand(BATCH_SIZE, 3).astype(np.float32)
# float32 sums in another order.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


def input_fn(params):
    dataset = tf.data.Dataset.from_tensor_slices({"x": VALUES})
    return dataset.batch(params["batch_size"], drop_remainder=True)


def predict(compute, num_cores, model_dir):
    """Computes an output for each example, on cores that have their part of the batch."""

    def model_fn(features, labels, mode, params):
        return TPUEstimatorSpec(mode, predictions={"y": compute(features["x"])})

    with simulation(num_cores):
        estimator = tpuest.TPUEstimator(
            model_fn,
            config=tpuest.RunConfig(model_dir=str(model_dir)),
            train_batch_size=BATCH_SIZE,
            predict_batch_size=BATCH_SIZE,
        )
        return np.array([prediction["y"] for prediction in estimator.predict(input_fn)])


class GroupBatchNormalization(layers.BatchNormalization):
    """Takes mean and variance over two cores, by the method that public programs override."""

    def _moments(self, inputs, reduction_axes, keep_dims, mask=None):
        mean, variance = super()._moments(inputs, reduction_axes, keep_dims=keep_dims, mask=mask)
        num_shards = tpu_function.get_tpu_context().number_of_shards
        groups = [[first, first + 1] for first in range(0, num_shards, 2)]
        square = variance + tf.square(mean)
        mean = tpu.cross_replica_sum(mean, groups) / 2.0
        square = tpu.cross_replica_sum(square, groups) / 2.0
        return mean, square - tf.square(mean)


def test_batch_norm_takes_its_moments_over_a_group_of_cores(tmp_path):
    normalize = GroupBatchNormalization(epsilon=0.01, center=False, scale=False)
    outputs = predict(lambda x: normalize.apply(x, training=True), 4, tmp_path)
    halves = np.split(VALUES, 2)
    expected = [(half - half.mean(0)) / np.sqrt(half.var(0) + 0.01) for half in halves]
    np.testing.assert_allclose(outputs, np.concatenate(expected), **TOLERANCE)


def test_cores_exchange_parts_of_their_batches(tmp_path):
    outputs = predict(lambda x: tpu_ops.all_to_all(x, 0, 0, 2), 2, tmp_path)
    order = [0, 1, 4, 5, 2, 3, 6, 7]
    np.testing.assert_array_equal(outputs, VALUES[order])


def test_cores_pass_their_batches_on(tmp_path):
    outputs = predict(lambda x: tpu_ops.collective_permute(x, [[0, 1]]), 2, tmp_path)
    np.testing.assert_array_equal(outputs, np.concatenate([np.zeros([4, 3]), VALUES[:4]]))


@pytest.mark.parametrize("is_in_branch", [False, True])
def test_core_knows_its_number(tmp_path, is_in_branch):
    def numbered(x):
        return x + 10 * tf.cast(xla.replica_id(), tf.float32)

    def compute(x):
        if not is_in_branch:
            return numbered(x)
        return tf.cond(tpu.cross_replica_sum(tf.reduce_sum(x)) > 0, lambda: numbered(x), lambda: x)

    outputs = predict(compute, 2, tmp_path)
    expected = VALUES + np.repeat([0, 10], BATCH_SIZE // 2)[:, None]
    np.testing.assert_allclose(outputs, expected, **TOLERANCE)


def test_a_core_gets_its_own_of_replicated_inputs(tmp_path):
    def compute(x):
        return x + tpu_ops.tpu_replicated_input([tf.constant(1.0), tf.constant(2.0)])

    expected = VALUES + np.repeat([1, 2], BATCH_SIZE // 2)[:, None]
    np.testing.assert_allclose(predict(compute, 2, tmp_path), expected, **TOLERANCE)


def handle_of_own(variables):
    """Gives the core's own of as many variables as there are cores, as Mesh TensorFlow asks for it."""
    context = tf.get_default_graph()._get_control_flow_context()
    while not isinstance(context, control_flow_ops.XLAControlFlowContext):
        context = context.outer_context
    return context.get_replicated_var_handle("parts", variables)


def model_in_parts(features, labels, mode, params):
    """Has a variable for each core, to which the core adds the sum of its batch at each step."""
    parts = [
        tf.get_variable(f"part_{core}", [], initializer=tf.zeros_initializer()) for core in (0, 1)
    ]
    own = handle_of_own(parts)
    add = tf.raw_ops.AssignAddVariableOp(resource=own, value=tf.reduce_sum(features["x"]))
    with tf.control_dependencies([add]):
        value = tf.raw_ops.ReadVariableOp(resource=handle_of_own(parts), dtype=tf.float32)
    loss = tpu.cross_replica_sum(value)
    with tf.control_dependencies([loss]):
        train_op = tf.train.get_global_step().assign_add(1)
    return TPUEstimatorSpec(mode, loss=loss, train_op=train_op)


def test_cores_change_each_its_part_of_a_variable(tmp_path):
    config = tpuest.RunConfig(model_dir=str(tmp_path))
    with simulation(2):
        estimator = tpuest.TPUEstimator(model_in_parts, config=config, train_batch_size=BATCH_SIZE)
        repeated = lambda params: input_fn(params).repeat()
        for steps in (3, 2):
            estimator.train(repeated, steps=steps)
    sums = VALUES.reshape(2, -1).sum(1)
    parts = [estimator.get_variable_value(f"part_{core}") for core in (0, 1)]
    np.testing.assert_allclose(parts, 5 * sums, **TOLERANCE)


def test_the_host_computes_in_the_middle_of_a_step(tmp_path):
    def on_host(x):
        return tf.ensure_shape(tf.py_func(lambda v: v[:, ::-1].copy(), [x], tf.float32), x.shape)

    outputs = predict(lambda x: 2 * tpu.outside_compilation(on_host, x + 1), 2, tmp_path)
    np.testing.assert_allclose(outputs, 2 * (VALUES[:, ::-1] + 1), **TOLERANCE)


def test_variables_in_a_bfloat16_scope_stay_float32(tmp_path):
    def compute(x):
        with tf.tpu.bfloat16_scope():
            y = layers.dense(tf.cast(x, tf.bfloat16), 3, name="dense")
        assert y.dtype == tf.bfloat16
        assert {v.dtype.base_dtype for v in tf.trainable_variables()} == {tf.float32}
        return tf.cast(y, tf.float32)

    assert predict(compute, 2, tmp_path).shape == VALUES.shape


@pytest.mark.parametrize(
    ("computation", "kinds"),
    [
        (lambda x: x + 1, [tf.Tensor]),
        (lambda x: (x, x + 1), [tf.Tensor, tf.Tensor]),
        (lambda x: [x, tf.no_op()], [tf.Tensor]),
        (lambda x: {"y": x}, {"y": tf.Tensor}),
        (lambda x: tf.no_op(), tf.Operation),
        (lambda x: None, tf.Operation),
    ],
)
def test_rewrite_gives_results_as_on_a_tpu(computation, kinds):
    with tf.Graph().as_default():
        results = tpu.rewrite(computation, [tf.constant(1.0)])
        assert isinstance(results, list) == isinstance(kinds, list)
        as_expected = tf.nest.map_structure(isinstance, results, kinds)
        assert all(tf.nest.flatten(as_expected))


def test_batch_parallel_computes_the_whole_batch():
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant(VALUES)
        (doubled,) = tpu.batch_parallel(lambda x: x * 2, [x], num_shards=4)
        session.run(tpu.initialize_system())
        np.testing.assert_allclose(session.run(doubled), VALUES * 2)
        session.run(tpu.shutdown_system())
