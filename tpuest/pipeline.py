"""Calls `input_fn` and turns what it gives into batches for the replicas.

Takes `input_fn`, its topology and batch sizes, inside the TF 1 graph of the call; gives an `InputPipeline`:
the symbolic features and labels that `model_fn` is built on, and an iterator of batches of the same
structure. The only file that converts batch units (host batch to core batches).

    called:      input_fn(params) -> Dataset, or tensors of the graph
    eager:       the graph's part that makes them, carried into a function
    per replica: one batch cut along batch_axis, or handed out whole
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import _tf, errors, signatures
from tpuest.compat import tpu_util
from tpuest.core_batches import (
    CoreBatches,
    PartialBatches,
    check_static_shapes,
    flatten_tensors,
)
from tpuest.deployment import InputDeployment
from tpuest.embeddings import Embeddings, SparseKind, kinds_of
from tpuest.spec import ModeKeys
from tpuest.topology import BatchSizes, Topology
from tpuest.transplant import TransplantSource

# Attribute of an `input_fn` that returns tensors: makes the dataset they come from, which later calls can use as well.
DATASET = "tpuest_dataset"
_TABLES = tf.compat.v1.GraphKeys.TABLE_INITIALIZERS
# Not sent to the cores: strings cannot be.
_FROM_HOST = tf.distribute.InputOptions(experimental_fetch_to_device=False)
_QUEUES = tf.compat.v1.GraphKeys.QUEUE_RUNNERS


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
      embeddings: whose ids are among the features; `None` for none.
    """

    input_fn: Callable
    mode: str
    config: Any
    params: dict
    topology: Topology
    batch_sizes: BatchSizes
    batch_axis: Any = None
    embeddings: Embeddings | None = None

    def call(self, invocation_index: int) -> Any:
        """Calls `input_fn` once, in the default graph."""
        params = copy.deepcopy(self.params)
        if self.batch_sizes.input_batch_size is not None:
            signatures.add_param(params, "batch_size", self.batch_sizes.input_batch_size)
        if self.topology.on_cores:
            context = InputDeployment(self.topology, self.batch_sizes, invocation_index)
            signatures.add_param(params, "context", context)
        with contextlib.ExitStack() as scope:
            if not self.topology.is_tpu:
                scope.enter_context(_tf.one_shot_iterators_without_autotuning())
            if self.topology.on_cores:
                host_id = self.topology.host_of_call(
                    invocation_index, self.batch_sizes.num_input_calls
                )
                scope.enter_context(tf.name_scope(f"input_pipeline_task{host_id}/"))
                scope.enter_context(tf.device(self._device_of_host(host_id)))
            else:
                scope.enter_context(tf.device("/device:CPU:0"))
            return signatures.call_input_fn(
                getattr(self.input_fn, DATASET, self.input_fn),
                params=params,
                mode=self.mode,
                config=copy.deepcopy(self.config),
                input_context=self.topology.input_context,
            )

    def _device_of_host(self, host_id: int) -> str:
        """Names where `input_fn`'s operations go: to this process, unless the host is one on paper."""
        is_here = self.topology.strategy is not None
        return "/device:CPU:0" if is_here else self.topology.host_device(host_id)


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
      read: makes the eager dataset of a host, from a function that finds variables' handles, the host's number and
        `must_end`.
      core_batches: how a batch is cut for the cores; `None` without cores.
      partial: keeps the flat batches that are too small for the cores; `None` where any size will do.
      reads_variables: whether batches depend on the model's variables, such as its global step.
      sparse_kinds: feature's key to what it was before embeddings encoded it.
      stays_on_host: whether a TPU's hosts hand batches on themselves, as ids of embeddings are.
      must_end: whether data that is known to have no end is refused.
      may_end_apart: whether each of several hosts reads data of its own, which may end before another's.
    """

    features: Any
    labels: Any
    padding_mask: tf.Tensor | None
    element_spec: Any
    is_reusable: bool
    topology: Topology
    flatten: Callable
    read: Callable
    core_batches: CoreBatches | None
    partial: PartialBatches | None
    reads_variables: bool
    sparse_kinds: Mapping[str, SparseKind] = dataclasses.field(default_factory=dict)
    stays_on_host: bool = False
    must_end: bool = False
    may_end_apart: bool = False

    def inputs(self) -> list[tf.Tensor]:
        """Lists the graph's tensors that a batch stands for."""
        return flatten_tensors((self.features, self.labels, self.padding_mask))

    def input_partitions(self) -> tuple:
        """Tells how each of `inputs()` is split over a replica's cores; `None` for no split."""
        if self.core_batches is None:
            return (None,) * len(self.inputs())
        mask = (None,) if self.padding_mask is not None else ()
        return (*self.core_batches.partitions, *mask)

    def with_core_batch_size(self, size: int) -> InputPipeline:
        """Describes, on new placeholders of the default graph, core batches of another size."""
        cut = self.core_batches.with_core_batch_size(size)
        features, labels, mask = cut.placeholders()
        return dataclasses.replace(
            self, features=features, labels=labels, padding_mask=mask, core_batches=cut
        )

    def make_iterator(self, read_variable: Callable) -> Any:
        """Starts reading.

        Args:
          read_variable: gives the handle of a variable that `input_fn` reads, from its name and node.

        Raises:
          ValueError: `must_end` says so, and the data has no end.
        """
        if self.partial is not None:
            self.partial.start_over()
        if self.topology.num_replicas == 1:
            return iter(self._dataset_of_host(read_variable, 0))
        strategy = self.topology.strategy
        with _tf.device_iterators_without_autotuning(), _tf.distributed_iterators_of_v2():
            # Made where it is called: on its host, to which a dataset made here could not be sent.
            return iter(
                strategy.distribute_datasets_from_function(
                    lambda context: self._dataset_of_host(read_variable, context.input_pipeline_id),
                    _FROM_HOST if self.stays_on_host else None,
                )
            )

    def partial_batches(self) -> list:
        """Gives the flat batches that were too small for the cores, once the iterator has ended."""
        return [] if self.partial is None else self.partial.take()

    def _dataset_of_host(self, read_variable: Callable, host_id: int) -> tf.data.Dataset:
        dataset = self.read(read_variable, host_id, self.must_end)
        return dataset if self.topology.is_tpu else _tf.without_autotuning(dataset)


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
    kinds = {}
    if call.embeddings is not None:
        kinds = kinds_of(_features_of(results[0]))
        results = [_encoded(result, call) for result in results]
    are_datasets = all(isinstance(result, tf.data.Dataset) for result in results)
    if call.topology.on_cores and graph.get_collection(_QUEUES):
        _tell_of_queues()
    elements = [_symbolic_element(result) for result in results]
    if call.topology.on_cores and call.mode == ModeKeys.PREDICT:
        for element in elements:
            _check_dropped_labels(element)
    batches = [features_and_labels(element, call.mode) for element in elements]
    _tell_of_other_batch_size(call, batches)
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
    pipeline = build(call, batches, readers, is_reusable)
    if not kinds:
        return pipeline
    spec = (pipeline.element_spec, tuple(sorted(kinds.items(), key=lambda item: item[0])))
    return dataclasses.replace(pipeline, sparse_kinds=kinds, element_spec=spec)


