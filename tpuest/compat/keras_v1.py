"""`tf.compat.v1.keras` as `tensorflow_estimator...util` gives it: its legacy layers need no Keras 2.

tf_keras_v1.__internal__.legacy.layers.dense(...)    tpuest's, unless Keras 2 is in use
tf_keras_v1.layers.DenseFeatures(columns)            the same
"""

from __future__ import annotations

import types
from typing import Any

import tensorflow as tf

from tpuest.compat import trace


def __getattr__(name: str) -> Any:
    if name == "__internal__" and not trace.keras_serves_layers():
        return _legacy()
    return find(tf.compat.v1.keras, name)


def find(keras: Any, name: str) -> Any:
    """Finds a member of a Keras, with the layers of feature columns that Keras 3 lacks."""
    if name in _FEATURE_LAYERS and not trace.keras_serves_layers():
        return _WithFeatureLayers(keras, name)
    return getattr(keras, name)


# Where `tf.keras` of old had layers of feature columns, which Keras 3 lacks: its module to their names.
_FEATURE_LAYERS = {"layers": ("DenseFeatures",), "experimental": ("SequenceFeatures",)}


class _WithFeatureLayers:
    """A module of Keras, with the layers of feature columns."""

    def __init__(self, keras: Any, name: str):
        self._keras = keras
        self._name = name

    def __getattr__(self, name: str) -> Any:
        from tpuest.compat import feature_layers

        if name in _FEATURE_LAYERS[self._name]:
            return getattr(feature_layers, name)
        return getattr(getattr(self._keras, self._name), name)


def _legacy() -> types.SimpleNamespace:
    from tpuest.compat import layers

    legacy = types.SimpleNamespace(layers=layers, rnn_cell=tf.compat.v1.nn.rnn_cell)
    return types.SimpleNamespace(legacy=legacy)
