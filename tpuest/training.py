"""`train_and_evaluate`: trains, evaluates each checkpoint and exports, in the role that TF_CONFIG gives this process.

Takes an estimator, a `TrainSpec` and an `EvalSpec`; works through the estimator's public methods only.

    alone, or master   train; after each checkpoint: evaluate, export
    chief, worker      train
    evaluator          until the last step is evaluated: wait for a checkpoint, evaluate, export

The names of `tensorflow_estimator.python.estimator.training` that programs extend are here as they were there.
"""

from __future__ import annotations

import collections
import os
import time
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tpuest import _tf, topology
from tpuest.errors import UnsupportedError
from tpuest.estimator import Estimator
from tpuest.run_config import TaskType
from tpuest.training_specs import EvalSpec, TrainSpec, checked_hooks

_GLOBAL_STEP = tf.compat.v1.GraphKeys.GLOBAL_STEP
# A process that waits for a checkpoint says so this often.
_SECONDS_PER_WARNING = 600


def train_and_evaluate(
    estimator: Estimator, train_spec: TrainSpec, eval_spec: EvalSpec
) -> tuple[dict[str, Any] | None, list | None] | None:
    """Trains to `train_spec.max_steps`, evaluates and exports on the way.

    A process alone evaluates after each checkpoint (`RunConfig.save_checkpoints_steps`), `eval_spec.throttle_secs`
    apart at least, and once more at the end. In a cluster of TF_CONFIG each process does what its task says.

    Args:
      estimator: to train and evaluate.
      train_spec: how to train.
      eval_spec: how to evaluate and export.

    Returns:
      The last evaluation's result and what its exporters gave; `None` in a cluster.

    Raises:
      ValueError: the task in TF_CONFIG has no meaning, or checkpoints are switched off.
      TypeError: an argument is of the wrong type.
      UnsupportedError: this process is a parameter server.
    """
    _check_eval_spec(eval_spec)
    executor = _TrainingExecutor(estimator=estimator, train_spec=train_spec, eval_spec=eval_spec)
    config = estimator.config
    if config.task_type == TaskType.EVALUATOR and config.task_id > 0:
        raise ValueError(
            "For distributed training, there can only be one `evaluator` task (with task id 0).  "
            f"Given task id {config.task_id}"
        )
    return executor.run()


