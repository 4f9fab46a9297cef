"""The true `TPUStrategy` over cores that aren't there.

Takes a `PlannedTPU`; gives a `Topology` for which everything can be traced and compiled and nothing run: TensorFlow's
soft placement puts the cores' variables on the CPU.
"""

from __future__ import annotations

import functools

import tensorflow as tf

from tpuest import _tf, model_parallelism
from tpuest.planned_tpu import PlannedTPU
from tpuest.topology import Topology, tpu_topology
from tpuest.tpu_system import simulated_mesh

_TASK = "/job:localhost/replica:0/task:0/device:"


def planned_topology(tpu: PlannedTPU, cores_per_replica: int | None = None) -> Topology:
    """Gives what an estimator asks for before it builds a program.

    Args:
      tpu: the cores.
      cores_per_replica: as `TPUConfig.num_cores_per_replica` says.

    Raises:
      RuntimeError: the cores can't be divided among replicas.
    """
    if cores_per_replica is not None:
        model_parallelism.count_replicas(tpu.num_cores, cores_per_replica)
    feature = tpu.generation.embedding_feature
    strategy = planned_strategy(tpu.num_cores, tpu.num_hosts, cores_per_replica, feature)
    if cores_per_replica is None:
        return tpu_topology(strategy)
    return tpu_topology(strategy, None, cores_per_replica, simulated_mesh(tpu.num_cores))


@functools.cache
def planned_strategy(
    num_cores: int,
    num_hosts: int = 1,
    cores_per_replica: int | None = None,
    embedding_feature: str = "UNSUPPORTED",
) -> tf.distribute.TPUStrategy:
    """Gives the strategy over that many fabricated cores, a replica on each or on several."""
    assignment = None
    if cores_per_replica is not None:
        assignment = model_parallelism.assign_devices(
            simulated_mesh(num_cores), cores_per_replica, num_cores // cores_per_replica
        )
    with _tf.eager_mode():
        return tf.distribute.TPUStrategy(
            _Resolver(num_cores, num_hosts, embedding_feature),
            experimental_device_assignment=assignment,
        )


class _Resolver(tf.distribute.cluster_resolver.ClusterResolver):
    """Stands for a `TPUClusterResolver` that found the cores."""

    _tpu = ""
    environment = ""

    def __init__(self, num_cores: int, num_hosts: int, embedding_feature: str):
        self.tpu_hardware_feature = _tf.tpu_hardware_feature(embedding_feature)
        self._num_cores = num_cores
        self._num_hosts = num_hosts

    def get_tpu_system_metadata(self):
        cores = [_tf.LogicalDevice(f"{_TASK}TPU:{i}", "TPU") for i in range(self._num_cores)]
        return _tf.TPUSystemMetadata(
            num_cores=self._num_cores,
            num_hosts=self._num_hosts,
            num_of_cores_per_host=self._num_cores // self._num_hosts,
            topology=None,
            devices=[*cores, _tf.LogicalDevice(f"{_TASK}CPU:0", "CPU")],
        )

    def cluster_spec(self):
        return None

    def master(self, task_type=None, task_id=None, rpc_layer=None):
        return ""

    def num_accelerators(self, task_type=None, task_id=None, config_proto=None):
        return {"TPU": self._num_cores}

    def get_job_name(self):
        return "localhost"
