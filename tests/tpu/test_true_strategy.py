"""The engine's graphs under the true `TPUStrategy`, on cores that aren't there (see `planned_strategy`)."""

import collections
import functools
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import traced as tracing
from programs import PROGRAMS
from tensorflow.python.tpu.ops import tpu_ops
from traced import count

import tpuest
from tpuest import _tf, aot, checkpoint, session, topology
from tpuest.compat import tpu
from tpuest.planned_strategy import planned_strategy
from tpuest.spec import ModeKeys
from tpuest.variables import ReplicaVariables

GOLDENS = Path(__file__).resolve().parents[1] / "conformance" / "goldens"
NUM_CORES = 8
MODES = (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT)
# One core adds nothing per program: only what a single replica changes.
ON_ONE_CORE = ("cnn_batch_norm", "control_flow", "host_call")
CASES = [
    *((name, mode, NUM_CORES) for name in PROGRAMS for mode in MODES),
    *((name, mode, 1) for name in ON_ONE_CORE for mode in MODES),
    # Two hosts of eight cores each: what is inside must not depend on who feeds it.
    *((name, ModeKeys.TRAIN, 2 * NUM_CORES) for name in ON_ONE_CORE),
    ("cnn_batch_norm", ModeKeys.EVAL, 2 * NUM_CORES),
    ("cnn_batch_norm", ModeKeys.PREDICT, 2 * NUM_CORES),
]
# What strategy.run itself puts inside, besides the model.
OF_THE_STRATEGY = ("Identity", "NoOp", "TPUReplicateMetadata")
# A shape that is taken of a variable's handle: a constant to XLA, which tests/tpu/test_lowering.py shows.
SHAPES_KNOWN_TO_XLA = ("VariableShape",)
RESERVED_FOR_GPUS = ("FusedBatchNormV3", 5)
ONLY_ON_HOSTS = {
    "EagerPyFunc",
    "IteratorGetNext",
    "IteratorGetNextAsOptional",
    "OptionalGetValue",
    "Placeholder",
    "PyFunc",
    "SummaryWriter",
    "WriteScalarSummary",
    "WriteSummary",
    "XlaSetDynamicDimensionSize",
}


