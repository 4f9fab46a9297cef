"""One update of an embedding table: what each kind of optimizer does to the table and its slots.

Takes the table's and slots' values, the gradient of every row and which rows have one; gives the new values. Formulas as
in `optimization_parameters.proto` of TensorFlow; rows without a gradient stay as they are.

    w, slots, g  ->  w', slots'        all float32 [vocabulary_size, dimension]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tpuest import embedding_config as config


@dataclasses.dataclass(frozen=True)
class Slot:
    """A value that an optimizer keeps beside each weight.

    Attributes:
      name: behind the table's, in checkpoints.
      initial_value: of every element.
    """

    name: str
    initial_value: float


def slots_of(parameters: config.OptimizationParameters) -> tuple[Slot, ...]:
    """Lists the slots of a kind of optimizer, named as those of the CPU's optimizer."""
    match parameters:
        case config.AdagradParameters():
            return (Slot("Adagrad", parameters.initial_accumulator),)
        case config.ProximalAdagradParameters():
            return (Slot("ProximalAdagrad", parameters.initial_accumulator),)
        case config.AdamParameters():
            return Slot("Adam/m", 0.0), Slot("Adam/v", 0.0)
        case config.FtrlParameters():
            return Slot("Ftrl", parameters.initial_accumulator_value), Slot("Ftrl_1", 0.0)
        case config.MomentumParameters():
            return (Slot("Momentum", 0.0),)
        case config.RMSPropParameters():
            return Slot("RMSProp/ms", 0.0), Slot("RMSProp/mom", 0.0)
    return ()


def update(
    parameters: config.OptimizationParameters,
    learning_rate: tf.Tensor,
    weights: tf.Tensor,
    slots: tuple[tf.Tensor, ...],
    gradient: tf.Tensor,
    has_gradient: tf.Tensor,
) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
    """Computes the table and the slots after one update.

    Args:
      parameters: the kind of optimizer and its settings.
      learning_rate: float32 scalar.
      weights: float32 `[vocabulary_size, dimension]`.
      slots: as `slots_of` lists them, each of the shape of `weights`.
      gradient: of the shape of `weights`.
      has_gradient: bool `[vocabulary_size]`, the rows that the batch has.
    """
    gradient = _clip(gradient, parameters.clip_gradient_min, parameters.clip_gradient_max)
    change = _CHANGES[type(parameters)]
    new_weights, new_slots = change(parameters, learning_rate, weights, slots, gradient)
    if parameters.weight_decay_factor:
        decay = tf.constant(parameters.weight_decay_factor, weights.dtype)
        if parameters.multiply_weight_decay_factor_by_learning_rate:
            decay *= learning_rate
        new_weights -= decay * weights
    new_weights = _clip(new_weights, parameters.clip_weight_min, parameters.clip_weight_max)
    is_dense = isinstance(parameters, config.AdamParameters) and not parameters.lazy_adam
    if is_dense:
        return new_weights, new_slots
    rows = has_gradient[:, tf.newaxis]
    kept = tuple(tf.where(rows, new, old) for new, old in zip(new_slots, slots, strict=True))
    return tf.where(rows, new_weights, weights), kept


def _clip(values, smallest, largest):
    if smallest is not None:
        values = tf.maximum(values, smallest)
    return values if largest is None else tf.minimum(values, largest)


def _descend(parameters, rate, w, slots, g):
    return w - rate * g, slots


def _adagrad(parameters, rate, w, slots, g):
    accumulator = slots[0] + tf.square(g)
    return w - rate * g * tf.math.rsqrt(accumulator), (accumulator,)


def _proximal_adagrad(parameters, rate, w, slots, g):
    accumulator = slots[0] + tf.square(g)
    rates = rate * tf.math.rsqrt(accumulator)
    moved = w - rates * g
    l1, l2 = parameters.l1_regularization_strength, parameters.l2_regularization_strength
    shrunk = tf.sign(moved) * tf.maximum(tf.abs(moved) - rates * l1, 0.0)
    return shrunk / (1.0 + rates * l2), (accumulator,)


def _adam(parameters, rate, w, slots, g):
    m = parameters.beta1 * slots[0] + (1 - parameters.beta1) * g
    v = parameters.beta2 * slots[1] + (1 - parameters.beta2) * tf.square(g)
    if parameters.sum_inside_sqrt:
        divisor = tf.sqrt(v + parameters.epsilon**2)
    else:
        divisor = tf.sqrt(v) + parameters.epsilon
    return w - rate * m / divisor, (m, v)


def _ftrl(parameters, rate, w, slots, g):
    accumulator, linear = slots
    power = -parameters.learning_rate_power
    l1, l2 = parameters.l1_regularization_strength, parameters.l2_regularization_strength
    new_accumulator = accumulator + tf.square(g)
    new_root, old_root = (tf.pow(a, power) for a in (new_accumulator, accumulator))
    new_linear = linear + g - (new_root - old_root) / rate * w
    quadratic = (new_root + parameters.beta) / rate + 2 * l2
    shrunk = tf.sign(new_linear) * tf.maximum(tf.abs(new_linear) - l1, 0.0)
    return -shrunk / quadratic, (new_accumulator, new_linear)


def _momentum(parameters, rate, w, slots, g):
    accumulator = parameters.momentum * slots[0] + g
    step = g + parameters.momentum * accumulator if parameters.use_nesterov else accumulator
    return w - rate * step, (accumulator,)


def _rms_prop(parameters, rate, w, slots, g):
    mean_square = parameters.rho * slots[0] + (1 - parameters.rho) * tf.square(g)
    step = rate * g * tf.math.rsqrt(mean_square + parameters.epsilon)
    moment = parameters.momentum * slots[1] + step
    return w - moment, (mean_square, moment)


_CHANGES: dict[type, Callable] = {
    config.StochasticGradientDescentParameters: _descend,
    config.AdagradParameters: _adagrad,
    config.ProximalAdagradParameters: _proximal_adagrad,
    config.AdamParameters: _adam,
    config.FtrlParameters: _ftrl,
    config.MomentumParameters: _momentum,
    config.RMSPropParameters: _rms_prop,
}
