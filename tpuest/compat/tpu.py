"""`tf.compat.v1.tpu` functions that TensorFlow builds and only a TPU runs.

Takes their arguments; gives what the call means where the program runs it itself, outside an estimator:
on one CPU or GPU there is one replica, nothing to initialise and nothing to sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf


class CrossShardOptimizer(_tf.CrossShardOptimizer):
    """Averages gradients over the cores before an optimizer applies them; alone, is that optimizer.

    Differs from TPUEstimator: gradients that `model_fn` took itself (`tf.gradients`) are averaged like those of
    `compute_gradients`, so that a program takes the same steps on any number of cores; the original adds them up.
    """

    def compute_gradients(self, loss: Any, var_list: Any = None, **kwargs: Any) -> list:
        self._has_scaled_loss = True
        return super().compute_gradients(loss, var_list=var_list, **kwargs)

    def apply_gradients(
        self, grads_and_vars: Any, global_step: Any = None, name: str | None = None
    ) -> Any:
        if not getattr(self, "_has_scaled_loss", False):
            grads_and_vars = [(self._share(grad), var) for grad, var in grads_and_vars]
        return super().apply_gradients(grads_and_vars, global_step, name)

    def _share(self, grad: Any) -> Any:
        """Gives a gradient's part of the average over the cores."""
        cores = _tf.number_of_shards() or 1
        if self._group_assignment:
            cores = len(self._group_assignment[0])
        if grad is None or cores == 1 or self._reduction != tf.compat.v1.losses.Reduction.MEAN:
            return grad
        if isinstance(grad, tf.IndexedSlices):
            return tf.IndexedSlices(grad.values / cores, grad.indices, grad.dense_shape)
        return grad / cores


def cross_replica_sum(x: Any, group_assignment: Any = None, name: str | None = None) -> tf.Tensor:
    """Sums a tensor over the replicas that `model_fn` runs on; alone, gives the tensor."""
    if _tf.number_of_shards() is None:
        return tf.identity(x, name=name)
    return _tf.cross_replica_sum(x, group_assignment, name)


def outside_compilation(computation: Callable, *args: Any, **kwargs: Any) -> Any:
    """Calls a computation that the host runs in the middle of a step: what it makes is left out of a core's program."""
    if _tf.tpu.under_tpu_inference_context():
        return _tf.tpu_replication.outside_compilation(computation, *args, **kwargs)
    if _tf.number_of_shards() is None:
        return computation(*args, **kwargs)
    with _tf.outside_compilation(tf.compat.v1.get_default_graph()):
        return computation(*args, **kwargs)


def initialize_system(
    embedding_config: Any = None,
    job: str | None = None,
    compilation_failure_closes_chips: bool = True,
    tpu_cancellation_closes_chips: Any = None,
) -> tf.Tensor:
    """Gives a serialized topology, a string scalar, that is empty: the engine initialises the TPU itself."""
    return tf.constant(b"", name="tpu_initialization")


def shutdown_system(job: str | None = None) -> tf.Operation:
    """Gives an operation that does nothing: the engine ends with the process."""
    return tf.no_op(name="tpu_shutdown")


def rewrite(
    computation: Callable, inputs: Sequence | None = None, *args: Any, **kwargs: Any
) -> Any:
    """Calls the computation here, once; has a TPU compute it in an export for TPUs."""
    if _tf.tpu.under_tpu_inference_context():
        return _tf.tpu.rewrite(computation, inputs, *args, **kwargs)
    return _outputs(computation, inputs or ())


def replicate(
    computation: Callable, inputs: Sequence | None = None, *args: Any, **kwargs: Any
) -> list:
    """Calls the computation here, once for each replica's inputs; has a TPU compute them in an export for TPUs."""
    if _tf.tpu.under_tpu_inference_context():
        return _tf.tpu.replicate(computation, inputs, *args, **kwargs)
    return [_outputs(computation, replica) for replica in (inputs or [[]])]


def shard(
    computation: Callable,
    inputs: Sequence | None = None,
    num_shards: int = 1,
    *args: Any,
    **kwargs: Any,
) -> list:
    """Calls the computation here, on the whole inputs; has TPU cores compute it in an export for TPUs."""
    if _tf.tpu.under_tpu_inference_context():
        return _tf.tpu.shard(computation, inputs, num_shards, *args, **kwargs)
    return _outputs(computation, inputs or ())


def batch_parallel(
    computation: Callable,
    inputs: Sequence | None = None,
    num_shards: int = 1,
    *args: Any,
    **kwargs: Any,
) -> list:
    """Calls the computation here, on the whole batch; has TPU cores compute it in an export for TPUs."""
    if _tf.tpu.under_tpu_inference_context():
        return _tf.tpu.batch_parallel(computation, inputs, num_shards, *args, **kwargs)
    return shard(computation, inputs, num_shards)


def _outputs(computation: Callable, inputs: Sequence) -> Any:
    """Gives a computation's results as `tpu.rewrite` does.

    Returns:
      Flat results as a list of tensors, a lone tensor too; nested ones as they are; if there are no tensors, an
      operation that waits for the operations among the results. Tensors wait for these too.
    """
    outputs = computation(*inputs)
    flat = [leaf for leaf in tf.nest.flatten(outputs) if leaf is not None]
    operations = [leaf for leaf in flat if isinstance(leaf, tf.Operation)]
    if len(operations) == len(flat):
        return tf.group(*operations) if operations else tf.no_op()
    with tf.control_dependencies(operations):
        wait = lambda leaf: leaf if leaf is None else tf.identity(leaf)
        tensors = [wait(leaf) for leaf in flat if not isinstance(leaf, tf.Operation)]
        listed = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        if len(tf.nest.flatten(outputs)) == len(listed) and not isinstance(outputs, dict):
            return tensors
        return tf.nest.map_structure(wait, outputs)
