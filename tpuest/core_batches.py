"""How a batch of `input_fn` becomes batches of the cores: cut, copied, padded, checked.

Takes the specs of a batch and its dataset; gives the graph's placeholders for one core and a stream of core batches.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

import tensorflow as tf

from tpuest import errors, model_parallelism
from tpuest.spec import ModeKeys
from tpuest.topology import BatchSizes, Topology

# A dataset has one partial batch, at its end; room for those of concatenated ones.
_MOST_PARTIAL_BATCHES = 1024


def flatten_tensors(structure: Any) -> list[tf.Tensor]:
    """Flattens nested tensors; sparse ones into their parts, `None` into nothing."""
    return [leaf for leaf in tf.nest.flatten(structure, expand_composites=True) if leaf is not None]


@dataclasses.dataclass(frozen=True)
class CoreBatches:
    """How a batch of `input_fn` becomes batches of the cores.

    Attributes:
      structure: `(features, labels)`.
      specs: of the flat tensors of one batch of `input_fn`, every dimension known.
      axes: each flat tensor's batch axis.
      batch_size: of `input_fn`'s batch, in examples.
      num_parts: how many cores' batches one batch of `input_fn` holds; or copies, if `is_broadcast`.
      is_broadcast: whether each core gets the whole batch.
      may_end_early: whether the last batch may be smaller than `batch_size`.
      with_mask: whether smaller batches are padded, and each comes with a padding mask.
      partitions: for each flat tensor into how many parts its axes are split over a replica's cores; `None` for no
        split.
    """

    structure: Any
    specs: tuple[tf.TensorSpec, ...]
    axes: tuple[int, ...]
    batch_size: int
    num_parts: int
    is_broadcast: bool
    may_end_early: bool
    with_mask: bool
    partitions: tuple = ()

    @classmethod
    def describe(
        cls,
        batch: Any,
        mode: str,
        sizes: BatchSizes,
        topology: Topology,
        batch_axis: Any,
        encoded: Collection[str] = (),
    ) -> CoreBatches:
        """Checks one batch of `input_fn` against the cores' rules.

        Args:
          batch: `(features, labels)` of the graph.
          mode: a `ModeKeys`.
          sizes: of the mode.
          topology: where the batches go.
          batch_axis: each flat tensor's batch axis; `None` is axis 0.
          encoded: keys of features that may be strings: ids of embeddings.

        Raises:
          ValueError: a tensor is a string, has no batch dimension, an unknown dimension, or can't be cut evenly.
        """
        flat = flatten_tensors(batch)
        axes = tuple(batch_axis or [0] * len(flat)) if not sizes.is_core_batch else (0,) * len(flat)
        if len(axes) != len(flat):
            raise ValueError(
                f"batch_axis has {len(axes)} entries; input_fn gives {len(flat)} tensors."
            )
        evaluates = mode != ModeKeys.TRAIN
        names = list(named_tensors(batch))
        _check_shapes(names, axes, evaluates, encoded)
        sizes_given = [t.shape.as_list()[axis] for (_, t), axis in zip(names, axes)]
        rebatched = evaluates and sizes.is_core_batch and not sizes.is_broadcast
        # Images made flat for a core's memory beside labels: such batches cannot be put together anew.
        rebatched = rebatched and len({size for size in sizes_given if size}) < 2
        expected = (
            sizes.global_batch_size // sizes.num_input_calls
            if rebatched
            else sizes.input_batch_size
        )
        known = [] if rebatched else [size for size in sizes_given if size]
        batch_size = known[0] if known and expected not in known else expected
        own_sizes = [(not rebatched and size) or batch_size for size in sizes_given]
        parts = (
            sizes.replicas_per_call
            if rebatched or not sizes.is_core_batch or sizes.is_broadcast
            else 1
        )
        uncut = [size for size in own_sizes if size % parts and not sizes.is_broadcast]
        if uncut:
            raise ValueError(
                f"input_fn gives batches of {uncut[0]} examples, which cannot be split over {parts} cores. "
                "Use params['batch_size'] as the batch size."
            )
        return cls(
            structure=batch,
            specs=tuple(
                tf.TensorSpec(_with_size(t.shape, axis, size), t.dtype)
                for t, axis, size in zip(flat, axes, own_sizes)
            ),
            axes=axes,
            batch_size=batch_size,
            num_parts=parts,
            is_broadcast=sizes.is_broadcast,
            may_end_early=evaluates and (rebatched or not known),
            with_mask=mode == ModeKeys.PREDICT,
            partitions=(None,) * len(flat),
        )

    def with_partitions(self, tpu_config: Any, topology: Topology) -> CoreBatches:
        """Describes the same batches, split over each replica's cores as `input_partition_dims` says.

        Raises:
          ValueError: the setting doesn't fit the batch or the cores.
        """
        setting = tpu_config.input_partition_dims
        if setting is None:
            return self
        # A prediction's labels are dropped, and so is what is said of them.
        setting = setting[:1] if self.with_mask else setting
        dims = model_parallelism.flat_partition_dims(setting, *self.structure)
        # Leaves that are `None` are no tensors.
        given = [d for d, t in zip(dims, tf.nest.flatten(self._leaves())) if t is not None]
        partitions = tuple(
            list(d)
            if model_parallelism.check_partition(
                self._core_shape(s.shape, a), d, topology.cores_per_replica
            )
            else None
            for d, s, a in zip(given, self.specs, self.axes)
        )
        return dataclasses.replace(self, partitions=partitions)

    def _leaves(self) -> Any:
        features, labels = self.structure
        return (features,) if labels is None else (features, labels)

    def placeholders(self) -> tuple[Any, Any, Any]:
        """Makes the graph's features, labels and mask of one core's batch."""
        core = [
            tf.compat.v1.placeholder(s.dtype, self._core_shape(s.shape, a))
            for s, a in zip(self.specs, self.axes)
        ]
        given = iter(core)
        batch = tf.nest.map_structure(
            lambda leaf: None if leaf is None else next(given), self.structure
        )
        size = self._core_shape(tf.TensorShape([self.batch_size]), 0)
        mask = (
            tf.compat.v1.placeholder(tf.int32, size, name="is_padding") if self.with_mask else None
        )
        return batch[0], batch[1], mask

    @property
    def core_batch_size(self) -> int:
        return self.batch_size if self.is_broadcast else self.batch_size // self.num_parts

    def num_examples(self, batch: list[tf.Tensor]) -> int:
        """Counts the examples of an eager flat batch."""
        return batch[0].shape.as_list()[self.axes[0]]

    def with_core_batch_size(self, size: int) -> CoreBatches:
        """Describes the same batches for cores that take `size` examples each."""
        total = size if self.is_broadcast else size * self.num_parts
        specs = tuple(
            tf.TensorSpec(_with_size(s.shape, a, total), s.dtype)
            for s, a in zip(self.specs, self.axes)
        )
        return dataclasses.replace(self, specs=specs, batch_size=total)

    def chunks(self, batch: list[tf.Tensor]) -> tuple[list[list[tf.Tensor]], list[tf.Tensor], int]:
        """Cuts a partial batch into whole core batches and a rest.

        Returns:
          The core batches, the rest's tensors, and how many examples the rest has.
        """
        size = self.core_batch_size
        whole, rest = divmod(self.num_examples(batch), size)
        cut = [tf.split(t, [size] * whole + [rest], axis) for t, axis in zip(batch, self.axes)]
        *chunks, last = [list(parts) for parts in zip(*cut)]
        return chunks, last, rest

    def stream(self, dataset: tf.data.Dataset, set_aside: Callable) -> tf.data.Dataset:
        """Turns batches of `input_fn` into a stream of core batches, in the order of the cores.

        Args:
          dataset: of flat batches.
          set_aside: from `PartialBatches`.
        """
        if self.may_end_early:
            dataset = dataset.rebatch(self.batch_size)
        if self.with_mask:
            dataset = dataset.map(self._pad)
        elif self.may_end_early:
            dataset = dataset.filter(set_aside).map(self._assert_full)
        if self.is_broadcast:
            return dataset.flat_map(
                lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(self.num_parts)
            )
        if self.num_parts == 1:
            return dataset
        cut = dataset.map(self._cut)
        if any(0 in spec.shape.as_list() for spec in self.specs):
            # TensorFlow's unbatch crashes on tensors without elements.
            return cut.flat_map(lambda *parts: tf.data.Dataset.from_tensor_slices(parts))
        return cut.unbatch()

    def _core_shape(self, shape, axis):
        return (
            shape
            if self.is_broadcast
            else _with_size(shape, axis, shape.as_list()[axis] // self.num_parts)
        )

    def _cut(self, *batch):
        axes = self.axes + (0,) * (len(batch) - len(self.axes))
        return tuple(tf.stack(tf.split(t, self.num_parts, axis)) for t, axis in zip(batch, axes))

    def _pad(self, *batch):
        missing = self.batch_size - tf.shape(batch[0])[self.axes[0]]
        padded = [
            _pad_end(t, axis, missing, spec.shape)
            for t, axis, spec in zip(batch, self.axes, self.specs)
        ]
        mask = tf.cast(tf.range(self.batch_size) >= self.batch_size - missing, tf.int32)
        return (*padded, mask)

    def _assert_full(self, *batch):
        return tuple(tf.ensure_shape(t, spec.shape) for t, spec in zip(batch, self.specs))


class PartialBatches:
    """Keeps the batches that are too small for the cores, for the end of the evaluation."""

    def __init__(self, cut: CoreBatches):
        self._cut = cut
        self._queues: list[tf.queue.FIFOQueue] = []

    def start_over(self) -> None:
        """Forgets what an iterator kept that is read no more; it may still be at it."""
        self._queues = []

    def set_aside(self, is_read_elsewhere: bool = False) -> Callable:
        """Makes what says of one stream's batches whether they are full, and keeps those that aren't.

        Args:
          is_read_elsewhere: whether another host reads the same stream and keeps them.
        """
        return functools.partial(self._is_full, [], is_read_elsewhere)

    def take(self) -> list:
        """Gives the batches kept so far."""
        taken = [queue.dequeue() for queue in self._queues for _ in range(int(queue.size()))]
        return [batch if isinstance(batch, list) else [batch] for batch in taken]

    def _is_full(self, own, is_read_elsewhere, *batch):
        is_full = tf.equal(tf.shape(batch[0])[self._cut.axes[0]], self._cut.batch_size)
        if is_read_elsewhere:
            return is_full
        if not own:
            # On the host that reads: a stream reaches no other's queue.
            with tf.init_scope():
                own.append(tf.queue.FIFOQueue(_MOST_PARTIAL_BATCHES, [t.dtype for t in batch]))
            self._queues += own

        def keep():
            with tf.control_dependencies([own[0].enqueue(batch)]):
                return tf.constant(False)

        return tf.cond(is_full, lambda: tf.constant(True), keep)


def check_static_shapes(batch: Any) -> None:
    """Checks that all but the batch size is known of the tensors of `(features, labels)`.

    Raises:
      ValueError: of a tensor it isn't.
    """
    for (argument, key), tensor in named_tensors(batch):
        if isinstance(tensor, tf.Tensor) and None in _other_dims(tensor.shape, 0):
            raise errors.dynamic_input_shape(argument, key, tensor)


def named_tensors(batch):
    """Yields each tensor's place ('features', key) and the tensor, of `(features, labels)`."""
    for argument, part in zip(("features", "labels"), batch):
        if part is None:
            continue
        for path, leaf in _paths(part):
            yield (argument, path), leaf


