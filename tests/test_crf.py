"""`tf.contrib.crf` gives TensorFlow 1.15's variables and numbers."""

import numpy as np
import pytest
import recorded
import tensorflow as tf

import tpuest

cases = recorded.load("record_crf")


@pytest.mark.parametrize("case", cases.CASES)
def test_case_equals_the_original(case):
    with np.load(cases.GOLDENS) as original:
        wanted = {
            name.partition("/")[2]: original[name]
            for name in original.files
            if name.startswith(f"{case}/")
        }
    with tpuest.installed():
        found = cases.run(tf.contrib.crf, case)
    assert found.keys() == wanted.keys()
    assert found["variables"].tolist() == wanted["variables"].tolist()
    for name in wanted.keys() - {"variables"}:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-5, err_msg=name)
