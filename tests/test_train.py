"""Training: how many steps, in which order, with which values, and what the log says."""

import re

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, EIGHT_CORES, ONE_CORE, TWO_CORES

import tpuest

# float32 sums in another order.
RTOL = 1e-5

everywhere = pytest.mark.parametrize("num_cores", [CPU, ONE_CORE, TWO_CORES, EIGHT_CORES])
on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])


def global_step_of(estimator):
    return int(estimator.get_variable_value("global_step"))


def assert_trained(estimator, num_steps):
    _, w, b = models.trained(num_steps)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)
    np.testing.assert_allclose(estimator.get_variable_value("b"), b, RTOL)


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


@everywhere
def test_training_gives_what_gradient_descent_gives(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, iterations_per_loop=3)
        assert estimator.train(models.train_input_fn, steps=7) is estimator
    assert global_step_of(estimator) == 7
    assert_trained(estimator, 7)


@on_cpu_and_cores
def test_steps_add_up_and_max_steps_does_not(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, iterations_per_loop=2)
        estimator.train(models.train_input_fn, steps=3)
        estimator.train(models.train_input_fn, steps=3)
        assert global_step_of(estimator) == 6
        estimator.train(models.train_input_fn, max_steps=8)
        assert global_step_of(estimator) == 8


def test_max_steps_that_were_trained_before_skip_training(tmp_path, caplog):
    caplog.set_level("INFO", "tensorflow")
    calls = []
    estimator = models.make_estimator(tmp_path, model_fn=models.linear_model(calls=calls))
    estimator.train(models.train_input_fn, max_steps=2)
    estimator.train(models.train_input_fn, max_steps=2)
    assert len(calls) == 1
    assert "Skipping training since max_steps has already saved." in messages(caplog)


def test_both_steps_and_max_steps_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Can not provide both steps and max_steps."):
        models.make_estimator(tmp_path).train(models.train_input_fn, steps=1, max_steps=1)


@pytest.mark.parametrize("name", ["steps", "max_steps"])
def test_no_steps_at_all_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"Must specify {name} > 0, given: 0"):
        models.make_estimator(tmp_path).train(models.train_input_fn, **{name: 0})


@on_cpu_and_cores
def test_training_ends_with_the_data(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, iterations_per_loop=3)
        estimator.train(models.one_epoch_input_fn)
        assert global_step_of(estimator) == 5
        estimator.train(models.one_epoch_input_fn, steps=100)
    assert global_step_of(estimator) == 10
    assert_trained(estimator, 10)


@on_cpu_and_cores
def test_training_on_no_data_makes_no_steps(tmp_path, caplog, num_cores):
    caplog.set_level("INFO", "tensorflow")

    def no_data(params):
        return models.one_epoch_input_fn(params).take(0)

    with models.simulation(num_cores):
        models.make_estimator(tmp_path, num_cores).train(no_data)
    warning = "Training with estimator made no steps. Perhaps input is empty or misspecified."
    assert warning in messages(caplog)
    assert models.checkpoint_steps(tmp_path) == [0]


def test_another_estimator_resumes_from_the_directory(tmp_path):
    models.make_estimator(tmp_path).train(models.train_input_fn, steps=5)
    estimator = models.make_estimator(tmp_path)
    estimator.train(models.train_input_fn, steps=5)
    assert_trained(estimator, 10)


@on_cpu_and_cores
def test_model_fn_is_called_once_however_often_one_trains(tmp_path, num_cores):
    calls = []
    with models.simulation(num_cores):
        estimator = models.make_estimator(
            tmp_path, num_cores, models.linear_model(calls=calls), iterations_per_loop=2
        )
        for _ in range(3):
            estimator.train(models.train_input_fn, steps=2)
            estimator.evaluate(models.one_epoch_input_fn)
            list(estimator.predict(models.one_epoch_input_fn))
    assert calls == ["train", "eval", "infer"]


@on_cpu_and_cores
def test_later_calls_trace_nothing(tmp_path, num_cores, monkeypatch):
    traced = []
    original = tf.function

    def counting(*arguments, **options):
        made = original(*arguments, **options)
        if arguments:
            traced.append(arguments[0])
        return made

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, iterations_per_loop=2)

        def one_round():
            estimator.train(models.train_input_fn, steps=4)
            estimator.evaluate(models.one_epoch_input_fn)
            list(estimator.predict(models.one_epoch_input_fn))

        one_round()
        monkeypatch.setattr(tf, "function", counting)
        monkeypatch.setattr("tensorflow.function", counting)
        one_round()
    # Each call reads its own dataset; the model's functions are there.
    assert {function.__qualname__.split(".")[0] for function in traced} <= {"_Reader"}


