"""Embedding tables beside the model: looked up before a core's step, updated after it, by an optimizer of their own.

Takes an `EmbeddingConfigSpec`; gives `model_fn` activations: of a TPU's embedding hardware (`embedding_hardware`) or of
variables, for which a TPU's host prepares the ids (`embedding_ids`):

    pipeline:   ids, sparse                 -> encoded: a string for each example, which can be cut and joined
    model_fn:   features[key]               =  activations [batch, dimension], placeholders
    afterwards: the tables' names are known -> lookups take the placeholders' places; gradients of the activations,
                                               added up over the cores, update the tables
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tpuest import (
    _tf,
    embedding_config,
    embedding_hardware,
    embedding_ids,
    embedding_updates,
    errors,
)
from tpuest.embedding_config import EmbeddingConfigSpec, FeatureConfig, TableConfig
from tpuest.embedding_hardware import HardwareStep, HardwareTable
from tpuest.embedding_ids import HostStep
from tpuest.embedding_tables import Table, as_sparse, cast, look_up
from tpuest.spec import ModeKeys
from tpuest.topology import Topology
from tpuest.transplant import TransplantSource


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """The tables and features of a spec.

    Attributes:
      spec: the user's.
      tables: table's name to its configuration.
      features: feature's key to its configuration.
    """

    spec: EmbeddingConfigSpec
    tables: Mapping[str, TableConfig]
    features: Mapping[str, FeatureConfig]

    @classmethod
    def of(cls, spec: EmbeddingConfigSpec, use_tpu: bool = True) -> Embeddings | None:
        """Reads the spec; without a TPU its columns are the model's own, whatever they are.

        Raises:
          TypeError: a column isn't one of TPU embeddings.
          ValueError: a feature has two embeddings.
        """
        if not use_tpu:
            return None
        if spec.feature_columns is None:
            return cls(spec, spec.table_to_config_dict, spec.feature_to_config_dict)
        tables, features = embedding_config.get_configs_from_feature_columns(spec.feature_columns)
        return cls(spec, tables, features)

    def encode(self, features: dict, batch_size: int | None = None) -> dict:
        """Makes ids and weights of a batch fit for cutting and joining: a row of strings for each example.

        Args:
          features: of `input_fn`: sparse or dense ids, sparse weights.
          batch_size: in examples, where it isn't known of sparse tensors.

        Raises:
          ValueError: ids are strings, or weights are missing, dense or those of another feature.
        """
        encoded, weights_left = dict(features), dict(features)
        for key, feature in self.features.items():
            ids = features[key]
            _check_ids(key, ids)
            if isinstance(ids, tf.SparseTensor):
                encoded[key] = _encode(ids, batch_size)
            if feature.weight_key is not None:
                weights = _taken_weights(feature.weight_key, weights_left)
                encoded[feature.weight_key] = _encode(weights, batch_size)
        for column in self.spec.tensor_core_feature_columns or ():
            encoded.update(_tf.pad_ids_for_core(column, features))
        return encoded

    @property
    def encoded_keys(self) -> frozenset[str]:
        """The features that are strings in the pipeline."""
        weights = {f.weight_key for f in self.features.values() if f.weight_key is not None}
        return frozenset(self.features) | weights

    def look_up_later(self, encoded: dict, kinds: Mapping[str, SparseKind]) -> Lookups:
        """Replaces ids by placeholders for what is found in the tables.

        Args:
          encoded: what `encode` gave, one core's batch, in the default graph.
          kinds: of the sparse ids and weights before they were encoded.
        """
        features = {key: value for key, value in encoded.items() if key not in self.encoded_keys}
        ids, weights, activations, lengths = {}, {}, {}, {}
        for key, feature in self.features.items():
            ids[key] = _decode(encoded[key], kinds.get(key))
            if feature.weight_key is not None:
                decoded = _decode(encoded[feature.weight_key], kinds[feature.weight_key])
                weights[key] = cast(decoded, tf.float32)
            table = self.tables[feature.table_id]
            shape = [encoded[key].shape.as_list()[0], table.dimension]
            if feature.max_sequence_length:
                shape.insert(1, feature.max_sequence_length)
                length_key = _tf.sequence_length_key(key)
                lengths[key] = _sequence_lengths(ids[key], shape[0], shape[1])
                features[length_key] = lengths[key]
            activations[key] = tf.compat.v1.placeholder(tf.float32, shape, f"{key}_activations")
            features[key] = activations[key]
        if activations:
            # In the program lookups take the place of the sum: nothing reads the variable.
            first = next(iter(activations))
            features[first] = activations[first] = activations[first] + 0.0 * _untouched_variable()
        step = tf.compat.v1.train.get_global_step()
        global_step = None if step is None else tf.identity(step.read_value())
        on_host = frozenset(encoded[key].name for key in self.encoded_keys)
        return Lookups(self, features, ids, weights, activations, lengths, on_host, global_step)


@dataclasses.dataclass(frozen=True)
class Lookups:
    """One core's activations, before their tables are known.

    Attributes:
      embeddings: the tables and features.
      features: for `model_fn`.
      ids: feature's key to its ids: sparse, or dense int `[batch]` or `[batch, 1]`.
      weights: the same, float32, of features with weights.
      activations: feature's key to what stands for its lookup.
      lengths: key of a feature that is a sequence to its examples' lengths.
      encoded: names of the graph's inputs that ids and weights are made of.
      global_step: int64 scalar, before the step.
    """

    embeddings: Embeddings
    features: dict
    ids: Mapping[str, Any]
    weights: Mapping[str, tf.SparseTensor]
    activations: Mapping[str, tf.Tensor]
    lengths: Mapping[str, tf.Tensor]
    encoded: frozenset[str]
    global_step: tf.Tensor | None

    def finish(
        self, spec: Any, topology: Topology, source: TransplantSource
    ) -> tuple[tf.Operation | None, HostStep | None]:
        """Makes the tables, looks up in them, and in training updates them.

        Args:
          spec: what `model_fn` answered.
          topology: of the cores.
          source: of the graph; gets the lookups in the places of `activations`.

        Returns:
          The update, to be run with the train op, `None` but for training; and what the host does where ids don't go to
          the cores as they are.
        """
        embeddings = self.embeddings
        names = _variable_names(embeddings)
        tables = {}
        for name, config in embeddings.tables.items():
            own = config.optimization_parameters or embeddings.spec.optimization_parameters
            slots = embedding_updates.slots_of(own) if spec.mode == ModeKeys.TRAIN else ()
            tables[name] = Table(config, own, names[name], slots)
        if embedding_hardware.holds_tables(topology):
            return self._finish_on_hardware(tables, names, spec, topology, source)
        if embedding_ids.stay_on_host(topology):
            padded = {key: self._pad_ids(key, f) for key, f in self.embeddings.features.items()}
            for_cores = [tensor for ids in padded.values() for tensor in ids.tensors]
            update = self._finish_on_variables(tables, spec, topology, source, padded)
            return update, HostStep(self.encoded, (*self.lengths.values(), *for_cores))
        return self._finish_on_variables(tables, spec, topology, source), None

    def _pad_ids(self, key, feature):
        table, batch_size = self.embeddings.tables[feature.table_id], self.activations[key].shape[0]
        return embedding_ids.pad_ids(
            key, table, feature, self.ids[key], self.weights.get(key), int(batch_size)
        )

    def _finish_on_variables(self, tables, spec, topology, source, padded=None):
        slices_of = {}
        for key in self.embeddings.features:
            found, slices_of[key] = self._look_up(key, tables, padded)
            source.substitute(self.activations[key], found)
        if spec.mode != ModeKeys.TRAIN:
            return None
        self._count_after_reading(source)
        gradients = self._gradients(spec.loss, topology.num_replicas)
        updates = []
        for name, table in tables.items():
            keys = [k for k, f in self.embeddings.features.items() if f.table_id == name]
            slices = [slices_of[k](gradients[k]) for k in keys if gradients[k] is not None]
            if slices:
                updates.append(table.update(slices, self.global_step, topology.num_replicas))
        return tf.group(*updates)

    def _look_up(self, key, tables, padded):
        """Gives what is found in a feature's table, and what makes of its gradient that of the rows."""
        feature, shape = self.embeddings.features[key], self.activations[key].shape
        table = tables[feature.table_id]
        if padded is not None:
            return tf.reshape(padded[key].look_up(table.weights), shape), padded[key].slices
        found = look_up(table, feature, self.ids[key], self.weights.get(key))
        found.set_shape(shape)
        return found, functools.partial(table.slices, found)

    def _finish_on_hardware(self, tables, names, spec, topology, source):
        features = self.embeddings.features
        on_tpu = [
            HardwareTable(name, table.config, table.parameters, table.variable_names(names[name]))
            for name, table in tables.items()
        ]
        shapes = [self.activations[key].shape.as_list() for key in features]
        configuration = embedding_hardware.configure(
            on_tpu,
            features,
            [shape[:-1] for shape in shapes],
            topology.num_hosts,
            topology.num_replicas,
        )
        received = embedding_hardware.receive(configuration, shapes)
        for key, activations in zip(features, received):
            source.substitute(self.activations[key], activations)
        update = None
        if spec.mode == ModeKeys.TRAIN:
            self._count_after_reading(source)
            gradients = self._gradients(spec.loss, topology.num_replicas)
            rates = [
                tf.cast(rate(self.global_step), tf.float32)
                for rate in embedding_hardware.learning_rate_fns(on_tpu)
            ]
            update = embedding_hardware.send(
                configuration,
                [
                    tf.zeros(shape)
                    if gradients[key] is None
                    else tf.cast(gradients[key], tf.float32)
                    for key, shape in zip(features, shapes)
                ],
                rates,
            )
        step = HardwareStep(
            configuration,
            tuple(on_tpu),
            tuple(self._enqueued(key, feature) for key, feature in features.items()),
            spec.mode == ModeKeys.TRAIN,
        )
        return update, HostStep(self.encoded, tuple(self.lengths.values()), step)

    def _enqueued(self, key, feature):
        ids = self.ids[key]
        if self.embeddings.tables[feature.table_id].combiner is not None:
            ids = as_sparse(ids)
        return embedding_hardware.enqueued(feature, ids, self.weights.get(key))

    def _count_after_reading(self, source):
        """Has the step be counted after it was read, by data: TensorFlow's dependency optimizer (2.21) drops the order."""
        zero = tf.minimum(self.global_step, 0)
        step = tf.compat.v1.train.get_global_step()
        for operation in tf.compat.v1.get_default_graph().get_operations():
            counts = operation.type.startswith("Assign") and operation.inputs[0] is step.handle
            is_initializer = step.initializer is operation
            if counts and not is_initializer:
                source.replace_input(operation, 1, operation.inputs[1] + zero)

    def _gradients(self, loss, num_replicas):
        """Gives the activations' gradients, scaled as `CrossShardOptimizer` scales the others."""
        keys = list(self.activations)
        multiplier = self.embeddings.spec.experimental_gradient_multiplier_fn
        scale = tf.constant(1.0 / num_replicas, loss.dtype)
        if multiplier is not None:
            scale *= tf.cast(multiplier(self.global_step), loss.dtype)
        found = tf.gradients(loss, [self.activations[key] for key in keys])
        return {
            key: None if gradient is None else gradient * scale
            for key, gradient in zip(keys, found)
        }


