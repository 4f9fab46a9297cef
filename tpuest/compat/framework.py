"""Functions of `tf.contrib.framework` that nobody else has."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def get_name_scope() -> str:
    """Gives the name scope in force, '' at the top."""
    return tf.compat.v1.get_default_graph().get_name_scope()


def is_tensor(x: Any) -> bool:
    """Says whether `x` is a tensor, a sparse one or a variable."""
    return tf.is_tensor(x)
