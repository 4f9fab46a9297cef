"""What the user says about a TPU run: `RunConfig`, `TPUConfig` and `InputPipelineConfig`.

Takes the constructors' arguments and TF_CONFIG, gives checked settings from which `topology`
counts cores and hosts and computes batch sizes.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import numbers
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tpuest import run_config
from tpuest.run_config import TaskType

__all__ = [
    "InputPipelineConfig",
    "IterationsPerLoop",
    "RunConfig",
    "TPUConfig",
    "TaskType",
    "parse_iterations_per_loop",
]

_logger = logging.getLogger("tensorflow")

_SECONDS_PER_UNIT = {"s": 1, "m": 60, "h": 3600}


class InputPipelineConfig:
    """How often `input_fn` is called, and the batch it must give. See `TPUConfig`."""

    PER_SHARD_V1 = 1
    PER_HOST_V1 = 2
    PER_HOST_V2 = 3
    BROADCAST = 4
    SLICED = 5


_TRAINING_INPUTS = (
    InputPipelineConfig.PER_SHARD_V1,
    InputPipelineConfig.PER_HOST_V1,
    InputPipelineConfig.PER_HOST_V2,
    InputPipelineConfig.BROADCAST,
)


@dataclasses.dataclass(frozen=True)
class IterationsPerLoop:
    """How long the cores run before the host takes over.

    Attributes:
      value: number of steps, or of seconds.
      unit: 'count' or 'seconds'.
    """

    value: int
    unit: str


def parse_iterations_per_loop(iterations_per_loop: int | str) -> IterationsPerLoop:
    """Reads a number of steps (100) or a duration ('30s', '5m', '1h').

    Raises:
      ValueError: it is neither.
    """
    match = re.fullmatch(r"([1-9]\d*)([smh]?)", str(iterations_per_loop))
    if match is None:
        raise ValueError(
            "Invalid TPUConfig `iterations_per_loop` value. Value must be positive integer value "
            "or time-based value `<N><s|m|h>` where <N> is any positive integer and `s`, `m`, `h` "
            "are unit of time in seconds, minutes, hours respectively. Examples of valid values: "
            f"`3600s`, `60m`, `1h`. Got {iterations_per_loop!r}."
        )
    value, unit = int(match[1]), match[2]
    if not unit:
        return IterationsPerLoop(value, "count")
    return IterationsPerLoop(value * _SECONDS_PER_UNIT[unit], "seconds")


class _TPUConfigFields(NamedTuple):
    iterations_per_loop: int | str
    num_shards: int | None
    num_cores_per_replica: int | None
    per_host_input_for_training: int
    tpu_job_name: str | None
    initial_infeed_sleep_secs: int | None
    input_partition_dims: Any
    eval_training_input_configuration: int
    experimental_host_call_every_n_steps: int
    experimental_allow_per_host_v2_parallel_get_next: bool
    experimental_feed_hook: Callable | None


class TPUConfig(_TPUConfigFields):
    """The TPU part of a `RunConfig`, checked when it is made.

    All settings have defaults; the first is the one to think about:

        TPUConfig(iterations_per_loop=100)
        TPUConfig(iterations_per_loop="5m",
                  per_host_input_for_training=InputPipelineConfig.PER_HOST_V2)
    """

    def __new__(
        cls,
        iterations_per_loop: int | str = 2,
        num_shards: int | None = None,
        num_cores_per_replica: int | None = None,
        per_host_input_for_training: bool | int = True,
        tpu_job_name: str | None = None,
        initial_infeed_sleep_secs: int | None = None,
        input_partition_dims: Any = None,
        eval_training_input_configuration: int = InputPipelineConfig.PER_HOST_V1,
        experimental_host_call_every_n_steps: int = 1,
        experimental_allow_per_host_v2_parallel_get_next: bool = False,
        experimental_feed_hook: Callable | None = None,
    ) -> TPUConfig:
        """Checks the settings.

        Args:
          iterations_per_loop: training steps that run on the cores before the host takes over for
            hooks, checkpoints and logs: a number, or a duration such as '30s', '5m' or '1h'.
          num_shards: number of replicas; None counts them.
          num_cores_per_replica: cores that share one copy of the model; None is one.
          per_host_input_for_training: how `input_fn` is called for training, and the
            `params['batch_size']` it gets:
              PER_HOST_V1 or True: once for each host, train_batch_size / hosts;
              PER_HOST_V2: once for each host, train_batch_size / replicas;
              PER_SHARD_V1 or False: once for each core, train_batch_size / replicas;
              BROADCAST: once, train_batch_size, and every core gets the whole batch.
          tpu_job_name: job of the TPU workers; None takes 'tpu_worker_job_name' of the 'service'
            in TF_CONFIG, and finds it otherwise.
          initial_infeed_sleep_secs: accepted, without effect: there is no infeed thread.
          input_partition_dims: how each tensor of `input_fn` is split over the cores of one
            replica, a list of one (features) or two (features, labels) structures.
          eval_training_input_configuration: PER_HOST_V1, or SLICED: `input_fn` is called once and
            its batch cut into one slice for each core.
          experimental_host_call_every_n_steps: training steps between two host calls.
          experimental_allow_per_host_v2_parallel_get_next: whether batches may reach the cores in
            any order.
          experimental_feed_hook: class to use instead of the original's infeed hook.

        Raises:
          ValueError: a setting breaks a rule; the message names it.
          TypeError: a count isn't an integer.
        """
        parse_iterations_per_loop(iterations_per_loop)
        if num_shards is not None:
            _verify_positive_integer(num_shards, "TPUConfig num_shards")
        if input_partition_dims is not None:
            _verify_input_partition_dims(
                input_partition_dims, per_host_input_for_training, num_cores_per_replica
            )
        _verify_num_cores_per_replica(num_cores_per_replica)
        _verify_eval_input(eval_training_input_configuration)
        if initial_infeed_sleep_secs:
            _verify_positive_integer(
                initial_infeed_sleep_secs, "TPUConfig initial_infeed_sleep_secs"
            )
        _verify_positive_integer(
            experimental_host_call_every_n_steps, "TPUConfig experimental_host_call_every_n_steps"
        )
        return super().__new__(
            cls,
            iterations_per_loop=iterations_per_loop,
            num_shards=num_shards,
            num_cores_per_replica=num_cores_per_replica,
            per_host_input_for_training=_resolve_training_input(per_host_input_for_training),
            tpu_job_name=tpu_job_name or _tpu_job_name_in_tf_config(),
            initial_infeed_sleep_secs=initial_infeed_sleep_secs,
            input_partition_dims=input_partition_dims,
            eval_training_input_configuration=eval_training_input_configuration,
            experimental_host_call_every_n_steps=experimental_host_call_every_n_steps,
            experimental_allow_per_host_v2_parallel_get_next=(
                experimental_allow_per_host_v2_parallel_get_next
            ),
            experimental_feed_hook=experimental_feed_hook,
        )


class RunConfig(run_config.RunConfig):
    """How a `TPUEstimator` runs: that of `tf.compat.v1.estimator.tpu`, argument for argument.

    To the plain `RunConfig` it adds the TPU's address and settings:

        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        config = RunConfig(cluster=resolver, model_dir="gs://bucket/model",
                           tpu_config=TPUConfig(iterations_per_loop=100))
    """

    def __init__(
        self,
        tpu_config: TPUConfig | None = None,
        evaluation_master: str | None = None,
        master: str | None = None,
        cluster: tf.distribute.cluster_resolver.ClusterResolver | None = None,
        **kwargs: Any,
    ):
        """Checks the arguments and reads TF_CONFIG.

        Args:
          tpu_config: the TPU settings; None for the defaults.
          evaluation_master: address for evaluation; None for `master`, unless TF_CONFIG says that
            this process is an evaluator.
          master: address for training. '' counts as given. Not together with `cluster`.
          cluster: resolver that knows the TPU's address and hosts.
          **kwargs: arguments of `tpuest.run_config.RunConfig`.

        Raises:
          TypeError: `tpu_config` is something else.
          ValueError: both `master` and `cluster` are set, or both `cluster` and
            `session_config.cluster_def`, or an argument breaks a rule.
        """
        super().__init__(**kwargs)
        if master is not None and cluster is not None:
            raise ValueError(
                f"Both master and cluster are set. Got master={master!r} and cluster={cluster}; "
                "pass `cluster` only."
            )
        if tpu_config is not None and not hasattr(tpu_config, "iterations_per_loop"):
            raise TypeError(
                f"tpu_config must be a TPUConfig, got {tpu_config!r}. Pass TPUConfig(iterations_per_loop=...)."
            )
        self._tpu_config = tpu_config or TPUConfig()
        self._cluster = cluster
        if cluster is not None:
            self._master = cluster.master()
            self._cluster_spec = cluster.cluster_spec()
            self._session_config = self._session_config_with_cluster()
        elif master is not None:
            self._master = master
        if evaluation_master is not None:
            self._evaluation_master = evaluation_master
        elif not self._evaluation_master and self.task_type != TaskType.EVALUATOR:
            self._evaluation_master = self._master

    @classmethod
    def from_plain(cls, plain: run_config.RunConfig) -> RunConfig:
        """Gives a TPU `RunConfig` with all settings of a plain one and no TPU.

        The cluster is the plain one's too: TF_CONFIG may have changed since.
        """
        made = cls.__new__(cls)
        vars(made).update(vars(copy.deepcopy(plain)))
        tpu_job_name = (plain.service or {}).get("tpu_worker_job_name")
        made._tpu_config = TPUConfig()._replace(tpu_job_name=tpu_job_name)
        made._cluster = None
        return made

    @property
    def tpu_config(self) -> TPUConfig:
        """The TPU settings."""
        return self._tpu_config

    @property
    def cluster(self) -> tf.distribute.cluster_resolver.ClusterResolver | None:
        """The resolver that knows the TPU's address and hosts, or None."""
        return self._cluster

    def replace(self, **changes: Any) -> RunConfig:
        """Gives a copy in which the named properties, `tpu_config` too, have new values.

        Raises:
          ValueError: a property can't be replaced, or a new value breaks a rule.
        """
        tpu_config = changes.pop("tpu_config", self._tpu_config)
        replaced = super().replace(**changes)
        replaced._tpu_config = tpu_config
        return replaced

    def _default_session_config(self) -> None:
        """Leaves the session unrestricted: one TPU program spans all workers."""

    def _session_config_with_cluster(self) -> tf.compat.v1.ConfigProto:
        session_config = tf.compat.v1.ConfigProto()
        if self._session_config is None:
            session_config.allow_soft_placement = True
            session_config.isolate_session_state = True
        else:
            session_config.CopyFrom(self._session_config)  # It stays the user's own.
        if session_config.HasField("cluster_def"):
            raise ValueError("You cannot provide a ClusterResolver and session_config.cluster_def.")
        if self._cluster_spec:
            session_config.cluster_def.CopyFrom(self._cluster_spec.as_cluster_def())
        return session_config


