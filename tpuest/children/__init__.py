"""Lets the processes that a program starts be prepared as it was.

Takes the program's `Dialect`; changes the environment that children inherit, so that a Python of the same
installation runs the `sitecustomize` beside this file when it starts. Forked children need none of it.
"""

from __future__ import annotations

import os
import sys

from tpuest.compat.dialect import Dialect

_VARIABLE = "TPUEST_CHILDREN"
_PATH_VARIABLE = "PYTHONPATH"
_DIRECTORY = os.path.dirname(os.path.abspath(__file__))


def inherit(dialect: Dialect) -> None:
    """Lets each Python that is started from now on be prepared for a program of this dialect."""
    os.environ[_VARIABLE] = f"{dialect.name}:{sys.prefix}"
    path = os.environ.get(_PATH_VARIABLE)
    if _DIRECTORY not in (path or "").split(os.pathsep):
        os.environ[_PATH_VARIABLE] = os.pathsep.join(filter(None, (_DIRECTORY, path)))


def inherited() -> Dialect | None:
    """Gives what the parent's program was written for; `None` in a Python that isn't prepared."""
    name, _, prefix = os.environ.get(_VARIABLE, "").partition(":")
    return Dialect[name] if prefix == sys.prefix else None
