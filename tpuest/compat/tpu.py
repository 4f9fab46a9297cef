"""`tf.compat.v1.tpu` functions that TensorFlow builds and only a TPU runs.

Takes their arguments; gives what the call means where the program runs it itself, outside an estimator:
on one CPU or GPU there is one replica, nothing to initialise and nothing to sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf

CrossShardOptimizer = tf.compat.v1.tpu.CrossShardOptimizer


def cross_replica_sum(x: Any, group_assignment: Any = None, name: str | None = None) -> tf.Tensor:
    """Sums a tensor over the replicas that `model_fn` runs on; alone, gives the tensor."""
    if _tf.number_of_shards() is None:
        return tf.identity(x, name=name)
    return _tf.cross_replica_sum(x, group_assignment, name)


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


def rewrite(computation: Callable, inputs: Sequence | None = None, *_: Any, **__: Any) -> Any:
    """Calls the computation here, once."""
    return computation(*(inputs or ()))


def replicate(computation: Callable, inputs: Sequence | None = None, *_: Any, **__: Any) -> list:
    """Calls the computation here, once for each replica's inputs."""
    return [_as_list(computation(*replica)) for replica in (inputs or [[]])]


def shard(
    computation: Callable, inputs: Sequence | None = None, num_shards: int = 1, *_: Any, **__: Any
) -> list:
    """Calls the computation here, on the whole inputs."""
    return _as_list(computation(*(inputs or ())))


def batch_parallel(
    computation: Callable, inputs: Sequence | None = None, num_shards: int = 1, *_: Any, **__: Any
) -> list:
    """Calls the computation here, on the whole batch."""
    return shard(computation, inputs, num_shards)


def model_fn_inference_on_tpu(
    model_fn: Callable,
    features: Any,
    labels: Any = None,
    config: Any = None,
    params: Any = None,
    batch_config: Any = None,
) -> Any:
    """Calls `model_fn` for prediction here, and gives the predictions' tensors."""
    from tpuest import signatures, spec

    answer = signatures.call_model_fn(
        model_fn,
        features=features,
        labels=labels,
        mode=spec.ModeKeys.PREDICT,
        config=config,
        params=params,
    )
    return answer.export_outputs or answer.predictions


def _as_list(outputs: Any) -> list:
    if outputs is None:
        return []
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
