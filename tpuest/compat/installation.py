"""Makes the old names resolve, and takes them back.

    tpuest.install()
    tf.contrib.tpu.TPUConfig, tf.estimator.tpu.TPUEstimator, import tensorflow.contrib.slim, ...
    tpuest.uninstall()

Takes the rows of `table`; each change is noted as it is made and undone in reverse.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tpuest import _tf, topology
from tpuest.compat import api, colab, simulated_serving, table, trace
from tpuest.compat.modules import ModuleTree, OldModuleFinder, resolve

_ABSENT = object()
_ROOTS = ("tensorflow.contrib", "tensorflow.estimator", "tensorflow_estimator")


class _Installation:
    """What install() did to this process, the one thing of its kind in it."""

    def __init__(self):
        self.undo: contextlib.ExitStack | None = None


_installation = _Installation()


def install() -> None:
    """Makes old names resolve: tf.contrib, tf.estimator, tensorflow_estimator, moved private names.

    A second call does nothing. The names cost nothing until they are used. A module that is imported under one of
    them already stays what it is, with a warning.
    """
    if _installation.undo is not None:
        return
    _tell_of_others()
    with contextlib.ExitStack() as undo:
        _keep_what_roots_have(undo)
        _add_finders(undo)
        _set_on_roots(undo)
        _replace_api(undo, table.REPLACED)
        _add_to_tf1_api(undo)
        _put_back_private_names(undo)
        _replace_layers(undo)
        _serve_old_notebooks(undo)
        _simulate_serving(undo)
        _installation.undo = undo.pop_all()


def uninstall() -> None:
    """Takes back all that `install` did; without it, does nothing."""
    undo, _installation.undo = _installation.undo, None
    if undo is not None:
        undo.close()


def is_installed() -> bool:
    """Says whether old names resolve now."""
    return _installation.undo is not None


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Makes old names resolve inside a `with` block; leaves them where they already did."""
    was_installed = is_installed()
    install()
    try:
        yield
    finally:
        if not was_installed:
            uninstall()


@functools.cache
def tree() -> ModuleTree:
    """Gives the old modules; members that were found stay found over a second install."""
    return ModuleTree(
        table.ROWS, table.STAND_INS, table.ALIASES, table.ADVICE, table.READY_MADE_MODULES
    )


def _tell_of_others() -> None:
    """Warns of modules by old names that somebody else has put there: imports find them first."""
    for name in _ROOTS:
        if name in sys.modules:
            tf.compat.v1.logging.warning(
                "%s is imported already, from %s, and stays what it is. Call tpuest.install() first, or leave the other "
                "one out.",
                name,
                getattr(sys.modules[name], "__file__", None) or "no file",
            )


def _keep_what_roots_have(undo: contextlib.ExitStack) -> None:
    """Notes what others have put there: importing a module sets it on its parent."""
    for root in api.roots():
        for name in ("contrib", "estimator"):
            if name in vars(root):
                undo.callback(setattr, root, name, vars(root)[name])


def _add_finders(undo: contextlib.ExitStack) -> None:
    first, last = OldModuleFinder(tree(), table.GONE), OldModuleFinder(tree(), table.IF_GONE)
    # An installed tensorflow_estimator no longer imports; what private modules there are come first.
    sys.meta_path.insert(0, first)
    sys.meta_path.append(last)
    for finder in (first, last):
        undo.callback(_forget, finder.made)
        undo.callback(sys.meta_path.remove, finder)


def _forget(made: dict[str, types.ModuleType]) -> None:
    """Takes modules out of sys.modules and off their parents."""
    for name, module in made.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]
        parent, _, last = name.rpartition(".")
        names = vars(sys.modules.get(parent, types.ModuleType("none")))
        if names.get(last) is module:
            del names[last]


def _set_on_roots(undo: contextlib.ExitStack) -> None:
    contrib = importlib.import_module("tensorflow.contrib")
    estimator = importlib.import_module("tensorflow.estimator")
    for root in api.roots():
        _set(undo, root, "contrib", contrib)
        _set(undo, root, "estimator", estimator)


def _replace_api(undo: contextlib.ExitStack, replaced: dict[tuple[str, str], str]) -> None:
    copies = functools.cache(api.modules)  # Finding them costs milliseconds.
    for (path, name), target in replaced.items():
        for module in copies(path):
            if name in dir(module):
                _set(undo, module, name, resolve(target, name))


def _add_to_tf1_api(undo: contextlib.ExitStack) -> None:
    for path, rows in table.ADDED.items():
        for module in api.modules(path):
            if ".compat.v1" not in module.__name__:
                continue
            for name in rows.keys() - set(dir(module)):
                _set(undo, module, name, resolve(rows[name], f"tf.{path}.{name}"))


def _put_back_private_names(undo: contextlib.ExitStack) -> None:
    for (path, name), target in table.MOVED.items():
        module = importlib.import_module(path)
        if not hasattr(module, name):
            _set(undo, module, name, resolve(target, name))
    for (path, name), target in table.REPLACED_PRIVATE.items():
        _set(undo, importlib.import_module(path), name, resolve(target, name))


def _replace_layers(undo: contextlib.ExitStack) -> None:
    keras_serves = trace.keras_serves_layers()
    if not keras_serves:
        undo.enter_context(trace.keras_free_layers())
        _replace_api(undo, table.KERAS_FREE)
    home = "tf_keras.src.legacy_tf_layers.normalization" if keras_serves else "tpuest.compat.layers"

    def find(name: str) -> Any:
        if name not in table.NORMALIZATION_NAMES:
            raise AttributeError(f"module {table.NORMALIZATION!r} has no attribute {name!r}")
        return resolve(f"{home}:{table.NORMALIZATION_NAMES[name]}", name)

    # To remove when TensorFlow looks for it in tf_keras.src.
    _set(undo, importlib.import_module(table.NORMALIZATION), "__getattr__", find)


def _serve_old_notebooks(undo: contextlib.ExitStack) -> None:
    if colab.show_tpu(is_simulated=bool(topology.cores_to_simulate())):
        undo.callback(colab.hide_tpu)
    v1 = importlib.import_module("tensorflow.compat.v1")
    for session in (v1.Session, v1.InteractiveSession):
        _set(undo, session, "__init__", colab.with_local_target(session.__init__))


def _simulate_serving(undo: contextlib.ExitStack) -> None:
    loader = _tf.SavedModelLoader
    find = simulated_serving.simulating(loader.get_meta_graph_def_from_tags)
    _set(undo, loader, "get_meta_graph_def_from_tags", find)


def _set(
    undo: contextlib.ExitStack, module: types.ModuleType | type, name: str, value: Any
) -> None:
    # Not getattr: an attribute may be a lazy module, which would load.
    before = vars(module).get(name, _ABSENT)
    setattr(module, name, value)

    def put_back() -> None:
        if before is _ABSENT:
            delattr(module, name)
        else:
            setattr(module, name, before)

    undo.callback(put_back)
