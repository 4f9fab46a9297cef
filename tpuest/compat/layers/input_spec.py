"""What a layer expects of its inputs, and the check that they have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf


class InputSpec:
    """Rank, shape and dtype a layer expects of one input; `None` is "anything".

    Args:
      dtype: the dtype, or its name.
      shape: a sequence of sizes; `None` stands for any size.
      ndim: the exact rank.
      max_ndim: the highest rank.
      min_ndim: the lowest rank.
      axes: dict of axis to size.

    Raises:
      TypeError: a key of `axes` isn't an integer.
      ValueError: an axis lies beyond the rank.
    """

    def __init__(
        self,
        dtype: Any = None,
        shape: Sequence[int | None] | None = None,
        ndim: int | None = None,
        max_ndim: int | None = None,
        min_ndim: int | None = None,
        axes: Mapping[int, int | None] | None = None,
    ):
        self.dtype = None if dtype is None else tf.as_dtype(dtype).name
        self.shape = shape
        self.ndim = ndim if shape is None else len(shape)
        self.max_ndim = max_ndim
        self.min_ndim = min_ndim
        try:
            self.axes = {int(axis): size for axis, size in (axes or {}).items()}
        except (TypeError, ValueError):
            raise TypeError(f"The keys in axes must be integers, got {axes}.") from None
        highest_rank = self.ndim or self.max_ndim
        if self.axes and highest_rank and max(self.axes) >= highest_rank:
            raise ValueError(
                f"Axis {max(self.axes)} is greater than the maximum "
                f"allowed value: {highest_rank - 1}"
            )

    def __repr__(self):
        given = {name: value for name, value in vars(self).items() if value}
        return f"InputSpec({', '.join(f'{k}={v}' for k, v in given.items())})"

    def find_fault(self, tensor: tf.Tensor) -> str | None:
        """Says why `tensor` doesn't fit.

        Args:
          tensor: a tensor of any shape and dtype.

        Returns:
          A str such as "expected ndim=4, found ndim=2", or `None` if it fits.
        """
        rank = tensor.shape.rank
        if rank is None:
            if (self.ndim, self.min_ndim, self.max_ndim) == (None, None, None):
                return None
            return "its rank is undefined, but the layer requires a defined rank"
        return (
            self._find_rank_fault(rank)
            or self._find_dtype_fault(tensor.dtype)
            or self._find_size_fault(tensor.shape.as_list())
        )

    def _find_rank_fault(self, rank):
        if self.ndim is not None and rank != self.ndim:
            return f"expected ndim={self.ndim}, found ndim={rank}"
        if self.max_ndim is not None and rank > self.max_ndim:
            return f"expected max_ndim={self.max_ndim}, found ndim={rank}"
        if self.min_ndim is not None and rank < self.min_ndim:
            return f"expected min_ndim={self.min_ndim}, found ndim={rank}"
        return None

    def _find_dtype_fault(self, dtype):
        if self.dtype is not None and dtype != self.dtype:
            return f"expected dtype={self.dtype}, found dtype={dtype.name}"
        return None

    def _find_size_fault(self, sizes):
        for axis, size in self.axes.items():
            if size is not None and sizes[axis] not in (size, None):
                return f"expected axis {axis} of input shape to have value {size}"
        if self.shape is None:
            return None
        for expected, found in zip(self.shape, sizes, strict=False):
            if None not in (expected, found) and expected != found:
                return f"expected shape={self.shape}, found shape={sizes}"
        return None


def check_inputs(specs: Any, inputs: Any, layer_name: str) -> None:
    """Raises unless every input fits its spec.

    Args:
      specs: an `InputSpec`, a structure of them, or `None` for no demands.
      inputs: a tensor or a structure of tensors.
      layer_name: str, for the message.

    Raises:
      ValueError: an input doesn't fit, or their number differs.
    """
    if not specs:
        return
    specs, inputs = tf.nest.flatten(specs), tf.nest.flatten(inputs)
    if len(specs) != len(inputs):
        raise ValueError(
            f"Layer {layer_name} expects {len(specs)} inputs, but it "
            f"received {len(inputs)} input tensors: {inputs}"
        )
    for index, (spec, tensor) in enumerate(zip(specs, inputs, strict=True)):
        fault = spec.find_fault(tensor) if spec is not None else None
        if fault:
            raise ValueError(
                f"Input {index} of layer {layer_name} is incompatible with the "
                f"layer: {fault}. Full shape received: {tensor.shape}"
            )
