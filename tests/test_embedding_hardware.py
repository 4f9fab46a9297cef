"""Embeddings in a TPU's own memory, numpy standing for it: what goes there and back, against the simulation's variables."""

import dataclasses
import functools
import operator

import numpy as np
import pytest
import tensorflow as tf
import test_embeddings as simulated
from fake_embedding_memory import FakeEmbeddingMemory
from models import simulation

from tpuest import ModeKeys, _tf, embedding_config, embedding_hardware
from tpuest.embedding_config import FeatureConfig
from tpuest.embedding_hardware import HardwareMemory, HardwareStep, HardwareTable, HardwareTables
from tpuest.embedding_tables import look_up
from tpuest.errors import UnsupportedError

TOLERANCE = 1e-6  # float32, summed in another order
NUM_CORES = 2
SGD = embedding_config.StochasticGradientDescentParameters(0.5)


@pytest.fixture
def memory_for(monkeypatch):
    """Gives what replaces the TPU's operations by numpy's."""

    def replace(parameters):
        fake = FakeEmbeddingMemory(parameters, NUM_CORES)
        monkeypatch.setattr(embedding_hardware, "holds_tables", lambda topology: True)
        monkeypatch.setattr(_tf, "tpu_embedding_ops", lambda: fake)
        monkeypatch.setattr(_tf, "configure_tpu_embedding", fake.configure)
        return fake

    yield replace
    embedding_hardware.memory_of.cache_clear()


def run(model_dir, spec, rounds=1):
    """Trains, evaluates and predicts; gives losses, outputs and what the checkpoint has."""

    def examples(params):
        return simulated.input_fn(params).take(2)

    with simulation(NUM_CORES):
        estimator = simulated.make_estimator(model_dir, spec)
        outputs, losses = [], []
        for _ in range(rounds):
            estimator.train(simulated.input_fn, steps=2)
            losses.append(estimator.evaluate(examples, steps=2)["loss"])
            outputs.append([p["outputs"][0] for p in estimator.predict(examples)])
        names = estimator.get_variable_names()
        return losses, outputs, {name: estimator.get_variable_value(name) for name in names}


def rate(global_step):
    return 0.1 / tf.cast(global_step + 1, tf.float32)


