"""Calls `input_fn` and turns what it gives into batches for the replicas.

Takes `input_fn`, its topology and batch sizes, inside the TF 1 graph of the call; gives an `InputPipeline`:
the symbolic features and labels that `model_fn` is built on, and an iterator of batches of the same
structure. The only file that converts batch units (host batch to core batches).

    called:      input_fn(params) -> Dataset, or tensors of the graph
    eager:       the graph's part that makes them, carried into a function
    per replica: one batch cut along batch_axis, or handed out whole
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest import errors, signatures
from tpuest.spec import ModeKeys
from tpuest.topology import BatchSizes, InputDeployment, Topology
from tpuest.transplant import TransplantSource

_TABLES = tf.compat.v1.GraphKeys.TABLE_INITIALIZERS
_QUEUES = tf.compat.v1.GraphKeys.QUEUE_RUNNERS
# A dataset has one partial batch, at its end; room for those of concatenated ones.
_MOST_PARTIAL_BATCHES = 1024


@dataclasses.dataclass(frozen=True)
class InputCall:
    """One way to call the user's `input_fn`.

    Attributes:
      input_fn: the user's function.
      mode: a `ModeKeys`.
      config: the estimator's `RunConfig`.
      params: the estimator's, without a batch size.
      topology: where the run is.
      batch_sizes: of the mode.
      batch_axis: which axis of each tensor to cut; `None` is axis 0.
    """

    input_fn: Callable
    mode: str
    config: Any
    params: dict
    topology: Topology
    batch_sizes: BatchSizes
    batch_axis: Any = None

    def call(self, invocation_index: int) -> Any:
        """Calls `input_fn` once, in the default graph."""
        params = copy.deepcopy(self.params)
        if self.batch_sizes.input_batch_size is not None:
            params["batch_size"] = self.batch_sizes.input_batch_size
        if self.topology.on_cores:
            params["context"] = InputDeployment(self.topology, self.batch_sizes, invocation_index)
        with tf.device("/device:CPU:0"):
            return signatures.call_input_fn(
                self.input_fn, params=params, mode=self.mode, config=copy.deepcopy(self.config)
            )


@dataclasses.dataclass(frozen=True)
class InputPipeline:
    """What `model_fn` is built on, and the batches that stand for it in a run.

    Attributes:
      features: nested tensors of the graph: `[replica_batch_size, ...]` on cores.
      labels: the same, or `None`.
      padding_mask: int32 `[replica_batch_size]`, 1 where an example is padding; `None` but for prediction on cores.
      element_spec: what one replica's batch looks like: programs with equal specs may share their model.
      is_reusable: whether batches may feed the model of another call: tensors of a graph are only that graph's.
      topology: where the batches go.
      flatten: gives the flat tensors of one element, in the order of `inputs()`.
      read: makes the eager datasets, one for each host, from a function that finds variables' handles.
      partial_batches: gives the flat batches that were too small for the cores, once the iterator has ended.
    """

    features: Any
    labels: Any
    padding_mask: tf.Tensor | None
    element_spec: Any
    is_reusable: bool
    topology: Topology
    flatten: Callable
    read: Callable
    partial_batches: Callable

    def inputs(self) -> list[tf.Tensor]:
        """Lists the graph's tensors that a batch stands for."""
        return flatten_tensors((self.features, self.labels, self.padding_mask))

    def make_iterator(self, read_variable: Callable) -> Any:
        """Starts reading.

        Args:
          read_variable: gives the handle of a variable that `input_fn` reads, from its name and node.
        """
        datasets = self.read(read_variable)
        if self.topology.num_replicas == 1:
            return iter(datasets[0])
        strategy = self.topology.strategy
        return iter(
            strategy.distribute_datasets_from_function(
                lambda context: datasets[context.input_pipeline_id]
            )
        )


def flatten_tensors(structure: Any) -> list[tf.Tensor]:
    """Flattens nested tensors; sparse ones into their parts, `None` into nothing."""
    return [leaf for leaf in tf.nest.flatten(structure, expand_composites=True) if leaf is not None]


