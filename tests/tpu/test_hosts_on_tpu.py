"""What each host of a TPU of 2 x 8 cores reads, under the true `TPUStrategy`."""

from unittest import mock

import pytest
import tensorflow as tf
import traced as tracing
from input_models import echo_model
from test_batch_sizes import (
    BROADCAST,
    CALLS,
    DEPLOYMENTS,
    HOST,
    HOST_V2,
    SHARD,
    SLICED,
    deployment_arguments,
    first_id_of_call,
    ids_input_fn,
)

import tpuest
from tpuest import ModeKeys, _tf

NUM_HOSTS, CORES_OF_A_HOST, EXAMPLES_OF_A_CORE = 2, 8, 2
NUM_CORES = NUM_HOSTS * CORES_OF_A_HOST
BATCH_SIZE = NUM_CORES * EXAMPLES_OF_A_CORE
EXAMPLES_OF_A_HOST = CORES_OF_A_HOST * EXAMPLES_OF_A_CORE
EVAL, PREDICT = ModeKeys.EVAL, ModeKeys.PREDICT


def estimator_of(deployment):
    on = tracing.fake_topology(NUM_CORES, NUM_HOSTS)
    return tracing.make_estimator_class(on)(
        echo_model(),
        config=tpuest.RunConfig(
            model_dir=tracing.NO_DIRECTORY,
            tpu_config=tpuest.TPUConfig(**deployment_arguments(deployment)),
        ),
        train_batch_size=BATCH_SIZE,
        eval_batch_size=BATCH_SIZE,
        predict_batch_size=BATCH_SIZE,
    )


def ids_of_hosts(mode, deployment, first_id=lambda params: 0):
    """Gives, for each host, the ids that its cores get in two steps."""
    contexts = [tf.distribute.InputContext(NUM_HOSTS, i, NUM_CORES) for i in range(NUM_HOSTS)]
    # What the strategy does on each host: there is none here to do it on.
    make_on_hosts = lambda make: [make(context) for context in contexts]
    input_fn = ids_input_fn(first_id=first_id, num_examples=2 * BATCH_SIZE)
    with _tf.eager_mode():
        program, pipeline = estimator_of(deployment)._build(mode, input_fn, None)
        strategy = program.topology.strategy
        with mock.patch.object(strategy, "distribute_datasets_from_function", make_on_hosts):
            datasets = list(pipeline.make_iterator(None))
        return [
            [int(i) for batch in data.take(2 * CORES_OF_A_HOST) for i in batch[0]]
            for data in datasets
        ]


@pytest.mark.parametrize("mode", CALLS, ids=CALLS.values())
@pytest.mark.parametrize("deployment", [HOST, HOST_V2], ids=DEPLOYMENTS.get)
def test_a_host_reads_what_its_call_of_input_fn_gives(mode, deployment):
    first, second = ids_of_hosts(mode, deployment, first_id_of_call)
    assert first == list(range(2 * EXAMPLES_OF_A_HOST))
    assert second == [100 + i for i in first]


def test_a_host_reads_what_the_calls_for_its_cores_give():
    first, second = ids_of_hosts(ModeKeys.TRAIN, SHARD, first_id_of_call)
    cores = [100 * core + i for core in range(NUM_CORES) for i in range(EXAMPLES_OF_A_CORE)]
    later = [i + EXAMPLES_OF_A_CORE for i in cores]
    assert first == [*cores[:EXAMPLES_OF_A_HOST], *later[:EXAMPLES_OF_A_HOST]]
    assert second == [*cores[EXAMPLES_OF_A_HOST:], *later[EXAMPLES_OF_A_HOST:]]


@pytest.mark.parametrize("mode", [EVAL, PREDICT], ids=CALLS.get)
def test_of_one_input_for_all_each_host_reads_its_cores_part_in_order(mode):
    first, second = ids_of_hosts(mode, SLICED)
    in_order = [
        *first[:EXAMPLES_OF_A_HOST],
        *second[:EXAMPLES_OF_A_HOST],
        *first[EXAMPLES_OF_A_HOST:],
        *second[EXAMPLES_OF_A_HOST:],
    ]
    assert in_order == list(range(2 * BATCH_SIZE))


@pytest.mark.parametrize("mode", [EVAL, PREDICT], ids=CALLS.get)
@pytest.mark.parametrize("deployment", [HOST, BROADCAST], ids=DEPLOYMENTS.get)
def test_evaluation_and_prediction_on_several_hosts_trace(mode, deployment):
    traced = tracing.trace(estimator_of(deployment), mode, ids_input_fn(num_examples=BATCH_SIZE))
    for one in traced.values():
        (metadata,) = [op for op in one.inside if op.type == "TPUReplicateMetadata"]
        assert metadata.get_attr("num_replicas") == NUM_CORES
