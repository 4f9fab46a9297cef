"""Shapes and states of cells: what attention and decoders share."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_v1 = tf.compat.v1


def static_or_dynamic_size(tensor: tf.Tensor, axis: int) -> int | tf.Tensor:
    """Gives a dimension as a number where it is known, else as a scalar tensor."""
    return tf.compat.dimension_value(tensor.shape[axis]) or tf.shape(tensor)[axis]


def zero_state(sizes: Any, batch_size: Any, dtype: Any) -> Any:
    """Gives zeros `[batch_size, ...]` for every size of a structure: an integer, a tensor or a shape."""

    def zeros(size: Any) -> tf.Tensor:
        inner = [size] if isinstance(size, (int, tf.Tensor)) else tf.TensorShape(size).as_list()
        made = tf.zeros(tf.stack([batch_size, *inner]), dtype)
        known = [tf.get_static_value(n) if isinstance(n, tf.Tensor) else n for n in inner]
        made.set_shape([tf.get_static_value(tf.convert_to_tensor(batch_size)), *known])
        return made

    return tf.nest.map_structure(zeros, sizes)


def transpose_batch_time(tensor: tf.Tensor) -> tf.Tensor:
    """Exchanges the first two dimensions, which are the batch and the time; leaves vectors alone."""
    rank = tensor.shape.rank
    if rank is not None and rank < 2:
        return tensor
    rest = tf.range(2, tf.rank(tensor)) if rank is None else list(range(2, rank))
    order = tf.concat([[1, 0], rest], 0) if rank is None else [1, 0, *rest]
    swapped = tf.transpose(tensor, order)
    if rank is not None:
        sizes = tensor.shape.as_list()
        swapped.set_shape([sizes[1], sizes[0], *sizes[2:]])
    return swapped


def check_cell(name: str, cell: Any) -> None:
    """Checks that something can stand for a recurrent cell.

    Raises:
      TypeError: an attribute of cells is missing.
    """
    conditions = {
        "'output_size' property is missing": hasattr(cell, "output_size"),
        "'state_size' property is missing": hasattr(cell, "state_size"),
        "either 'zero_state' or 'get_initial_state' method is required": (
            hasattr(cell, "zero_state") or hasattr(cell, "get_initial_state")
        ),
        "is not callable": callable(cell),
    }
    errors = [error for error, holds in conditions.items() if not holds]
    if errors:
        raise TypeError(f"The argument {name!r} ({cell}) is not an RNNCell: {', '.join(errors)}.")


def is_layer(value: Any) -> bool:
    """Says whether a value is a layer, of `tf.layers` or of Keras."""
    return callable(value) and hasattr(value, "compute_output_shape")


def output_size_after(layer: Any, size: Any) -> Any:
    """Gives the size of a cell's output after a layer; `layer` may be `None`."""
    if layer is None:
        return size
    shapes = tf.nest.map_structure(lambda s: tf.TensorShape([None]).concatenate(s), size)
    return tf.nest.map_structure(
        lambda shape: tf.TensorShape(shape)[1:], layer.compute_output_shape(shapes)
    )
