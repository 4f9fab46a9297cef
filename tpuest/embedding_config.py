"""What the user says about embedding tables: `EmbeddingConfigSpec`, the tables, the features, their optimizers.

Takes the arguments of `tf.compat.v1.estimator.tpu.experimental.EmbeddingConfigSpec`; gives tables and features by name,
from which `embeddings` builds lookups and updates. TensorFlow 2.16 and later lack these classes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tpuest import _tf

_TABLE_PREFIX = "tbl_"


class OptimizationParameters:
    """How tables are updated; not by the model's optimizer.

    The fields that all kinds have: `learning_rate`; `use_gradient_accumulation`, whether the cores' gradients are added up
    before one update, rather than applied one after the other; `clip_weight_min`, `clip_weight_max`,
    `weight_decay_factor`, `multiply_weight_decay_factor_by_learning_rate`, `clip_gradient_min`, `clip_gradient_max`.
    """

    def __post_init__(self):
        clips = self.clip_gradient_min is not None or self.clip_gradient_max is not None
        if clips and not self.use_gradient_accumulation:
            raise ValueError(
                "When using gradient clipping limits, gradient accumulation must be enabled."
            )


@dataclasses.dataclass(frozen=True)
class StochasticGradientDescentParameters(OptimizationParameters):
    """Gradient descent."""

    learning_rate: float
    use_gradient_accumulation: bool = True
    clip_weight_min: float | None = None
    clip_weight_max: float | None = None
    weight_decay_factor: float | None = None
    multiply_weight_decay_factor_by_learning_rate: bool | None = None
    clip_gradient_min: float | None = None
    clip_gradient_max: float | None = None


@dataclasses.dataclass(frozen=True)
class AdagradParameters(OptimizationParameters):
    """Adagrad."""

    learning_rate: float
    initial_accumulator: float = 0.1
    use_gradient_accumulation: bool = True
    clip_weight_min: float | None = None
    clip_weight_max: float | None = None
    weight_decay_factor: float | None = None
    multiply_weight_decay_factor_by_learning_rate: bool | None = None
    clip_gradient_min: float | None = None
    clip_gradient_max: float | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.initial_accumulator <= 0:
            raise ValueError(
                "Adagrad initial_accumulator must be greater than zero. "
                f"Received: {self.initial_accumulator}."
            )


@dataclasses.dataclass(frozen=True)
class AdamParameters(OptimizationParameters):
    """Adam, without correction of the first steps' bias; `lazy_adam` leaves rows alone that a batch doesn't have."""

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-08
    lazy_adam: bool = True
    sum_inside_sqrt: bool = True
    use_gradient_accumulation: bool = True
    clip_weight_min: float | None = None
    clip_weight_max: float | None = None
    weight_decay_factor: float | None = None
    multiply_weight_decay_factor_by_learning_rate: bool | None = None
    clip_gradient_min: float | None = None
    clip_gradient_max: float | None = None

    def __post_init__(self):
        super().__post_init__()
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ValueError(f"{name} must be between 0. and 1; got {value}.")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon must be positive; got {self.epsilon}.")
        if not self.use_gradient_accumulation and not self.lazy_adam:
            raise ValueError(
                "When disabling lazy Adam (`lazy_adam=False`), gradient accumulation must be used. "
                "Set `use_gradient_accumulation` to True."
            )


@dataclasses.dataclass(frozen=True)
class FtrlParameters(OptimizationParameters):
    """Follow the regularized leader."""

    learning_rate: float
    learning_rate_power: float = -0.5
    initial_accumulator_value: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    use_gradient_accumulation: bool = True
    clip_weight_min: float | None = None
    clip_weight_max: float | None = None
    weight_decay_factor: float | None = None
    multiply_weight_decay_factor_by_learning_rate: bool | None = None
    multiply_linear_by_learning_rate: bool = False
    beta: float = 0
    allow_zero_accumulator: bool = False
    clip_gradient_min: float | None = None
    clip_gradient_max: float | None = None


@dataclasses.dataclass(frozen=True)
class MomentumParameters(OptimizationParameters):
    """Gradient descent with momentum."""

    learning_rate: float
    momentum: float
    use_nesterov: bool = False
    use_gradient_accumulation: bool = True
    clip_weight_min: float | None = None
    clip_weight_max: float | None = None
    weight_decay_factor: float | None = None
    multiply_weight_decay_factor_by_learning_rate: bool | None = None
    clip_gradient_min: float | None = None
    clip_gradient_max: float | None = None


@dataclasses.dataclass(frozen=True)
class RMSPropParameters(OptimizationParameters):
    """RMSProp."""

    learning_rate: float
    rho: float
    momentum: float
    epsilon: float
    use_gradient_accumulation: bool = True
    clip_weight_min: float | None = None
    clip_weight_max: float | None = None
    weight_decay_factor: float | None = None
    multiply_weight_decay_factor_by_learning_rate: bool | None = None
    clip_gradient_min: float | None = None
    clip_gradient_max: float | None = None


@dataclasses.dataclass(frozen=True)
class ProximalAdagradParameters(OptimizationParameters):
    """Adagrad with regularization."""

    learning_rate: float
    initial_accumulator: float = 0.1
    l1_regularization_strength: float = 0.0
    l2_regularization_strength: float = 0.0
    use_gradient_accumulation: bool = True
    clip_weight_min: float | None = None
    clip_weight_max: float | None = None
    weight_decay_factor: float | None = None
    multiply_weight_decay_factor_by_learning_rate: bool | None = None
    clip_gradient_min: float | None = None
    clip_gradient_max: float | None = None


class _TableFields(NamedTuple):
    vocabulary_size: int
    dimension: int
    initializer: Any
    combiner: str | None
    hot_id_replication: bool
    learning_rate: float | None
    learning_rate_fn: Callable | None
    optimization_parameters: OptimizationParameters | None


class TableConfig(_TableFields):
    """A table: `[vocabulary_size, dimension]`, float32."""

    def __new__(
        cls,
        vocabulary_size: int,
        dimension: int,
        initializer: Any = None,
        combiner: str | None = "mean",
        hot_id_replication: bool = False,
        learning_rate: float | None = None,
        learning_rate_fn: Callable | None = None,
        optimization_parameters: OptimizationParameters | None = None,
    ) -> TableConfig:
        """Checks the settings.

        Args:
          vocabulary_size: number of rows.
          dimension: number of columns.
          initializer: gives the table's first values; `None` for a truncated normal of deviation 1/sqrt(dimension).
          combiner: how the rows of one example are joined: 'mean', 'sum', 'sqrtn', or `None` for one row each.
          hot_id_replication: accepted, without effect.
          learning_rate: the table's own; `None` for the optimizer's.
          learning_rate_fn: gives it from the global step.
          optimization_parameters: the table's own; `None` for the spec's.

        Raises:
          ValueError: a setting is out of its range.
        """
        if not isinstance(vocabulary_size, int) or vocabulary_size < 1:
            raise ValueError(f"vocabulary_size must >= 1. Received: {vocabulary_size}.")
        if not isinstance(dimension, int) or dimension < 1:
            raise ValueError(f"dimension must be a positive int. Received: {dimension}.")
        if initializer is not None and not callable(initializer):
            raise ValueError(f"initializer must be callable if specified. Received: {initializer}.")
        if combiner not in ("mean", "sum", "sqrtn", None):
            raise ValueError(
                f'combiner must be "mean", "sum", "sqrtn" or None. Received: {combiner}.'
            )
        if learning_rate is not None and learning_rate_fn is not None:
            raise ValueError(
                "At most one of learning_rate and learning_rate_fn can be None. "
                f"Received: {learning_rate} and {learning_rate_fn}"
            )
        if initializer is None:
            deviation = 1 / math.sqrt(dimension)
            initializer = tf.compat.v1.truncated_normal_initializer(mean=0.0, stddev=deviation)
        return super().__new__(
            cls,
            vocabulary_size,
            dimension,
            initializer,
            combiner,
            hot_id_replication,
            learning_rate,
            learning_rate_fn,
            optimization_parameters,
        )


class _FeatureFields(NamedTuple):
    table_id: str
    max_sequence_length: int
    weight_key: str | None


class FeatureConfig(_FeatureFields):
    """A feature: ids that are looked up in a table."""

    def __new__(
        cls, table_id: str, max_sequence_length: int = 0, weight_key: str | None = None
    ) -> FeatureConfig:
        """Checks the settings.

        Args:
          table_id: the table's name.
          max_sequence_length: rows kept of a sequence; 0 for a feature whose rows are combined.
          weight_key: the feature that weighs the rows; `None` for equal weights.

        Raises:
          ValueError: the length is negative or no integer.
        """
        if not isinstance(max_sequence_length, int) or max_sequence_length < 0:
            raise ValueError(
                f"max_sequence_length must be zero or a positive int, got {max_sequence_length}."
            )
        return super().__new__(cls, table_id, max_sequence_length, weight_key)


class _SpecFields(NamedTuple):
    feature_columns: Sequence | None
    tensor_core_feature_columns: Sequence | None
    optimization_parameters: OptimizationParameters | None
    clipping_limit: float | None
    pipeline_execution_with_tensor_core: bool
    experimental_gradient_multiplier_fn: Callable | None
    feature_to_config_dict: dict | None
    table_to_config_dict: dict | None
    partition_strategy: str
    profile_data_directory: str | None


class EmbeddingConfigSpec(_SpecFields):
    """Which features are embedded, in which tables, and how these are updated."""

    def __new__(
        cls,
        feature_columns: Sequence | None = None,
        optimization_parameters: OptimizationParameters | None = None,
        clipping_limit: float | None = None,
        pipeline_execution_with_tensor_core: bool = False,
        experimental_gradient_multiplier_fn: Callable | None = None,
        feature_to_config_dict: dict | None = None,
        table_to_config_dict: dict | None = None,
        partition_strategy: str = "div",
        profile_data_directory: str | None = None,
    ) -> EmbeddingConfigSpec:
        """Checks the settings.

        Args:
          feature_columns: of `tf.compat.v1.tpu.experimental.embedding_column` and `shared_embedding_columns`.
          optimization_parameters: updates the tables; the model's optimizer doesn't.
          clipping_limit: accepted, without effect, as in the original.
          pipeline_execution_with_tensor_core: accepted, without effect: each step sees the updates of the one before.
          experimental_gradient_multiplier_fn: gives from the global step what gradients of the tables are multiplied by.
          feature_to_config_dict: feature's key to `FeatureConfig`, instead of `feature_columns`.
          table_to_config_dict: table's name to `TableConfig`, instead of `feature_columns`.
          partition_strategy: 'div' or 'mod'.
          profile_data_directory: accepted, without effect.

        Raises:
          ValueError: both columns and configurations are given, or neither; or a setting has an unknown value.
          TypeError: a column or configuration is of another type.
        """
        has_configs = bool(feature_to_config_dict and table_to_config_dict)
        if bool(feature_columns) == has_configs:
            raise ValueError(
                "Exactly one of `feature_columns` and the pair `feature_to_config_dict` and "
                "`table_to_config_dict` must be be specified."
            )
        if partition_strategy not in ("div", "mod"):
            raise ValueError(
                f'Invalid partition_strategy {partition_strategy}. Must be one of "mod" or "div".'
            )
        on_cores, embedded = None, None
        if feature_columns:
            on_cores = [c for c in feature_columns if _tf.is_tensor_core_column(c)]
            embedded = [c for c in feature_columns if not _tf.is_tensor_core_column(c)]
            _check_columns(feature_columns, optimization_parameters)
        else:
            _check_configs(feature_to_config_dict, table_to_config_dict)
        return super().__new__(
            cls,
            embedded,
            on_cores,
            optimization_parameters,
            clipping_limit,
            pipeline_execution_with_tensor_core,
            experimental_gradient_multiplier_fn,
            feature_to_config_dict,
            table_to_config_dict,
            partition_strategy,
            profile_data_directory,
        )


def _check_columns(feature_columns, optimization_parameters):
    for column in feature_columns:
        _, supported = _tf.embedding_columns()
        if not isinstance(column, supported):
            raise TypeError(
                f"All feature columns must be supported types in {supported}. Got {type(column)}"
            )
    if not isinstance(optimization_parameters, OptimizationParameters):
        raise ValueError(
            "optimization_parameters must be an instance of type AdagradParameters, AdamParameters, "
            "FtrlParameters, MomentumParameters, ProximalAdagradParameters, RMSPropParameters or "
            f"StochasticGradientDescentParameters. Got {type(optimization_parameters)}."
        )


def _check_configs(features, tables):
    for feature, config in features.items():
        if not isinstance(config, FeatureConfig):
            raise TypeError(
                f"Config for feature {feature} must be of type `FeatureConfig`. Got {type(config)}"
            )
        if config.table_id not in tables:
            raise ValueError(
                f"Feature {feature} refers to table {config.table_id} which is not in the "
                "table_to_config_dict."
            )
    for table, config in tables.items():
        if not isinstance(config, TableConfig):
            raise TypeError(
                f"Config for table {table} must be of type `TableConfig`. Got {type(config)}"
            )


def get_configs_from_feature_columns(feature_columns: Sequence) -> tuple[dict, dict]:
    """Gives table's name to `TableConfig`, and feature's key to `FeatureConfig`.

    Raises:
      TypeError: a column isn't one of TPU embeddings.
      ValueError: a feature has two embeddings.
    """
    tables, features = {}, {}
    for column in feature_columns:
        supported, _ = _tf.embedding_columns()
        if not isinstance(column, supported):
            raise TypeError(
                f"Unsupported feature column {type(column)}. Supported types are {supported}."
            )
        feature, table = column.get_feature_key_name(), table_name(column.get_embedding_var_name())
        if feature in features:
            raise ValueError(
                f"Feature column {feature} is used with multiple embeddings and this is not supported."
            )
        features[feature] = FeatureConfig(
            table, column.get_max_sequence_length(), column.get_weight_key_name()
        )
        vocabulary_size, dimension = column.get_embedding_table_size()
        tables[table] = TableConfig(
            vocabulary_size=vocabulary_size,
            dimension=dimension,
            initializer=column.get_initializer(),
            combiner=column.get_combiner(),
            learning_rate_fn=column.get_learning_rate_fn(),
        )
    return tables, features


def table_name(variable_name: str) -> str:
    """Names the table of a column's variable."""
    return _TABLE_PREFIX + variable_name


def variable_of_table(name: str) -> str:
    """Names the column's variable of a table."""
    return name.removeprefix(_TABLE_PREFIX)
