"""Cells of `tf.contrib.rnn` give TensorFlow 1.15's variables and numbers."""

import numpy as np
import pytest
import recorded
import tensorflow as tf

import tpuest

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated")
cases = recorded.load("record_rnn_cells")


@pytest.fixture(scope="module")
def original():
    with np.load(cases.GOLDENS) as values:
        return dict(values)


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.__name__)
def test_case_equals_the_original(original, case):
    with tpuest.installed():
        found = cases.run(case, tf.contrib.rnn)
    recorded.assert_case_equals(found, case, original, atol=2e-6)
