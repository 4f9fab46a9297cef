"""What a layer asks of its graph."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow.compat.v1 as tf


def add_to_collection(name: str, elements: Iterable) -> None:
    """Adds operations or tensors to a collection of the default graph, each once."""
    collection = tf.get_collection_ref(name)
    present = {id(element) for element in collection}
    for element in elements:
        if id(element) not in present:
            collection.append(element)


def depends_on(element: tf.Operation | tf.Tensor, sources: Iterable[tf.Tensor]) -> bool:
    """Says whether an operation or tensor is computed from one of the tensors."""
    source_operations = {source.op for source in sources}
    seen, pending = set(), [getattr(element, "op", element)]
    while pending:
        operation = pending.pop()
        if operation in source_operations:
            return True
        if operation not in seen:
            seen.add(operation)
            pending += [tensor.op for tensor in operation.inputs]
            pending += operation.control_inputs
    return False
