"""`IterationCountEstimator` of `tensorflow_estimator...tpu`: how many steps fit into a duration."""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np
import tensorflow as tf

_STABLE_DEVIATION_SECONDS = 0.03


class RuntimeCounter(NamedTuple):
    """One measured loop."""

    runtime_secs: float
    steps: int
    step_time_secs: float


class IterationCountEstimator:
    """Learns from measured loops how many steps to run in a given time."""

    def __init__(self, capacity: int = 20):
        """Makes one without samples.

        Args:
          capacity: how many loops to remember.

        Raises:
          ValueError: `capacity` isn't positive.
        """
        self._reset(capacity)

    def _reset(self, capacity: int = 20) -> None:
        if capacity <= 0:
            raise ValueError(
                f"IterationCountEstimator `capacity` must be positive. Actual:{capacity}."
            )
        self._buffer_wheel: collections.deque[RuntimeCounter] = collections.deque(maxlen=capacity)
        self._capacity = capacity
        self._min_iterations = 1
        self._last_iterations: float = self._min_iterations
        self._sample_count = 0

    def _mean_runtime_secs(self) -> float:
        return self._mean("runtime_secs")

    def _mean_step_time_secs(self) -> float:
        return self._mean("step_time_secs")

    def _mean(self, field: str) -> float:
        values = [getattr(sample, field) for sample in self._buffer_wheel]
        return float(np.mean(values)) if values else 0

    def _std_step_time_secs(self) -> float:
        values = [sample.step_time_secs for sample in self._buffer_wheel]
        return float(np.std(values)) if values else 0

    def _diff_less_than_percentage(self, actual: float, target: float, percentage: float) -> bool:
        if actual == 0:
            raise ValueError("Invalid `actual` value. Value must not be zero.")
        if target == 0:
            raise ValueError("Invalid `target` value. Value must not be zero.")
        return abs(target - actual) / target <= percentage * 0.01

    def _is_step_time_stable(self) -> bool:
        is_steady = self._std_step_time_secs() < _STABLE_DEVIATION_SECONDS
        return is_steady and self._sample_count > self._capacity

    def update(self, runtime_secs: float, count: int) -> None:
        """Learns from a loop of `count` steps; nonsense is left out."""
        if runtime_secs <= 0 or count <= 0:
            tf.compat.v1.logging.debug("Invalid sample: %d steps in %.3f s.", count, runtime_secs)
            return
        self._buffer_wheel.append(RuntimeCounter(runtime_secs, count, runtime_secs / count))
        self._sample_count += 1

    def get(self, total_secs: float) -> int:
        """Gives how many steps to run; stays with the last answer while it fits.

        Raises:
          ValueError: `total_secs` isn't positive.
        """
        if total_secs <= 0:
            raise ValueError(
                f"Invalid `total_secs`. It must be positive number. Actual:{total_secs}"
            )
        if not self._buffer_wheel:
            return self._min_iterations
        is_near = self._diff_less_than_percentage(
            self._buffer_wheel[-1].runtime_secs, total_secs, 10
        ) or self._diff_less_than_percentage(self._mean_runtime_secs(), total_secs, 5)
        if not (is_near and self._is_step_time_stable()):
            self._last_iterations = total_secs / self._mean_step_time_secs()
        self._last_iterations = max(self._last_iterations, self._min_iterations)
        return int(self._last_iterations + 0.5)
