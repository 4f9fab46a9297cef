"""`DenseFeatures` and `SequenceFeatures` without Keras 2: feature columns' tensors, concatenated.

Takes features by key; gives float32 tensors. Variables are named as Keras's: dense_features/x_embedding/embedding_weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf

v1 = tf.compat.v1
# Collection of a graph: the name of each layer, before it was numbered.
_NAMES = "tpuest_feature_layers"


class _FeatureLayer:
    """Makes the columns' variables once, in scopes of the layer and the column."""

    default_name = "features"

    def __init__(
        self, feature_columns: Any, trainable: bool = True, name: str | None = None, **_: Any
    ):
        """Makes a layer.

        Args:
          feature_columns: a column, or a sequence of columns.
          trainable: whether the columns' variables are.
          name: of the layer; `None` numbers those of the graph.
        """
        columns = feature_columns if isinstance(feature_columns, Sequence) else [feature_columns]
        self._columns = sorted(columns, key=lambda column: column.name)
        self._state = _Variables(trainable)
        self.name = name or _unique_name(self.default_name)
        self._is_built = False

    def _cache(self, features: dict) -> Any:
        if not self._is_built:
            self._is_built = True
            with v1.variable_scope(self.name, auxiliary_name_scope=False):
                for column in self._columns:
                    with v1.variable_scope(column.name, auxiliary_name_scope=False):
                        column.create_state(self._state)
        return _tf.FeatureTransformationCache(features)


class DenseFeatures(_FeatureLayer):
    """Gives the columns' values side by side: `[batch, sum of the columns' sizes]`."""

    default_name = "dense_features"

    def __call__(self, features: dict, *_: Any, **__: Any) -> tf.Tensor:
        cache = self._cache(features)
        values = []
        for column in self._columns:
            with v1.name_scope(column.name):
                value = column.get_dense_tensor(cache, self._state)
                batch_size = value.shape.as_list()[0]
                size = column.variable_shape.num_elements()
                values.append(tf.reshape(value, [batch_size or tf.shape(value)[0], size]))
        return tf.concat(values, -1)


class SequenceFeatures(_FeatureLayer):
    """Gives the columns' values of each place, `[batch, time, sizes]`, and each example's number of places."""

    default_name = "sequence_features"

    def __call__(self, features: dict, *_: Any, **__: Any) -> tuple[tf.Tensor, tf.Tensor]:
        cache = self._cache(features)
        values, lengths = [], []
        for column in self._columns:
            with v1.name_scope(column.name):
                value, length = column.get_sequence_dense_tensor(cache, self._state)
                size = column.variable_shape.num_elements()
                static = value.shape.as_list()[:2]
                dynamic = tf.unstack(tf.shape(value))[:2]
                shape = [known or unknown for known, unknown in zip(static, dynamic)]
                values.append(tf.reshape(value, [*shape, size]))
                lengths.append(length)
        return tf.concat(values, -1), _agreed(lengths)


def _agreed(lengths: list[tf.Tensor]) -> tf.Tensor:
    first, *others = lengths
    checks = [v1.assert_equal(first, other) for other in others]
    with tf.control_dependencies(checks):
        return tf.identity(first)


def _unique_name(name: str) -> str:
    number = v1.get_collection(_NAMES).count(name)
    v1.add_to_collection(_NAMES, name)
    return f"{name}_{number}" if number else name


class _Variables(_tf.StateManager):
    """Keeps the columns' variables and tables of lookup."""

    def __init__(self, trainable: bool):
        self._trainable = trainable
        self._made: dict[tuple, Any] = {}

    def create_variable(
        self,
        feature_column: Any,
        name: str,
        shape: Any,
        dtype: Any = None,
        trainable: bool = True,
        use_resource: bool = True,
        initializer: Any = None,
    ) -> Any:
        key = (feature_column, name)
        if key in self._made:
            raise ValueError("Variable already exists.")
        self._made[key] = v1.get_variable(
            name, shape, dtype or tf.float32, initializer, trainable=trainable and self._trainable
        )
        return self._made[key]

    def get_variable(self, feature_column: Any, name: str) -> Any:
        if (feature_column, name) not in self._made:
            raise ValueError("Variable does not exist.")
        return self._made[feature_column, name]

    def add_resource(self, feature_column: Any, name: str, resource: Any) -> None:
        self._made[feature_column, name] = resource

    def has_resource(self, feature_column: Any, name: str) -> bool:
        return (feature_column, name) in self._made

    def get_resource(self, feature_column: Any, name: str) -> Any:
        return self._made[feature_column, name]
