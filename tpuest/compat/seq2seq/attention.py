"""Attention mechanisms: how well each step of a memory fits a query."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest.compat.seq2seq import shapes

_v1 = tf.compat.v1


class AttentionMechanism:
    """What an `AttentionWrapper` asks where to look."""

    @property
    def alignments_size(self) -> Any:
        """The number of steps of the memory."""
        raise NotImplementedError

    @property
    def state_size(self) -> Any:
        """The size of the mechanism's state, without the batch."""
        raise NotImplementedError


class MemoryAttention(AttentionMechanism, abc.ABC):
    """A mechanism that scores keys made from a memory.

    scores = score(query)                       float [batch_size, memory_time]
    scores beyond a memory's length = -infinity
    alignments = probabilities(scores)          float [batch_size, memory_time], also the next state
    """

    def __init__(
        self,
        query_layer: Any,
        memory: Any,
        probability_fn: Callable,
        memory_sequence_length: Any = None,
        memory_layer: Any = None,
        check_inner_dims_defined: bool = True,
        score_mask_value: Any = None,
        custom_key_value_fn: Callable | None = None,
        name: str | None = None,
    ):
        """Makes the keys of a memory.

        Args:
          query_layer: makes a query comparable with keys, or `None`.
          memory: float `[batch_size, memory_time, ...]`.
          probability_fn: takes scores and the previous alignments; gives alignments.
          memory_sequence_length: int32 `[batch_size]`, all positive; the memory's whole time by default.
          memory_layer: makes keys of the memory.
          check_inner_dims_defined: whether the memory's depth must be known.
          score_mask_value: the score beyond a memory's length.
          custom_key_value_fn: takes and gives `(keys, values)`.
          name: of the operations.

        Raises:
          TypeError: a layer isn't a layer, or `probability_fn` a function.
          ValueError: the memory's depth isn't known.
        """
        self._check_layer("query_layer", query_layer)
        self._check_layer("memory_layer", memory_layer)
        if not callable(probability_fn):
            raise TypeError(
                f"probability_fn must be callable, saw type: {type(probability_fn).__name__}"
            )
        self._query_layer = query_layer
        self._memory_layer = memory_layer
        self.dtype = memory_layer.dtype
        if score_mask_value is None:
            score_mask_value = tf.as_dtype(self.dtype).as_numpy_dtype(-np.inf)

        def probabilities(score: tf.Tensor, previous: Any) -> tf.Tensor:
            masked = _masked_score(score, memory_sequence_length, score_mask_value)
            return probability_fn(masked, previous)

        self._probability_fn = probabilities
        with _v1.name_scope(name, "BaseAttentionMechanismInit", tf.nest.flatten(memory)):
            self._values = _masked_memory(memory, memory_sequence_length, check_inner_dims_defined)
            self._keys = self._memory_layer(self._values) if self._memory_layer else self._values
            if custom_key_value_fn is not None:
                self._keys, self._values = custom_key_value_fn(self._keys, self._values)
            self._batch_size = shapes.static_or_dynamic_size(self._keys, 0)
            self._alignments_size = shapes.static_or_dynamic_size(self._keys, 1)

    @staticmethod
    def _check_layer(name: str, layer: Any) -> None:
        if layer is not None and not shapes.is_layer(layer):
            raise TypeError(f"{name} is not a Layer: {type(layer).__name__}")

    @property
    def query_layer(self) -> Any:
        return self._query_layer

    @property
    def memory_layer(self) -> Any:
        return self._memory_layer

    @property
    def values(self) -> tf.Tensor:
        return self._values

    @property
    def keys(self) -> tf.Tensor:
        return self._keys

    @property
    def batch_size(self) -> Any:
        return self._batch_size

    @property
    def alignments_size(self) -> Any:
        return self._alignments_size

    @property
    def state_size(self) -> Any:
        return self._alignments_size

    def initial_alignments(self, batch_size: Any, dtype: Any) -> tf.Tensor:
        """Gives where the mechanism looks before the first step: nowhere."""
        return shapes.zero_state(self._alignments_size, batch_size, dtype)

    def initial_state(self, batch_size: Any, dtype: Any) -> tf.Tensor:
        return self.initial_alignments(batch_size, dtype)

    @abc.abstractmethod
    def _score(self, query: tf.Tensor) -> tf.Tensor:
        """Scores the keys by a query: float `[batch_size, memory_time]`."""

    def __call__(self, query: tf.Tensor, state: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Gives `(alignments, next_state)` of a query, float `[batch_size, depth]`."""
        with _v1.variable_scope(None, self._scope, [query]):
            score = self._score(query)
        alignments = self._probability_fn(score, state)
        return alignments, alignments


class LuongAttention(MemoryAttention):
    """Scores by the product of query and key, as Luong et al. 2015; `scale` learns a factor."""

    _scope = "luong_attention"

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        scale: bool = False,
        probability_fn: Callable | None = None,
        score_mask_value: Any = None,
        dtype: Any = None,
        custom_key_value_fn: Callable | None = None,
        name: str = "LuongAttention",
    ):
        super().__init__(
            query_layer=None,
            memory_layer=dense(num_units, "memory_layer", dtype),
            memory=memory,
            probability_fn=_of_score(probability_fn),
            memory_sequence_length=memory_sequence_length,
            score_mask_value=score_mask_value,
            custom_key_value_fn=custom_key_value_fn,
            name=name,
        )
        self._num_units = num_units
        self._scale = scale
        self._name = name

    def _score(self, query: tf.Tensor) -> tf.Tensor:
        return luong_score(query, self._keys, self._scale)


class BahdanauAttention(MemoryAttention):
    """Scores by a small network of query and key, as Bahdanau et al. 2015; `normalize` as Salimans et al. 2016."""

    _scope = "bahdanau_attention"

    def __init__(
        self,
        num_units: int,
        memory: Any,
        memory_sequence_length: Any = None,
        normalize: bool = False,
        probability_fn: Callable | None = None,
        score_mask_value: Any = None,
        dtype: Any = None,
        custom_key_value_fn: Callable | None = None,
        name: str = "BahdanauAttention",
    ):
        super().__init__(
            query_layer=dense(num_units, "query_layer", dtype),
            memory_layer=dense(num_units, "memory_layer", dtype),
            memory=memory,
            probability_fn=_of_score(probability_fn),
            memory_sequence_length=memory_sequence_length,
            score_mask_value=score_mask_value,
            custom_key_value_fn=custom_key_value_fn,
            name=name,
        )
        self._num_units = num_units
        self._normalize = normalize
        self._name = name

    def _score(self, query: tf.Tensor) -> tf.Tensor:
        return bahdanau_score(
            self._query_layer(query), self._keys, self._num_units, self._normalize, query.dtype
        )


def hardmax(logits: Any, name: str | None = None) -> tf.Tensor:
    """Gives 1 at the largest logit of the last dimension, else 0."""
    with _v1.name_scope(name, "Hardmax", [logits]):
        logits = tf.convert_to_tensor(logits, name="logits")
        depth = shapes.static_or_dynamic_size(logits, -1)
        return tf.one_hot(tf.argmax(logits, -1), depth, dtype=logits.dtype)


def dense(num_units: int, name: str, dtype: Any) -> Any:
    """Makes a layer without a bias, of `tf.layers`."""
    return _v1.layers.Dense(num_units, name=name, use_bias=False, dtype=dtype or tf.float32)


def luong_score(query: tf.Tensor, keys: tf.Tensor, scales: bool) -> tf.Tensor:
    """Scores keys `[batch_size, memory_time, depth]` by a query `[batch_size, depth]`.

    Raises:
      ValueError: the depths aren't the same.
    """
    depth, key_units = query.shape.as_list()[-1], keys.shape.as_list()[-1]
    if depth != key_units:
        raise ValueError(
            "Incompatible or unknown inner dimensions between query and keys.  "
            f"Query ({query}) has units: {depth}.  Keys ({keys}) have units: {key_units}.  "
            f"Perhaps you need to set num_units to the keys' dimension ({key_units})?"
        )
    factor = None
    if scales:
        factor = _v1.get_variable(
            "attention_g", dtype=query.dtype, initializer=_v1.ones_initializer(), shape=()
        )
    score = tf.squeeze(tf.matmul(tf.expand_dims(query, 1), keys, transpose_b=True), [1])
    return score if factor is None else factor * score


def bahdanau_score(
    query: tf.Tensor, keys: tf.Tensor, num_units: int, normalizes: bool, dtype: Any
) -> tf.Tensor:
    """Scores keys `[batch_size, memory_time, num_units]` by a query `[batch_size, num_units]`."""
    direction = _v1.get_variable("attention_v", [num_units], dtype=dtype)
    hidden = keys + tf.expand_dims(query, 1)
    if normalizes:
        length = _v1.get_variable(
            "attention_g",
            dtype=dtype,
            initializer=_v1.constant_initializer(math.sqrt(1.0 / num_units)),
            shape=(),
        )
        offset = _v1.get_variable(
            "attention_b", [num_units], dtype=dtype, initializer=_v1.zeros_initializer()
        )
        direction = length * direction * tf.math.rsqrt(tf.reduce_sum(tf.square(direction)))
        hidden = hidden + offset
    return tf.reduce_sum(direction * tf.tanh(hidden), [2])


def _of_score(probability_fn: Callable | None) -> Callable:
    """Gives the function that ignores previous alignments."""
    probabilities = probability_fn or tf.nn.softmax
    return lambda score, _: probabilities(score)


def _masked_memory(memory: Any, lengths: Any, checks_depth: bool) -> Any:
    """Gives the memory with zeros beyond the lengths."""
    memory = tf.nest.map_structure(lambda m: tf.convert_to_tensor(m, name="memory"), memory)
    for part in tf.nest.flatten(memory) if checks_depth else ():
        if not part.shape[2:].is_fully_defined():
            raise ValueError(
                f"Expected memory {part.name} to have fully defined inner dims, "
                f"but saw shape: {part.shape}"
            )
    if lengths is None:
        return memory
    first = tf.nest.flatten(memory)[0]
    mask = tf.sequence_mask(lengths, maxlen=tf.shape(first)[1], dtype=first.dtype)

    def masked(part: tf.Tensor) -> tf.Tensor:
        ones = tf.ones(tf.rank(part) - 2, tf.int32)
        return part * tf.reshape(mask, tf.concat([tf.shape(mask), ones], 0))

    return tf.nest.map_structure(masked, memory)


def _masked_score(score: tf.Tensor, lengths: Any, mask_value: Any) -> tf.Tensor:
    if lengths is None:
        return score
    message = "All values in memory_sequence_length must be greater than zero."
    with tf.control_dependencies([_v1.assert_positive(lengths, message=message)]):
        mask = tf.sequence_mask(lengths, maxlen=tf.shape(score)[1])
    return _v1.where(mask, score, mask_value * tf.ones_like(score))
