"""`tf.keras` as `tensorflow_estimator...util` gives it, with the layers of feature columns that Keras 3 lacks."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tpuest.compat import keras_v1


def __getattr__(name: str) -> Any:
    return keras_v1.find(tf.keras, name)
