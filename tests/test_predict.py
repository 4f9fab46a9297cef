"""Prediction: one result for each example, in order, and generators that live as long as one likes."""

import gc
import threading

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, EIGHT_CORES, ONE_CORE, TWO_CORES, X

from tpuest import ModeKeys, TPUEstimatorSpec

# float32 sums in another order.
RTOL = 1e-5

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])


def expected(num_examples, num_trained=3):
    _, w, b = models.trained(num_trained)
    return X[:num_examples] @ w + b


def trained_estimator(tmp_path, num_cores=CPU, *arguments, **options):
    estimator = models.make_estimator(tmp_path, num_cores, *arguments, **options)
    return estimator.train(models.train_input_fn, steps=3)


def features_input_fn(num_examples):
    """Gives an `input_fn` of features without labels."""

    def input_fn(params):
        dataset = tf.data.Dataset.from_tensor_slices({"x": X[:num_examples]})
        return dataset.batch(params["batch_size"])

    return input_fn


@pytest.mark.parametrize(
    ("num_cores", "num_examples"),
    [(CPU, 40), (CPU, 21), (ONE_CORE, 21), (TWO_CORES, 40), (TWO_CORES, 3), (EIGHT_CORES, 21)],
)
def test_each_example_has_one_result_in_order(tmp_path, num_cores, num_examples):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        results = list(estimator.predict(features_input_fn(num_examples)))
    assert [sorted(result) for result in results] == [["outputs", "x"]] * num_examples
    np.testing.assert_array_equal([result["x"] for result in results], X[:num_examples])
    np.testing.assert_allclose(
        [result["outputs"] for result in results], expected(num_examples), RTOL
    )


@on_cpu_and_cores
def test_labels_are_left_out_of_what_input_fn_gives(tmp_path, num_cores):
    def model_fn(features, labels, mode, params):
        assert mode != ModeKeys.PREDICT or labels is None
        return models.linear_model()(features, labels, mode, params)

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, model_fn)
        assert len(list(estimator.predict(models.examples_input_fn(11)))) == 11


@on_cpu_and_cores
def test_predict_keys_choose_among_the_predictions(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores)
        results = list(estimator.predict(features_input_fn(5), predict_keys=["x"]))
    assert [list(result) for result in results] == [["x"]] * 5


def test_predict_keys_must_be_among_the_predictions(tmp_path):
    estimator = models.make_estimator(tmp_path)
    with pytest.raises(ValueError, match="Expected to run at least one output from"):
        next(estimator.predict(features_input_fn(5), predict_keys=["y"]))


def test_predict_keys_need_a_dict(tmp_path):
    model_fn = models.linear_model(predictions=lambda features, outputs: outputs)
    estimator = models.make_estimator(tmp_path, model_fn=model_fn)
    with pytest.raises(ValueError, match="predict_keys argument is not valid in case of non-dict"):
        next(estimator.predict(features_input_fn(5), predict_keys=["outputs"]))


def test_predictions_may_be_a_tensor_on_cpu(tmp_path):
    model_fn = models.linear_model(predictions=lambda features, outputs: outputs)
    estimator = trained_estimator(tmp_path, CPU, model_fn)
    np.testing.assert_allclose(list(estimator.predict(features_input_fn(11))), expected(11), RTOL)


