"""What the user says about a run: directories, checkpoints, logs and the cluster.

Takes the constructor's arguments and the environment variable TF_CONFIG, gives a `RunConfig`
that every stage reads and none changes. The `RunConfig` of a TPU program is in `tpuest.config`.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import json
import logging
import numbers
import operator
import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tpuest import errors, signatures

_logger = logging.getLogger("tensorflow")


class _Unset(enum.Enum):
    """A type with one value, which survives copying and pickling."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return self.name


UNSET = _Unset.UNSET
"""Stands for "not given" where `None` means something else."""


class TaskType:
    """The names a task can have in TF_CONFIG."""

    MASTER = "master"
    PS = "ps"
    WORKER = "worker"
    CHIEF = "chief"
    EVALUATOR = "evaluator"


# The properties that `replace()` may change, in the order of the original's error message.
_REPLACEABLE = [
    "model_dir",
    "tf_random_seed",
    "save_summary_steps",
    "save_checkpoints_steps",
    "save_checkpoints_secs",
    "session_config",
    "keep_checkpoint_max",
    "keep_checkpoint_every_n_hours",
    "log_step_count_steps",
    "train_distribute",
    "device_fn",
    "protocol",
    "eval_distribute",
    "experimental_distribute",
    "experimental_max_worker_delay_secs",
    "session_creation_timeout_secs",
    "checkpoint_save_graph_def",
]

# Attributes that stand for hardware; a copied config must mean the same hardware, not a copy.
_SHARED_BY_COPIES = (
    "_train_distribute",
    "_eval_distribute",
    "_experimental_distribute",
    "_cluster",
)

_EXCLUSIVE_CHECKPOINTS = "`save_checkpoints_steps` and `save_checkpoints_secs` cannot be both set."


def _is_device_fn(value: Any) -> bool:
    return callable(value) and set(signatures.declared_arguments(value)) == {"op"}


# (property, what holds for every value but None, the rule as the original words it)
_RULES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("model_dir", bool, "model_dir should be non-empty"),
    ("save_summary_steps", lambda steps: steps >= 0, "save_summary_steps should be >= 0"),
    ("save_checkpoints_steps", lambda steps: steps >= 0, "save_checkpoints_steps should be >= 0"),
    ("save_checkpoints_secs", lambda secs: secs >= 0, "save_checkpoints_secs should be >= 0"),
    (
        "session_config",
        lambda config: isinstance(config, tf.compat.v1.ConfigProto),
        "session_config must be instance of ConfigProto",
    ),
    ("keep_checkpoint_max", lambda count: count >= 0, "keep_checkpoint_max should be >= 0"),
    (
        "keep_checkpoint_every_n_hours",
        lambda hours: hours > 0,
        "keep_checkpoint_every_n_hours should be > 0",
    ),
    ("log_step_count_steps", lambda steps: steps > 0, "log_step_count_steps should be > 0"),
    (
        "tf_random_seed",
        lambda seed: isinstance(seed, numbers.Integral),
        "tf_random_seed must be integer.",
    ),
    (
        "experimental_max_worker_delay_secs",
        lambda secs: isinstance(secs, numbers.Integral),
        "experimental_max_worker_delay_secs must be an integer if set.",
    ),
    (
        "session_creation_timeout_secs",
        lambda secs: secs > 0,
        "session_creation_timeout_secs should be > 0",
    ),
    ("device_fn", _is_device_fn, 'device_fn must be callable with exactly one argument "op".'),
    (
        "protocol",
        lambda protocol: protocol in ("grpc", "grpc+verbs"),
        "protocol should be grpc or grpc+verbs",
    ),
]


def _property(name: str, doc: str) -> property:
    return property(operator.attrgetter("_" + name), doc=doc)


