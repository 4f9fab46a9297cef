"""`tf.contrib.tfprof.ProfileContext`, without effect."""

from __future__ import annotations

from typing import Any


class ProfileContext:
    """A context that profiles nothing. Use tf.profiler.experimental.start and stop."""

    def __init__(self, profile_dir: str, *args: Any, **kwargs: Any):
        self.profile_dir = profile_dir

    def __enter__(self):
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def add_auto_profiling(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def trace_next_step(self) -> None:
        """Does nothing."""

    def dump_next_step(self) -> None:
        """Does nothing."""
