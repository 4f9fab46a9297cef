"""Variables that take no memory, for functions that are traced and compiled but never run.

Stand for `variables.ReplicaVariables`, whose methods `loop.CompiledProgram` calls: a model of many GiB on many cores
is checked on a small machine.
"""

from __future__ import annotations

import mmap
import sys

import numpy as np
import tensorflow as tf

from tpuest import _tf
from tpuest.variables import ReplicaVariables

# Their zeros are made: other types are parts of one buffer of bytes.
_NOT_BYTES = (tf.bool, tf.string)
# Python before 3.13 has no name for it.
_NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class UninitializedReplicaVariables(ReplicaVariables):
    """The strategy's own variables, one for each core of a TPU that isn't there, without values."""

    def _create(self, shape, dtype, label, on_host):
        if on_host:
            return super()._create(shape, dtype, label, on_host)

        def without_value(next_creator, **arguments):
            # Not on the core: where TensorFlow started in graph mode it would place nothing there but on a TPU.
            with tf.device("/cpu:0"):
                return _tf.UninitializedVariable(
                    shape=shape, dtype=dtype, name=arguments["name"], trainable=False
                )

        with tf.variable_creator_scope(without_value), self.topology.strategy.scope():
            return [
                tf.Variable(
                    tf.zeros([], dtype),
                    shape=tf.TensorShape(None),
                    trainable=False,
                    name=label,
                    synchronization=tf.VariableSynchronization.ON_WRITE,
                    aggregation=tf.VariableAggregation.NONE,
                )
            ]


class SharedZeros:
    """One plain variable for each name; all are views of the same zeros, which the system never has to fetch.

    XLA lowers a function only if its variables have values, and looks at none.
    """

    def __init__(self):
        self._variables: dict[str, tf.Variable] = {}
        self._bytes = _lazy_zeros(0)

    def ensure(self, name, shape, dtype, label, on_host=False):
        """Makes the variable, unless no core uses it."""
        if not on_host and name not in self._variables:
            zeros = self._zeros(shape, dtype)
            self._variables[name] = tf.Variable(zeros, trainable=False, name=label)

    def handle(self, name, replica_id=0):
        """Returns the variable's resource handle."""
        return self._variables[name].handle

    def _zeros(self, shape, dtype):
        if dtype in _NOT_BYTES:
            return tf.zeros(shape, dtype)
        num_bytes = shape.num_elements() * dtype.size
        if num_bytes > len(self._bytes):
            self._bytes = _lazy_zeros(num_bytes)
        rows = [shape.num_elements(), dtype.size] if dtype.size > 1 else [shape.num_elements()]
        return tf.reshape(tf.bitcast(tf.reshape(self._bytes[:num_bytes], rows), dtype), shape)


def _lazy_zeros(num_bytes: int) -> tf.Tensor:
    """Gives uint8 zeros `[num_bytes]` that take memory only where somebody reads them."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    memory = mmap.mmap(-1, max(num_bytes, 1), flags=flags)
    array = np.frombuffer(memory, np.uint8, num_bytes)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