class _TrainingExecutor:
    """Does what one task of a cluster does: `run_chief`, `run_worker` ... `run_local` is the process alone."""

    def __init__(
        self,
        estimator: Estimator,
        train_spec: TrainSpec,
        eval_spec: EvalSpec | None,
        train_hooks: Iterable | None = None,
        continuous_eval_listener: _ContinuousEvalListener | None = None,
    ):
        """Makes an executor.

        Args:
          estimator: to train and evaluate.
          train_spec: how to train.
          eval_spec: how to evaluate; `None` for a task that only trains.
          train_hooks: hooks besides those of `train_spec`.
          continuous_eval_listener: called before and after each evaluation.

        Raises:
          TypeError: an argument is of the wrong type.
        """
        if not isinstance(estimator, Estimator):
            raise TypeError(
                f"`estimator` must have type `tf.estimator.Estimator`. Got: {type(estimator)}"
            )
        if not isinstance(train_spec, TrainSpec):
            raise TypeError(
                f"`train_spec` must have type `tf.estimator.TrainSpec`. Got: {type(train_spec)}"
            )
        if eval_spec and not isinstance(eval_spec, EvalSpec):
            raise TypeError(
                "`eval_spec` must be either `None` or have type `tf.estimator.EvalSpec`. "
                f"Got: {type(eval_spec)}"
            )
        listener = continuous_eval_listener
        if listener and not isinstance(listener, _ContinuousEvalListener):
            raise TypeError("`continuous_eval_listener` must have type `_ContinuousEvalListener`.")
        self._estimator = estimator
        self._train_spec = train_spec
        self._eval_spec = eval_spec
        self._train_hooks = checked_hooks(train_hooks)
        self._listener = listener or _ContinuousEvalListener()

    @property
    def estimator(self) -> Estimator:
        return self._estimator

    def run(self) -> Any:
        """Does what the configuration's task does.

        Raises:
          ValueError: there is no such task.
        """
        config = self._estimator.config
        if not config.cluster_spec and config.task_type != TaskType.EVALUATOR:
            tf.compat.v1.logging.info("Running training and evaluation locally (non-distributed).")
            return self.run_local()
        if not config.task_type:
            raise ValueError(
                "`estimator.config` must have task_type set. This usually means TF_CONFIG environment is not set "
                "correctly."
            )
        if config.task_type == "local":
            raise ValueError(
                "`task.type` in TF_CONFIG cannot be `local`. Leaving `cluster` and `task` properties in TF_CONFIG "
                "absent triggers train and evaluate `Estimator` locally (non-distributed)."
            )
        run = getattr(self, "run_" + config.task_type, None)
        if not callable(run):
            raise ValueError(
                f"Task type {config.task_type} is not supported. Supported task types are {self._tasks()}"
            )
        run()
        return None

    def run_local(self) -> tuple[dict[str, Any] | None, list | None]:
        """Trains, and evaluates after each checkpoint."""
        config = self._estimator.config
        tf.compat.v1.logging.info(
            "Start train and evaluate loop. The evaluate will happen after every checkpoint. Checkpoint frequency is "
            "determined based on RunConfig arguments: save_checkpoints_steps %s or save_checkpoints_secs %s.",
            config.save_checkpoints_steps,
            config.save_checkpoints_secs,
        )
        evaluating = self._evaluation_after_checkpoints(self._listener)
        self._train((*self._train_spec.saving_listeners, evaluating))
        result = evaluating.eval_result or _EvalResult(_EvalStatus.MISSING_CHECKPOINT)
        return result.metrics, evaluating.export_results

    def run_chief(self) -> None:
        """Trains, and saves checkpoints."""
        _check_cluster(self._estimator.config)
        self._train(self._train_spec.saving_listeners)

    def run_worker(self) -> None:
        """Trains; the chief saves."""
        _check_cluster(self._estimator.config)
        self._train(None)

    def run_master(self) -> None:
        """Trains as a chief, and evaluates after each checkpoint."""
        evaluating = self._evaluation_after_checkpoints(_ContinuousEvalListener())
        _check_cluster(self._estimator.config)
        if topology.is_multi_worker(self._estimator.config.eval_distribute):
            raise UnsupportedError(
                "eval_distribute over several workers where a master evaluates while they train",
                "Leave it out: the master then evaluates alone.",
            )
        self._train((*self._train_spec.saving_listeners, evaluating))

    def run_ps(self) -> None:
        """Refuses: no process serves parameters.

        Raises:
          RuntimeError: the configuration names no cluster and task.
          UnsupportedError: otherwise.
        """
        _check_cluster(self._estimator.config)
        raise UnsupportedError(
            "The task 'ps' of TF_CONFIG",
            "Leave parameter servers out of the cluster: the workers sum their gradients among themselves.",
        )

    def run_evaluator(self) -> None:
        """Evaluates new checkpoints until the last one of training."""
        _check_eval_spec(self._eval_spec)
        _sleep(self._eval_spec.start_delay_secs, "Waiting %f secs before starting eval.")
        evaluator = _Evaluator(self._estimator, self._eval_spec, self._train_spec.max_steps)
        goes_on = True
        while goes_on and not evaluator.is_final_export_triggered:
            goes_on = self._evaluate_once(evaluator)

    def _tasks(self) -> list[str]:
        names = [name.removeprefix("run_") for name in dir(self) if name.startswith("run_")]
        return [
            name for name in names if name != "local" and callable(getattr(self, "run_" + name))
        ]

    def _train(self, saving_listeners: Iterable | None) -> None:
        self._estimator.train(
            input_fn=self._train_spec.input_fn,
            max_steps=self._train_spec.max_steps,
            hooks=[*self._train_spec.hooks, *self._train_hooks],
            saving_listeners=saving_listeners,
        )

    def _evaluation_after_checkpoints(self, listener: _ContinuousEvalListener) -> Any:
        _check_eval_spec(self._eval_spec)
        evaluator = _Evaluator(self._estimator, self._eval_spec, self._train_spec.max_steps)
        return _NewCheckpointListenerForEvaluate(evaluator, self._eval_spec.throttle_secs, listener)

    def _evaluate_once(self, evaluator: _Evaluator) -> bool:
        """Evaluates if there is a new checkpoint and waits for the next one's time; says whether to go on."""
        start = time.time()
        if not self._listener.before_eval():
            _log_exit("evaluation", "before_eval")
            return False
        result, _ = evaluator.evaluate_and_export()
        if not self._listener.after_eval(result):
            _log_exit("evaluation", "after_eval")
            return False
        throttle = self._eval_spec.throttle_secs
        _sleep(throttle - (time.time() - start), "Waiting %f secs before starting next eval run.")
        if throttle == 0 and result.status != _EvalStatus.EVALUATED:
            tf.compat.v1.logging.warning(
                "EvalSpec.throttle_secs is set as 0. This might overload the job before finding (next) new checkpoint. "
                "Please consider to increase it."
            )
        return True