class RunConfig:
    """How an `Estimator` runs: `tf.estimator.RunConfig`, argument for argument.

        config = RunConfig(model_dir="/tmp/model", save_checkpoints_steps=1000)
        config.save_checkpoints_secs            # None: steps were given
        config = config.replace(keep_checkpoint_max=2)

    The cluster comes from TF_CONFIG, a JSON object with 'cluster' (task type to list of
    addresses) and 'task' ('type' and 'index' of this process):

        {"cluster": {"chief": ["host0:2222"], "ps": ["host1:2222"],
                     "worker": ["host2:2222", "host3:2222"]},
         "task": {"type": "worker", "index": 1}}

    Here `task_type` is 'worker', `task_id` 1, `num_worker_replicas` 3 (chief and workers),
    `num_ps_replicas` 1, `master` 'grpc://host3:2222', `is_chief` False. An 'evaluator' is no part
    of the cluster. Without TF_CONFIG the process is the only worker, and the chief.

    Further attributes may be set on the object, as some programs do; copies keep them.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike | None = None,
        tf_random_seed: int | None = None,
        save_summary_steps: int | None = 100,
        save_checkpoints_steps: int | None = UNSET,
        save_checkpoints_secs: float | None = UNSET,
        session_config: tf.compat.v1.ConfigProto | None = None,
        keep_checkpoint_max: int | None = 5,
        keep_checkpoint_every_n_hours: float = 10000,
        log_step_count_steps: int | None = 100,
        train_distribute: tf.distribute.Strategy | None = None,
        device_fn: Callable | None = None,
        protocol: str | None = None,
        eval_distribute: tf.distribute.Strategy | None = None,
        experimental_distribute: Any = None,
        experimental_max_worker_delay_secs: int | None = None,
        session_creation_timeout_secs: int = 7200,
        checkpoint_save_graph_def: bool = True,
    ):
        """Checks the arguments and reads TF_CONFIG.

        Args:
          model_dir: where checkpoints and summaries go. TF_CONFIG may give it as 'model_dir'; if
            both do, they must agree. None leaves it to the estimator.
          tf_random_seed: seed of the graph, for the same initial values in every run.
          save_summary_steps: steps between summaries.
          save_checkpoints_steps: steps between checkpoints. Not together with
            `save_checkpoints_secs`.
          save_checkpoints_secs: seconds between checkpoints; 600 if neither is given. If both are
            None, there are no checkpoints.
          session_config: options of the sessions that run on the host, and of the devices.
          keep_checkpoint_max: how many recent checkpoints stay; 0 or None keeps all.
          keep_checkpoint_every_n_hours: hours between the checkpoints that stay for good.
          log_step_count_steps: steps between the log lines with loss and steps per second.
          train_distribute: strategy for training.
          device_fn: takes an operation as `op`, gives its device.
          protocol: 'grpc' or 'grpc+verbs', None for the default.
          eval_distribute: strategy for evaluation.
          experimental_distribute: an object with `train_distribute` and `eval_distribute`, instead
            of the two arguments.
          experimental_max_worker_delay_secs: seconds a worker waits at most before it starts.
          session_creation_timeout_secs: seconds a worker waits at most for the others.
          checkpoint_save_graph_def: whether `graph.pbtxt` and `model.ckpt-*.meta` are written.

        Raises:
          ValueError: an argument or TF_CONFIG breaks a rule; the message names it.
          TypeError: 'service' in TF_CONFIG isn't an object.
          UnsupportedError: `experimental_distribute.remote_cluster` is set.
        """
        for strategy in (train_distribute, eval_distribute):
            _refuse_parameter_server_strategy_2(strategy)
        tf_config = read_tf_config()
        if tf_config:
            _logger.info("TF_CONFIG environment variable: %s", tf_config)
        save_steps, save_secs = _resolve_save_intervals(
            save_checkpoints_steps, save_checkpoints_secs
        )
        self._set(
            model_dir=_resolve_model_dir(path_to_str(model_dir), tf_config),
            tf_random_seed=tf_random_seed,
            save_summary_steps=save_summary_steps,
            save_checkpoints_steps=save_steps,
            save_checkpoints_secs=save_secs,
            session_config=session_config,
            keep_checkpoint_max=keep_checkpoint_max,
            keep_checkpoint_every_n_hours=keep_checkpoint_every_n_hours,
            log_step_count_steps=log_step_count_steps,
            train_distribute=train_distribute,
            device_fn=device_fn,
            protocol=protocol,
            eval_distribute=eval_distribute,
            experimental_distribute=experimental_distribute,
            experimental_max_worker_delay_secs=experimental_max_worker_delay_secs,
            session_creation_timeout_secs=session_creation_timeout_secs,
            checkpoint_save_graph_def=checkpoint_save_graph_def,
        )
        self._take_experimental_distribute()
        self._join_cluster(tf_config)

    model_dir = _property("model_dir", "Directory of checkpoints and summaries, or None.")
    tf_random_seed = _property("tf_random_seed", "Seed of the graph, or None.")
    save_summary_steps = _property("save_summary_steps", "Steps between summaries.")
    save_checkpoints_steps = _property("save_checkpoints_steps", "Steps between checkpoints.")
    save_checkpoints_secs = _property("save_checkpoints_secs", "Seconds between checkpoints.")
    session_config = _property("session_config", "A `ConfigProto`, or None.")
    keep_checkpoint_max = _property("keep_checkpoint_max", "How many checkpoints stay.")
    keep_checkpoint_every_n_hours = _property(
        "keep_checkpoint_every_n_hours", "Hours between the checkpoints that stay for good."
    )
    log_step_count_steps = _property("log_step_count_steps", "Steps between log lines.")
    train_distribute = _property("train_distribute", "Strategy for training, or None.")
    eval_distribute = _property("eval_distribute", "Strategy for evaluation, or None.")
    device_fn = _property("device_fn", "Takes an operation, gives its device; or None.")
    protocol = _property("protocol", "'grpc', 'grpc+verbs' or None.")
    experimental_max_worker_delay_secs = _property(
        "experimental_max_worker_delay_secs", "Seconds a worker waits at most before it starts."
    )
    session_creation_timeout_secs = _property(
        "session_creation_timeout_secs", "Seconds a worker waits at most for the others."
    )
    checkpoint_save_graph_def = _property(
        "checkpoint_save_graph_def", "Whether `graph.pbtxt` and `model.ckpt-*.meta` are written."
    )

    cluster_spec = _property("cluster_spec", "The training cluster; empty if there is none.")
    task_type = _property("task_type", "A `TaskType`.")
    task_id = _property("task_id", "Position among the tasks of the same type, from 0.")
    global_id_in_cluster = _property(
        "global_id_in_cluster",
        "Position among all tasks, from 0: chief, other types by name, ps; None for an evaluator.",
    )
    master = _property("master", "Address of the training session, '' for this process.")
    evaluation_master = _property("evaluation_master", "Address of the evaluation session.")
    is_chief = _property("is_chief", "Whether this process writes checkpoints.")
    num_ps_replicas = _property("num_ps_replicas", "Number of parameter servers.")
    num_worker_replicas = _property("num_worker_replicas", "Number of workers, the chief too.")
    service = _property("service", "The 'service' object of TF_CONFIG, or None.")

    def replace(self, **changes: Any) -> RunConfig:
        """Gives a copy in which the named properties have new values.

        Setting one of `save_checkpoints_steps` and `save_checkpoints_secs` resets the other.

        Raises:
          ValueError: a property can't be replaced, or a new value breaks a rule.
        """
        replaced = copy.deepcopy(self)
        replaced._set(**changes)
        return replaced

    def __deepcopy__(self, memo: dict) -> RunConfig:
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        for name, value in vars(self).items():
            shared = name in _SHARED_BY_COPIES
            setattr(copied, name, value if shared else copy.deepcopy(value, memo))
        return copied

    def _set(self, **changes: Any) -> None:
        for name, value in changes.items():
            if name not in _REPLACEABLE:
                raise ValueError(
                    f"Replacing {name} is not supported. Allowed properties are {_REPLACEABLE}."
                )
            setattr(self, "_" + name, path_to_str(value) if name == "model_dir" else value)
        self._keep_one_save_interval(changes)
        self._verify()

    def _keep_one_save_interval(self, changes: Mapping[str, Any]) -> None:
        steps = changes.get("save_checkpoints_steps")
        secs = changes.get("save_checkpoints_secs")
        if steps is not None and secs is not None:
            raise ValueError(f"{_EXCLUSIVE_CHECKPOINTS} Got {steps} steps and {secs} secs.")
        if steps is not None:
            self._save_checkpoints_secs = None
        elif secs is not None:
            self._save_checkpoints_steps = None

    def _verify(self) -> None:
        for name, holds, rule in _RULES:
            value = getattr(self, name)
            if value is not None and not holds(value):
                raise ValueError(f"{rule.rstrip('.')}, got {value!r}.")

    def _take_experimental_distribute(self) -> None:
        """Moves the strategies of `experimental_distribute` to the two properties."""
        if not self._experimental_distribute:
            return
        for name in ("train_distribute", "eval_distribute"):
            strategy = getattr(self._experimental_distribute, name, None)
            if strategy and getattr(self, name):
                raise ValueError(f"Either `{name}` or `experimental_distribute.{name}` can be set.")
            if strategy:
                setattr(self, "_" + name, strategy)
        if getattr(self._experimental_distribute, "remote_cluster", None):
            raise errors.UnsupportedError(
                "`experimental_distribute.remote_cluster`",
                "Start the same program on each worker, with TF_CONFIG naming the cluster and the "
                "worker's task.",
            )

    def _join_cluster(self, tf_config: Mapping[str, Any]) -> None:
        """Sets the properties that depend on TF_CONFIG.

        Differs from TPUEstimator: with `train_distribute`, the original knew the task only once
        its distribute coordinator had started; here the properties are right from the start.
        """
        has_chief = not self._trains_by_workers(tf_config)
        task = _read_task(tf_config, requires_chief=has_chief)
        for field in dataclasses.fields(task):
            setattr(self, "_" + field.name, getattr(task, field.name))
        if has_chief and not self._session_config and self._cluster_spec:
            self._session_config = self._default_session_config()

    def _trains_by_workers(self, tf_config: Mapping[str, Any]) -> bool:
        """Says whether the cluster is one of equal workers under a strategy, with no chief."""
        strategy = self._train_distribute
        if not strategy or type(strategy).__name__.startswith("TPUStrategy"):
            return False
        return TaskType.MASTER not in tf_config.get("cluster", {})

    def _default_session_config(self) -> tf.compat.v1.ConfigProto | None:
        """Restricts a task of a cluster to itself and the parameter servers."""
        device_filters = {
            TaskType.MASTER: ["/job:ps", "/job:master"],
            TaskType.CHIEF: ["/job:ps", "/job:chief"],
            TaskType.WORKER: ["/job:ps", f"/job:worker/task:{self._task_id}"],
            TaskType.PS: ["/job:ps", "/job:worker", "/job:chief", "/job:master"],
        }.get(self._task_type)
        if device_filters is None:
            return None
        session_config = get_default_session_config()
        session_config.device_filters.extend(device_filters)
        return session_config


def get_default_session_config() -> tf.compat.v1.ConfigProto:
    """Gives the session options of an estimator whose config has none."""
    session_config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
    rewrite_options = session_config.graph_options.rewrite_options
    rewrite_options.meta_optimizer_iterations = rewrite_options.ONE
    return session_config


def read_tf_config() -> dict[str, Any]:
    """Gives the environment variable TF_CONFIG as a dict, empty if it isn't set.

    Raises:
      ValueError: it isn't a JSON object.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        tf_config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"TF_CONFIG must be JSON, got {text!r}: {error}.") from error
    if not isinstance(tf_config, dict):
        raise ValueError(f"TF_CONFIG must be a JSON object, got {text!r}.")
    return tf_config


