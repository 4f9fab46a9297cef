"""What `tf.keras.backend` says of names that only Keras 2 has: where to get them.

Keras 3 fills in no meaning for them (`set_learning_phase` sets what its layers don't read), so they stay missing.
"""

from __future__ import annotations

import types
from typing import Any

from tpuest.compat.modules import UnsupportedAttributeError

KERAS_3_BACKEND = "keras._tf_keras.keras.backend"
_ADVICE = (
    "This TensorFlow's tf.keras is Keras 3. If it is a name of Keras 2: pip install --no-deps "
    "tf-keras, of TensorFlow's version; a TensorFlow 1 program that tpuest runs then gets it as tf.keras."
)


def advise(module: types.ModuleType) -> None:
    """Makes a module of Keras 3 name tf-keras when it is asked for what it lacks."""

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        raise UnsupportedAttributeError(f"tf.keras.backend.{name}", _ADVICE)

    module.__getattr__ = missing
