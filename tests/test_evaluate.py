"""Evaluation: of how much data, of which values, and what is written about it."""

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, EIGHT_CORES, ONE_CORE, TWO_CORES, X, Y

import tpuest
from tpuest import InputPipelineConfig, TPUEstimatorSpec

# float32 sums in another order.
RTOL = 1e-5

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])


def expected(num_examples, num_trained=3):
    """Computes the metrics of the first examples: the loss is the mean of the batches' losses."""
    _, w, b = models.trained(num_trained)
    difference = X[:num_examples] @ w + b - Y[:num_examples]
    size = models.BATCH_SIZE
    batches = [difference[i : i + size] for i in range(0, num_examples, size)]
    return {
        "error": np.mean(np.abs(difference)),
        "loss": np.mean([np.mean(batch**2) for batch in batches]),
        "global_step": num_trained,
    }


def assert_metrics(results, expected_results):
    assert sorted(results) == sorted(expected_results)
    for name, value in expected_results.items():
        np.testing.assert_allclose(results[name], value, RTOL, err_msg=name)


def trained_estimator(tmp_path, num_cores=CPU, *arguments, **options):
    estimator = models.make_estimator(tmp_path, num_cores, *arguments, **options)
    return estimator.train(models.train_input_fn, steps=3)


@pytest.mark.parametrize("num_cores", [CPU, ONE_CORE, TWO_CORES])
def test_all_examples_are_evaluated_once(tmp_path, num_cores):
    with models.simulation(num_cores):
        results = trained_estimator(tmp_path, num_cores).evaluate(models.examples_input_fn(40))
    assert_metrics(results, expected(40))


@pytest.mark.parametrize(
    ("num_cores", "num_examples"),
    [(CPU, 37), (ONE_CORE, 37), (TWO_CORES, 37), (TWO_CORES, 5), (EIGHT_CORES, 11)],
)
def test_the_last_partial_batch_counts_exactly(tmp_path, num_cores, num_examples):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        results = estimator.evaluate(models.examples_input_fn(num_examples))
    assert_metrics(results, expected(num_examples))


@pytest.mark.parametrize("num_examples", [37, 5])
def test_the_last_partial_batch_counts_exactly_where_each_core_gets_all_of_it(
    tmp_path, num_examples
):
    broadcast = {"per_host_input_for_training": InputPipelineConfig.BROADCAST}
    with models.simulation(TWO_CORES):
        trained_estimator(tmp_path, TWO_CORES)
        estimator = models.make_estimator(tmp_path, TWO_CORES, tpu_config=broadcast)
        results = estimator.evaluate(models.examples_input_fn(num_examples))
    assert_metrics(results, expected(num_examples))


