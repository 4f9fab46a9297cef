"""Tells where a mode would run and how large its batches would be, before anything runs.

Takes an estimator's configuration and how it finds its topology; answers as `_InternalTPUContext` of `tpu_context.py`,
which programs reach as `estimator._ctx`:

    with estimator._ctx.with_mode(ModeKeys.TRAIN) as context:
      context.num_replicas, context.batch_size_for_input_fn
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tpuest import tpu_system
from tpuest.topology import BatchSizes, Topology


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What is known of an estimator's runs.

    Attributes:
      config: the estimator's `RunConfig`.
      find_topology: gives a mode's `Topology`.
      find_batch_sizes: gives a mode's `BatchSizes` on a topology.
      mode: a `ModeKeys`; set by `with_mode`.
    """

    config: Any
    find_topology: Callable[[str], Topology]
    find_batch_sizes: Callable[[str, Topology], BatchSizes]
    mode: str | None = None

    @contextlib.contextmanager
    def with_mode(self, mode: str) -> Iterator[RunContext]:
        """Gives the context of one mode."""
        yield dataclasses.replace(self, mode=mode)

    @property
    def master_job(self) -> str | None:
        """The job of the TPU's hosts, `None` where there is no cluster.

        Raises:
          ValueError: it can't be inferred.
        """
        return tpu_system.find_job(self.config, self._known_mode())

    @property
    def num_cores(self) -> int:
        return self._topology().num_cores

    @property
    def num_hosts(self) -> int:
        return self._topology().num_hosts

    @property
    def num_replicas(self) -> int:
        return self._topology().num_replicas

    @property
    def num_of_replicas_per_host(self) -> int:
        return self._topology().replicas_per_host

    @property
    def device_assignment(self) -> tf.tpu.experimental.DeviceAssignment | None:
        return self._topology().device_assignment

    @property
    def global_batch_size(self) -> int | None:
        return self._batch_sizes().global_batch_size

    @property
    def batch_size_for_input_fn(self) -> int | None:
        return self._batch_sizes().input_batch_size

    @property
    def batch_size_for_model_fn(self) -> int | None:
        return self._batch_sizes().model_batch_size

    def is_running_on_cpu(self, is_export_mode: bool = False) -> bool:
        """Says whether `input_fn` and `model_fn` are called for a CPU or GPU."""
        return is_export_mode or not self._topology().on_cores

    def _known_mode(self) -> str:
        if self.mode is None:
            raise RuntimeError("`mode` needs to be set via contextmanager `with_mode`.")
        return self.mode

    def _topology(self) -> Topology:
        return self.find_topology(self._known_mode())

    def _batch_sizes(self) -> BatchSizes:
        return self.find_batch_sizes(self._known_mode(), self._topology())
