"""Runs a program as `python` would, with the old names and the TensorFlow it was written for.

Takes what the command line says; gives nothing: the program ends the process as it would under `python`.

    judge the program's source: TF 1 or TF 2
    when it imports TensorFlow: old names, v2 behaviour off for TF 1
    __main__ = a fresh module; run the code in it

The processes that it starts are prepared the same way: `children`.
"""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import importlib.machinery
import importlib.util
import os
import pkgutil
import runpy
import sys
import types
from collections.abc import Callable, Iterator, Sequence

from tpuest import children, chips
from tpuest.compat import colab, dialect, facade, keras_2_names, on_import, python_names
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

    @property
    def package(self) -> str | None:
        """The module's outermost package, which may be installed among libraries."""
        return self.target.partition(".")[0] if self.is_module else None


def run(command: Command, on_start: Callable[[], None] | None = None) -> None:
    """Runs a program until it ends; its exceptions reach the caller without frames of ours on top.

    Args:
      command: the program.
      on_start: called when the program imports TensorFlow, after the old names are there.

    Raises:
      SystemExit: the script can't be read, or the program ended so.
    """
    _set_arguments_and_path(command)
    path = find_file(command, sys.path)
    written_for = command.dialect or judge(path, sys.path)
    prepare(written_for, command.package, on_start)
    children.inherit(written_for)
    # The one that started us stays alive: exit handlers may use it.
    run.started_by, sys.modules["__main__"] = sys.modules["__main__"], _fresh_main()
    with _own_frames_hidden():
        if command.is_module:
            # Private, and the same in Python 3.10 to 3.14: the public ones take the module away at the end.
            runpy._run_module_as_main(command.target)
        elif _is_importable(command.target):
            runpy._run_module_as_main("__main__", alter_argv=False)
        else:
            _run_script(path)


def _set_arguments_and_path(command: Command) -> None:
    # As Python does: a package that is imported on the way to its module sees '-m'.
    sys.argv[:] = ["-m" if command.is_module else command.target, *command.arguments]
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        # Ours, put there for `python -m tpuest` or for the installed command.
        sys.path[0] = first_on_path(command)
    elif not command.is_module and _is_importable(command.target):
        sys.path.insert(0, first_on_path(command))


def first_on_path(command: Command) -> str:
    """Gives what Python puts first on `sys.path`."""
    if command.is_module:
        return os.getcwd()
    if _is_importable(command.target):
        return os.path.join(os.getcwd(), command.target)
    return os.path.dirname(os.path.realpath(command.target))


def _is_importable(target: str) -> bool:
    """Says whether a target is a directory or an archive, as Python finds it out."""
    return pkgutil.get_importer(os.path.join(os.getcwd(), target)) is not None


def find_file(command: Command, search_path: Sequence[str]) -> str | None:
    """Gives the file that is run, which may be inside an archive; `None` for an unknown module.

    Raises:
      SystemExit: there is no such script; said on standard error, as Python says it.
    """
    if command.is_module:
        return dialect.find_module_file(command.target, search_path)
    if not os.path.exists(command.target):
        print(
            f"{sys.executable}: can't open file {os.path.abspath(command.target)!r}: "
            "[Errno 2] No such file or directory",
            file=sys.stderr,
        )
        raise SystemExit(2)
    # As Python makes it absolute: '..' stays.
    path = os.path.join(os.getcwd(), command.target)
    return os.path.join(path, "__main__.py") if _is_importable(command.target) else path


def judge(path: str | None, search_path: Sequence[str]) -> Dialect:
    """Tells what a program was written for, by its file and those of its own that it imports."""
    if path is None:
        return Dialect.UNKNOWN
    # Programs of several directories put the one where they are started on their path themselves.
    own = [*(directory or os.getcwd() for directory in search_path), os.getcwd()]
    return dialect.of_program(path, [d for d in own if not facade.is_library(os.path.join(d, ""))])


def prepare(
    written_for: Dialect,
    package: str | None = None,
    on_start: Callable[[], None] | None = None,
) -> None:
    """Arranges what happens when the program imports TensorFlow and NumPy, until the process ends.

    Args:
      written_for: what the program was written for.
      package: the program's own, which may be installed among libraries.
      on_start: called when TensorFlow has been imported, after the old names are there.
    """
    # Keras reads it when TensorFlow is imported.
    if written_for.has_tf1_behavior and importlib.util.find_spec("tf_keras") is not None:
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    chips.settle_without_chips()
    # Programs may look for it before they import TensorFlow.
    colab.show_tpu(is_simulated=bool(chips.cores_to_simulate()))
    if written_for.has_tf1_behavior:
        python_names.restore_python_names()
        python_names.restore_modules()
        on_import.after_import("numpy", python_names.restore_numpy_names)
        on_import.after_import(keras_2_names.KERAS_3_BACKEND, keras_2_names.advise)
    on_import.after_import("tensorflow", lambda module: _start(module, written_for, on_start))
    facade.serve_tf1_imports(written_for, package)


def _start(
    tensorflow: types.ModuleType, written_for: Dialect, on_start: Callable[[], None] | None
) -> None:
    from tpuest import topology
    from tpuest.compat import installation

    installation.install()
    if written_for.has_tf1_behavior:
        _disable_v2_behavior(tensorflow.compat.v1)
    topology.simulated_cores()
    if on_start is not None:
        on_start()


def _disable_v2_behavior(v1: types.ModuleType) -> None:
    """Turns v2 behaviour off, without the warning meant for who calls it."""
    verbosity = v1.logging.get_verbosity()
    v1.logging.set_verbosity(v1.logging.ERROR)
    v1.disable_v2_behavior()
    v1.logging.set_verbosity(verbosity)


def _fresh_main() -> types.ModuleType:
    module = types.ModuleType("__main__")
    vars(module).update(__annotations__={}, __builtins__=builtins)
    return module


def _run_script(path: str) -> None:
    """Runs a file in `__main__`, as Python's own start does."""
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    names = vars(sys.modules["__main__"])
    loader = importlib.machinery.SourceFileLoader("__main__", path)
    names.update(__file__=path, __cached__=None, __loader__=loader)
    exec(code, names)  # noqa: S102


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
