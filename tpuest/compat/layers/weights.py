"""What `Layer.add_weight` decides before it asks for a variable, and finds out after."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow.compat.v1 as tf

from tpuest.compat.layers.named import find_initializer


def decide_trainable(trainable: bool | None, synchronization: tf.VariableSynchronization) -> bool:
    """Returns whether a variable is trained; `None` means yes, unless it is synchronized on read.

    Raises:
      ValueError: `trainable=True` with ON_READ.
    """
    if synchronization != tf.VariableSynchronization.ON_READ:
        return True if trainable is None else trainable
    if trainable:
        raise ValueError(
            "Synchronization value can be set to VariableSynchronization.ON_READ only for "
            "non-trainable variables. You have specified trainable=True and "
            "synchronization=VariableSynchronization.ON_READ."
        )
    return False


def choose_initializer(
    initializer: str | Callable | None, scope: tf.VariableScope, dtype: tf.DType
):
    """Returns the initializer given, else the scope's, else the default for the dtype.

    Raises:
      ValueError: a dtype without a default.
    """
    if initializer is None:
        initializer = scope.initializer
    if initializer is not None:
        return find_initializer(initializer)
    if dtype.is_floating:
        return tf.glorot_uniform_initializer()
    if dtype.is_integer or dtype.is_bool:
        return tf.zeros_initializer()
    raise ValueError(
        f"An initializer for a variable of type {dtype.name} is required: there is no default."
    )


def list_existing() -> frozenset[int]:
    """Returns the `id` of each global variable, and of each part of a partitioned one."""
    if tf.executing_eagerly():
        return frozenset()
    return frozenset(
        id(part) for variable in tf.global_variables() for part in list_parts(variable)
    )


def list_parts(variable) -> list:
    """Returns the parts of a partitioned variable, or the variable alone."""
    # The class isn't public.
    is_partitioned = type(variable).__name__ == "PartitionedVariable"
    return list(variable) if is_partitioned else [variable]
