"""What `model_fn` answers: `EstimatorSpec`, `TPUEstimatorSpec`, and the small types around them.

Takes the tensors and hooks that `model_fn` built, gives a checked tuple of them from which
`replica` makes a step. The rules and their wording are those of `model_fn.py` and
`tpu/tpu_estimator.py` in tensorflow-estimator.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tpuest import _tf, signatures
from tpuest.export_output import ExportOutput, resolve_export_outputs

_logger = logging.getLogger("tensorflow")

SessionRunHook = tf.compat.v1.train.SessionRunHook
VocabInfo = tf.compat.v1.train.VocabInfo


class ModeKeys:
    """The `mode` that `model_fn` and `input_fn` are called with."""

    TRAIN = "train"
    EVAL = "eval"
    PREDICT = "infer"


class _EstimatorSpecFields(NamedTuple):
    mode: str
    predictions: tf.Tensor | dict[str, tf.Tensor]
    loss: tf.Tensor | None
    train_op: tf.Operation | tf.Tensor | None
    eval_metric_ops: dict[str, Any]
    export_outputs: dict[str, ExportOutput] | None
    training_chief_hooks: tuple[SessionRunHook, ...]
    training_hooks: tuple[SessionRunHook, ...]
    scaffold: tf.compat.v1.train.Scaffold
    evaluation_hooks: tuple[SessionRunHook, ...]
    prediction_hooks: tuple[SessionRunHook, ...]


class EstimatorSpec(_EstimatorSpecFields):
    """The operations that define a model in one mode, for `Estimator`.

    Each mode needs fields of its own:

        EstimatorSpec(ModeKeys.TRAIN, loss=loss, train_op=train_op)
        EstimatorSpec(ModeKeys.EVAL, loss=loss, eval_metric_ops={"accuracy": accuracy})
        EstimatorSpec(ModeKeys.PREDICT, predictions={"label": label})
    """

    def __new__(
        cls,
        mode: str,
        predictions: tf.Tensor | Mapping[str, tf.Tensor] | None = None,
        loss: tf.Tensor | None = None,
        train_op: tf.Operation | tf.Tensor | None = None,
        eval_metric_ops: dict[str, Any] | None = None,
        export_outputs: dict[str, ExportOutput] | None = None,
        training_chief_hooks: Iterable[SessionRunHook] | None = None,
        training_hooks: Iterable[SessionRunHook] | None = None,
        scaffold: tf.compat.v1.train.Scaffold | None = None,
        evaluation_hooks: Iterable[SessionRunHook] | None = None,
        prediction_hooks: Iterable[SessionRunHook] | None = None,
    ) -> EstimatorSpec:
        """Checks the fields; those that the mode doesn't need may be given all the same.

        Args:
          mode: a `ModeKeys`.
          predictions: a tensor, or a dict of name to tensor. Needed in PREDICT.
          loss: scalar, or of shape [1]. Needed in TRAIN and EVAL.
          train_op: one training step. Needed in TRAIN.
          eval_metric_ops: name to a `(value, update_op)` pair or to a Keras-like metric (an
            object with `update_state` and `result`) that has been updated. A metric with
            `updates`, as tf_keras makes them, becomes a pair; others stay as they are.
          export_outputs: name to `ExportOutput`, one of several under the default serving key.
            None exports the predictions.
          training_chief_hooks: hooks of the chief's training.
          training_hooks: hooks of all workers' training.
          scaffold: initialisation, saver and the like; None for the defaults.
          evaluation_hooks: hooks of evaluation.
          prediction_hooks: hooks of prediction.

        Raises:
          ValueError: a needed field is missing, the loss isn't a scalar, a tensor isn't from the
            default graph, or a metric hasn't been updated.
          TypeError: a field isn't of its type.
        """
        train_op = _verified_train_op(train_op, mode)
        loss = _verified_loss(loss, mode)
        predictions = _verified_predictions(predictions, mode)
        return super().__new__(
            cls,
            mode=mode,
            predictions=predictions,
            loss=loss,
            train_op=train_op,
            eval_metric_ops=_verified_metrics(eval_metric_ops),
            export_outputs=_verified_export_outputs(export_outputs, predictions, mode),
            training_chief_hooks=_verified_hooks(training_chief_hooks),
            training_hooks=_verified_hooks(training_hooks),
            scaffold=_verified_scaffold(scaffold),
            evaluation_hooks=_verified_hooks(evaluation_hooks),
            prediction_hooks=_verified_hooks(prediction_hooks),
        )

    def _replace(self, **changes: Any) -> EstimatorSpec:
        """Gives a spec with new values in some fields, checked like a new one.

        Raises:
          ValueError: the mode changes, a field is unknown, or a value breaks a rule.
        """
        if changes.get("mode", self.mode) != self.mode:
            raise ValueError(
                "mode of EstimatorSpec cannot be changed, "
                f"got {changes['mode']!r} for {self.mode!r}."
            )
        unknown = sorted(set(changes) - set(self._fields))
        if unknown:
            raise ValueError(f"Got unexpected field names: {unknown!r}")
        return type(self)(**{**self._asdict(), **changes})


class _TPUEstimatorSpecFields(NamedTuple):
    mode: str
    predictions: tf.Tensor | dict[str, tf.Tensor]
    loss: tf.Tensor | None
    train_op: tf.Operation | tf.Tensor | None
    eval_metrics: tuple[Callable, Any] | None
    export_outputs: dict[str, ExportOutput] | None
    scaffold_fn: Callable | None
    host_call: tuple[Callable, Any] | None
    training_hooks: tuple[SessionRunHook, ...]
    evaluation_hooks: tuple[SessionRunHook, ...]
    prediction_hooks: tuple[SessionRunHook, ...]


class TPUEstimatorSpec(_TPUEstimatorSpecFields):
    """The operations that define a model in one mode, for `TPUEstimator`.

        TPUEstimatorSpec(ModeKeys.TRAIN, loss=loss, train_op=train_op)
        TPUEstimatorSpec(ModeKeys.EVAL, loss=loss, eval_metrics=(metric_fn, [labels, logits]))
        TPUEstimatorSpec(ModeKeys.PREDICT, predictions={"logits": logits})

    Metrics and host calls run on the host, on what the cores computed: each tensor is gathered
    over the cores and concatenated on axis 0, so it must have the batch there:

        labels, logits = [concat(tensor of core 0, of core 1, ...) for each tensor]
        metric_fn(labels, logits)     # a list or tuple: by position
        metric_fn(**tensors)          # a dict: by name
    """

    def __new__(
        cls,
        mode: str,
        predictions: tf.Tensor | Mapping[str, tf.Tensor] | None = None,
        loss: tf.Tensor | None = None,
        train_op: tf.Operation | tf.Tensor | None = None,
        eval_metrics: tuple[Callable, Any] | None = None,
        export_outputs: dict[str, ExportOutput] | None = None,
        scaffold_fn: Callable | None = None,
        host_call: tuple[Callable, Any] | None = None,
        training_hooks: Iterable[SessionRunHook] | None = None,
        evaluation_hooks: Iterable[SessionRunHook] | None = None,
        prediction_hooks: Iterable[SessionRunHook] | None = None,
    ) -> TPUEstimatorSpec:
        """Checks the fields.

        Args:
          mode: a `ModeKeys`.
          predictions: see `EstimatorSpec`.
          loss: see `EstimatorSpec`.
          train_op: see `EstimatorSpec`.
          eval_metrics: `(metric_fn, tensors)`; `metric_fn` takes the tensors and gives a dict of
            name to a `(value, update_op)` pair or a Keras-like metric.
          export_outputs: see `EstimatorSpec`.
          scaffold_fn: gives a `Scaffold`, without using a tensor of `model_fn`.
          host_call: `(function, tensors)`, run at every step of training and evaluation, for
            instance to write summaries.
          training_hooks: see `EstimatorSpec`.
          evaluation_hooks: see `EstimatorSpec`.
          prediction_hooks: see `EstimatorSpec`.

        Raises:
          ValueError, TypeError: as `EstimatorSpec`, and for `eval_metrics` or `host_call` of
            another form.
          RuntimeError: a function of theirs doesn't take as many arguments as there are tensors.
        """
        _verify_host_call("eval_metrics", eval_metrics)
        _verify_host_call("host_call", host_call)
        train_op = _verified_train_op(train_op, mode)
        loss = _verified_loss(loss, mode)
        predictions = _verified_predictions(predictions, mode)
        return super().__new__(
            cls,
            mode=mode,
            predictions=predictions,
            loss=loss,
            train_op=train_op,
            eval_metrics=eval_metrics,
            export_outputs=_verified_export_outputs(export_outputs, predictions, mode),
            scaffold_fn=scaffold_fn,
            host_call=host_call,
            training_hooks=_verified_hooks(training_hooks),
            evaluation_hooks=_verified_hooks(evaluation_hooks),
            prediction_hooks=_verified_hooks(prediction_hooks),
        )

    def as_estimator_spec(self) -> EstimatorSpec:
        """Gives the spec for a run without TPU.

        eval_metric_ops = metric_fn(tensors)         in the same graph
        hooks           = hooks + [run host_call at every step]
        scaffold        = scaffold_fn()
        """
        eval_metric_ops = None
        if self.eval_metrics is not None:
            eval_metric_ops = call_host_function("eval_metrics", self.eval_metrics)
        hooks = ()
        if self.host_call is not None:
            hooks = (HostCallHook(call_host_function("host_call", self.host_call)),)
        return EstimatorSpec(
            mode=self.mode,
            predictions=self.predictions,
            loss=self.loss,
            train_op=self.train_op,
            eval_metric_ops=eval_metric_ops,
            export_outputs=self.export_outputs,
            scaffold=self.scaffold_fn() if self.scaffold_fn else None,
            training_hooks=self.training_hooks + hooks,
            evaluation_hooks=self.evaluation_hooks + hooks,
            prediction_hooks=self.prediction_hooks + hooks,
        )


class HostCallHook(SessionRunHook):
    """Runs what a host call returned at every step of a session, for `as_estimator_spec`."""

    def __init__(self, fetches: Any):
        self._fetches = fetches
        self._writer_initializers: list[tf.Operation] = []
        self._writer_flushes: list[tf.Operation] = []

    def begin(self) -> None:
        self._writer_initializers = list(_tf.summary_writer_initializer_op())
        self._writer_flushes = [
            tf.raw_ops.FlushSummaryWriter(writer=initializer.inputs[0])
            for initializer in self._writer_initializers
        ]

    def after_create_session(self, session: Any, coord: Any) -> None:
        session.run(self._writer_initializers)

    def before_run(self, run_context: Any) -> Any:
        return tf.compat.v1.train.SessionRunArgs(self._fetches)

    def end(self, session: Any) -> None:
        session.run(self._writer_flushes)


def call_host_function(name: str, host_call: tuple[Callable, Any]) -> Any:
    """Calls the function of `eval_metrics` or `host_call` with its tensors.

    Args:
      name: 'eval_metrics' or 'host_call', for the log.
      host_call: `(function, tensors)`; a list or tuple is passed by position, a dict by name.
    """
    function, tensors = host_call
    if not isinstance(tensors, dict):
        return function(*tensors)
    try:
        return function(**tensors)
    except TypeError as error:
        _logger.warning(
            "Exception while calling %s: %s. It is likely the tensors (%s[1]) do not match the "
            "function's arguments",
            name,
            error,
            name,
        )
        raise


class _WarmStartSettingsFields(NamedTuple):
    ckpt_to_initialize_from: str
    vars_to_warm_start: Any
    var_name_to_vocab_info: dict[str, VocabInfo]
    var_name_to_prev_var_name: dict[str, str]


class WarmStartSettings(_WarmStartSettingsFields):
    """Which variables start from another model's checkpoint.

    Names and vocabularies may differ between the two models:

        WarmStartSettings("/tmp/pretrained", vars_to_warm_start="bert/.*")
    """

    def __new__(
        cls,
        ckpt_to_initialize_from: str,
        vars_to_warm_start: str | Sequence[Any] | None = ".*",
        var_name_to_vocab_info: dict[str, VocabInfo] | None = None,
        var_name_to_prev_var_name: dict[str, str] | None = None,
    ) -> WarmStartSettings:
        """Checks the settings.

        Args:
          ckpt_to_initialize_from: a checkpoint, or a directory that has some.
          vars_to_warm_start: a regular expression for trainable variables; or a list of them for
            variables of any kind; or a list of variables; None for those of
            `var_name_to_vocab_info` only.
          var_name_to_vocab_info: variable name to `VocabInfo`, where the vocabulary changes.
          var_name_to_prev_var_name: variable name to its name in the checkpoint, where these
            differ.

        Raises:
          ValueError: there is no checkpoint.
        """
        if not ckpt_to_initialize_from:
            raise ValueError("`ckpt_to_initialize_from` MUST be set in WarmStartSettings")
        return super().__new__(
            cls,
            ckpt_to_initialize_from,
            vars_to_warm_start,
            var_name_to_vocab_info or {},
            var_name_to_prev_var_name or {},
        )


class ExportSavedModelApiVersion(enum.Enum):
    """Who places the exported graph on the TPU: the estimator (V1) or `model_fn` (V2)."""

    V1 = 1
    V2 = 2


class BatchConfig(NamedTuple):
    """How a served model batches requests.

    Attributes:
      num_batch_threads: batches processed at the same time.
      max_batch_size: examples in a batch, at most.
      batch_timeout_micros: microseconds after which a partial batch goes out.
      allowed_batch_sizes: sizes to which batches are padded, ascending, the last one
        `max_batch_size`; empty for any size.
      max_enqueued_batches: batches that may wait.
    """

    num_batch_threads: int
    max_batch_size: int
    batch_timeout_micros: int
    allowed_batch_sizes: Sequence[int] | None
    max_enqueued_batches: int = 100


def _verified_train_op(train_op: Any, mode: str) -> Any:
    if train_op is None:
        if mode == ModeKeys.TRAIN:
            raise ValueError("Missing train_op. model_fn must return one in mode 'train'.")
        return None
    if not isinstance(train_op, (tf.Operation, tf.Tensor, tf.Variable)):
        raise TypeError(f"train_op must be Operation or Tensor, given: {train_op}")
    if isinstance(train_op, tf.Variable):
        # An assignment returns the variable; the step is the operation that made it.
        train_op = getattr(train_op, "op", train_op)
    _verify_graph(train_op, "train_op")
    return train_op


def _verified_loss(loss: Any, mode: str) -> tf.Tensor | None:
    if loss is None:
        if mode in (ModeKeys.TRAIN, ModeKeys.EVAL):
            raise ValueError(f"Missing loss. model_fn must return one in mode {mode!r}.")
        return None
    _verify_tensor(loss, "loss")
    if loss.shape.num_elements() not in (None, 1):
        raise ValueError(f"Loss must be scalar, given: {loss}")
    _verify_graph(loss, "loss")
    return loss if loss.shape.is_compatible_with([]) else tf.reshape(loss, [])


def _verified_predictions(predictions: Any, mode: str) -> Any:
    if predictions is None:
        if mode == ModeKeys.PREDICT:
            raise ValueError("Missing predictions. model_fn must return some in mode 'infer'.")
        return {}
    if not isinstance(predictions, dict):
        _verify_tensor(predictions, "predictions")
        _verify_graph(predictions, "prediction values")
        return predictions
    for key, tensor in predictions.items():
        _verify_tensor(tensor, f"predictions[{key}]")
        _verify_graph(tensor, "prediction values", key)
    return dict(predictions)


def _verified_export_outputs(export_outputs: Any, predictions: Any, mode: str) -> Any:
    if mode != ModeKeys.PREDICT:
        return export_outputs
    return resolve_export_outputs(export_outputs, predictions)


def _verified_hooks(hooks: Iterable[Any] | None) -> tuple[SessionRunHook, ...]:
    hooks = tuple(hooks or ())
    for hook in hooks:
        if not isinstance(hook, SessionRunHook):
            raise TypeError(f"All hooks must be SessionRunHook instances, given: {hook}")
    return hooks


def _verified_scaffold(scaffold: Any) -> tf.compat.v1.train.Scaffold:
    scaffold = scaffold or tf.compat.v1.train.Scaffold()
    if not isinstance(scaffold, tf.compat.v1.train.Scaffold):
        raise TypeError(f"scaffold must be tf.train.Scaffold. Given: {scaffold}")
    return scaffold


def _verified_metrics(eval_metric_ops: Any) -> dict[str, Any]:
    if eval_metric_ops is None:
        return {}
    if not isinstance(eval_metric_ops, dict):
        raise TypeError(f"eval_metric_ops must be a dict, given: {eval_metric_ops}")
    return {key: _verified_metric(key, metric) for key, metric in eval_metric_ops.items()}


def _verified_metric(key: str, metric: Any) -> Any:
    if is_metric_object(metric):
        updates = _metric_updates(metric)
        _collect_metric_variables(metric)
        if not updates:
            return metric
        metric = (metric.result(), updates[0])
    elif not isinstance(metric, tuple) or len(metric) != 2:
        raise TypeError(
            "Values of eval_metric_ops must be (metric_value, update_op) tuples, "
            f"given: {metric} for key: {key}"
        )
    for part in tf.nest.flatten(metric):
        if not (tf.is_tensor(part) or isinstance(part, tf.Operation)):
            raise TypeError(f"eval_metric_ops[{key}] must be Operation or Tensor, given: {part}")
        _verify_graph(part, "eval_metric_ops", key)
    return metric


def is_metric_object(value: Any) -> bool:
    """Says whether a value of `eval_metric_ops` is an object as Keras makes them, not a pair."""
    return callable(getattr(value, "update_state", None)) and callable(
        getattr(value, "result", None)
    )


def _metric_updates(metric: Any) -> list[Any]:
    """Gives the update operations of a tf_keras metric; empty where no graph keeps them.

    tf_keras keeps them in a TF 1 graph only: in a `tf.function` the updates run as they are
    traced. Keras 3 never keeps them.
    """
    updates = list(getattr(metric, "updates", ()))
    in_graph = not (tf.executing_eagerly() or tf.compat.v1.get_default_graph().building_function)
    if hasattr(metric, "updates") and not updates and in_graph:
        raise ValueError(
            f'Please call update_state(...) on the "{getattr(metric, "name", metric)}" metric'
        )
    return updates


def _collect_metric_variables(metric: Any) -> None:
    """Has the variables of a metric object initialised with the local variables."""
    keys = tf.compat.v1.GraphKeys
    for key in (keys.LOCAL_VARIABLES, keys.METRIC_VARIABLES):
        collected = {id(variable) for variable in tf.compat.v1.get_collection(key)}
        for variable in getattr(metric, "variables", ()):
            if id(variable) not in collected:
                tf.compat.v1.add_to_collection(key, variable)


def _verify_tensor(value: Any, name: str) -> None:
    if not isinstance(value, (tf.Tensor, tf.Variable)):
        raise TypeError(f"{name} must be Tensor, given: {value}")


def _verify_graph(value: Any, name: str, key: str | None = None) -> None:
    """Refuses what another call of `model_fn`, or no `model_fn`, has built."""
    if tf.executing_eagerly():
        return
    graph = getattr(value, "graph", None)
    if graph is tf.compat.v1.get_default_graph():
        return
    if graph is None and isinstance(value, tf.Variable):
        return  # A variable of a core is in no graph; reading it is.
    label = getattr(value, "name", repr(value))
    if key is not None:
        label = f"{key}: {label}"
    raise ValueError(
        f'{name} with "{label}" must be from the default graph. '
        "Possible causes of this error include: \n\n"
        f"1) {name} was created outside the context of the default graph.\n\n"
        "2) The object passed through to EstimatorSpec was not created in the most recent call to "
        '"model_fn".'
    )


def _verify_host_call(name: str, host_call: Any) -> None:
    """Checks the form of `eval_metrics` or `host_call`: (function, tensors)."""
    if host_call is None:
        return
    if not isinstance(host_call, (tuple, list)):
        raise ValueError(f"{name} should be tuple or list, got {type(host_call)}.")
    if len(host_call) != 2:
        raise ValueError(f"{name} should have two elements, got {len(host_call)}.")
    function, tensors = host_call
    if not callable(function):
        raise TypeError(f"{name}[0] should be callable, got {function!r}.")
    if not isinstance(tensors, (tuple, list, dict)):
        raise ValueError(f"{name}[1] should be tuple or list, or dict, got {type(tensors)}.")
    if isinstance(tensors, dict):
        return
    arguments = signatures.positional_arguments(function)
    if arguments is not None and len(arguments) != len(tensors):
        raise RuntimeError(
            f"In TPUEstimatorSpec.{name}, length of tensors {len(tensors)} does not match method "
            f"args of the function, which takes {len(arguments)}."
        )
