"""Runs something right after a module is imported for the first time.

Takes a module's name and what to do; the import itself is Python's.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any


def after_import(name: str, act: Callable[[types.ModuleType], None]) -> None:
    """Calls `act` with the module once it is there: now, if it already is."""
    if name in sys.modules:
        act(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Watch(name, act))


class _Watch(importlib.abc.MetaPathFinder):
    """Finds nothing itself; adds `act` to the first import of one module."""

    def __init__(self, name: str, act: Callable[[types.ModuleType], None]):
        self._name = name
        self._act = act

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader, self._act)
        return spec


class _ActingLoader(importlib.abc.Loader):
    def __init__(self, loader: Any, act: Callable[[types.ModuleType], None]):
        self._loader = loader
        self._act = act

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        # The module shows its own loader: programs ask it for data files.
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._act(sys.modules.get(module.__name__, module))
