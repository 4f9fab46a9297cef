"""What `input_fn` and `model_fn` are told about the run: `params['context']`.

Takes the topology and the mode's batch sizes; answers as `TPUContext` of `tpu_context.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tpuest.topology import BatchSizes, Topology


@dataclasses.dataclass(frozen=True)
class InputDeployment:
    """What `params['context']` tells (`TPUContext` of the original).

    Attributes:
      topology: the run's.
      batch_sizes: of the mode.
      invocation_index: which call of `input_fn` this is, from 0; `None` in `model_fn`.
    """

    topology: Topology
    batch_sizes: BatchSizes
    invocation_index: int | None = None

    @property
    def num_replicas(self) -> int:
        return self.topology.num_replicas

    @property
    def num_hosts(self) -> int:
        return self.topology.num_hosts

    @property
    def num_cores(self) -> int:
        return self.topology.num_cores

    @property
    def num_of_replicas_per_host(self) -> int:
        """The replicas that one host feeds.

        Raises:
          ValueError: with model parallelism, where a replica may have cores of several hosts.
        """
        if self.topology.cores_per_replica is not None:
            raise ValueError("num_of_replicas_per_host is not supported for model_parallelism")
        return self.topology.replicas_per_host

    @property
    def current_host(self) -> int:
        """The id of the host that this call of `input_fn` feeds.

        Raises:
          RuntimeError: asked for in `model_fn`.
        """
        return self.topology.host_of_call(self._index_of_call(), self.batch_sizes.num_input_calls)

    @property
    def device_assignment(self) -> tf.tpu.experimental.DeviceAssignment | None:
        """The logical cores' placement: `None` without model parallelism.

        Raises:
          RuntimeError: asked for in `input_fn`.
        """
        if self.invocation_index is not None:
            raise RuntimeError("This TPUContext instance must not be called from input_fn.")
        return self.topology.device_assignment

    def current_input_fn_deployment(self) -> tuple[str, int, int, int]:
        """Gives the host's device, this call's index, the number of calls, and replicas fed by it.

        Raises:
          RuntimeError: asked for in `model_fn`.
        """
        index = self._index_of_call()
        device = self.topology.host_device(self.current_host)
        sizes = self.batch_sizes
        return device, index, sizes.num_input_calls, sizes.replicas_per_call

    def device_for_replica(self, replica_id: int) -> tuple[str, int]:
        """Gives the host's device and the ordinal there of the replica's first core."""
        assignment, job = self.topology.device_assignment, self.topology.job
        if assignment is not None:
            host = assignment.host_device(replica=replica_id, job=job)
            return host, assignment.tpu_ordinal(replica=replica_id)
        host_id, ordinal = divmod(replica_id, self.topology.replicas_per_host)
        prefix = "" if job is None else f"/job:{job}"
        return f"{prefix}/task:{host_id}/device:CPU:0", ordinal

    @property
    def tpu_host_placement_function(self) -> Callable[[int], str]:
        """Gives a function from a host's id, `host_id`, to its device."""
        return self.topology.host_device

    def _index_of_call(self) -> int:
        if self.invocation_index is None:
            raise RuntimeError("This TPUContext instance must not be called from model_fn.")
        return self.invocation_index
