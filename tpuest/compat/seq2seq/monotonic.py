"""Attention that only moves forward over its memory (Raffel et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tpuest.compat.seq2seq import attention, shapes

_v1 = tf.compat.v1


def safe_cumprod(x: Any, *args: Any, **kwargs: Any) -> tf.Tensor:
    """Gives `tf.math.cumprod` of values in [0, 1], by logarithms, so that the gradient stays finite."""
    with _v1.name_scope(None, "SafeCumprod", [x]):
        x = tf.convert_to_tensor(x, name="x")
        smallest = np.finfo(x.dtype.as_numpy_dtype).tiny
        logarithms = tf.math.log(tf.clip_by_value(x, smallest, 1))
        return tf.exp(tf.cumsum(logarithms, *args, **kwargs))


def monotonic_attention(p_choose_i: Any, previous_attention: Any, mode: str) -> tf.Tensor:
    """Gives where attention that moves on with given probabilities will be.

    Args:
      p_choose_i: float `[batch_size, memory_time]`, probability to stop at each step of the memory.
      previous_attention: float `[batch_size, memory_time]`, where it was.
      mode: 'recursive' is slow and exact, 'parallel' fast, 'hard' for probabilities of 0 and 1.

    Raises:
      ValueError: `mode` is another.
    """
    chosen = tf.convert_to_tensor(p_choose_i, name="p_choose_i")
    previous = tf.convert_to_tensor(previous_attention, name="previous_attention")
    if mode == "recursive":
        return _recursive(chosen, previous)
    if mode == "parallel":
        passed = safe_cumprod(1 - chosen, axis=1, exclusive=True)
        arrived = tf.cumsum(previous / tf.clip_by_value(passed, 1e-10, 1.0), axis=1)
        return chosen * passed * arrived
    if mode == "hard":
        chosen *= tf.cumsum(previous, axis=1)
        return chosen * tf.math.cumprod(1 - chosen, axis=1, exclusive=True)
    raise ValueError("mode must be 'recursive', 'parallel', or 'hard'.")


def _recursive(chosen: tf.Tensor, previous: tf.Tensor) -> tf.Tensor:
    batch_size = shapes.static_or_dynamic_size(chosen, 0)
    passed = tf.concat([tf.ones((batch_size, 1), chosen.dtype), 1 - chosen[:, :-1]], 1)
    reached = _v1.scan(
        lambda before, step: tf.reshape(step[0] * before + step[1], (batch_size,)),
        [tf.transpose(passed), tf.transpose(previous)],
        tf.zeros((batch_size,), chosen.dtype),
    )
    return chosen * tf.transpose(reached)


class _MonotonicAttention(attention.MemoryAttention):
    """A mechanism whose scores say where to stop."""

    def initial_alignments(self, batch_size: Any, dtype: Any) -> tf.Tensor:
        """Gives where the mechanism looks before the first step: at the memory's first."""
        return tf.one_hot(tf.zeros((batch_size,), tf.int32), self._alignments_size, dtype=dtype)

    def _score_bias(self, dtype: Any) -> tf.Tensor:
        return _v1.get_variable(
            "attention_score_bias", dtype=dtype, initializer=self._score_bias_init
        )


class BahdanauMonotonicAttention(_MonotonicAttention):
    """`BahdanauAttention` that only moves forward."""

    _scope = "bahdanau_monotonic_attention"

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        normalize: bool = False,
        score_mask_value: Any = None,
        sigmoid_noise: float = 0.0,
        sigmoid_noise_seed: int | None = None,
        score_bias_init: float = 0.0,
        mode: str = "parallel",
        dtype: Any = None,
        name: str = "BahdanauMonotonicAttention",
    ):
        super().__init__(
            query_layer=attention.dense(num_units, "query_layer", dtype),
            memory_layer=attention.dense(num_units, "memory_layer", dtype),
            memory=memory,
            probability_fn=_probabilities(sigmoid_noise, mode, sigmoid_noise_seed),
            memory_sequence_length=memory_sequence_length,
            score_mask_value=score_mask_value,
            name=name,
        )
        self._num_units = num_units
        self._normalize = normalize
        self._name = name
        self._score_bias_init = score_bias_init

    def _score(self, query: tf.Tensor) -> tf.Tensor:
        score = attention.bahdanau_score(
            self._query_layer(query), self._keys, self._num_units, self._normalize, query.dtype
        )
        return score + self._score_bias(query.dtype)


class LuongMonotonicAttention(_MonotonicAttention):
    """`LuongAttention` that only moves forward."""

    _scope = "luong_monotonic_attention"

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        scale: bool = False,
        score_mask_value: Any = None,
        sigmoid_noise: float = 0.0,
        sigmoid_noise_seed: int | None = None,
        score_bias_init: float = 0.0,
        mode: str = "parallel",
        dtype: Any = None,
        name: str = "LuongMonotonicAttention",
    ):
        super().__init__(
            query_layer=None,
            memory_layer=attention.dense(num_units, "memory_layer", dtype),
            memory=memory,
            probability_fn=_probabilities(sigmoid_noise, mode, sigmoid_noise_seed),
            memory_sequence_length=memory_sequence_length,
            score_mask_value=score_mask_value,
            name=name,
        )
        self._num_units = num_units
        self._scale = scale
        self._score_bias_init = score_bias_init
        self._name = name

    def _score(self, query: tf.Tensor) -> tf.Tensor:
        score = attention.luong_score(query, self._keys, self._scale)
        return score + self._score_bias(query.dtype)


def _probabilities(noise: float, mode: str, seed: int | None) -> Any:
    def probabilities(score: tf.Tensor, previous: tf.Tensor) -> tf.Tensor:
        if noise > 0:
            score += noise * _v1.random_normal(tf.shape(score), dtype=score.dtype, seed=seed)
        chosen = tf.cast(score > 0, score.dtype) if mode == "hard" else tf.sigmoid(score)
        return monotonic_attention(chosen, previous, mode)

    return probabilities
