"""Turns what `metric_fn` gives into `(value, update_op)` pairs.

Takes TF 1 pairs, Keras-like metric objects or plain tensors; gives for each name the value's tensor and the
operation that adds one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

_ASSIGNMENTS = ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp")


def trace_metrics(make_metrics: Callable) -> dict[str, tuple[Any, Any]]:
    """Calls `make_metrics` and gives its metrics as pairs.

    Args:
      make_metrics: gives a dict of name to metric, updated in the default graph.

    Raises:
      TypeError: it doesn't give a dict, or a metric is of none of the kinds.
    """
    made = make_metrics()
    if made is None:
        return {}
    if not isinstance(made, dict):
        raise TypeError(f"metric_fn must return a dict of name to metric, got {made!r}")
    return {name: _as_pair(name, metric) for name, metric in made.items()}


def mean_loss(loss: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives the metric that every evaluation has: the mean of the steps' losses."""
    return tf.compat.v1.metrics.mean(loss)


def _as_pair(name: str, metric: Any) -> tuple[tf.Tensor, Any]:
    if isinstance(metric, (tuple, list)) and len(metric) == 2:
        return tuple(metric)
    if hasattr(metric, "update_state") and hasattr(metric, "result"):
        return _keras_pair(metric)
    if isinstance(metric, tf.Tensor):
        return tf.compat.v1.metrics.mean(metric, name=name)
    raise TypeError(
        f"Metric {name!r} must be a (value, update_op) pair, a Keras metric or a tensor, got {metric!r}"
    )


def _keras_pair(metric: Any) -> tuple[tf.Tensor, tf.Operation]:
    """Finds the assignments that `update_state` left in the graph: Keras 3 doesn't return them."""
    graph = tf.compat.v1.get_default_graph()
    variables = [getattr(variable, "value", variable) for variable in metric.variables]
    variables = [variable for variable in variables if not callable(variable)] or list(
        metric.variables
    )
    _keep_out_of_checkpoints(graph, variables, metric.variables)
    handles = {variable.handle.name for variable in variables}
    updates = [
        op
        for op in graph.get_operations()
        if op.type in _ASSIGNMENTS
        and op.inputs[0].name in handles
        and not _initializes(op, variables)
    ]
    return tf.convert_to_tensor(metric.result()), tf.group(*updates)


def _initializes(op: tf.Operation, variables: Iterable[Any]) -> bool:
    return any(op is variable.initializer for variable in variables)


def _keep_out_of_checkpoints(graph: tf.Graph, variables: list, wrappers: Iterable[Any]) -> None:
    """Moves a metric's variables from the model's to the run's own.

    Args:
      graph: whose collections hold them.
      variables: TensorFlow's.
      wrappers: what Keras 3 wraps them in, which TensorFlow's initialisers don't know.
    """
    keys = tf.compat.v1.GraphKeys
    moved = {id(variable) for variable in (*variables, *wrappers)}
    for key in (keys.GLOBAL_VARIABLES, keys.TRAINABLE_VARIABLES, keys.LOCAL_VARIABLES):
        kept = graph.get_collection_ref(key)
        kept[:] = [variable for variable in kept if id(variable) not in moved]
    graph.get_collection_ref(keys.LOCAL_VARIABLES).extend(variables)
