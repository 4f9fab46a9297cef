"""The parts of `tf.contrib.layers` that most programs use, without tf-slim.

Takes and gives what TensorFlow 1.15's functions do: variable names, collections and numbers are theirs.
Everything else of `tf.contrib.layers` is tf-slim's.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

_v1 = tf.compat.v1
MODEL_VARIABLES = _v1.GraphKeys.MODEL_VARIABLES


def layer_norm(
    inputs: Any,
    center: bool = True,
    scale: bool = True,
    activation_fn: Callable | None = None,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    begin_norm_axis: int = 1,
    begin_params_axis: int = -1,
    scope: Any = None,
) -> tf.Tensor:
    """Normalizes all dimensions from `begin_norm_axis` on, with a learned offset and scale.

    Args:
      inputs: float `[batch_size, ...]`.
      center: whether to add a variable `beta`.
      scale: whether to multiply by a variable `gamma`.
      activation_fn: applied to the result.
      reuse: whether the scope's variables are there already.
      variables_collections: collections of the variables: a list, or a dict of lists by variable.
      outputs_collections: collections of the result.
      trainable: whether the variables are trained.
      begin_norm_axis: first dimension that is normalized.
      begin_params_axis: first dimension that the variables have.
      scope: of the variables, "LayerNorm" by default.

    Raises:
      ValueError: the shape isn't known enough.
    """
    with _v1.variable_scope(scope, "LayerNorm", [inputs], reuse=reuse) as variable_scope:
        inputs = tf.convert_to_tensor(inputs)
        params_shape = _params_shape(inputs, begin_norm_axis, begin_params_axis)
        make = _VariableMaker(
            inputs.dtype.base_dtype, params_shape, trainable, variables_collections
        )
        beta = make("beta", tf.compat.v1.zeros_initializer()) if center else None
        gamma = make("gamma", tf.compat.v1.ones_initializer()) if scale else None
        begin = begin_norm_axis % inputs.shape.rank
        mean, variance = tf.nn.moments(inputs, list(range(begin, inputs.shape.rank)), keepdims=True)
        # With half precision the original's epsilon is larger, or the variance's inverse overflows.
        epsilon = 1e-3 if inputs.dtype == tf.float16 else 1e-12
        outputs = tf.nn.batch_normalization(
            inputs, mean, variance, offset=beta, scale=gamma, variance_epsilon=epsilon
        )
        outputs.set_shape(inputs.shape)
        if activation_fn is not None:
            outputs = activation_fn(outputs)
        return _collected(outputs, outputs_collections, variable_scope.original_name_scope)


class _VariableMaker:
    """Makes the variables of a contrib layer, which are model variables."""

    def __init__(self, dtype: Any, shape: Any, trainable: bool, collections: Any):
        self._options = {"dtype": dtype, "shape": shape, "trainable": trainable}
        self._collections = collections

    def __call__(self, name: str, initializer: Any) -> Any:
        wanted = self._collections
        if isinstance(wanted, dict):
            wanted = wanted.get(name)
        collections = [
            *(wanted or ()),
            _v1.GraphKeys.GLOBAL_VARIABLES,
            MODEL_VARIABLES,
        ]
        return _v1.get_variable(
            name,
            initializer=initializer,
            collections=list(dict.fromkeys(collections)),
            **self._options,
        )


def _params_shape(inputs: tf.Tensor, begin_norm_axis: int, begin_params_axis: int) -> Any:
    rank = inputs.shape.rank
    if rank is None:
        raise ValueError(f"Inputs {inputs.name} has undefined rank.")
    if begin_params_axis >= rank or begin_norm_axis >= rank:
        raise ValueError(
            f"begin_params_axis ({begin_params_axis}) and begin_norm_axis ({begin_norm_axis}) "
            f"must be < rank(inputs) ({rank})"
        )
    shape = inputs.shape[begin_params_axis:]
    if not shape.is_fully_defined():
        raise ValueError(
            f"Inputs {inputs.name}: shape(inputs)[{begin_params_axis}:] is not fully defined: "
            f"{inputs.shape}"
        )
    return shape


def _collected(outputs: tf.Tensor, collections: Any, alias: str) -> tf.Tensor:
    if collections:
        outputs.alias = alias.removesuffix("/")
        _v1.add_to_collections(collections, outputs)
    return outputs


def flatten(inputs: Any, outputs_collections: Any = None, scope: Any = None) -> tf.Tensor:
    """Gives `[batch_size, everything else]`."""
    with tf.name_scope(scope or "Flatten") as name:
        outputs = _v1.layers.flatten(tf.convert_to_tensor(inputs))
        return _collected(outputs, outputs_collections, name)


def one_hot_encoding(
    labels: Any,
    num_classes: int,
    on_value: float = 1.0,
    off_value: float = 0.0,
    outputs_collections: Any = None,
    scope: Any = None,
) -> tf.Tensor:
    """Gives float `[batch_size, num_classes]`, 1 at each label."""
    with tf.name_scope(scope or "OneHotEncoding") as name:
        labels = tf.convert_to_tensor(labels)
        if labels.dtype == tf.int32:
            labels = tf.cast(labels, tf.int64)
        outputs = tf.one_hot(labels, num_classes, on_value=on_value, off_value=off_value)
        return _collected(outputs, outputs_collections, name)


def xavier_initializer(uniform: bool = True, seed: Any = None, dtype: Any = tf.float32) -> Any:
    """Gives an initializer of Glorot and Bengio's variance."""
    return variance_scaling_initializer(1.0, "FAN_AVG", uniform, seed, dtype)


