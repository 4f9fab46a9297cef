"""Names for functions: `activation='relu'`, `kernel_initializer='he_normal'`.

`tf.layers` took these names from Keras; the tables give what Keras of TF 1
meant by them. Callables pass through, `None` stays `None`.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow.compat.v1 as tf

# What Keras adds to a norm before dividing by it.
_EPSILON = 1e-7


def find_activation(name: str | Callable | None) -> Callable | None:
    """Returns the function for `name`: a str, a callable or `None`."""
    return _find(name, _ACTIVATIONS, "activation")


def find_initializer(name: str | Callable | None) -> Callable | None:
    """Returns the initializer for `name`: a str, a callable or `None`."""
    return _call_entry(name, _INITIALIZERS, "initializer")


def find_regularizer(name: str | Callable | None) -> Callable | None:
    """Returns the regularizer for `name`: a str, a callable or `None`."""
    return _call_entry(name, _REGULARIZERS, "regularizer")


def find_constraint(name: str | Callable | None) -> Callable | None:
    """Returns the constraint for `name`: a str, a callable or `None`."""
    return _find(name, _CONSTRAINTS, "constraint")


def _find(name, table, kind):
    if name is None or callable(name):
        return name
    try:
        return table[name]
    except (KeyError, TypeError):
        raise ValueError(
            f"Could not interpret {kind} identifier: {name!r}. Pass a callable, "
            f"or one of {sorted(table)}."
        ) from None


def _call_entry(name, table, kind):
    found = _find(name, table, kind)
    return found() if isinstance(name, str) else found


def _hard_sigmoid(x):
    return tf.clip_by_value(0.2 * x + 0.5, 0.0, 1.0)


def _scale_variance(scale, mode, distribution):
    return lambda: tf.variance_scaling_initializer(scale, mode, distribution)


def _penalize(l1, l2):
    def sum_penalties(x):
        penalty = 0.0
        if l1:
            penalty += l1 * tf.reduce_sum(tf.abs(x))
        if l2:
            penalty += l2 * tf.reduce_sum(tf.square(x))
        return penalty

    return lambda: sum_penalties


def _norm(w):
    return tf.sqrt(tf.reduce_sum(tf.square(w), axis=0, keepdims=True))


def _limit_norm(w):
    norm = _norm(w)
    return w * (tf.clip_by_value(norm, 0.0, 2.0) / (_EPSILON + norm))


_ACTIVATIONS = {
    "elu": tf.nn.elu,
    "exponential": tf.exp,
    "hard_sigmoid": _hard_sigmoid,
    "linear": None,
    "relu": tf.nn.relu,
    "selu": tf.nn.selu,
    "sigmoid": tf.nn.sigmoid,
    "softmax": tf.nn.softmax,
    "softplus": tf.nn.softplus,
    "softsign": tf.nn.softsign,
    "tanh": tf.nn.tanh,
}

_INITIALIZERS = {
    "constant": tf.constant_initializer,
    "glorot_normal": tf.glorot_normal_initializer,
    "glorot_uniform": tf.glorot_uniform_initializer,
    "he_normal": _scale_variance(2.0, "fan_in", "truncated_normal"),
    "he_uniform": _scale_variance(2.0, "fan_in", "uniform"),
    "identity": tf.initializers.identity,
    "lecun_normal": _scale_variance(1.0, "fan_in", "truncated_normal"),
    "lecun_uniform": _scale_variance(1.0, "fan_in", "uniform"),
    "ones": tf.ones_initializer,
    "orthogonal": tf.orthogonal_initializer,
    "random_normal": lambda: tf.random_normal_initializer(0.0, 0.05),
    "random_uniform": lambda: tf.random_uniform_initializer(-0.05, 0.05),
    "truncated_normal": lambda: tf.truncated_normal_initializer(0.0, 0.05),
    "zeros": tf.zeros_initializer,
}
_INITIALIZERS.update(
    normal=_INITIALIZERS["random_normal"],
    one=_INITIALIZERS["ones"],
    uniform=_INITIALIZERS["random_uniform"],
    zero=_INITIALIZERS["zeros"],
)

_REGULARIZERS = {
    "l1": _penalize(0.01, 0.0),
    "l1_l2": _penalize(0.01, 0.01),
    "l2": _penalize(0.0, 0.01),
}

_CONSTRAINTS = {
    "max_norm": _limit_norm,
    "non_neg": lambda w: w * tf.cast(tf.greater_equal(w, 0.0), w.dtype),
    "unit_norm": lambda w: w / (_EPSILON + _norm(w)),
}
_CONSTRAINTS.update(
    maxnorm=_CONSTRAINTS["max_norm"],
    nonneg=_CONSTRAINTS["non_neg"],
    unitnorm=_CONSTRAINTS["unit_norm"],
)
