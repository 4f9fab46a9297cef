"""Gives version 2 summaries in `model_fn` what a TF 1 session lacks: a writer, a step, and someone to run them.

Takes `tf.summary.scalar(...)` and the like, called without a writer of their own; gives one tensor to fetch when
summaries are due. Programs without such summaries get no operation at all.

    with version_2_summaries(model_dir):
      model_fn(...)
    session.run(writes.fetch, {writes.step: 100})

Differs from TPUEstimator, where a version 2 summary without a writer is dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

# Where tf.summary keeps the operations of a graph, for tf.compat.v1.summary.all_v2_summary_ops().
_WRITTEN = tf.compat.v1.GraphKeys._SUMMARY_COLLECTION
_DUE = "tpuest_version_2_summaries"


@dataclasses.dataclass(frozen=True)
class DueSummaries:
    """The version 2 summaries of a graph.

    Attributes:
      fetch: string scalar; fetching it writes them. A string, so that no loop computes it for every step.
      step: int64 scalar to feed with the global step to write them at.
    """

    fetch: tf.Tensor
    step: tf.Tensor


@contextlib.contextmanager
def version_2_summaries(directory: str) -> Iterator[None]:
    """Has version 2 summaries written to a directory, in a TF 1 graph.

    Args:
      directory: where events go.
    """
    graph = tf.compat.v1.get_default_graph()
    step = _Step()
    writer = _Writer(directory)
    before = len(graph.get_collection(_WRITTEN))
    with writer.as_default(step):
        yield
    if not writer.is_used:
        return
    collected = graph.get_collection_ref(_WRITTEN)
    ours = [item for item in collected[before:] if _depends_on(item, writer.resource)]
    collected[:] = [item for item in collected if all(item is not own for own in ours)]
    with tf.control_dependencies(ours):
        fetch = tf.constant("", name="version_2_summaries")
    graph.add_to_collection(_DUE, DueSummaries(fetch, step.tensor()))


def due_summaries(graph: tf.Graph) -> list[DueSummaries]:
    """Lists the version 2 summaries of a graph that nobody else runs."""
    return graph.get_collection(_DUE)


class _Writer(tf.summary.SummaryWriter):
    """Makes its operations when the first summary asks for them: they would shift the seeds of other operations."""

    def __init__(self, directory: str):
        self._directory = directory
        self._made = None

    @property
    def is_used(self) -> bool:
        return self._made is not None

    @property
    def resource(self) -> tf.Tensor:
        if self._made is None:
            with tf.init_scope():
                self._made = tf.summary.create_file_writer(self._directory)
        return self._made._resource

    # What tf.summary.write reads of a writer.
    _resource = resource

    def flush(self) -> None:
        """Does nothing: the session's hook flushes."""


class _Step:
    """A step that is fed when summaries are written, made when the first summary asks for it."""

    def __init__(self):
        self._made = None

    def tensor(self) -> tf.Tensor:
        if self._made is None:
            with tf.init_scope():
                current = tf.compat.v1.train.get_global_step().read_value()
                self._made = tf.compat.v1.placeholder_with_default(current, [], "summary_step")
        return self._made


def _step_to_tensor(step: _Step, dtype: Any = None, name: str | None = None, as_ref: bool = False):
    return step.tensor()


tf.register_tensor_conversion_function(_Step, _step_to_tensor)


def _depends_on(item: Any, tensor: tf.Tensor) -> bool:
    """Says whether an operation or tensor needs another tensor of the same graph."""
    pending = [item.op if isinstance(item, tf.Tensor) else item]
    seen = set()
    while pending:
        operation = pending.pop()
        if operation is tensor.op:
            return True
        if operation not in seen:
            seen.add(operation)
            pending.extend(t.op for t in operation.inputs)
            pending.extend(operation.control_inputs)
    return False