def _resolve_save_intervals(steps: Any, secs: Any) -> tuple[int | None, float | None]:
    if steps is UNSET and secs is UNSET:
        return None, 600
    return (None if steps is UNSET else steps), (None if secs is UNSET else secs)


def _resolve_model_dir(model_dir: str | None, tf_config: Mapping[str, Any]) -> str | None:
    model_dir_in_tf_config = tf_config.get("model_dir")
    if model_dir == "":
        raise ValueError("model_dir should be non-empty.")
    if model_dir_in_tf_config == "":
        raise ValueError("model_dir in TF_CONFIG should be non-empty.")
    if not model_dir_in_tf_config:
        return model_dir
    if model_dir and model_dir != model_dir_in_tf_config:
        raise ValueError(
            "`model_dir` provided in RunConfig construct, if set, must have the same value as the "
            f"model_dir in TF_CONFIG. model_dir: {model_dir}\n"
            f'TF_CONFIG["model_dir"]: {model_dir_in_tf_config}.\n'
        )
    _logger.info("Using model_dir in TF_CONFIG: %s", model_dir_in_tf_config)
    return model_dir_in_tf_config


def path_to_str(path: Any) -> str | None:
    """Reads a `model_dir`.

    Raises:
      TypeError: it is neither a string nor a path.
    """
    if path is None or isinstance(path, str):
        return path
    if not isinstance(path, os.PathLike):
        raise TypeError(f"model_dir must be a string or a path, got {path!r}")
    return os.fsdecode(path)