@pytest.mark.parametrize(
    ("parameters", "settings"),
    [
        (SGD, {}),
        (embedding_config.AdagradParameters(0.1), {"combiner": "sum"}),
        (embedding_config.AdamParameters(0.1), {"combiner": "sqrtn"}),
        (embedding_config.FtrlParameters(0.1), {}),
        (embedding_config.RMSPropParameters(0.1, 0.9, 0.9, 1e-7), {}),
        (SGD, {"learning_rate_fn": rate}),
    ],
    ids=str,
)
def test_all_calls_give_what_they_give_on_variables(tmp_path, memory_for, parameters, settings):
    spec = simulated.spec_of(parameters, simulated.columns(**settings))
    expected = run(tmp_path / "variables", spec, rounds=2)
    fake = memory_for(parameters)
    seen = run(tmp_path / "memory", spec, rounds=2)
    np.testing.assert_allclose(seen[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(seen[1], expected[1], atol=10 * TOLERANCE)
    assert seen[2].keys() == expected[2].keys()
    for name, value in expected[2].items():
        np.testing.assert_allclose(seen[2][name], value, atol=10 * TOLERANCE, err_msg=name)
    assert set(fake.modes) == {"train", "inference"}


def check_resuming_in_another_way(directory, parameters, switch):
    """Trains, with the second half of the steps after `switch`, and with all of them."""
    spec = simulated.spec_of(parameters)
    with simulation(NUM_CORES):
        simulated.make_estimator(directory, spec).train(simulated.input_fn, steps=2)
        switch()
        estimator = simulated.make_estimator(directory, spec)
        estimator.train(simulated.input_fn, steps=2)
        whole = simulated.make_estimator(directory / "whole", spec)
        whole.train(simulated.input_fn, steps=4)
    for name in (simulated.TABLE, f"{simulated.TABLE}/Adagrad"):
        np.testing.assert_allclose(
            estimator.get_variable_value(name), whole.get_variable_value(name), atol=TOLERANCE
        )


def test_training_resumes_from_a_checkpoint_of_the_other(tmp_path, memory_for):
    adagrad = embedding_config.AdagradParameters(0.1)
    check_resuming_in_another_way(tmp_path, adagrad, lambda: memory_for(adagrad))


def test_sequences_and_weights_are_what_the_simulation_looks_up(tmp_path, memory_for):
    def seen(spec, names, **more):
        return simulated.seen_by_model(tmp_path, spec, names, **more)

    cases = [
        (simulated.from_tables(max_sequence_length=2), ["x", "x_seq_length_"], {}),
        (simulated.from_tables(weight_key="w"), ["x"], {"w": simulated.WEIGHTS}),
    ]
    expected = [seen(spec, names, **more) for spec, names, more in cases]
    memory_for(SGD)
    for (spec, names, more), of_variables in zip(cases, expected):
        embedding_hardware.memory_of.cache_clear()
        of_memory = seen(spec, names, **more)
        for name in names:
            np.testing.assert_allclose(of_memory[name], of_variables[name], rtol=1e-5)


def test_a_last_smaller_batch_is_refused(tmp_path, memory_for):
    memory_for(SGD)
    with simulation(NUM_CORES):
        estimator = simulated.make_estimator(tmp_path, simulated.spec_of())
        with pytest.raises(
            UnsupportedError, match="last, smaller batch with embedding_config_spec"
        ):
            estimator.evaluate(simulated.first_seven)


def test_a_batch_size_of_its_own_for_evaluation_is_refused(tmp_path, memory_for):
    memory_for(SGD)
    with simulation(NUM_CORES):
        estimator = simulated.make_estimator(tmp_path, simulated.spec_of())
        estimator.train(simulated.input_fn, steps=1)
        estimator._sizes[ModeKeys.EVAL] = 2
        with pytest.raises(UnsupportedError, match="Give train_batch_size, eval_batch_size"):
            estimator.evaluate(simulated.input_fn, steps=1)


# Two sets of tables take turns in one memory.
TABLE_CONFIG = embedding_config.TableConfig(5, 2)
ADAGRAD = embedding_config.AdagradParameters(0.1)
HARDWARE_TABLE = HardwareTable("t", TABLE_CONFIG, ADAGRAD, ("t", "t/Adagrad"))
TRAINS = HardwareStep(b"", (HARDWARE_TABLE,), (), True)
LOOKS_UP = dataclasses.replace(TRAINS, trains=False)


def tables_of(memory, value, slots=True):
    names = HARDWARE_TABLE.variables[: 2 if slots else 1]
    known = {name: tf.Variable(tf.fill([5, 2], value)) for name in names}
    return known, HardwareTables(memory, known.get)


def memory(num_hosts=1):
    class Extended:
        worker_devices = tuple(f"/job:worker/task:{i}/device:TPU:0" for i in range(num_hosts))

    class Strategy:
        extended = Extended

    return HardwareMemory(Strategy)


def test_tables_are_loaded_once_and_come_back_when_another_set_is_loaded(memory_for, monkeypatch):
    fake = memory_for(ADAGRAD)
    monkeypatch.setattr(_tf, "host_of", lambda device: "/cpu:0")
    of_tpu = memory()
    (trained, training), (_, evaluating) = tables_of(of_tpu, 1.0), tables_of(of_tpu, 2.0, False)
    training.place(TRAINS)
    training.place(TRAINS)
    assert fake.num_loads == 1
    fake.tables["t"][0][:] = 3.0
    evaluating.place(LOOKS_UP)
    np.testing.assert_array_equal(fake.tables["t"][0], np.full([5, 2], 2.0))
    np.testing.assert_array_equal(fake.tables["t"][1], np.full([5, 2], np.float32(0.1)))
    np.testing.assert_array_equal(trained["t"], np.full([5, 2], 3.0))
    training.place(TRAINS)
    np.testing.assert_array_equal(fake.tables["t"][0], np.full([5, 2], 3.0))


def test_what_a_host_writes_is_loaded_before_the_next_step(memory_for, monkeypatch):
    fake = memory_for(ADAGRAD)
    monkeypatch.setattr(_tf, "host_of", lambda device: "/cpu:0")
    variables, tables = tables_of(memory(), 1.0)
    tables.place(TRAINS)
    variables["t"].assign(tf.fill([5, 2], 4.0))
    tables.note_written()
    tables.place(TRAINS)
    np.testing.assert_array_equal(fake.tables["t"][0], np.full([5, 2], 4.0))


@pytest.mark.parametrize("num_rows", [1, 5, 6])
@pytest.mark.parametrize("num_hosts", [1, 2, 4])
def test_every_row_has_one_host_and_no_host_has_none(num_rows, num_hosts):
    of_tpu = memory(num_hosts)
    table = tf.reshape(tf.range(1.0, num_rows + 1), [-1, 1])
    shares = [of_tpu._rows(table, host).numpy().ravel().tolist() for host in range(num_hosts)]
    assert all(shares)
    assert functools.reduce(operator.iadd, shares, [])[:num_rows] == list(range(1, num_rows + 1))


def as_tensors(feature, ids, weights=None):
    indices, values, given = embedding_hardware.enqueued(feature, ids, weights)
    return indices.numpy().tolist(), values.numpy().tolist(), given.numpy().tolist()


def test_ids_are_enqueued_by_example_and_by_place():
    ids = tf.SparseTensor([[0, 0], [0, 2], [1, 1]], [7, 8, 9], [2, 3])
    weights = tf.SparseTensor(ids.indices, [0.5, 1.0, 2.0], [2, 3])
    whole = as_tensors(FeatureConfig("t"), ids, weights)
    assert whole == ([[0, 0], [0, 2], [1, 1]], [7, 8, 9], [0.5, 1.0, 2.0])
    cut = as_tensors(FeatureConfig("t", 2), ids, weights)
    assert cut == ([[0, 0, 0], [1, 1, 0]], [7, 9], [0.5, 2.0])
    assert as_tensors(FeatureConfig("t"), tf.constant([[3], [4]])) == ([], [3, 4], [])


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
@pytest.mark.parametrize("length", [0, 2])
def test_lookups_are_those_of_tensorflows_own_serving(combiner, length):
    api = tf.tpu.experimental.embedding
    ids = tf.SparseTensor([[0, 0], [0, 1], [1, 0]], tf.constant([4, 1, 2], tf.int64), [2, 2])
    weights = tf.SparseTensor(ids.indices, [0.5, 1.0, 2.0], [2, 2])
    values = np.random.RandomState(0).rand(5, 2).astype(np.float32)
    theirs = api.TableConfig(5, 2, combiner=combiner, name="t")
    feature = api.FeatureConfig(theirs, length)
    # Theirs weighs no sequences.
    weights = None if length else weights
    expected = api.serving_embedding_lookup(ids, weights, {theirs: tf.Variable(values)}, feature)

    class Ours:
        config = embedding_config.TableConfig(5, 2, combiner=combiner)
        weights = tf.Variable(values)

    found = look_up(Ours, FeatureConfig("t", length), ids, weights)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
