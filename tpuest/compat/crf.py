"""`tf.contrib.crf`: linear-chain conditional random fields, for tagging sequences.

Takes and gives what TensorFlow 1.15's functions do. In all of them `inputs` are float
`[batch_size, time, tags]`, `sequence_lengths` int `[batch_size]` and `transition_params` float `[tags, tags]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

_v1 = tf.compat.v1


def crf_log_likelihood(
    inputs: Any, tag_indices: Any, sequence_lengths: Any, transition_params: Any = None
) -> tuple[tf.Tensor, Any]:
    """Gives how likely tags are: float `[batch_size]`, and the transitions, a variable by default."""
    if transition_params is None:
        tags = tf.TensorShape(inputs.shape).as_list()[2]
        transition_params = _v1.get_variable("transitions", [tags, tags])
    score = crf_sequence_score(inputs, tag_indices, sequence_lengths, transition_params)
    return score - crf_log_norm(inputs, sequence_lengths, transition_params), transition_params


def crf_sequence_score(
    inputs: Any, tag_indices: Any, sequence_lengths: Any, transition_params: Any
) -> tf.Tensor:
    """Gives the score of tags, int `[batch_size, time]`: float `[batch_size]`."""
    unary = crf_unary_score(tag_indices, sequence_lengths, inputs)
    return unary + crf_binary_score(tag_indices, sequence_lengths, transition_params)


def crf_unary_score(tag_indices: Any, sequence_lengths: Any, inputs: Any) -> tf.Tensor:
    """Gives the sum of the tags' inputs: float `[batch_size]`."""
    inputs = tf.convert_to_tensor(inputs)
    chosen = tf.gather(inputs, tf.cast(tag_indices, tf.int32), batch_dims=2)
    return tf.reduce_sum(chosen * _mask(sequence_lengths, tf.shape(inputs)[1], inputs.dtype), 1)


def crf_binary_score(tag_indices: Any, sequence_lengths: Any, transition_params: Any) -> tf.Tensor:
    """Gives the sum of the transitions from tag to tag: float `[batch_size]`."""
    tags = tf.cast(tag_indices, tf.int32)
    transitions = tf.convert_to_tensor(transition_params)
    steps = tf.gather_nd(transitions, tf.stack([tags[:, :-1], tags[:, 1:]], -1))
    mask = _mask(sequence_lengths, tf.shape(tags)[1], transitions.dtype)
    return tf.reduce_sum(steps * mask[:, 1:], 1)


def crf_multitag_sequence_score(
    inputs: Any, tag_bitmap: Any, sequence_lengths: Any, transition_params: Any
) -> tf.Tensor:
    """Gives the score of all sequences that a bitmap allows, bool `[batch_size, time, tags]`."""
    inputs = tf.convert_to_tensor(inputs)
    impossible = tf.fill(tf.shape(inputs), tf.constant(-np.inf, inputs.dtype))
    allowed = tf.where(tf.cast(tag_bitmap, tf.bool), inputs, impossible)
    return crf_log_norm(allowed, sequence_lengths, transition_params)


def crf_log_norm(inputs: Any, sequence_lengths: Any, transition_params: Any) -> tf.Tensor:
    """Gives the logarithm of the sum over all tag sequences: float `[batch_size]`, 0 of empty ones."""
    inputs = tf.convert_to_tensor(inputs)
    transitions = tf.expand_dims(tf.convert_to_tensor(transition_params), 0)

    def forward(alphas: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        return step + tf.reduce_logsumexp(alphas[:, :, tf.newaxis] + transitions, [1])

    alphas = _last(inputs, sequence_lengths, forward)
    norm = tf.reduce_logsumexp(alphas, [1])
    return tf.where(tf.convert_to_tensor(sequence_lengths) <= 0, tf.zeros_like(norm), norm)


def crf_decode(
    potentials: Any, transition_params: Any, sequence_length: Any
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the best tags, int32 `[batch_size, time]`, 0 beyond the lengths, and their score."""
    potentials = tf.convert_to_tensor(potentials)
    transitions = tf.expand_dims(tf.convert_to_tensor(transition_params), 0)
    lengths = tf.maximum(tf.cast(sequence_length, tf.int32), 1)
    size, time, tags = tf.unstack(tf.shape(potentials))
    own = tf.tile(tf.range(tags)[tf.newaxis], [size, 1])

    def forward(before: Any, step: Any) -> tuple:
        scores, _ = before
        inputs, position = step
        reached = scores[:, :, tf.newaxis] + transitions
        goes_on = (position < lengths)[:, tf.newaxis]
        best = tf.reduce_max(reached, 1) + inputs
        came_from = tf.argmax(reached, 1, output_type=tf.int32)
        return tf.where(goes_on, best, scores), tf.where(goes_on, came_from, own)

    steps = (tf.transpose(potentials[:, 1:], [1, 0, 2]), tf.range(1, time))
    scores, came_from = _scanned(forward, steps, (potentials[:, 0], own))
    last = tf.argmax(scores[-1], 1, output_type=tf.int32)

    def backward(tag: tf.Tensor, parents: tf.Tensor) -> tf.Tensor:
        return tf.gather(parents, tag, batch_dims=1)

    # The first entry is where the scan began: nothing came from there.
    before = _v1.scan(backward, came_from, initializer=last, reverse=True)[1:]
    found = tf.transpose(tf.concat([before, last[tf.newaxis]], 0))
    found *= tf.sequence_mask(lengths, maxlen=time, dtype=tf.int32)
    found.set_shape(potentials.shape[:2])
    return found, tf.reduce_max(scores[-1], 1)


def viterbi_decode(score: Any, transition_params: Any) -> tuple[list[int], float]:
    """Gives the best tags of one sequence, with NumPy: score is float `[time, tags]`."""
    best, came_from = np.asarray(score)[0], []
    for step in np.asarray(score)[1:]:
        reached = best[:, np.newaxis] + transition_params
        came_from.append(np.argmax(reached, 0))
        best = step + np.max(reached, 0)
    tags = [int(np.argmax(best))]
    for parents in reversed(came_from):
        tags.append(int(parents[tags[-1]]))
    return tags[::-1], np.max(best)


def _mask(lengths: Any, time: Any, dtype: Any) -> tf.Tensor:
    return tf.sequence_mask(lengths, maxlen=time, dtype=dtype)


def _last(inputs: tf.Tensor, lengths: Any, forward: Any) -> tf.Tensor:
    """Folds steps over time, from the first one's inputs; stops each sequence at its length."""
    lengths = tf.cast(lengths, tf.int32)

    def step(before: tf.Tensor, given: Any) -> tf.Tensor:
        values, position = given
        return tf.where((position < lengths)[:, tf.newaxis], forward(before, values), before)

    steps = (tf.transpose(inputs[:, 1:], [1, 0, 2]), tf.range(1, tf.shape(inputs)[1]))
    return _scanned(step, steps, inputs[:, 0])[-1]


def _scanned(step: Any, steps: Any, first: Any) -> Any:
    """Gives all states, the first included, so that there is one where there are no steps."""
    states = _v1.scan(step, steps, initializer=first)
    return tf.nest.map_structure(
        lambda start, rest: tf.concat([start[tf.newaxis], rest], 0), first, states
    )