@on_cpu_and_cores
def test_steps_say_how_many_batches_are_evaluated(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        results = estimator.evaluate(models.train_input_fn, steps=2)
    assert_metrics(results, expected(16))


@on_cpu_and_cores
def test_more_steps_than_batches_end_with_the_data(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        results = estimator.evaluate(models.examples_input_fn(20), steps=100)
    assert_metrics(results, expected(20))


@on_cpu_and_cores
def test_steps_end_before_a_partial_batch(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        results = estimator.evaluate(models.examples_input_fn(20), steps=2)
    assert_metrics(results, expected(16))


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(tmp_path, steps):
    with pytest.raises(ValueError, match=f"Must specify steps > 0, given: {steps}"):
        trained_estimator(tmp_path).evaluate(models.train_input_fn, steps=steps)


@on_cpu_and_cores
def test_evaluation_works_on_initial_values(tmp_path, caplog, num_cores):
    caplog.set_level("INFO", "tensorflow")
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores)
        results = estimator.evaluate(models.examples_input_fn(40))
    assert_metrics(results, expected(40, num_trained=0))
    assert (
        f"Could not find trained model in model_dir: {tmp_path}, running initialization to evaluate."
        in [record.getMessage() for record in caplog.records]
    )
    assert models.checkpoint_steps(tmp_path) == []


@on_cpu_and_cores
def test_checkpoint_path_says_what_is_evaluated(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores, save_checkpoints_steps=1)
        path = str(tmp_path / "model.ckpt-2")
        older = estimator.evaluate(models.examples_input_fn(40), checkpoint_path=path)
        newest = estimator.evaluate(models.examples_input_fn(40))
        estimator.train(models.train_input_fn, steps=1)
        newer = estimator.evaluate(models.examples_input_fn(40))
    assert_metrics(older, expected(40, num_trained=2))
    assert_metrics(newest, expected(40, num_trained=3))
    assert newer["global_step"] == 4
    assert newer["loss"] < newest["loss"]


def test_results_are_logged_and_written_under_the_evaluations_name(tmp_path, caplog):
    caplog.set_level("INFO", "tensorflow")
    estimator = trained_estimator(tmp_path)
    results = estimator.evaluate(models.examples_input_fn(40), name="test")
    assert estimator.eval_dir("test") == str(tmp_path / "eval_test")
    assert models.read_scalars(tmp_path / "eval_test", "error") == {3: results["error"]}
    assert models.read_scalars(tmp_path / "eval_test", "loss") == {3: results["loss"]}
    assert "global_step" not in models.read_tags(tmp_path / "eval_test")
    written = f"error = {results['error']}, global_step = 3, loss = {results['loss']}"
    log = [record.getMessage() for record in caplog.records]
    assert f"Saving dict for global step 3: {written}" in log
    path = tmp_path / "model.ckpt-3"
    assert f"Saving 'checkpoint_path' summary for global step 3: {path}" in log


def test_an_evaluation_without_a_name_is_written_under_eval(tmp_path):
    estimator = trained_estimator(tmp_path)
    estimator.evaluate(models.examples_input_fn(40))
    estimator.train(models.train_input_fn, steps=1)
    estimator.evaluate(models.examples_input_fn(40))
    assert estimator.eval_dir() == str(tmp_path / "eval")
    assert list(models.read_scalars(tmp_path / "eval", "loss")) == [3, 4]


@on_cpu_and_cores
def test_evaluation_changes_nothing_of_the_training(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        estimator.evaluate(models.examples_input_fn(40))
        estimator.train(models.train_input_fn, steps=3)
        results = estimator.evaluate(models.examples_input_fn(40))
    _, w, b = models.trained(3)
    _, w, b = models.trained(3, w, b)  # each call of train starts reading anew
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)
    assert results["global_step"] == 6


@on_cpu_and_cores
@pytest.mark.parametrize("name", ["loss", "global_step"])
def test_metrics_cannot_take_the_names_of_those_that_are_always_there(tmp_path, num_cores, name):
    def metric_fn(labels, outputs):
        return {name: tf.metrics.mean(outputs)}

    with models.simulation(num_cores):
        model_fn = models.linear_model(metric_fn=metric_fn)
        with pytest.raises(ValueError, match=f'Metric with name "{name}" is not allowed'):
            models.make_estimator(tmp_path, num_cores, model_fn).evaluate(
                models.train_input_fn, steps=1
            )


def test_on_cores_metrics_are_made_in_evaluation_only(tmp_path):
    def metric_fn(labels, outputs):
        raise AssertionError("evaluated")

    with models.simulation(TWO_CORES):
        model_fn = models.linear_model(metric_fn=metric_fn)
        estimator = models.make_estimator(tmp_path, TWO_CORES, model_fn)
        estimator.train(models.train_input_fn, steps=1)
        with pytest.raises(AssertionError, match="evaluated"):
            estimator.evaluate(models.train_input_fn, steps=1)


def test_evaluation_off_the_cores_takes_a_plain_spec(tmp_path):
    calls = []

    def model_fn(features, labels, mode, params):
        calls.append((mode, params["batch_size"], params["use_tpu"]))
        spec = models.linear_model()(features, labels, mode, params)
        return spec.as_estimator_spec() if mode == tpuest.ModeKeys.EVAL else spec

    with models.simulation(TWO_CORES):
        estimator = trained_estimator(tmp_path, TWO_CORES, model_fn, eval_on_tpu=False)
        results = estimator.evaluate(models.examples_input_fn(37))
    assert_metrics(results, expected(37))
    assert calls == [("train", 4, True), ("eval", 8, False)]


def test_a_plain_spec_is_refused_on_the_cores(tmp_path):
    def model_fn(features, labels, mode, params):
        return models.linear_model()(features, labels, mode, params).as_estimator_spec()

    with models.simulation(TWO_CORES), pytest.raises(RuntimeError, match="`TPUEstimatorSpec`"):
        models.make_estimator(tmp_path, TWO_CORES, model_fn).evaluate(
            models.train_input_fn, steps=1
        )


@on_cpu_and_cores
def test_hooks_of_the_call_and_the_spec_see_every_batch(tmp_path, num_cores):
    of_call, of_spec = models.CountRuns(), models.CountRuns()
    model_fn = models.linear_model(lambda **_: {"evaluation_hooks": [of_spec]})
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, model_fn)
        estimator.evaluate(models.examples_input_fn(40), hooks=[of_call])
    assert of_call.events == ["begin", "session", *["run"] * 5, "end"]
    assert of_spec.events == of_call.events


@on_cpu_and_cores
def test_an_evaluation_hook_may_end_the_evaluation(tmp_path, num_cores):
    class Stop(tf.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            run_context.request_stop()

    with models.simulation(num_cores):
        estimator = trained_estimator(tmp_path, num_cores)
        results = estimator.evaluate(models.train_input_fn, hooks=[Stop()])  # without end
    assert_metrics(results, expected(8))


def test_a_model_without_metrics_has_its_loss(tmp_path):
    def model_fn(features, labels, mode, params):
        spec = models.linear_model()(features, labels, mode, params)
        return TPUEstimatorSpec(mode, loss=spec.loss, train_op=spec.train_op)

    results = trained_estimator(tmp_path, CPU, model_fn).evaluate(models.examples_input_fn(40))
    assert sorted(results) == ["global_step", "loss"]


@on_cpu_and_cores
def test_an_evaluation_within_training_leaves_training_alone(tmp_path, num_cores):
    results = []

    class Evaluate(tf.train.CheckpointSaverListener):
        def after_save(self, session, global_step_value):
            results.append(estimator.evaluate(models.examples_input_fn(40))["global_step"])

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, save_checkpoints_steps=2)
        estimator.train(models.train_input_fn, steps=4, saving_listeners=[Evaluate()])
    assert results == [0, 2, 4]
    np.testing.assert_allclose(estimator.get_variable_value("w"), models.trained(4)[1], RTOL)


def knowing_mean_error(labels, outputs):
    """Asks for the number of examples as metric functions do that were written for fixed shapes."""
    num_examples = tf.size(labels, out_type=tf.float32)
    total = tf.reduce_sum(tf.abs(outputs - tf.reshape(labels, [labels.shape.as_list()[0], 1])))
    return {"error": tf.metrics.mean(total / num_examples)}


@pytest.mark.parametrize("input_fn", [models.one_epoch_input_fn, models.examples_input_fn(40)])
@pytest.mark.parametrize("setting", ["PER_HOST_V1", "PER_HOST_V2", "BROADCAST"])
def test_metrics_on_cores_may_ask_how_many_examples_a_batch_has(tmp_path, input_fn, setting):
    model_fn = models.linear_model(metric_fn=knowing_mean_error)
    config = {"per_host_input_for_training": getattr(InputPipelineConfig, setting)}
    with models.simulation(TWO_CORES):
        trained_estimator(tmp_path, TWO_CORES)
        estimator = models.make_estimator(tmp_path, TWO_CORES, model_fn, tpu_config=config)
        results = estimator.evaluate(input_fn, steps=5)
    assert_metrics(results, expected(40))


def test_metrics_that_must_know_the_batch_size_refuse_a_smaller_batch(tmp_path):
    model_fn = models.linear_model(metric_fn=knowing_mean_error)
    with models.simulation(TWO_CORES):
        estimator = trained_estimator(tmp_path, TWO_CORES, model_fn)
        with pytest.raises(ValueError, match="has 5 examples, and the function of eval_metrics"):
            estimator.evaluate(models.examples_input_fn(37))
        results = estimator.evaluate(models.examples_input_fn(37), steps=4)
    assert_metrics(results, expected(32))


def test_an_error_of_metrics_is_the_users_own(tmp_path):
    def metric_fn(labels, outputs):
        raise ValueError("no such metric")

    model_fn = models.linear_model(metric_fn=metric_fn)
    with models.simulation(TWO_CORES):
        trained_estimator(tmp_path, TWO_CORES)
        estimator = models.make_estimator(tmp_path, TWO_CORES, model_fn)
        with pytest.raises(ValueError, match="no such metric"):
            estimator.evaluate(models.examples_input_fn(37))


def test_the_host_call_of_training_knows_its_tensors_shapes(tmp_path):
    seen = []

    def host_call(loss, labels):
        seen.extend([loss.shape.as_list(), labels.shape.as_list()])
        return tf.no_op()

    def extra(loss, labels, **_):
        return {"host_call": (host_call, [tf.reshape(loss, [1]), labels])}

    with models.simulation(TWO_CORES):
        trained_estimator(tmp_path, TWO_CORES, models.linear_model(extra))
    assert seen == [[2], [8, 1]]
