"""Builds one replica's step: `model_fn`, called once in a TF 1 graph.

Takes the pipeline's symbolic batch and the user's `model_fn`; gives a `Program`: what to run at each step and
what of it belongs to the host. On cores the host's part (metrics, host calls, the reported loss) is built on
placeholders, `HostInput`s, that stand for what the cores computed, gathered over them.

    model_fn(features, labels) -> loss, train_op, metrics' tensors     one core, static shapes
    gathered                   <- those tensors of every core          concatenated on axis 0
    metric_fn(gathered), host_call(gathered)                           the host
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf, errors, metrics, mirroring, signatures
from tpuest.compat import trace
from tpuest.cross_replica import CROSS_REPLICA_SUM
from tpuest.deployment import InputDeployment
from tpuest.embedding_hardware import HardwareStep
from tpuest.embedding_ids import HostStep
from tpuest.embeddings import Embeddings, Lookups
from tpuest.pipeline import InputPipeline
from tpuest.spec import EstimatorSpec, ModeKeys, TPUEstimatorSpec, call_host_function
from tpuest.summaries import version_2_summaries
from tpuest.topology import BatchSizes, Topology
from tpuest.transplant import TransplantSource, core_of
from tpuest.workers import config_for_writing

LOSS = "loss"
# An operation of every program: who fetches it wants steps to run, rather than just a value.
STEP_MARKER = "tpuest_step"


@dataclasses.dataclass(frozen=True)
class HostInput:
    """A placeholder of the host's part for what the cores computed.

    Attributes:
      placeholder: in the program's graph.
      tensor: what one core computes.
      is_mean: whether cores' values are averaged; otherwise concatenated on axis 0.
      only_first: whether only core 0's value is taken: every core has the same.
    """

    placeholder: tf.Tensor
    tensor: tf.Tensor
    is_mean: bool = False
    only_first: bool = False


@dataclasses.dataclass(frozen=True)
class Program:
    """The model of one mode for one kind of batch.

    Attributes:
      mode: a `ModeKeys`.
      source: of the graph that `model_fn` was called in.
      inputs: the graph's tensors that stand for one replica's batch.
      input_partitions: for each of them into how many parts its axes are split over the replica's cores; `None` for no
        split.
      topology: where it runs.
      loss: float scalar, mean over the replicas; `None` in prediction.
      train_op: updates the variables on one replica.
      predictions: nested tensors `[global_batch_size, ...]`.
      padding_mask: int32 `[global_batch_size]` on cores, else `None`.
      eval_values: metric name to its value, in evaluation.
      eval_update: adds one batch to every metric, in evaluation.
      host_ops: what the host call gave: run at every step.
      host_inputs: empty without cores.
      needs_whole_batches: which of the spec's functions must know how many examples it gets; `None` for none, or where
        no batch can be smaller.
      hooks: the spec's for this mode.
      chief_hooks: the spec's `training_chief_hooks`.
      scaffold: the spec's; an empty one if it has none.
      restores_plainly: whether the default saver is used, which gives each variable the value of its name.
      export_outputs: the spec's.
      host_step: what the host does at each step for embeddings on a TPU; `None` without.
    """

    mode: str
    source: TransplantSource
    inputs: tuple[tf.Tensor, ...]
    input_partitions: tuple
    topology: Topology
    loss: tf.Tensor | None
    train_op: Any
    predictions: Any
    padding_mask: tf.Tensor | None
    eval_values: dict
    eval_update: tf.Operation | None
    host_ops: tuple
    host_inputs: tuple[HostInput, ...]
    hooks: tuple
    chief_hooks: tuple
    scaffold: tf.compat.v1.train.Scaffold
    restores_plainly: bool
    export_outputs: Any
    needs_whole_batches: str | None = None
    host_step: HostStep | None = None

    @property
    def graph(self) -> tf.Graph:
        return self.source.graph

    @property
    def hardware_step(self) -> HardwareStep | None:
        """What the host does with embeddings' hardware; `None` without."""
        return None if self.host_step is None else self.host_step.hardware

    @property
    def core_inputs(self) -> tuple[tf.Tensor, ...]:
        """The graph's tensors that each core is given at a step: `inputs`, and what the host makes of some of them."""
        if self.host_step is None:
            return self.inputs
        own = (t for t in self.inputs if t.name not in self.host_step.host_inputs)
        return *own, *self.host_step.for_cores

    def split_over_cores(self, given: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Splits what stands for `core_inputs` over the cores of a replica, as `input_partitions` says."""
        whole = [None] * len(given)
        partitions = whole if self.host_step is not None else self.input_partitions
        return [
            tensor if dims is None else _tf.split_over_cores(tensor, dims)
            for tensor, dims in zip(given, partitions, strict=True)
        ]


@dataclasses.dataclass(frozen=True)
class ModelCall:
    """How to call the user's `model_fn`.

    Attributes:
      model_fn: the user's function.
      mode: a `ModeKeys`.
      config: the estimator's `RunConfig`.
      params: the estimator's, without a batch size.
      topology: where the run is.
      batch_sizes: of the mode.
      passes_batch_size: whether `params` carry a batch size and `use_tpu`, as `TPUEstimator`'s do.
      embeddings: that the features are looked up in; `None` for none.
    """

    model_fn: Callable
    mode: str
    config: Any
    params: dict
    topology: Topology
    batch_sizes: BatchSizes
    passes_batch_size: bool = True
    embeddings: Embeddings | None = None

    def call(self, pipeline: InputPipeline) -> tuple[Any, Lookups | None]:
        """Calls `model_fn` in the default graph, with TF 1's meaning of every name.

        Returns:
          What it answers, and what has still to be looked up.

        Raises:
          ValueError: it takes no `params`, on cores, or no labels though there are some.
        """
        if self.topology.on_cores:
            signatures.verify_takes_params(self.model_fn)
        features, lookups = _own_structure(pipeline.features), None
        if self.embeddings is not None:
            lookups = self.embeddings.look_up_later(features, pipeline.sparse_kinds)
            features = lookups.features
        params = copy.deepcopy(self.params)
        if self.passes_batch_size:
            self._add_reserved(params)
        num_shards = self.topology.num_replicas if self.topology.on_cores else None
        num_mirrored = self.topology.num_replicas_in_sync if self.topology.is_mirrored else 1
        with trace.model_fn_scope(num_shards), mirroring.optimizers_sum_gradients(num_mirrored):
            spec = signatures.call_model_fn(
                self.model_fn,
                features=_with_hidden_padding(features, pipeline, self.mode),
                labels=_own_structure(pipeline.labels),
                mode=self.mode,
                config=copy.deepcopy(self.config),
                params=params,
            )
        return spec, lookups

    def _add_reserved(self, params: dict) -> None:
        if self.batch_sizes.model_batch_size is not None:
            signatures.add_param(params, "batch_size", self.batch_sizes.model_batch_size)
        signatures.add_param(params, "use_tpu", self.topology.on_cores)
        if self.topology.on_cores:
            context = InputDeployment(self.topology, self.batch_sizes)
            signatures.add_param(params, "context", context)


class _PaddedFeatures(dict):
    """Features with `is_padding` for who asks, unseen by who iterates.

    `is_padding`: int32 `[replica_batch_size]`, 1 for an example that only fills the batch.
    """

    def __init__(self, features, make_mask):
        super().__init__(features)
        self._make_mask = make_mask

    def __missing__(self, key):
        if key == "is_padding":
            return self._make_mask()
        raise KeyError(key)


def _with_hidden_padding(features: Any, pipeline: InputPipeline, mode: str) -> Any:
    if mode != ModeKeys.PREDICT or type(features) is not dict or not features:
        return features

    def no_padding():
        (any_feature, *_) = pipeline.inputs()
        return tf.zeros(tf.shape(any_feature)[:1], tf.int32)

    mask = pipeline.padding_mask
    return _PaddedFeatures(features, no_padding if mask is None else lambda: mask)


def _own_structure(structure: Any) -> Any:
    """Copies dicts and lists, not their tensors: a `model_fn` may take things out, which are still to be fed."""
    return tf.nest.map_structure(lambda leaf: leaf, structure)


def build_program(call: ModelCall, pipeline: InputPipeline, source: TransplantSource) -> Program:
    """Calls `model_fn` and sorts what it answers into the cores' part and the host's.

    Args:
      call: how to call it.
      pipeline: made in the same graph.
      source: of the default graph.

    Raises:
      ValueError: several cores train and nothing sums their gradients, or `model_fn` gives no spec.
      RuntimeError: on cores, evaluation or prediction gives no `TPUEstimatorSpec`.
      TypeError: on cores, predictions aren't a dict.
    """
    host = _Host(call.topology, call.batch_sizes.is_broadcast, pipeline)
    with contextlib.ExitStack() as scope:
        if call.mode == ModeKeys.TRAIN and call.config.model_dir:
            directory = config_for_writing(call.config, call.topology.workers).model_dir
            scope.enter_context(version_2_summaries(directory))
        spec, lookups = call.call(pipeline)
        if not isinstance(spec, (EstimatorSpec, TPUEstimatorSpec)):
            raise ValueError("model_fn should return an EstimatorSpec.")
        _check_spec_for_mode(spec, call.mode)
        if call.topology.on_cores:
            _check_spec_for_cores(spec, call.mode)
        train_op, host_step = _with_embeddings(spec, lookups, call.topology, source)
        scope.enter_context(trace.model_fn_scope(None))
        parts = _host_parts(spec, host, pipeline)
        tf.no_op(name=STEP_MARKER)
    program = Program(
        mode=call.mode,
        source=source,
        inputs=tuple(pipeline.inputs()),
        input_partitions=pipeline.input_partitions(),
        topology=call.topology,
        train_op=train_op,
        host_inputs=tuple(host.inputs),
        needs_whole_batches=host.needs_whole_batches,
        hooks=_hooks_of(spec, call.mode),
        chief_hooks=tuple(getattr(spec, "training_chief_hooks", ())),
        export_outputs=spec.export_outputs,
        host_step=host_step,
        **parts,
    )
    if call.topology.on_cores:
        _check_cores_exist(program)
    if call.mode == ModeKeys.TRAIN:
        devices = map(tf.DeviceSpec.from_string, call.topology.devices)
        source.set_update(train_op, all(device.device_type == "CPU" for device in devices))
    if call.mode == ModeKeys.TRAIN and call.topology.num_replicas_in_sync > 1:
        _check_gradients_are_summed(program)
    return program


def _with_embeddings(
    spec: Any, lookups: Lookups | None, topology: Topology, source: TransplantSource
) -> tuple[Any, HostStep | None]:
    """Gives the train op, with the update of the tables that `model_fn` knows nothing of, and the host's part."""
    if lookups is None:
        return spec.train_op, None
    with trace.model_fn_scope(topology.num_replicas):
        update, host_step = lookups.finish(spec, topology, source)
    train_op = spec.train_op if update is None else tf.group(spec.train_op, update)
    return train_op, host_step


class _Host:
    """Builds the host's part: on placeholders on cores, on the model's own tensors elsewhere.

    Attributes:
      needs_whole_batches: as `Program`'s.
    """

    def __init__(self, topology: Topology, is_broadcast: bool, pipeline: InputPipeline):
        self.topology = topology
        self._is_broadcast = is_broadcast
        self._batch = pipeline.inputs()
        self._may_end_early = topology.on_cores and pipeline.core_batches.may_end_early
        self.inputs: list[HostInput] = []
        self.needs_whole_batches: str | None = None

    def gather(self, structure: Any) -> Any:
        """Gives what the host sees of nested tensors of one core; None stays, wherever it stands."""
        if not self.topology.on_cores:
            return structure
        return tf.nest.map_structure(self._gather_one, structure)

    def call(self, name: str, host_call: Any) -> Any:
        """Calls a function of the host, whose tensors tell their batch size if it is always the same.

        A function that fails because it isn't told, as the original told it, gets whole batches only.
        """
        if not self._may_end_early:
            return self._call(name, host_call)
        num_before = len(self.inputs)
        with contextlib.suppress(TypeError, ValueError):
            return self._call(name, host_call)
        del self.inputs[num_before:]
        self._may_end_early = False
        made = self._call(name, host_call)
        self.needs_whole_batches = name
        return made

    def _call(self, name: str, host_call: Any) -> Any:
        function, tensors = host_call
        gathered = self.gather(tensors)
        with self.apart(name):
            return call_host_function(name, (function, gathered))

    @contextlib.contextmanager
    def apart(self, name: str) -> Iterator[None]:
        """Refuses operations that use what a core computed without being given it.

        Raises:
          ValueError: there is one.
        """
        graph = tf.compat.v1.get_default_graph()
        num_before = len(graph.get_operations())
        yield
        if not self.topology.on_cores:
            return
        operations = graph.get_operations()
        of_cores = {tensor.op.name for tensor in self._batch}
        for index, operation in enumerate(operations):
            if any(tensor.op.name in of_cores for tensor in operation.inputs):
                of_cores.add(operation.name)
                if index >= num_before:
                    raise errors.captured_core_tensor(name, operation)

    def _gather_one(self, tensor: Any) -> tf.Tensor | None:
        if tensor is None:
            return None
        tensor = tf.convert_to_tensor(tensor)
        is_scalar = tensor.shape.rank == 0
        is_mean = is_scalar and tensor.dtype.is_floating
        only_first = self._is_broadcast or (is_scalar and not is_mean)
        shape = tensor.shape if is_scalar else self._gathered_shape(tensor.shape, only_first)
        placeholder = tf.compat.v1.placeholder(tensor.dtype, shape)
        self.inputs.append(HostInput(placeholder, tensor, is_mean, only_first))
        return placeholder

    def _gathered_shape(self, shape: tf.TensorShape, only_first: bool) -> tf.TensorShape:
        if shape.rank is None:
            return shape
        size, *others = shape.as_list()
        if self._may_end_early:
            size = None
        elif size is not None and not only_first:
            size *= self.topology.num_replicas
        return tf.TensorShape([size, *others])


def _host_parts(spec: Any, host: _Host, pipeline: InputPipeline) -> dict:
    """Builds metrics, host call and scaffold of the spec."""
    is_tpu_spec = isinstance(spec, TPUEstimatorSpec)
    eval_metric_ops = {} if is_tpu_spec else dict(spec.eval_metric_ops or {})
    host_ops = None
    # On cores the original called metric_fn in evaluation only, off them in any mode.
    has_metrics = is_tpu_spec and spec.eval_metrics is not None
    if has_metrics and (spec.mode == ModeKeys.EVAL or not host.topology.on_cores):
        eval_metric_ops = metrics.trace_metrics(lambda: _call_metric_fn(spec, host))
    elif eval_metric_ops:
        eval_metric_ops = metrics.trace_metrics(lambda: spec.eval_metric_ops)
    if is_tpu_spec and spec.host_call is not None:
        host_ops = host.call("host_call", spec.host_call)
    scaffold = getattr(spec, "scaffold", None)
    if is_tpu_spec and spec.scaffold_fn:
        with host.apart("scaffold_fn"):
            scaffold = spec.scaffold_fn()
        if scaffold is not None and not isinstance(scaffold, tf.compat.v1.train.Scaffold):
            raise TypeError(f"scaffold_fn must return a tf.train.Scaffold. Given: {scaffold}")
    is_prediction = spec.mode == ModeKeys.PREDICT
    loss = host.gather(spec.loss)
    if host.topology.is_mirrored and spec.mode == ModeKeys.TRAIN:
        loss = mirroring.reported_loss(loss, host.topology.num_replicas_in_sync)
    return {
        "loss": loss,
        "predictions": host.gather(spec.predictions) if is_prediction else None,
        "padding_mask": host.gather(pipeline.padding_mask),
        **_evaluation(eval_metric_ops, loss, spec.mode),
        "host_ops": tuple(op for op in tf.nest.flatten(host_ops) if op is not None),
        "scaffold": scaffold or tf.compat.v1.train.Scaffold(),
        "restores_plainly": _has_default_saver(scaffold),
    }


def _call_metric_fn(spec: TPUEstimatorSpec, host: _Host) -> Any:
    made = host.call("eval_metrics", spec.eval_metrics)
    if made is None and spec.mode == ModeKeys.EVAL:
        tf.compat.v1.logging.warning("metric_fn returned None: evaluation gives the loss only.")
    return made


def _has_default_saver(scaffold: Any) -> bool:
    has_own = scaffold is not None and (scaffold.saver is not None or scaffold.init_fn is not None)
    return not has_own and not tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.SAVERS)