def _features_of(result: Any) -> Any:
    """Gives the features of what `input_fn` returned, or what describes them."""
    element = result.element_spec if isinstance(result, tf.data.Dataset) else result
    return element[0] if isinstance(element, (list, tuple)) else element


def _encoded(result: Any, call: InputCall) -> Any:
    """Has embeddings encode the ids among the features."""
    # The original took an unknown batch size for the one that it had told `input_fn`.
    trains = call.mode == ModeKeys.TRAIN
    batch_size = call.batch_sizes.input_batch_size if trains else None

    def encode(features, *labels):
        encoded = call.embeddings.encode(features, batch_size)
        return (encoded, *labels) if labels else encoded

    if isinstance(result, tf.data.Dataset):
        return result.map(encode)
    return encode(*result) if isinstance(result, (list, tuple)) else encode(result)


def _tell_of_queues() -> None:
    """Warns of queues that feed cores, in the original's words.

    Raises:
      RuntimeError: the program asked for input in a loop of the graph, in which they don't work.
    """
    message = (
        "Input pipeline contains one or more QueueRunners. It could be slow and not scalable. Please consider "
        "converting your input pipeline to use `tf.data` instead (see https://www.tensorflow.org/guide/datasets "
        "for instructions)."
    )
    if tpu_util.wraps_input_into_loop():
        raise RuntimeError(message)
    _tf.tf_logging.warn(message)


def features_and_labels(element: Any, mode: str) -> tuple[Any, Any]:
    """Takes an element of `input_fn` apart.

    Raises:
      ValueError: it is a tuple of another length than 2.
    """
    if not isinstance(element, (list, tuple)):
        return element, None
    if len(element) != 2 and not (len(element) == 1 and mode == ModeKeys.PREDICT):
        raise ValueError(
            "input_fn should return (features, labels) as a len 2 tuple. "
            f"Got {len(element)} items: {element}"
        )
    return element[0], None if mode == ModeKeys.PREDICT else element[1]


