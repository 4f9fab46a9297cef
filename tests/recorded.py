"""Cases that the original ran: the scripts of `goldens`, and what they recorded."""

import importlib.util
import pathlib

import numpy as np

GOLDENS = pathlib.Path(__file__).with_name("goldens")


def load(name):
    """Gives a script of `goldens` as a module: its cases, `run`, and where their values are."""
    spec = importlib.util.spec_from_file_location(name, GOLDENS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_case_equals(found, case, original, atol):
    """Compares what a case gave, variables' names included, with the values in the original's archive."""
    wanted = {
        name.partition("/")[2]: value
        for name, value in original.items()
        if name.startswith(f"{case.__name__}/")
    }
    assert found.keys() == wanted.keys()
    assert found["variables"].tolist() == wanted["variables"].tolist()
    for name in wanted.keys() - {"variables"}:
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5, atol=atol, err_msg=name)
