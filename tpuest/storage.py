"""A directory that can't be written: full, read-only or somebody else's.

Takes a directory and what is done there; gives one error that says what to do, and leaves nothing half-written. Only
errors that name the directory are touched: the user's own, and a device's lack of memory, stay what they are.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tpuest import _tf

_NO_ROOM = ("No space left on device", "Disk quota exceeded")
_NOT_ALLOWED = ("Permission denied", "Read-only file system", "Operation not permitted")
_WRITE_ERRORS = (tf.errors.OpError, RuntimeError)
# What a file is called until it is whole, of tf.io.gfile's and of Saver's.
_UNFINISHED = re.compile(r"\.tmp[0-9a-f]{32}$|^model\.ckpt-\d+_temp$")


@contextlib.contextmanager
def explained(directory: str, advice: str) -> Iterator[None]:
    """Adds to an error of writing to the directory what to do about it.

    Args:
      directory: what is written to, with all below.
      advice: what to do after there is room again, as a sentence.
    """
    try:
        yield
    except _WRITE_ERRORS as error:
        reason = _settle(error, directory)
        is_full = reason in _NO_ROOM
        wanted = "Make room there" if is_full else "Let this user write there"
        message = f"{directory} can't be written: {reason}. {wanted}, or choose another directory. {advice}"
        kind = tf.errors.ResourceExhaustedError if is_full else tf.errors.PermissionDeniedError
        raise kind(None, None, f"{message} ({_first_line(error, reason)})") from error


@contextlib.contextmanager
def optional(directory: str, what: str) -> Iterator[None]:
    """Makes an error of writing to the directory a warning: what was to be written is no result.

    Args:
      directory: what is written to.
      what: is written, such as 'The results'.
    """
    try:
        yield
    except _WRITE_ERRORS as error:
        reason = _settle(error, directory)
        tf.compat.v1.logging.warning("%s were not written to %s: %s.", what, directory, reason)


def check_is_writable(directory: str) -> None:
    """Refuses a local directory that this process may not write to, or make.

    Raises:
      PermissionDeniedError: it may not.
    """
    if "://" in directory:
        return  # Asking would cost a request, and the answer of a bucket's rights is no promise.
    existing = os.path.abspath(directory)
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    as_effective = {"effective_ids": os.access in os.supports_effective_ids}
    if not os.access(existing, os.W_OK | os.X_OK, **as_effective):
        raise tf.errors.PermissionDeniedError(
            None,
            None,
            f"model_dir {directory} can't be written: {existing} is read-only for this user. Training saves "
            "checkpoints there: let this user write there, or choose another model_dir. evaluate and predict "
            "only read it.",
        )


def release(directory: str) -> None:
    """Deletes what was left unfinished in the directory, and forgets its event file, whose writer has ended."""
    _tf.forget_summary_writers(directory)
    with contextlib.suppress(tf.errors.OpError):
        for name in tf.io.gfile.listdir(directory):
            path = os.path.join(directory, name)
            if _UNFINISHED.search(name.rstrip("/")):
                delete = tf.io.gfile.rmtree if tf.io.gfile.isdir(path) else tf.io.gfile.remove
                delete(path)


def _settle(error: Exception, directory: str) -> str:
    """Tidies up after an error of writing to the directory and gives its reason; any other error goes on as it is."""
    text = str(error)
    reasons = [reason for reason in (*_NO_ROOM, *_NOT_ALLOWED) if reason in text]
    if directory not in text or not reasons:
        raise error
    release(directory)
    return reasons[0]


def _first_line(error: Any, reason: str) -> str:
    """Gives the line that names the file."""
    return next(line for line in str(error).splitlines() if reason in line).strip()