def _tell_of_other_batch_size(call: InputCall, batches: list) -> None:
    """Warns if all tensors have as many examples as `input_fn` was not told to give."""
    expected = call.batch_sizes.input_batch_size
    if expected is None or call.batch_axis is not None:
        return
    shapes = [leaf.shape for leaf in flatten_tensors(batches) if isinstance(leaf, tf.Tensor)]
    sizes = {shape.as_list()[0] for shape in shapes if shape.rank}
    if len(sizes) == 1 and None not in sizes and expected not in sizes:
        tf.compat.v1.logging.warning(
            "input_fn gives batches of %d examples, and params['batch_size'] is %d. Batch by params['batch_size'].",
            *sizes,
            expected,
        )


def _check_dropped_labels(element: Any) -> None:
    """Refuses labels whose shape isn't known, as the original did: it took them to the cores."""
    if isinstance(element, (list, tuple)) and len(element) == 2:
        check_static_shapes((None, element[1]))


def _symbolic_element(result: Any) -> Any:
    """Gives the graph's tensors for one element, by the ops that the original makes: op seeds count them."""
    if not isinstance(result, tf.data.Dataset):
        return tf.nest.map_structure(_as_tensor, result)
    if _is_eager(result):
        return tf.nest.map_structure(_placeholder, result.element_spec)
    return tf.compat.v1.data.make_initializable_iterator(result).get_next()


def _is_eager(dataset: tf.data.Dataset) -> bool:
    return tf.is_tensor(tf.data.experimental.to_variant(dataset)) and hasattr(
        tf.data.experimental.to_variant(dataset), "numpy"
    )


def _as_tensor(leaf: Any) -> Any:
    """Makes constants of arrays and numbers, which ops of `model_fn` would take all the same."""
    is_array = isinstance(leaf, (np.ndarray, np.generic, bool, int, float))
    return tf.convert_to_tensor(leaf) if is_array else leaf


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

    def dataset(self, read_variable: Callable, must_end: bool) -> tf.data.Dataset:
        if isinstance(self.result, tf.data.Dataset):
            made = self._from_dataset(read_variable)
            # A number that another host has isn't known while its pipeline is described.
            if must_end and tf.get_static_value(made.cardinality()) == tf.data.INFINITE_CARDINALITY:
                raise errors.endless_input()
            return made
        tensors = flatten_tensors(self.batch)
        # Version 1's map ends the data where an iterator or a queue of the graph does; version 2's reports an error.
        forever = tf.compat.v1.data.Dataset.range(tf.int64.max)
        return forever.map(lambda _: tuple(self._build(tensors, read_variable)))

    def flatten(self, element: Any) -> list[tf.Tensor]:
        if isinstance(self.result, tf.data.Dataset):
            return flatten_tensors(features_and_labels(element, self.mode))
        return list(element)

    def flat_dataset(self, read_variable: Callable, must_end: bool) -> tf.data.Dataset:
        dataset = self.dataset(read_variable, must_end)
        pack = lambda *element: tuple(self.flatten(element if len(element) > 1 else element[0]))
        return dataset.map(pack) if isinstance(self.result, tf.data.Dataset) else dataset

    def reads_variables(self) -> bool:
        """Says whether a batch depends on the graph's variables."""
        if not isinstance(self.result, tf.data.Dataset):
            return bool(self._variables(flatten_tensors(self.batch)))
        variant = tf.data.experimental.to_variant(self.result)
        return not _is_eager(self.result) and bool(self._variables([variant]))

    def _from_dataset(self, read_variable):
        variant = tf.data.experimental.to_variant(self.result)
        if not _is_eager(self.result):
            variant = self._run_in_function(variant, read_variable)
        return tf.data.experimental.from_variant(variant, self.result.element_spec)

    def _run_in_function(self, variant, read_variable):
        def initialize_and_build():
            with tf.control_dependencies(self._build(self.initializers, read_variable)):
                return tf.identity(self._build([variant], read_variable)[0])

        with tf.device("/device:CPU:0"):
            build = tf.function(initialize_and_build, autograph=False).get_concrete_function()
            return _tf.call_flat(build, rewrites=0)

    def _build(self, targets, read_variable):
        bindings = {f"{name}:0": read_variable(name) for name in self._variables(targets)}
        return self.source.transplant(targets, bindings)

    def _variables(self, targets):
        nodes = self.source.nodes()
        return [name for name in self.source.closure(targets) if nodes[name].op == "VarHandleOp"]


