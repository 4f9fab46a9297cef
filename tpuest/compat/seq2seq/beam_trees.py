"""What a beam search leaves, put in order: from each step's choices to whole sequences."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_v1 = tf.compat.v1


def gather_tree(
    step_ids: Any, parent_ids: Any, max_sequence_lengths: Any, end_token: Any, name: Any = None
) -> tf.Tensor:
    """Follows each beam from its last step to the first.

    Args:
      step_ids: int32 `[time, batch_size, beam_width]`, the class that each step chose.
      parent_ids: int32 `[time, batch_size, beam_width]`, the beam it came from.
      max_sequence_lengths: int32 `[batch_size]`; nothing beyond is followed.
      end_token: int32 scalar; fills a beam from its end on.
      name: of the operations.

    Returns:
      int32 `[time, batch_size, beam_width]`, the classes of each whole sequence.
    """
    with _v1.name_scope(name, "GatherTree"):
        step_ids = tf.convert_to_tensor(step_ids, tf.int32)
        parent_ids = tf.convert_to_tensor(parent_ids, tf.int32)
        end_token = tf.convert_to_tensor(end_token, tf.int32)
        followed = _followed(step_ids, parent_ids, max_sequence_lengths, end_token)
        ended = tf.cast(tf.equal(followed, end_token), tf.int32)
        has_ended = tf.cumsum(ended, axis=0, exclusive=True) > 0
        beams = _v1.where(has_ended, tf.fill(tf.shape(followed), end_token), followed)
        beams.set_shape(step_ids.shape)
        return beams


def _followed(step_ids: tf.Tensor, parent_ids: tf.Tensor, lengths: Any, end_token: Any) -> Any:
    """Reads the classes from the last step to the first, `end_token` beyond the lengths."""
    time, batch_size, beam_width = tf.unstack(tf.shape(step_ids))
    lengths = tf.minimum(tf.cast(lengths, tf.int32), time)
    own = tf.tile(tf.range(beam_width)[tf.newaxis], [batch_size, 1])

    def read(beams: Any, step: Any) -> tuple:
        _, beam = beams
        ids, parents, position = step
        is_inside = tf.tile((position < lengths)[:, tf.newaxis], [1, beam_width])
        classes = tf.gather(ids, beam, batch_dims=1)
        before = tf.gather(parents, beam, batch_dims=1)
        return (
            _v1.where(is_inside, classes, tf.fill(tf.shape(classes), end_token)),
            _v1.where(is_inside, before, beam),
        )

    classes, _ = _v1.scan(
        read, (step_ids, parent_ids, tf.range(time)), initializer=(own, own), reverse=True
    )
    return classes


def gather_tree_from_array(t: Any, parent_ids: Any, sequence_length: Any) -> tf.Tensor:
    """Puts what each step of each beam had into the order of whole sequences.

    Args:
      t: `[time, batch_size, beam_width, ...]`, or with batch and beams in one dimension.
      parent_ids: int32 `[time, batch_size, beam_width]`.
      sequence_length: int `[batch_size, beam_width]`.

    Returns:
      Of the shape of `t`.
    """
    time, batch_size, beam_width = tf.unstack(tf.shape(parent_ids))
    own = tf.tile(tf.range(beam_width)[tf.newaxis, tf.newaxis], [time, batch_size, 1])
    longest = tf.cast(tf.reduce_max(sequence_length, axis=1), tf.int32)
    beams = gather_tree(own, parent_ids, longest, beam_width + 1)
    is_inside = tf.transpose(tf.sequence_mask(sequence_length, maxlen=time), [2, 0, 1])
    beams = _v1.where(is_inside, beams, own)
    steps = tf.reshape(t, [time, batch_size, beam_width, -1])
    return tf.reshape(tf.gather(steps, beams, batch_dims=2), tf.shape(t))
