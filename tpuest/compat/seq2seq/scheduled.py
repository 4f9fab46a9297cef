"""Helpers of scheduled sampling: true inputs at times, the model's own at others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest.compat.seq2seq import shapes
from tpuest.compat.seq2seq.helpers import (
    TrainingHelper,
    drawn_classes,
    embedding_function,
    in_array,
)

_v1 = tf.compat.v1


class ScheduledEmbeddingTrainingHelper(TrainingHelper):
    """Reads the embedding of a class drawn from the logits, with a given probability."""

    def __init__(
        self,
        inputs: Any,
        sequence_length: Any,
        embedding: Any,
        sampling_probability: Any,
        time_major: bool = False,
        seed: int | None = None,
        scheduling_seed: int | None = None,
        name: str | None = None,
    ):
        """Makes a helper; `sampling_probability` is a float scalar or `[batch_size]`.

        Raises:
          ValueError: `sampling_probability` has another rank.
        """
        self._embedding_fn = embedding_function(embedding)
        self._sampling_probability = _probability(sampling_probability)
        self._seed = seed
        self._scheduling_seed = scheduling_seed
        super().__init__(inputs, sequence_length, time_major, name)

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> tf.Tensor:
        """Gives a class for each sequence, -1 where the true input is read."""
        with _v1.name_scope(name, "ScheduledEmbeddingTrainingHelperSample"):
            is_sampled = _draws(self._sampling_probability, self.batch_size, self._scheduling_seed)
            classes = drawn_classes(outputs, self._seed)
            return _v1.where(is_sampled, classes, tf.fill([self.batch_size], -1))

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple:
        with _v1.name_scope(name, "ScheduledEmbeddingTrainingHelperNextInputs"):
            finished, inputs, state = super().next_inputs(time, outputs, state)

            def mixed() -> tf.Tensor:
                is_sampled = sample_ids > -1
                own = self._embedding_fn(tf.boolean_mask(sample_ids, is_sampled))
                return _merged(is_sampled, own, inputs)

            inputs = _v1.cond(tf.reduce_all(finished), lambda: inputs, mixed)
            return finished, inputs, state


class ScheduledOutputTrainingHelper(TrainingHelper):
    """Reads the cell's own output, with a given probability."""

    def __init__(
        self,
        inputs: Any,
        sequence_length: Any,
        sampling_probability: Any,
        time_major: bool = False,
        seed: int | None = None,
        next_inputs_fn: Callable | None = None,
        auxiliary_inputs: Any = None,
        name: str | None = None,
    ):
        """Makes a helper; `sampling_probability` is a float scalar or `[batch_size]`.

        Raises:
          ValueError: `sampling_probability` has another rank.
        """
        self._sampling_probability = _probability(sampling_probability)
        self._auxiliary_array = None
        if auxiliary_inputs is not None:
            auxiliary = tf.convert_to_tensor(auxiliary_inputs, name="auxiliary_inputs")
            inputs = tf.concat([inputs, auxiliary], -1)
            auxiliary = auxiliary if time_major else shapes.transpose_batch_time(auxiliary)
            self._auxiliary_array = in_array(auxiliary)
        self._seed = seed
        self._next_inputs_fn = next_inputs_fn
        super().__init__(inputs, sequence_length, time_major, name)

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> tf.Tensor:
        """Gives 1 for each sequence whose own output is read, else 0."""
        with _v1.name_scope(name, "ScheduledOutputTrainingHelperSample"):
            draws = _draws(self._sampling_probability, self.batch_size, self._seed)
            return tf.cast(draws, tf.int32)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple:
        with _v1.name_scope(name, "ScheduledOutputTrainingHelperNextInputs"):
            finished, inputs, state = super().next_inputs(time, outputs, state)
            is_sampled = tf.cast(sample_ids, tf.bool)
            is_plain = tf.logical_or(
                tf.reduce_all(finished), tf.logical_not(tf.reduce_any(is_sampled))
            )
            inputs = _v1.cond(
                is_plain, lambda: inputs, lambda: self._mixed(time, outputs, is_sampled, inputs)
            )
            return finished, inputs, state

    def _mixed(self, time: Any, outputs: Any, is_sampled: Any, inputs: Any) -> tf.Tensor:
        auxiliary = self._auxiliary_array and self._auxiliary_array.read(time + 1)
        if self._next_inputs_fn is None:
            own = outputs if auxiliary is None else tf.concat([outputs, auxiliary], -1)
            return _v1.where(is_sampled, own, inputs)
        own = self._next_inputs_fn(tf.boolean_mask(outputs, is_sampled))
        if auxiliary is not None:
            own = tf.concat([own, tf.boolean_mask(auxiliary, is_sampled)], -1)
        return _merged(is_sampled, own, inputs)


def _probability(value: Any) -> tf.Tensor:
    probability = tf.convert_to_tensor(value, name="sampling_probability")
    if probability.shape.rank not in (0, 1):
        raise ValueError(
            "sampling_probability must be either a scalar or a vector. "
            f"saw shape: {probability.shape}"
        )
    return probability


def _draws(probability: tf.Tensor, batch_size: Any, seed: int | None) -> tf.Tensor:
    """Draws a bool for each sequence: `[batch_size]`."""
    uniform = _v1.random_uniform([batch_size], seed=seed, dtype=probability.dtype)
    return tf.less(uniform, probability)


def _merged(is_own: tf.Tensor, own: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """Puts rows into those of `others`: `own` has as many rows as `is_own` is true."""
    return tf.tensor_scatter_nd_update(others, tf.where(is_own), own)
