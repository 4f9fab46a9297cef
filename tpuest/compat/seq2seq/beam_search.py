"""`BeamSearchDecoder`: keeps the likeliest sequences of each example while decoding."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tpuest.compat.seq2seq import beam_trees, shapes
from tpuest.compat.seq2seq.attention_cell import AttentionWrapperState
from tpuest.compat.seq2seq.decoding import Decoder
from tpuest.compat.seq2seq.helpers import checked_tokens, embedding_function

_v1 = tf.compat.v1


class BeamSearchDecoderState(NamedTuple):
    """The state of a beam search; all but the cell's are `[batch_size, beam_width]`.

    Attributes:
      cell_state: of the cell, `[batch_size, beam_width, ...]`.
      log_probs: float, of each sequence so far.
      finished: bool.
      lengths: int64.
      accumulated_attention_probs: float `[batch_size, beam_width, memory_time]`, or `()`.
    """

    cell_state: Any
    log_probs: Any
    finished: Any
    lengths: Any
    accumulated_attention_probs: Any


class BeamSearchDecoderOutput(NamedTuple):
    """What a step chose, each `[batch_size, beam_width]`: float scores, int32 classes, int32 beams."""

    scores: Any
    predicted_ids: Any
    parent_ids: Any


class FinalBeamSearchDecoderOutput(NamedTuple):
    """What the search found.

    Attributes:
      predicted_ids: int32 `[batch_size, time, beam_width]`, the likeliest sequence first.
      beam_search_decoder_output: a `BeamSearchDecoderOutput` of all steps.
    """

    predicted_ids: Any
    beam_search_decoder_output: Any


def tile_batch(t: Any, multiplier: int, name: str | None = None) -> Any:
    """Repeats each example of a structure's tensors: `[batch_size * multiplier, ...]`.

    Raises:
      ValueError: a tensor's rank isn't known, or it is a scalar.
    """

    def tiled(tensor: Any) -> tf.Tensor:
        tensor = tf.convert_to_tensor(tensor, name="t")
        if not tensor.shape.rank:
            raise ValueError("t must have statically known rank")
        return tf.repeat(tensor, multiplier, axis=0)

    with _v1.name_scope(name, "tile_batch", [*tf.nest.flatten(t), multiplier]):
        return tf.nest.map_structure(tiled, t)


class BeamSearchDecoder(Decoder):
    """Decodes the likeliest sequences, by their logits' sum over a penalty of their length."""

    def __init__(
        self,
        cell: Any,
        embedding: Any,
        start_tokens: Any,
        end_token: Any,
        initial_state: Any,
        beam_width: int,
        output_layer: Any = None,
        length_penalty_weight: float = 0.0,
        coverage_penalty_weight: float = 0.0,
        reorder_tensor_arrays: bool = True,
    ):
        """Makes a decoder.

        Args:
          cell: a recurrent cell.
          embedding: takes class numbers and gives their embeddings; or a table for `tf.nn.embedding_lookup`.
          start_tokens: int32 `[batch_size]`.
          end_token: int32 scalar, the class that ends a sequence.
          initial_state: of the cell, `[batch_size * beam_width, ...]` each: see `tile_batch`.
          beam_width: sequences that are kept of each example.
          output_layer: gives logits of the cell's output.
          length_penalty_weight: exponent of the penalty (Wu et al. 2016), 0 for none.
          coverage_penalty_weight: factor of the penalty of unseen memory, 0 for none.
          reorder_tensor_arrays: whether arrays in the cell's state are put in the order of sequences.

        Raises:
          TypeError: an argument isn't of its kind.
          ValueError: a rank is wrong.
        """
        shapes.check_cell("cell", cell)
        if output_layer is not None and not shapes.is_layer(output_layer):
            raise TypeError(f"output_layer must be a Layer, received: {type(output_layer)}")
        self._cell = cell
        self._output_layer = output_layer
        self._reorder_tensor_arrays = reorder_tensor_arrays
        self._beam_width = beam_width
        self._length_penalty_weight = length_penalty_weight
        self._coverage_penalty_weight = coverage_penalty_weight
        self._embedding_fn = embedding_function(embedding)
        start_tokens, self._end_token = checked_tokens(start_tokens, end_token)
        self._batch_size = shapes.static_or_dynamic_size(start_tokens, 0)
        self._initial_cell_state = tf.nest.map_structure(self._split, initial_state)
        starts = tf.tile(tf.expand_dims(start_tokens, 1), [1, beam_width])
        self._start_inputs = self._embedding_fn(starts)

    @property
    def batch_size(self) -> Any:
        return self._batch_size

    @property
    def tracks_own_finished(self) -> bool:
        """True: beams change places, so only the search knows which are finished."""
        return True

    @property
    def output_size(self) -> BeamSearchDecoderOutput:
        return BeamSearchDecoderOutput(*[tf.TensorShape([self._beam_width])] * 3)

    @property
    def output_dtype(self) -> BeamSearchDecoderOutput:
        return BeamSearchDecoderOutput(self._dtype, tf.int32, tf.int32)

    @property
    def _dtype(self) -> tf.DType:
        return tf.nest.flatten(self._initial_cell_state)[0].dtype

    def initialize(self, name: str | None = None) -> tuple:
        """Starts with one beam: the others are finished and impossible."""
        dtype = self._dtype
        first = functools.partial(
            tf.one_hot, tf.zeros([self._batch_size], tf.int32), depth=self._beam_width
        )
        finished = first(on_value=False, off_value=True, dtype=tf.bool)
        impossible = tf.constant(-np.inf, dtype)
        seen = self._attention(self._initial_cell_state)
        state = BeamSearchDecoderState(
            cell_state=self._initial_cell_state,
            log_probs=first(on_value=tf.zeros([], dtype), off_value=impossible, dtype=dtype),
            finished=finished,
            lengths=tf.zeros([self._batch_size, self._beam_width], tf.int64),
            accumulated_attention_probs=() if seen is None else seen,
        )
        return finished, self._start_inputs, state

    def step(
        self,
        time: tf.Tensor,
        inputs: Any,
        state: BeamSearchDecoderState,
        name: str | None = None,
    ) -> tuple:
        with _v1.name_scope(name, "BeamSearchDecoderStep", (time, inputs, state)):
            inputs = tf.nest.map_structure(self._merge, inputs)
            cell_state = tf.nest.map_structure(self._merge, state.cell_state)
            outputs, cell_state = self._cell(inputs, cell_state)
            logits = tf.nest.map_structure(self._split, outputs)
            cell_state = tf.nest.map_structure(self._split, cell_state)
            if self._output_layer is not None:
                logits = self._output_layer(logits)
            output, state = self._choose(logits, cell_state, state)
            next_inputs = _v1.cond(
                tf.reduce_all(state.finished),
                lambda: self._start_inputs,
                lambda: self._embedding_fn(output.predicted_ids),
            )
        return output, state, next_inputs, state.finished

    def finalize(
        self,
        outputs: BeamSearchDecoderOutput,
        final_state: BeamSearchDecoderState,
        sequence_lengths: Any,
    ) -> tuple:
        longest = tf.cast(tf.reduce_max(final_state.lengths, axis=1), tf.int32)
        sequences = beam_trees.gather_tree(
            outputs.predicted_ids, outputs.parent_ids, longest, self._end_token
        )
        if self._reorder_tensor_arrays:
            cell_state = tf.nest.map_structure(
                lambda part: self._ordered(part, outputs.parent_ids, final_state.lengths),
                final_state.cell_state,
            )
            final_state = final_state._replace(cell_state=cell_state)
        return FinalBeamSearchDecoderOutput(sequences, outputs), final_state

    def _choose(self, logits: tf.Tensor, cell_state: Any, state: BeamSearchDecoderState) -> tuple:
        """Keeps the best continuations of all beams of an example."""
        classes = shapes.static_or_dynamic_size(logits, -1)
        log_probs = self._log_probs(logits, state, classes)
        seen = self._attention(cell_state)
        if seen is not None:
            running = tf.cast(tf.logical_not(state.finished), seen.dtype)
            seen = state.accumulated_attention_probs + seen * running[:, :, tf.newaxis]
        scores = log_probs / self._length_penalty(state, classes, log_probs.dtype)
        if seen is not None:
            scores += self._coverage_penalty(seen, state.finished)
        scores, chosen = tf.math.top_k(
            tf.reshape(scores, [self._batch_size, self._beam_width * classes]), self._beam_width
        )
        parents, predicted = chosen // classes, chosen % classes
        pick = functools.partial(tf.gather, indices=parents, batch_dims=1)
        was_finished = pick(state.finished)
        state = BeamSearchDecoderState(
            cell_state=tf.nest.map_structure(lambda t: self._picked(t, pick), cell_state),
            log_probs=tf.gather(
                tf.reshape(log_probs, [self._batch_size, self._beam_width * classes]),
                chosen,
                batch_dims=1,
            ),
            finished=tf.logical_or(was_finished, tf.equal(predicted, self._end_token)),
            lengths=pick(state.lengths) + tf.cast(tf.logical_not(was_finished), tf.int64),
            accumulated_attention_probs=() if seen is None else pick(seen),
        )
        return BeamSearchDecoderOutput(scores, predicted, parents), state

    def _log_probs(self, logits: tf.Tensor, state: Any, classes: Any) -> tf.Tensor:
        """Gives float `[batch_size, beam_width, classes]`; a finished beam can only end again."""
        step = tf.nn.log_softmax(logits)
        only_end = tf.one_hot(
            self._end_token,
            classes,
            on_value=tf.zeros([], step.dtype),
            off_value=tf.constant(step.dtype.min, step.dtype),
            dtype=step.dtype,
        )
        step = tf.where(state.finished[:, :, tf.newaxis], only_end, step)
        return state.log_probs[:, :, tf.newaxis] + step

    def _length_penalty(self, state: Any, classes: Any, dtype: Any) -> Any:
        weight = self._length_penalty_weight
        if tf.get_static_value(tf.convert_to_tensor(weight)) == 0:
            return tf.ones([], dtype)
        goes_on = tf.one_hot(self._end_token, classes, on_value=0, off_value=1, dtype=tf.int64)
        running = tf.cast(tf.logical_not(state.finished), tf.int64)[:, :, tf.newaxis]
        lengths = state.lengths[:, :, tf.newaxis] + goes_on * running
        return tf.cast(((5.0 + tf.cast(lengths, tf.float32)) ** weight) / (6.0**weight), dtype)

    def _coverage_penalty(self, seen: tf.Tensor, finished: tf.Tensor) -> tf.Tensor:
        seen = tf.where(tf.equal(seen, 0.0), tf.ones_like(seen), seen)
        penalty = tf.reduce_sum(tf.math.log(tf.minimum(seen, 1.0)), 2)
        penalty *= tf.cast(finished, seen.dtype) * self._coverage_penalty_weight
        return penalty[:, :, tf.newaxis]

    def _attention(self, cell_state: Any) -> tf.Tensor | None:
        """Gives the mean alignments of all cells that look at a memory; `None` without the penalty."""
        if self._coverage_penalty_weight == 0.0:
            return None
        if isinstance(cell_state, AttentionWrapperState):
            states = [cell_state]
        else:
            parts = cell_state if isinstance(cell_state, tuple) else ()
            states = [part for part in parts if isinstance(part, AttentionWrapperState)]
        if not states:
            raise ValueError("coverage_penalty_weight must be 0.0 if no cell is attentional.")
        return _mean([_mean(state.alignments) for state in states])

    def _split(self, tensor: Any) -> Any:
        """Gives `[batch_size, beam_width, ...]` of `[batch_size * beam_width, ...]`."""
        if isinstance(tensor, _v1.TensorArray) or _rank(tensor) < 1:
            return tensor
        rest = tf.shape(tensor)[1:]
        split = tf.reshape(tensor, tf.concat([[self._batch_size, self._beam_width], rest], 0))
        split.set_shape(tf.TensorShape([None, self._beam_width]).concatenate(tensor.shape[1:]))
        return split

    def _merge(self, tensor: Any) -> Any:
        """Gives `[batch_size * beam_width, ...]` of `[batch_size, beam_width, ...]`."""
        if isinstance(tensor, _v1.TensorArray) or _rank(tensor) < 2:
            return tensor
        rest = tf.shape(tensor)[2:]
        merged = tf.reshape(tensor, tf.concat([[self._batch_size * self._beam_width], rest], 0))
        merged.set_shape(tf.TensorShape([None]).concatenate(tensor.shape[2:]))
        return merged

    def _picked(self, tensor: Any, pick: Any) -> Any:
        if isinstance(tensor, _v1.TensorArray) or _rank(tensor) < 2:
            return tensor
        return pick(tensor)

    def _ordered(self, part: Any, parents: tf.Tensor, lengths: tf.Tensor) -> Any:
        """Gives an array's elements in the order of sequences; anything else as it is."""
        if not isinstance(part, _v1.TensorArray) or not self._holds_beams(part.element_shape):
            return part
        return beam_trees.gather_tree_from_array(part.stack(), parents, lengths)

    def _holds_beams(self, shape: tf.TensorShape) -> bool:
        """Says whether an array of elements of a shape is put in order, by the original's rule.

        Elements of a known batch must be `[batch_size, beam_width, ...]`; others may have both in one dimension.
        """
        if not shape.rank:
            return False
        sizes, batch_size = shape.as_list(), tf.get_static_value(self._batch_size)
        if batch_size is None or sizes[0] is None:
            return True
        if len(sizes) == 1 or sizes[1] is None:
            return sizes[0] == batch_size * self._beam_width
        return sizes[:2] == [batch_size, self._beam_width]


def _rank(tensor: tf.Tensor) -> int:
    if tensor.shape.rank is None:
        raise ValueError(f"Expected tensor ({tensor}) to have known rank, but ndims == None.")
    return tensor.shape.rank


def _mean(parts: Any) -> tf.Tensor:
    if isinstance(parts, tf.Tensor):
        return parts
    return parts[0] if len(parts) == 1 else tf.reduce_mean(tf.stack(parts, -1), -1)
