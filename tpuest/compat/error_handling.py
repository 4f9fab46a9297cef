"""`ErrorRendezvous` of `tensorflow_estimator...tpu.error_handling`: which of several threads' errors to raise."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

# What a thread gets when another failed: the other's error says more.
_UNINTERESTING = (tf.errors.CancelledError,)
_IGNORED = (tf.errors.AbortedError, tf.errors.UnavailableError)


class ErrorRendezvous:
    """Collects the errors of several threads; raises the one that tells most."""

    def __init__(self, num_sources: int):
        """Makes an empty one.

        Args:
          num_sources: threads that will report.
        """
        self._errors: dict[str, Any] = {}
        self._num_sources = num_sources

    def record_error(self, source: str, exc_info: Any, session: Any = None) -> None:
        """Notes a thread's error, as `sys.exc_info()` gives it; what a session retries is left out."""
        if not isinstance(exc_info[1], _IGNORED):
            self._errors[source] = exc_info

    def record_done(self, source: str) -> None:
        """Notes that a thread is done."""
        tf.compat.v1.logging.info("%s marked as finished", source)
        self._errors.setdefault(source, None)

    @contextlib.contextmanager
    def catch_errors(self, source: str, session: Any = None) -> Iterator[None]:
        """Notes an error of the block instead of raising it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # Which thread's error is raised is decided later.
            self.record_error(source, (type(error), error, error.__traceback__), session)

    def raise_errors(self, timeout_sec: int = 0) -> None:
        """Raises the most telling error, if there is one.

        Args:
          timeout_sec: seconds to wait for threads that haven't reported.
        """
        deadline = time.monotonic() + timeout_sec
        while len(self._errors) < self._num_sources and time.monotonic() < deadline:
            time.sleep(min(1, timeout_sec))
        kept = [info for info in self._errors.values() if info is not None]
        kept.sort(key=lambda info: isinstance(info[1], _UNINTERESTING))
        for _, value, trace in kept:
            raise value.with_traceback(trace)
