"""Saves what was trained when training is stopped: by Ctrl-C, by SIGTERM, or by an error.

Takes the call's hooks and session; gives a context for the training loop. Steps that are complete are saved by the
call's own CheckpointSaverHook, then the error goes on to the user. Variables that an operation of the model left in
the middle of a step are not saved, nor is a model that diverged.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf

# They end training as it should end: MonitoredSession saves then, as at every end.
_ENDS_OF_DATA = (tf.errors.OutOfRangeError, StopIteration)


@contextlib.contextmanager
def progress_saved(hooks: Sequence[Any], session: Callable[[], Any]) -> Iterator[None]:
    """Saves the complete steps of training that an exception stops, then lets the exception go on.

    Args:
      hooks: of the call; the first `CheckpointSaverHook` saves.
      session: gives the call's `ReplicaSession`.
    """
    with _sigterm_exits():
        try:
            yield
        except _ENDS_OF_DATA:
            raise
        except BaseException as error:
            savers = [h for h in hooks if isinstance(h, tf.compat.v1.train.CheckpointSaverHook)]
            if savers and not isinstance(error, tf.compat.v1.train.NanLossDuringTrainingError):
                _save(savers[0], session(), error)
            raise


def _save(saver: Any, session: Any, error: BaseException) -> None:
    if not session.holds_whole_steps:
        return
    step = None
    try:
        step = session.global_step()
        if step == _tf.last_checkpoint_step(saver):
            return
        name = type(error).__name__
        tf.compat.v1.logging.warning(
            "Training was stopped by %s after step %d: saving.", name, step
        )
        _tf.save_checkpoint(saver, session, step)
    except Exception as failure:  # noqa: BLE001  # The user must see what stopped training.
        tf.compat.v1.logging.error("The checkpoint of step %s was not saved: %s", step, failure)


@contextlib.contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Turns SIGTERM into `SystemExit` with a shell's code for it, unless the program handles it.

    Raises:
      SystemExit: the signal came.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