def build_pipeline(call: InputCall, source: TransplantSource) -> InputPipeline:
    """Calls `input_fn` as often as the deployment says and describes its batches.

    Args:
      call: how to call it.
      source: of the default graph.

    Raises:
      ValueError: `input_fn` gives a tuple that isn't `(features, labels)`, or, on cores, a tensor whose shape isn't
        known.
    """
    graph = tf.compat.v1.get_default_graph()
    results = [call.call(index) for index in range(call.batch_sizes.num_input_calls)]
    are_datasets = all(isinstance(result, tf.data.Dataset) for result in results)
    batches = [features_and_labels(_symbolic_element(result), call.mode) for result in results]
    initializers = graph.get_collection(_TABLES)
    if are_datasets:
        # The pipeline runs them where it reads; the model's session must not run them again at each call.
        graph.clear_collection(_TABLES)
    readers = [
        _Reader(result, batch, initializers if are_datasets else [], call.mode, source)
        for result, batch in zip(results, batches)
    ]
    is_reusable = are_datasets and not graph.get_collection(_QUEUES)
    build = _core_pipeline if call.topology.on_cores else _host_pipeline
    return build(call, batches, readers, is_reusable)


def features_and_labels(element: Any, mode: str) -> tuple[Any, Any]:
    """Takes an element of `input_fn` apart.

    Raises:
      ValueError: it is a tuple of another length than 2.
    """
    if not isinstance(element, (list, tuple)) or hasattr(element, "_fields"):
        return element, None
    if mode == ModeKeys.PREDICT:
        return element[0], None
    if len(element) != 2:
        raise ValueError("input_fn should return (features, labels) as a len 2 tuple.")
    return element[0], element[1]


def _symbolic_element(result: Any) -> Any:
    """Gives the graph's tensors for one element, by the ops that the original makes: op seeds count them."""
    if not isinstance(result, tf.data.Dataset):
        return result
    if _is_eager(result):
        return tf.nest.map_structure(_placeholder, result.element_spec)
    return tf.compat.v1.data.make_initializable_iterator(result).get_next()


def _is_eager(dataset: tf.data.Dataset) -> bool:
    return tf.is_tensor(tf.data.experimental.to_variant(dataset)) and hasattr(
        tf.data.experimental.to_variant(dataset), "numpy"
    )