def _evaluation(eval_metric_ops: dict, loss: Any, mode: str) -> dict:
    if mode != ModeKeys.EVAL:
        return {"eval_values": {}, "eval_update": None}
    for name in (LOSS, tf.compat.v1.GraphKeys.GLOBAL_STEP):
        if name in eval_metric_ops:
            raise ValueError(
                f'Metric with name "{name}" is not allowed, because Estimator already defines a default metric '
                "with the same name."
            )
    pairs = {**eval_metric_ops, LOSS: metrics.mean_loss(loss)}
    values = {name: value for name, (value, _) in pairs.items()}
    values[tf.compat.v1.GraphKeys.GLOBAL_STEP] = tf.compat.v1.train.get_global_step()
    # Hooks read the counter, as the original's did.
    count = tf.compat.v1.assign_add(_tf.get_or_create_eval_step(), 1)
    updates = [count, *(update for _, update in pairs.values())]
    return {"eval_values": values, "eval_update": tf.group(*updates)}


def _hooks_of(spec: Any, mode: str) -> tuple:
    names = {
        ModeKeys.TRAIN: "training_hooks",
        ModeKeys.EVAL: "evaluation_hooks",
        ModeKeys.PREDICT: "prediction_hooks",
    }
    return tuple(getattr(spec, names[mode]) or ())


