"""Cells of `tf.contrib.rnn` give TensorFlow 1.15's variables and numbers."""

import importlib.util
import os

import numpy as np
import pytest
import tensorflow as tf

import tpuest

GOLDENS = os.path.join(os.path.dirname(__file__), "goldens")
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated")


def _cases():
    path = os.path.join(GOLDENS, "record_rnn_cells.py")
    spec = importlib.util.spec_from_file_location("record_rnn_cells", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _cases()


@pytest.fixture(scope="module")
def original():
    with np.load(cases.GOLDENS) as values:
        return dict(values)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.__name__)
def test_case_equals_the_original(original, case):
    with tpuest.installed():
        found = cases.run(case, tf.contrib.rnn)
    wanted = {
        name.partition("/")[2]: value
        for name, value in original.items()
        if name.startswith(f"{case.__name__}/")
    }
    assert found.keys() == wanted.keys()
    assert found["variables"].tolist() == wanted["variables"].tolist()
    for name in wanted.keys() - {"variables"}:
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5, atol=2e-6, err_msg=name)