def _refuse_parameter_server_strategy_2(strategy: Any) -> None:
    refused = tf.compat.v2.distribute.experimental.ParameterServerStrategy
    if strategy is not None and type(strategy) is refused:
        raise ValueError(
            "Please use `tf.compat.v1.distribute.experimental.ParameterServerStrategy` for "
            f"parameter server strategy with estimator, got {strategy}."
        )


@dataclasses.dataclass(frozen=True)
class _Task:
    """This process's place in the cluster, the `RunConfig` properties of the same names."""

    cluster_spec: tf.train.ClusterSpec
    task_type: str
    task_id: int
    global_id_in_cluster: int | None
    master: str
    evaluation_master: str
    is_chief: bool
    num_ps_replicas: int
    num_worker_replicas: int
    service: dict[str, Any] | None


def _read_task(tf_config: Mapping[str, Any], *, requires_chief: bool) -> _Task:
    cluster_spec = tf.train.ClusterSpec(tf_config.get("cluster", {}))
    service = tf_config.get("service")
    if service is not None and not isinstance(service, dict):
        raise TypeError(
            f'If "service" is set in TF_CONFIG, it must be a dict. Given {type(service)}'
        )
    if not cluster_spec:
        return _local_task(tf_config)
    chief_type = _chief_type(cluster_spec, requires_chief)
    task_type, task_id = _verified_task(cluster_spec, tf_config.get("task", {}))
    if task_type == TaskType.EVALUATOR:
        if chief_type == TaskType.MASTER:
            raise ValueError(
                "If `master` node exists in `cluster`, task_type `evaluator` is not supported."
            )
        return _evaluator_task(task_id, tf_config)
    leader = chief_type if chief_type in cluster_spec.jobs else TaskType.WORKER
    return _Task(
        cluster_spec=cluster_spec,
        task_type=task_type,
        task_id=task_id,
        global_id_in_cluster=_global_id(cluster_spec, task_type, task_id, chief_type),
        master=_session_master(cluster_spec, task_type, task_id, tf_config),
        evaluation_master="",
        is_chief=(task_type, task_id) == (leader, 0),
        num_ps_replicas=_count(cluster_spec, TaskType.PS),
        num_worker_replicas=_count(cluster_spec, TaskType.WORKER, chief_type),
        service=service,
    )


