"""Embeddings under the true `TPUStrategy` where the cores have the tables: on TPUs whose hardware for them is not used."""

import functools
import logging

import pytest
import tensorflow as tf
import test_embeddings_on_tpu as on_hardware
import traced as tracing
from traced import count

from tpuest import _tf, embedding_config, embedding_hardware
from tpuest.spec import ModeKeys

NUM_CORES, LENGTH, DIMENSION = on_hardware.NUM_CORES, on_hardware.LENGTH, on_hardware.DIMENSION
CASES = on_hardware.CASES
TABLE = "sequence_features/x_embedding/embedding_weights"


@pytest.fixture(autouse=True)
def sparse_cores(monkeypatch):
    monkeypatch.setattr(_tf, "embedding_feature", lambda strategy: "V2")
    embedding_hardware._tell_of_unused_hardware.cache_clear()


@functools.cache
def trace(mode, num_hosts):
    return tracing.trace(on_hardware.make_estimator(num_hosts), mode, on_hardware.input_fn)


@pytest.fixture(scope="module", autouse=True)
def _forget_traces():
    yield
    trace.cache_clear()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_neither_strings_nor_dynamic_shapes_are_on_the_cores(case):
    for kind, traced in trace(*case).items():
        outputs = [tensor for op in traced.inside for tensor in op.outputs]
        assert not [t for t in outputs if t.dtype == tf.string], kind
        assert not [t for t in outputs if not t.shape.is_fully_defined()], kind
        assert not [node.op for node in traced.inside_nodes if "Sparse" in node.op]
        assert not [node.op for node in traced.all_nodes if "TPUEmbedding" in node.op]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_cores_ids_are_prepared_by_its_host(case):
    for kind, traced in trace(*case).items():
        decoded = [op for op in traced.around if op.type == "DeserializeManySparse"]
        assert len(decoded) == NUM_CORES * case[1], kind
        assert all("CPU:0" in op.device for op in decoded)
        size = 64 // NUM_CORES // case[1] * LENGTH
        step = traced.program.host_step
        lengths, *prepared = step.for_cores
        assert lengths.shape == [size // LENGTH]
        assert [(t.dtype, t.shape.as_list()) for t in prepared] == [
            (tf.int32, [size]),
            (tf.int32, [size]),
            (tf.float32, [size]),
        ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tables_are_variables_of_the_cores(case):
    trains = case[0] == ModeKeys.TRAIN
    for kind, traced in trace(*case).items():
        program = traced.program
        names = {v.op.name for v in program.graph.get_collection("variables")}
        assert {name for name in names if name.startswith(TABLE)} == {
            f"{TABLE}/part_0",
            *([f"{TABLE}/Adagrad/part_0"] if trains else []),
        }
        # The dense layer's kernel and bias, the step, and what only satisfies optimizers.
        assert 1 + trains <= len(traced.replicated_handles()) <= 5 + trains, kind


def test_gradients_of_tables_are_summed_over_the_cores():
    for kind, traced in trace(ModeKeys.TRAIN, 1).items():
        summed = [op for op in traced.inside if op.type == "CrossReplicaSum"]
        shapes = [tuple(op.inputs[0].shape.as_list()) for op in summed]
        num_rows = on_hardware.NUM_ROWS
        assert (num_rows, DIMENSION) in shapes, kind
        assert (num_rows,) in shapes
        assert count(traced.inside_nodes, "AssignVariableOp") >= 2


def test_cores_without_accumulation_know_their_own_number():
    parameters = embedding_config.AdagradParameters(0.1, use_gradient_accumulation=False)
    estimator = on_hardware.make_estimator(parameters=parameters)
    traced = tracing.trace(estimator, ModeKeys.TRAIN, on_hardware.input_fn)["step"]
    (own,) = [op for op in traced.inside if op.type == "OneHot"]
    assert tf.get_static_value(own.inputs[0]) is None


def test_it_is_said_once_that_the_hardware_is_not_used(caplog):
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        for mode in (ModeKeys.TRAIN, ModeKeys.PREDICT):
            tracing.trace(on_hardware.make_estimator(), mode, on_hardware.input_fn)
    said = [r.message for r in caplog.records if "SparseCores are not used" in r.message]
    assert len(said) == 1
