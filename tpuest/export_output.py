"""What a head offers to the clients of a SavedModel.

Takes tensors that `model_fn` puts in `export_outputs`, gives the SignatureDefs that `export`
writes. The wording of the checks is that of `export_output.py` in TensorFlow's
`saved_model/model_utils`, which is no public API.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tpuest import errors

DEFAULT_SERVING_KEY = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY

_SINGLE_RECEIVER_NAME = "input"


class ExportOutput(abc.ABC):
    """One output of a model that can be served; anything with `as_signature_def` counts."""

    _SEPARATOR_CHAR = "/"

    @abc.abstractmethod
    def as_signature_def(self, receiver_tensors: Any) -> Any:
        """Gives the SignatureDef that maps what clients send to this output.

        Args:
          receiver_tensors: a tensor, or a dict of name to tensor, that clients feed.
        """

    @classmethod
    def __subclasshook__(cls, subclass: type) -> bool:
        if cls is ExportOutput and callable(getattr(subclass, "as_signature_def", None)):
            return True  # TensorFlow's own classes among them.
        return NotImplemented


class PredictOutput(ExportOutput):
    """Any prediction: named tensors of any type."""

    _SINGLE_OUTPUT_DEFAULT_NAME = "output"

    def __init__(self, outputs: tf.Tensor | Mapping[str, tf.Tensor]):
        """Checks the tensors.

        Args:
          outputs: a tensor, named 'output', or a dict of name to tensor. A tuple of strings as
            name is joined by '/'.

        Raises:
          ValueError: a name is no string, or a value no tensor.
        """
        self._outputs = _name_tensors(outputs, self._SINGLE_OUTPUT_DEFAULT_NAME, "Prediction")

    @property
    def outputs(self) -> dict[str, tf.Tensor]:
        """The tensors by name."""
        return self._outputs

    def as_signature_def(self, receiver_tensors: Any) -> Any:
        return tf.compat.v1.saved_model.predict_signature_def(
            _name_receivers(receiver_tensors), self.outputs
        )


class ClassificationOutput(ExportOutput):
    """Classes, their scores, or both: for each example the k best, or all in the order of ids."""

    def __init__(self, scores: tf.Tensor | None = None, classes: tf.Tensor | None = None):
        """Checks the tensors.

        Args:
          scores: float [batch_size, n], one for each class.
          classes: string [batch_size, n], the labels (not integer ids).

        Raises:
          ValueError: both are None, or one isn't a tensor of its type.
        """
        if scores is not None and not _is_float_tensor(scores):
            raise ValueError(f"Classification scores must be a float32 Tensor; got {scores}")
        if classes is not None and not _is_string_tensor(classes):
            raise ValueError(f"Classification classes must be a string Tensor; got {classes}")
        if scores is None and classes is None:
            raise ValueError(
                "Cannot create a ClassificationOutput with empty arguments. At least one of "
                "`scores` and `classes` must be defined."
            )
        self._scores = scores
        self._classes = classes

    @property
    def scores(self) -> tf.Tensor | None:
        """The scores, float [batch_size, n]."""
        return self._scores

    @property
    def classes(self) -> tf.Tensor | None:
        """The labels, string [batch_size, n]."""
        return self._classes

    def as_signature_def(self, receiver_tensors: Any) -> Any:
        examples = _single_string_receiver(receiver_tensors, "Classification")
        return tf.compat.v1.saved_model.classification_signature_def(
            examples, self.classes, self.scores
        )


class RegressionOutput(ExportOutput):
    """A predicted number for each example."""

    def __init__(self, value: tf.Tensor):
        """Checks the tensor.

        Args:
          value: float [batch_size] or [batch_size, 1].

        Raises:
          ValueError: it isn't a float tensor.
        """
        if not _is_float_tensor(value):
            raise ValueError(f"Regression output value must be a float32 Tensor; got {value}")
        self._value = value

    @property
    def value(self) -> tf.Tensor:
        """The predicted numbers."""
        return self._value

    def as_signature_def(self, receiver_tensors: Any) -> Any:
        examples = _single_string_receiver(receiver_tensors, "Regression")
        return tf.compat.v1.saved_model.regression_signature_def(examples, self.value)


class _SupervisedOutput(ExportOutput):
    """Loss, predictions and metrics of a training or evaluation graph."""

    LOSS_NAME = "loss"
    PREDICTIONS_NAME = "predictions"
    METRICS_NAME = "metrics"
    METRIC_VALUE_SUFFIX = "value"
    METRIC_UPDATE_SUFFIX = "update_op"

    _method_name: str

    def __init__(self, loss: Any = None, predictions: Any = None, metrics: Any = None):
        """Checks the tensors and gives them names such as 'predictions/output'.

        Args:
          loss: a tensor, or a dict of name to tensor.
          predictions: a tensor, or a dict of name to tensor.
          metrics: a `(value, update_op)` pair or a Keras-like metric, or a dict of name to these.

        Raises:
          ValueError: a name is no string, or a value no tensor (operation, for an update).
        """
        self._loss = self._prefixed(loss, self.LOSS_NAME)
        self._predictions = self._prefixed(predictions, self.PREDICTIONS_NAME)
        self._metrics = None if metrics is None else self._name_metrics(metrics)

    @property
    def loss(self) -> dict[str, tf.Tensor] | None:
        """The loss by name, each starting 'loss'."""
        return self._loss

    @property
    def predictions(self) -> dict[str, tf.Tensor] | None:
        """The predictions by name, each starting 'predictions'."""
        return self._predictions

    @property
    def metrics(self) -> dict[str, tf.Tensor] | None:
        """'metrics/NAME/value' and 'metrics/NAME/update_op' tensors."""
        return self._metrics

    def as_signature_def(self, receiver_tensors: Any) -> Any:
        receivers = _name_receivers(receiver_tensors)
        if not receivers:
            raise ValueError(f"{self._method_name} `inputs` cannot be None or empty.")
        outputs = {**(self.loss or {}), **(self.predictions or {}), **(self.metrics or {})}
        if not outputs:
            raise ValueError(f"{self._method_name} has no loss, predictions or metrics to export.")
        signature = tf.compat.v1.saved_model.predict_signature_def(receivers, outputs)
        signature.method_name = self._method_name
        return signature

    def _prefixed(self, tensors: Any, prefix: str) -> dict[str, tf.Tensor] | None:
        if tensors is None:
            return None
        named = _name_tensors(tensors, prefix, prefix)
        return {self._prefixed_key(key, prefix): tensor for key, tensor in named.items()}

    def _prefixed_key(self, key: str, prefix: str) -> str:
        return key if key.startswith(prefix) else prefix + self._SEPARATOR_CHAR + key

    def _name_metrics(self, metrics: Any) -> dict[str, tf.Tensor]:
        if not isinstance(metrics, dict):
            metrics = {self.METRICS_NAME: metrics}
        named = {}
        for key, metric in metrics.items():
            key = self._prefixed_key(_join_key(key, self.METRICS_NAME), self.METRICS_NAME)
            value, update_op = _metric_pair(metric)
            if not isinstance(value, tf.Tensor):
                raise ValueError(f"{key} output value must be a Tensor; got {value}.")
            if not (tf.is_tensor(update_op) or isinstance(update_op, tf.Operation)):
                raise ValueError(f"{key} update_op must be a Tensor or Operation; got {update_op}.")
            named[f"{key}/{self.METRIC_VALUE_SUFFIX}"] = value
            named[f"{key}/{self.METRIC_UPDATE_SUFFIX}"] = _as_tensor(update_op)
        return named


class TrainOutput(_SupervisedOutput):
    """Loss, predictions and metrics of a training graph."""

    _method_name = "tensorflow/supervised/training"


class EvalOutput(_SupervisedOutput):
    """Loss, predictions and metrics of an evaluation graph."""

    _method_name = "tensorflow/supervised/eval"


def resolve_export_outputs(
    export_outputs: Mapping[str, ExportOutput] | None, predictions: Any
) -> dict[str, ExportOutput]:
    """Gives the outputs to export, one of them under the default serving key.

    Args:
      export_outputs: name to `ExportOutput`; None for a `PredictOutput` of the predictions.
      predictions: a tensor, or a dict of name to tensor.

    Raises:
      TypeError: it is no dict, or a value no `ExportOutput`.
      ValueError: there are several and none is under the default serving key.
    """
    if export_outputs is None:
        return {DEFAULT_SERVING_KEY: PredictOutput(predictions)}
    if not isinstance(export_outputs, dict):
        raise TypeError(f"`export_outputs` must be dict, received: {export_outputs}.")
    if not all(isinstance(output, ExportOutput) for output in export_outputs.values()):
        raise TypeError(
            f"Values in `export_outputs` must be ExportOutput objects, received: {export_outputs}."
        )
    if len(export_outputs) == 1:
        (output,) = export_outputs.values()
        return {**export_outputs, DEFAULT_SERVING_KEY: output}
    if export_outputs and DEFAULT_SERVING_KEY not in export_outputs:
        raise ValueError(
            "Multiple `export_outputs` were provided, but none of them are specified as the "
            "default. Use `tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY` to specify a default; "
            f"got {sorted(map(str, export_outputs))}."
        )
    return dict(export_outputs)


def _is_float_tensor(value: Any) -> bool:
    return isinstance(value, tf.Tensor) and value.dtype.is_floating


def _is_string_tensor(value: Any) -> bool:
    return isinstance(value, tf.Tensor) and value.dtype == tf.string


def _join_key(key: Any, label: str) -> str:
    """Joins the tuple that names an output of a model with several heads."""
    if isinstance(key, tuple):
        key = "/".join(key)
    if not isinstance(key, str):
        raise ValueError(f"{label} output key must be a string; got {key}.")
    return key


def _name_tensors(tensors: Any, single_name: str, label: str) -> dict[str, tf.Tensor]:
    if not isinstance(tensors, dict):
        tensors = {single_name: tensors}
    named = {}
    for key, tensor in tensors.items():
        key = _join_key(key, label)
        if not isinstance(tensor, tf.Tensor):
            raise ValueError(f"{label} output value must be a Tensor; got {tensor}.")
        named[key] = tensor
    return named


def _name_receivers(receiver_tensors: Any) -> dict[str, Any]:
    if receiver_tensors is None or isinstance(receiver_tensors, dict):
        return receiver_tensors or {}
    return {_SINGLE_RECEIVER_NAME: receiver_tensors}


def _single_string_receiver(receiver_tensors: Any, kind: str) -> tf.Tensor:
    receivers = list(_name_receivers(receiver_tensors).values())
    if len(receivers) != 1 or receivers[0].dtype != tf.string:
        raise ValueError(
            f"{kind} signatures can only accept a single tensor input of type tf.string. Please "
            "check to make sure that you have structured the serving_input_receiver_fn so that it "
            "creates a single string placeholder. If your model function expects multiple inputs, "
            "then use `tf.io.parse_example()` to parse the string into multiple tensors.\n"
            f"Received: {receiver_tensors}"
        )
    return receivers[0]


def _metric_pair(metric: Any) -> tuple[Any, Any]:
    if isinstance(metric, tuple):
        value, update_op = metric
        return value, update_op
    updates = getattr(metric, "updates", None)
    if not updates:
        raise errors.UnsupportedError(
            f"Exporting the metric object {metric!r}",
            "Give a (value, update_op) pair, as the functions of tf.compat.v1.metrics return.",
        )
    return metric.result(), updates[0]


def _as_tensor(update_op: Any) -> tf.Tensor:
    """Wraps an operation or variable, since a SignatureDef names tensors only."""
    if isinstance(update_op, tf.Tensor):
        return update_op
    with tf.control_dependencies([update_op]):
        return tf.constant([], name="metric_op_wrapper")
