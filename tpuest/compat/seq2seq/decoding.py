"""The loop that decodes: one step of a `Decoder` after another until all sequences are finished."""

from __future__ import annotations

import abc
from typing import Any

import tensorflow as tf

from tpuest.compat.seq2seq import shapes

_v1 = tf.compat.v1


class Decoder(abc.ABC):
    """What `dynamic_decode` runs: says what comes out, and makes a step.

    finished, inputs, state = decoder.initialize()
    outputs, state, inputs, finished = decoder.step(time, inputs, state)    until all is finished
    outputs, state = decoder.finalize(outputs, state, lengths)              may be left out
    """

    @property
    def batch_size(self) -> Any:
        """int32 scalar: the number of sequences."""
        raise NotImplementedError

    @property
    def output_size(self) -> Any:
        """The size of a step's outputs, without the batch: a structure of integers and shapes."""
        raise NotImplementedError

    @property
    def output_dtype(self) -> Any:
        """The dtypes of a step's outputs, in the same structure."""
        raise NotImplementedError

    @abc.abstractmethod
    def initialize(self, name: str | None = None) -> tuple:
        """Gives `(finished, first_inputs, initial_state)`; `finished` is bool `[batch_size]`."""
        raise NotImplementedError

    @abc.abstractmethod
    def step(self, time: tf.Tensor, inputs: Any, state: Any, name: str | None = None) -> tuple:
        """Gives `(outputs, next_state, next_inputs, finished)` of the step at `time`, an int32 scalar."""
        raise NotImplementedError

    def finalize(self, outputs: Any, final_state: Any, sequence_lengths: tf.Tensor) -> tuple:
        """Gives the whole's `(outputs, state)`; outputs are `[time, batch_size, ...]`."""
        raise NotImplementedError

    @property
    def tracks_own_finished(self) -> bool:
        """Whether `step` says of every sequence whether it is finished, those included that were."""
        return False


def dynamic_decode(
    decoder: Decoder,
    output_time_major: bool = False,
    impute_finished: bool = False,
    maximum_iterations: Any = None,
    parallel_iterations: int = 32,
    swap_memory: bool = False,
    scope: Any = None,
) -> tuple:
    """Decodes until every sequence is finished.

    Args:
      decoder: makes the steps.
      output_time_major: whether outputs are `[time, batch_size, ...]` rather than `[batch_size, time, ...]`.
      impute_finished: whether a finished sequence keeps its state and gives zeros.
      maximum_iterations: most steps, int32 scalar; no limit by default.
      parallel_iterations: of the loop.
      swap_memory: of the loop.
      scope: variable scope of the loop, "decoder" by default.

    Returns:
      `(outputs, final_state, lengths)`; `lengths` is int32 `[batch_size]`.

    Raises:
      TypeError: `decoder` isn't a `Decoder`.
      ValueError: `maximum_iterations` isn't a scalar.
    """
    if not isinstance(decoder, Decoder):
        raise TypeError(f"Expected decoder to be type Decoder, but saw: {type(decoder)}")
    with _v1.variable_scope(scope, "decoder"):
        limit = _limit(maximum_iterations)
        finished, inputs, state = decoder.initialize()
        if limit is not None:
            finished = tf.logical_or(finished, limit <= 0)
        lengths = tf.zeros_like(finished, dtype=tf.int32)
        loop = _Loop(decoder, impute_finished)
        _, arrays, final_state, _, _, lengths = _v1.while_loop(
            lambda time, arrays, state, inputs, finished, lengths: tf.logical_not(
                tf.reduce_all(finished)
            ),
            loop.step,
            loop_vars=(tf.constant(0), loop.arrays(), state, inputs, finished, lengths),
            parallel_iterations=parallel_iterations,
            maximum_iterations=limit,
            swap_memory=swap_memory,
        )
        outputs = tf.nest.map_structure(lambda array: array.stack(), arrays)
        try:
            outputs, final_state = decoder.finalize(outputs, final_state, lengths)
        except NotImplementedError:
            pass
        if not output_time_major:
            outputs = tf.nest.map_structure(shapes.transpose_batch_time, outputs)
    return outputs, final_state, lengths


def _limit(maximum_iterations: Any) -> tf.Tensor | None:
    if maximum_iterations is None:
        return None
    limit = tf.convert_to_tensor(maximum_iterations, tf.int32, name="maximum_iterations")
    if limit.shape.rank != 0:
        raise ValueError("maximum_iterations must be a scalar")
    return limit


class _Loop:
    """The body of the loop."""

    def __init__(self, decoder: Decoder, imputes: bool):
        self._decoder = decoder
        self._imputes = imputes

    def arrays(self) -> Any:
        """Makes the arrays that gather outputs, one for each."""
        batch_size = tf.get_static_value(tf.convert_to_tensor(self._decoder.batch_size))

        def array(size: Any, dtype: Any) -> Any:
            shape = None
            if isinstance(size, tf.TensorShape) and size.rank != 0:
                shape = tf.TensorShape([batch_size]).concatenate(size)
            return _v1.TensorArray(dtype, size=0, dynamic_size=True, element_shape=shape)

        return tf.nest.map_structure(array, self._decoder.output_size, self._decoder.output_dtype)

    def step(
        self, time: tf.Tensor, arrays: Any, state: Any, inputs: Any, finished: Any, lengths: Any
    ) -> tuple:
        outputs, next_state, next_inputs, ends = self._decoder.step(time, inputs, state)
        if not self._decoder.tracks_own_finished:
            ends = tf.logical_or(ends, finished)
        lengths = _v1.where(tf.logical_not(finished), tf.fill(tf.shape(lengths), time + 1), lengths)
        tf.nest.assert_same_structure(state, next_state)
        tf.nest.assert_same_structure(arrays, outputs)
        tf.nest.assert_same_structure(inputs, next_inputs)
        if self._imputes:
            outputs = self._zeros_where(finished, outputs)
            next_state = _kept_where(finished, next_state, state)
        arrays = tf.nest.map_structure(lambda array, out: array.write(time, out), arrays, outputs)
        return time + 1, arrays, next_state, next_inputs, ends, lengths

    def _zeros_where(self, finished: tf.Tensor, outputs: Any) -> Any:
        def zeros(size: Any, dtype: Any, output: tf.Tensor) -> tf.Tensor:
            none = shapes.zero_state(size, self._decoder.batch_size, dtype)
            return _v1.where(finished, none, output)

        decoder = self._decoder
        return tf.nest.map_structure(zeros, decoder.output_size, decoder.output_dtype, outputs)


def _kept_where(finished: tf.Tensor, state: Any, before: Any) -> Any:
    def keep(new: Any, old: Any) -> Any:
        if isinstance(old, _v1.TensorArray):
            return new
        new.set_shape(old.shape)
        return new if new.shape.rank == 0 else _v1.where(finished, old, new)

    return tf.nest.map_structure(keep, state, before)