def _untouched_variable() -> tf.Tensor:
    """Makes a variable for the model's optimizer: there may be no other, and without any it refuses to work."""
    collections = [
        tf.compat.v1.GraphKeys.LOCAL_VARIABLES,
        tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES,
    ]
    return tf.compat.v1.get_variable(
        "tpu_embedding/dummy_table_variable",
        [],
        tf.float32,
        tf.compat.v1.zeros_initializer(),
        collections=collections,
    )


def _variable_names(embeddings: Embeddings) -> dict[str, str]:
    """Gives each table's variable: where the column was used, or the table's own name."""
    if embeddings.spec.feature_columns is None:
        return {table: table for table in embeddings.tables}
    scopes = tf.compat.v1.get_collection_ref(_tf.SCOPES_OF_COLUMNS)
    if embeddings.tables and not scopes:
        raise RuntimeError(
            "Embedding feature column did not capture any thing. Make sure the feature columns passed to "
            "TPUEstimator constructor is properly used in model_fn."
        )
    names = {}
    for table in embeddings.tables:
        scope, name = scopes[0][embedding_config.variable_of_table(table)]
        names[table] = f"{scope}/{name}" if scope else name
    tf.compat.v1.get_default_graph().clear_collection(_tf.SCOPES_OF_COLUMNS)
    return names