def test_a_batch_of_another_size_is_another_model(tmp_path):
    calls = []
    estimator = models.make_estimator(tmp_path, model_fn=models.linear_model(calls=calls))
    estimator.train(models.one_epoch_input_fn)

    def smaller(params):
        return models.one_epoch_input_fn({"batch_size": 4})

    estimator.train(smaller)
    assert len(calls) == 2
    assert global_step_of(estimator) == 5 + 10


class Losses(tf.train.SessionRunHook):
    """Keeps the loss of each step."""

    def __init__(self):
        self.values = []

    def before_run(self, run_context):
        return tf.train.SessionRunArgs("training_loss:0")

    def after_run(self, run_context, run_values):
        self.values.append(float(run_values.results))


def test_the_loss_of_each_step_is_that_before_its_update(tmp_path):
    hook = Losses()
    models.make_estimator(tmp_path).train(models.train_input_fn, steps=6, hooks=[hook])
    np.testing.assert_allclose(hook.values, models.trained(6)[0], RTOL)


@pytest.mark.parametrize("num_cores", [ONE_CORE, TWO_CORES])
def test_iterations_per_loop_may_be_a_duration(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, iterations_per_loop="1s")
        estimator.train(models.train_input_fn, steps=30)
    assert_trained(estimator, 30)


def test_a_duration_of_loops_is_learnt_from_their_speed():
    from tpuest.config import parse_iterations_per_loop
    from tpuest.hooks import IterationsPerLoop

    iterations = IterationsPerLoop(parse_iterations_per_loop("2s"))
    assert iterations.steps == 1
    iterations.measure(1, 0.5)
    assert iterations.steps == 4
    iterations.measure(4, 0.001)
    assert iterations.steps == 40
    iterations.measure(40, 100)
    assert iterations.steps == 1


def test_the_same_seed_gives_the_same_run(tmp_path):
    def random_model(features, labels, mode, params):
        w = tf.get_variable("w", [3, 1])
        noise = tf.random.normal([])
        loss = tf.reduce_mean(tf.square(features["x"] @ w - labels)) + noise
        train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, tf.train.get_global_step())
        return tpuest.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)

    def run(name, seed):
        estimator = models.make_estimator(
            tmp_path / name, model_fn=random_model, tf_random_seed=seed
        )
        estimator.train(models.train_input_fn, steps=3)
        return estimator.get_variable_value("w").tolist()

    assert run("a", 1) == run("b", 1)
    assert run("a", 1) != run("c", 2)


def nan_at(step):
    """Gives a model's extra fields: the loss is no number from a step on."""

    def extra(loss, mode, w, b, **tensors):
        global_step = tf.train.get_global_step()
        bad = tf.where(tf.equal(global_step, step), float("nan"), 1.0)
        loss = tf.multiply(loss, bad, name="bad_loss")
        train_op = tf.train.GradientDescentOptimizer(0.1)
        if tensors["use_tpu"]:
            train_op = tf.tpu.CrossShardOptimizer(train_op)
        return {"loss": loss, "train_op": train_op.minimize(loss, global_step)}

    return extra


@on_cpu_and_cores
def test_a_loss_that_is_no_number_stops_training_at_its_step(tmp_path, num_cores):
    def extra(**tensors):
        return nan_at(4)(use_tpu=num_cores is not CPU, **tensors)

    with models.simulation(num_cores):
        estimator = models.make_estimator(
            tmp_path,
            num_cores,
            models.linear_model(extra),
            iterations_per_loop=10,
            save_checkpoints_steps=1,
        )
        with pytest.raises(tf.train.NanLossDuringTrainingError, match="NaN loss during training."):
            estimator.train(models.train_input_fn, steps=20)
    assert models.checkpoint_steps(tmp_path)[-1] == (4 if num_cores is CPU else 0)
    assert np.isfinite(estimator.get_variable_value("w")).all()


