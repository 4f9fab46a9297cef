"""The loss of a sequence of logits: what training minimizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_v1 = tf.compat.v1


def sequence_loss(
    logits: Any,
    targets: Any,
    weights: Any,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Gives the weighted cross entropy of sequences.

    Args:
      logits: float `[batch_size, time, classes]`.
      targets: int `[batch_size, time]`.
      weights: float `[batch_size, time]`.
      average_across_timesteps: whether to divide a sequence's sum by its weights.
      average_across_batch: whether to divide a step's sum over the batch by its weights.
      sum_over_timesteps: whether to divide a sequence's sum by its number of weights that aren't 0.
      sum_over_batch: whether to divide a step's sum by its number of weights that aren't 0.
      softmax_loss_function: takes `labels` and `logits` of all steps in a row; softmax by default.
      name: of the operations.

    Returns:
      float: a scalar, `[batch_size]`, `[time]` or `[batch_size, time]`, as is averaged or summed.

    Raises:
      ValueError: a rank is wrong, or both an average and a sum were asked for.
    """
    _check(logits, targets, weights)
    if average_across_timesteps and sum_over_timesteps:
        raise ValueError(
            "average_across_timesteps and sum_over_timesteps cannot be set to True at same time."
        )
    if average_across_batch and sum_over_batch:
        raise ValueError(
            "average_across_batch and sum_over_batch cannot be set to True at same time."
        )
    with _v1.name_scope(name, "sequence_loss", [logits, targets, weights]):
        losses = _weighted_losses(logits, targets, weights, softmax_loss_function)
        if average_across_timesteps and average_across_batch:
            return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.reduce_sum(weights))
        if sum_over_timesteps and sum_over_batch:
            return tf.math.divide_no_nan(tf.reduce_sum(losses), _count(weights, losses.dtype))
        losses = tf.reshape(losses, tf.shape(logits)[0:2])
        if average_across_timesteps or average_across_batch:
            axis = [0] if average_across_batch else [1]
            size = tf.reduce_sum(weights, axis=axis)
        elif sum_over_timesteps or sum_over_batch:
            axis = [0] if sum_over_batch else [1]
            size = _count(weights, losses.dtype, axis)
        else:
            return losses
        return tf.math.divide_no_nan(tf.reduce_sum(losses, axis=axis), size)


class SequenceLoss:
    """`sequence_loss` as an object that is called with targets and logits."""

    def __init__(
        self,
        average_across_timesteps: bool = False,
        average_across_batch: bool = False,
        sum_over_timesteps: bool = True,
        sum_over_batch: bool = True,
        softmax_loss_function: Callable | None = None,
        name: str | None = None,
    ):
        self.average_across_timesteps = average_across_timesteps
        self.average_across_batch = average_across_batch
        self.sum_over_timesteps = sum_over_timesteps
        self.sum_over_batch = sum_over_batch
        self.softmax_loss_function = softmax_loss_function
        self.name = name

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tf.Tensor:
        return sequence_loss(
            y_pred,
            y_true,
            sample_weight,
            average_across_timesteps=self.average_across_timesteps,
            average_across_batch=self.average_across_batch,
            sum_over_timesteps=self.sum_over_timesteps,
            sum_over_batch=self.sum_over_batch,
            softmax_loss_function=self.softmax_loss_function,
            name=self.name,
        )


def _check(logits: Any, targets: Any, weights: Any) -> None:
    if len(logits.shape) != 3:
        raise ValueError("Logits must be a [batch_size x sequence_length x logits] tensor")
    if len(targets.shape) != 2:
        raise ValueError("Targets must be a [batch_size x sequence_length] tensor")
    if len(weights.shape) != 2:
        raise ValueError("Weights must be a [batch_size x sequence_length] tensor")


def _weighted_losses(logits: Any, targets: Any, weights: Any, measure: Any) -> tf.Tensor:
    """Gives float `[batch_size * time]`."""
    measure = measure or _v1.nn.sparse_softmax_cross_entropy_with_logits
    rows = tf.reshape(logits, [-1, tf.shape(logits)[2]])
    return measure(labels=tf.reshape(targets, [-1]), logits=rows) * tf.reshape(weights, [-1])


def _count(weights: Any, dtype: Any, axis: Any = None) -> tf.Tensor:
    return tf.cast(tf.math.count_nonzero(weights, axis=axis), dtype)
