"""Ids that a TPU's host prepares for cores whose tables are variables: against the simulation, which looks up as they come."""

import numpy as np
import pytest
import tensorflow as tf
import test_embeddings as simulated
from models import lowers_steps, simulation
from test_embedding_hardware import NUM_CORES, TOLERANCE, check_resuming_in_another_way, rate, run

from tpuest import embedding_config, embedding_ids
from tpuest.embedding_config import FeatureConfig, TableConfig
from tpuest.embedding_ids import PaddedIds, pad_ids
from tpuest.embedding_tables import look_up

SGD = embedding_config.StochasticGradientDescentParameters(0.5)
ADAGRAD = embedding_config.AdagradParameters(0.1)


@pytest.fixture
def host_prepares(monkeypatch):
    """Gives what has simulated cores be given ids as a TPU's cores are."""
    return lambda: monkeypatch.setattr(embedding_ids, "stay_on_host", lambda topology: True)


@pytest.mark.parametrize(
    ("parameters", "settings"),
    [
        (SGD, {}),
        (SGD, {"combiner": "sqrtn", "learning_rate_fn": rate}),
        (ADAGRAD, {"combiner": "sum"}),
        (embedding_config.AdagradParameters(0.1, use_gradient_accumulation=False), {}),
        (embedding_config.AdamParameters(0.1), {}),
        (embedding_config.AdamParameters(0.1, lazy_adam=False), {"combiner": "sqrtn"}),
        (embedding_config.FtrlParameters(0.1), {}),
        (embedding_config.MomentumParameters(0.1, 0.9), {}),
        (embedding_config.RMSPropParameters(0.1, 0.9, 0.9, 1e-7), {}),
        (embedding_config.ProximalAdagradParameters(0.1), {}),
    ],
    ids=str,
)
def test_all_calls_give_what_they_give_in_the_simulation(
    tmp_path, host_prepares, parameters, settings
):
    spec = simulated.spec_of(parameters, simulated.columns(**settings))
    expected = run(tmp_path / "as_they_come", spec, rounds=2)
    host_prepares()
    seen = run(tmp_path / "prepared", spec, rounds=2)
    np.testing.assert_allclose(seen[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(seen[1], expected[1], atol=10 * TOLERANCE)
    assert seen[2].keys() == expected[2].keys()
    for name, value in expected[2].items():
        np.testing.assert_allclose(seen[2][name], value, atol=10 * TOLERANCE, err_msg=name)


def test_training_resumes_from_a_checkpoint_of_the_other(tmp_path, host_prepares):
    check_resuming_in_another_way(tmp_path, ADAGRAD, host_prepares)


def test_a_last_smaller_batch_counts_exactly(tmp_path, host_prepares):
    host_prepares()
    with simulation(NUM_CORES):
        estimator = simulated.make_estimator(tmp_path, simulated.spec_of())
        outputs = [p["outputs"][0] for p in estimator.predict(simulated.first_seven)]
        results = estimator.evaluate(simulated.first_seven)
    np.testing.assert_allclose(outputs, [3.0] * 7)
    parts = (slice(4), slice(4, 7))
    of_batches = [np.mean(np.square(3.0 - simulated.LABELS[part])) for part in parts]
    assert results["loss"] == pytest.approx(np.mean(of_batches), rel=1e-5)


def test_more_ids_than_a_core_takes_are_refused(tmp_path, host_prepares, monkeypatch):
    host_prepares()
    monkeypatch.setattr(embedding_ids, "_IDS_OF_EXAMPLE", 1)
    monkeypatch.setattr(embedding_ids, "_WIDEST_EXAMPLE", 2)
    with simulation(NUM_CORES):
        estimator = simulated.make_estimator(tmp_path, simulated.spec_of())
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="Feature x has more ids than the 2"
        ):
            estimator.train(simulated.input_fn, steps=1)


def test_an_id_that_the_table_does_not_have_is_refused(tmp_path, host_prepares):
    def beyond(params):
        features = {"x": simulated.sparse([[0], [6], [1], [2]], np.int64)}
        dataset = tf.data.Dataset.from_tensor_slices((features, np.ones([4, 1], np.float32)))
        return dataset.batch(params["batch_size"], drop_remainder=True)

    host_prepares()
    with simulation(NUM_CORES):
        estimator = simulated.make_estimator(tmp_path, simulated.spec_of())
        with pytest.raises(
            tf.errors.InvalidArgumentError, match="Feature x has an id beyond the 6"
        ):
            estimator.train(beyond, steps=1)


# Of three examples; the second has none, and an id below zero counts for nothing.
IDS = tf.SparseTensor(
    [[0, 0], [0, 1], [2, 0], [2, 1], [2, 3]], tf.constant([4, 1, 2, -1, 4], tf.int64), [3, 4]
)
WEIGHTS = tf.SparseTensor(IDS.indices, [0.5, 2.0, 0.0, 1.0, 3.0], [3, 4])
PLACES = tf.SparseTensor(
    [[0, 0, 0], [0, 0, 1], [1, 1, 0], [2, 3, 0]], tf.constant([4, 1, 2, 3], tf.int64), [3, 4, 2]
)
DENSE = tf.constant([[3], [0], [1]])
CASES = {
    "plain": (IDS, None, 0),
    "weighted": (IDS, WEIGHTS, 0),
    "sequence": (IDS, None, 2),
    "weighted sequence": (IDS, WEIGHTS, 2),
    "several at a place": (PLACES, None, 3),
    "dense": (DENSE, None, 0),
}


@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=lowers_steps)])
@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn", None])
@pytest.mark.parametrize("case", CASES)
def test_lookups_and_gradients_are_those_of_the_simulation(case, combiner, is_compiled):
    ids, weights, length = CASES[case]
    config, feature = TableConfig(5, 2, combiner=combiner), FeatureConfig("t", length)
    table = tf.Variable(np.random.RandomState(0).rand(5, 2).astype(np.float32))

    class Ours:
        weights = table

    Ours.config = config
    with tf.GradientTape() as tape:
        expected = look_up(Ours, feature, ids, weights)
        factors = tf.random.stateless_uniform(expected.shape, [1, 2])
        loss = tf.reduce_sum(expected * factors)
    gradient = tf.convert_to_tensor(tape.gradient(loss, table))

    prepared = pad_ids("x", config, feature, ids, weights, 3)

    @tf.function(jit_compile=is_compiled)
    def on_core(*tensors):
        padded = PaddedIds(*tensors, prepared.num_places)
        slices = padded.slices(factors)
        counted = tf.math.unsorted_segment_sum(tf.ones_like(slices.values), slices.indices, 5)
        rows = tf.math.unsorted_segment_sum(slices.values, slices.indices, 5)
        return padded.look_up(table), rows, counted

    found, rows, counted = on_core(*prepared.tensors)
    np.testing.assert_allclose(
        tf.reshape(found, expected.shape), expected, rtol=1e-5, atol=TOLERANCE
    )
    np.testing.assert_allclose(rows, gradient, rtol=1e-5, atol=TOLERANCE)
    # Rows that aren't looked up have no gradient, rather than one of zero.
    assert np.all(rows.numpy()[counted.numpy() == 0] == 0)


@pytest.mark.parametrize(
    ("width", "length", "expected"),
    [(None, 0, 64), (3, 0, 3), (5000, 0, 64), (None, 2, 2), (7, 2, 2)],
)
def test_a_core_takes_as_many_ids_as_the_batch_may_have(width, length, expected):
    batch_size = 4

    @tf.function(input_signature=[tf.SparseTensorSpec([None, width], tf.int64)])
    def prepare(ids):
        feature = FeatureConfig("t", length)
        return pad_ids("x", TableConfig(5, 2), feature, ids, None, batch_size).tensors

    for tensor in prepare.get_concrete_function().structured_outputs:
        assert tensor.shape == [batch_size * expected]
