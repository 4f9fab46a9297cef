"""Finds the line of `input_fn` that gives a tensor no core can take.

Takes the error of `core_batches` and what `input_fn` gave; gives `Finding`s. Of datasets, the line is that of the
earliest transformation after which the tensor is as it must not be:

    from_tensor_slices(...)           text: absent
    .map(add_text)                    text: string []        <- this one
    .batch(n, drop_remainder=True)    text: string [n]
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest import _tf, check_advice, origins
from tpuest.check_report import Finding, Kind
from tpuest.core_batches import named_tensors
from tpuest.errors import UnfitInputError
from tpuest.origins import Origin
from tpuest.pipeline import features_and_labels


class RecordedInput:
    """An `input_fn` whose answers are kept.

    Attributes:
      results: what the calls gave, in order.
    """

    def __init__(self, input_fn: Callable):
        self._input_fn = input_fn
        self.results: list = []

    @property
    def input_fn(self) -> Callable:
        """To be called in place of the user's, with the same arguments."""

        @functools.wraps(self._input_fn)
        def recorded(**arguments):
            self.results.append(self._input_fn(**arguments))
            return self.results[-1]

        return recorded

    def origin(self) -> Origin | None:
        """Finds where the function is defined."""
        function = inspect.unwrap(self._input_fn)
        while isinstance(function, functools.partial):
            function = inspect.unwrap(function.func)
        function = getattr(function, "__func__", function)
        if not hasattr(function, "__code__"):
            function = type(function).__call__
        code = getattr(function, "__code__", None)
        return code and Origin(code.co_filename, code.co_firstlineno, code.co_name)


def find_unfit(error: UnfitInputError, recorded: RecordedInput, mode: str) -> list[Finding]:
    """Makes a finding of each tensor that the error tells of.

    Args:
      error: raised when the batch was described.
      recorded: the `input_fn` that gave the batch.
      mode: a `ModeKeys`.
    """
    result = recorded.results[0]
    return [
        _finding(one, _origin_in(result, one, mode) or recorded.origin())
        for one in (error, *error.others)
    ]


def _finding(error: UnfitInputError, origin: Origin | None) -> Finding:
    tensor = error.tensor
    is_dense = isinstance(tensor, tf.Tensor)
    is_static = is_dense and tensor.dtype != tf.string
    shape = tensor.shape if is_dense else None
    batch_only = is_static and shape.rank and None not in shape.as_list()[1:]
    if not is_static:
        use = check_advice.ENCODE
    else:
        use = check_advice.STATIC_BATCH if batch_only else check_advice.STATIC_LENGTH
    if is_static and shape.rank == 0:
        use = "Batch the dataset, or repeat the value for each example."
    return Finding(
        kind=Kind.DYNAMIC_SHAPE if is_static else Kind.HOST_ONLY,
        name=error.name,
        op_types=() if is_dense else (type(tensor).__name__,),
        dtype=f"{tensor.dtype.name} {_shape_text(shape)}" if is_dense else "",
        origin=origin,
        use=use,
    )


def _shape_text(shape: tf.TensorShape) -> str:
    if shape.rank is None:
        return "of unknown rank"
    return f"[{', '.join('?' if size is None else str(size) for size in shape.as_list())}]"


def _origin_in(result: Any, error: UnfitInputError, mode: str) -> Origin | None:
    if not isinstance(result, tf.data.Dataset):
        tensors = tf.nest.flatten(error.tensor, expand_composites=True)
        return origins.origin_of(tensors[0].op) if hasattr(tensors[0], "op") else None
    culprit = _earliest(result, error, mode)
    while culprit is not None:
        variant = tf.data.experimental.to_variant(culprit)
        if not hasattr(variant, "numpy"):
            found = origins.origin_of(variant.op)
            if found is not None:
                return found
        (culprit, *_) = _tf.dataset_inputs(culprit) or [None]
    return None


def _earliest(dataset: tf.data.Dataset, error: UnfitInputError, mode: str) -> tf.data.Dataset:
    """Finds the transformation that first gave the tensor the fault it has in the end."""
    while True:
        faulty = [
            parent
            for parent in _tf.dataset_inputs(dataset)
            if _is_unfit(_spec_in(parent, error, mode))
        ]
        if not faulty:
            return dataset
        dataset = faulty[0]


def _spec_in(dataset: tf.data.Dataset, error: UnfitInputError, mode: str) -> Any:
    """Gives the tensor's spec in an earlier stage; `None` if it isn't there under its name."""
    try:
        batch = features_and_labels(dataset.element_spec, mode)
    except ValueError:
        return None
    return dict(named_tensors(batch)).get((error.argument, error.key))


def _is_unfit(spec: Any) -> bool:
    if spec is None:
        return False
    if not isinstance(spec, tf.TensorSpec) or spec.dtype == tf.string:
        return True
    return not spec.shape.is_fully_defined()