@on_cpu_and_cores
def test_training_tells_of_its_progress_in_the_originals_words(tmp_path, caplog, num_cores):
    caplog.set_level("INFO", "tensorflow")
    with models.simulation(num_cores):
        models.make_estimator(
            tmp_path, num_cores, log_step_count_steps=2, iterations_per_loop=2
        ).train(models.train_input_fn, steps=6)
    log = "\n".join(messages(caplog))
    assert re.search(r"^loss = [\d.]+, step = \d+$", log, re.MULTILINE)
    assert re.search(r"^loss = [\d.]+, step = \d+ \([\d.]+ sec\)$", log, re.MULTILINE)
    assert re.search(r"^global_step/sec: [\d.]+$", log, re.MULTILINE)
    assert re.search(r"^examples/sec: [\d.]+$", log, re.MULTILINE)
    assert re.search(r"^Saving checkpoints for 0 into .*model\.ckpt\.$", log, re.MULTILINE)
    assert re.search(r"^Saving checkpoints for 6 into .*model\.ckpt\.$", log, re.MULTILINE)
    assert re.search(r"^Loss for final step: [\d.]+\.$", log, re.MULTILINE)


def logged_steps(caplog):
    lines = [re.match(r"loss = .*, step = (\d+)", message) for message in messages(caplog)]
    return [int(line[1]) for line in lines if line]


def test_on_cpu_the_loss_is_logged_with_the_step_before_it(tmp_path, caplog):
    caplog.set_level("INFO", "tensorflow")
    estimator = models.make_estimator(tmp_path, log_step_count_steps=3)
    estimator.train(models.train_input_fn, steps=8)
    assert logged_steps(caplog) == [0, 3, 6]


def test_on_cores_the_loss_is_logged_with_the_step_after_the_loop(tmp_path, caplog):
    caplog.set_level("INFO", "tensorflow")
    with models.simulation(TWO_CORES):
        estimator = models.make_estimator(
            tmp_path, TWO_CORES, log_step_count_steps=4, iterations_per_loop=2
        )
        estimator.train(models.train_input_fn, steps=10)
    assert logged_steps(caplog) == [2, 6, 10]


def test_no_progress_is_logged_where_none_is_wanted(tmp_path, caplog):
    caplog.set_level("INFO", "tensorflow")
    models.make_estimator(tmp_path, log_step_count_steps=None).train(models.train_input_fn, steps=3)
    assert not logged_steps(caplog)


def test_the_final_loss_is_that_of_the_last_step(tmp_path, caplog):
    caplog.set_level("INFO", "tensorflow")
    models.make_estimator(tmp_path).train(models.train_input_fn, steps=5)
    (line,) = [m for m in messages(caplog) if m.startswith("Loss for final step: ")]
    loss = float(re.fullmatch(r"Loss for final step: (.*)\.", line)[1])
    np.testing.assert_allclose(loss, models.trained(5)[0][-1], RTOL)


@on_cpu_and_cores
def test_asserts_and_prints_of_a_model_do_not_keep_it_from_training(tmp_path, num_cores):
    def model_fn(features, labels, mode, params):
        with tf.control_dependencies(
            [
                tf.debugging.assert_non_negative(labels),
                tf.debugging.assert_equal(tf.shape(labels)[1], 1, message="one label"),
            ]
        ):
            labels = tf.identity(labels)
        return models.linear_model()(features, labels, mode, params)

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, model_fn, iterations_per_loop=2)
        estimator.train(models.train_input_fn, steps=6)
    assert_trained(estimator, 6)


def test_a_plain_estimator_trains_on_what_its_input_fn_batches(tmp_path):
    def input_fn():
        return models.train_input_fn({"batch_size": models.BATCH_SIZE})

    def model_fn(features, labels, mode):
        return models.linear_model()(features, labels, mode, {}).as_estimator_spec()

    estimator = tpuest.Estimator(model_fn, str(tmp_path))
    estimator.train(input_fn, steps=4)
    assert_trained(estimator, 4)


@on_cpu_and_cores
def test_model_fn_may_take_labels_out_of_its_features(tmp_path, num_cores):
    def input_fn(params):
        return models.train_input_fn(params).map(lambda features, y: {**features, "y": y})

    def model_fn(features, mode, params):
        labels = features.pop("y")
        return models.linear_model()(features, labels, mode, params)

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, model_fn)
        estimator.train(input_fn, steps=2)
    assert_trained(estimator, 2)
