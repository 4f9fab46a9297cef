"""Helpers: what a decoder's cell reads at each step."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest.compat.seq2seq import shapes

_v1 = tf.compat.v1


class Helper(abc.ABC):
    """Chooses the inputs of a `BasicDecoder`.

    finished, inputs = helper.initialize()
    sample_ids = helper.sample(time, outputs, state)
    finished, inputs, state = helper.next_inputs(time, outputs, state, sample_ids)
    """

    @property
    @abc.abstractmethod
    def batch_size(self) -> Any:
        """int32 scalar: the number of sequences."""

    @property
    @abc.abstractmethod
    def sample_ids_shape(self) -> tf.TensorShape:
        """The shape of one sequence's sample."""

    @property
    @abc.abstractmethod
    def sample_ids_dtype(self) -> tf.DType:
        """The dtype of samples."""

    @abc.abstractmethod
    def initialize(self, name: str | None = None) -> tuple:
        """Gives `(finished, first_inputs)`."""

    @abc.abstractmethod
    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """Gives the samples of a step."""

    @abc.abstractmethod
    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple:
        """Gives `(finished, next_inputs, next_state)`."""


class _IdsHelper(Helper):
    """A helper whose samples are class numbers."""

    @property
    def batch_size(self) -> Any:
        return self._batch_size

    @property
    def sample_ids_shape(self) -> tf.TensorShape:
        return tf.TensorShape([])

    @property
    def sample_ids_dtype(self) -> tf.DType:
        return tf.int32


class CustomHelper(Helper):
    """A helper made of functions."""

    def __init__(
        self,
        initialize_fn: Callable,
        sample_fn: Callable,
        next_inputs_fn: Callable,
        sample_ids_shape: Any = None,
        sample_ids_dtype: Any = None,
    ):
        self._initialize_fn = initialize_fn
        self._sample_fn = sample_fn
        self._next_inputs_fn = next_inputs_fn
        self._batch_size = None
        self._sample_ids_shape = tf.TensorShape(sample_ids_shape or [])
        self._sample_ids_dtype = sample_ids_dtype or tf.int32

    @property
    def batch_size(self) -> Any:
        if self._batch_size is None:
            raise ValueError("batch_size accessed before initialize was called")
        return self._batch_size

    @property
    def sample_ids_shape(self) -> tf.TensorShape:
        return self._sample_ids_shape

    @property
    def sample_ids_dtype(self) -> tf.DType:
        return self._sample_ids_dtype

    def initialize(self, name: str | None = None) -> tuple:
        with _v1.name_scope(name, "CustomHelperInitialize"):
            finished, inputs = self._initialize_fn()
            if self._batch_size is None:
                self._batch_size = tf.size(finished)
        return finished, inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        with _v1.name_scope(name, "CustomHelperSample", (time, outputs, state)):
            return self._sample_fn(time=time, outputs=outputs, state=state)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple:
        with _v1.name_scope(name, "CustomHelperNextInputs", (time, outputs, state)):
            return self._next_inputs_fn(
                time=time, outputs=outputs, state=state, sample_ids=sample_ids
            )


class TrainingHelper(_IdsHelper):
    """Reads the true inputs, whatever the cell gave."""

    def __init__(
        self, inputs: Any, sequence_length: Any, time_major: bool = False, name: str | None = None
    ):
        """Makes a helper.

        Args:
          inputs: float `[batch_size, time, depth]`.
          sequence_length: int32 `[batch_size]`.
          time_major: whether inputs are `[time, batch_size, depth]`.
          name: of the operations.

        Raises:
          ValueError: `sequence_length` isn't a vector.
        """
        with _v1.name_scope(name, "TrainingHelper", [inputs, sequence_length]):
            self._inputs = inputs = tf.convert_to_tensor(inputs, name="inputs")
            self._sequence_length = tf.convert_to_tensor(sequence_length, name="sequence_length")
            if self._sequence_length.shape.rank != 1:
                raise ValueError(
                    "Expected sequence_length to be a vector, but received shape: "
                    f"{self._sequence_length.shape}"
                )
            if not time_major:
                inputs = shapes.transpose_batch_time(inputs)
            self._array = in_array(inputs)
            self._zero_inputs = tf.zeros_like(inputs[0, :])
            self._batch_size = tf.size(sequence_length)

    @property
    def inputs(self) -> tf.Tensor:
        return self._inputs

    @property
    def sequence_length(self) -> tf.Tensor:
        return self._sequence_length

    def initialize(self, name: str | None = None) -> tuple:
        with _v1.name_scope(name, "TrainingHelperInitialize"):
            finished = tf.equal(0, self._sequence_length)
            return finished, self._inputs_at(0, finished)

    def sample(self, time: Any, outputs: Any, name: str | None = None, **_: Any) -> tf.Tensor:
        with _v1.name_scope(name, "TrainingHelperSample", [time, outputs]):
            return tf.cast(tf.argmax(outputs, axis=-1), tf.int32)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, name: str | None = None, **_: Any
    ) -> tuple:
        with _v1.name_scope(name, "TrainingHelperNextInputs", [time, outputs, state]):
            finished = time + 1 >= self._sequence_length
            return finished, self._inputs_at(time + 1, finished), state

    def _inputs_at(self, time: Any, finished: tf.Tensor) -> tf.Tensor:
        return _v1.cond(
            tf.reduce_all(finished), lambda: self._zero_inputs, lambda: self._array.read(time)
        )


