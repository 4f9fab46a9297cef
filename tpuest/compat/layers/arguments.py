"""Arguments of `Layer.call` that the caller may leave out: `scope`, `training`, `mask`.

block(x, training=True)      call(x, training) -> norm(x)      norm gets training=True
embed(ids) -> x with a mask  cell(x)                           cell gets mask=...
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow.compat.v1 as tf

_training: contextvars.ContextVar = contextvars.ContextVar("training", default=None)


@dataclasses.dataclass(frozen=True)
class FilledArguments:
    """What `call` gets besides its inputs.

    Attributes:
      kwargs: the keyword arguments.
      training: a bool, a boolean scalar tensor, or `None` if nobody said.
      mask: a structure of boolean tensors as the inputs', or `None`.
    """

    kwargs: dict
    training: Any
    mask: Any


def fill_arguments(
    call: Callable, scope: tf.VariableScope, mask: Any, args: tuple, kwargs: dict
) -> FilledArguments:
    """Adds what `call` takes and the caller left out.

    Args:
      call: the layer's method.
      scope: the layer's variable scope.
      mask: of the inputs, or `None`.
      args: positional arguments after the inputs.
      kwargs: keyword arguments; `training` is dropped where `call` doesn't take it.
    """
    names, takes_any = _read_parameters(call)
    given = {**dict(zip(names[1:], args, strict=False)), **kwargs}
    kwargs = dict(kwargs)
    if "scope" in names:
        kwargs["scope"] = scope
    training = given.get("training", _training.get())
    if "training" not in names and not takes_any:
        kwargs.pop("training", None)
    elif "training" not in given and training is not None:
        kwargs["training"] = _to_bool(training)
    mask = given.get("mask", mask)
    if mask is not None and "mask" not in given and ("mask" in names or takes_any):
        kwargs["mask"] = mask
    return FilledArguments(kwargs, training, mask)


@contextlib.contextmanager
def training_of_caller(training: Any) -> Iterator[None]:
    """Makes `training` that of the layers called inside."""
    token = _training.set(training)
    try:
        yield
    finally:
        _training.reset(token)


def find_masks(inputs: Any) -> Any:
    """Returns the masks that Keras and our layers hang on tensors; `None` if there are none."""
    masks = tf.nest.map_structure(lambda tensor: getattr(tensor, "_keras_mask", None), inputs)
    return masks if any(mask is not None for mask in tf.nest.flatten(masks)) else None


def _to_bool(training):
    return tf.cast(training, tf.bool) if tf.is_tensor(training) else bool(training)


def _read_parameters(call):
    """Returns the names of the parameters, and whether any other is taken."""
    parameters = inspect.signature(call).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [parameter.name for parameter in parameters if parameter.kind in named]
    return names, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
