"""Several hosts that feed the cores: made-up TPUs of 2 x 8 and 4 x 8 cores, and ones small enough to run here."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from input_models import Recorder, echo_model, make_estimator
from models import simulation
from test_batch_sizes import (
    BROADCAST,
    CALLS,
    DEPLOYMENTS,
    HOST,
    HOST_V2,
    SHARD,
    SLICED,
    call,
    deployment_arguments,
    first_id_of_call,
    ids_input_fn,
)
from test_model_parallelism import fabricated

from tpuest import ModeKeys

CORES_OF_A_HOST = 8
EXAMPLES_OF_A_CORE = 2


def calls_of_input_fn(model_dir, mode, deployment, num_hosts):
    """Gives the params of each call, for a TPU that nothing can run on."""
    told = []
    num_cores = num_hosts * CORES_OF_A_HOST
    with fabricated(num_hosts, CORES_OF_A_HOST):
        estimator = make_estimator(
            model_dir,
            echo_model(),
            num_cores,
            num_cores * EXAMPLES_OF_A_CORE,
            deployment_arguments(deployment),
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match="cores in the TPU topology"):
            call(estimator, mode, ids_input_fn(told))
    return told


@pytest.mark.parametrize("num_hosts", [2, 4])
@pytest.mark.parametrize(
    ("mode", "deployment", "calls", "batch_size"),
    [  # calls and examples: of all cores, of each host, or of each core
        (ModeKeys.TRAIN, SHARD, "core", "core"),
        (ModeKeys.TRAIN, HOST, "host", "host"),
        (ModeKeys.TRAIN, HOST_V2, "host", "core"),
        (ModeKeys.TRAIN, BROADCAST, "all", "all"),
        (ModeKeys.EVAL, HOST_V2, "host", "core"),
        (ModeKeys.EVAL, BROADCAST, "all", "all"),
        (ModeKeys.EVAL, SLICED, "all", "all"),
        (ModeKeys.PREDICT, BROADCAST, "all", "all"),
        (ModeKeys.PREDICT, SLICED, "all", "all"),
    ],
    ids=lambda value: DEPLOYMENTS.get(value) or CALLS.get(value) or value,
)
def test_input_fn_is_called_for_each_host_as_in_the_original(
    tmp_path, mode, deployment, calls, batch_size, num_hosts
):
    cores = {"core": 1, "host": CORES_OF_A_HOST, "all": num_hosts * CORES_OF_A_HOST}
    told = calls_of_input_fn(tmp_path, mode, deployment, num_hosts)
    num_calls = cores["all"] // cores[calls]
    expected_size = cores[batch_size] * EXAMPLES_OF_A_CORE
    assert [params["batch_size"] for params in told] == [expected_size] * num_calls
    for index, params in enumerate(told):
        context = params["context"]
        assert context.current_host == index * num_hosts // num_calls
        assert context.num_hosts == num_hosts
        assert context.num_of_replicas_per_host == CORES_OF_A_HOST
        assert context.current_input_fn_deployment()[1:] == (index, num_calls, cores[calls])


def on_two_hosts(model_dir, mode, deployment, input_fn, **arguments):
    """Runs on 2 hosts of 4 simulated cores; gives what came back, and what each step's cores got."""
    recorder = Recorder()
    with simulation(8), fabricated(num_hosts=2, cores_per_host=4):
        estimator = make_estimator(
            model_dir, echo_model(recorder), 8, 16, deployment_arguments(deployment)
        )
        result = call(estimator, mode, input_fn, **arguments)
    return result, recorder


OF_HOSTS = [*range(8), *range(100, 108)]
OF_CORES = [100 * core + i for core in range(8) for i in range(2)]


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [(SHARD, OF_CORES), (HOST, OF_HOSTS), (HOST_V2, OF_HOSTS)],
    ids=["PER_SHARD_V1", "PER_HOST_V1", "PER_HOST_V2"],
)
def test_a_hosts_cores_get_what_its_calls_of_input_fn_gave(tmp_path, deployment, expected):
    input_fn = ids_input_fn(first_id=first_id_of_call)
    _, recorder = on_two_hosts(tmp_path, ModeKeys.TRAIN, deployment, input_fn, max_steps=2)
    later = {SHARD: 2}.get(deployment, 8)
    assert recorder.batches == [expected, [i + later for i in expected]]


@pytest.mark.parametrize("deployment", [BROADCAST, SLICED], ids=DEPLOYMENTS.get)
@pytest.mark.parametrize("mode", [ModeKeys.EVAL, ModeKeys.PREDICT], ids=CALLS.get)
def test_one_input_for_all_hosts_gives_results_in_order(tmp_path, mode, deployment):
    result, recorder = on_two_hosts(tmp_path, mode, deployment, ids_input_fn())
    ids = [int(one["id"]) for one in result] if mode == ModeKeys.PREDICT else recorder.ids
    assert ids == list(range(32))


def test_an_evaluation_that_each_host_feeds_takes_every_example_once(tmp_path):
    def input_fn(params):
        context = params["context"]
        return ids_input_fn()(params).unbatch().shard(2, context.current_host).batch(2)

    _, recorder = on_two_hosts(tmp_path, ModeKeys.EVAL, HOST_V2, input_fn)
    assert sorted(recorder.ids) == list(range(32))
    first_host, second_host = np.reshape(recorder.batches[0], [2, 8])
    assert not any(first_host % 2) and all(second_host % 2)