def _sequence_lengths(ids: tf.SparseTensor, batch_size: int, length: int) -> tf.Tensor:
    """Counts the places up to the last one that an example has, at most `length`: int64 `[batch]`."""
    ends = tf.math.unsorted_segment_max(ids.indices[:, 1] + 1, ids.indices[:, 0], batch_size)
    return tf.clip_by_value(ends, 0, length)


@dataclasses.dataclass(frozen=True)
class SparseKind:
    """What a string of the pipeline no longer tells.

    Attributes:
      dtype: of the values.
      rank: of the batch.
      width: places of an example, or of a place of a sequence; `None` if unknown.
    """

    dtype: tf.DType
    rank: int
    width: int | None = None


def kinds_of(features: dict) -> dict[str, SparseKind]:
    """Describes the sparse tensors among features, or among what describes features."""
    return {
        key: SparseKind(value.dtype, value.shape.rank or 2, _width(value.shape))
        for key, value in features.items()
        if isinstance(value, (tf.SparseTensor, tf.SparseTensorSpec))
    }


def _width(shape: tf.TensorShape) -> int | None:
    return shape.as_list()[-1] if shape.rank and shape.rank > 1 else None


def _encode(sparse: tf.SparseTensor, batch_size: int | None) -> tf.Tensor:
    encoded = tf.io.serialize_many_sparse(sparse)
    return tf.ensure_shape(encoded, [sparse.shape.as_list()[0] or batch_size, 3])