class _Evaluator:
    """Evaluates the newest checkpoint, once, and exports it."""

    def __init__(self, estimator: Estimator, eval_spec: EvalSpec, max_training_steps: int | None):
        self._estimator = estimator
        self._eval_spec = eval_spec
        self._max_training_steps = max_training_steps
        self._previous_path: str | None = None
        self._last_warning_time = 0.0
        self.is_final_export_triggered = False

    def evaluate_and_export(self) -> tuple[_EvalResult, list]:
        """Evaluates and exports if there is a checkpoint that it hasn't seen.

        Returns:
          What came of it, and what the exporters gave.

        Raises:
          ValueError: the estimator's `evaluate` gave no global step.
          TypeError: it didn't give a dict.
        """
        path = self._estimator.latest_checkpoint()
        if not path:
            self._warn(
                "Estimator is not trained yet. Will start an evaluation when a checkpoint is ready."
            )
            return _EvalResult(_EvalStatus.MISSING_CHECKPOINT), []
        if path == self._previous_path:
            self._warn(
                "No new checkpoint ready for evaluation. Skip the current evaluation pass as evaluation results are "
                "expected to be same for the same checkpoint."
            )
            return _EvalResult(_EvalStatus.NO_NEW_CHECKPOINT), []
        metrics = self._estimator.evaluate(
            input_fn=self._eval_spec.input_fn,
            steps=self._eval_spec.steps,
            name=self._eval_spec.name,
            checkpoint_path=path,
            hooks=self._eval_spec.hooks,
        )
        result = _EvalResult(_EvalStatus.EVALUATED, metrics, path)
        last_step = self._max_training_steps
        is_final = bool(last_step) and result.metrics[_GLOBAL_STEP] >= last_step
        exported = self._export(result, is_final)
        self.is_final_export_triggered = self.is_final_export_triggered or is_final
        self._last_warning_time = 0.0
        self._previous_path = path
        return result, exported

    def _export(self, result: _EvalResult, is_the_final_export: bool) -> list:
        directory = os.path.join(tf.compat.as_str_any(self._estimator.model_dir), "export")
        return [
            exporter.export(
                estimator=self._estimator,
                export_path=os.path.join(directory, tf.compat.as_str_any(exporter.name)),
                checkpoint_path=result.checkpoint_path,
                eval_result=result.metrics,
                is_the_final_export=is_the_final_export,
            )
            for exporter in self._eval_spec.exporters
        ]

    def _warn(self, message: str) -> None:
        now = time.time()
        if now - self._last_warning_time > _SECONDS_PER_WARNING:
            tf.compat.v1.logging.warning(message)
            self._last_warning_time = now


class _NewCheckpointListenerForEvaluate(tf.compat.v1.train.CheckpointSaverListener):
    """Evaluates after each checkpoint, `eval_throttle_secs` apart at least, and at the end.

    Attributes:
      eval_result: of the last evaluation; `None` before.
      export_results: what its exporters gave.
    """

    def __init__(
        self,
        evaluator: _Evaluator,
        eval_throttle_secs: float,
        continuous_eval_listener: _ContinuousEvalListener,
    ):
        self._evaluator = evaluator
        self._eval_throttle_secs = eval_throttle_secs
        self._listener = continuous_eval_listener
        self._timer: Any = None
        self._is_first = True
        self.eval_result: _EvalResult | None = None
        self.export_results: list | None = None

    def begin(self) -> None:
        timer = _tf.basic_session_run_hooks.SecondOrStepTimer
        self._timer = timer(every_secs=self._eval_throttle_secs)
        self._is_first = True

    def after_save(self, session: Any, global_step_value: int) -> bool | None:
        """Evaluates, except after the first save of a training: nothing is trained yet.

        Returns:
          True to end training.
        """
        if self._is_first:
            self._is_first = False
            return None
        if not self._listener.before_eval():
            _log_exit("training and evaluation loop", "before_eval")
            return True
        if not self._timer.should_trigger_for_step(global_step_value):
            tf.compat.v1.logging.info(
                "Skip the current checkpoint eval due to throttle secs (%s secs).",
                self._eval_throttle_secs,
            )
            return None
        self._evaluate(global_step_value)
        if not self._listener.after_eval(self.eval_result):
            _log_exit("evaluation", "after_eval")
            return True
        return None

    def end(self, session: Any, global_step_value: int) -> None:
        if global_step_value == self._timer.last_triggered_step():
            return
        if self._listener.before_eval():
            self._evaluate(global_step_value)
            self._listener.after_eval(self.eval_result)

    def _evaluate(self, global_step: int) -> None:
        self._timer.update_last_triggered_step(global_step)
        self.eval_result, self.export_results = self._evaluator.evaluate_and_export()
        if self.eval_result.status != _EvalStatus.EVALUATED:
            raise RuntimeError(
                "There was no new checkpoint after the training. "
                f"Eval status: {self.eval_result.status}"
            )