def _check_spec_for_mode(spec: Any, mode: str) -> None:
    """Refuses a spec without what the mode needs: made for another mode, it wasn't asked for it."""
    needed = {
        ModeKeys.TRAIN: {"loss": spec.loss, "train_op": spec.train_op},
        ModeKeys.EVAL: {"loss": spec.loss},
        ModeKeys.PREDICT: {"predictions": spec.predictions},
    }[mode]
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise ValueError(
            f"Missing {' and '.join(missing)}: model_fn was called with mode {mode!r} and returned a spec of mode "
            f"{spec.mode!r}. Make the spec with the mode that model_fn is given."
        )


def _check_spec_for_cores(spec: Any, mode: str) -> None:
    if mode == ModeKeys.TRAIN:
        if not isinstance(spec, TPUEstimatorSpec) and spec.training_chief_hooks:
            raise ValueError(
                "training_chief_hooks returned by EstimatorSpec is not supported in TPUEstimator. "
                "If you want to pass training hooks, please pass via training_hooks."
            )
        return
    if not isinstance(spec, TPUEstimatorSpec):
        what = "evaluation" if mode == ModeKeys.EVAL else "prediction"
        raise RuntimeError(
            f"estimator_spec used by TPU {what} must have type`TPUEstimatorSpec`. Got {type(spec)}"
        )
    if mode == ModeKeys.PREDICT:
        _check_predictions(spec.predictions)


def _check_predictions(predictions: Any) -> None:
    if not isinstance(predictions, dict):
        raise TypeError("TPUEstimatorSpec.predictions must be dict of Tensors.")
    for key, tensor in predictions.items():
        if tensor.shape.rank is None or None in tensor.shape.as_list()[:1]:
            raise errors.dynamic_prediction_shape(key, tensor)


def _check_cores_exist(program: Program) -> None:
    """Refuses `tf.device(tpu.core(i))` for a core that a replica hasn't got."""
    cores_per_replica = program.topology.cores_per_replica or 1
    for name, node in program.source.nodes().items():
        core = core_of(node)
        if core is not None and core >= cores_per_replica:
            raise errors.no_such_core(name, core, cores_per_replica)


def _check_gradients_are_summed(program: Program) -> None:
    nodes = program.source.nodes()
    if any(
        nodes[name].op == CROSS_REPLICA_SUM for name in program.source.closure([program.train_op])
    ):
        return
    if program.source.functions_with(CROSS_REPLICA_SUM):
        return
    if program.topology.is_mirrored:
        raise errors.unsummed_gradients()
    raise errors.missing_cross_shard_optimizer(program.topology.num_replicas)
