"""The copies of TensorFlow's public API in one process.

`tensorflow.compat.v1` is another module object than `tf.compat.v1` was before its import, and each has
a `compat` of its own: names that are set on one are missing on the others.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Iterator

_IMPORTABLE = ("tensorflow", "tensorflow.compat.v1", "tensorflow.compat.v2")
_ROOT = re.compile(r"tensorflow(\._api\.v2)?(\.compat\.v[12])*")


def roots() -> list[types.ModuleType]:
    """Lists the root modules: `tensorflow` and every `compat.v1` and `compat.v2` there is.

    `tf.compat` is another object after `import tensorflow.compat.v1` than before; who kept the first one still uses
    it, and only `sys.modules` knows it.
    """
    imported = [importlib.import_module(name) for name in _IMPORTABLE]
    # Not a list of pairs: thousands of new tuples start a collection of garbage, which took 0.1 s.
    loaded = sys.modules.copy()
    known = [loaded[n] for n in loaded if n.endswith((".v1", ".v2")) and _ROOT.fullmatch(n)]
    below = [child for module in imported for child in _versions(module)]
    return list({id(module): module for module in (*imported, *known, *below)}.values())


def modules(path: str) -> list[types.ModuleType]:
    """Lists the copies of a module, by its path below the roots."""
    found = {}
    for root in roots():
        module = root
        for name in path.split("."):
            module = getattr(module, name, None)
        if module is not None:
            found[id(module)] = module
    return list(found.values())


def _versions(module: types.ModuleType) -> Iterator[types.ModuleType]:
    for version in ("v1", "v2"):
        yield getattr(module.compat, version)
