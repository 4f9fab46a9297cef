"""Decides where a call runs and how large its batches are.

Takes the estimator's configuration and mode; gives a `Topology` (the strategy and its cores) and the
`BatchSizes` that `input_fn` and `model_fn` see. The only file that computes a batch size.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest import chips, errors
from tpuest.config import InputPipelineConfig
from tpuest.spec import ModeKeys


@dataclasses.dataclass(frozen=True)
class Topology:
    """Where the replicas of the model run.

    Attributes:
      strategy: runs the replica step.
      devices: one device string for each replica; on a TPU, of each replica's first core.
      num_hosts: machines that feed the cores, 1 without a TPU.
      num_cores: TPU or simulated cores, 1 for CPU or GPU.
      num_replicas: copies of the model.
      on_cores: whether the TPU's rules hold: static shapes, work of the host apart.
      is_tpu: whether the cores are a TPU's.
    """

    strategy: tf.distribute.Strategy
    devices: tuple[str, ...]
    num_hosts: int
    num_cores: int
    num_replicas: int
    on_cores: bool
    is_tpu: bool

    @property
    def replicas_per_host(self) -> int:
        return self.num_replicas // self.num_hosts


@dataclasses.dataclass(frozen=True)
class BatchSizes:
    """The batch sizes of one mode, in examples; `None` where the user gave none.

    Attributes:
      global_batch_size: of one step over all replicas.
      input_batch_size: `params['batch_size']` of `input_fn`.
      model_batch_size: `params['batch_size']` of `model_fn`.
      num_input_calls: how often `input_fn` is called.
      replicas_per_call: how many replicas one call feeds.
      is_core_batch: whether an element of `input_fn` is one replica's batch.
      is_broadcast: whether every replica gets the whole batch.
    """

    global_batch_size: int | None
    input_batch_size: int | None
    model_batch_size: int | None
    num_input_calls: int
    replicas_per_call: int
    is_core_batch: bool
    is_broadcast: bool


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
        return self.topology.replicas_per_host

    @property
    def current_host(self) -> int:
        """The id of the host that this call of `input_fn` feeds."""
        index = self._index_of_call()
        return index * self.topology.num_hosts // self.batch_sizes.num_input_calls

    @property
    def device_assignment(self) -> Any:
        """The logical cores' placement: `None` without model parallelism.

        Raises:
          RuntimeError: asked for in `input_fn`.
        """
        if self.invocation_index is not None:
            raise RuntimeError("This TPUContext instance must not be called from input_fn.")
        return None

    def current_input_fn_deployment(self) -> tuple[str, int, int, int]:
        """Gives the host's device, this call's index, the number of calls, and replicas fed by it.

        Raises:
          RuntimeError: asked for in `model_fn`.
        """
        index = self._index_of_call()
        device = _host_device(self.current_host)
        sizes = self.batch_sizes
        return device, index, sizes.num_input_calls, sizes.replicas_per_call

    def device_for_replica(self, replica_id: int) -> tuple[str, int]:
        """Gives the host's device and the core's ordinal there."""
        host, ordinal = divmod(replica_id, self.topology.replicas_per_host)
        return f"/task:{host}/device:CPU:0", ordinal

    @property
    def tpu_host_placement_function(self) -> Callable[[int], str]:
        """Gives a function from a host's id to its device."""
        return _host_device

    def _index_of_call(self) -> int:
        if self.invocation_index is None:
            raise RuntimeError("This TPUContext instance must not be called from model_fn.")
        return self.invocation_index


def _host_device(host_id: int) -> str:
    return f"/replica:0/task:{host_id}/device:CPU:0"


class _Simulation:
    """The process's simulated cores: TensorFlow's logical devices are the process's too."""

    num_cores: int | None = None


def simulate_tpu(num_cores: int) -> None:
    """Lets `use_tpu=True` run on simulated cores of this machine's CPU.

    Every rule of a TPU holds: static shapes, per-core batches, gradients summed across cores, host
    calls on the host. Call it before TensorFlow runs its first op; the environment variable
    TPUEST_SIMULATE_TPU=N means the same.

    Args:
      num_cores: how many cores to simulate; 0 ends the simulation.

    Raises:
      ValueError: `num_cores` is negative.
      RuntimeError: TensorFlow already started with fewer devices.
    """
    if num_cores < 0:
        raise ValueError(f"num_cores must not be negative, got {num_cores}")
    if num_cores:
        _make_logical_cpus(num_cores)
    _Simulation.num_cores = num_cores


