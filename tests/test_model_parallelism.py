"""Replicas of several cores, and systems of as many cores as a program asks for."""

import contextlib
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import (
    X,
    Y,
    linear_model,
    make_estimator,
    one_epoch_input_fn,
    simulation,
    train_input_fn,
    trained,
)
from tensorflow.python.tpu import tpu_system_metadata

import tpuest
from tpuest import InputPipelineConfig, ModeKeys, TPUConfig, TPUEstimatorSpec

TOLERANCE = 1e-6  # float32, summed in another order
PER_HOST_V2 = InputPipelineConfig.PER_HOST_V2


class Watch:
    """Keeps the contexts that `input_fn` and `model_fn` are given."""

    def __init__(self, input_fn=train_input_fn, model_fn=None):
        self._input_fn = input_fn
        self._model_fn = model_fn or linear_model()
        self.of_input, self.of_model = [], []

    def input_fn(self, params):
        self.of_input.append((params["batch_size"], params["context"]))
        return self._input_fn(params)

    def model_fn(self, features, labels, mode, params):
        self.of_model.append((params["batch_size"], params["context"]))
        return self._model_fn(features, labels, mode, params)


def trained_variables(estimator, input_fn=train_input_fn, steps=3):
    estimator.train(input_fn, steps=steps)
    return [estimator.get_variable_value(name) for name in ("w", "b")]


def assert_trained(variables, steps=3):
    _, *expected = trained(steps)
    for value, wanted in zip(variables, expected, strict=True):
        np.testing.assert_allclose(value, wanted, atol=TOLERANCE)


@contextlib.contextmanager
def fabricated(num_hosts, cores_per_host, mesh=None):
    """Lets the program believe in a TPU of so many hosts."""

    def query(master, cluster_def, query_topology):
        num_cores = num_hosts * cores_per_host
        return tpu_system_metadata.TPUSystemMetadata(num_cores, num_hosts, cores_per_host, mesh, [])

    with mock.patch.object(tpu_system_metadata, "_query_tpu_system_metadata", side_effect=query):
        yield


def mesh_of_two_hosts():
    """Gives 2 hosts of 2 chips of 2 cores."""
    coordinates = [[[x, host, 0, core] for x in range(2) for core in range(2)] for host in range(2)]
    return tf.tpu.experimental.Topology(mesh_shape=[2, 2, 1, 2], device_coordinates=coordinates)


def test_a_replica_of_two_cores_gets_the_batch_of_two(tmp_path):
    watch = Watch()
    tpu = {"num_cores_per_replica": 2, "num_shards": 2}
    with simulation(4):
        estimator = make_estimator(tmp_path, 4, watch.model_fn, tpu_config=tpu)
        assert_trained(trained_variables(estimator, watch.input_fn))
    ((input_size, of_input),) = watch.of_input
    ((model_size, of_model),) = watch.of_model
    assert (input_size, model_size) == (8, 4)
    assert (of_input.num_cores, of_input.num_replicas, of_input.num_hosts) == (4, 2, 1)
    assert of_model.device_assignment.core_assignment.shape == (2, 2, 4)
    cores = of_model.device_assignment.core_assignment.reshape(-1, 4)
    assert len({tuple(core) for core in cores}) == 4
    with pytest.raises(ValueError, match="not supported for model_parallelism"):
        _ = of_input.num_of_replicas_per_host


def test_a_per_host_v2_input_gets_the_batch_size_of_a_replica(tmp_path):
    watch = Watch()
    tpu = {"num_cores_per_replica": 4, "per_host_input_for_training": PER_HOST_V2}
    with simulation(8):
        estimator = make_estimator(tmp_path, 8, watch.model_fn, tpu_config=tpu)
        assert_trained(trained_variables(estimator, watch.input_fn))
    assert [size for size, _ in watch.of_input] == [4]


