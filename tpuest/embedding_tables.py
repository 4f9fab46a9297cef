"""The tables of embeddings in a program's graph: their variables, what is looked up in them, how they change.

Takes a `TableConfig`, ids, and the gradients of what was looked up; gives activations and an update that is the same on
every core.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tpuest import _tf, embedding_config, embedding_updates
from tpuest.embedding_config import FeatureConfig, TableConfig

# Placeholder of a program's graph that stands for the number of the replica.
REPLICA_ID = "tpuest_replica_id"


class Table:
    """A table's variables, in the graph."""

    def __init__(self, config: TableConfig, parameters: Any, name: str, slots: tuple):
        self.config = config
        self.parameters = parameters
        self.weights = _make_variable(name, config, config.initializer)
        self._slots = [
            _make_variable(
                f"{name}/{slot.name}", config, tf.constant_initializer(slot.initial_value)
            )
            for slot in slots
        ]

    def variable_names(self, name: str) -> tuple[str, ...]:
        """Names the graph's variables: the table's, and those of the slots that training keeps, made or not.

        Args:
          name: the table's in checkpoints.
        """
        part = self.weights.op.name.removeprefix(name)
        slots = embedding_updates.slots_of(self.parameters)
        return name + part, *(f"{name}/{slot.name}{part}" for slot in slots)

    def slices(self, found: tf.Tensor, gradient: tf.Tensor) -> tf.IndexedSlices:
        """Gives the gradient of each row from that of what `look_up` found."""
        return tf.gradients(found, self.weights, grad_ys=gradient)[0]

    def update(self, slices: list, global_step: tf.Tensor, num_replicas: int) -> tf.Operation:
        """Updates the table by gradients of its rows.

        Args:
          slices: `tf.IndexedSlices` of each feature that was looked up; those of negative rows don't count.
          global_step: int64 scalar, for the learning rate.
          num_replicas: cores whose gradients count.
        """
        values = tf.concat([s.values for s in slices], 0)
        indices = tf.concat([s.indices for s in slices], 0)
        size = self.config.vocabulary_size
        gradient = tf.math.unsorted_segment_sum(values, indices, size)
        count = tf.math.unsorted_segment_sum(tf.ones_like(values[:, 0]), indices, size)
        weights, slots = self.weights.read_value(), tuple(s.read_value() for s in self._slots)
        learning_rate = self._learning_rate(global_step)
        for gradient_of_turn, count_of_turn in self._turns(gradient, count, num_replicas):
            weights, slots = embedding_updates.update(
                self.parameters,
                learning_rate,
                weights,
                slots,
                gradient_of_turn,
                count_of_turn > 0,
            )
        variables = [self.weights, *self._slots]
        values = [weights, *slots]
        # Every variable is read before any is written.
        with tf.control_dependencies(values):
            assigned = [v.assign(value) for v, value in zip(variables, values, strict=True)]
        return tf.group(*assigned)

    def _turns(self, gradient, count, num_replicas):
        """Gives the gradients that are applied one after the other: their sum, or those of one core at a time."""
        if num_replicas == 1:
            return [(gradient, count)]
        if self.parameters.use_gradient_accumulation or isinstance(
            self.parameters, embedding_config.StochasticGradientDescentParameters
        ):
            return [(_tf.cross_replica_sum(gradient), _tf.cross_replica_sum(count))]
        # A row belongs to a core, whose gradient comes first, and those of the cores after it follow.
        own = tf.one_hot(_replica_id(), num_replicas, dtype=gradient.dtype)
        gradients = _tf.cross_replica_sum(own[:, None, None] * gradient)
        counts = _tf.cross_replica_sum(own[:, None] * count)
        rows = tf.range(self.config.vocabulary_size)
        turns = []
        for turn in range(num_replicas):
            place = tf.stack([(rows + turn) % num_replicas, rows], axis=1)
            turns.append((tf.gather_nd(gradients, place), tf.gather_nd(counts, place)))
        return turns

    def _learning_rate(self, global_step):
        if self.config.learning_rate_fn is not None:
            rate = self.config.learning_rate_fn(global_step)
        else:
            rate = self.config.learning_rate
        return tf.cast(self.parameters.learning_rate if rate is None else rate, tf.float32)


def look_up(table: Table, feature: FeatureConfig, ids: Any, weights: Any) -> tf.Tensor:
    """Finds the rows of one feature and combines those of an example, or of a place of a sequence."""
    combiner = table.config.combiner
    if combiner is None and not isinstance(ids, tf.SparseTensor):
        return tf.nn.embedding_lookup(table.weights, tf.reshape(ids, [-1]))
    ids = as_sparse(ids)
    batch_size = ids.dense_shape[0]
    if feature.max_sequence_length:
        length = feature.max_sequence_length
        ids, weights = (by_place(sparse, length) for sparse in (ids, weights))
    rows = tf.nn.safe_embedding_lookup_sparse(
        table.weights, cast(ids, tf.int64), weights, combiner or "sum"
    )
    if not feature.max_sequence_length:
        return rows
    return tf.reshape(rows, [batch_size, feature.max_sequence_length, table.config.dimension])


def by_place(sparse: tf.SparseTensor | None, length: int) -> tf.SparseTensor | None:
    """Makes an example of each of the first `length` places of a sequence: `[batch, time(, n)]` to `[batch * length, n]`."""
    if sparse is None:
        return None
    kept = sparse.indices[:, 1] < length
    indices = tf.boolean_mask(sparse.indices, kept)
    values = tf.boolean_mask(sparse.values, kept)
    has_more = sparse.indices.shape.as_list()[1] > 2
    last = indices[:, 2] if has_more else tf.zeros_like(indices[:, 0])
    width = sparse.dense_shape[2] if has_more else tf.constant(1, tf.int64)
    examples = indices[:, 0] * length + indices[:, 1]
    shape = tf.stack([sparse.dense_shape[0] * length, width])
    return tf.SparseTensor(tf.stack([examples, last], axis=1), values, shape)


def as_sparse(ids: Any) -> tf.SparseTensor:
    """Takes dense ids for sparse ones without zeros, as the original."""
    if isinstance(ids, tf.SparseTensor):
        return ids
    if ids.shape.rank == 1:
        ids = ids[:, tf.newaxis]
    return tf.sparse.from_dense(ids)


def cast(sparse: tf.SparseTensor, dtype: tf.DType) -> tf.SparseTensor:
    """Gives the same tensor with values of another type."""
    return tf.SparseTensor(sparse.indices, tf.cast(sparse.values, dtype), sparse.dense_shape)


def _make_variable(name: str, config: TableConfig, initializer: Any) -> tf.Variable:
    """Makes a variable in one part, as the original's hosts held theirs: in checkpoints it has the whole's name."""
    whole = tf.compat.v1.get_variable(
        name,
        [config.vocabulary_size, config.dimension],
        tf.float32,
        initializer,
        partitioner=tf.compat.v1.fixed_size_partitioner(1),
        trainable=False,
    )
    (part,) = whole
    return part


def _replica_id() -> tf.Tensor:
    """Gives the int32 scalar of the graph that is bound to each replica's number."""
    graph = tf.compat.v1.get_default_graph()
    try:
        return graph.get_tensor_by_name(f"{REPLICA_ID}:0")
    except KeyError:
        return tf.compat.v1.placeholder(tf.int32, [], REPLICA_ID)