def _make_logical_cpus(num_cores: int) -> None:
    (cpu,) = tf.config.list_physical_devices("CPU")[:1]
    made = tf.config.get_logical_device_configuration(cpu) or [None]
    if len(made) >= num_cores:
        return
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * num_cores
        )
    except RuntimeError as error:
        raise RuntimeError(
            f"Cannot simulate {num_cores} TPU cores: TensorFlow already runs with {len(made)} CPU "
            "device(s). Call tpuest.simulate_tpu before the first op, or set "
            f"{chips.SIMULATION_VARIABLE}={num_cores} in the environment."
        ) from error


def simulated_cores() -> int:
    """Returns how many cores are simulated, 0 if none."""
    if _Simulation.num_cores is None:
        simulate_tpu(cores_to_simulate())
    return _Simulation.num_cores


def cores_to_simulate() -> int:
    """Returns how many cores were asked for so far; TensorFlow doesn't have them yet."""
    made = _Simulation.num_cores
    return chips.cores_to_simulate() if made is None else made


def find_topology(config: Any, use_tpu: bool) -> Topology:
    """Finds what the configuration asks for: a TPU, simulated cores, or this machine's CPU or GPU.

    Args:
      config: the estimator's `RunConfig`.
      use_tpu: whether to run on TPU cores.

    Raises:
      RuntimeError: there is no TPU, and no simulation.
      ValueError: `TPUConfig` disagrees with the simulated cores.
    """
    if not use_tpu:
        _check_is_alone(config)
        return _host_topology()
    if simulated_cores():
        return _simulated_topology(_wanted_cores(config, simulated_cores()))
    return _tpu_topology(config.cluster, config.master, config.tpu_config.num_shards)


def _check_is_alone(config: Any) -> None:
    """Refuses what would otherwise train as if alone, each process into the same directory.

    Raises:
      UnsupportedError: the configuration asks for several workers or a distribution strategy.
    """
    if config.train_distribute is not None or config.eval_distribute is not None:
        raise errors.UnsupportedError(
            "RunConfig(train_distribute=..., eval_distribute=...)",
            "Leave them out to run on one CPU or GPU, or use TPUEstimator(use_tpu=True).",
        )
    if config.num_worker_replicas > 1 or config.num_ps_replicas > 0:
        raise errors.UnsupportedError(
            "TF_CONFIG with several workers or parameter servers",
            "Unset TF_CONFIG, or start one process only.",
        )


def _wanted_cores(config: Any, num_cores: int) -> int:
    num_shards = config.tpu_config.num_shards
    if num_shards == 1:
        tf.compat.v1.logging.warn(
            "Setting TPUConfig.num_shards==1 is an unsupported behavior. "
            "Please fix as soon as possible (leaving num_shards as None.)"
        )
        return 1
    if num_shards and num_shards != num_cores:
        raise errors.wrong_num_shards("the simulation", num_cores, num_shards)
    return num_cores


@functools.cache
def _host_topology() -> Topology:
    device = "/gpu:0" if tf.config.list_physical_devices("GPU") else "/cpu:0"
    return Topology(
        strategy=tf.distribute.OneDeviceStrategy(device),
        devices=(device,),
        num_hosts=1,
        num_cores=1,
        num_replicas=1,
        on_cores=False,
        is_tpu=False,
    )


@functools.cache
def _simulated_topology(num_cores: int) -> Topology:
    tf.compat.v1.logging.info("Running on %d simulated TPU cores (logical CPU devices)", num_cores)
    devices = tuple(f"/cpu:{index}" for index in range(num_cores))
    one_core = num_cores == 1
    return Topology(
        strategy=(
            tf.distribute.OneDeviceStrategy(devices[0])
            if one_core
            # Collective ops, the default, refuse a second strategy of another size in the same process.
            else tf.distribute.MirroredStrategy(
                devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
            )
        ),
        devices=devices,
        num_hosts=1,
        num_cores=num_cores,
        num_replicas=num_cores,
        on_cores=True,
        is_tpu=False,
    )


