"""Moving averages of a batch normalization, and the corrections that `renorm` takes from them."""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow.compat.v1 as tf

from tpuest.compat.layers.condition import choose

# Keys of `renorm_clipping`.
LIMITS = frozenset(["rmax", "rmin", "dmax"])


def move_average(average: tf.Variable, value: tf.Tensor, momentum: float | tf.Tensor) -> Any:
    """Moves a variable towards a value: `average -= (average - value) * (1 - momentum)`.

    Args:
      average: of any shape.
      value: of the same shape.
      momentum: scalar, the share of the average to keep.

    Returns:
      The moved variable, as `tf.assign_sub` returns it.
    """
    with tf.name_scope("AssignMovingAvg") as scope:
        decay = tf.convert_to_tensor(1.0 - momentum, name="decay")
        decay = tf.cast(decay, average.dtype.base_dtype)
        step = (average - tf.cast(value, average.dtype.base_dtype)) * decay
        return tf.assign_sub(average, step, name=scope)


@dataclasses.dataclass(frozen=True)
class Renormalization:
    """Brings a batch's statistics nearer to their averages (arxiv.org/abs/1702.03275).

        corrected = normalized * ratio + shift
        ratio = stddev / average stddev
        shift = (mean - average mean) / average stddev

    Attributes:
      mean: variable [channels], the average of batches' means.
      stddev: variable [channels], the average of batches' standard deviations.
      epsilon: added to a variance before its root is taken.
      momentum: share of the averages that a step keeps.
      clipping: limits of the ratio, 'rmin' and 'rmax', and of the shift, 'dmax'; any may lack.
    """

    mean: tf.Variable
    stddev: tf.Variable
    epsilon: float
    momentum: float
    clipping: dict

    def correct(self, mean: tf.Tensor, variance: tf.Tensor, training: Any) -> tuple:
        """Corrects by the averages as they are, then updates them.

        Args:
          mean: [channels], of the batch.
          variance: [channels], of the batch.
          training: a bool or a boolean scalar tensor.

        Returns:
          (ratio, shift, mean, variance), each [channels]; the last two wait for the updates.
        """
        stddev = tf.sqrt(variance + self.epsilon)
        # The average is 0 at first, if so initialized.
        average_stddev = tf.maximum(self.stddev, tf.sqrt(self.epsilon))
        ratio = stddev / average_stddev
        shift = (mean - self.mean) / average_stddev
        with tf.control_dependencies([ratio, shift]):  # They read what the update overwrites.
            mean, stddev = tf.identity(mean), tf.identity(stddev)
        ratio, shift = self._clip(ratio, shift)
        ratio = choose(training, lambda: ratio, lambda: tf.ones_like(ratio))
        shift = choose(training, lambda: shift, lambda: tf.zeros_like(shift))
        updates = [
            self._update(self.mean, mean, training),
            self._update(self.stddev, stddev, training),
        ]
        with tf.control_dependencies(updates):
            return ratio, shift, tf.identity(mean), tf.identity(variance)

    def _clip(self, ratio, shift):
        limits = self.clipping
        if limits.get("rmin") is not None:
            ratio = tf.maximum(ratio, limits["rmin"])
        if limits.get("rmax") is not None:
            ratio = tf.minimum(ratio, limits["rmax"])
        if limits.get("dmax") is not None:
            shift = tf.minimum(tf.maximum(shift, -limits["dmax"]), limits["dmax"])
        return ratio, shift

    def _update(self, average, value, training):
        return choose(
            training,
            lambda: move_average(average, value, self.momentum),
            lambda: tf.identity(average),
        )