class GreedyEmbeddingHelper(_IdsHelper):
    """Reads the embedding of the likeliest class."""

    def __init__(self, embedding: Any, start_tokens: Any, end_token: Any):
        """Makes a helper.

        Args:
          embedding: takes class numbers and gives their embeddings; or a table for `tf.nn.embedding_lookup`.
          start_tokens: int32 `[batch_size]`.
          end_token: int32 scalar, the class that ends a sequence.

        Raises:
          ValueError: a rank is wrong.
        """
        self._embedding_fn = embedding_function(embedding)
        self._start_tokens, self._end_token = checked_tokens(start_tokens, end_token)
        self._batch_size = tf.size(start_tokens)
        self._start_inputs = self._embedding_fn(self._start_tokens)

    def initialize(self, name: str | None = None) -> tuple:
        return tf.tile([False], [self._batch_size]), self._start_inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> tf.Tensor:
        return tf.argmax(_single(outputs), axis=-1, output_type=tf.int32)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple:
        finished = tf.equal(sample_ids, self._end_token)
        inputs = _v1.cond(
            tf.reduce_all(finished),
            lambda: self._start_inputs,
            lambda: self._embedding_fn(sample_ids),
        )
        return finished, inputs, state


class SampleEmbeddingHelper(GreedyEmbeddingHelper):
    """Reads the embedding of a class drawn from the cell's logits."""

    def __init__(
        self,
        embedding: Any,
        start_tokens: Any,
        end_token: Any,
        softmax_temperature: Any = None,
        seed: int | None = None,
    ):
        super().__init__(embedding, start_tokens, end_token)
        self._softmax_temperature = softmax_temperature
        self._seed = seed

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> tf.Tensor:
        logits = _single(outputs)
        if self._softmax_temperature is not None:
            logits = logits / self._softmax_temperature
        return drawn_classes(logits, self._seed)


class InferenceHelper(Helper):
    """Reads what a function makes of the cell's output."""

    def __init__(
        self,
        sample_fn: Callable,
        sample_shape: Any,
        sample_dtype: Any,
        start_inputs: Any,
        end_fn: Callable,
        next_inputs_fn: Callable | None = None,
    ):
        self._sample_fn = sample_fn
        self._end_fn = end_fn
        self._sample_shape = tf.TensorShape(sample_shape)
        self._sample_dtype = sample_dtype
        self._next_inputs_fn = next_inputs_fn
        self._start_inputs = tf.convert_to_tensor(start_inputs, name="start_inputs")
        self._batch_size = tf.shape(start_inputs)[0]

    @property
    def batch_size(self) -> Any:
        return self._batch_size

    @property
    def sample_ids_shape(self) -> tf.TensorShape:
        return self._sample_shape

    @property
    def sample_ids_dtype(self) -> tf.DType:
        return self._sample_dtype

    def initialize(self, name: str | None = None) -> tuple:
        return tf.tile([False], [self._batch_size]), self._start_inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        return self._sample_fn(outputs)

    def next_inputs(
        self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None
    ) -> tuple:
        inputs = self._next_inputs_fn(sample_ids) if self._next_inputs_fn else sample_ids
        return self._end_fn(sample_ids), inputs, state


def in_array(inputs: tf.Tensor) -> Any:
    """Puts the steps of `[time, batch_size, ...]` into an array."""
    array = _v1.TensorArray(inputs.dtype, tf.shape(inputs)[0], element_shape=inputs.shape[1:])
    return array.unstack(inputs)


def drawn_classes(logits: tf.Tensor, seed: int | None) -> tf.Tensor:
    """Draws a class for each row of float logits `[batch_size, classes]`: int32 `[batch_size]`."""
    dtype = tf.int64 if logits.dtype.size > 4 else tf.int32
    draws = _v1.multinomial(logits, 1, seed=seed, output_dtype=dtype)
    return tf.cast(tf.reshape(draws, [-1]), tf.int32)


def embedding_function(embedding: Any) -> Callable:
    """Gives what turns class numbers into embeddings."""
    if callable(embedding):
        return embedding
    return lambda ids: _v1.nn.embedding_lookup(embedding, ids)


def checked_tokens(start_tokens: Any, end_token: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the tokens as int32 tensors.

    Raises:
      ValueError: a rank is wrong.
    """
    start_tokens = tf.convert_to_tensor(start_tokens, tf.int32, name="start_tokens")
    end_token = tf.convert_to_tensor(end_token, tf.int32, name="end_token")
    if start_tokens.shape.rank != 1:
        raise ValueError("start_tokens must be a vector")
    if end_token.shape.rank != 0:
        raise ValueError("end_token must be a scalar")
    return start_tokens, end_token


def _single(outputs: Any) -> tf.Tensor:
    if not isinstance(outputs, tf.Tensor):
        raise TypeError(f"Expected outputs to be a single Tensor, got: {type(outputs)}")
    return outputs
