"""`tf.contrib.mixed_precision`: losses scaled so that half-precision gradients don't vanish."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_v1 = tf.compat.v1


class LossScaleManager:
    """Gives the scale of the loss, and learns whether gradients were finite."""

    def get_loss_scale(self) -> tf.Tensor:
        """Gives the scale, float32 scalar."""
        raise NotImplementedError

    def update_loss_scale(self, finite_grads: Any) -> Any:
        """Gives an operation that learns from a step."""
        raise NotImplementedError


class FixedLossScaleManager(LossScaleManager):
    """A scale that stays."""

    def __init__(self, loss_scale: float):
        if loss_scale < 1:
            raise ValueError("loss scale must be at least 1.")
        self._loss_scale = tf.convert_to_tensor(loss_scale, dtype=tf.float32)

    def get_loss_scale(self) -> tf.Tensor:
        return self._loss_scale

    def update_loss_scale(self, finite_grads: Any) -> Any:
        return tf.no_op()


class ExponentialUpdateLossScaleManager(LossScaleManager):
    """A scale that grows after many finite steps and shrinks after some that weren't."""

    def __init__(
        self,
        init_loss_scale: float,
        incr_every_n_steps: int,
        decr_every_n_nan_or_inf: int = 2,
        incr_ratio: float = 2,
        decr_ratio: float = 0.8,
    ):
        self._incr_every_n_steps = incr_every_n_steps
        self._decr_every_n_nan_or_inf = decr_every_n_nan_or_inf
        self._incr_ratio = incr_ratio
        self._decr_ratio = decr_ratio
        self._loss_scale = _local("loss_scale", float(init_loss_scale), tf.float32)
        self._num_good_steps = _local("good_steps", 0, tf.int32)
        self._num_bad_steps = _local("bad_steps", 0, tf.int32)

    def get_loss_scale(self) -> tf.Tensor:
        return tf.convert_to_tensor(self._loss_scale)

    def update_loss_scale(self, finite_grads: Any) -> Any:
        return tf.cond(finite_grads, self._after_good_step, self._after_bad_step)

    def _after_good_step(self) -> tf.Operation:
        def grow() -> tf.Operation:
            larger = self._loss_scale * self._incr_ratio
            usable = tf.where(tf.math.is_finite(larger), larger, self._loss_scale)
            return tf.group(self._loss_scale.assign(usable), *self._start_counting())

        def count() -> tf.Operation:
            return tf.group(self._num_good_steps.assign_add(1).op)

        return tf.cond(self._num_good_steps + 1 >= self._incr_every_n_steps, grow, count)

    def _after_bad_step(self) -> tf.Operation:
        def shrink() -> tf.Operation:
            smaller = tf.maximum(1.0, self._loss_scale * self._decr_ratio)
            return tf.group(self._loss_scale.assign(smaller), *self._start_counting())

        def count() -> tf.Operation:
            return tf.group(self._num_bad_steps.assign_add(1).op, self._num_good_steps.assign(0).op)

        return tf.cond(self._num_bad_steps + 1 >= self._decr_every_n_nan_or_inf, shrink, count)

    def _start_counting(self) -> list:
        return [self._num_good_steps.assign(0), self._num_bad_steps.assign(0)]


def _local(name: str, value: Any, dtype: Any) -> Any:
    return _v1.Variable(value, name=name, dtype=dtype, trainable=False, use_resource=True)


class LossScaleOptimizer(_v1.train.Optimizer):
    """Scales the loss before gradients are taken, and the gradients back; skips steps that aren't finite."""

    def __init__(self, opt: Any, loss_scale_manager: LossScaleManager):
        super().__init__(use_locking=False, name="LossScaleOptimizer")
        self._opt = opt
        self._loss_scale_manager = loss_scale_manager

    def compute_gradients(self, loss: Any, var_list: Any = None, *args: Any, **kwargs: Any) -> list:
        scale = self._loss_scale_manager.get_loss_scale()
        scaled: Any = (
            loss * tf.cast(scale, loss.dtype.base_dtype)
            if not callable(loss)
            else _scaled(loss, scale)
        )
        pairs = self._opt.compute_gradients(scaled, var_list, *args, **kwargs)
        return [(_divided(gradient, scale), variable) for gradient, variable in pairs]

    def apply_gradients(
        self, grads_and_vars: Any, global_step: Any = None, name: Any = None
    ) -> Any:
        grads_and_vars = list(grads_and_vars)
        finite = tf.reduce_all(
            [
                tf.reduce_all(tf.math.is_finite(_values(g)))
                for g, _ in grads_and_vars
                if g is not None
            ]
        )
        update = tf.cond(
            finite,
            lambda: tf.group(self._opt.apply_gradients(grads_and_vars, global_step, name)),
            tf.no_op,
        )
        return tf.group(update, self._loss_scale_manager.update_loss_scale(finite))


def _scaled(loss: Callable, scale: Any) -> Callable:
    def scaled_loss() -> Any:
        value = loss()
        return value * tf.cast(scale, value.dtype.base_dtype)

    return scaled_loss


def _values(gradient: Any) -> Any:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _divided(gradient: Any, scale: Any) -> Any:
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values / tf.cast(scale, gradient.values.dtype.base_dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient / tf.cast(scale, gradient.dtype.base_dtype)
