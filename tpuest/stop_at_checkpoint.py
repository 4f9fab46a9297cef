"""Ends a worker's training when the chief has saved the last step: `make_stop_at_checkpoint_step_hook`."""

from __future__ import annotations

import time
from typing import Any

import tensorflow as tf

from tpuest import checkpoint
from tpuest.estimator import Estimator


def make_stop_at_checkpoint_step_hook(
    estimator: Estimator, last_step: int, wait_after_file_check_secs: float = 30
) -> tf.compat.v1.train.SessionRunHook:
    """Makes a hook that ends training at a step.

    In a process that isn't the chief it waits for a checkpoint of that step. The workers of a cluster needn't: they take
    every step together.

    Args:
      estimator: which is trained.
      last_step: the global step to end at.
      wait_after_file_check_secs: seconds to wait after each look for the checkpoint.
    """
    if estimator.config.is_chief or estimator.config.num_worker_replicas > 1:
        return tf.compat.v1.train.StopAtStepHook(last_step=last_step)
    return StopAtCheckpointStep(estimator.model_dir, last_step, wait_after_file_check_secs)


class StopAtCheckpointStep(tf.compat.v1.train.SessionRunHook):
    """Ends training at a step, once a checkpoint of it is there."""

    def __init__(self, model_dir: str, last_step: int, wait_after_file_check_secs: float = 30):
        if last_step is None:
            raise ValueError("last_step must be specified.")
        if model_dir is None:
            raise ValueError("model_dir must be specified.")
        self._model_dir = model_dir
        self._last_step = last_step
        self._wait_after_file_check_secs = wait_after_file_check_secs
        self._global_step: Any = None

    def begin(self) -> None:
        self._global_step = tf.compat.v1.train.get_global_step()
        if self._global_step is None:
            raise RuntimeError("Global step should be created to use StopAtCheckpointStepHook.")

    def before_run(self, run_context: Any) -> Any:
        return tf.compat.v1.train.SessionRunArgs(self._global_step)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        # What it read is the step before the one that ran.
        if run_values.results + 1 < self._last_step:
            return
        if checkpoint.global_step_of(self._model_dir) >= self._last_step:
            run_context.request_stop()
        else:
            time.sleep(self._wait_after_file_check_secs)
