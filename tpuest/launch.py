"""Runs a program as `python` would, with the old names and the TensorFlow it was written for.

Takes what the command line says; gives nothing: the program ends the process as it would under `python`.

    judge the program's source: TF 1 or TF 2
    when it imports TensorFlow: old names, v2 behaviour off for TF 1
    __main__ = a fresh module; run the code in it
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.machinery
import importlib.util
import os
import runpy
import sys
import types
from collections.abc import Iterator

from tpuest.compat import dialect, facade, on_import, python_names
from tpuest.compat.dialect import Dialect

_IMPORTING_FILES = (facade.__file__, on_import.__file__)


@dataclasses.dataclass(frozen=True)
class Command:
    """What to run.

    Attributes:
      target: a script's path, or a module's name.
      is_module: whether `target` is a module's name.
      arguments: the program's own.
      dialect: what the program was written for; `None` judges by its source.
    """

    target: str
    is_module: bool = False
    arguments: tuple[str, ...] = ()
    dialect: Dialect | None = None


def run(command: Command) -> None:
    """Runs a program until it ends; its exceptions reach the caller without frames of ours on top.

    Raises:
      SystemExit: the script can't be read, or the program ended so.
    """
    _set_arguments_and_path(command)
    path = _file_of(command)
    written_for = command.dialect or _judge(path, command)
    package = command.target.partition(".")[0] if command.is_module else None
    _prepare(written_for)
    with facade.tf1_imports(written_for, package), _own_frames_hidden():
        if command.is_module:
            runpy.run_module(command.target, run_name="__main__", alter_sys=True)
        elif path is None:
            runpy.run_path(command.target, run_name="__main__")
        else:
            _run_script(command.target, path)


def _set_arguments_and_path(command: Command) -> None:
    sys.argv[:] = [command.target, *command.arguments]
    if getattr(sys.flags, "safe_path", False):
        return
    # Ours, put there for `python -m tpuest` or for the installed command.
    first = os.getcwd() if command.is_module else _directory_of(command.target)
    sys.path[0] = first


def _directory_of(script: str) -> str:
    real = os.path.realpath(script)
    return real if os.path.isdir(real) else os.path.dirname(real)


def _file_of(command: Command) -> str | None:
    """Gives the file that is run; `None` for a directory, an archive or an unknown module."""
    if command.is_module:
        return dialect.find_module_file(command.target, sys.path)
    if not os.path.exists(command.target):
        print(
            f"{sys.executable}: can't open file {os.path.abspath(command.target)!r}: "
            "[Errno 2] No such file or directory",
            file=sys.stderr,
        )
        raise SystemExit(2)
    is_script = os.path.isfile(command.target) and not _is_archive(command.target)
    # As Python makes it absolute: '..' stays.
    return os.path.join(os.getcwd(), command.target) if is_script else None


def _is_archive(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _judge(path: str | None, command: Command) -> Dialect:
    if path is None:
        path = os.path.join(command.target, "__main__.py")
    own = [directory or os.getcwd() for directory in sys.path]
    return dialect.of_program(path, [d for d in own if not facade.is_library(os.path.join(d, ""))])


def _prepare(written_for: Dialect) -> None:
    """Arranges what happens when the program imports TensorFlow and NumPy."""
    # Keras reads it when TensorFlow is imported.
    if written_for.has_tf1_behavior and importlib.util.find_spec("tf_keras") is not None:
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    if written_for.has_tf1_behavior:
        python_names.restore_python_names()
        on_import.after_import("numpy", python_names.restore_numpy_names)
    on_import.after_import("tensorflow", lambda module: _start(module, written_for))


def _start(tensorflow: types.ModuleType, written_for: Dialect) -> None:
    from tpuest import topology
    from tpuest.compat import installation

    installation.install()
    if written_for.has_tf1_behavior:
        _disable_v2_behavior(tensorflow.compat.v1)
    topology.simulated_cores()


def _disable_v2_behavior(v1: types.ModuleType) -> None:
    """Turns v2 behaviour off, without the warning meant for who calls it."""
    verbosity = v1.logging.get_verbosity()
    v1.logging.set_verbosity(v1.logging.ERROR)
    v1.disable_v2_behavior()
    v1.logging.set_verbosity(verbosity)


def _run_script(script: str, path: str) -> None:
    """Runs a file in a fresh `__main__`, as Python's own start does."""
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    module = types.ModuleType("__main__")
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    vars(module).update(
        __file__=path, __cached__=None, __builtins__=__builtins__, __loader__=loader
    )
    # The one that started us stays alive: exit handlers may use it.
    _run_script.started_by = sys.modules["__main__"]
    sys.modules["__main__"] = module
    exec(code, vars(module))  # noqa: S102


@contextlib.contextmanager
def _own_frames_hidden() -> Iterator[None]:
    """Lets an exception of the program be shown from the program's first frame on."""
    try:
        yield
    except SystemExit:
        raise
    except BaseException as error:
        _show_from(error, _first_foreign_frame(error.__traceback__))
        raise


def _drop_own_frames(error: BaseException | None, seen: set[int]) -> None:
    """Takes the frames of imports that went through us out of an error and those before it."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    kept = None
    for trace in reversed(list(_entries(error.__traceback__))):
        if trace.tb_frame.f_code.co_filename not in _IMPORTING_FILES:
            trace.tb_next = kept
            kept = trace
    error.__traceback__ = kept
    _drop_own_frames(error.__cause__, seen)
    _drop_own_frames(error.__context__, seen)


def _entries(trace: types.TracebackType | None) -> Iterator[types.TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _first_foreign_frame(trace: types.TracebackType | None) -> types.TracebackType | None:
    ours = (__file__, contextlib.__file__)
    while trace is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    return trace


def _show_from(error: BaseException, trace: types.TracebackType | None) -> None:
    """Lets Python's own ending print the traceback from a frame on, by the program's own hook."""
    show = sys.excepthook

    def show_program_frames(kind, value, whole_trace):
        if value is error:
            value.__traceback__ = trace
            _drop_own_frames(value, set())
            whole_trace = sys.last_traceback = value.__traceback__
        show(kind, value, whole_trace)

    sys.excepthook = show_program_frames
