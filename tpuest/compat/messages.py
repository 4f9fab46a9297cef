"""Protocol messages that take what their old versions took.

Takes the fields that a program gives; gives TensorFlow's own messages.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

_REAL = tf.train.Int64List


class _Int64ListType(type):
    """Class of the stand-in, which has no instances: what it makes and recognises are real messages."""

    def __call__(cls, value: Any = (), **kwargs: Any) -> Any:
        return _REAL(value=[_without_boolean(item) for item in value], **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _REAL)

    def __getattr__(cls, name: str) -> Any:
        return getattr(_REAL, name)


class Int64List(metaclass=_Int64ListType):
    """`tf.train.Int64List` that takes booleans for 0 and 1; protobuf 7 refuses them."""


def _without_boolean(item: Any) -> Any:
    return int(item) if isinstance(item, (bool, np.bool_)) else item
