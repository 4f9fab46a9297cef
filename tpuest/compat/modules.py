"""Old modules that are made when asked for: the machinery under `table`.

Takes the rows of `table`; gives module objects and the import finders that serve them:

    import tensorflow.contrib.tpu       ->  OldModuleFinder  ->  OldModule("tensorflow.contrib.tpu")
    tf.contrib.tpu.TPUConfig            ->  its row           ->  tpuest.config.TPUConfig, kept

A row's target is read by `resolve`. Nothing is imported before a name is used, and all of it can be
taken back: see `tpuest.compat.installation`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

from tpuest.errors import UnsupportedError


class UnsupportedAttributeError(UnsupportedError, AttributeError):
    """An old name that isn't carried was asked for; to `hasattr` it isn't there."""


class Advice(str):
    """A row's sentence: the name isn't carried, and this is what to do instead."""


class OldModule(types.ModuleType):
    """A module of old TensorFlow whose members are found when first used."""

    def __init__(self, name: str, tree: ModuleTree):
        super().__init__(name, f"What tpuest carries of {name}.")
        vars(self).update(_tree=tree, __path__=[], __package__=name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = vars(self)["_tree"].find(self.__name__, name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*vars(self)["_tree"].members(self.__name__), *_own_names(self)})


class ModuleTree:
    """All old modules, by the rows that tell their members.

    Attributes:
      rows: module path to its members' rows: name to target.
      stand_ins: module path to the modules that serve names without a row, in order.
      aliases: module path to the module that stands there; holds for what is below, too.
      advice: path of a module, or of the modules below it, to the sentence of what isn't carried.
      uncarried: paths of modules whose every name without a row can be imported, derived from, and not used.
    """

    def __init__(
        self,
        rows: Mapping[str, Mapping[str, str]],
        stand_ins: Mapping[str, tuple[str, ...]],
        aliases: Mapping[str, str],
        advice: Mapping[str, str],
        uncarried: frozenset[str] = frozenset(),
    ):
        self.rows = rows
        self.stand_ins = stand_ins
        self.aliases = aliases
        self.advice = advice
        self.uncarried = uncarried

    @functools.cached_property
    def paths(self) -> frozenset[str]:
        """Every module path there is, those above a row's included."""
        known = set()
        for path in (*self.rows, *self.stand_ins, *self.aliases):
            while path and path not in known:
                known.add(path)
                path = path.rpartition(".")[0]
        return frozenset(known)

    def alias(self, path: str) -> str | None:
        """Names the module that stands at a path: that of the longest alias above it."""
        above, below = path, ""
        while above:
            if above in self.rows:
                return None
            if above in self.aliases:
                return self.aliases[above] + below
            above, _, last = above.rpartition(".")
            below = f".{last}{below}"
        return None

    def find(self, path: str, name: str) -> Any:
        """Gives a module's member.

        Raises:
          UnsupportedAttributeError: there is no such name, or it isn't carried.
        """
        target = self.rows.get(path, {}).get(name)
        if target is not None:
            return resolve(target, public_name(f"{path}.{name}"))
        below = f"{path}.{name}"
        if below in self.paths:
            return importlib.import_module(below)
        for stand_in in self.stand_ins.get(path, ()):
            try:
                return getattr(import_alias(stand_in, public_name(below)), name)
            except AttributeError:
                continue
        if path in self.uncarried:
            return not_carried(public_name(below), self.advice_for(below))
        raise self.unknown(below)

    def unknown(self, path: str) -> UnsupportedAttributeError:
        """Says that an old name isn't carried, with the advice nearest to it."""
        return UnsupportedAttributeError(public_name(path), self.advice_for(path))

    def advice_for(self, path: str) -> str:
        """Gives the sentence nearest to a path."""
        while path:
            if path in self.advice:
                return self.advice[path]
            path = path.rpartition(".")[0]
        return (
            "Copy what you need of it from TensorFlow 1.15 into your program, or ask for it in an "
            "issue of tpuest."
        )

    def _carries_some_of(self, path: str) -> bool:
        """Says whether a module, or one below it, has members."""
        found = {
            *self.aliases,
            *self.stand_ins,
            *(known for known, rows in self.rows.items() if rows),
        }
        return any(known == path or known.startswith(f"{path}.") for known in found)

    def members(self, path: str) -> Iterator[str]:
        """Lists the names of a module that work here."""
        for name, target in self.rows.get(path, {}).items():
            if not isinstance(target, Advice) and _is_installed(target):
                yield name
        prefix = f"{path}."
        for below in self.paths:
            name = below.removeprefix(prefix)
            if name == below or "." in name or name in self.rows.get(path, {}):
                continue
            if below in self.aliases:
                if _is_installed(self.aliases[below]):
                    yield name
            elif self._carries_some_of(below):
                yield name
        for stand_in in self.stand_ins.get(path, ()):
            if _is_installed(stand_in):
                yield from _public_names(importlib.import_module(stand_in))


class OldModuleFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves the import statements that name old modules."""

    def __init__(self, tree: ModuleTree, roots: tuple[str, ...]):
        """Makes a finder.

        Args:
          tree: the modules.
          roots: the modules under which this finder serves; others are left alone.
        """
        self._tree = tree
        self._roots = roots
        self.made: dict[str, types.ModuleType] = {}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if not any(fullname == root or fullname.startswith(root + ".") for root in self._roots):
            return None
        alias = self._tree.alias(fullname)
        if fullname not in self._tree.paths and alias is None:
            self._refuse(fullname)
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def _refuse(self, fullname: str) -> None:
        """Says what to use instead of a module, unless it is a member that a statement looks for first.

        Raises:
          ModuleNotFoundError: the old module isn't carried.
        """
        parent, _, name = fullname.rpartition(".")
        if name in self._tree.rows.get(parent, {}) or parent not in sys.modules:
            return
        # Without a name: the import system swallows an error of the very name it looks for.
        raise ModuleNotFoundError(str(self._tree.unknown(fullname)))

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return OldModule(spec.name, self._tree)

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        alias = self._tree.alias(name)
        if alias is not None:
            module = import_alias(alias, public_name(name))
            sys.modules[name] = module
        self.made[name] = module


def import_alias(target: str, what: str) -> types.ModuleType:
    """Imports the module that stands for an old one.

    Raises:
      ModuleNotFoundError: it, or an optional package that it needs, isn't there.
    """
    try:
        return importlib.import_module(target)
    except ModuleNotFoundError as error:
        needed = target.partition(".")[0]
        if error.name == needed:
            raise missing_package(needed, what) from None
        raise


def missing_package(package: str, what: str) -> ModuleNotFoundError:
    """Says which optional package an old name needs."""
    distribution = _DISTRIBUTIONS.get(package, package)
    return ModuleNotFoundError(
        f"{what} needs {distribution}, which isn't installed: pip install {distribution}"
    )


_DISTRIBUTIONS = {
    "tensorflow_gan": "tensorflow-gan",
    "tf_slim": "tf-slim",
    "tf_keras": "tf-keras",
}


def resolve(target: str, what: str) -> Any:
    """Gives what a row's target names.

    Args:
      target: 'module:attribute.path', 'module:', or `Advice`.
      what: the old name, for errors.

    Raises:
      UnsupportedAttributeError: the target isn't in this TensorFlow.
    """
    if isinstance(target, Advice):
        return not_carried(what, target)
    module_name, _, attributes = target.partition(":")
    module = import_alias(module_name, what)
    if not attributes:
        return module
    try:
        return functools.reduce(getattr, attributes.split("."), module)
    except AttributeError as error:
        raise UnsupportedAttributeError(what, f"This TensorFlow lacks {target}.") from error


class _NotCarried(type):
    """Class of classes that only say, when used, that they aren't carried."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(cls._what, cls._advice)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise UnsupportedAttributeError(f"{cls._what}.{name}", cls._advice)


def not_carried(what: str, advice: str) -> type:
    """Makes what stands for a name that isn't carried: it can be imported, and refuses to be used."""
    name = what.rpartition(".")[2]
    return _NotCarried(name, (), {"_what": what, "_advice": str(advice), "__module__": __name__})


def public_name(path: str) -> str:
    """Writes a module path as users do: tf.contrib.tpu."""
    root, dot, rest = path.partition(".")
    return f"tf{dot}{rest}" if root == "tensorflow" and not rest.startswith("python") else path


def _is_installed(target: str) -> bool:
    package = target.partition(":")[0].partition(".")[0]
    return package in sys.modules or importlib.util.find_spec(package) is not None


def _public_names(module: types.ModuleType) -> list[str]:
    names = getattr(module, "__all__", None) or dir(module)
    return [name for name in names if not name.startswith("_")]


def _own_names(module: types.ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if name != "_tree" and not isinstance(value, _NotCarried)
    ]
