"""Names of Python and NumPy that old programs use and that are gone.

Takes nothing and gives nothing: each function puts back what is missing and leaves the rest alone.
"""

from __future__ import annotations

import collections
import collections.abc
import fractions
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import math
import sys
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple


class ArgSpec(NamedTuple):
    """What `inspect.getargspec` gave until Python 3.11."""

    args: list[str]
    varargs: str | None
    keywords: str | None
    defaults: tuple | None


def getargspec(function: Callable) -> ArgSpec:
    """Lists a function's arguments, as `inspect.getargspec` did.

    Raises:
      ValueError: the function has keyword-only arguments or annotations.
    """
    spec = inspect.getfullargspec(function)
    if spec.kwonlyargs or spec.annotations:
        raise ValueError(
            "Function has keyword-only parameters or annotations, use inspect.signature() API "
            "which can support them"
        )
    return ArgSpec(spec.args, spec.varargs, spec.varkw, spec.defaults)


# Modules that are gone: name to the module that does its work.
_STAND_INS = {"pkg_resources": "tpuest.compat.package_resources"}


class _GoneModules(importlib.abc.MetaPathFinder):
    """Finds modules that nobody else finds any more."""

    @staticmethod
    def find_spec(
        fullname: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _STAND_INS:
            return None
        stand_in = importlib.util.find_spec(_STAND_INS[fullname])
        return importlib.util.spec_from_file_location(fullname, stand_in.origin)


def restore_modules() -> None:
    """Lets modules be imported that setuptools removed; those that are there come first."""
    if _GoneModules not in sys.meta_path:
        sys.meta_path.append(_GoneModules)


def restore_python_names() -> None:
    """Puts back names of the standard library."""
    _put_back(inspect, {"getargspec": getargspec, "ArgSpec": ArgSpec})
    _put_back(time, {"clock": time.process_time})
    _put_back(fractions, {"gcd": math.gcd})
    abstract = {name: getattr(collections.abc, name) for name in collections.abc.__all__}
    _put_back(collections, abstract)


def restore_numpy_names(numpy: types.ModuleType) -> None:
    """Puts back aliases that NumPy 1.24 and 2.0 removed."""
    _put_back(
        numpy,
        {
            "bool": bool,
            "complex": complex,
            "float": float,
            "int": int,
            "long": int,
            "object": object,
            "str": str,
            "unicode": str,
        },
    )
    renamed = {
        "Inf": "inf",
        "Infinity": "inf",
        "NaN": "nan",
        "alltrue": "all",
        "complex_": "complex128",
        "cumproduct": "cumprod",
        "float_": "float64",
        "in1d": "isin",
        "infty": "inf",
        "product": "prod",
        "round_": "round",
        "row_stack": "vstack",
        "sometrue": "any",
        "string_": "bytes_",
        "trapz": "trapezoid",
        "unicode_": "str_",
    }
    _put_back(
        numpy,
        {old: getattr(numpy, new) for old, new in renamed.items() if hasattr(numpy, new)},
    )
    _put_back(numpy, {"asscalar": lambda array: array.item()})


def _put_back(module: types.ModuleType, names: dict[str, Any]) -> None:
    for name, value in names.items():
        # Not hasattr: NumPy warns about some of these names when asked.
        vars(module).setdefault(name, value)