@on_cpu_and_cores
def test_whole_batches_are_given_where_one_asks_for_them(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        batches = list(estimator.predict(features_input_fn(19), yield_single_examples=False))
    assert [len(batch["outputs"]) for batch in batches] == [8, 8, 3]
    outputs = np.concatenate([batch["outputs"] for batch in batches])
    np.testing.assert_allclose(outputs, expected(19), RTOL)


def test_predictions_of_unequal_length_cannot_be_taken_apart(tmp_path):
    model_fn = models.linear_model(
        predictions=lambda features, outputs: {"outputs": outputs, "two": tf.constant([1, 2])}
    )
    estimator = models.make_estimator(tmp_path, model_fn=model_fn)
    with pytest.raises(ValueError, match="Batch length of predictions should be same."):
        next(estimator.predict(features_input_fn(8)))
    (batch,) = estimator.predict(features_input_fn(8), yield_single_examples=False)
    assert batch["two"].tolist() == [1, 2]


@on_cpu_and_cores
def test_checkpoint_path_says_what_predicts(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores, save_checkpoints_steps=1)
        path = str(tmp_path / "model.ckpt-1")
        older = [
            r["outputs"] for r in estimator.predict(features_input_fn(8), checkpoint_path=path)
        ]
        newer = [r["outputs"] for r in estimator.predict(features_input_fn(8))]
    np.testing.assert_allclose(older, expected(8, num_trained=1), RTOL)
    np.testing.assert_allclose(newer, expected(8), RTOL)


@on_cpu_and_cores
def test_prediction_works_on_initial_values(tmp_path, caplog, num_cores):
    caplog.set_level("INFO", "tensorflow")
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores)
        results = list(estimator.predict(features_input_fn(9)))
    assert not np.any([result["outputs"] for result in results])
    message = (
        f"Could not find trained model in model_dir: {tmp_path}, running initialization to predict."
    )
    assert message in [record.getMessage() for record in caplog.records]


@on_cpu_and_cores
def test_several_generators_take_turns(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        generators = [estimator.predict(features_input_fn(n)) for n in (21, 21, 9)]
        results = [[next(generator) for generator in generators] for _ in range(9)]
        rest = [len(list(generator)) for generator in generators]
    for row, wanted in zip(results, expected(9)):
        for result in row:
            np.testing.assert_allclose(result["outputs"], wanted, RTOL)
    assert rest == [12, 12, 0]


@on_cpu_and_cores
def test_training_in_between_does_not_change_an_open_generators_results(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        generator = estimator.predict(features_input_fn(40))
        before = [next(generator)]
        estimator.train(models.train_input_fn, steps=3)
        estimator.evaluate(models.examples_input_fn(16))
        after = list(estimator.predict(features_input_fn(8)))
        rest = list(generator)
    np.testing.assert_allclose([r["outputs"] for r in before + rest], expected(40), RTOL)
    assert not np.allclose([r["outputs"] for r in after], expected(8))


@on_cpu_and_cores
def test_a_generator_dropped_half_way_leaves_nothing_behind(tmp_path, num_cores):
    calls = []
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores, models.linear_model(calls=calls))
        list(estimator.predict(features_input_fn(40)))
        threads = threading.active_count()
        for _ in range(4):
            generator = estimator.predict(features_input_fn(40))
            next(generator)
            del generator
            gc.collect()
        assert threading.active_count() <= threads
        assert iterators_alive() == []
        assert len(list(estimator.predict(features_input_fn(40)))) == 40
    assert calls == ["train", "infer"]


def iterators_alive():
    gc.collect()
    return [
        type(item).__name__
        for item in gc.get_objects()
        if type(item).__name__ in ("OwnedIterator", "DistributedIterator")
    ]


@on_cpu_and_cores
def test_nothing_is_alive_after_a_call(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        estimator.evaluate(models.examples_input_fn(21))
        list(estimator.predict(features_input_fn(21)))
        assert iterators_alive() == []


def test_the_default_graph_of_the_caller_is_its_own_between_results(tmp_path):
    estimator = models.make_estimator(tmp_path)
    with tf.Graph().as_default() as graph:
        for _ in estimator.predict(features_input_fn(20)):
            assert tf.get_default_graph() is graph
    for _ in estimator.predict(features_input_fn(20)):
        assert tf.executing_eagerly()


@pytest.mark.parametrize("num_cores", [CPU, ONE_CORE, TWO_CORES])
def test_the_references_example_filters_padding_as_printed(tmp_path, num_cores):
    def model_fn(features, labels, params, mode):
        output = tf.reduce_sum(features["image"], [1, 2, 3])
        if mode == ModeKeys.PREDICT:
            return TPUEstimatorSpec(
                mode=mode,
                predictions={"predictions": output, "is_padding": features["is_padding"]},
            )

    def predict_input_fn(params):
        images = tf.random.uniform([100, 4, 4, 3], minval=-1, maxval=1)
        dataset = tf.data.Dataset.from_tensor_slices(images)
        dataset = dataset.map(lambda images: {"image": images})
        return dataset.batch(params["batch_size"])

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, model_fn, batch_size=16)
        results = list(estimator.predict(input_fn=predict_input_fn))
    assert len([item for item in results if not item["is_padding"]]) == 100
    assert len(results) == 100


@on_cpu_and_cores
def test_padding_is_unseen_by_who_iterates_over_features(tmp_path, num_cores):
    seen = []

    def model_fn(features, labels, mode, params):
        seen.append((sorted(features), len(features), "is_padding" in features))
        return TPUEstimatorSpec(mode, predictions={key: features[key] for key in features})

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, model_fn)
        results = list(estimator.predict(features_input_fn(3)))
    assert seen == [(["x"], 1, False)]
    assert [list(result) for result in results] == [["x"]] * 3


