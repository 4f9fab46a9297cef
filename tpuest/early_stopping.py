"""Hooks that end training early: when a metric of an evaluation says so, or a function of the user's.

Takes an estimator and the rule; gives a hook for `train` or `TrainSpec`. A chief asks the rule and tells the other
workers through a variable of the model.

    hook = stop_if_no_decrease_hook(estimator, "loss", max_steps_without_decrease=1000)
    train_and_evaluate(estimator, TrainSpec(input_fn, hooks=[hook]), eval_spec)
"""

from __future__ import annotations

import collections
import operator
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest import reports
from tpuest.estimator import Estimator

_EVENT_FILES = "*.tfevents.*"


def make_early_stopping_hook(
    estimator: Estimator,
    should_stop_fn: Callable[[], bool],
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> tf.compat.v1.train.SessionRunHook:
    """Makes a hook that ends training when a function says so.

    Args:
      estimator: which is trained.
      should_stop_fn: takes nothing, says whether to stop.
      run_every_secs: seconds between two calls of it; `None` where steps are given.
      run_every_steps: steps between two calls of it.

    Raises:
      TypeError: `estimator` is none.
      ValueError: both periods are given, or none.
    """
    if not isinstance(estimator, Estimator):
        raise TypeError(
            f"`estimator` must have type `tf.estimator.Estimator`. Got: {type(estimator)}"
        )
    if run_every_secs is not None and run_every_steps is not None:
        raise ValueError("Only one of `run_every_secs` and `run_every_steps` must be set.")
    if estimator.config.is_chief:
        return StopOnPredicate(should_stop_fn, run_every_secs, run_every_steps)
    return CheckForStopping()


def stop_if_higher_hook(
    estimator: Estimator,
    metric_name: str,
    threshold: float,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> tf.compat.v1.train.SessionRunHook:
    """Makes a hook that ends training when a metric is higher than a threshold.

    Args:
      estimator: which is trained.
      metric_name: "loss", "accuracy" or another name that `evaluate` gives.
      threshold: of the metric.
      eval_dir: the directory of the evaluations' results; `None` is `estimator.eval_dir()`.
      min_steps: results of a smaller global step don't count.
      run_every_secs: see `make_early_stopping_hook`.
      run_every_steps: see there.

    Raises:
      TypeError: see `make_early_stopping_hook`.
      ValueError: see there.
    """
    rule = _Threshold(metric_name, threshold, operator.gt, "greater than")
    return _metric_hook(estimator, rule, eval_dir, min_steps, run_every_secs, run_every_steps)


def stop_if_lower_hook(
    estimator: Estimator,
    metric_name: str,
    threshold: float,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> tf.compat.v1.train.SessionRunHook:
    """Makes a hook that ends training when a metric is lower than a threshold; see `stop_if_higher_hook`."""
    rule = _Threshold(metric_name, threshold, operator.lt, "less than")
    return _metric_hook(estimator, rule, eval_dir, min_steps, run_every_secs, run_every_steps)


def stop_if_no_increase_hook(
    estimator: Estimator,
    metric_name: str,
    max_steps_without_increase: int,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> tf.compat.v1.train.SessionRunHook:
    """Makes a hook that ends training when a metric has not increased for so many steps.

    Args:
      estimator: see `stop_if_higher_hook`.
      metric_name: see there.
      max_steps_without_increase: global steps from the best result to the last one.
      eval_dir: see there.
      min_steps: see there.
      run_every_secs: see `make_early_stopping_hook`.
      run_every_steps: see there.

    Raises:
      TypeError: see `make_early_stopping_hook`.
      ValueError: see there.
    """
    rule = _Improvement(metric_name, max_steps_without_increase, operator.gt, "increase")
    return _metric_hook(estimator, rule, eval_dir, min_steps, run_every_secs, run_every_steps)


def stop_if_no_decrease_hook(
    estimator: Estimator,
    metric_name: str,
    max_steps_without_decrease: int,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> tf.compat.v1.train.SessionRunHook:
    """Makes a hook that ends training when a metric has not decreased; see `stop_if_no_increase_hook`."""
    rule = _Improvement(metric_name, max_steps_without_decrease, operator.lt, "decrease")
    return _metric_hook(estimator, rule, eval_dir, min_steps, run_every_secs, run_every_steps)


def read_eval_metrics(eval_dir: str) -> dict[int, dict[str, float]]:
    """Reads the results of evaluations from their event files.

    Returns:
      Global step to metric name to value, in the order of steps; empty if there is no such directory.
    """
    metrics = collections.defaultdict(dict)
    if tf.io.gfile.exists(eval_dir):
        for step, results in reports.read_results(os.path.join(eval_dir, _EVENT_FILES)):
            metrics[step].update(results)
    return collections.OrderedDict(sorted(metrics.items()))


class _Threshold:
    """Stops at the first result beyond a threshold."""

    def __init__(self, metric_name: str, threshold: float, is_beyond: Callable, words: str):
        self._metric_name = metric_name
        self._threshold = threshold
        self._is_beyond = is_beyond
        self._words = words

    def should_stop(self, results: dict[int, dict[str, float]]) -> bool:
        for step, metrics in results.items():
            value = metrics[self._metric_name]
            if self._is_beyond(value, self._threshold):
                tf.compat.v1.logging.info(
                    'At step %s, metric "%s" has value %s which is %s the configured threshold (%s) for early '
                    "stopping.",
                    step,
                    self._metric_name,
                    value,
                    self._words,
                    self._threshold,
                )
                return True
        return False


class _Improvement:
    """Stops when the best result is too many steps ago."""

    def __init__(self, metric_name: str, max_steps: int, is_better: Callable, words: str):
        self._metric_name = metric_name
        self._max_steps = max_steps
        self._is_better = is_better
        self._words = words

    def should_stop(self, results: dict[int, dict[str, float]]) -> bool:
        best, best_step = None, None
        for step, metrics in results.items():
            value = metrics[self._metric_name]
            if best is None or self._is_better(value, best):
                best, best_step = value, step
            if step - best_step >= self._max_steps:
                tf.compat.v1.logging.info(
                    'No %s in metric "%s" for %s steps, which is greater than or equal to max steps (%s) configured for '
                    "early stopping.",
                    self._words,
                    self._metric_name,
                    step - best_step,
                    self._max_steps,
                )
                return True
        return False


def _metric_hook(estimator, rule, eval_dir, min_steps, run_every_secs, run_every_steps):
    if eval_dir is None:
        eval_dir = estimator.eval_dir()

    def should_stop() -> bool:
        results = read_eval_metrics(eval_dir)
        return rule.should_stop({step: r for step, r in results.items() if step >= min_steps})

    return make_early_stopping_hook(estimator, should_stop, run_every_secs, run_every_steps)


def get_or_create_stop_variable() -> tf.Variable:
    """Gives the variable by which the chief tells the others to stop: bool scalar, saved with the model."""
    with tf.compat.v1.variable_scope("signal_early_stopping", reuse=tf.compat.v1.AUTO_REUSE):
        return tf.compat.v1.get_variable(
            "STOP",
            [],
            tf.bool,
            tf.compat.v1.initializers.constant(False),
            collections=[tf.compat.v1.GraphKeys.GLOBAL_VARIABLES],
            trainable=False,
        )


class StopOnPredicate(tf.compat.v1.train.SessionRunHook):
    """Ends training when a function says so, and tells the other workers."""

    def __init__(
        self,
        should_stop_fn: Callable[[], bool],
        run_every_secs: float | None = 60,
        run_every_steps: int | None = None,
    ):
        if not callable(should_stop_fn):
            raise TypeError("`should_stop_fn` must be callable.")
        self._should_stop_fn = should_stop_fn
        self._run_every_steps = run_every_steps
        self._timer = tf.compat.v1.train.SecondOrStepTimer(
            every_secs=run_every_secs, every_steps=run_every_steps
        )
        self._global_step: Any = None
        self._stop_var: Any = None
        self._stop: Any = None

    def begin(self) -> None:
        self._global_step = tf.compat.v1.train.get_global_step()
        self._stop_var = get_or_create_stop_variable()
        self._stop = tf.compat.v1.assign(self._stop_var, True)

    def before_run(self, run_context: Any) -> Any:
        return tf.compat.v1.train.SessionRunArgs(self._global_step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step = run_values.results
        if not self._timer.should_trigger_for_step(step):
            return
        self._timer.update_last_triggered_step(step)
        if self._should_stop_fn():
            tf.compat.v1.logging.info("Requesting early stopping at global step %d", step)
            run_context.session.run(self._stop)
            run_context.request_stop()

    def steps_until_due(self, global_step: int) -> int | None:
        """Tells after how many steps to ask again; see `hooks.steps_until_due`."""
        last = self._timer.last_triggered_step()
        if last is None:
            return 1
        # The step it sees is that before the last one run.
        every = self._run_every_steps
        return None if every is None else int(last) + every - global_step + 1


class CheckForStopping(tf.compat.v1.train.SessionRunHook):
    """Ends training when the chief has said so."""

    def __init__(self):
        self._stop_var: Any = None

    def begin(self) -> None:
        self._stop_var = get_or_create_stop_variable()

    def before_run(self, run_context: Any) -> Any:
        return tf.compat.v1.train.SessionRunArgs(self._stop_var)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if run_values.results:
            tf.compat.v1.logging.info("Early stopping requested, suspending run.")
            run_context.request_stop()
