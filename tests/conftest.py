"""Gives the process its simulated cores before TensorFlow starts; tests switch them on and off."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ.pop("TPUEST_SIMULATE_TPU", None)

import pytest
import tensorflow as tf

import tpuest
from tpuest import topology

MOST_CORES = 8

tpuest.simulate_tpu(MOST_CORES)
tpuest.simulate_tpu(0)


@pytest.fixture(autouse=True)
def leaves_tensorflow_as_it_was():
    """Ends with an error for the test that leaves cores switched on, a graph or TF 1's behaviour behind."""
    yield
    assert topology.simulated_cores() == 0
    assert tf.executing_eagerly()
    assert tf.compat.v1.resource_variables_enabled()
    assert tf.compat.v1.control_flow_v2_enabled()