@on_cpu_and_cores
def test_hooks_of_the_call_and_the_spec_see_every_batch(tmp_path, num_cores):
    of_call, of_spec = models.CountRuns(), models.CountRuns()
    model_fn = models.linear_model(lambda **_: {"prediction_hooks": [of_spec]})
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, model_fn)
        list(estimator.predict(features_input_fn(17), hooks=[of_call]))
    assert of_call.events == ["begin", "session", *["run"] * 3, "end"]
    assert of_spec.events == of_call.events


@on_cpu_and_cores
def test_a_hook_of_training_may_predict(tmp_path, num_cores):
    results = []

    class Predict(tf.train.CheckpointSaverListener):
        def after_save(self, session, global_step_value):
            predicted = [r["outputs"] for r in estimator.predict(features_input_fn(5))]
            results.append((global_step_value, predicted))

    with models.simulation(num_cores):
        estimator = models.make_estimator(
            tmp_path, num_cores, save_checkpoints_steps=2, iterations_per_loop=2
        )
        estimator.train(models.train_input_fn, steps=4, saving_listeners=[Predict()])
    assert [step for step, _ in results] == [0, 2, 4]
    for step, predicted in results:
        np.testing.assert_allclose(predicted, expected(5, step), RTOL)
    np.testing.assert_allclose(estimator.get_variable_value("w"), models.trained(4)[1], RTOL)


@on_cpu_and_cores
def test_an_error_of_the_caller_closes_the_generator(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores)
        with pytest.raises(KeyError):
            for result in estimator.predict(features_input_fn(40)):
                result["nothing"]
        assert len(list(estimator.predict(features_input_fn(40)))) == 40


def test_no_data_gives_no_results(tmp_path):
    estimator = models.make_estimator(tmp_path)
    assert list(estimator.predict(lambda params: features_input_fn(8)(params).take(0))) == []


def test_what_needs_no_batch_runs_only_where_there_is_one(tmp_path):
    calls = []

    def count():
        calls.append(None)
        return np.float32(len(calls))

    def predictions(features, outputs):
        number = tf.py_func(count, [], tf.float32)
        return {"number": tf.fill([tf.shape(outputs)[0]], number)}

    estimator = models.make_estimator(
        tmp_path, model_fn=models.linear_model(predictions=predictions)
    )
    results = list(estimator.predict(features_input_fn(24)))
    assert [result["number"] for result in results] == sorted(8 * [1.0, 2.0, 3.0])
    assert len(calls) == 3


@on_cpu_and_cores
def test_a_feature_may_have_no_elements(tmp_path, num_cores):
    def input_fn(params):
        features = {"x": X[:21], "masks": np.zeros([21, 0], np.float32)}
        return tf.data.Dataset.from_tensor_slices(features).batch(params["batch_size"])

    with models.simulation(num_cores):
        results = list(trained_estimator(tmp_path, num_cores).predict(input_fn))
    outputs = [result["outputs"] for result in results]
    np.testing.assert_allclose(outputs, expected(21), RTOL)
