"""Decides where a call runs and how large its batches are.

Takes the estimator's configuration and mode; gives a `Topology` (the strategy and its cores) and the
`BatchSizes` that `input_fn` and `model_fn` see. The only file that computes a batch size.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest import _tf, chips, errors, model_parallelism, tpu_system
from tpuest.config import InputPipelineConfig
from tpuest.spec import ModeKeys
from tpuest.tpu_system import TPUSystem
from tpuest.workers import Workers, join

_ONE_MACHINE = (
    tf.distribute.MirroredStrategy,
    tf.distribute.OneDeviceStrategy,
    tf.compat.v1.distribute.MirroredStrategy,
    tf.compat.v1.distribute.OneDeviceStrategy,
)
_MULTI_WORKER = (
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.compat.v1.distribute.experimental.MultiWorkerMirroredStrategy,
)


@dataclasses.dataclass(frozen=True)
class Topology:
    """Where the replicas of the model run.

    Attributes:
      strategy: runs the replica step; `None` where a fabricated system has more cores than are simulated: there
        everything can be built, and nothing run.
      devices: one device string for each replica: of its first core.
      num_hosts: machines that feed the cores, 1 without a TPU.
      num_cores: TPU or simulated cores, 1 for CPU or GPU.
      num_replicas: copies of the model.
      on_cores: whether the TPU's rules hold: static shapes, work of the host apart.
      is_tpu: whether the cores are a TPU's.
      cores_per_replica: cores that share one copy of the model; `None` without model parallelism.
      system: what is known of the cores; `None` without them.
      is_mirrored: whether replicas are a `tf.distribute` strategy's: optimizers sum gradients over them by themselves.
      workers: the processes that train together, each with `num_replicas`; `None` where it is only this one.
      find_again: gives the same with a new connection, after a worker was lost; `None` where nothing is connected to.
      generation: of the connection.
    """

    strategy: tf.distribute.Strategy | None
    devices: tuple[str, ...]
    num_hosts: int
    num_cores: int
    num_replicas: int
    on_cores: bool
    is_tpu: bool
    cores_per_replica: int | None = None
    system: TPUSystem | None = dataclasses.field(default=None, compare=False)
    is_mirrored: bool = False
    workers: Workers | None = None
    find_again: Callable[[], Topology] | None = dataclasses.field(default=None, compare=False)
    generation: int = dataclasses.field(default_factory=tpu_system.generation, compare=False)

    @property
    def num_replicas_in_sync(self) -> int:
        """Counts the copies of the model in all processes."""
        return self.num_replicas * (self.workers.count if self.workers else 1)

    @property
    def first_replica_id(self) -> int:
        """The number, among those of all processes, of this one's first replica."""
        return self.num_replicas * self.workers.index if self.workers else 0

    @property
    def input_context(self) -> tf.distribute.InputContext | None:
        """What an `input_fn` may ask for under a `tf.distribute` strategy."""
        if not self.is_mirrored:
            return None
        workers = self.workers
        count, index = (workers.count, workers.index) if workers else (1, 0)
        return tf.distribute.InputContext(count, index, self.num_replicas_in_sync)

    @property
    def replicas_per_host(self) -> int:
        """The replicas that have their first core on a host; 0 where each needs several hosts."""
        return self.num_replicas // self.num_hosts

    @property
    def hosts_read(self) -> bool:
        """Whether several hosts read for their cores; simulated ones are all this process."""
        tasks = {tf.DeviceSpec.from_string(device).task for device in self.devices}
        return self.num_hosts > 1 and (self.is_tpu or len(tasks) > 1)

    @functools.cached_property
    def device_assignment(self) -> tf.tpu.experimental.DeviceAssignment | None:
        """Which cores are whose; `None` without model parallelism."""
        if self.cores_per_replica is None:
            return None
        return model_parallelism.assign_devices(
            self.system.mesh, self.cores_per_replica, self.num_replicas
        )

    @property
    def job(self) -> str | None:
        """The job of the hosts; `None` where this process is the only one."""
        return None if self.system is None else self.system.job

    def host_device(self, host_id: int) -> str:
        """Names a host's CPU; without a cluster every host is this process."""
        if self.job is None:
            return f"/replica:0/task:{0 if self.system else host_id}/device:CPU:0"
        return f"/job:{self.job}/task:{host_id}/device:CPU:0"

    def host_of_call(self, invocation_index: int, num_calls: int) -> int:
        """Gives the host that a call of `input_fn` feeds, from the call's number among `num_calls`."""
        if num_calls == self.num_replicas and not self.replicas_per_host:
            cores = self.device_assignment
            return cores.topology.task_ordinal_at_coordinates(
                cores.coordinates(invocation_index, 0)
            )
        return invocation_index * self.num_hosts // num_calls

    @property
    def is_connected(self) -> bool:
        """Whether what was put on the devices can still be there."""
        return self.find_again is None or self.generation == tpu_system.generation()

    def check_connected(self) -> None:
        """Refuses to go on with what is lost.

        Raises:
          tf.errors.AbortedError: the process has connected anew since.
        """
        if not self.is_connected:
            raise tf.errors.AbortedError(
                None, None, "A worker was lost, and the TPU has been initialised anew meanwhile"
            )

    def reconnected(self) -> Topology:
        """Gives where to go on after a worker was lost: here, unless a connection has to be made anew.

        Raises:
          OpError: there is no connection.
        """
        if self.find_again is None:
            return self
        if self.is_connected:
            tpu_system.end_generation()
        return self.find_again()

    def check_is_here(self) -> None:
        """Refuses to run on a fabricated system that there is only on paper.

        Raises:
          tf.errors.NotFoundError: its master can't be one.
          tf.errors.InvalidArgumentError: it has more cores than are simulated.
        """
        if self.strategy is not None:
            return
        with tf.compat.v1.Session(self.system.master, graph=tf.Graph()):
            raise tf.errors.InvalidArgumentError(
                None,
                None,
                f"Requested num_replicas={self.num_replicas} with "
                f"num_cores_per_replica={self.cores_per_replica or 1}, but there are only "
                f"{simulated_cores()} cores in the TPU topology",
            )


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
      TypeError: `num_cores` isn't an integer.
      ValueError: it is negative.
      RuntimeError: TensorFlow already started with fewer devices.
    """
    if not isinstance(num_cores, numbers.Integral):
        raise TypeError(f"num_cores must be int, got {num_cores!r}")
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


def find_topology(config: Any, use_tpu: bool, mode: str = ModeKeys.TRAIN) -> Topology:
    """Finds what the configuration asks for: a TPU, simulated cores, a strategy, or this machine's CPU or GPU.

    Args:
      config: the estimator's `RunConfig`.
      use_tpu: whether to run on TPU cores.
      mode: a `ModeKeys`: evaluation may have a TPU or a strategy of its own.

    Raises:
      RuntimeError: there is no TPU, and no simulation.
      ValueError: `TPUConfig` disagrees with the cores.
      UnsupportedError: the configuration asks for other workers, or for a strategy that isn't carried.
    """
    if not use_tpu:
        return _topology_without_cores(config, mode)
    fabricated = tpu_system.fabricated_system(config, mode)
    if fabricated is not None:
        return _fabricated_topology(fabricated, config.tpu_config)
    if simulated_cores():
        num_cores = _wanted_cores(config.tpu_config, simulated_cores())
        return _simulated_topology(num_cores, config.tpu_config.num_cores_per_replica)
    tpu_config = config.tpu_config
    return _tpu_topology(
        tpu_system.generation(),
        config.cluster,
        config.master,
        tpu_config.num_shards,
        tpu_config.num_cores_per_replica,
    )


def _topology_without_cores(config: Any, mode: str) -> Topology:
    """Finds the devices of a mode; prediction has no strategy, as in the original."""
    if config.num_ps_replicas > 0:
        raise errors.UnsupportedError(
            "TF_CONFIG with parameter servers",
            "Leave them out of the cluster: the workers sum their gradients among themselves.",
        )
    strategies = {ModeKeys.TRAIN: config.train_distribute, ModeKeys.EVAL: config.eval_distribute}
    strategy = strategies.get(mode)
    if config.num_worker_replicas > 1 and (mode == ModeKeys.TRAIN or is_multi_worker(strategy)):
        return _workers_topology(config, strategy)
    return _host_topology() if strategy is None else _strategy_topology(strategy)


def is_multi_worker(strategy: Any) -> bool:
    """Says whether a strategy is for several processes."""
    return isinstance(strategy, _MULTI_WORKER)


class _Cluster:
    """The cluster that the process has joined: TensorFlow's, too, is the process's."""

    joined: Topology | None = None


def _workers_topology(config: Any, given: Any) -> Topology:
    """Joins the other workers of TF_CONFIG, once a process.

    Args:
      config: the estimator's `RunConfig`.
      given: its strategy for the mode; `None` makes one.

    Raises:
      UnsupportedError: the strategy is for one machine, or of another kind.
      RuntimeError: TensorFlow has already run an op.
    """
    if given is not None and not is_multi_worker(given):
        raise errors.UnsupportedError(
            f"TF_CONFIG with several workers and train_distribute={type(given).__name__}",
            "Pass tf.distribute.MultiWorkerMirroredStrategy, or leave it out.",
        )
    if _Cluster.joined is None or given not in (None, _Cluster.joined.strategy):
        workers = join(given, config)
        devices = tuple(workers.strategy.extended.worker_devices)
        _Cluster.joined = Topology(
            strategy=workers.strategy,
            devices=devices,
            num_hosts=1,
            num_cores=1,
            num_replicas=len(devices),
            on_cores=False,
            is_tpu=False,
            is_mirrored=True,
            workers=workers,
        )
    return _Cluster.joined


@functools.cache
def _strategy_topology(strategy: tf.distribute.Strategy) -> Topology:
    """Describes the devices of this machine that a strategy mirrors the model on."""
    is_known = isinstance(strategy, (*_ONE_MACHINE, *_MULTI_WORKER))
    if not is_known:
        raise errors.UnsupportedError(
            f"RunConfig(train_distribute=..., eval_distribute=...) with {type(strategy).__name__}",
            "Use tf.distribute.MirroredStrategy for the GPUs of one machine, TPUEstimator for a TPU.",
        )
    devices = tuple(strategy.extended.worker_devices)
    return Topology(
        strategy=strategy,
        devices=devices,
        num_hosts=1,
        num_cores=1,
        num_replicas=len(devices),
        on_cores=False,
        is_tpu=False,
        is_mirrored=len(devices) > 1,
    )


def _is_one_core(tpu_config: Any) -> bool:
    """Says whether `num_shards` asks for a single core of whatever there is, as the original allows."""
    if tpu_config.num_shards != 1 or tpu_config.num_cores_per_replica is not None:
        return False
    tf.compat.v1.logging.warn(
        "Setting TPUConfig.num_shards==1 is an unsupported behavior. "
        "Please fix as soon as possible (leaving num_shards as None.)"
    )
    return True


def _wanted_cores(tpu_config: Any, num_cores: int) -> int:
    """Counts the cores to simulate: as many as `num_shards` replicas need, at most those there are.

    Raises:
      ValueError: there are too few.
      RuntimeError: the cores can't be divided among replicas of several cores.
    """
    if _is_one_core(tpu_config):
        return 1
    cores_per_replica = tpu_config.num_cores_per_replica or 1
    num_shards = tpu_config.num_shards
    wanted = num_cores if num_shards is None else num_shards * cores_per_replica
    num_replicas = model_parallelism.count_replicas(min(wanted, num_cores), cores_per_replica)
    if wanted > num_cores:
        raise errors.wrong_num_shards("the simulation", num_replicas, num_shards)
    if wanted < num_cores:
        tf.compat.v1.logging.info(
            "TPUConfig.num_shards is %d: simulating a TPU of %d cores, not of %d.",
            num_shards,
            wanted,
            num_cores,
        )
    return wanted


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
def _simulated_topology(num_cores: int, cores_per_replica: int | None) -> Topology:
    tf.compat.v1.logging.info("Running on %d simulated TPU cores (logical CPU devices)", num_cores)
    return _topology_on_cpus(tpu_system.simulated_system(num_cores), cores_per_replica)


def _fabricated_topology(system: TPUSystem, tpu_config: Any) -> Topology:
    """Describes a system that the program made up: it runs on simulated cores if there are enough.

    Raises:
      ValueError: `TPUConfig` disagrees with the system.
      RuntimeError: the system has no core, or the cores can't be divided among replicas of several cores.
    """
    if not system.num_cores:
        raise errors.no_tpu(f"a TPU system at the master {system.master!r}", ())
    if _is_one_core(tpu_config):
        return _topology_on_cpus(tpu_system.simulated_system(1), None)
    cores_per_replica = tpu_config.num_cores_per_replica
    num_replicas = model_parallelism.count_replicas(system.num_cores, cores_per_replica or 1)
    if tpu_config.num_shards and tpu_config.num_shards != num_replicas:
        what = f"TPU system metadata for Tensorflow master ({system.master}):"
        raise errors.wrong_num_shards(what, num_replicas, tpu_config.num_shards)
    is_per_host_v2 = tpu_config.per_host_input_for_training == InputPipelineConfig.PER_HOST_V2
    if cores_per_replica and not is_per_host_v2:
        model_parallelism.check_cores_per_host(system, cores_per_replica)
    return _topology_on_cpus(system, cores_per_replica)


def _topology_on_cpus(system: TPUSystem, cores_per_replica: int | None) -> Topology:
    """Lets a replica of several cores run on the first of them: what it computes is the same."""
    num_replicas = model_parallelism.count_replicas(system.num_cores, cores_per_replica or 1)
    devices = tuple(f"/cpu:{index * (cores_per_replica or 1)}" for index in range(num_replicas))
    is_here = system.num_cores <= max(simulated_cores(), 1)
    return Topology(
        strategy=_cpu_strategy(devices) if is_here else None,
        devices=devices,
        num_hosts=system.num_hosts,
        num_cores=system.num_cores,
        num_replicas=num_replicas,
        on_cores=True,
        is_tpu=False,
        cores_per_replica=cores_per_replica,
        system=system,
    )


@functools.cache
def _cpu_strategy(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    if len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    # Collective ops, the default, refuse a second strategy of another size in the same process.
    return tf.distribute.MirroredStrategy(
        devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


@functools.cache
def _tpu_topology(
    generation: int,
    cluster: Any,
    master: str,
    num_shards: int | None,
    cores_per_replica: int | None,
) -> Topology:
    """Connects to a TPU, and describes it to those who ask in the same generation."""

    def find_again() -> Topology:
        now = tpu_system.generation()
        return _tpu_topology(now, cluster, master, num_shards, cores_per_replica)

    # After tf.disable_v2_behavior(), and in the graph of a call that has lost a worker, connecting is refused else.
    with _tf.eager_mode():
        resolver, mesh = _connect(generation, cluster, master)
        options = {}
        if cores_per_replica is not None:
            num_cores = int(mesh.num_tasks * mesh.num_tpus_per_task)
            num_replicas = model_parallelism.count_replicas(num_cores, cores_per_replica)
            options["experimental_device_assignment"] = model_parallelism.assign_devices(
                mesh, cores_per_replica, num_replicas
            )
        strategy = tf.distribute.TPUStrategy(resolver, **options)
    found = tpu_topology(strategy, num_shards, cores_per_replica, mesh)
    return dataclasses.replace(found, find_again=find_again)


@functools.cache
def _connect(
    generation: int, cluster: Any, master: str
) -> tuple[Any, tf.tpu.experimental.Topology]:
    """Connects to the TPU, once a generation for each cluster or master; gives its resolver and mesh."""
    from tpuest.compat.cluster_resolver import TPUClusterResolver  # It asks for simulated cores.

    resolver = cluster or TPUClusterResolver(master or None)
    # The resolver of old programs is made before anyone knows whether a TPU is wanted.
    if getattr(resolver, "is_nothing", False):
        raise errors.no_tpu(resolver.looked_for, tf.config.list_physical_devices())
    return resolver, tpu_system.connect(resolver)


def tpu_topology(
    strategy: tf.distribute.TPUStrategy,
    num_shards: int | None = None,
    cores_per_replica: int | None = None,
    mesh: tf.tpu.experimental.Topology | None = None,
) -> Topology:
    """Describes the cores of a `TPUStrategy`.

    Args:
      strategy: over all cores of the TPU.
      num_shards: what `TPUConfig` says; another number than the TPU's warns.
      cores_per_replica: of the strategy's device assignment; `None` for no such assignment.
      mesh: the cores' coordinates; needed for replicas of several cores.
    """
    num_replicas = strategy.num_replicas_in_sync
    if num_shards and num_shards != num_replicas:
        tf.compat.v1.logging.warn(
            "TPUConfig.num_shards is %d, the TPU has %d replicas; going on with %d.",
            num_shards,
            num_replicas,
            num_replicas,
        )
    devices = tuple(strategy.extended.worker_devices)
    num_hosts = strategy.extended.num_hosts
    num_cores = num_replicas * (cores_per_replica or 1)
    job = tf.DeviceSpec.from_string(devices[0]).job if num_hosts > 1 else None
    return Topology(
        strategy=strategy,
        devices=devices,
        num_hosts=num_hosts,
        num_cores=num_cores,
        num_replicas=num_replicas,
        on_cores=True,
        is_tpu=True,
        cores_per_replica=cores_per_replica,
        system=TPUSystem(num_cores, num_hosts, mesh, job=job),
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
      ValueError: on cores, the batch size is missing or can't be divided; SLICED without cores; or, in a fabricated
        system, what the original refused on several hosts.
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
    is_broadcast = (
        not sliced and tpu_config.per_host_input_for_training == InputPipelineConfig.BROADCAST
    )
    once = sliced or is_broadcast
    if not once and _may_read_alike(mode, tpu_config, topology):
        if topology.system is not None and topology.system.is_fabricated:
            raise _refused_on_hosts(mode, tpu_config, topology)
        tf.compat.v1.logging.info(
            "input_fn is called once for all %d hosts of the TPU, as under SLICED: each might give the same examples.",
            topology.num_hosts,
        )
        once = True
    _check_batch_size(mode, global_batch_size, topology.num_replicas, may_be_uneven=once)
    return _sizes_on_cores(mode, tpu_config, topology, global_batch_size, once, is_broadcast)


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


def _may_read_alike(mode: str, tpu_config: Any, topology: Topology) -> bool:
    """Says whether each of several hosts may evaluate or predict what the others do: where the original refused."""
    is_per_host_v2 = tpu_config.per_host_input_for_training == InputPipelineConfig.PER_HOST_V2
    is_allowed = is_per_host_v2 and (mode == ModeKeys.EVAL or topology.num_replicas == 1)
    return mode != ModeKeys.TRAIN and topology.num_hosts > 1 and not is_allowed


def _refused_on_hosts(mode: str, tpu_config: Any, topology: Topology) -> ValueError:
    """Gives the original's error, which its tests expect of fabricated systems."""
    called, third = {
        ModeKeys.EVAL: ("evaluate", "PER_HOST_V2 mode"),
        ModeKeys.PREDICT: ("predict", "PER_HOST_V2 mode with num_replicas=1"),
    }[mode]
    return ValueError(
        f"TPUEstimator.{called} is only supported under three conditions: 1. num_hosts=1; "
        f"2. BROADCAST mode; 3. {third}. mode: {tpu_config.per_host_input_for_training}; "
        f"num_hosts: {topology.num_hosts}; num_replicas: {topology.num_replicas}"
    )


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
        # A replica of several hosts is fed by that of its first core.
        num_calls = topology.num_hosts if topology.replicas_per_host else topology.num_replicas
        input_batch = core_batch
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
