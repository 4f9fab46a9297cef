"""Finds the TPU system of a simulated run: how many cores and hosts it has, and how they lie in the mesh.

Takes the estimator's configuration; gives a `TPUSystem`, from which `topology` counts replicas. A program or a test that
stands in for TensorFlow's `_query_tpu_system_metadata` fabricates the system; otherwise it is the simulated cores.
"""

from __future__ import annotations

import dataclasses
import functools
import socket
import time
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import _tf
from tpuest.spec import ModeKeys


@dataclasses.dataclass(frozen=True)
class TPUSystem:
    """The cores that an estimator may use.

    Attributes:
      num_cores: of all hosts.
      num_hosts: each has as many cores as the others.
      mesh: the cores' coordinates; `None` where nobody knows them.
      is_fabricated: whether the program said so itself, rather than the simulation.
      master: the session's address, as in `RunConfig`.
      job: the job of the hosts, `None` where there is no cluster.
    """

    num_cores: int
    num_hosts: int
    mesh: tf.tpu.experimental.Topology | None
    is_fabricated: bool = False
    master: str = ""
    job: str | None = None

    @property
    def cores_per_host(self) -> int:
        return self.num_cores // self.num_hosts


def fabricated_system(config: Any, mode: str) -> TPUSystem | None:
    """Gives the system that stands in for TensorFlow's own query, `None` if nobody replaced it.

    Args:
      config: the estimator's `RunConfig`.
      mode: a `ModeKeys`: evaluation has an address of its own.

    Raises:
      ValueError: the job of the hosts can't be inferred.
    """
    query = _tf.replaced_tpu_system_query()
    if query is None:
        return None
    master = master_of(config, mode)
    metadata = query(
        master,
        cluster_def=_cluster_def(config) if _has_jobs(config) else None,
        query_topology=bool(config.tpu_config.num_cores_per_replica),
    )
    return TPUSystem(
        num_cores=metadata.num_cores,
        num_hosts=metadata.num_hosts,
        mesh=metadata.topology,
        is_fabricated=True,
        master=master,
        job=find_job(config, mode),
    )


def simulated_system(num_cores: int) -> TPUSystem:
    """Describes simulated cores, all on this machine."""
    return TPUSystem(num_cores, 1, simulated_mesh(num_cores))


@functools.cache
def simulated_mesh(num_cores: int) -> tf.tpu.experimental.Topology:
    """Lays cores out as those of one TPU host: two on a chip, chips in a grid that is two wide where it can be."""
    cores = 2 - num_cores % 2
    width = 2 if num_cores // cores % 2 == 0 else 1
    mesh_shape = [num_cores // cores // width, width, 1, cores]
    coordinates = np.stack(np.unravel_index(range(num_cores), mesh_shape), axis=-1)
    return tf.tpu.experimental.Topology(
        mesh_shape=np.array(mesh_shape, np.int32),
        device_coordinates=coordinates[None].astype(np.int32),
    )


def master_of(config: Any, mode: str) -> str:
    """Gives the address of a mode's session."""
    return config.evaluation_master if mode == ModeKeys.EVAL else config.master


def find_job(config: Any, mode: str) -> str | None:
    """Names the job of the TPU's hosts, `None` where there is no cluster.

    Raises:
      ValueError: it can't be inferred.
    """
    if config.tpu_config.tpu_job_name:
        return config.tpu_config.tpu_job_name
    try:
        return _tf.tpu_job(master_of(config, mode), _cluster_def(config))
    except ValueError as error:
        raise ValueError(
            f"{error} Please specify a tpu_job_name as part of your TPUConfig."
        ) from error


class _Connection:
    """The process's connection to its TPUs: TensorFlow initialises all that it knows of at once."""

    generation = 0


def generation() -> int:
    """Counts how often this process has connected anew; what was on a TPU before is gone."""
    return _Connection.generation


def end_generation() -> None:
    """Gives up everything that is on a TPU."""
    _Connection.generation += 1


def connect(resolver: Any) -> tf.tpu.experimental.Topology:
    """Connects this process to a TPU and initialises it; gives its mesh.

    Raises:
      UnavailableError: a host that was there before doesn't come back.
    """
    hosts = resolver.cluster_spec()
    if _Connection.generation:
        wait_for_hosts(hosts)
    tf.config.experimental_connect_to_cluster(as_connected(hosts) or resolver)
    return tf.tpu.experimental.initialize_tpu_system(resolver)


def as_connected(hosts: tf.train.ClusterSpec | None) -> tf.train.ClusterSpec | None:
    """Adds this process to hosts that it has connected to before; gives `None` if it hasn't.

    Told only of the hosts, TensorFlow (2.21) would tell them an address of this process at which nobody listens, and a
    host that asks there for a batch is refused. Told of an address that is new to it, it listens there.
    """
    known = _tf.get_server_def()
    if known is None or not hosts or known.job_name in hosts.jobs:
        return None
    with socket.socket() as free:
        free.bind(("localhost", 0))
        own = f"localhost:{free.getsockname()[1]}"
    return tf.train.ClusterSpec({**hosts.as_dict(), known.job_name: [own]})


def wait_for_hosts(cluster: tf.train.ClusterSpec | None, seconds: float = 60.0) -> None:
    """Waits for all hosts of a cluster: TensorFlow, connecting to one that isn't there, waits for it without end.

    Raises:
      UnavailableError: a host can't be reached within that time.
    """
    deadline = time.monotonic() + seconds
    for address in (a for tasks in cluster.as_dict().values() for a in tasks) if cluster else ():
        while not _is_reachable(address):
            if time.monotonic() > deadline:
                raise tf.errors.UnavailableError(
                    None, None, f"No connection to {address} within {seconds:g} seconds"
                )
            time.sleep(1)


def _is_reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
            return True
    except OSError:
        return False


def _cluster_def(config: Any) -> Any:
    return config.session_config.cluster_def if config.session_config else None


def _has_jobs(config: Any) -> bool:
    cluster_def = _cluster_def(config)
    return cluster_def is not None and bool(cluster_def.job)
