"""Strategies with the arguments that `tf.contrib.distribute` had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


class MirroredStrategy(tf.compat.v1.distribute.MirroredStrategy):
    """`tf.distribute.MirroredStrategy` that may be given a number of GPUs."""

    def __init__(
        self,
        devices: Sequence[str] | None = None,
        num_gpus: int | None = None,
        num_gpus_per_worker: int | None = None,
        cross_device_ops: Any = None,
        auto_shard_dataset: bool = False,
    ):
        """Makes a strategy; by default on all GPUs, or else on the CPU.

        Raises:
          ValueError: both devices and a number of GPUs were given, or both numbers.
        """
        if num_gpus is not None and num_gpus_per_worker is not None:
            raise ValueError("You cannot specify both `num_gpus` and `num_gpus_per_worker`.")
        number = num_gpus if num_gpus_per_worker is None else num_gpus_per_worker
        if devices is not None and number is not None:
            raise ValueError("Must only specify one of `devices` and `num_gpus`.")
        if number is not None:
            devices = [f"/gpu:{i}" for i in range(number)] or ["/cpu:0"]
        super().__init__(devices, cross_device_ops)
