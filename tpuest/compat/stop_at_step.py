"""`_TPUStopAtStepHook` of `tensorflow_estimator...tpu_estimator`: ends training, and sets the length of loops.

The engine has its own way; programs with sessions of their own use this hook.
"""

from __future__ import annotations

import time
from typing import Any

import tensorflow as tf

from tpuest.compat.iteration_count import IterationCountEstimator

_v1 = tf.compat.v1
_COLLECTION = "tpu_estimator_iterations_per_loop"
_NAME = "iterations_per_loop"


class TPUStopAtStepHook(_v1.train.SessionRunHook):
    """Requests a stop at a step; before, writes the number of steps of the next loop into a variable."""

    def __init__(
        self,
        iterations_per_loop_counter: Any,
        num_steps: int | None = None,
        final_step: int | None = None,
    ):
        """Makes the hook.

        Args:
          iterations_per_loop_counter: `value` and `unit`, 'count' or 'seconds'.
          num_steps: how many steps to run.
          final_step: the step to end at.

        Raises:
          ValueError: none or both of the last two are given, or the unit is another.
        """
        if num_steps is None and final_step is None:
            raise ValueError("One of `num_steps` or `final_step` must be specified.")
        if num_steps is not None and final_step is not None:
            raise ValueError("Only one of `num_steps` or `final_step` can be specified.")
        if iterations_per_loop_counter.unit not in ("seconds", "count"):
            raise ValueError(
                "Only `count` or `seconds` are accepted as the `iterations_per_loop_counter.unit"
            )
        self._iterations_per_loop_counter = iterations_per_loop_counter
        self._num_steps = num_steps
        self._final_step = final_step
        self._next_iteration_count = 1
        is_timed = iterations_per_loop_counter.unit == "seconds"
        self._iteration_count_estimator = IterationCountEstimator() if is_timed else None
        self._start_time = time.time()

    def begin(self) -> None:
        self._global_step_tensor = _v1.train.get_global_step()
        if self._global_step_tensor is None:
            raise RuntimeError("Global step should be created.")
        self._iterations_per_loop_var = _iterations_per_loop_variable()

    def after_create_session(self, session: Any, coord: Any) -> None:
        global_step = session.run(self._global_step_tensor)
        if self._final_step is None:
            self._final_step = global_step + self._num_steps
        self._write_next_iterations(global_step, session)

    def before_run(self, run_context: Any) -> None:
        self._start_time = time.time()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if self._iteration_count_estimator is not None:
            elapsed_seconds = time.time() - self._start_time
            self._iteration_count_estimator.update(elapsed_seconds, self._next_iteration_count)
        global_step = run_context.session.run(self._global_step_tensor)
        if global_step >= self._final_step:
            run_context.request_stop()
        else:
            self._write_next_iterations(global_step, run_context.session)

    def _write_next_iterations(self, global_step: int, session: Any) -> None:
        setting = self._iterations_per_loop_counter.value
        if self._iteration_count_estimator is not None:
            setting = self._iteration_count_estimator.get(setting)
        self._next_iteration_count = min(self._final_step - global_step, setting)
        self._iterations_per_loop_var.load(self._next_iteration_count, session=session)


def _iterations_per_loop_variable() -> Any:
    found = _v1.get_collection(_COLLECTION)
    if found:
        return found[0]
    with _v1.variable_scope("tpu_estimator", reuse=_v1.AUTO_REUSE):
        return _v1.get_variable(
            _NAME,
            initializer=_v1.zeros_initializer(),
            shape=[],
            dtype=tf.int32,
            trainable=False,
            collections=[_COLLECTION, _v1.GraphKeys.LOCAL_VARIABLES],
            use_resource=True,
        )
