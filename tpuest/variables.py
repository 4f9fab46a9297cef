"""Holds the model's variables: one copy for each replica, found by its TF 1 name.

Takes the `VarHandleOp` nodes of a program's graph; gives resource handles for `transplant`. Values come from
the program's own initialiser or from a checkpoint, run by `session`.
"""

import tensorflow as tf

from tpuest import _tf


class ReplicaVariables:
    """Name to per-replica variable, for one strategy.

    On a TPU a variable is the strategy's own, replicated over its cores; elsewhere it is one plain variable
    for each device: the parts of a `MirroredVariable` would send a TF 1 optimizer down its distributed path.
    What only the host uses (metrics' counters) is one plain variable there.

    Attributes:
      checkpoint: identity of the checkpoint whose values the variables hold, or `None` if they hold others.
      tables: those of embeddings that a TPU holds in place of the variables (`embedding_hardware`); `None` without.
    """

    def __init__(self, topology):
        self.topology = topology
        self.checkpoint = None
        self.tables = None
        self._copies = {}
        self._of_host = set()

    def ensure(self, name, shape, dtype, label, on_host=False):
        """Makes the variable if it isn't there yet.

        Args:
          name: by which `handle` finds it.
          shape: a `tf.TensorShape`.
          dtype: its type.
          label: its name for people.
          on_host: whether no core uses it.

        Raises:
          ValueError: another program of this estimator made it with another shape or type.
        """
        if name not in self._copies:
            if on_host:
                self._of_host.add(name)
            self._copies[name] = self._create(shape, dtype, label, on_host)
            return
        known = self._copies[name][0]
        if known.dtype != dtype or not known.shape.is_compatible_with(shape):
            raise ValueError(
                f"Variable {label} is {known.dtype.name}{known.shape} in one mode of this model and "
                f"{dtype.name}{shape} in another. Give them different names."
            )

    def __contains__(self, name):
        return name in self._copies

    def forget(self, prefix):
        """Drops the variables whose names start so."""
        for name in [name for name in self._copies if name.startswith(prefix)]:
            del self._copies[name]
            self._of_host.discard(name)

    def handle(self, name, replica_id=0):
        """Returns the resource handle of one replica's copy.

        Inside `TPUStrategy.run`, which is traced once for all replicas, that of every replica's.
        """
        copies = self._copies[name]
        return copies[replica_id if len(copies) > 1 else 0].handle

    def has_value(self, name):
        """Says whether every replica's copy has one."""
        return all(bool(_tf.is_initialized(copy.handle)) for copy in self._copies[name])

    def find(self, name):
        """Gives replica 0's copy; `None` if there is none, or it has no value."""
        return self._copies[name][0] if name in self and self.has_value(name) else None

    def read(self, name):
        """Reads replica 0's copy: by the op, a tenth of the time that `Variable.read_value` takes."""
        first = self._copies[name][0]
        return tf.raw_ops.ReadVariableOp(resource=first.handle, dtype=first.dtype)

    def value(self, name):
        """Reads replica 0's copy as a numpy array."""
        return self.read(name).numpy()

    def copy_from(self, others):
        """Takes over the values of another set's variables of the same names."""
        with _tf.eager_mode():
            if others.tables is not None:
                others.tables.fetch()
            for name in self._copies.keys() & others._copies.keys():
                value = others._copies[name][0].read_value()
                for copy in self._copies[name]:
                    copy.assign(value)
        if self.tables is not None:
            self.tables.note_written()
        self.checkpoint = None

    def share_from_chief(self, workers, names):
        """Gives every worker of a cluster the values that the chief's variables of these names have."""
        with _tf.eager_mode():
            names = [
                name
                for name in names
                if self.has_value(name) and _can_be_summed(self._copies[name][0].dtype)
            ]
            values = [self._copies[name][0].read_value() for name in names]
            for name, value in zip(names, workers.share_from_chief(values), strict=True):
                for copy in self._copies[name]:
                    copy.assign(value)
        if not workers.is_chief:
            self.checkpoint = None

    def add_up(self, workers, parts):
        """Puts together what `combine` gave on each worker of a cluster, on all of them."""
        with _tf.eager_mode():
            names = [name for name in parts if self.has_value(name)]
            values = [self._copies[name][0].read_value() for name in names]
            for name, total in zip(names, workers.add_up(values), strict=True):
                self._copies[name][0].assign(total / workers.count if parts[name] else total)
                if parts[name]:
                    self.combine({name: True})

    def combine(self, parts):
        """Puts together variables of which each replica holds a part, so that the first one's copy can be read.

        Adding to the copies goes on as before: a mean is every replica's, of a sum the others keep nothing.

        Args:
          parts: name to whether it is the mean of the parts; else it is their sum.
        """
        for name, is_mean in parts.items():
            first, *others = self._copies[name]
            with tf.device(first.device):
                total = tf.add_n([copy.read_value() for copy in (first, *others)])
                first.assign(total / (len(others) + 1) if is_mean else total)
            for other in others:
                other.assign(first.read_value() if is_mean else tf.zeros_like(total))

    def share_first(self, names, sums=()):
        """Gives every replica the value of replica 0; of the `sums` of parts, nothing."""
        if self.topology.num_replicas == 1:
            return
        for name in set(names) - self._of_host:
            first, *others = self._copies[name]
            if self.topology.is_tpu:
                first.assign(first.read_value())
            for other in others:
                if bool(_tf.is_initialized(first.handle)):
                    other.assign(first.read_value())

    def _create(self, shape, dtype, label, on_host):
        if self.topology.is_tpu and not on_host:
            with self.topology.strategy.scope():
                return [
                    tf.Variable(
                        tf.zeros(shape, dtype),
                        trainable=False,
                        name=label,
                        synchronization=tf.VariableSynchronization.ON_WRITE,
                        aggregation=tf.VariableAggregation.NONE,
                    )
                ]
        copies = []
        for device in ("/cpu:0",) if on_host else self.topology.devices:
            with tf.device(device):
                # All with one name: for a new one TensorFlow compiles a function, 0.7 ms, to make the handle.
                copies.append(_tf.UninitializedVariable(shape=shape, dtype=dtype, trainable=False))
        return copies


def _can_be_summed(dtype):
    return dtype.is_floating or dtype.is_integer or dtype.is_bool or dtype.is_complex
