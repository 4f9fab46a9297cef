"""`import tensorflow` gives a TF 1 program TensorFlow 1's root, and everybody else the real one.

    import tensorflow as tf           in the program's files       ->  TF 1's root
    from tensorflow.gfile import Glob in the program's files       ->  TF 1's tf.gfile
    import tensorflow as tf           in a library that uses TF 2  ->  tensorflow
    import tensorflow.compat.v2       anywhere                     ->  tensorflow's own

Takes the program's `Dialect`; changes `builtins.__import__` until the process ends: exit handlers and
threads that outlive the program's last line import too.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import os
import re
import site
import sys
import sysconfig
import types
from typing import Any

from tpuest.compat import dialect
from tpuest.compat.dialect import Dialect

_TENSORFLOW = "tensorflow"
# A file without these words names nothing of TensorFlow 1's root; spares reading libraries in full.
_MAY_BE_TF1 = re.compile(rb"\btf\.(?!compat\b)|tensorflow\.contrib|from tensorflow import")


class Tf1Root(types.ModuleType):
    """TensorFlow 1's root module: `tensorflow.compat.v1`, with what stood beside it in TensorFlow 1."""

    def __init__(self, real: types.ModuleType, v1: types.ModuleType):
        super().__init__(real.__name__, v1.__doc__)
        vars(self).update(
            _v1=v1,
            __path__=real.__path__,
            __file__=real.__file__,
            __spec__=real.__spec__,
            __package__=real.__package__,
            __version__=real.__version__,
            compat=real.compat,
        )

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(vars(self)["_v1"], name)
        except AttributeError:
            # Submodules that aren't API: tf.python, tf.core.
            submodule = sys.modules.get(f"{self.__name__}.{name}")
            if submodule is None:
                raise AttributeError(f"module 'tensorflow' has no attribute {name!r}") from None
            return submodule

    def __dir__(self) -> list[str]:
        return sorted({"compat", *dir(vars(self)["_v1"])})


def serve_tf1_imports(program: Dialect, program_package: str | None = None) -> None:
    """Lets the program's files import TensorFlow 1's root.

    Args:
      program: what the program was written for.
      program_package: its own package, where that is installed among libraries.
    """
    builtins.__import__ = _Importer(builtins.__import__, program, program_package)


class _Importer:
    """Stands for `builtins.__import__`."""

    def __init__(self, real_import: Any, program: Dialect, program_package: str | None):
        self.real_import = real_import
        self._program = program
        self._program_package = program_package

    def __call__(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> Any:
        of_tensorflow = name == _TENSORFLOW or name.startswith(_TENSORFLOW + ".")
        if level or not of_tensorflow or not self._speaks_tf1(name, globals):
            return self.real_import(name, globals, locals, fromlist, level)
        module = _tf1_module(name)
        if module is not None and fromlist:
            return module
        if fromlist and name != _TENSORFLOW:
            return self.real_import(name, globals, locals, fromlist, level)
        self.real_import(_TENSORFLOW if module else name, globals, locals, None, 0)
        root = tf1_root()
        for wanted in fromlist or ():
            if wanted != "*" and not hasattr(root, wanted):
                _import_submodule(wanted)
        return root

    def _speaks_tf1(self, name: str, names: Any) -> bool:
        """Says whether a module, by its globals, gets TensorFlow 1's root."""
        if not names or name.startswith("tensorflow.compat"):
            return False
        file = names.get("__file__")
        module = names.get("__name__") or ""
        if file is None:
            return module == "__main__" and self._program is Dialect.TF1
        package = module.partition(".")[0]
        if is_library(file) and package not in (self._program_package, "__main__"):
            return _dialect_of_library(file) is Dialect.TF1
        return self._of_program_file(file)

    def _of_program_file(self, file: str) -> bool:
        own = _dialect_of_file(file)
        return own is Dialect.TF1 or (own is Dialect.UNKNOWN and self._program is Dialect.TF1)


@functools.cache
def _tf1_module(name: str) -> types.ModuleType | None:
    """Gives the public module that stood at a path below TensorFlow 1's root: tensorflow.gfile.

    None for what isn't TensorFlow's own: Keras and the stand-ins are imported as they are.
    """
    first, *names = name.split(".")[1:] or [""]
    if not first or first == "keras":
        return None
    module = functools.reduce(lambda m, n: getattr(m, n, None), [first, *names], tf1_root()._v1)
    own = f"tensorflow._api.v2.compat.v1.{first}"
    is_own = isinstance(module, types.ModuleType) and module.__name__.startswith(own)
    return module if is_own else None


def _import_submodule(name: str) -> None:
    full_name = f"{_TENSORFLOW}.{name}"
    try:
        importlib.import_module(full_name)
    except ModuleNotFoundError as error:
        if error.name != full_name:
            raise


@functools.cache
def tf1_root() -> Tf1Root:
    """Gives the one root that TF 1 programs see."""
    real = importlib.import_module(_TENSORFLOW)
    return Tf1Root(real, importlib.import_module("tensorflow.compat.v1"))


@functools.cache
def _dialect_of_file(file: str) -> Dialect:
    try:
        with open(file, "rb") as source:
            return dialect.of_source(source.read())
    except OSError:
        return Dialect.UNKNOWN


@functools.cache
def _dialect_of_library(file: str) -> Dialect:
    """Judges a library's file: one that can't work with TensorFlow 2's root is taken for TF 1's."""
    if _is_under(file, _NEVER_TF1):
        return Dialect.TF2
    try:
        with open(file, "rb") as source:
            text = source.read()
    except OSError:
        return Dialect.UNKNOWN
    return dialect.of_source(text) if _MAY_BE_TF1.search(text) else Dialect.UNKNOWN


def is_library(file: str) -> bool:
    """Says whether a file belongs to Python or an installed package, rather than to the program."""
    return _is_under(file, _library_directories()) or _is_under(file, _OWN)


def _is_under(file: str, directories: tuple[str, ...]) -> bool:
    return os.path.abspath(file).startswith(directories)


_OWN = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,)


@functools.cache
def _library_directories() -> tuple[str, ...]:
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    paths += [p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")]
    return tuple({os.path.abspath(path) + os.sep for path in paths if path})


# TensorFlow's own files and the libraries that come with it mean what they say.
_NEVER_TF1 = (
    tuple(
        os.path.join(directory, package) + os.sep
        for directory in _library_directories()
        for package in ("tensorflow", "keras", "tf_keras", "tensorboard")
    )
    + _OWN
)
