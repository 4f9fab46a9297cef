"""Goes on after a worker was lost: how often, after which wait, and what is said.

Takes the errors by which TensorFlow tells of it; allows another attempt, or raises the first error again:

    worker lost after step 120, checkpoint of step 100:   an attempt, from 100
    lost again before another checkpoint:                 an attempt after a wait, at most TPUEST_RECOVERIES of them
    lost again after the checkpoint of step 200:          as if for the first time, from 200
"""

from __future__ import annotations

import os
import re
import time

import tensorflow as tf

# As MonitoredSession has it. What the user's Python functions raise in an input pipeline comes as UnknownError.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError)
LIMIT_VARIABLE = "TPUEST_RECOVERIES"
_DEFAULT_LIMIT = 5
_LONGEST_WAIT_SECONDS = 60.0
# Of a function's error: it tells its root errors by number.
_HEADING = re.compile(r"Graph execution error|Detected at node|<stack traces|\d+ root error")
_NUMBER = re.compile(r"^\(\d+\) [A-Z_]+:\s*")
# On errors that a call inside another one, such as an evaluation in training, has tried often enough to survive.
_GIVEN_UP = "_tpuest_given_up"


def limit_from_environment() -> int:
    """Tells how many attempts without progress are allowed.

    Raises:
      ValueError: the variable is no number of attempts.
    """
    value = os.environ.get(LIMIT_VARIABLE) or str(_DEFAULT_LIMIT)
    if not value.isdecimal():
        raise ValueError(
            f"{LIMIT_VARIABLE} is {value!r}. It says how often to go on after a lost worker: 0, 1, 2, ..."
        )
    return int(value)


class Recovery:
    """Counts one call's attempts to go on."""

    def __init__(self, limit: int, first_wait_seconds: float = 1.0):
        """Makes the count.

        Args:
          limit: attempts without progress in between.
          first_wait_seconds: before the second attempt; doubled for each further one. The first is made at once.
        """
        self._limit = limit
        self._first_wait_seconds = first_wait_seconds
        self._num_attempts = 0
        self._first_error: BaseException | None = None
        self._step: int | None = None

    def allow(self, error: tf.errors.OpError, start: str, step: int | None = None) -> None:
        """Allows an attempt to go on, after a wait.

        Args:
          error: one of `LOST`.
          start: what the attempt starts from, for people.
          step: the global step it starts from: progress if it is a later one than before; `None` where there is none.

        Raises:
          OpError: there were too many attempts; the error that was the first since there was progress.
        """
        if step is not None and self._step is not None and step > self._step:
            self._num_attempts, self._first_error = 0, None
        self._step = step
        self._first_error = self._first_error or error
        if self._num_attempts >= self._limit or hasattr(error, _GIVEN_UP):
            setattr(self._first_error, _GIVEN_UP, True)
            raise self._first_error
        self._num_attempts += 1
        tf.compat.v1.logging.warning(
            "%s: %s. Going on from %s, attempt %d of %d.",
            type(error).__name__,
            _first_line(error),
            start,
            self._num_attempts,
            self._limit,
        )
        time.sleep(self._seconds_to_wait())

    def _seconds_to_wait(self) -> float:
        if self._num_attempts == 1:
            return 0.0
        return min(self._first_wait_seconds * 2 ** (self._num_attempts - 2), _LONGEST_WAIT_SECONDS)


def _first_line(error: tf.errors.OpError) -> str:
    """Gives the line of a message that says what happened; functions put headings before it."""
    lines = [line.strip() for line in error.message.splitlines() if line.strip()]
    telling = [line for line in lines if not _HEADING.match(line)]
    return _NUMBER.sub("", (telling or lines or ["no message"])[0]).rstrip(".")