class _ContinuousEvalListener:
    """Is called around the evaluations of an executor; each method may end them by `False`."""

    def before_eval(self) -> bool:
        return True

    def after_eval(self, eval_result: _EvalResult) -> bool:
        return True


class _EvalStatus:
    """What came of an evaluation."""

    EVALUATED = "evaluated"
    MISSING_CHECKPOINT = "missing checkpoint"
    NO_NEW_CHECKPOINT = "no new checkpoint"


class _EvalResult(collections.namedtuple("EvalResult", ["status", "metrics", "checkpoint_path"])):
    """What came of an evaluation; metrics and the checkpoint's path where there was one."""

    __slots__ = ()

    def __new__(
        cls, status: str, metrics: dict[str, Any] | None = None, checkpoint_path: str | None = None
    ):
        if status == _EvalStatus.EVALUATED:
            _check_evaluated(metrics, checkpoint_path)
        elif metrics or checkpoint_path:
            raise ValueError(
                f"metrics and checkpoint_path must be `None` if status is not {_EvalStatus.EVALUATED}; got status "
                f"{status}, metrics {metrics}, checkpoint_path {checkpoint_path}"
            )
        return super().__new__(cls, status, metrics, checkpoint_path)


def _check_evaluated(metrics: Any, checkpoint_path: Any) -> None:
    if not metrics:
        raise ValueError("Internal error: `Estimator.evaluate` should never return empty metrics.")
    if not isinstance(metrics, dict):
        raise TypeError(f"`Estimator.evaluate` should return dict. Given {type(metrics)}.")
    if _GLOBAL_STEP not in metrics:
        raise ValueError(
            "Internal error: `Estimator.evaluate` result should have `global_step` in result. "
            f"Given {metrics}"
        )
    if not checkpoint_path:
        raise ValueError("Internal error: `checkpoint_path` should never be empty.")


class _StopAtSecsHook(tf.compat.v1.train.SessionRunHook):
    """Ends training so many seconds after it began."""

    def __init__(self, stop_after_secs: float):
        self._stop_after_secs = stop_after_secs
        self._start_time = 0.0

    def begin(self) -> None:
        self._start_time = time.time()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if time.time() - self._start_time >= self._stop_after_secs:
            run_context.request_stop()


def _check_cluster(config: Any) -> None:
    """Refuses a task that doesn't know its cluster.

    Raises:
      RuntimeError: something is missing; in the words of the original, whose tasks ran servers.
    """
    if not config.cluster_spec or not config.task_type or config.task_id is None:
        raise RuntimeError(
            "Could not start server; be sure to specify cluster_spec, task_type, and task in RunConfig or set the "
            "TF_CONFIG environment variable."
        )
    tasks = config.cluster_spec.as_dict()
    is_alone = sum(len(addresses) for addresses in tasks.values()) == 1
    if not config.master and (not is_alone or config.task_type == TaskType.PS):
        raise RuntimeError(
            "Could not start server; be sure to specify master in RunConfig or set the TF_CONFIG environment variable."
        )


def _check_eval_spec(eval_spec: Any) -> None:
    if not isinstance(eval_spec, EvalSpec):
        raise TypeError(
            f"`eval_spec` must have type `tf.estimator.EvalSpec`. Got: {type(eval_spec)}"
        )


def _sleep(seconds: float, message: str) -> None:
    if seconds > 0:
        tf.compat.v1.logging.info(message, seconds)
        time.sleep(seconds)


def _log_exit(what: str, method: str) -> None:
    tf.compat.v1.logging.info(
        "Exiting %s, as requested by _ContinuousEvalListener.%s.", what, method
    )
