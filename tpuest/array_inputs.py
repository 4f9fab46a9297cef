"""`input_fn`s of arrays in memory: `numpy_input_fn` and `pandas_input_fn`.

Takes numpy arrays or pandas frames; gives a function that returns tensors of one batch after the other. The rows of a
batch are taken from the arrays when the batch is due: the graph holds no data.

    rows     = 0, 1, 2, ... repeated, shuffled, batched
    features = {name: array[rows]}
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest.pipeline import DATASET

_TARGET = "__target_key__"
_BATCHES_AHEAD = 2


def numpy_input_fn(
    x: np.ndarray | Mapping[str, np.ndarray],
    y: np.ndarray | Mapping[str, np.ndarray] | None = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int = 1000,
    num_threads: int = 1,
) -> Callable:
    """Makes an `input_fn` of numpy arrays.

    Args:
      x: features: an array `[num_examples, ...]`, or a dict of them.
      y: labels, in the same form; `None` for features only.
      batch_size: examples in a batch; the last batch may be smaller, if there is one.
      num_epochs: how often to go through the data; `None` never ends.
      shuffle: whether examples come in random order; must be given.
      queue_capacity: how many examples the random order is drawn from.
      num_threads: how many readers of the data there are; each goes through it `num_epochs` times.

    Returns:
      A function that gives features, or `(features, labels)`, as tensors `[batch_size, ...]`.

    Raises:
      ValueError: `shuffle` isn't given. From the function: lengths differ, `x` or `y` is empty, or a name is in both.
      TypeError: from the function: `x` is neither an array nor a dict.
    """
    _check_shuffle(shuffle)

    def make_dataset() -> tf.data.Dataset:
        features = _named_arrays(x)
        labels = _named_labels(y, features)
        _check_lengths(features, labels)

        def in_form(batch):
            tensors = iter(batch)
            taken = _in_form_of(x, features, tensors)
            return taken if y is None else (taken, _in_form_of(y, labels, tensors))

        order = _Order(batch_size, num_epochs, shuffle, queue_capacity, num_threads)
        return order.take([*features.values(), *labels.values()], in_form)

    return _as_input_fn(make_dataset)


def pandas_input_fn(
    x: Any,
    y: Any = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int | None = 1000,
    num_threads: int = 1,
    target_column: str = "target",
) -> Callable:
    """Makes an `input_fn` of a pandas `DataFrame`.

    Args:
      x: a `DataFrame` of features.
      y: a `Series` or `DataFrame` of labels with the index of `x`; `None` for features only.
      batch_size: see `numpy_input_fn`.
      num_epochs: see there.
      shuffle: see there.
      queue_capacity: see there; `None` is four times the data.
      num_threads: see there.
      target_column: a name for a `Series` of labels, which no feature may have.

    Returns:
      A function that gives a dict of features, or it and labels, as tensors `[batch_size]`.

    Raises:
      ValueError: `shuffle` isn't given, the indexes differ, or a column is named `target_column`.
      TypeError: `target_column` is no string.
    """
    _check_shuffle(shuffle)
    if not isinstance(target_column, str):
        raise TypeError("target_column must be a string type")
    if y is not None:
        _check_labels(x, y, target_column)
    features = _columns(x)
    # A Series has one dimension.
    has_columns = y is not None and y.ndim > 1
    labels = {} if y is None else _columns(y) if has_columns else {target_column: _array(y)}
    capacity = 4 * len(x) if queue_capacity is None else queue_capacity

    def in_form(batch):
        tensors = iter(batch)
        taken = dict(zip(features, tensors))
        if y is None:
            return taken
        targets = dict(zip(labels, tensors))
        return taken, targets if has_columns else targets[target_column]

    def make_dataset() -> tf.data.Dataset:
        order = _Order(batch_size, num_epochs, shuffle, capacity, num_threads)
        return order.take([*features.values(), *labels.values()], in_form)

    return _as_input_fn(make_dataset)


def _as_input_fn(make_dataset: Callable) -> Callable:
    """Gives an `input_fn` that returns tensors, as programs expect, and knows its dataset, which an estimator prefers."""

    def input_fn() -> Any:
        return _from_queue(tf.compat.v1.data.make_one_shot_iterator(make_dataset()).get_next())

    setattr(input_fn, DATASET, make_dataset)
    return input_fn


def _from_queue(batch: Any) -> Any:
    """Has a queue runner prepare batches ahead, as the original did and its callers start.

    Args:
      batch: nested tensors, read anew at each step.

    Returns:
      The same from the queue; reading ends as `batch` does, with an `OutOfRangeError`.
    """
    tensors = tf.nest.flatten(batch)
    queue = tf.queue.FIFOQueue(_BATCHES_AHEAD, [tensor.dtype for tensor in tensors])
    # A session that closes cancels the read that waits.
    ends = (tf.errors.OutOfRangeError, tf.errors.CancelledError)
    runner = tf.compat.v1.train.QueueRunner(
        queue, [queue.enqueue(tensors)], queue_closed_exception_types=ends
    )
    tf.compat.v1.train.add_queue_runner(runner)
    taken = queue.dequeue()
    taken = taken if isinstance(taken, list) else [taken]
    for tensor, source in zip(taken, tensors):
        tensor.set_shape(source.shape)
    return tf.nest.pack_sequence_as(batch, taken)


class _Order:
    """In which order, how often and in which batches the rows of arrays come."""

    def __init__(
        self,
        batch_size: int,
        num_epochs: int | None,
        shuffle: bool,
        capacity: int,
        num_threads: int,
    ):
        self._batch_size = batch_size
        self._num_epochs = num_epochs
        self._shuffle = shuffle
        self._capacity = capacity
        self._num_threads = num_threads

    def take(self, arrays: Sequence[np.ndarray], in_form: Callable) -> tf.data.Dataset:
        """Gives batches of the arrays' rows, `[batch_size, ...]`.

        Without a last epoch every batch is whole, and its size static.

        Args:
          arrays: equally long.
          in_form: makes an element of the list of a batch's tensors.
        """
        dtypes = [tf.as_dtype(array.dtype) for array in arrays]
        size = self._batch_size if self._num_epochs is None else None

        def rows_of_arrays(rows):
            return [_as_type(array[rows], dtype) for array, dtype in zip(arrays, dtypes)]

        def read(rows):
            batch = tf.numpy_function(rows_of_arrays, [rows], dtypes, stateful=False)
            for tensor, array in zip(batch, arrays):
                tensor.set_shape([size, *array.shape[1:]])
            return in_form(batch)

        return self._rows(len(arrays[0])).batch(self._batch_size).map(read)

    def _rows(self, num_examples: int) -> tf.data.Dataset:
        num_epochs = None if self._num_epochs is None else self._num_epochs * self._num_threads
        if not self._shuffle:
            return tf.data.Dataset.range(num_examples).repeat(num_epochs)
        # As in the original: short calls of `train` mustn't all see the same first examples, and epochs overlap.
        start = random.randrange(num_examples)
        rows = tf.data.Dataset.range(start, start + num_examples).repeat(num_epochs)
        return rows.map(lambda row: row % num_examples).shuffle(self._capacity)


def _as_type(array: np.ndarray, dtype: tf.DType) -> np.ndarray:
    """Makes what a session could be fed with what a function must give: bytes of strings."""
    if dtype != tf.string or array.dtype.kind == "S":
        return array
    return np.array([tf.compat.as_bytes(item) for item in array.flat], object).reshape(array.shape)


def _check_shuffle(shuffle: Any) -> None:
    if not isinstance(shuffle, bool):
        raise ValueError(
            "shuffle must be provided and explicitly set as boolean (it is recommended to set it as True for "
            f"training); got {shuffle}"
        )


def _in_form_of(given: Any, named: dict[str, np.ndarray], batch: Iterator[tf.Tensor]) -> Any:
    """Gives the batch's next tensors as the user gave the arrays: a dict, or the one."""
    tensors = dict(zip(named, batch))
    return tensors if isinstance(given, dict) else next(iter(tensors.values()))