xavier_initializer_conv2d = xavier_initializer


def variance_scaling_initializer(
    factor: float = 2.0,
    mode: str = "FAN_IN",
    uniform: bool = False,
    seed: Any = None,
    dtype: Any = tf.float32,
) -> Callable:
    """Gives an initializer whose variance is `factor` over the number of units.

    Raises:
      ValueError: `mode` isn't 'FAN_IN', 'FAN_OUT' or 'FAN_AVG'.
      TypeError: `dtype` isn't a floating one.
    """
    if not tf.as_dtype(dtype).is_floating:
        raise TypeError("Cannot create initializer for non-floating point type.")
    if mode not in ("FAN_IN", "FAN_OUT", "FAN_AVG"):
        raise ValueError(f"Unknown mode {mode} [FAN_IN, FAN_OUT, FAN_AVG]")

    def initialize(shape: Any, dtype: Any = dtype, partition_info: Any = None) -> tf.Tensor:
        whole = partition_info.full_shape if partition_info is not None else shape
        units = _units([int(size) for size in whole], mode)
        if uniform:
            limit = math.sqrt(3.0 * factor / units)
            return _v1.random_uniform(shape, -limit, limit, dtype, seed=seed)
        # 1.3 makes up for what the truncation takes from the variance, as in TensorFlow 1.
        deviation = math.sqrt(1.3 * factor / units)
        return _v1.truncated_normal(shape, 0.0, deviation, dtype, seed=seed)

    return initialize


def _units(shape: Sequence[int], mode: str) -> float:
    fan_in = float(shape[-2] if len(shape) > 1 else shape[-1] if shape else 1)
    fan_out = float(shape[-1]) if shape else 1.0
    for size in shape[:-2]:
        fan_in *= size
        fan_out *= size
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "FAN_AVG": (fan_in + fan_out) / 2.0}[mode]


def l1_regularizer(scale: float, scope: Any = None) -> Callable:
    """Gives a function from weights to `scale` times the sum of their absolute values."""
    return _regularizer(scale, scope, "l1_regularizer", lambda w: tf.reduce_sum(tf.abs(w)))


def l2_regularizer(scale: float, scope: Any = None) -> Callable:
    """Gives a function from weights to `scale` times half the sum of their squares."""
    return _regularizer(scale, scope, "l2_regularizer", tf.nn.l2_loss)


def l1_l2_regularizer(scale_l1: float = 1.0, scale_l2: float = 1.0, scope: Any = None) -> Callable:
    """Gives the sum of an L1 and an L2 regularizer."""
    scope = scope or "l1_l2_regularizer"
    return sum_regularizer(
        [l1_regularizer(scale_l1), l2_regularizer(scale_l2)],
        scope=scope,
    )


def _regularizer(scale: Any, scope: Any, default: str, measure: Callable) -> Callable:
    if isinstance(scale, numbers.Integral):
        raise ValueError(f"scale cannot be an integer: {scale}")
    if isinstance(scale, numbers.Real):
        if scale < 0.0:
            raise ValueError(f"Setting a scale less than 0 on a regularizer: {scale:g}")
        if scale == 0.0:
            tf.compat.v1.logging.info("Scale of 0 disables regularizer.")
            return lambda _: None

    def regularize(weights: Any) -> tf.Tensor:
        with tf.name_scope(scope or default) as name:
            factor = tf.convert_to_tensor(scale, weights.dtype.base_dtype, name="scale")
            return tf.multiply(factor, measure(weights), name=name)

    return regularize


def sum_regularizer(regularizer_list: Sequence, scope: Any = None) -> Callable | None:
    """Gives the sum of regularizers; `None` of none."""
    regularizers = [one for one in regularizer_list if one is not None]
    if not regularizers:
        return None

    def regularize(weights: Any) -> tf.Tensor | None:
        with tf.name_scope(scope or "sum_regularizer") as name:
            values = [one(weights) for one in regularizers]
            values = [value for value in values if value is not None]
            return tf.add_n(values, name=name) if values else None

    return regularize


def apply_regularization(regularizer: Callable, weights_list: Any = None) -> tf.Tensor:
    """Adds up a regularizer over weights, and puts each value into the regularization losses."""
    if not weights_list:
        weights_list = _v1.get_collection(_v1.GraphKeys.WEIGHTS)
    if not weights_list:
        raise ValueError("No weights to regularize.")
    with tf.name_scope("get_regularization_penalty") as name:
        penalties = [regularizer(weights) for weights in weights_list]
        penalties = [tf.constant(0.0) if p is None else p for p in penalties]
        for penalty in penalties:
            if penalty.shape.rank != 0:
                raise ValueError(
                    "regularizer must return a scalar Tensor instead of a Tensor with rank "
                    f"{penalty.shape.rank}."
                )
        total = tf.add_n(penalties, name=name)
        _v1.add_to_collection(_v1.GraphKeys.REGULARIZATION_LOSSES, total)
        return total