@pytest.mark.parametrize("mode", [ModeKeys.EVAL, ModeKeys.PREDICT])
def test_replicas_of_two_cores_evaluate_and_predict(tmp_path, mode):
    with simulation(4):
        estimator = make_estimator(tmp_path, 4, tpu_config={"num_cores_per_replica": 2})
        estimator.train(train_input_fn, steps=1)
        _, w, b = trained(1)
        if mode == ModeKeys.EVAL:
            results = estimator.evaluate(one_epoch_input_fn)
            assert results["error"] == pytest.approx(np.abs(X @ w + b - Y).mean(), rel=1e-5)
        else:
            outputs = [p["outputs"] for p in estimator.predict(one_epoch_input_fn)]
            np.testing.assert_allclose(outputs, X @ w + b, atol=TOLERANCE)


def test_num_shards_simulates_a_tpu_of_that_size(tmp_path):
    watch = Watch()
    with simulation(8):
        estimator = make_estimator(tmp_path, 8, watch.model_fn, tpu_config={"num_shards": 2})
        assert_trained(trained_variables(estimator, watch.input_fn))
    assert watch.of_input[0][1].num_cores == 2
    assert watch.of_model[0][0] == 4


@pytest.mark.parametrize(
    "tpu, words",
    [
        ({"num_shards": 8}, ["num_shards is not set correctly", "(4), got (8)"]),
        ({"num_shards": 4, "num_cores_per_replica": 2}, ["(2), got (4)", "num_replicas"]),
        ({"num_cores_per_replica": 8}, ["larger than the total num", "num cores in the system: 4"]),
    ],
)
def test_more_cores_than_are_simulated_are_refused(tmp_path, tpu, words):
    with simulation(4):
        estimator = make_estimator(tmp_path, 4, tpu_config=tpu)
        with pytest.raises(ValueError) as caught:
            estimator.train(train_input_fn, steps=1)
    assert all(word in str(caught.value) for word in words)


def on_core(core):
    """Gives a `model_fn` whose outputs are computed on a core of the replica."""

    def model_fn(features, labels, mode, params):
        with tf.device(tf.tpu.core(core)):
            return linear_model()(features, labels, mode, params)

    return model_fn


def test_operations_may_be_placed_on_any_core_of_the_replica(tmp_path):
    with simulation(2):
        tpu = {"num_cores_per_replica": 2}
        assert_trained(trained_variables(make_estimator(tmp_path, 2, on_core(1), tpu_config=tpu)))


@pytest.mark.parametrize("tpu", [{}, {"num_cores_per_replica": 2}], ids=str)
def test_a_core_that_the_replica_has_not_is_refused(tmp_path, tpu):
    with simulation(2):
        estimator = make_estimator(tmp_path, 2, on_core(2), tpu_config=tpu)
        with pytest.raises(ValueError, match=r"placed on tpu.core\(2\), but a replica has \d core"):
            estimator.train(train_input_fn, steps=1)


def images_input_fn(params):
    """Gives images 5 high and 4 wide, of the pixels 0, 1, 2, ..."""
    images = np.arange(8 * 20, dtype=np.float32).reshape(8, 5, 4, 1)
    labels = {"sum": images.sum((1, 2, 3)), "first": images[:, 0, 0, 0]}
    dataset = tf.data.Dataset.from_tensor_slices(({"image": images}, labels)).repeat()
    return dataset.batch(params["batch_size"], drop_remainder=True)


def image_model_fn(features, labels, mode, params):
    """Convolves, predicts the sums of pixels and trains one weight."""
    ones = tf.ones([2, 2, 1, 1])
    blurred = tf.nn.conv2d(features["image"], ones, 1, "VALID")
    if mode == ModeKeys.PREDICT:
        return TPUEstimatorSpec(mode, predictions={"blurred": blurred})
    w = tf.get_variable("w", [], initializer=tf.zeros_initializer())
    loss = tf.reduce_mean(tf.square(w * labels["sum"] - labels["first"]))
    optimizer = tf.tpu.CrossShardOptimizer(tf.train.GradientDescentOptimizer(0.1))
    train_op = optimizer.minimize(loss, tf.train.get_global_step())
    return TPUEstimatorSpec(mode, loss=loss, train_op=train_op)