def _verify_positive_integer(value: Any, name: str) -> None:
    if not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be int, got {type(value)}")
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value}")


def _verify_num_cores_per_replica(num_cores_per_replica: int | None) -> None:
    if num_cores_per_replica not in (None, 1, 2, 4, 8, 16, 32, 64, 128):
        raise ValueError(
            "num_cores_per_replica must be 1, 2, 4, 8, 16, 32, 64, 128; "
            f"got {num_cores_per_replica}"
        )


def _verify_eval_input(eval_training_input_configuration: int) -> None:
    allowed = (InputPipelineConfig.PER_HOST_V1, InputPipelineConfig.SLICED)
    if eval_training_input_configuration not in allowed:
        raise ValueError(
            "eval_training_input_configuration must be PER_HOST_V1 or SLICED; "
            f"got {eval_training_input_configuration}"
        )


def _verify_input_partition_dims(
    input_partition_dims: Any,
    per_host_input_for_training: bool | int,
    num_cores_per_replica: int | None,
) -> None:
    if not isinstance(input_partition_dims, (list, tuple)) or len(input_partition_dims) not in (
        1,
        2,
    ):
        raise ValueError(
            "input_partition_dims must be a list/tuple with one or two elements, "
            f"got {input_partition_dims!r}."
        )
    if per_host_input_for_training != InputPipelineConfig.PER_HOST_V2:
        raise ValueError(
            "input_partition_dims is only supported in PER_HOST_V2 mode, "
            f"got per_host_input_for_training={per_host_input_for_training}."
        )
    if num_cores_per_replica is None:
        raise ValueError("input_partition_dims requires setting num_cores_per_replica.")


def _resolve_training_input(per_host_input_for_training: bool | int) -> int:
    """Maps the booleans of TF 1.4 to today's numbers."""
    if per_host_input_for_training is True:
        return InputPipelineConfig.PER_HOST_V1
    if per_host_input_for_training is False:
        return InputPipelineConfig.PER_SHARD_V1
    if per_host_input_for_training not in _TRAINING_INPUTS:
        raise ValueError(
            "per_host_input_for_training must be a boolean, PER_SHARD_V1, PER_HOST_V1, PER_HOST_V2 "
            f"or BROADCAST; got {per_host_input_for_training}"
        )
    return per_host_input_for_training


def _tpu_job_name_in_tf_config() -> str | None:
    service = run_config.read_tf_config().get("service") or {}
    tpu_job_name = service.get("tpu_worker_job_name")
    if tpu_job_name:
        _logger.info("Load TPU job name from TF_CONFIG: %s", tpu_job_name)
    return tpu_job_name
