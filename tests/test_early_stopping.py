"""Hooks that end training early."""

import models
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES

import tpuest
from tpuest import early_stopping, reports

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])
NOW = {"run_every_secs": None, "run_every_steps": 1}


def train(estimator, hooks, max_steps=20):
    """Trains; gives the step where it ended."""
    estimator.train(models.train_input_fn, hooks=hooks, max_steps=max_steps)
    return models.checkpoint_steps(estimator.model_dir)[-1]


@pytest.mark.parametrize(
    ("make", "arguments", "stops"),
    [
        (tpuest.stop_if_higher_hook, {"metric_name": "accuracy", "threshold": 0.6}, True),
        (tpuest.stop_if_higher_hook, {"metric_name": "accuracy", "threshold": 0.7}, False),
        (tpuest.stop_if_lower_hook, {"metric_name": "loss", "threshold": 0.45}, True),
        (tpuest.stop_if_lower_hook, {"metric_name": "loss", "threshold": 0.4}, False),
        (
            tpuest.stop_if_lower_hook,
            {"metric_name": "loss", "threshold": 0.45, "min_steps": 4000},
            False,
        ),
        (
            tpuest.stop_if_no_increase_hook,
            {"metric_name": "accuracy", "max_steps_without_increase": 500},
            True,
        ),
        (
            tpuest.stop_if_no_increase_hook,
            {"metric_name": "accuracy", "max_steps_without_increase": 501},
            False,
        ),
        (
            tpuest.stop_if_no_decrease_hook,
            {"metric_name": "loss", "max_steps_without_decrease": 500},
            True,
        ),
        (
            tpuest.stop_if_no_decrease_hook,
            {"metric_name": "loss", "max_steps_without_decrease": 501},
            False,
        ),
    ],
)
def test_a_rule_stops_at_the_results_it_is_for(tmp_path, monkeypatch, make, arguments, stops):
    estimator = models.make_estimator(tmp_path)
    results = [(1000, 0.8, 0.5), (2000, 0.7, 0.6), (3000, 0.4, 0.7), (3500, 0.41, 0.68)]
    for step, loss, accuracy in results:
        reports.write_results(estimator.eval_dir(), {"loss": loss, "accuracy": accuracy}, step)
    rules = []
    monkeypatch.setattr(
        early_stopping, "make_early_stopping_hook", lambda _, rule, *periods: rules.append(rule)
    )
    make(estimator, **arguments)
    assert rules[0]() == stops


def test_results_are_none_where_nothing_was_evaluated(tmp_path):
    assert early_stopping.read_eval_metrics(str(tmp_path / "eval")) == {}


# It asks at steps 0, 5 and 10, as read before the step that runs; on cores at 2, 8 and 14, read after a loop of two.
@pytest.mark.parametrize(("num_cores", "ends_at"), [(CPU, 11), (TWO_CORES, 14)])
def test_training_ends_when_the_function_says_so(tmp_path, num_cores, ends_at):
    calls = []

    def should_stop():
        calls.append(None)
        return len(calls) == 3

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, iterations_per_loop=2)
        hook = tpuest.make_early_stopping_hook(
            estimator, should_stop, run_every_secs=None, run_every_steps=5
        )
        assert train(estimator, [hook]) == ends_at
        assert estimator.get_variable_value("signal_early_stopping/STOP")
        # The next training has neither the hook nor its variable.
        assert train(estimator, []) == 20
        assert "signal_early_stopping/STOP" not in estimator.get_variable_names()


def test_by_the_clock_it_asks_at_the_first_step(tmp_path):
    estimator = models.make_estimator(tmp_path)
    assert train(estimator, [tpuest.make_early_stopping_hook(estimator, lambda: True)]) == 1


def test_train_and_evaluate_ends_when_a_metric_is_good(tmp_path):
    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=2)
    hook = tpuest.stop_if_lower_hook(estimator, "loss", 3.0, **NOW)
    train_spec = tpuest.TrainSpec(models.train_input_fn, max_steps=50, hooks=[hook])
    eval_spec = tpuest.EvalSpec(models.one_epoch_input_fn, steps=5, throttle_secs=0)
    metrics, _ = tpuest.train_and_evaluate(estimator, train_spec, eval_spec)
    assert metrics["global_step"] < 50
    losses = models.read_scalars(estimator.eval_dir(), "loss")
    assert [loss < 3 for loss in losses.values()] == [False] * (len(losses) - 1) + [True]


def test_a_worker_ends_when_the_chief_says_so():
    with tf.Graph().as_default():
        hook = early_stopping.CheckForStopping()
        stop = tf.assign(early_stopping.get_or_create_stop_variable(), True)
        nothing = tf.no_op()
        with tf.train.SingularMonitoredSession([hook]) as session:
            session.run(nothing)
            assert not session.should_stop()
            session.raw_session().run(stop)
            session.run(nothing)
            assert session.should_stop()


def test_both_periods_or_another_estimator_are_refused(tmp_path):
    with pytest.raises(TypeError, match="`estimator` must have type"):
        tpuest.make_early_stopping_hook(object(), lambda: True)
    with pytest.raises(ValueError, match="Only one of `run_every_secs` and `run_every_steps`"):
        tpuest.make_early_stopping_hook(
            models.make_estimator(tmp_path), lambda: True, run_every_steps=3
        )


def test_a_chief_stops_at_a_step_and_a_worker_at_its_checkpoint(tmp_path, monkeypatch):
    estimator = models.make_estimator(tmp_path)
    hook = tpuest.make_stop_at_checkpoint_step_hook(estimator, 3)
    assert isinstance(hook, tf.train.StopAtStepHook)
    monkeypatch.setattr(type(estimator.config), "is_chief", False)
    hook = tpuest.make_stop_at_checkpoint_step_hook(estimator, 3, wait_after_file_check_secs=0)
    monkeypatch.undo()
    trained_on = train(models.make_estimator(tmp_path), [], max_steps=4)
    assert trained_on == 4
    assert train(estimator, [hook]) == 5
