"""A TPU's memory for embeddings in numpy: stands for TensorFlow's operations where no TPU has them.

What goes in and comes out is as `tpu_ops` documents it: ids of each core are enqueued by its host, the cores receive
combined rows of each feature and send gradients, by which tables are updated when all cores have sent.
"""

import collections

import numpy as np
import tensorflow as tf

from tpuest import _tf, embedding_tables, embedding_updates

_VERBS = ("load", "retrieve")


class FakeEmbeddingMemory:
    """Has the names of `tensorflow.python.tpu.ops.tpu_ops` that embeddings use.

    Attributes:
      tables: table's name to its weights and slots, once loaded.
      modes: of each batch that was enqueued.
    """

    def __init__(self, parameters, num_cores):
        self._parameters = parameters
        self._num_cores = num_cores
        self._batches = {}
        self._sent = []
        self._configuration = None
        self.tables = {}
        self.modes = []
        self.num_loads = 0

    def configure(self, configuration):
        self._configuration = _tf.tpu_embedding_configuration()
        self._configuration.ParseFromString(configuration)

    def __getattr__(self, name):
        verb, found, rest = name.partition("_tpu_embedding_")
        if not found or verb not in _VERBS or not rest.endswith("_parameters"):
            raise AttributeError(name)
        return getattr(self, f"_{verb}")

    def _load(self, *values, num_shards, shard_id, table_name, config):
        def load(*arrays):
            self.tables[table_name] = [array.copy() for array in arrays]
            self.num_loads += 1
            return np.int32(0)

        tf.numpy_function(load, values, tf.int32)

    def _retrieve(self, num_shards, shard_id, table_name, config):
        kinds = [tf.float32] * len(self.tables[table_name])
        found = tf.numpy_function(lambda: self.tables[table_name], [], kinds)
        for tensor, value in zip(found, self.tables[table_name]):
            tensor.set_shape(value.shape)
        return tuple(found)

    def enqueue_tpu_embedding_arbitrary_tensor_batch(
        self,
        sample_indices_or_row_splits,
        embedding_indices,
        aggregation_weights,
        combiners,
        device_ordinal,
        mode_override,
    ):
        flat = [*sample_indices_or_row_splits, *embedding_indices, *aggregation_weights]
        count = len(embedding_indices)

        def enqueue(*arrays):
            features = list(zip(arrays[:count], arrays[count : 2 * count], arrays[2 * count :]))
            self._batches[device_ordinal] = [features, combiners]
            self.modes.append(mode_override)
            return np.int32(0)

        tf.numpy_function(enqueue, flat, tf.int32)

    def recv_tpu_embedding_activations(self, num_outputs, config):
        core = embedding_tables._replica_id()
        return tf.numpy_function(self._receive, [core], [tf.float32] * num_outputs)

    def _receive(self, core):
        return [
            (matrix @ self.tables[table.name][0]).reshape([*shape, -1])
            for matrix, table, shape in self._lookups(core)
        ]

    def send_tpu_embedding_gradients(self, inputs, learning_rates, config):
        core = embedding_tables._replica_id()
        rates = len(learning_rates)
        given = [core, *learning_rates, *inputs]
        return tf.numpy_function(
            lambda core, *values: self._send(core, values[:rates], values[rates:]), given, tf.int32
        ).op

    def _send(self, core, rates, gradients):
        for gradient, (matrix, table, _) in zip(gradients, self._lookups(core)):
            rows = matrix.T @ gradient.reshape([-1, table.dimension])
            self._sent.append((table.name, rows, (matrix != 0).any(0)))
        del self._batches[core]
        if not self._batches:
            self._update(rates)
        return np.int32(0)

    def _update(self, rates):
        totals = collections.defaultdict(list)
        for name, rows, touched in self._sent:
            totals[name].append((rows, touched))
        self._sent.clear()
        for table in self._configuration.table_descriptor:
            rate = table.optimization_parameters.learning_rate
            is_dynamic = rate.WhichOneof("learning_rate") == "dynamic"
            weights, *slots = self.tables[table.name]
            new, new_slots = embedding_updates.update(
                self._parameters,
                rates[rate.dynamic.tag] if is_dynamic else rate.constant,
                weights,
                tuple(slots),
                np.sum([rows for rows, _ in totals[table.name]], 0).astype(np.float32),
                np.any([touched for _, touched in totals[table.name]], 0),
            )
            self.tables[table.name] = [new.numpy(), *(slot.numpy() for slot in new_slots)]

    def _lookups(self, core):
        """Gives of each feature a matrix that combines rows, its table and the shape of what is combined."""
        features, combiners = self._batches[core]
        for described, given in zip(self._configuration.feature_descriptor, features, strict=True):
            indices, ids, weights = given
            shape = list(described.input_shape)
            table = self._configuration.table_descriptor[described.table_id]
            if not len(indices):
                indices = np.stack([np.arange(len(ids)), np.zeros(len(ids), int)], 1)
            places = np.ravel_multi_index(tuple(indices[:, : len(shape)].T), shape)
            matrix = np.zeros([np.prod(shape), table.vocabulary_size], np.float32)
            np.add.at(matrix, (places, ids), weights if len(weights) else 1.0)
            yield _combined(matrix, combiners[described.table_id]), table, shape


def _combined(matrix, combiner):
    norms = {"sum": 1.0, "mean": matrix.sum(1), "sqrtn": np.sqrt((matrix**2).sum(1))}[combiner]
    norms = np.broadcast_to(norms, len(matrix))
    return (matrix / np.where(norms == 0, 1, norms)[:, None]).astype(np.float32)
