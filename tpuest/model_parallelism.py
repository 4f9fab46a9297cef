"""Replicas of several cores: how many there are, which cores are whose, how a batch is split over them.

Takes `TPUConfig.num_cores_per_replica` and `input_partition_dims`; gives what `topology` and `core_batches` need. The
rules and their words are those of `tpu_context.py` and `tpu_feed.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import _tf
from tpuest.tpu_system import TPUSystem

# The block of the mesh that a replica takes: x, y, z, core on a chip.
_SHAPES = {
    1: [1, 1, 1, 1],
    2: [1, 1, 1, 2],
    4: [1, 2, 1, 2],
    8: [2, 2, 1, 2],
    16: [4, 2, 1, 2],
    32: [4, 4, 1, 2],
    64: [8, 4, 1, 2],
    128: [8, 8, 1, 2],
}


def count_replicas(num_cores: int, cores_per_replica: int) -> int:
    """Counts the replicas that a system holds.

    Raises:
      ValueError: one replica needs more cores than there are.
      RuntimeError: the cores can't be divided among replicas.
    """
    if cores_per_replica > num_cores:
        raise ValueError(
            "The num of cores required by the model parallelism, specified by "
            "TPUConfig.num_cores_per_replica, is larger than the total num of TPU cores in the system. "
            f"num_cores_per_replica: {cores_per_replica}, num cores in the system: {num_cores}"
        )
    if num_cores % cores_per_replica:
        raise RuntimeError(
            f"The num of cores in the system ({num_cores}) is not divisible by the num of cores "
            f"({cores_per_replica}) required by the model parallelism, specified by "
            "TPUConfig.num_cores_per_replica."
        )
    return num_cores // cores_per_replica


def check_cores_per_host(system: TPUSystem, cores_per_replica: int) -> None:
    """Refuses replicas that reach over several hosts, but for PER_HOST_V2.

    Raises:
      ValueError: they do.
    """
    if cores_per_replica > system.cores_per_host:
        raise ValueError(
            "Except the PER_HOST_V2 mode, the num of cores required by model parallelism specified by "
            "TPUConfig.num_cores_per_replica should be less than or equal to the num_cores_per_host. "
            f"num_cores_per_replica: {cores_per_replica}, num_cores_per_host: {system.cores_per_host}"
        )


def assign_devices(
    mesh: tf.tpu.experimental.Topology, cores_per_replica: int, num_replicas: int
) -> tf.tpu.experimental.DeviceAssignment:
    """Gives each replica its cores, neighbours in the mesh."""
    shape = _SHAPES[cores_per_replica]
    if any(shape[axis] > size for axis, size in enumerate(mesh.mesh_shape)):
        # A mesh of another form than the original's TPUs had: one core on a chip, or chips in a row.
        shape = _block(list(mesh.mesh_shape), cores_per_replica)
    return tf.tpu.experimental.DeviceAssignment.build(
        mesh, computation_shape=shape, num_replicas=num_replicas
    )


def _block(mesh_shape: list[int], num_cores: int) -> list[int]:
    """Finds a block of so many cores, filling the mesh from its last axis on."""
    block = [1] * len(mesh_shape)
    for axis in reversed(range(len(mesh_shape))):
        block[axis] = int(np.gcd(int(mesh_shape[axis]), num_cores))
        num_cores //= block[axis]
    return block


def flat_partition_dims(partition_dims: Any, features: Any, labels: Any) -> list[list[int] | None]:
    """Flattens `input_partition_dims` in the order of the batch's tensors.

    Args:
      partition_dims: `[of features]` or `[of features, of labels]`: for each tensor into how many parts each axis
        is split, or `None`.
      features: nested tensors.
      labels: the same, or `None`.

    Raises:
      ValueError: the structures don't fit.
    """
    of_features, of_labels = (*partition_dims, None)[:2]
    _check_keys(0, "feature", features, of_features)
    if of_labels is not None:
        _check_keys(1, "label", labels, of_labels)
    flat = _flatten_like(0, "features", features, of_features)
    if labels is None:
        return flat
    if of_labels is None:
        return [*flat, *[None] * len(tf.nest.flatten(labels))]
    return [*flat, *_flatten_like(1, "labels", labels, of_labels)]


def _check_keys(index: int, what: str, structure: Any, dims: Any) -> None:
    expected, got = _keys(structure), _keys(dims)
    if expected != got:
        raise ValueError(
            f"TPUConfig.input_partition_dims[{index}] mismatched {what} keys. "
            f"Expected {expected}, got {got}"
        )


def _keys(structure: Any) -> list[str]:
    return sorted(structure) if isinstance(structure, dict) else []


def _flatten_like(index: int, what: str, structure: Any, dims: Any) -> list:
    try:
        return _tf.flatten_up_to(structure, dims)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"TPUConfig.input_partition_dims[{index}] mismatched the structure of {what}. "
            f"input_partition_dims[{index}]: {dims}, {what}: {structure}. {error}"
        ) from error


def check_partition(shape: tf.TensorShape, dims: Any, cores_per_replica: int) -> bool:
    """Says whether a replica's tensor is split over its cores.

    Args:
      shape: of the replica's tensor.
      dims: into how many parts each axis is split; `None` for no split.
      cores_per_replica: the number of parts.

    Raises:
      ValueError: the split doesn't fit the tensor or the cores.
    """
    if dims is None:
        return False
    if min(dims) < 1:
        raise ValueError(f"All input partition dims must be >= 1. Got {list(dims)}.")
    num_parts = int(np.prod(dims))
    if num_parts == 1:
        return False
    if num_parts != cores_per_replica:
        raise ValueError(
            "The product of each input partition dim should equal to num_cores_per_replica. "
            f"(dim = {list(dims)}, num_cores_per_replica = {cores_per_replica})"
        )
    if len(dims) != shape.rank:
        raise ValueError(
            "Input partition dims must have the same number of dimensions as the `Tensor` to be partitioned. "
            f"(tensor shape = {shape.as_list()}, input partition dims = {list(dims)})."
        )
    return True
