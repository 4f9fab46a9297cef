"""Embeddings under the true `TPUStrategy`, on cores that aren't there: what the host hands on, what the cores hold."""

import functools

import pytest
import tensorflow as tf
import traced as tracing
from tensorflow.core.protobuf.tpu import topology_pb2
from tensorflow.core.protobuf.tpu import tpu_embedding_configuration_pb2 as configuration_pb2
from traced import count

import tpuest
from tpuest import _tf, embedding_config, embedding_hardware
from tpuest.compat.feature_layers import SequenceFeatures
from tpuest.embedding_hardware import HardwareMemory, HardwareStep, HardwareTable, HardwareTables
from tpuest.errors import UnsupportedError
from tpuest.planned_strategy import planned_strategy
from tpuest.spec import ModeKeys

NUM_CORES = 8
MODES = (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT)
ENQUEUE = "EnqueueTPUEmbeddingArbitraryTensorBatch"
RECEIVE, SEND = "RecvTPUEmbeddingActivations", "SendTPUEmbeddingGradients"
NUM_ROWS, DIMENSION, LENGTH = 6, 2, 3


@pytest.fixture(autouse=True)
def hardware(monkeypatch):
    """Has the cores that aren't there have memory for embeddings; gives what changes its kind."""

    def set_kind(kind):
        monkeypatch.setattr(_tf, "embedding_feature", lambda strategy: kind)

    set_kind("V1")
    return set_kind


def columns():
    api = tf.feature_column
    sequence = api.sequence_categorical_column_with_identity("x", NUM_ROWS)
    return [
        tf.compat.v1.tpu.experimental.embedding_column(
            sequence, DIMENSION, max_sequence_length=LENGTH, learning_rate_fn=rate
        )
    ]


def rate(global_step):
    return 0.1 / tf.cast(global_step + 1, tf.float32)


def model_fn(features, labels, mode, params):
    values, lengths = SequenceFeatures(params["columns"])(features)
    outputs = tf.reduce_sum(values, [1, 2]) / tf.cast(lengths + 1, tf.float32)
    outputs = tf.compat.v1.layers.dense(outputs[:, None], 1)
    if mode == ModeKeys.PREDICT:
        return tpuest.TPUEstimatorSpec(mode, predictions={"outputs": outputs})
    loss = tf.reduce_mean(tf.square(outputs - labels))
    optimizer = tpuest.CrossShardOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1))
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    return tpuest.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)


def input_fn(params):
    ids = tf.SparseTensor([[0, 0], [1, 0], [1, 1]], tf.constant([1, 2, 3], tf.int64), [2, 4])
    dataset = tf.data.Dataset.from_tensor_slices(({"x": ids}, [[0.0], [1.0]])).repeat()
    return dataset.batch(params["batch_size"], drop_remainder=True)


def make_estimator(num_hosts=1, cores_per_replica=None, fn=model_fn, parameters=None):
    parameters = parameters or embedding_config.AdagradParameters(0.1)
    spec = embedding_config.EmbeddingConfigSpec(columns(), optimization_parameters=parameters)
    there = tracing.fake_topology(NUM_CORES * num_hosts, num_hosts, cores_per_replica)
    tpu_config = tpuest.TPUConfig(
        num_cores_per_replica=cores_per_replica,
        per_host_input_for_training=tpuest.InputPipelineConfig.PER_HOST_V2,
    )
    return tracing.make_estimator_class(there)(
        fn,
        config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY, tpu_config=tpu_config),
        params={"columns": spec.feature_columns},
        train_batch_size=64,
        eval_batch_size=64,
        predict_batch_size=64,
        embedding_config_spec=spec,
    )


@functools.cache
def trace(mode, num_hosts):
    return tracing.trace(make_estimator(num_hosts), mode, input_fn)


@pytest.fixture(scope="module", autouse=True)
def _forget_traces():
    yield
    trace.cache_clear()


