"""params['batch_size'] and params['context']: what `input_fn` and `model_fn` are told, and which core gets what."""

import dataclasses

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from input_models import Recorder, echo_model, make_estimator
from models import CPU, EIGHT_CORES, ONE_CORE, TWO_CORES, simulation

import tpuest
from tpuest import InputPipelineConfig, ModeKeys, TPUConfig
from tpuest.deployment import InputDeployment
from tpuest.topology import Topology, find_batch_sizes

GLOBAL_BATCH_SIZE = 16
PLACES = [CPU, ONE_CORE, TWO_CORES, EIGHT_CORES]
CALLS = {ModeKeys.TRAIN: "train", ModeKeys.EVAL: "evaluate", ModeKeys.PREDICT: "predict"}

SHARD, HOST, HOST_V2 = (
    InputPipelineConfig.PER_SHARD_V1,
    InputPipelineConfig.PER_HOST_V1,
    InputPipelineConfig.PER_HOST_V2,
)
BROADCAST, SLICED = InputPipelineConfig.BROADCAST, InputPipelineConfig.SLICED
DEPLOYMENTS = {SHARD: "PER_SHARD_V1", HOST: "PER_HOST_V1", HOST_V2: "PER_HOST_V2"}
DEPLOYMENTS |= {BROADCAST: "BROADCAST", SLICED: "SLICED"}