def _placeholder(spec: Any) -> Any:
    if isinstance(spec, tf.SparseTensorSpec):
        return tf.compat.v1.sparse_placeholder(spec.dtype, spec.shape)
    return tf.compat.v1.placeholder(spec.dtype, spec.shape)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Makes what one call of `input_fn` gave in the graph into an eager dataset."""

    result: Any
    batch: Any
    initializers: list
    mode: str
    source: TransplantSource

    def dataset(self, read_variable: Callable) -> tf.data.Dataset:
        if isinstance(self.result, tf.data.Dataset):
            return self._from_dataset(read_variable)
        tensors = flatten_tensors(self.batch)
        # Version 1's map ends the data where an iterator or a queue of the graph does; version 2's reports an error.
        forever = tf.compat.v1.data.Dataset.range(tf.int64.max)
        return forever.map(lambda _: tuple(self._build(tensors, read_variable)))

    def flatten(self, element: Any) -> list[tf.Tensor]:
        if isinstance(self.result, tf.data.Dataset):
            return flatten_tensors(features_and_labels(element, self.mode))
        return list(element)

    def flat_dataset(self, read_variable: Callable) -> tf.data.Dataset:
        dataset = self.dataset(read_variable)
        pack = lambda *element: tuple(self.flatten(element if len(element) > 1 else element[0]))
        return dataset.map(pack) if isinstance(self.result, tf.data.Dataset) else dataset

    def _from_dataset(self, read_variable):
        variant = tf.data.experimental.to_variant(self.result)
        if not _is_eager(self.result):
            variant = self._run_in_function(variant, read_variable)
        return tf.data.experimental.from_variant(variant, self.result.element_spec)

    def _run_in_function(self, variant, read_variable):
        @tf.function(autograph=False)
        def initialize_and_build():
            with tf.control_dependencies(self._build(self.initializers, read_variable)):
                return tf.identity(self._build([variant], read_variable)[0])

        with tf.device("/device:CPU:0"):
            return initialize_and_build()

    def _build(self, targets, read_variable):
        nodes = self.source.nodes()
        needed = self.source.closure(targets)
        variables = [name for name in needed if nodes[name].op == "VarHandleOp"]
        return self.source.transplant(
            targets, {f"{name}:0": read_variable(name) for name in variables}
        )


def _host_pipeline(call, batches, readers, is_reusable) -> InputPipeline:
    """One batch for the one replica, of whatever size."""
    ((features, labels),) = batches
    (reader,) = readers
    return InputPipeline(
        features=features,
        labels=labels,
        padding_mask=None,
        element_spec=_spec((features, labels)),
        is_reusable=is_reusable,
        topology=call.topology,
        flatten=reader.flatten,
        read=lambda read_variable: [reader.dataset(read_variable)],
        partial_batches=list,
    )


def _spec(structure):
    """Describes nested tensors so that equal descriptions mean interchangeable batches."""
    leaves = tf.nest.flatten(structure, expand_composites=True)
    shapes = tuple((t.dtype.name, str(t.shape)) if tf.is_tensor(t) else repr(t) for t in leaves)
    return shapes, repr(tf.nest.map_structure(lambda _: 0, structure))


def _core_pipeline(call, batches, readers, is_reusable) -> InputPipeline:
    """One batch of one fixed size for each core."""
    cut = CoreBatches.describe(call, batches[0])
    partial = _PartialBatches(cut)
    hosts = call.topology.num_hosts

    def read(read_variable):
        streams = [cut.stream(reader.flat_dataset(read_variable), partial) for reader in readers]
        per_host = [
            streams[host * len(streams) // hosts : (host + 1) * len(streams) // hosts]
            for host in range(hosts)
        ]
        return [_deal(own or streams[:1]) for own in per_host]

    features, labels, mask = cut.placeholders()
    return InputPipeline(
        features=features,
        labels=labels,
        padding_mask=mask,
        element_spec=_spec((features, labels)),
        is_reusable=is_reusable,
        topology=call.topology,
        flatten=list,
        read=read,
        partial_batches=partial.take,
    )


def _deal(streams: list) -> tf.data.Dataset:
    """Takes a core batch of each stream in turn."""
    if len(streams) == 1:
        return streams[0]
    return tf.data.Dataset.choose_from_datasets(
        streams, tf.data.Dataset.range(len(streams)).repeat()
    )


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
    """

    structure: Any
    specs: tuple[tf.TensorSpec, ...]
    axes: tuple[int, ...]
    batch_size: int
    num_parts: int
    is_broadcast: bool
    may_end_early: bool
    with_mask: bool

    @classmethod
    def describe(cls, call: InputCall, batch: Any) -> CoreBatches:
        """Checks one batch of `input_fn` against the cores' rules.

        Raises:
          ValueError: a tensor is a string, has no batch dimension, an unknown dimension, or can't be cut evenly.
        """
        sizes = call.batch_sizes
        flat = flatten_tensors(batch)
        axes = (
            tuple(call.batch_axis or [0] * len(flat))
            if not sizes.is_core_batch
            else (0,) * len(flat)
        )
        if len(axes) != len(flat):
            raise ValueError(
                f"batch_axis has {len(axes)} entries; input_fn gives {len(flat)} tensors."
            )
        evaluates = call.mode != ModeKeys.TRAIN
        rebatched = evaluates and sizes.is_core_batch and not sizes.is_broadcast
        expected = (
            sizes.global_batch_size // call.topology.num_hosts
            if rebatched
            else sizes.input_batch_size
        )
        names = list(_named(batch))
        _check_shapes(names, axes, batch_size_may_vary=evaluates)
        known = (
            []
            if rebatched
            else [t.shape[axis] for (_, t), axis in zip(names, axes) if t.shape[axis]]
        )
        batch_size = known[0] if known else expected
        parts = (
            sizes.replicas_per_call
            if rebatched or not sizes.is_core_batch or sizes.is_broadcast
            else 1
        )
        if batch_size % parts and not sizes.is_broadcast:
            raise ValueError(
                f"input_fn gives batches of {batch_size} examples, which cannot be split over {parts} cores. "
                "Use params['batch_size'] as the batch size."
            )
        return cls(
            structure=batch,
            specs=tuple(
                tf.TensorSpec(_with_size(t.shape, axis, batch_size), t.dtype)
                for t, axis in zip(flat, axes)
            ),
            axes=axes,
            batch_size=batch_size,
            num_parts=parts,
            is_broadcast=sizes.is_broadcast,
            may_end_early=evaluates and (rebatched or not known),
            with_mask=call.mode == ModeKeys.PREDICT,
        )

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

    def stream(self, dataset: tf.data.Dataset, partial: _PartialBatches) -> tf.data.Dataset:
        """Turns batches of `input_fn` into a stream of core batches, in the order of the cores."""
        if self.may_end_early:
            dataset = dataset.rebatch(self.batch_size)
        if self.with_mask:
            dataset = dataset.map(self._pad)
        elif self.may_end_early:
            dataset = dataset.filter(partial.set_aside).map(self._assert_full)
        if self.is_broadcast:
            return dataset.flat_map(
                lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(self.num_parts)
            )
        return dataset.map(self._cut).unbatch() if self.num_parts > 1 else dataset

    def _core_shape(self, shape, axis):
        return (
            shape if self.is_broadcast else _with_size(shape, axis, shape[axis] // self.num_parts)
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


class _PartialBatches:
    """Keeps the batches that are too small for the cores, for the end of the evaluation."""

    def __init__(self, cut: CoreBatches):
        self._cut = cut
        self._queue = None

    def set_aside(self, *batch):
        """Says whether the batch is full; keeps it if not."""
        if self._queue is None:
            with tf.init_scope():
                self._queue = tf.queue.FIFOQueue(_MOST_PARTIAL_BATCHES, [t.dtype for t in batch])
        is_full = tf.equal(tf.shape(batch[0])[self._cut.axes[0]], self._cut.batch_size)

        def keep():
            with tf.control_dependencies([self._queue.enqueue(batch)]):
                return tf.constant(False)

        return tf.cond(is_full, lambda: tf.constant(True), keep)

    def take(self) -> list:
        """Gives the batches kept so far."""
        if self._queue is None:
            return []
        taken = [self._queue.dequeue() for _ in range(int(self._queue.size()))]
        return [batch if isinstance(batch, list) else [batch] for batch in taken]


def _named(batch):
    """Yields each tensor's place ('features', key) and the tensor."""
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


def _check_shapes(named, axes, batch_size_may_vary):
    for ((argument, key), tensor), axis in zip(named, axes):
        if not isinstance(tensor, tf.Tensor) or tensor.dtype == tf.string:
            raise errors.unfit_for_cores(argument, key, tensor)
        if tensor.shape.rank is None or (
            tensor.shape.rank and None in _other_dims(tensor.shape, axis)
        ):
            raise errors.dynamic_input_shape(argument, key, tensor)
        if tensor.shape.rank == 0:
            raise errors.scalar_input(argument, key, tensor)
        if tensor.shape[axis] is None and not batch_size_may_vary:
            raise errors.dynamic_input_shape(argument, key, tensor)


def _other_dims(shape, axis):
    return [size for index, size in enumerate(shape) if index != axis]


def _with_size(shape, axis, size):
    dims = shape.as_list()
    dims[axis] = size
    return tf.TensorShape(dims)


def _pad_end(tensor, axis, missing, shape):
    paddings = tf.stack(
        [[0, missing if index == axis else 0] for index in range(tensor.shape.rank)]
    )
    return tf.ensure_shape(tf.pad(tensor, paddings), shape)
