"""`numpy_input_fn` and `pandas_input_fn`: which rows come in which batch, and how they are refused."""

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES

import tpuest
from tpuest import numpy_input_fn, pandas_input_fn

A = np.arange(5) * 1.0
B = np.arange(20).reshape(5, 2, 2)


def read(input_fn, most=100):
    """Lists the batches."""
    batches = []
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = input_fn()
        coordinator = tf.train.Coordinator()
        threads = tf.train.start_queue_runners(session, coordinator)
        while len(batches) < most:
            try:
                batches.append(session.run(tensors))
            except tf.errors.OutOfRangeError:
                break
        coordinator.request_stop()
        coordinator.join(threads)
    return batches


def test_batches_come_in_order_across_epochs_and_the_last_is_smaller():
    batches = read(numpy_input_fn({"a": A, "b": B}, A, 2, num_epochs=3, shuffle=False))
    assert [len(labels) for _, labels in batches] == [2] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate([b[0]["a"] for b in batches]), np.tile(A, 3))
    np.testing.assert_array_equal(
        np.concatenate([b[0]["b"] for b in batches]), np.tile(B, (3, 1, 1))
    )


def test_shuffled_epochs_hold_every_row_as_often():
    batches = read(numpy_input_fn(A, None, 3, num_epochs=4, shuffle=True))
    rows = np.concatenate(batches)
    assert sorted(rows) == sorted(np.tile(A, 4))
    assert list(rows) != list(np.tile(A, 4))


def test_without_end_every_batch_is_whole_and_its_size_static():
    input_fn = numpy_input_fn({"a": A}, {"c": A}, 3, num_epochs=None, shuffle=False)
    with tf.Graph().as_default():
        features, labels = input_fn()
    assert (features["a"].shape, labels["c"].shape) == ([3], [3])
    assert [len(labels["c"]) for _, labels in read(input_fn, most=4)] == [3] * 4


def test_strings_come_as_bytes():
    words = np.array(["a", "ä", "b"])
    batches = read(numpy_input_fn({"u": words, "o": words.astype(object)}, shuffle=False))
    assert batches[0]["u"].tolist() == batches[0]["o"].tolist() == [b"a", "ä".encode(), b"b"]


def test_the_graph_holds_no_data():
    large = np.zeros([10_000, 100])
    with tf.Graph().as_default() as graph:
        numpy_input_fn(large, shuffle=True)()
    assert graph.as_graph_def().ByteSize() < 100_000


@pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])
def test_estimators_train_evaluate_and_predict_on_arrays(tmp_path, num_cores):
    calls = []
    with models.simulation(num_cores):
        model_fn = models.linear_model(calls=calls)
        estimator = models.make_estimator(tmp_path, num_cores, model_fn)
        features, size = {"x": models.X}, models.BATCH_SIZE
        endless = numpy_input_fn(features, models.Y, size, num_epochs=None, shuffle=False)
        estimator.train(endless, steps=7)
        once = numpy_input_fn(features, models.Y, size, shuffle=False)
        metrics = [estimator.evaluate(once) for _ in range(2)][-1]
        predictions = list(estimator.predict(numpy_input_fn(features, None, size, shuffle=False)))
    _, w, b = models.trained(7)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, rtol=1e-5)
    outputs = models.X @ w + b
    np.testing.assert_allclose(metrics["error"], np.mean(np.abs(outputs - models.Y)), rtol=1e-5)
    assert calls == ["train", "eval", "infer"]
    np.testing.assert_allclose([p["outputs"] for p in predictions], outputs, rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        ([1, 2], None, TypeError, "x must be a dict or array; got list"),
        ({}, None, ValueError, "x cannot be an empty dict"),
        (np.array([]), None, ValueError, "x cannot be an empty array"),
        (A, {}, ValueError, "y cannot be empty dict"),
        ({"a": A}, {"a": A}, ValueError, "1 duplicate keys are found in both x and y"),
        ({"a": A, "b": A[1:]}, None, ValueError, "Length of tensors in x and y is mismatched"),
        (A, A[1:], ValueError, "Length of tensors in x and y is mismatched"),
    ],
)
def test_wrong_arrays_are_refused_when_read(x, y, error, words):
    input_fn = numpy_input_fn(x, y, shuffle=False)
    with pytest.raises(error, match=words):
        input_fn()