def fabricated(name, num_cores=NUM_CORES):
    """Gives the conformance program's estimator on fabricated cores."""
    num_hosts = max(1, num_cores // NUM_CORES)
    return tracing.conformance_estimator(name, tracing.fake_topology(num_cores, num_hosts))


@functools.cache
def trace(name, mode, num_cores):
    return tracing.trace(fabricated(name, num_cores), mode, tracing.input_fn_of(name, mode))


@pytest.fixture(scope="module", autouse=True)
def _forget_traces():
    yield
    trace.cache_clear()


def functions(name, mode, num_cores):
    """Gives the step, and the loop where there is one."""
    return trace(name, mode, num_cores).items()


def is_update(op_type):
    return op_type.startswith(("ResourceApply", "ResourceScatter", "ResourceSparseApply")) or (
        op_type.startswith("Assign") and op_type.endswith("VariableOp")
    )


def imported(operations):
    """Counts by type what `transplant` imported, in scopes "model", "model_1", ..."""
    return collections.Counter(
        op.type
        for op in operations
        if re.search(r"(^|/)model(_\d+)?/", op.name)
        and op.type not in (*OF_THE_STRATEGY, "Placeholder", "TPUReplicatedInput")
    )


def expected(program, targets, leaves):
    """Counts by type what the targets need, variables and leaves apart."""
    nodes = program.source.nodes()
    needed = program.source.closure(targets, [leaf.name for leaf in leaves])
    types = (nodes[name].op for name in needed)
    return collections.Counter(t for t in types if t not in (*OF_THE_STRATEGY, "VarHandleOp"))


def parts(program):
    """Gives the targets of the cores and of the host in a step of the engine."""
    placeholders = [h.placeholder for h in program.host_inputs]
    names = {p.op.name for p in placeholders}
    on_host = [
        target
        for target in aot.targets_of_step(program)
        if not names.isdisjoint(program.source.closure([target]))
    ]
    needed = program.source.closure(on_host)
    cores = [h.tensor for h in program.host_inputs if h.placeholder.op.name in needed]
    if program.mode == ModeKeys.TRAIN:
        cores.append(program.train_op)
    return cores, on_host, placeholders


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_model_is_inside_one_replicated_computation(case):
    for kind, traced in functions(*case):
        cores, on_host, placeholders = parts(traced.program)
        assert count(traced.all_nodes, "TPUReplicateMetadata") == 1, kind
        (metadata,) = [op for op in traced.inside if op.type == "TPUReplicateMetadata"]
        assert metadata.get_attr("num_replicas") == case[2]
        inside = imported(traced.inside)
        assert inside == expected(traced.program, cores, traced.program.inputs), kind
        assert imported(traced.around) == expected(traced.program, on_host, placeholders), kind


@pytest.mark.parametrize("case", [c for c in CASES if c[1] == ModeKeys.TRAIN], ids=str)
def test_training_sums_each_gradient_once(case):
    for kind, traced in functions(*case):
        with traced.program.graph.as_default():
            num_gradients = len(tf.compat.v1.trainable_variables())
        assert count(traced.inside_nodes, "CrossReplicaSum") == num_gradients, kind
        assert count(traced.all_nodes, "CrossReplicaSum") == num_gradients, kind


@pytest.mark.parametrize("case", [c for c in CASES if c[1] == ModeKeys.TRAIN], ids=str)
def test_training_updates_variables_on_the_cores_only(case):
    for kind, traced in functions(*case):
        assert any(is_update(node.op) for node in traced.inside_nodes), kind
        assert not [op.name for op in traced.around if is_update(op.type)], kind


@pytest.mark.parametrize("case", [c for c in CASES if c[1] != ModeKeys.TRAIN], ids=str)
def test_evaluation_and_prediction_update_nothing_on_the_cores(case):
    for kind, traced in functions(*case):
        assert not [node.name for node in traced.inside_nodes if is_update(node.op)], kind
        counts = any(is_update(op.type) for op in traced.around)
        assert counts == (case[1] == ModeKeys.EVAL), kind


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_variable_inside_is_replicated_over_the_cores(case):
    for kind, traced in functions(*case):
        cores, _, _ = parts(traced.program)
        needed = traced.program.source.closure(cores)
        variables = set(needed) & set(traced.program.source.variables())
        handles = traced.replicated_handles()
        assert len(handles) == len(variables), kind
        inside = set(traced.inside)
        for op in inside:
            for tensor in op.inputs:
                if tensor.dtype == tf.resource:
                    assert tensor.op in inside or tensor.op in handles, op.name
        for handle in handles:
            num_copies = 1 if handle.get_attr("is_packed") else case[2]
            assert len(handle.inputs) == num_copies


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_inside_needs_a_host(case):
    for kind, traced in functions(*case):
        for_hosts = [node.op for node in traced.inside_nodes if node.op in ONLY_ON_HOSTS]
        assert not for_hosts, kind
        strings = [
            node.name
            for node in traced.inside_nodes
            if any(value.type == tf.string.as_datatype_enum for value in node.attr.values())
            and not re.search(r"Assert/data_\d+$", node.name)  # XLA leaves assertions out
        ]
        assert not strings, kind


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_shape_inside_is_static(case):
    for kind, traced in functions(*case):
        unknown = [
            tensor.name
            for op in traced.inside
            for tensor in op.outputs
            if tensor.dtype not in (tf.resource, tf.variant)
            and not tensor.shape.is_fully_defined()
            and op.type not in SHAPES_KNOWN_TO_XLA
            and op.inputs[0].op.type not in SHAPES_KNOWN_TO_XLA
            and (op.type, tensor.value_index) != RESERVED_FOR_GPUS
        ]
        assert not unknown, kind


def model_that_uses_the_host(features, labels, mode, params):
    """Writes summaries and reads the global step in its host call."""
    import tpuest

    logits = tf.compat.v1.layers.dense(features, 3)
    tf.compat.v1.summary.histogram("logits", logits)
    loss = tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tpuest.CrossShardOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1))
    global_step = tf.compat.v1.train.get_global_step()

    def host_call(losses):
        return tf.identity(losses[0] + tf.cast(global_step, tf.float32), name="seen_by_host")

    return tpuest.TPUEstimatorSpec(
        mode,
        loss=loss,
        train_op=optimizer.minimize(loss, global_step),
        host_call=(host_call, [tf.reshape(loss, [1])]),
    )


def constant_input_fn(params):
    batch = (tf.ones([params["batch_size"], 4]), tf.zeros([params["batch_size"]], tf.int32))
    return tf.data.Dataset.from_tensors(batch).repeat()


@pytest.fixture(scope="module")
def on_host():
    import tpuest

    estimator = tracing.make_estimator_class(tracing.fake_topology(NUM_CORES))(
        model_that_uses_the_host,
        model_dir=tracing.NO_DIRECTORY,
        config=tpuest.RunConfig(),
        train_batch_size=16,
    )
    return tracing.trace(
        estimator, ModeKeys.TRAIN, constant_input_fn, lambda _: [tf.compat.v1.summary.merge_all()]
    )


def test_summaries_are_made_on_the_host(on_host):
    for traced in on_host.values():
        types = {op.type for op in traced.around}
        assert {"HistogramSummary", "MergeSummary"} <= types
        assert not any("Summary" in node.op for node in traced.inside_nodes)


def test_the_hosts_operations_are_placed_on_the_cpu(on_host):
    for traced in on_host.values():
        (seen,) = [op for op in traced.around if op.name.endswith("seen_by_host")]
        assert seen.device.endswith("CPU:0")


