"""What an exported model is fed with: the answers of a serving or supervised `input_receiver_fn`.

Takes placeholders and the features made of them; gives `export` what becomes a signature's inputs and what
`model_fn` is called with. The rules and their wording are those of `export/export.py` in tensorflow-estimator.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

_SINGLE_FEATURE = "feature"
_SINGLE_LABEL = "label"
SINGLE_RECEIVER = "input"

_SINGLE_NAMES = {
    "feature": _SINGLE_FEATURE,
    "label": _SINGLE_LABEL,
    "receiver_tensor": SINGLE_RECEIVER,
    "receiver_tensors_alternative": SINGLE_RECEIVER,
}


class _ServingFields(NamedTuple):
    features: Any
    receiver_tensors: dict[str, Any]
    receiver_tensors_alternatives: dict[str, dict[str, Any]] | None


class ServingInputReceiver(_ServingFields):
    """What a `serving_input_receiver_fn` answers: features, and the tensors that clients feed.

    Attributes:
      features: name to tensor; a lone tensor is given the name 'feature'.
      receiver_tensors: name to tensor, usually a placeholder of serialized examples; a lone one is named 'input'.
      receiver_tensors_alternatives: name to further `receiver_tensors`, nearer to the features; each makes a
        signature of its own.
    """

    def __new__(
        cls,
        features: Any,
        receiver_tensors: Any,
        receiver_tensors_alternatives: dict[str, Any] | None = None,
    ) -> ServingInputReceiver:
        """Checks the tensors.

        Raises:
          ValueError: something is missing, a name is no string (features' may be integers), or a value no tensor.
        """
        return super().__new__(
            cls,
            features=wrap_and_check_input_tensors(features, "feature", allow_int_keys=True),
            receiver_tensors=wrap_and_check_input_tensors(receiver_tensors, "receiver_tensor"),
            receiver_tensors_alternatives=_checked_alternatives(receiver_tensors_alternatives),
        )


class TensorServingInputReceiver(_ServingFields):
    """A `ServingInputReceiver` for a `model_fn` whose features are one tensor, not a dict."""

    def __new__(
        cls,
        features: Any,
        receiver_tensors: Any,
        receiver_tensors_alternatives: dict[str, Any] | None = None,
    ) -> TensorServingInputReceiver:
        """Checks the tensors.

        Raises:
          ValueError: as in `ServingInputReceiver`, or the features are no tensor.
        """
        if features is None:
            raise ValueError("features must be defined.")
        _check_tensor(features, None, "feature")
        checked = ServingInputReceiver(features, receiver_tensors, receiver_tensors_alternatives)
        return super().__new__(
            cls,
            features=features,
            receiver_tensors=checked.receiver_tensors,
            receiver_tensors_alternatives=checked.receiver_tensors_alternatives,
        )


class UnsupervisedInputReceiver(ServingInputReceiver):
    """What a receiver function for training or evaluation answers, where there are no labels."""

    def __new__(cls, features: Any, receiver_tensors: Any) -> UnsupervisedInputReceiver:
        return super().__new__(cls, features, receiver_tensors)


class _SupervisedFields(NamedTuple):
    features: Any
    labels: Any
    receiver_tensors: dict[str, Any]


class SupervisedInputReceiver(_SupervisedFields):
    """What a receiver function for training or evaluation answers.

    Attributes:
      features: a tensor or a dict, as `model_fn` gets it.
      labels: the same.
      receiver_tensors: name to tensor; a lone one is named 'input'.
    """

    def __new__(cls, features: Any, labels: Any, receiver_tensors: Any) -> SupervisedInputReceiver:
        """Checks the tensors.

        Raises:
          ValueError: something is missing, a name is neither string nor integer, or a value no tensor.
        """
        wrap_and_check_input_tensors(features, "feature", allow_int_keys=True)
        wrap_and_check_input_tensors(labels, "label", allow_int_keys=True)
        receivers = wrap_and_check_input_tensors(receiver_tensors, "receiver_tensor")
        return super().__new__(cls, features, labels, receivers)


def build_parsing_serving_input_receiver_fn(
    feature_spec: Mapping[str, Any], default_batch_size: int | None = None
) -> Callable[[], ServingInputReceiver]:
    """Gives a `serving_input_receiver_fn` that is fed serialized `tf.train.Example`s.

    Args:
      feature_spec: name to `tf.io.FixedLenFeature` and the like.
      default_batch_size: examples in a request; `None` for any number.
    """

    def serving_input_receiver_fn() -> ServingInputReceiver:
        examples = tf.compat.v1.placeholder(
            tf.string, [default_batch_size], name="input_example_tensor"
        )
        features = tf.compat.v1.io.parse_example(examples, feature_spec)
        return ServingInputReceiver(features, {"examples": examples})

    return serving_input_receiver_fn


def build_raw_serving_input_receiver_fn(
    features: Mapping[str, Any], default_batch_size: int | None = None
) -> Callable[[], ServingInputReceiver]:
    """Gives a `serving_input_receiver_fn` that is fed the features themselves.

    Args:
      features: name to a tensor of the feature's type and shape.
      default_batch_size: examples in a request; `None` for any number.
    """

    def serving_input_receiver_fn() -> ServingInputReceiver:
        placeholders = _placeholders(features, default_batch_size)
        return ServingInputReceiver(placeholders, placeholders)

    return serving_input_receiver_fn


def build_raw_supervised_input_receiver_fn(
    features: Any, labels: Any, default_batch_size: int | None = None
) -> Callable[[], SupervisedInputReceiver]:
    """Gives a receiver function for training or evaluation that is fed features and labels themselves.

    Args:
      features: a tensor, or a dict of name to tensor, of the types and shapes that `model_fn` gets.
      labels: the same.
      default_batch_size: examples in a batch; `None` for any number.

    Raises:
      ValueError: features and labels share a name.
    """
    shared = set(_names(features, SINGLE_RECEIVER)) & set(_names(labels, _SINGLE_LABEL))
    if shared:
        raise ValueError(
            f"Features and labels must have distinct keys. Found overlapping keys: {shared}"
        )

    def supervised_input_receiver_fn() -> SupervisedInputReceiver:
        fed_features = _placeholders(features, default_batch_size)
        fed_labels = _placeholders(labels, default_batch_size)
        receivers = {
            **_by_name(fed_features, SINGLE_RECEIVER),
            **_by_name(fed_labels, _SINGLE_LABEL),
        }
        return SupervisedInputReceiver(fed_features, fed_labels, receivers)

    return supervised_input_receiver_fn


def build_supervised_input_receiver_fn_from_input_fn(
    input_fn: Callable, **input_fn_args: Any
) -> Callable[[], SupervisedInputReceiver]:
    """Gives a receiver function for training or evaluation that is fed what `input_fn` gives.

    Args:
      input_fn: gives a `tf.data.Dataset` of `(features, labels)`, or these as tensors; called once, now, in a graph
        that is thrown away.
      **input_fn_args: what it is called with.

    Raises:
      ValueError: it gives no labels, or features and labels share a name.
    """
    with tf.Graph().as_default():
        result = input_fn(**input_fn_args)
        if isinstance(result, (tf.data.Dataset, tf.compat.v1.data.Dataset)):
            result = tf.compat.v1.data.make_initializable_iterator(result).get_next()
    if not isinstance(result, (list, tuple)) or len(result) != 2:
        raise ValueError("input_fn should return (features, labels) as a len 2 tuple.")
    return build_raw_supervised_input_receiver_fn(*result)


def wrap_and_check_input_tensors(
    tensors: Any, field_name: str, allow_int_keys: bool = False
) -> dict[Any, Any]:
    """Gives tensors by name.

    Args:
      tensors: a tensor, or a dict of name to tensor; sparse and ragged ones count.
      field_name: 'feature', 'label', 'receiver_tensor' or 'receiver_tensors_alternative'; names a lone tensor.
      allow_int_keys: whether names may be integers.

    Raises:
      ValueError: there are none, a name isn't a string, or a value no tensor.
    """
    if tensors is None:
        raise ValueError(f"{field_name}s must be defined.")
    if not isinstance(tensors, dict):
        tensors = {_SINGLE_NAMES[field_name]: tensors}
    for name, tensor in tensors.items():
        _check_name(name, field_name, allow_int_keys)
        _check_tensor(tensor, name, field_name)
    return tensors


def _checked_alternatives(alternatives: Any) -> dict[str, dict[str, Any]] | None:
    if alternatives is None:
        return None
    if not isinstance(alternatives, dict):
        raise ValueError(f"receiver_tensors_alternatives must be a dict: {alternatives}.")
    return {
        name: wrap_and_check_input_tensors(tensors, "receiver_tensors_alternative")
        for name, tensors in alternatives.items()
    }


def _check_name(name: Any, label: str, allow_int_keys: bool) -> None:
    if isinstance(name, str):
        return
    if not allow_int_keys:
        raise ValueError(f"{label} keys must be strings: {name}.")
    if not isinstance(name, numbers.Integral):
        raise ValueError(f"{label} keys must be strings or ints: {name}.")


def _check_tensor(tensor: Any, name: Any, label: str) -> None:
    if isinstance(tensor, (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)):
        return
    if hasattr(tensor, "tensor"):  # A LabeledTensor, which becomes a tensor where one is needed.
        try:
            tf.convert_to_tensor(tensor)
        except TypeError:
            pass
        else:
            return
    shown = f"{label} {name}" if name else label
    raise ValueError(f"{shown} must be a Tensor, SparseTensor, or RaggedTensor.")


def _names(tensors: Any, single_name: str) -> list:
    return list(tensors) if isinstance(tensors, Mapping) else [single_name]


def _by_name(tensors: Any, single_name: str) -> dict:
    return tensors if isinstance(tensors, dict) else {single_name: tensors}


def _placeholders(tensors: Any, batch_size: int | None) -> Any:
    """Gives placeholders of the same types, names and shapes but for the batch dimension."""
    if isinstance(tensors, Mapping):
        return {name: _placeholder(tensor, batch_size) for name, tensor in tensors.items()}
    return _placeholder(tensors, batch_size)


def _placeholder(tensor: Any, batch_size: int | None) -> tf.Tensor:
    shape = tf.TensorShape([batch_size]).concatenate(tensor.shape[1:])
    try:
        name = tensor.op.name
    except AttributeError:  # An eager tensor has no name.
        name = None
    return tf.compat.v1.placeholder(tensor.dtype, shape, name)
