"""The parts of `tf.contrib.data` that `tf.data` has as methods or not at all.

Each function gives a transformation for `dataset.apply`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_experimental = tf.compat.v1.data.experimental


def batch_and_drop_remainder(batch_size: Any) -> Callable:
    """Batches without a last smaller batch."""
    return lambda dataset: dataset.batch(batch_size, drop_remainder=True)


def padded_batch_and_drop_remainder(
    batch_size: Any, padded_shapes: Any, padding_values: Any = None
) -> Callable:
    """Batches with padding, without a last smaller batch."""
    return lambda dataset: dataset.padded_batch(
        batch_size, padded_shapes, padding_values, drop_remainder=True
    )


def dense_to_sparse_batch(batch_size: Any, row_shape: Any) -> Callable:
    """Batches dense tensors into a sparse one."""
    return _experimental.dense_to_sparse_batch(batch_size, row_shape)


def sliding_window_batch(
    window_size: int,
    stride: int | None = None,
    window_shift: int | None = None,
    window_stride: int = 1,
) -> Callable:
    """Batches windows of `window_size` elements, one every `window_shift`."""
    shift = window_shift or stride or 1

    def transform(dataset: Any) -> Any:
        windows = dataset.window(window_size, shift, window_stride, drop_remainder=True)

        def batch(*parts: Any) -> Any:
            batches = [part.batch(window_size) for part in parts]
            return batches[0] if len(batches) == 1 else tf.data.Dataset.zip(tuple(batches))

        return windows.flat_map(batch)

    return transform


def sloppy_interleave(map_func: Callable, cycle_length: Any, block_length: Any = 1) -> Callable:
    """Interleaves datasets in whatever order they come."""
    return _experimental.parallel_interleave(map_func, cycle_length, block_length, sloppy=True)


def assert_element_shape(expected_shapes: Any) -> Callable:
    """Gives elements the shapes that they must have."""

    def transform(dataset: Any) -> Any:
        def check(*elements: Any) -> Any:
            element = elements[0] if len(elements) == 1 else elements
            return tf.nest.map_structure(tf.ensure_shape, element, expected_shapes)

        return dataset.map(check)

    return transform


def reduce_dataset(dataset: Any, reducer: Any) -> Any:
    """Reduces a dataset by a `Reducer`."""
    return reducer.finalize_func(
        dataset.reduce(reducer.init_func(tf.constant(0)), reducer.reduce_func)
    )


def get_next_as_optional(iterator: Any) -> Any:
    """Gives an iterator's next element, or none."""
    return iterator.get_next_as_optional()


def read_batch_features(
    file_pattern: Any,
    batch_size: int,
    features: dict,
    reader: Any = tf.compat.v1.data.TFRecordDataset,
    reader_args: Any = None,
    randomize_input: bool = True,
    num_epochs: int | None = None,
    capacity: int = 10000,
) -> Any:
    """Gives the next parsed batch of files of Examples."""
    dataset = _experimental.make_batched_features_dataset(
        file_pattern,
        batch_size,
        features,
        reader=reader,
        reader_args=reader_args,
        shuffle=randomize_input,
        num_epochs=num_epochs,
        shuffle_buffer_size=capacity,
    )
    return tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()


class CheckpointInputPipelineHook(tf.compat.v1.train.SessionRunHook):
    """Would save the position of the input; a resumed training starts with fresh input."""

    def __init__(self, estimator: Any, external_state_policy: Any = None):
        self._estimator = estimator