def test_the_host_reads_a_variable_after_the_cores_wrote_it(on_host):
    for traced in on_host.values():
        (seen,) = [op for op in traced.around if op.name.endswith("seen_by_host")]
        reads = {op for op in _producers(seen) if op.type == "ReadVariableOp"}
        (read,) = reads.intersection(traced.around)
        assert any(op.type == "TPUReplicatedOutput" for op in _producers(read))


def _producers(operation):
    found, pending = set(), [operation]
    while pending:
        for op in [t.op for t in pending[-1].inputs] + pending.pop().control_inputs:
            if op not in found:
                found.add(op)
                pending.append(op)
    return found


def model_of_tpu_names(features, labels, mode, params):
    """Exchanges with other cores, and leaves a part to the host."""
    passed = tpu_ops.collective_permute(tpu_ops.all_to_all(features, 0, 0, 8), [[0, 1]])
    on_host = lambda x: tf.ensure_shape(
        tf.compat.v1.py_func(np.sin, [x], tf.float32), x.shape, name="checked"
    )
    return tpuest.TPUEstimatorSpec(
        mode, predictions={"y": tpu.outside_compilation(on_host, passed)}
    )


def test_exchanges_and_parts_left_to_the_host_stay_inside_as_a_tpu_wants_them():
    def input_fn(params):
        return tf.data.Dataset.from_tensors(tf.ones([64, 4]))

    estimator = tracing.make_estimator_class(tracing.fake_topology(NUM_CORES))(
        model_of_tpu_names,
        config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY),
        train_batch_size=64,
        predict_batch_size=64,
    )
    traced = tracing.trace(estimator, ModeKeys.PREDICT, input_fn)["step"]
    assert (
        count(traced.inside_nodes, "AllToAll")
        == count(traced.inside_nodes, "CollectivePermute")
        == 1
    )
    left = [op for op in traced.inside if _tf.OUTSIDE_COMPILATION in op.node_def.attr]
    assert {op.type for op in left} == {"PyFunc", "EnsureShape"}


def model_with_an_input_for_each_core(features, labels, mode, params):
    own = tpu_ops.tpu_replicated_input([tf.constant(float(core)) for core in range(NUM_CORES)])
    return tpuest.TPUEstimatorSpec(mode, predictions={"y": features + own})


def test_an_input_of_which_each_core_has_its_own_is_refused():
    estimator = tracing.make_estimator_class(tracing.fake_topology(NUM_CORES))(
        model_with_an_input_for_each_core,
        config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY),
        train_batch_size=64,
        predict_batch_size=64,
    )
    with pytest.raises(tpuest.UnsupportedError, match="each core has its own.*input_fn"):
        tracing.trace(
            estimator,
            ModeKeys.PREDICT,
            lambda params: tf.data.Dataset.from_tensors(tf.ones([64, 4])),
        )


@pytest.mark.parametrize("num_cores", [1, NUM_CORES])
def test_every_core_gets_the_value_of_the_first(num_cores):
    strategy = planned_strategy.__wrapped__(num_cores)  # its own: it is changed
    # Packed handles find a copy by its device, and here all copies are on the CPU.
    strategy._enable_packed_variable_in_eager_mode = False
    with _tf.eager_mode():
        variables = ReplicaVariables(topology.tpu_topology(strategy))
        variables.ensure("v", tf.TensorShape([2]), tf.float32, "v")
        (replicated,) = variables._copies["v"]
        copies = strategy.experimental_local_results(replicated)
        for index, copy in enumerate(copies):
            copy.assign([index + 1.0, 0.0])
        assert len(copies) == num_cores
        np.testing.assert_array_equal(variables.value("v"), [1.0, 0.0])
        variables.share_first(["v"])
        for copy in copies:
            np.testing.assert_array_equal(copy.read_value().numpy(), [1.0, 0.0])


def test_initial_values_are_those_of_the_original():
    compiled = _initialized("mlp")
    with np.load(GOLDENS / "mlp.npz") as golden:
        for key in golden.files:
            stage, name = key.split("/", 1)
            if stage == "initial":
                with _tf.eager_mode():
                    value = compiled.variables.value(compiled.key(name))
                np.testing.assert_array_equal(value, golden[key], err_msg=name)


def _initialized(name):
    """Runs the initialisers of a training program: what the host does alone runs without a TPU."""
    estimator = fabricated(name)
    with _tf.eager_mode():
        program, pipeline = estimator._build(
            ModeKeys.TRAIN, tracing.input_fn_of(name, ModeKeys.TRAIN), None
        )
        with estimator._workspaces.lease(program, None) as space:
            compiled = space.compile(program)
            with program.graph.as_default():
                program.scaffold.finalize()
                compiled.ensure_variables()
                checkpoint.initialize(
                    session.ReplicaSession(compiled, pipeline), program, space.variables, None
                )
    return compiled
