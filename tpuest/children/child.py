"""The child's side: prepares this process as its parent's program was.

Takes the environment and the command line of a Python that a program under `tpuest` started.
"""

from __future__ import annotations

import os
import sys

from tpuest import children, launch
from tpuest.compat import dialect
from tpuest.compat.dialect import Dialect


def prepare() -> None:
    """Prepares this process; what its own source leaves open is as in its parent."""
    command = _own_command()
    if command is not None and "tpuest" in (command.package, os.path.basename(command.target)):
        return  # It prepares itself.
    own = _judge(command)
    launch.prepare(
        children.inherited() if own is Dialect.UNKNOWN else own,
        command.package if command is not None else None,
    )


def _own_command() -> launch.Command | None:
    """Reads what Python was told to run, before it runs; `None` for `-c` and standard input."""
    kind, said = sys.argv[0], _last_option()
    if kind == "-m":
        # 'package' of `-m package`, '-mpackage' or '-umpackage'.
        module = said.partition("m")[2] if said.startswith("-") else said
        return launch.Command(module, is_module=True)
    return None if kind in ("-c", "-", "") else launch.Command(kind)


def _judge(command: launch.Command | None) -> Dialect:
    if command is None:
        return dialect.of_source(_last_option()) if sys.argv[0] == "-c" else Dialect.UNKNOWN
    if not command.is_module and not os.path.exists(command.target):
        return Dialect.UNKNOWN  # Python is about to say so.
    search_path = [launch.first_on_path(command), *sys.path]
    return launch.judge(launch.find_file(command, search_path), search_path)


def _last_option() -> str:
    """Gives what stands before the program's own arguments."""
    return sys.orig_argv[-len(sys.argv)]