class Told(Exception):
    """Ends a call once `model_fn` was told its batch size."""


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the original does: examples for one call of `input_fn`, for one core, and calls."""

    input_batch_size: int
    model_batch_size: int
    num_calls: int


def expected_on_cores(mode, deployment, num_cores, num_hosts=1):
    """Restates tpu_context.py (`batch_size_for_input_fn`, `batch_size_for_model_fn`) and the docs of TPUConfig."""
    core, host = GLOBAL_BATCH_SIZE // num_cores, GLOBAL_BATCH_SIZE // num_hosts
    if deployment == SHARD and mode == ModeKeys.TRAIN:
        return Expected(core, core, num_cores)
    if deployment == SLICED and mode != ModeKeys.TRAIN:
        return Expected(GLOBAL_BATCH_SIZE, core, 1)
    if deployment == BROADCAST:
        return Expected(GLOBAL_BATCH_SIZE, GLOBAL_BATCH_SIZE, 1)
    if deployment == HOST_V2:
        return Expected(core, core, num_hosts)
    return Expected(host, core, num_hosts)


def deployment_arguments(deployment):
    """Gives the arguments of `TPUConfig`: SLICED is a way to evaluate, the others are ways to train."""
    if deployment == SLICED:
        return {"eval_training_input_configuration": SLICED}
    return {"per_host_input_for_training": deployment}


def ids_input_fn(
    params_seen=None,
    first_id=lambda params: 0,
    num_examples=2 * GLOBAL_BATCH_SIZE,
    drop_remainder=True,
):
    """Gives an `input_fn` of ids in order."""

    def input_fn(params):
        if params_seen is not None:
            params_seen.append(params)
        ids = first_id(params) + np.arange(num_examples, dtype=np.int32)
        return tf.data.Dataset.from_tensor_slices(({"id": ids}, ids)).batch(
            params["batch_size"], drop_remainder
        )

    return input_fn


def call(estimator, mode, input_fn, **arguments):
    """Trains, evaluates or predicts."""
    result = getattr(estimator, CALLS[mode])(input_fn, **arguments)
    return list(result) if mode == ModeKeys.PREDICT else result


def params_told(model_dir, mode, num_cores, deployment):
    """Gives the params of every call of `input_fn`, and those of `model_fn`."""
    of_input_fn, of_model_fn = [], []

    def model_fn(features, labels, mode, params):
        of_model_fn.append(params)
        raise Told

    with simulation(num_cores):
        estimator = make_estimator(
            model_dir, model_fn, num_cores, GLOBAL_BATCH_SIZE, deployment_arguments(deployment)
        )
        with pytest.raises(Told):
            call(estimator, mode, ids_input_fn(of_input_fn))
    (only,) = of_model_fn
    return of_input_fn, only


every_mode = pytest.mark.parametrize("mode", CALLS, ids=CALLS.values())
every_place = pytest.mark.parametrize("num_cores", PLACES)
every_deployment = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=DEPLOYMENTS.values())


@every_place
@every_deployment
@every_mode
def test_batch_sizes_and_number_of_input_calls_are_the_originals(
    tmp_path, mode, deployment, num_cores
):
    if num_cores is CPU and deployment == SLICED and mode != ModeKeys.TRAIN:
        pytest.skip("refused: see test_bad_input.py")
    expected = (
        Expected(GLOBAL_BATCH_SIZE, GLOBAL_BATCH_SIZE, 1)
        if num_cores is CPU
        else expected_on_cores(mode, deployment, num_cores)
    )
    of_input_fn, of_model_fn = params_told(tmp_path, mode, num_cores, deployment)
    assert [params["batch_size"] for params in of_input_fn] == (
        [expected.input_batch_size] * expected.num_calls
    )
    assert of_model_fn["batch_size"] == expected.model_batch_size
    assert of_model_fn["use_tpu"] is (num_cores is not CPU)
    assert ("context" in of_model_fn) == (num_cores is not CPU)
    assert all(("context" in params) == (num_cores is not CPU) for params in of_input_fn)


# There every host might read the same: one reads for all.
SLICED_ON_SEVERAL_HOSTS = [
    (ModeKeys.EVAL, SHARD),
    (ModeKeys.EVAL, HOST),
    (ModeKeys.PREDICT, SHARD),
    (ModeKeys.PREDICT, HOST),
    (ModeKeys.PREDICT, HOST_V2),
]


def topology_of(num_cores, num_hosts):
    """Describes cores that nothing runs on."""
    return Topology(None, (), num_hosts, num_cores, num_cores, on_cores=True, is_tpu=True)


@every_deployment
@every_mode
def test_several_hosts_share_the_batch_as_in_the_original_or_get_one_where_it_refused(
    mode, deployment
):
    tpu_config = TPUConfig(**deployment_arguments(deployment))
    if (mode, deployment) in SLICED_ON_SEVERAL_HOSTS:
        deployment = SLICED
    sizes = find_batch_sizes(mode, tpu_config, topology_of(8, 2), GLOBAL_BATCH_SIZE)
    expected = expected_on_cores(mode, deployment, num_cores=8, num_hosts=2)
    actual = Expected(sizes.input_batch_size, sizes.model_batch_size, sizes.num_input_calls)
    assert actual == expected


@pytest.mark.parametrize("deployment", [SHARD, HOST, HOST_V2], ids=DEPLOYMENTS.get)
def test_each_call_of_input_fn_knows_its_host_on_several_hosts(deployment):
    topology = topology_of(8, 2)
    tpu_config = TPUConfig(per_host_input_for_training=deployment)
    sizes = find_batch_sizes(ModeKeys.TRAIN, tpu_config, topology, GLOBAL_BATCH_SIZE)
    contexts = [InputDeployment(topology, sizes, index) for index in range(sizes.num_input_calls)]
    hosts = [0, 0, 0, 0, 1, 1, 1, 1] if deployment == SHARD else [0, 1]
    assert [context.current_host for context in contexts] == hosts
    assert [context.current_input_fn_deployment() for context in contexts] == [
        (f"/replica:0/task:{host}/device:CPU:0", index, len(hosts), 8 // len(hosts))
        for index, host in enumerate(hosts)
    ]
    assert contexts[0].device_for_replica(5) == ("/task:1/device:CPU:0", 1)
    assert contexts[0].tpu_host_placement_function(1) == "/replica:0/task:1/device:CPU:0"


@every_deployment
def test_context_tells_input_fn_where_its_batches_go(tmp_path, deployment):
    of_input_fn, _ = params_told(tmp_path, ModeKeys.TRAIN, EIGHT_CORES, deployment)
    num_calls = len(of_input_fn)
    for index, params in enumerate(of_input_fn):
        context = params["context"]
        device, call_index, total_calls, num_replicas_fed = context.current_input_fn_deployment()
        assert device.endswith("/device:CPU:0")
        assert (call_index, total_calls, num_replicas_fed) == (index, num_calls, 8 // num_calls)
        assert (context.num_replicas, context.num_hosts, context.num_cores) == (8, 1, 8)
        assert (context.num_of_replicas_per_host, context.current_host) == (8, 0)
        assert context.device_for_replica(3)[1] == 3
        with pytest.raises(RuntimeError, match="must not be called from input_fn"):
            _ = context.device_assignment


def test_context_tells_model_fn_no_host(tmp_path):
    _, of_model_fn = params_told(tmp_path, ModeKeys.TRAIN, TWO_CORES, HOST)
    context = of_model_fn["context"]
    assert (context.num_replicas, context.num_hosts, context.num_of_replicas_per_host) == (2, 1, 2)
    assert context.device_assignment is None
    with pytest.raises(RuntimeError, match="must not be called from model_fn"):
        context.current_input_fn_deployment()
    with pytest.raises(RuntimeError, match="must not be called from model_fn"):
        _ = context.current_host


# What the cores get of the first step, one list for each core.
TWO_HALVES = [list(range(8)), list(range(8, 16))]
SHARDS_OF_100 = [list(range(8)), list(range(100, 108))]


def first_id_of_call(params):
    """Gives each call of `input_fn` ids of its own."""
    return 100 * params["context"].current_input_fn_deployment()[1]


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [(SHARD, SHARDS_OF_100), (HOST, TWO_HALVES), (HOST_V2, TWO_HALVES)],
    ids=["PER_SHARD_V1", "PER_HOST_V1", "PER_HOST_V2"],
)
def test_training_deals_the_examples_to_the_cores_in_order(tmp_path, deployment, expected):
    recorder = Recorder()
    with simulation(TWO_CORES):
        estimator = make_estimator(
            tmp_path, echo_model(recorder), 2, 16, deployment_arguments(deployment)
        )
        estimator.train(ids_input_fn(first_id=first_id_of_call), max_steps=1)
    assert recorder.batches == [[i for core in expected for i in core]]


@pytest.mark.parametrize("deployment", [HOST, HOST_V2, SLICED], ids=DEPLOYMENTS.get)
@pytest.mark.parametrize("mode", [ModeKeys.EVAL, ModeKeys.PREDICT], ids=CALLS.get)
def test_every_example_reaches_the_host_once_and_in_order(tmp_path, mode, deployment):
    recorder = Recorder()
    with simulation(TWO_CORES):
        estimator = make_estimator(
            tmp_path, echo_model(recorder), 2, 16, deployment_arguments(deployment)
        )
        result = call(estimator, mode, ids_input_fn())
    ids = [int(one["id"]) for one in result] if mode == ModeKeys.PREDICT else recorder.ids
    assert ids == list(range(32))


@every_mode
def test_broadcast_gives_every_core_the_whole_batch(tmp_path, mode):
    recorder = Recorder()
    with simulation(TWO_CORES):
        estimator = make_estimator(
            tmp_path, echo_model(recorder), 2, 16, deployment_arguments(BROADCAST)
        )
        result = call(estimator, mode, ids_input_fn())
    ids = [int(one["id"]) for one in result] if mode == ModeKeys.PREDICT else recorder.ids
    assert ids == list(range(32))


def test_one_batch_axis_for_each_tensor_cuts_images_and_labels(tmp_path):
    """As ResNet's transposed input: images HWCN, labels N."""
    recorder = Recorder()
    shapes = []

    def input_fn(params):
        ids = np.arange(16, dtype=np.int32)
        images = np.broadcast_to(ids.astype(np.float32), [2, 3, 1, 16])
        return tf.data.Dataset.from_tensors((images, ids)).repeat()

    def ids_of(features, labels):
        shapes.append((features.shape.as_list(), labels.shape.as_list()))
        with tf.control_dependencies(
            [tf.debugging.assert_equal(tf.cast(features[1, 2, 0], tf.int32), labels)]
        ):
            return tf.identity(labels)

    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, echo_model(recorder, ids_of), 2, 16, batch_axis=[3, 0])
        estimator.train(input_fn, max_steps=2)
        estimator.evaluate(input_fn, steps=1)
    assert shapes == [([2, 3, 1, 8], [8])] * 2
    assert recorder.batches == [list(range(16))] * 3


