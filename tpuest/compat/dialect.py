"""Tells from source whether a program was written for TensorFlow 1.

Takes Python source, gives a `Dialect`. The evidence, strongest first:

    tf.Session, tf.flags, tf.contrib, tf.train.AdamOptimizer, ...      names of TensorFlow 1's root only
    tf.GradientTape, tf.optimizers, tf.Module, enable_v2_behavior ...  names of TensorFlow 2's root only
    import tensorflow.compat.v1, tf.compat.v1.placeholder, ...         TensorFlow 1's API under 2's root

A program is its script and the files of its own that the script imports, read until one tells.
"""

from __future__ import annotations

import ast
import contextlib
import enum
import importlib.machinery
import os
import re
import zipimport
from collections.abc import Iterator, Sequence

from tpuest.compat import root_names

# Called under any API, they say what the program wants.
_TF1_CALLS = frozenset({"disable_v2_behavior", "disable_eager_execution"})
_TF2_CALLS = frozenset({"enable_v2_behavior", "assert_v2_behavior"})
# A file without these words has none of the evidence.
_MAY_TELL = re.compile("|".join(["tensorflow", *sorted(_TF1_CALLS), *sorted(_TF2_CALLS)]).encode())
_IMPORT = re.compile(
    rb"^[ \t]*((?:from[ \t]+\S+[ \t]+import[ \t]*\([^)]*\)|(?:from|import)[ \t](?:\\\r?\n|[^\\\n;])*))",
    re.MULTILINE,
)
_COMPAT_V1 = "compat.v1"
_MOST_FILES = 200


class Dialect(enum.Enum):
    """Which TensorFlow some source was written for."""

    TF1 = "TensorFlow 1"
    COMPAT_V1 = "TensorFlow 1 under TensorFlow 2's root"
    TF2 = "TensorFlow 2"
    UNKNOWN = "unknown"

    @property
    def has_tf1_behavior(self) -> bool:
        """Whether v2 behaviour is off: no eager execution, TF 1 shapes and control flow."""
        return self in (Dialect.TF1, Dialect.COMPAT_V1)


def of_source(source: str | bytes) -> Dialect:
    """Judges one file; what doesn't parse is unknown."""
    try:
        module = ast.parse(source)
    except (SyntaxError, ValueError):
        return Dialect.UNKNOWN
    return _judge(_Evidence.of(module))


def of_program(path: str, search_path: Sequence[str]) -> Dialect:
    """Judges a program by its script, then by the files of its own that it imports.

    Args:
      path: the script's file.
      search_path: where the program's own modules are looked for.
    """
    waiting, seen = [path], {path}
    for _ in range(_MOST_FILES):
        if not waiting:
            break
        module = _parse(waiting[0])
        importer = waiting.pop(0)
        if module is None:
            continue
        verdict = _judge(_Evidence.of(module))
        if verdict is not Dialect.UNKNOWN:
            return verdict
        for file in _imported_files(module, importer, search_path):
            if file not in seen:
                seen.add(file)
                waiting.append(file)
    return Dialect.UNKNOWN


