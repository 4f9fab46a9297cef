"""Conditions known while the graph is made, or only when it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow.compat.v1 as tf

from tpuest import _tf


def find_value(condition: Any) -> bool | None:
    """Returns the value of a condition, or `None` where only the graph knows.

    Args:
      condition: a bool, 0, 1, or a boolean scalar tensor or variable.

    Returns:
      `True`, `False` or `None`.

    Raises:
      TypeError: any other condition.
    """
    if isinstance(condition, tf.Variable):
        return None
    return _tf.smart_constant_value(condition)


def choose(condition: Any, make_if_true: Callable, make_if_false: Callable) -> Any:
    """Makes one of two values, or a `tf.cond` of both if the graph decides.

    Args:
      condition: as for `find_value`.
      make_if_true: callable to a tensor or a structure of tensors.
      make_if_false: callable to the same structure.

    Returns:
      What the chosen callable returns, or the outputs of `tf.cond`.
    """
    if isinstance(condition, tf.Variable):
        return tf.cond(condition, make_if_true, make_if_false)
    return _tf.smart_cond(condition, make_if_true, make_if_false)