def image_estimator(model_dir, input_partition_dims):
    config = tpuest.RunConfig(
        model_dir=str(model_dir),
        tpu_config=TPUConfig(
            num_cores_per_replica=2,
            per_host_input_for_training=PER_HOST_V2,
            input_partition_dims=input_partition_dims,
        ),
    )
    return tpuest.TPUEstimator(
        image_model_fn, config=config, train_batch_size=8, predict_batch_size=8
    )


LABELS = {"sum": None, "first": [1]}


@pytest.mark.parametrize("height, width", [(1, 2), (2, 1)], ids=["even", "uneven"])
def test_images_may_be_split_over_a_replicas_cores(tmp_path, height, width):
    dims = [{"image": [1, height, width, 1]}, LABELS]
    with simulation(4):
        estimator = image_estimator(tmp_path, dims)
        estimator.train(images_input_fn, steps=1)
        (first, *_) = estimator.predict(lambda params: images_input_fn(params).take(2))
    image = np.arange(20).reshape(5, 4)
    expected = image[:-1, :-1] + image[1:, :-1] + image[:-1, 1:] + image[1:, 1:]
    np.testing.assert_allclose(first["blurred"][..., 0], expected)


@pytest.mark.parametrize(
    "dims, words",
    [
        ([{"image": [1, 2, 0, 1]}], "All input partition dims must be >= 1"),
        (
            [{"image": [1, 2, 2, 1]}],
            "product of each input partition dim should equal to num_cores",
        ),
        ([{"image": [1, 2, 1]}], "Input partition dims must have the same number of dimensions"),
        ([{"picture": [1, 2, 1, 1]}], r"input_partition_dims\[0\] mismatched feature keys"),
        ([[1, 2, 1, 1]], r"input_partition_dims\[0\] mismatched feature keys"),
        ([{"image": None}, {"sum": None}], r"input_partition_dims\[1\] mismatched label keys"),
        ([{"image": [1, 2, 1, 1]}, [1]], r"input_partition_dims\[1\] mismatched label keys"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(tmp_path, dims, words):
    with simulation(2), pytest.raises(ValueError, match=words):
        image_estimator(tmp_path, dims).train(images_input_fn, steps=1)


def test_a_fabricated_system_runs_on_as_many_simulated_cores(tmp_path):
    watch = Watch()
    with simulation(4), fabricated(num_hosts=2, cores_per_host=2):
        estimator = make_estimator(tmp_path, 4, watch.model_fn, tpu_config={"num_shards": 4})
        estimator.train(watch.input_fn, steps=1)
    assert [size for size, _ in watch.of_input] == [4, 4]
    assert [context.current_host for _, context in watch.of_input] == [0, 1]
    assert watch.of_input[1][1].device_for_replica(3) == ("/task:1/device:CPU:0", 1)
    # Each host reads the first 4 examples: the step is that of a batch of these.
    _, w, _ = trained(1, batch_size=4)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, atol=TOLERANCE)


def test_each_core_of_a_fabricated_system_has_an_input_of_its_own(tmp_path):
    watch = Watch()
    tpu = {"per_host_input_for_training": InputPipelineConfig.PER_SHARD_V1}
    with simulation(4), fabricated(num_hosts=2, cores_per_host=2):
        estimator = make_estimator(tmp_path, 4, watch.model_fn, tpu_config=tpu)
        estimator.train(watch.input_fn, steps=1)
    assert [context.current_host for _, context in watch.of_input] == [0, 0, 1, 1]
    assert {context.current_input_fn_deployment()[2:] for _, context in watch.of_input} == {(4, 1)}


def test_a_replica_of_several_hosts_is_fed_by_that_of_its_first_core(tmp_path):
    watch = Watch()
    tpu = {"num_cores_per_replica": 8, "per_host_input_for_training": PER_HOST_V2}
    with simulation(8), fabricated(2, 4, mesh_of_two_hosts()):
        estimator = make_estimator(tmp_path, 8, watch.model_fn, tpu_config=tpu)
        assert_trained(trained_variables(estimator, watch.input_fn))
    ((batch_size, context),) = watch.of_input
    assert (batch_size, context.current_host) == (8, 0)


def test_a_fabricated_system_that_is_too_large_fails_after_the_program_was_built(tmp_path):
    watch = Watch()
    with simulation(4), fabricated(num_hosts=4, cores_per_host=8):
        estimator = make_estimator(tmp_path, 4, watch.model_fn, batch_size=64)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="only 4 cores in the TPU topology"
        ):
            estimator.train(watch.input_fn, steps=1)
    assert [size for size, _ in watch.of_input] == [16] * 4
    assert len(watch.of_model) == 1


@pytest.mark.parametrize(
    "tpu, words",
    [
        ({"num_shards": 8}, r"Tensorflow master \(\): num_replicas should be \(4\), got \(8\)"),
        ({"num_cores_per_replica": 4}, "should be less than or equal to the num_cores_per_host"),
    ],
)
def test_a_fabricated_system_is_held_to_its_own_size(tmp_path, tpu, words):
    with simulation(8), fabricated(num_hosts=2, cores_per_host=2):
        estimator = make_estimator(tmp_path, 8, tpu_config=tpu)
        with pytest.raises(ValueError, match=words):
            estimator.train(train_input_fn, steps=1)


def test_a_fabricated_system_of_several_hosts_evaluates_as_the_original_allowed(tmp_path):
    with simulation(4), fabricated(num_hosts=2, cores_per_host=2):
        estimator = make_estimator(tmp_path, 4)
        with pytest.raises(ValueError, match="evaluate is only supported under three conditions"):
            estimator.evaluate(one_epoch_input_fn)
        with pytest.raises(ValueError, match="predict is only supported under three conditions"):
            next(estimator.predict(one_epoch_input_fn))
        per_host_v2 = {"per_host_input_for_training": PER_HOST_V2}
        estimator = make_estimator(tmp_path, 4, tpu_config=per_host_v2)
        assert estimator.evaluate(one_epoch_input_fn, steps=1)["global_step"] == 0


def context_of(mode=ModeKeys.TRAIN, tpu_job_name=None, jobs=(), **run_config):
    session_config = tf.ConfigProto()
    for name in jobs:
        session_config.cluster_def.job.add().name = name
    config = tpuest.RunConfig(
        tpu_config=TPUConfig(tpu_job_name=tpu_job_name), session_config=session_config, **run_config
    )
    estimator = tpuest.TPUEstimator(linear_model(), config=config, train_batch_size=8)
    with estimator._ctx.with_mode(mode) as context:
        return context


@pytest.mark.parametrize(
    "settings, job",
    [
        ({}, None),
        ({"master": "grpc://10.2.3.4:8470"}, "tpu_worker"),
        ({"evaluation_master": "grpc://10.2.3.4:8470"}, None),
        ({"evaluation_master": "grpc://10.2.3.4:8470", "mode": ModeKeys.EVAL}, "tpu_worker"),
        ({"master": "grpc://10.2.3.4:8470", "jobs": ["coordinator", "worker"]}, "worker"),
        ({"tpu_job_name": "mine"}, "mine"),
    ],
)
def test_the_job_of_the_hosts_is_inferred(settings, job):
    assert context_of(**settings).master_job == job


def test_a_job_that_cannot_be_inferred_asks_for_its_name():
    context = context_of(master="grpc://10.2.3.4:8470", jobs=["one", "other"])
    with pytest.raises(ValueError, match="Please specify a tpu_job_name as part of your TPUConfig"):
        _ = context.master_job


def test_the_context_of_a_mode_tells_its_sizes():
    with simulation(4):
        context = context_of()
        assert (context.num_cores, context.num_replicas, context.num_hosts) == (4, 4, 1)
        assert (context.batch_size_for_input_fn, context.batch_size_for_model_fn) == (8, 2)
        assert not context.is_running_on_cpu()