def _columns(frame: Any) -> dict[str, np.ndarray]:
    return {name: _array(frame[name]) for name in frame.columns}


def _array(series: Any) -> np.ndarray:
    return series.to_numpy(copy=True)


def _named_arrays(x: Any) -> dict[str, np.ndarray]:
    if isinstance(x, dict):
        if not x:
            raise ValueError("x cannot be an empty dict")
        return dict(sorted(x.items()))
    if isinstance(x, np.ndarray):
        if x.size == 0:
            raise ValueError("x cannot be an empty array")
        return {"__direct_np_input__": x}
    raise TypeError(f"x must be a dict or array; got {type(x).__name__}")


def _named_labels(y: Any, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if y is None:
        return {}
    if not isinstance(y, dict):
        key = _TARGET
        while key in features:
            key += "_n"
        return {key: y}
    if not y:
        raise ValueError("y cannot be empty dict, use None instead.")
    duplicates = features.keys() & y.keys()
    if duplicates:
        raise ValueError(
            f"{len(duplicates)} duplicate keys are found in both x and y: {duplicates}"
        )
    return dict(sorted(y.items()))


def _check_lengths(features: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> None:
    if len({len(array) for array in (*features.values(), *labels.values())}) == 1:
        return
    shapes = [{name: array.shape for name, array in part.items()} for part in (features, labels)]
    raise ValueError(
        "Length of tensors in x and y is mismatched. All elements in x and y must have the same length.\n"
        f"Shapes in x: {shapes[0]}\nShapes in y: {shapes[1]}\n"
    )


def _check_labels(x: Any, y: Any, target_column: str) -> None:
    if target_column in x:
        raise ValueError(
            f"Cannot use name {target_column} for target column: DataFrame already has a column with that name: "
            f"{x.columns}"
        )
    if not np.array_equal(x.index, y.index):
        raise ValueError(
            f"Index for x and y are mismatched.\nIndex for x: {x.index}\nIndex for y: {y.index}\n"
        )
