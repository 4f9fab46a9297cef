"""Protocol messages take what old programs put into them."""

import numpy as np
import pytest
import tensorflow as tf

import tpuest


@pytest.fixture
def int64_list():
    with tpuest.installed():
        yield tf.train.Int64List


def test_integer_features_take_booleans(int64_list):
    made = int64_list(value=[True, np.False_, 3, np.int32(4)])
    assert list(made.value) == [1, 0, 3, 4]
    feature = tf.train.Feature(int64_list=made)
    assert list(feature.int64_list.value) == [1, 0, 3, 4]


def test_integer_features_are_tensorflows_own_messages(int64_list):
    made = int64_list(value=[5])
    assert isinstance(made, int64_list)
    assert int64_list.FromString(made.SerializeToString()) == made
    assert type(made) is type(tf.train.Feature().int64_list)


def test_integer_features_refuse_what_is_no_number(int64_list):
    with pytest.raises(TypeError):
        int64_list(value=["one"])
