"""`tf.layers.experimental`: Keras-style variables, which need Keras."""

from __future__ import annotations

from tpuest.errors import UnsupportedError

_INSTEAD = (
    "Share variables by calling one layer object several times, or by "
    "tf.variable_scope(..., reuse=tf.AUTO_REUSE)."
)


def keras_style_scope() -> None:
    """Raises `UnsupportedError`: layers own no variables outside a scope."""
    raise UnsupportedError("tf.layers.experimental.keras_style_scope", _INSTEAD)


def set_keras_style() -> None:
    """Raises `UnsupportedError`: layers own no variables outside a scope."""
    raise UnsupportedError("tf.layers.experimental.set_keras_style", _INSTEAD)