CASES = [*((mode, 1) for mode in MODES), (ModeKeys.TRAIN, 2)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_cores_receive_and_in_training_send(case):
    for kind, traced in trace(*case).items():
        trains = case[0] == ModeKeys.TRAIN
        for nodes in (traced.inside_nodes, traced.all_nodes):
            assert count(nodes, RECEIVE) == 1, kind
            assert count(nodes, SEND) == trains, kind
        (received,) = [op for op in traced.inside if op.type == RECEIVE]
        size = 64 // NUM_CORES // case[1]
        assert [t.shape.as_list() for t in received.outputs] == [[size, LENGTH, DIMENSION]]
        for op in traced.inside:
            if op.type == SEND:
                assert op.get_attr("config") == received.get_attr("config")
                assert [t.shape.as_list() for t in op.inputs] == [[size, LENGTH, DIMENSION], []]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_cores_ids_are_enqueued_by_its_host(case):
    for kind, traced in trace(*case).items():
        enqueued = [op for op in traced.around if op.type == ENQUEUE]
        ordinals = [op.get_attr("device_ordinal") for op in enqueued]
        assert ordinals == list(range(NUM_CORES * case[1])), kind
        assert all(op.device.endswith("CPU:0") for op in enqueued)
        assert {op.get_attr("combiners")[0] for op in enqueued} == {b"mean"}
        expected = b"train" if case[0] == ModeKeys.TRAIN else b"inference"
        modes = {bytes(tf.get_static_value(op.inputs[-1]).item()) for op in enqueued}
        assert modes == {expected}
        assert not [node for node in traced.inside_nodes if node.op == ENQUEUE]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_neither_strings_nor_tables_are_on_the_cores(case):
    for kind, traced in trace(*case).items():
        assert not [t for op in traced.inside for t in op.outputs if t.dtype == tf.string], kind
        tables = traced.program.hardware_step.variables
        assert len(tables) == 2
        # The dense layer's kernel and bias, the step, and the variable that only satisfies optimizers.
        used = traced.program.source.closure(
            [traced.program.train_op or traced.program.host_inputs[0].tensor]
        )
        assert not tables.intersection(used)
        assert len(traced.replicated_handles()) <= 4


def test_the_configuration_names_tables_features_and_optimizer():
    step = trace(ModeKeys.EVAL, 1)["step"].program.hardware_step
    message = configuration_pb2.TPUEmbeddingConfiguration.FromString(step.configuration)
    (table,), (feature,) = message.table_descriptor, message.feature_descriptor
    assert (table.vocabulary_size, table.dimension) == (NUM_ROWS, DIMENSION)
    assert table.optimization_parameters.WhichOneof("parameters") == "adagrad"
    assert list(feature.input_shape) == [64 // NUM_CORES, LENGTH]
    assert (message.num_hosts, message.num_tensor_cores) == (1, NUM_CORES)
    of_training = trace(ModeKeys.TRAIN, 1)["step"].program.hardware_step
    assert of_training.configuration == step.configuration
    assert of_training.variables == step.variables


API = tf.tpu.experimental.embedding
COMMON = {
    "clip_weight_min": -1.0,
    "clip_weight_max": 2.0,
    "weight_decay_factor": 0.01,
    "multiply_weight_decay_factor_by_learning_rate": True,
}
CLIPPED = {"clip_gradient_min": -0.5, "clip_gradient_max": 0.75}
OPTIMIZERS = [
    (
        embedding_config.StochasticGradientDescentParameters(0.1, **COMMON, **CLIPPED),
        API.SGD(0.1, **COMMON, clipvalue=(-0.5, 0.75)),
    ),
    (
        embedding_config.AdagradParameters(0.1, 0.3, False, **COMMON),
        API.Adagrad(0.1, 0.3, False, **COMMON),
    ),
    (
        embedding_config.AdamParameters(0.1, 0.8, 0.9, 1e-5, False, False),
        API.Adam(0.1, 0.8, 0.9, 1e-5, lazy_adam=False, sum_inside_sqrt=False),
    ),
    (
        embedding_config.FtrlParameters(
            0.1, -0.4, 0.2, 0.01, 0.02, beta=0.3, multiply_linear_by_learning_rate=True
        ),
        API.FTRL(0.1, -0.4, 0.01, 0.02, 0.3, 0.2, multiply_linear_by_learning_rate=True),
    ),
]


def table_of(parameters, num_rows=NUM_ROWS, **settings):
    config = embedding_config.TableConfig(num_rows, DIMENSION, **settings)
    slots = embedding_hardware.slots_of(parameters)
    return HardwareTable("t", config, parameters, ("t", *(f"t/{slot.name}" for slot in slots)))


@pytest.mark.parametrize("parameters, optimizer", OPTIMIZERS, ids=lambda v: type(v).__name__)
def test_the_configuration_is_that_of_tensorflows_own_class(parameters, optimizer):
    strategy = planned_strategy(NUM_CORES)
    with strategy.scope():
        table = API.TableConfig(NUM_ROWS, DIMENSION, combiner="sum", name="t")
        feature = API.FeatureConfig(table, output_shape=[4], name="x")
        # As it is (`False`), protobuf 6 and TensorFlow 2.21 refuse it.
        optimizer.low_dimensional_packing_status = 2
        theirs = API.TPUEmbedding({"x": feature}, optimizer)._create_config_proto()
    theirs.table_descriptor[0].optimization_parameters.ClearField("low_dimensional_packing_status")
    ours = embedding_hardware.configure(
        [table_of(parameters, combiner="sum")],
        {"x": embedding_config.FeatureConfig("t")},
        [[4]],
        1,
        NUM_CORES,
    )
    assert configuration_pb2.TPUEmbeddingConfiguration.FromString(ours) == theirs


SLOTS = {
    embedding_config.StochasticGradientDescentParameters(0.1): ("StochasticGradientDescent", 0),
    embedding_config.AdagradParameters(0.1): ("Adagrad", 1),
    embedding_config.ProximalAdagradParameters(0.1): ("ProximalAdagrad", 1),
    embedding_config.AdamParameters(0.1): ("ADAM", 2),
    embedding_config.FtrlParameters(0.1): ("FTRL", 2),
    embedding_config.MomentumParameters(0.1, 0.9): ("Momentum", 1),
    embedding_config.RMSPropParameters(0.1, 0.9, 0.9, 1e-7): ("RMSProp", 2),
}


@pytest.mark.parametrize("parameters", SLOTS, ids=lambda v: type(v).__name__)
def test_tables_and_slots_go_to_their_hosts_and_come_back(parameters):
    name, num_slots = SLOTS[parameters]
    table = table_of(parameters, num_rows=5)
    memory = HardwareMemory(planned_strategy(2 * NUM_CORES, 2))
    # The hosts of cores that aren't there are one machine.
    memory._hosts = ["/job:worker/task:0/device:CPU:0", "/job:worker/task:1/device:CPU:0"]
    variables = {name: tf.Variable(tf.ones([5, DIMENSION])) for name in table.variables}
    tables = HardwareTables(memory, variables.get)
    step = HardwareStep(b"told", (table,), (), True)

    def operations(build):
        graph = tf.function(build, autograph=False).get_concrete_function().graph
        return [op for op in graph.get_operations() if "TPUEmbedding" in op.type]

    for verb, build in (
        ("Load", lambda: memory.build_load(tables, step)),
        ("Retrieve", lambda: memory.build_retrieve(tables, step)),
    ):
        found = operations(build)
        assert [op.type for op in found] == [f"{verb}TPUEmbedding{name}Parameters"] * 2
        assert [op.get_attr("shard_id") for op in found] == [0, 1]
        assert [op.device for op in found] == memory._hosts
        assert [op.get_attr("config") for op in found] == [b"told", b""]
        for op, num_rows in zip(found, (3, 2)):
            given = op.inputs if verb == "Load" else op.outputs
            assert len(given) == 1 + num_slots
            if verb == "Load":
                assert {tensor.shape[0] for tensor in given} == {num_rows}


def test_the_tpu_is_configured_by_its_system_device():
    with tf.Graph().as_default() as graph:
        _tf.configure_tpu_embedding(b"")
    (op,) = [op for op in graph.get_operations() if op.type == "ConfigureTPUEmbedding"]
    assert op.device.endswith("TPU_SYSTEM:0")


def test_a_tpu_without_hardware_is_refused_and_the_alternative_named(hardware):
    hardware("UNSUPPORTED")
    words = "on a TPU that has no hardware for embeddings.*variables of model_fn"
    with pytest.raises(UnsupportedError, match=words):
        make_estimator().train(input_fn, steps=1)


def test_several_cores_a_replica_are_refused():
    with pytest.raises(UnsupportedError, match="embedding_config_spec with num_cores_per_replica"):
        make_estimator(cores_per_replica=2).train(input_fn, steps=1)


def test_a_step_that_reads_a_table_is_refused():
    def reading(program):
        (name, *_) = sorted(program.hardware_step.variables)
        table = program.graph.get_tensor_by_name(f"{name}/Read/ReadVariableOp:0")
        return [program.loss + tf.reduce_sum(table)]

    with pytest.raises(UnsupportedError, match="Reading the embedding table .*embedding_weights"):
        tracing.trace(make_estimator(), ModeKeys.TRAIN, input_fn, reading)


def test_the_kind_of_hardware_is_asked_of_the_tpu(monkeypatch):
    monkeypatch.undo()
    strategy = planned_strategy.__wrapped__(1)
    assert _tf.embedding_feature(strategy) == "UNSUPPORTED"
    feature = topology_pb2.TPUHardwareFeature.EmbeddingFeature
    for kind in ("V1", "V2"):
        strategy.extended._tpu_cluster_resolver.tpu_hardware_feature = (
            topology_pb2.TPUHardwareFeature(embedding_feature=feature.Value(kind))
        )
        assert _tf.embedding_feature(strategy) == kind
