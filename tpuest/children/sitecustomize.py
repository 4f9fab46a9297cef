"""Prepares the Python that a program under `tpuest` started; Python imports it when it starts.

Takes what `children.inherit` left in the environment; then the machine's own `sitecustomize` runs.
Any Python may come here, of any version: only one of the same installation is prepared.
"""

import importlib
import os
import sys


def _run():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    if os.environ.get("TPUEST_CHILDREN", "").endswith(":" + sys.prefix):
        _prepare(os.path.dirname(os.path.dirname(here)))
    _run_next()


def _prepare(root):
    """Prepares this process; `root` is the directory that holds tpuest, which the child may not have on its path."""
    import importlib.util  # Python 2 has none.

    path = list(sys.path)
    sys.path.append(root)
    try:
        if importlib.util.find_spec("tensorflow") is not None:
            importlib.import_module("tpuest.children.child").prepare()
    finally:
        sys.path[:] = path


def _run_next():
    """Imports the `sitecustomize` that Python would have found without us."""
    own = sys.modules.pop("sitecustomize")
    try:
        importlib.import_module("sitecustomize")
    except ImportError as error:
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise
        sys.modules["sitecustomize"] = own


_run()