def _decode(encoded: tf.Tensor, kind: SparseKind | None) -> Any:
    if encoded.dtype != tf.string:
        return encoded
    sparse = tf.io.deserialize_many_sparse(encoded, kind.dtype, kind.rank)
    decoded = tf.SparseTensor(
        tf.ensure_shape(sparse.indices, [None, kind.rank]),
        sparse.values,
        tf.ensure_shape(sparse.dense_shape, [kind.rank]),
    )
    decoded.set_shape([*[None] * (kind.rank - 1), kind.width])
    return decoded


def _check_ids(key: str, ids: Any) -> None:
    if not ids.dtype.is_integer:
        raise ValueError(
            "SparseTensor with string as values are not supported. If you are using "
            "categorical_column_with_vocabulary_file or categorical_column_with_vocabulary_list, please call "
            "your_column.categorical_column._transform_feature({your_column.key: features[your_column.key]}) in "
            f"your input_fn() to convert string to int. feature_key = {key}."
        )


def _taken_weights(key: str, features: dict) -> tf.SparseTensor:
    """Takes weights out of the features: each is for one feature, as in the original."""
    if key not in features:
        raise ValueError(
            f"Cannot find weights {key} for weighted_categorical_column. Please check if the weights are present "
            "in feature dict. Also note weight-sharing among weighted_categorical_column is not supported on TPU."
        )
    if not isinstance(features[key], tf.SparseTensor):
        raise ValueError(
            f"weighted_categorical_column with weight key name {key} has dense weights. Dense weights are not "
            "supported on TPU. Please use sparse weights instead."
        )
    return features.pop(key)


def check_is_possible(topology: Topology) -> None:
    """Refuses a TPU that has no hardware for embeddings.

    Raises:
      UnsupportedError: so it is, or a replica has several cores.
    """
    if not topology.is_tpu:
        return
    if topology.cores_per_replica is not None:
        raise errors.UnsupportedError(
            "embedding_config_spec with num_cores_per_replica on a TPU",
            "Leave num_cores_per_replica out, or keep the tables as variables of model_fn.",
        )
    embedding_hardware.check_hardware(topology.strategy)