def _paths(structure, prefix=""):
    if isinstance(structure, dict):
        items = [(key, structure[key]) for key in sorted(structure)]
    elif hasattr(structure, "_fields"):
        items = list(structure._asdict().items())
    elif isinstance(structure, (list, tuple)):
        items = list(enumerate(structure))
    else:
        yield prefix or None, structure
        return
    for key, value in items:
        yield from _paths(value, f"{prefix}/{key}" if prefix else str(key))


def _check_shapes(named, axes, batch_size_may_vary, encoded):
    misfits = list(_misfits(named, axes, batch_size_may_vary, encoded))
    if misfits:
        first, *others = misfits
        first.others = tuple(others)
        raise first


def _misfits(named, axes, batch_size_may_vary, encoded):
    """Yields an error for each tensor that cannot go to the cores."""
    for ((argument, key), tensor), axis in zip(named, axes):
        is_encoded = argument == "features" and key in encoded
        if not isinstance(tensor, tf.Tensor) or (tensor.dtype == tf.string and not is_encoded):
            yield errors.unfit_for_cores(argument, key, tensor)
        elif tensor.shape.rank is None or (
            tensor.shape.rank and None in _other_dims(tensor.shape, axis)
        ):
            yield errors.dynamic_input_shape(argument, key, tensor)
        elif tensor.shape.rank == 0:
            yield errors.scalar_input(argument, key, tensor)
        elif tensor.shape.as_list()[axis] is None and not batch_size_may_vary:
            yield errors.dynamic_input_shape(argument, key, tensor)


def _other_dims(shape, axis):
    # A list: after tf.disable_v2_behavior() a shape's items are Dimensions, and none of them is None.
    return [size for index, size in enumerate(shape.as_list()) if index != axis]


def _with_size(shape, axis, size):
    dims = shape.as_list()
    dims[axis] = size
    return tf.TensorShape(dims)


def _pad_end(tensor, axis, missing, shape):
    if tensor.dtype == tf.string:
        # There is no string that decodes to nothing; what is padded is dropped afterwards.
        last = tf.shape(tensor)[0] - 1
        return tf.ensure_shape(tf.gather(tensor, tf.minimum(tf.range(shape[0]), last)), shape)
    paddings = tf.stack(
        [[0, missing if index == axis else 0] for index in range(tensor.shape.rank)]
    )
    return tf.ensure_shape(tf.pad(tensor, paddings), shape)