@functools.cache
def _tpu_topology(cluster: Any, master: str, num_shards: int | None) -> Topology:
    """Connects to the TPU, once a process for each cluster or master."""
    from tpuest.compat.cluster_resolver import TPUClusterResolver  # It asks for simulated cores.

    resolver = cluster or TPUClusterResolver(master or None)
    # The resolver of old programs is made before anyone knows whether a TPU is wanted.
    if getattr(resolver, "is_nothing", False):
        raise errors.no_tpu(resolver.looked_for, tf.config.list_physical_devices())
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tpu_topology(tf.distribute.TPUStrategy(resolver), num_shards)


def tpu_topology(strategy: tf.distribute.TPUStrategy, num_shards: int | None = None) -> Topology:
    """Describes the cores of a `TPUStrategy`.

    Args:
      strategy: over all cores of the TPU.
      num_shards: what `TPUConfig` says; another number than the TPU's warns.
    """
    num_replicas = strategy.num_replicas_in_sync
    if num_shards and num_shards != num_replicas:
        tf.compat.v1.logging.warn(
            "TPUConfig.num_shards is %d, the TPU has %d replicas; going on with %d.",
            num_shards,
            num_replicas,
            num_replicas,
        )
    return Topology(
        strategy=strategy,
        devices=tuple(strategy.extended.worker_devices),
        num_hosts=strategy.extended.num_hosts,
        num_cores=num_replicas,
        num_replicas=num_replicas,
        on_cores=True,
        is_tpu=True,
    )


def find_batch_sizes(
    mode: str, tpu_config: Any, topology: Topology, global_batch_size: int | None
) -> BatchSizes:
    """Computes the batch sizes of one mode.

    Args:
      mode: a `ModeKeys`.
      tpu_config: the estimator's `TPUConfig`.
      topology: where the call runs.
      global_batch_size: what the user gave for the mode, in examples.

    Raises:
      ValueError: on cores, the batch size is missing or can't be divided; or SLICED without cores.
    """
    sliced = (
        mode != ModeKeys.TRAIN
        and tpu_config.eval_training_input_configuration == InputPipelineConfig.SLICED
    )
    if not topology.on_cores:
        if sliced:
            raise ValueError(
                "Invalid TPUConfig `eval_training_input_configuration` value. "
                "SLICED mode only works on use_tpu = True."
            )
        size = global_batch_size
        return BatchSizes(size, size, size, 1, 1, is_core_batch=True, is_broadcast=False)
    once = sliced or tpu_config.per_host_input_for_training == InputPipelineConfig.BROADCAST
    _check_batch_size(mode, global_batch_size, topology.num_replicas, may_be_uneven=once)
    return _sizes_on_cores(mode, tpu_config, topology, global_batch_size, once, once and not sliced)


def _check_batch_size(
    mode: str, global_batch_size: int | None, num_replicas: int, may_be_uneven: bool
) -> None:
    if global_batch_size is None:
        called = {"infer": "predict", "eval": "evaluate"}[mode]
        raise ValueError(
            f"{_batch_name(mode)}_batch_size in TPUEstimator constructor cannot be `None` if "
            f".{called} is running on TPU."
        )
    if global_batch_size % num_replicas and not may_be_uneven:
        raise errors.batch_not_divisible(_batch_name(mode), global_batch_size, num_replicas)


def _batch_name(mode: str) -> str:
    return "predict" if mode == ModeKeys.PREDICT else mode


def _sizes_on_cores(mode, tpu_config, topology, global_batch_size, once, broadcast) -> BatchSizes:
    deployment = tpu_config.per_host_input_for_training
    core_batch = global_batch_size // topology.num_replicas
    per_core = mode == ModeKeys.TRAIN and deployment == InputPipelineConfig.PER_SHARD_V1
    if once:
        input_batch, num_calls = global_batch_size, 1
    elif per_core:
        input_batch, num_calls = core_batch, topology.num_replicas
    elif deployment == InputPipelineConfig.PER_HOST_V2:
        input_batch, num_calls = core_batch, topology.num_hosts
    else:
        input_batch, num_calls = global_batch_size // topology.num_hosts, topology.num_hosts
    return BatchSizes(
        global_batch_size=global_batch_size,
        input_batch_size=input_batch,
        model_batch_size=global_batch_size if broadcast else core_batch,
        num_input_calls=num_calls,
        replicas_per_call=topology.num_replicas // num_calls,
        is_core_batch=broadcast
        or (not once and (per_core or deployment == InputPipelineConfig.PER_HOST_V2)),
        is_broadcast=broadcast,
    )
