"""Hooks of `tf.contrib.tpu` that programs pass to an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


class AsyncCheckpointSaverHook(tf.compat.v1.train.CheckpointSaverHook):
    """Saves checkpoints as `tf.train.CheckpointSaverHook` does, between two loops of steps.

    Differs from TPUEstimator: training waits for the file.
    """


class MultiHostDatasetInitializerHook(tf.compat.v1.train.SessionRunHook):
    """Initialises a dataset's iterator when the session is there."""

    def __init__(self, dataset: Any):
        self._initializer = tf.compat.v1.data.make_initializable_iterator(dataset).initializer

    def after_create_session(self, session: Any, coord: Any) -> None:
        session.run(self._initializer)


def replace_monitors_with_hooks(monitors_or_hooks: Sequence, estimator: Any) -> list:
    """Gives the hooks as they are: there are no monitors any more."""
    return list(monitors_or_hooks or ())