def _local_task(tf_config: Mapping[str, Any]) -> _Task:
    task = tf_config.get("task", {})
    task_type = task.get("type", TaskType.WORKER)
    if task_type != TaskType.WORKER:
        raise ValueError(
            f'If "cluster" is not set in TF_CONFIG, task type must be WORKER, got {task_type!r}.'
        )
    if int(task.get("index", 0)) != 0:
        raise ValueError(
            f'If "cluster" is not set in TF_CONFIG, task index must be 0, got {task["index"]!r}.'
        )
    return _Task(
        cluster_spec=tf.train.ClusterSpec({}),
        task_type=TaskType.WORKER,
        task_id=0,
        global_id_in_cluster=0,
        master=tf_config.get("session_master", ""),
        evaluation_master=tf_config.get("eval_session_master", ""),
        is_chief=True,
        num_ps_replicas=0,
        num_worker_replicas=1,
        service=tf_config.get("service"),
    )


def _evaluator_task(task_id: int, tf_config: Mapping[str, Any]) -> _Task:
    return _Task(
        cluster_spec=tf.train.ClusterSpec({}),
        task_type=TaskType.EVALUATOR,
        task_id=task_id,
        global_id_in_cluster=None,
        master="",
        evaluation_master=tf_config.get("eval_session_master", ""),
        is_chief=False,
        num_ps_replicas=0,
        num_worker_replicas=0,
        service=tf_config.get("service"),
    )


