"""`tf.compat.v1.keras` as `tensorflow_estimator...util` gives it: its legacy layers need no Keras 2.

tf_keras_v1.__internal__.legacy.layers.dense(...)        tpuest's, unless Keras 2 is in use
"""

from __future__ import annotations

import types
from typing import Any

import tensorflow as tf

from tpuest.compat import trace


def __getattr__(name: str) -> Any:
    if name == "__internal__" and not trace.keras_serves_layers():
        return _legacy()
    return getattr(tf.compat.v1.keras, name)


def _legacy() -> types.SimpleNamespace:
    from tpuest.compat import layers

    legacy = types.SimpleNamespace(layers=layers, rnn_cell=tf.compat.v1.nn.rnn_cell)
    return types.SimpleNamespace(legacy=legacy)
