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


def read_by_hosts(mode, deployment, first_id, num_examples):
    """Gives, for each host, the ids that its cores get, and the batches set aside."""
    contexts = [tf.distribute.InputContext(NUM_HOSTS, i, NUM_CORES) for i in range(NUM_HOSTS)]
    # What the strategy does on each host: there is none here to do it on.
    make_on_hosts = lambda make, options: [make(context) for context in contexts]
    input_fn = ids_input_fn(
        first_id=first_id, num_examples=num_examples, drop_remainder=mode == ModeKeys.TRAIN
    )
    with _tf.eager_mode():
        program, pipeline = estimator_of(deployment)._build(mode, input_fn, None)
        strategy = program.topology.strategy
        with mock.patch.object(strategy, "distribute_datasets_from_function", make_on_hosts):
            datasets = list(pipeline.make_iterator(None))
        ids = [[int(i) for batch in data for i in batch[0]] for data in datasets]
        return ids, [list(batch[0].numpy()) for batch in pipeline.partial_batches()]


def ids_of_hosts(mode, deployment, first_id=lambda params: 0):
    """Gives, for each host, the ids that its cores get in two steps."""
    ids, _ = read_by_hosts(mode, deployment, first_id, 2 * BATCH_SIZE)
    return [ids_of_host[: 2 * EXAMPLES_OF_A_HOST] for ids_of_host in ids]


@pytest.mark.parametrize(
    ("mode", "deployment"),
    [(ModeKeys.TRAIN, HOST), (ModeKeys.TRAIN, HOST_V2), (EVAL, HOST_V2)],
    ids=lambda value: DEPLOYMENTS.get(value) or CALLS.get(value),
)
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


@pytest.mark.parametrize(
    ("mode", "deployment"),
    [(EVAL, SLICED), (EVAL, HOST), (PREDICT, SLICED), (PREDICT, HOST), (PREDICT, HOST_V2)],
    ids=lambda value: DEPLOYMENTS.get(value) or CALLS.get(value),
)
def test_of_one_input_for_all_each_host_reads_its_cores_part_in_order(mode, deployment):
    first, second = ids_of_hosts(mode, deployment)
    in_order = [
        *first[:EXAMPLES_OF_A_HOST],
        *second[:EXAMPLES_OF_A_HOST],
        *first[EXAMPLES_OF_A_HOST:],
        *second[EXAMPLES_OF_A_HOST:],
    ]
    assert in_order == list(range(2 * BATCH_SIZE))


@pytest.mark.parametrize("mode", [EVAL, PREDICT], ids=CALLS.get)
@pytest.mark.parametrize("deployment", [SLICED, BROADCAST], ids=DEPLOYMENTS.get)
def test_evaluation_and_prediction_on_several_hosts_trace(mode, deployment):
    traced = tracing.trace(estimator_of(deployment), mode, ids_input_fn(num_examples=BATCH_SIZE))
    for one in traced.values():
        (metadata,) = [op for op in one.inside if op.type == "TPUReplicateMetadata"]
        assert metadata.get_attr("num_replicas") == NUM_CORES


def test_each_host_sets_aside_what_is_left_of_its_own_input():
    num_examples = EXAMPLES_OF_A_HOST + 3
    ids, aside = read_by_hosts(EVAL, HOST_V2, first_id_of_call, num_examples)
    assert [len(ids_of_host) for ids_of_host in ids] == [EXAMPLES_OF_A_HOST] * 2
    left = list(range(EXAMPLES_OF_A_HOST, num_examples))
    assert aside == [left, [100 + i for i in left]]


def test_what_is_left_of_one_input_for_all_hosts_is_set_aside_once():
    _, aside = read_by_hosts(EVAL, SLICED, lambda params: 0, BATCH_SIZE + 3)
    assert aside == [list(range(BATCH_SIZE, BATCH_SIZE + 3))]
