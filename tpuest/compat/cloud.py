"""`tf.contrib.cloud`: credentials that notebooks hand to a TPU's host.

The host is this machine now: TensorFlow finds its own credentials, so handing them over has no effect.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class BlockCacheParams:
    """How TensorFlow's reader of gs:// paths caches: block and cache sizes in bytes, staleness in seconds."""

    block_size: int | None = None
    max_bytes: int | None = None
    max_staleness: int | None = None


def configure_gcs(
    session: Any, credentials: Any = None, block_cache: Any = None, device: Any = None
) -> None:
    """Does nothing: set GOOGLE_APPLICATION_CREDENTIALS, or sign in with `gcloud auth application-default login`."""
    if credentials is not None:
        tf.compat.v1.logging.info(
            "tf.contrib.cloud.configure_gcs has no effect: this process's own credentials are used."
        )


def configure_colab_session(session: Any) -> None:
    """Does nothing, as `configure_gcs`."""


class ConfigureGcsHook(tf.compat.v1.train.SessionRunHook):
    """Does nothing, as `configure_gcs`."""

    def __init__(self, credentials: Any = None, block_cache: Any = None):
        pass