def test_evaluation_off_the_tpu_gets_the_global_batch(tmp_path):
    recorder = Recorder()
    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, echo_model(recorder), 2, 16, eval_on_tpu=False)
        estimator.train(ids_input_fn(), max_steps=1)
        estimator.evaluate(ids_input_fn())
    (_, training), (_, evaluation) = recorder.calls
    assert (training["batch_size"], training["use_tpu"]) == (8, True)
    assert (evaluation["batch_size"], evaluation["use_tpu"]) == (16, False)
    assert "context" not in evaluation
    assert recorder.batches[1:] == [list(range(16)), list(range(16, 32))]


def test_without_batch_sizes_no_batch_size_is_told_off_the_tpu(tmp_path):
    told = []

    def model_fn(features, labels, mode, params):
        told.append(params)
        raise Told

    def input_fn(params):
        told.append(params)
        return tf.data.Dataset.from_tensors(({"id": [0]}, [0]))

    config = tpuest.RunConfig(model_dir=str(tmp_path))
    estimator = tpuest.TPUEstimator(model_fn, config=config, use_tpu=False)
    with pytest.raises(Told):
        estimator.train(input_fn, steps=1)
    assert all("batch_size" not in params for params in told)


def test_one_shard_is_one_core_with_the_whole_batch(tmp_path):
    recorder = Recorder()
    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, echo_model(recorder), 2, 16, {"num_shards": 1})
        estimator.train(ids_input_fn(), max_steps=1)
    ((_, told),) = recorder.calls
    assert told["batch_size"] == 16
    assert told["context"].num_replicas == 1
    assert recorder.batches == [list(range(16))]
