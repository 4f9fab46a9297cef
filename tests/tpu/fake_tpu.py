"""A TPU that isn't there: the true `TPUStrategy` over fabricated cores.

Takes a number of cores; gives a strategy under which everything can be built and nothing can run. TensorFlow's soft
placement puts the cores' variables on the CPU.
"""

from __future__ import annotations

import functools

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.tpu import tpu_system_metadata

_TASK = "/job:localhost/replica:0/task:0/device:"


class FakeResolver(tf.distribute.cluster_resolver.ClusterResolver):
    """Stands for a `TPUClusterResolver` that found `num_cores` cores on this machine."""

    tpu_hardware_feature = None
    _tpu = ""
    environment = ""

    def __init__(self, num_cores: int):
        self._num_cores = num_cores

    def get_tpu_system_metadata(self):
        cores = [context.LogicalDevice(f"{_TASK}TPU:{i}", "TPU") for i in range(self._num_cores)]
        return tpu_system_metadata.TPUSystemMetadata(
            num_cores=self._num_cores,
            num_hosts=1,
            num_of_cores_per_host=self._num_cores,
            topology=None,
            devices=[*cores, context.LogicalDevice(f"{_TASK}CPU:0", "CPU")],
        )

    def cluster_spec(self):
        return None

    def master(self, task_type=None, task_id=None, rpc_layer=None):
        return ""

    def num_accelerators(self, task_type=None, task_id=None, config_proto=None):
        return {"TPU": self._num_cores}

    def get_job_name(self):
        return "localhost"


@functools.cache
def fake_tpu_strategy(num_cores: int) -> tf.distribute.TPUStrategy:
    """Gives the strategy over `num_cores` cores that aren't there."""
    return tf.distribute.TPUStrategy(FakeResolver(num_cores))
