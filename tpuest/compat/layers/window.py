"""Arithmetic of windows that slide over axes: sizes, strides, paddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import tensorflow.compat.v1 as tf


def spread(value: int | Iterable[int], rank: int, name: str) -> tuple[int, ...]:
    """Returns a tuple of `rank` ints for an int or a sequence of ints.

    Args:
      value: the argument.
      rank: number of axes.
      name: name of the argument, for the message.

    Raises:
      ValueError: another number of values, or a value that isn't an int.
    """
    if isinstance(value, int):
        return (value,) * rank
    try:
        values = tuple(value)
        integers = [int(each) for each in values]
    except (TypeError, ValueError):
        integers = []
    if len(integers) != rank:
        raise ValueError(
            f"The `{name}` argument must be a tuple of {rank} integers. Received: {value}"
        )
    return values


def check_padding(padding: str | Sequence) -> str | Sequence:
    """Returns 'valid', 'same' or 'causal', or explicit paddings as given."""
    if isinstance(padding, (list, tuple)):
        return padding
    if padding.lower() not in ("valid", "same", "causal"):
        raise ValueError(
            "The `padding` argument must be a list/tuple or one of "
            '"valid", "same" (or "causal", only for `Conv1D`). '
            f"Received: {padding}"
        )
    return padding.lower()


def check_data_format(data_format: str | None) -> str:
    """Returns 'channels_last' (`None` means it too) or 'channels_first'."""
    name = "channels_last" if data_format is None else data_format.lower()
    if name not in ("channels_first", "channels_last"):
        raise ValueError(
            "The `data_format` argument must be one of "
            f'"channels_first", "channels_last". Received: {data_format}'
        )
    return name


def name_data_format(data_format: str, rank: int) -> str:
    """Returns TensorFlow's name, such as 'NHWC', for `rank` spatial axes."""
    spatial = "DHW"[-rank:]
    return f"NC{spatial}" if data_format == "channels_first" else f"N{spatial}C"


def place_between_ones(data_format: str) -> Callable[[Sequence], tuple]:
    """Returns a function from spatial values to one value for each axis."""
    if data_format == "channels_first":
        return lambda values: (1, 1, *values)
    return lambda values: (1, *values, 1)


def list_sizes(tensor: tf.Tensor) -> list:
    """Returns a tensor's sizes: ints, and int32 scalars for those only the run knows."""
    known = tensor.shape.as_list()
    if None not in known:
        return known
    sizes = tf.shape(tensor)
    return [sizes[axis] if size is None else size for axis, size in enumerate(known)]


def put_channels_last(inputs: tf.Tensor) -> tf.Tensor:
    """Transposes [batch, channels, ...] to [batch, ..., channels]."""
    return tf.transpose(inputs, [0, *range(2, inputs.shape.rank), 1])


def put_channels_first(outputs: tf.Tensor) -> tf.Tensor:
    """Transposes [batch, ..., channels] to [batch, channels, ...]."""
    rank = outputs.shape.rank
    return tf.transpose(outputs, [0, rank - 1, *range(1, rank - 1)])


def map_sizes(
    shape: tf.TensorShape,
    data_format: str,
    measures: Sequence[Callable[[int], int]],
    channels: int | None = None,
) -> tf.TensorShape:
    """Returns `shape` with other spatial sizes and, if given, channels.

    Args:
      shape: shape of the inputs, [batch, ..., channels] or channels first.
      data_format: 'channels_last' or 'channels_first'.
      measures: for each spatial axis a callable from size to size.
      channels: number of channels; `None` keeps them.

    Returns:
      A `tf.TensorShape`; sizes that aren't known stay so.
    """
    sizes = tf.TensorShape(shape).as_list()
    first = 2 if data_format == "channels_first" else 1
    for axis, measure in enumerate(measures, first):
        sizes[axis] = None if sizes[axis] is None else measure(sizes[axis])
    if channels is not None:
        sizes[1 if data_format == "channels_first" else -1] = channels
    return tf.TensorShape(sizes)


def measure_output(
    size: int, window_size: int, stride: int, padding: str, dilation: int = 1
) -> int:
    """Returns the number of places a window takes on an axis of `size`."""
    if padding == "valid":
        size -= (window_size - 1) * dilation
    return -(-size // stride)


def measure_transposed(
    size: int | tf.Tensor, window_size: int, stride: int, padding: str
) -> int | tf.Tensor:
    """Returns the size a transposed convolution makes of `size`.

    Args:
      size: int, or an int32 scalar tensor.
      window_size: size of the kernel.
      stride: the step.
      padding: 'valid' or 'same'.

    Returns:
      An int, or an int32 scalar tensor.
    """
    size = size * stride
    return size + max(window_size - stride, 0) if padding == "valid" else size
