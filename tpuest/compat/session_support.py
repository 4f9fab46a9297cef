"""`tensorflow.python.tpu.session_support`, without effect: the engine keeps no TPU session to watch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class _InertHook(tf.compat.v1.train.SessionRunHook):
    """Takes the original's arguments and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass


class GracefulShutdownHook(_InertHook):
    """Would save and stop when a worker goes away."""


class ShutdownLameWorkers(_InertHook):
    """Would stop workers that go away."""


class ShutdownAllWorkers(_InertHook):
    """Would stop all workers when one goes away."""


class ResetComputation:
    """Would start the computation anew."""

    def __call__(self, run_context: Any, all_workers: Any, lame_workers: Any) -> None:
        return None


RestartComputation = ResetComputation


class WorkerHeartbeatManager:
    """Would tell workers that the program lives."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass


class WatchdogManager(WorkerHeartbeatManager):
    """Would end workers whose program died."""


def start_worker_watchdog(session: Any, *args: Any, **kwargs: Any) -> None:
    """Does nothing."""
