"""Small parts of `tensorflow_estimator...tpu.util` and constants that programs and tests name."""

from __future__ import annotations

import collections
import numbers
import sys
from typing import Any

from tpuest import config

DEFAULT_JOB_NAME = "tpu_worker"
DEFAULT_COORDINATOR_JOB_NAME = "coordinator"
LOCAL_MASTER = ""
SERVICE_KEY = "service"
TPU_WORKER_JOB_NAME = "tpu_worker_job_name"
TPU_REPLICATE_ATTRIBUTE = "_tpu_replicate"
# Programs of the time set it in the original's module; the engine has no infeed loop to wrap.
WRAPS_INPUT_INTO_LOOP = False
_WHERE_IT_IS_SET = (
    "tensorflow_estimator.python.estimator.tpu.tpu_estimator",
    "_WRAP_INPUT_FN_INTO_WHILE_LOOP",
)

IterationsPerLoopCounter = collections.namedtuple("IterationsPerLoopCounter", ["value", "unit"])


def wraps_input_into_loop() -> bool:
    """Says whether the program wants `input_fn` in a loop of the graph, in which queues don't work."""
    module, name = _WHERE_IT_IS_SET
    return vars(sys.modules.get(module, object)).get(name, WRAPS_INPUT_INTO_LOOP)


def parse_iterations_per_loop(iterations_per_loop: int | str) -> IterationsPerLoopCounter:
    """Reads a number of steps or a duration."""
    parsed = config.parse_iterations_per_loop(iterations_per_loop)
    return IterationsPerLoopCounter(parsed.value, parsed.unit)


def check_positive_integer(value: Any, name: str) -> None:
    """Raises TypeError for what is no integer, ValueError for what isn't positive."""
    if not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be int, got {type(value)}")
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value}")


def check_positive_integer_or_none(value: Any, name: str) -> None:
    """Checks a value that may be `None`."""
    if value is not None:
        check_positive_integer(value, name)