def _host_pipeline(call, batches, readers, is_reusable) -> InputPipeline:
    """Batches of whatever size: one for each replica at each step."""
    ((features, labels),) = batches
    (reader,) = readers
    num_replicas = call.topology.num_replicas

    def read(read_variable, host_id, must_end):
        if num_replicas == 1:
            return reader.dataset(read_variable, must_end)
        return _whole_steps(reader.flat_dataset(read_variable, must_end), num_replicas)

    return InputPipeline(
        features=features,
        labels=labels,
        padding_mask=None,
        element_spec=_spec((features, labels)),
        is_reusable=is_reusable,
        topology=call.topology,
        flatten=reader.flatten if num_replicas == 1 else list,
        read=read,
        core_batches=None,
        partial=None,
        reads_variables=reader.reads_variables(),
    )


def _whole_steps(dataset: tf.data.Dataset, num_replicas: int) -> tf.data.Dataset:
    """Leaves out the last batches if they are too few for all replicas, as the original does."""
    steps = dataset.window(num_replicas, drop_remainder=True)
    return steps.flat_map(lambda *tensors: tf.data.Dataset.zip(tensors))


def _spec(structure):
    """Describes nested tensors so that equal descriptions mean interchangeable batches."""
    leaves = tf.nest.flatten(structure, expand_composites=True)
    shapes = tuple((t.dtype.name, str(t.shape)) if tf.is_tensor(t) else repr(t) for t in leaves)
    return shapes, repr(tf.nest.map_structure(lambda _: 0, structure))


def _core_pipeline(call, batches, readers, is_reusable) -> InputPipeline:
    """One batch of one fixed size for each core."""
    cut = CoreBatches.describe(
        batches[0],
        call.mode,
        call.batch_sizes,
        call.topology,
        call.batch_axis,
        call.embeddings.encoded_keys if call.embeddings is not None else (),
    )
    cut = cut.with_partitions(call.config.tpu_config, call.topology)
    partial = PartialBatches(cut)

    def read(read_variable, host_id, must_end):
        # Where several hosts read the one stream, the first keeps what is left for all.
        is_read_elsewhere = host_id > 0 and len(readers) == 1
        streams = [
            cut.stream(
                reader.flat_dataset(read_variable, must_end), partial.set_aside(is_read_elsewhere)
            )
            for reader in readers
        ]
        return _streams_of_hosts(streams, call.topology)[host_id]

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
        core_batches=cut,
        partial=partial,
        reads_variables=any(reader.reads_variables() for reader in readers),
        stays_on_host=call.topology.is_tpu and call.embeddings is not None,
        may_end_apart=call.topology.hosts_read and len(readers) > 1,
    )


def _streams_of_hosts(streams: list, topology: Topology) -> list[tf.data.Dataset]:
    """Gives a stream of core batches for each host that reads for itself; simulated hosts are all read here.

    Args:
      streams: of each call of `input_fn`: one for each core, one for each host, or one for all.
      topology: of the cores.
    """
    num_hosts, per_host = topology.num_hosts, max(1, topology.replicas_per_host)
    if len(streams) > num_hosts:
        group = len(streams) // num_hosts
        streams = [_deal(streams[i : i + group]) for i in range(0, len(streams), group)]
    if not topology.hosts_read:
        return [_deal(streams, per_host if len(streams) == num_hosts else 1)]
    if len(streams) == num_hosts:
        return streams
    (stream,) = streams
    return [stream_of_host(stream, host_id, num_hosts, per_host) for host_id in range(num_hosts)]


def stream_of_host(
    stream: tf.data.Dataset, host_id: int, num_hosts: int, per_host: int
) -> tf.data.Dataset:
    """Leaves one host's core batches, `per_host` of them a step, of a stream for all hosts."""
    numbered = stream.enumerate()
    own = numbered.filter(lambda i, *_: tf.equal(i // per_host % num_hosts, host_id))
    return own.map(lambda _, *batch: batch[0] if len(batch) == 1 else batch)


def _deal(streams: list, run_length: int = 1) -> tf.data.Dataset:
    """Takes `run_length` core batches of each stream in turn."""
    if len(streams) == 1:
        return streams[0]
    turns = tf.data.Dataset.range(len(streams) * run_length).map(lambda i: i // run_length)
    return tf.data.Dataset.choose_from_datasets(streams, turns.repeat())