def _chief_type(cluster_spec: tf.train.ClusterSpec, requires_chief: bool) -> str:
    """Gives the type of the task that leads: 'master' in old clusters, else 'chief'."""
    jobs = cluster_spec.jobs
    chief_type = TaskType.MASTER if TaskType.MASTER in jobs else TaskType.CHIEF
    if TaskType.MASTER in jobs and TaskType.CHIEF in jobs:
        raise ValueError("If `master` node exists in `cluster`, job `chief` is not supported.")
    if requires_chief and chief_type not in jobs:
        raise ValueError(f'If "cluster" is set in TF_CONFIG, it must have one "{chief_type}" node.')
    if _count(cluster_spec, chief_type) > 1:
        raise ValueError(f'The "cluster" in TF_CONFIG must have only one "{chief_type}" node.')
    return chief_type


def _verified_task(cluster_spec: tf.train.ClusterSpec, task: Mapping[str, Any]) -> tuple[str, int]:
    task_type = task.get("type")
    if not task_type:
        raise ValueError('If "cluster" is set in TF_CONFIG, task type must be set.')
    if task.get("index") is None:
        raise ValueError('If "cluster" is set in TF_CONFIG, task index must be set.')
    task_id = int(task["index"])
    if task_id < 0:
        raise ValueError(f"Task index must be non-negative number, got {task_id}.")
    if task_type == TaskType.EVALUATOR:
        return task_type, task_id
    origin = "Note that these values may be coming from the TF_CONFIG environment variable."
    if task_type not in cluster_spec.jobs:
        raise ValueError(
            f"{task_type} is not a valid task_type in the cluster_spec:\n{cluster_spec}\n\n{origin}"
        )
    if task_id >= _count(cluster_spec, task_type):
        raise ValueError(
            f"{task_id} is not a valid task_id for task_type {task_type} in the cluster_spec:\n"
            f"{cluster_spec}\n\n{origin}"
        )
    return task_type, task_id


def _count(cluster_spec: tf.train.ClusterSpec, *task_types: str) -> int:
    tasks = cluster_spec.as_dict()
    return sum(len(tasks.get(task_type, [])) for task_type in task_types)


def _session_master(
    cluster_spec: tf.train.ClusterSpec,
    task_type: str,
    task_id: int,
    tf_config: Mapping[str, Any],
) -> str:
    if "session_master" in tf_config:
        return tf_config["session_master"]
    if _count(cluster_spec, *cluster_spec.jobs) == 1:
        return ""  # A lone task is faster without a server.
    return "grpc://" + cluster_spec.job_tasks(task_type)[task_id]


def _global_id(
    cluster_spec: tf.train.ClusterSpec, task_type: str, task_id: int, chief_type: str
) -> int:
    rank = {chief_type: 0, TaskType.PS: 2}
    ordered = sorted(cluster_spec.jobs, key=lambda job: (rank.get(job, 1), job))
    return _count(cluster_spec, *ordered[: ordered.index(task_type)]) + task_id