class _Evidence:
    """The names of TensorFlow that some source uses.

    Attributes:
      paths: dotted paths under TensorFlow's root: 'train.Saver', 'contrib'.
      imports_compat_v1: whether `tensorflow.compat.v1` is imported by name.
      calls: last names of what is called, whatever it hangs on.
    """

    def __init__(self):
        self.paths: set[str] = set()
        self.imports_compat_v1 = False
        self.calls: set[str] = set()

    @classmethod
    def of(cls, module: ast.Module) -> _Evidence:
        found = cls()
        aliases = found._read_imports(module)
        for node in ast.walk(module):
            if isinstance(node, ast.Attribute):
                found._read_attribute(node, aliases)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found.calls.add(node.func.attr)
        return found

    def _read_imports(self, module: ast.Module) -> dict[str, str]:
        """Maps local names to paths under TensorFlow's root ('' is the root)."""
        aliases = {}
        for node in ast.walk(module):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._read_import(alias, aliases)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                self._read_import_from(node, aliases)
        return aliases

    def _read_import(self, alias: ast.alias, aliases: dict[str, str]) -> None:
        root, _, path = alias.name.partition(".")
        if root != "tensorflow":
            return
        self._note(path)
        if alias.asname:
            aliases[alias.asname] = path
        else:
            aliases[root] = ""

    def _read_import_from(self, node: ast.ImportFrom, aliases: dict[str, str]) -> None:
        root, _, path = (node.module or "").partition(".")
        if root != "tensorflow":
            return
        for alias in node.names:
            below = f"{path}.{alias.name}" if path else alias.name
            self._note(below)
            aliases[alias.asname or alias.name] = below

    def _read_attribute(self, node: ast.Attribute, aliases: dict[str, str]) -> None:
        names = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            names.append(value.attr)
            value = value.value
        if isinstance(value, ast.Name) and value.id in aliases:
            parts = [*filter(None, aliases[value.id].split(".")), *reversed(names)]
            self._note(".".join(parts))

    def _note(self, path: str) -> None:
        if path == _COMPAT_V1 or path.startswith(_COMPAT_V1 + "."):
            self.imports_compat_v1 = True
        elif path:
            self.paths.add(path)


def _judge(evidence: _Evidence) -> Dialect:
    heads = {path.partition(".")[0] for path in evidence.paths}
    # 'data.experimental.save' and 'train.Saver.save' are told by their first names.
    prefixes = {".".join(path.split(".")[:length]) for path in evidence.paths for length in (2, 3)}
    if heads & root_names.TF1_NAMES or prefixes & root_names.TF1_PATHS:
        return Dialect.TF1
    if evidence.calls & _TF1_CALLS:
        return Dialect.COMPAT_V1
    if (
        evidence.calls & _TF2_CALLS
        or heads & root_names.TF2_NAMES
        or prefixes & root_names.TF2_PATHS
    ):
        return Dialect.TF2
    return Dialect.COMPAT_V1 if evidence.imports_compat_v1 else Dialect.UNKNOWN


def _parse(path: str) -> ast.Module | None:
    """Parses a file; of one that tells nothing itself only the imports, which is far faster."""
    try:
        source = _read(path)
        if not _MAY_TELL.search(source):
            with contextlib.suppress(SyntaxError):
                return ast.parse(b"\n".join(_IMPORT.findall(source)))
        return ast.parse(source)
    except (OSError, ImportError, SyntaxError, ValueError):
        return None


def _read(path: str) -> bytes:
    """Reads a source file, which may be inside an archive.

    Raises:
      ImportError: it is in neither.
    """
    if os.path.exists(path):
        with open(path, "rb") as file:
            return file.read()
    directory, name = os.path.split(path)
    return zipimport.zipimporter(directory).get_source(name.removesuffix(".py")).encode()


def _imported_files(module: ast.Module, importer: str, search_path: Sequence[str]) -> Iterator[str]:
    """Finds the files of the program's own modules that a file imports; runs nothing."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(alias.name, search_path)
        elif isinstance(node, ast.ImportFrom):
            base, paths = node.module or "", search_path
            if node.level:
                paths = [_package_directory(importer, node.level)]
            if base:
                yield from _files_of(base, paths)
            for alias in node.names:
                yield from _files_of(f"{base}.{alias.name}" if base else alias.name, paths)


def _package_directory(importer: str, level: int) -> str:
    directory = os.path.dirname(importer)
    for _ in range(level - 1):
        directory = os.path.dirname(directory)
    return directory


def _files_of(name: str, search_path: Sequence[str]) -> list[str]:
    path = list(search_path)
    spec = None
    for part in name.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, path)
        if spec is None:
            return []
        path = list(spec.submodule_search_locations or ())
    return [spec.origin] if spec.has_location and str(spec.origin).endswith(".py") else []


def find_module_file(name: str, search_path: Sequence[str]) -> str | None:
    """Finds the file that `-m name` runs, without running its package."""
    return next(
        iter(_files_of(f"{name}.__main__", search_path) or _files_of(name, search_path)), None
    )