@pytest.mark.parametrize("make", [numpy_input_fn, pandas_input_fn])
def test_shuffle_must_be_given(make):
    with pytest.raises(ValueError, match="shuffle must be provided and explicitly set"):
        make(A)


def test_a_frame_gives_its_columns():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": A, "w": list("vwxyz")}, index=range(10, 15))
    labels = pandas.Series(A * 2, index=frame.index)
    ((features, target), _) = read(pandas_input_fn(frame, labels, 4, shuffle=False))
    assert features["w"].tolist() == [b"v", b"w", b"x", b"y"]
    np.testing.assert_array_equal(target, A[:4] * 2)


def test_labels_of_a_frame_may_be_named_as_features():
    pandas = pytest.importorskip("pandas")
    frame, labels = pandas.DataFrame({"a": A}), pandas.DataFrame({"a": A + 1, "b": A + 2})
    ((features, targets),) = read(pandas_input_fn(frame, labels, shuffle=False))
    np.testing.assert_array_equal(features["a"], A)
    np.testing.assert_array_equal(targets["a"], A + 1)
    np.testing.assert_array_equal(targets["b"], A + 2)


def test_labels_of_other_rows_are_refused():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": A})
    with pytest.raises(ValueError, match="Index for x and y are mismatched"):
        pandas_input_fn(frame, pandas.Series(A, index=range(1, 6)), shuffle=False)
    with pytest.raises(ValueError, match="Cannot use name a for target column"):
        pandas_input_fn(frame, frame["a"], shuffle=False, target_column="a")
    with pytest.raises(TypeError, match="target_column must be a string type"):
        pandas_input_fn(frame, frame["a"], shuffle=False, target_column=["a"])


def test_feature_columns_in_a_model_fn(tmp_path):
    columns = tf.feature_column
    words = np.array(["a", "b", "c", "d", "a"])

    def model_fn(features, labels, mode):
        number = columns.numeric_column("a")
        word = columns.categorical_column_with_vocabulary_list("w", ["a", "b", "c"])
        inputs = tf.feature_column.input_layer(
            features, [columns.bucketized_column(number, [1.5]), columns.embedding_column(word, 2)]
        )
        outputs = tf.layers.dense(inputs, 1)
        loss = tf.losses.mean_squared_error(labels, outputs)
        train_op = tf.train.AdagradOptimizer(0.5).minimize(loss, tf.train.get_global_step())
        return tpuest.EstimatorSpec(mode, loss=loss, train_op=train_op)

    input_fn = numpy_input_fn({"a": A, "w": words}, A[:, None], num_epochs=40, shuffle=False)
    estimator = tpuest.Estimator(
        model_fn, str(tmp_path), tpuest.RunConfig(save_summary_steps=0, tf_random_seed=1)
    )
    before = estimator.evaluate(input_fn)["loss"]
    estimator.train(input_fn)
    assert "input_layer/w_embedding/embedding_weights" in estimator.get_variable_names()
    assert estimator.evaluate(input_fn)["loss"] < before


def test_called_within_an_input_fn_it_is_a_queue_that_cores_are_warned_of(tmp_path, caplog):
    def input_fn(params):
        size = params["batch_size"]
        return numpy_input_fn({"x": models.X}, models.Y, size, num_epochs=None, shuffle=False)()

    with models.simulation(TWO_CORES), caplog.at_level("WARNING", logger="tensorflow"):
        estimator = models.make_estimator(tmp_path, TWO_CORES)
        estimator.train(input_fn, steps=7)
    assert "Input pipeline contains one or more QueueRunners" in caplog.text
    np.testing.assert_allclose(estimator.get_variable_value("w"), models.trained(7)[1], rtol=1e-5)
