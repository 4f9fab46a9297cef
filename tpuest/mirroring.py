"""What a `tf.distribute` strategy does to a model of TF 1, where replicas run on CPUs or GPUs.

Takes the graph that `model_fn` is called in; gives it the sums over replicas that the strategy makes. A program says
nothing of them itself: its optimizer divides the loss by the number of replicas and sums the gradients.

    with optimizers_sum_gradients(num_replicas):
      model_fn(...)                                   optimizer.minimize(loss)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import _tf

_Optimizer = tf.compat.v1.train.Optimizer
# Collection with an entry in graphs whose optimizer has divided the loss.
_LOSS_IS_SHARED = "tpuest_loss_is_shared"
# Of one group with all replicas.
_ALL = np.zeros([1, 0], np.int32)


@contextlib.contextmanager
def optimizers_sum_gradients(num_replicas: int) -> Iterator[None]:
    """Has TF 1's optimizers, and those derived from them, average over replicas as under a strategy."""
    if num_replicas == 1:
        yield
        return
    compute_gradients, apply_gradients = _Optimizer.compute_gradients, _Optimizer.apply_gradients

    def compute_shared(self, loss, *args, **kwargs):
        return compute_gradients(self, _share(loss, num_replicas), *args, **kwargs)

    def apply_summed(self, grads_and_vars, *args, **kwargs):
        summed = [(_sum(grad), variable) for grad, variable in grads_and_vars]
        return apply_gradients(self, summed, *args, **kwargs)

    _Optimizer.compute_gradients, _Optimizer.apply_gradients = compute_shared, apply_summed
    try:
        yield
    finally:
        _Optimizer.compute_gradients = compute_gradients
        _Optimizer.apply_gradients = apply_gradients


def reported_loss(loss: tf.Tensor, num_replicas: int) -> tf.Tensor:
    """Gives the loss over all replicas: their mean if the optimizer made it one, else their sum."""
    total = _sum(loss)
    is_shared = bool(tf.compat.v1.get_collection(_LOSS_IS_SHARED))
    return total / num_replicas if is_shared else total


def combined_variables(graph: tf.Graph) -> dict[str, bool]:
    """Names the variables of which replicas hold parts, such as moving averages and counters of metrics.

    Returns:
      Variable name to whether it is the mean of the parts; else it is their sum.
    """
    keys = (tf.compat.v1.GraphKeys.GLOBAL_VARIABLES, tf.compat.v1.GraphKeys.LOCAL_VARIABLES)
    variables = [v for key in keys for v in graph.get_collection(key)]
    combined = (tf.VariableAggregation.SUM, tf.VariableAggregation.MEAN)
    return {
        v.op.name: v.aggregation.value == tf.VariableAggregation.MEAN.value
        for v in variables
        if getattr(v, "synchronization", None) == tf.VariableSynchronization.ON_READ
        and v.aggregation.value in [aggregation.value for aggregation in combined]
    }


def _share(loss: Any, num_replicas: int) -> Any:
    """Gives one replica's part of the mean loss; a sum of losses stays as it is."""
    graph = tf.compat.v1.get_default_graph()
    if _tf.last_loss_reduction(graph) == tf.compat.v1.losses.Reduction.SUM:
        return loss
    graph.add_to_collection(_LOSS_IS_SHARED, 1)  # a number, that can be saved
    return loss / num_replicas


def _sum(value: Any) -> Any:
    if value is None:
        return None
    # Slices of embeddings' gradients become whole tensors: every replica has other rows.
    return _tf.cross_replica_sum(tf.convert_to_tensor(value), _ALL)
