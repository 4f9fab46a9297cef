"""Private names of TensorFlow that moved, in the form in which programs call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

ESTIMATOR_API_NAME = "estimator"


def estimator_export(*names: str, v1: Any = None) -> Callable:
    """Gives a decorator that changes nothing: it entered a class or function into TensorFlow's documentation."""
    return lambda decorated: decorated


def register_dense_tensor_like_type(tensor_type: type) -> None:
    """Does nothing: TensorFlow no longer asks whether a type is like a tensor."""


def variable_from_proto(proto: Any, import_scope: str | None = None) -> Any:
    """Makes a variable from a VariableDef."""
    return tf.compat.v1.Variable.from_proto(proto, import_scope=import_scope)


def variable_to_proto(variable: Any, export_scope: str | None = None) -> Any:
    """Gives a variable's VariableDef."""
    return variable.to_proto(export_scope)
