"""Several processes that train or evaluate one model: what they must do alike, and what the chief alone does.

TensorFlow's `MultiWorkerMirroredStrategy` sums over the processes; each sum waits for all of them. So the processes must
run the same steps with the same sums, and end together:

    while workers.go_on(this one wants to):
      workers.check_alike(the tensors of the step)
      step: sums gradients

In evaluation each runs the steps that its data has, and the counters of the metrics are summed at the end.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from tpuest import _tf
from tpuest.errors import UnsupportedError
from tpuest.run_config import TaskType

# A checksum below this, squared and summed over workers, is exact in int64.
_CHECKSUM_LIMIT = 1 << 24


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes that train together.

    Attributes:
      strategy: sums over them.
      count: how many there are.
      index: this one's; the chief's is 0.
    """

    strategy: tf.distribute.Strategy
    count: int
    index: int

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    def go_on(self, wants_to: bool) -> bool:
        """Says whether all workers want to go on; each must ask."""
        (total,) = self._sum([int(wants_to)])
        return total == self.count

    def check_alike(self, names: Iterable[str]) -> None:
        """Refuses a step for which workers would trace different sums, and then wait for each other forever.

        Args:
          names: of the tensors that this worker computes in the step.

        Raises:
          RuntimeError: another worker computes others; raised by all workers.
        """
        checksum = zlib.crc32("\n".join(names).encode()) % _CHECKSUM_LIMIT
        total, total_of_squares = self._sum([checksum, checksum**2])
        # They are equal where all checksums are, and nowhere else.
        if total**2 != self.count * total_of_squares:
            raise RuntimeError(
                "The workers of the cluster fetch different tensors in the same step. They sum gradients in it and "
                "would wait for each other forever: pass the same hooks to train on every worker."
            )

    def agree(self, condition: tf.Tensor) -> tf.Tensor:
        """Gives, in a function being traced, whether a bool scalar is true on all workers."""
        total = sum_over_workers(self.strategy, tf.cast(condition, tf.int32))
        return tf.equal(total, self.strategy.num_replicas_in_sync)

    def share_from_chief(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Gives every worker the chief's values: numbers and bools of any shapes."""

        def share(*own):
            numbers = [tf.cast(v, tf.int32) if v.dtype == tf.bool else v for v in own]
            offered = [v if self.is_chief else tf.zeros_like(v) for v in numbers]
            # Every replica of the chief offers them.
            times = self.strategy.num_replicas_in_sync // self.count
            totals = [sum_over_workers(self.strategy, v) for v in offered]
            shares = [t / tf.cast(times, t.dtype) if times > 1 else t for t in totals]
            return [tf.cast(t, v.dtype) for t, v in zip(shares, own, strict=True)]

        return tf.function(share, autograph=False)(*values)

    def add_up(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Gives every worker the sums over all of numbers of any shapes."""
        times = self.strategy.num_replicas_in_sync // self.count

        def add(*own):
            totals = [sum_over_workers(self.strategy, v) for v in own]
            return [tf.cast(t / tf.cast(times, t.dtype), t.dtype) for t in totals]

        return tf.function(add, autograph=False)(*values)

    def _sum(self, numbers: list[int]) -> list[int]:
        """Adds up numbers of this worker and those of the others."""
        total = _sum_function(self.strategy)(tf.constant(numbers, tf.int64))
        times = self.strategy.num_replicas_in_sync // self.count
        return [int(number) // times for number in total.numpy()]


class _Together:
    """What this process does with the others now: they wait for it."""

    task: str | None = None


@contextlib.contextmanager
def together(workers: Workers | None, task: str) -> Iterator[None]:
    """Does something with all workers; nothing else of the kind may begin inside it.

    Raises:
      UnsupportedError: something is under way.
    """
    if workers is None:
        yield
        return
    if _Together.task is not None:
        raise UnsupportedError(
            f"To {task} over several workers while they {_Together.task}",
            "Leave eval_distribute out: this process then evaluates alone.",
        )
    _Together.task = task
    try:
        yield
    finally:
        _Together.task = None


def sum_over_workers(strategy: tf.distribute.Strategy, value: tf.Tensor) -> tf.Tensor:
    """Sums, in a function being traced, a tensor over all replicas of all workers."""

    def own() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        # A copy, which is on the replica's device: that is where the sum goes.
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))

    return strategy.experimental_local_results(strategy.run(own))[0]


@functools.cache
def _sum_function(strategy: tf.distribute.Strategy) -> Callable:
    return tf.function(lambda numbers: sum_over_workers(strategy, numbers), autograph=False)


@functools.cache
def _own_directory() -> str:
    """Makes a directory that is deleted when the process ends."""
    directory = tempfile.mkdtemp(prefix="tpuest_worker_")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def config_for_writing(config: Any, workers: Workers | None) -> Any:
    """Gives a configuration whose `model_dir` this process may write to.

    Only the chief writes to the estimator's; what other workers write is deleted when they end.
    """
    if workers is None or workers.is_chief:
        return config
    return config.replace(model_dir=_own_directory())


def join(train_distribute: Any, config: Any) -> Workers:
    """Joins the other workers of TF_CONFIG.

    Args:
      train_distribute: a `MultiWorkerMirroredStrategy`; `None` makes one.
      config: the estimator's `RunConfig`.

    Raises:
      RuntimeError: TensorFlow has already run an op, and can't join them any more.
      UnsupportedError: the strategy was made where it could not join them.
    """
    strategy = train_distribute or _make_strategy(config)
    if not _tf.has_joined_workers():
        # It left that to the sessions of TF 1, and now it is too late.
        raise UnsupportedError(
            "A strategy of several workers that was made after tf.disable_v2_behavior() or in a tf.Graph",
            "Make none: without train_distribute, the workers of TF_CONFIG train together by themselves.",
        )
    return Workers(strategy, config.num_worker_replicas, _tf.worker_index(strategy))


def _make_strategy(config: Any) -> tf.distribute.Strategy:
    tasks = config.cluster_spec.as_dict()
    # A master is the chief of older clusters; an evaluator isn't one of the workers.
    chief = tasks.get(TaskType.CHIEF) or tasks.get(TaskType.MASTER)
    jobs = {TaskType.CHIEF: chief, TaskType.WORKER: tasks.get(TaskType.WORKER)}
    own_type = TaskType.CHIEF if config.task_type == TaskType.MASTER else config.task_type
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({job: addresses for job, addresses in jobs.items() if addresses}),
        task_type=own_type,
        task_id=config.task_id,
        rpc_layer=config.protocol or "grpc",
    )
    try:
        with _tf.eager_mode():
            return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:
        raise RuntimeError(
            "TF_CONFIG names several workers, and TensorFlow can join them before its first op only. Let the program "
            "begin with `strategy = tf.distribute.MultiWorkerMirroredStrategy()` and pass "
            "RunConfig(train_distribute=strategy)."
        ) from error


def lost_worker() -> RuntimeError:
    """Says that a sum failed because another process is gone."""
    return RuntimeError(
        "Another worker of the cluster is gone. Start all workers again: training goes on from the last checkpoint."
    )
