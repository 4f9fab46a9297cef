"""Tables in a TPU's own memory for embeddings: what it is told of them, and what goes there and back.

Takes tables, features and optimizers; gives the operations by which a TPU looks up and updates. The variables of the
program's graph are the tables' shadows on the host: initialisers and checkpoints know these alone.

    variables -> load -> TPU                     before the first step, and after a restore
    host:  enqueue(ids of each core)             each step
    core:  receive() -> activations; send(gradients)
    TPU -> retrieve -> variables                 before a host reads them: a checkpoint
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf, errors
from tpuest import embedding_config as config
from tpuest.embedding_config import FeatureConfig, TableConfig
from tpuest.embedding_updates import slots_of
from tpuest.topology import Topology

_KINDS = {
    config.StochasticGradientDescentParameters: "stochastic_gradient_descent",
    config.AdagradParameters: "adagrad",
    config.ProximalAdagradParameters: "proximal_adagrad",
    config.AdamParameters: "adam",
    config.FtrlParameters: "ftrl",
    config.MomentumParameters: "momentum",
    config.RMSPropParameters: "rms_prop",
}


@dataclasses.dataclass(frozen=True)
class HardwareTable:
    """A table in the TPU's memory.

    Attributes:
      name: in the TPU's configuration.
      config: the table's.
      parameters: its optimizer.
      variables: names of the graph's variables: the table's and its slots'. Only training makes the latter.
    """

    name: str
    config: TableConfig
    parameters: config.OptimizationParameters
    variables: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The optimizer's, in the names of TensorFlow's operations."""
        return _KINDS[type(self.parameters)]


@dataclasses.dataclass(frozen=True)
class HardwareStep:
    """What a step does with the TPU's memory; the cores' part is in the program's graph.

    Attributes:
      configuration: a serialized `TPUEmbeddingConfiguration`.
      tables: in its order.
      ids: of each feature, in its order: tensors of the graph, three of `enqueued`.
      trains: whether gradients come back.
    """

    configuration: bytes
    tables: tuple[HardwareTable, ...]
    ids: tuple[tuple[tf.Tensor, ...], ...]
    trains: bool

    @property
    def variables(self) -> frozenset[str]:
        """Names the graph's variables that the TPU has instead of the cores."""
        return frozenset(name for table in self.tables for name in table.variables)

    def enqueue(self, ids: Sequence[tf.Tensor], device: str) -> None:
        """Hands one core's ids to the TPU, from its host.

        Args:
          ids: values of `ids`, flat.
          device: the core's.
        """
        with tf.device(_tf.host_of(device)):
            _tf.tpu_embedding_ops().enqueue_tpu_embedding_arbitrary_tensor_batch(
                sample_indices_or_row_splits=list(ids[0::3]),
                embedding_indices=list(ids[1::3]),
                aggregation_weights=list(ids[2::3]),
                combiners=[table.config.combiner or "sum" for table in self.tables],
                device_ordinal=tf.DeviceSpec.from_string(device).device_index,
                mode_override="train" if self.trains else "inference",
            )


def holds_tables(topology: Topology) -> bool:
    """Says whether tables are in memory of their own, rather than variables."""
    return topology.is_tpu and _tf.embedding_feature(topology.strategy) == "V1"


def check_hardware(strategy: tf.distribute.TPUStrategy) -> None:
    """Refuses a TPU without hardware for embeddings; says so if it has some that is not used.

    Raises:
      UnsupportedError: it has none.
    """
    feature = _tf.embedding_feature(strategy)
    if feature == "V2":
        _tell_of_unused_hardware(strategy)
    elif feature != "V1":
        raise errors.UnsupportedError(
            "embedding_config_spec on a TPU that has no hardware for embeddings",
            "Keep the tables as variables of model_fn (tf.compat.v1.get_variable, tf.nn.embedding_lookup), which are "
            "on every core, or run with use_tpu=False.",
        )


@functools.cache
def _tell_of_unused_hardware(strategy: tf.distribute.TPUStrategy) -> None:
    """Says once what becomes of the tables."""
    tf.compat.v1.logging.warn(
        "The tables of embedding_config_spec are variables, whole on every core: they and their optimizers' slots must "
        "fit into its memory. The TPU's SparseCores are not used."
    )


def configure(
    tables: Sequence[HardwareTable],
    features: Mapping[str, FeatureConfig],
    shapes: Sequence[Sequence[int]],
    num_hosts: int,
    num_cores: int,
) -> bytes:
    """Describes tables and features to a TPU: a serialized `TPUEmbeddingConfiguration`.

    Args:
      tables: in the order in which they are numbered.
      features: feature's key to its configuration.
      shapes: of each feature's lookups on one core, without the table's dimension.
      num_hosts: of the TPU.
      num_cores: of the TPU.
    """
    message = _tf.tpu_embedding_configuration()
    numbers = {table.name: number for number, table in enumerate(tables)}
    rate_fns = learning_rate_fns(tables)
    for table in tables:
        # At least one row for each host.
        described = message.table_descriptor.add(
            name=table.name,
            vocabulary_size=max(table.config.vocabulary_size, num_hosts),
            dimension=table.config.dimension,
        )
        parameters = described.optimization_parameters
        if table.config.learning_rate_fn is not None:
            parameters.learning_rate.dynamic.tag = rate_fns.index(table.config.learning_rate_fn)
        else:
            rate = table.config.learning_rate
            constant = table.parameters.learning_rate if rate is None else rate
            parameters.learning_rate.constant = constant
        _describe_optimizer(table, parameters)
    for (key, feature), shape in zip(features.items(), shapes, strict=True):
        message.feature_descriptor.add(
            name=key, table_id=numbers[feature.table_id], input_shape=list(shape)
        )
    message.mode = message.TRAINING
    message.num_hosts, message.num_tensor_cores = num_hosts, num_cores
    message.sharding_strategy = message.DIV_DEFAULT
    return message.SerializeToString(deterministic=True)


def learning_rate_fns(tables: Sequence[HardwareTable]) -> list[Callable]:
    """Lists the functions that give learning rates, each once, in the order in which a core sends them."""
    given = (table.config.learning_rate_fn for table in tables)
    return list(dict.fromkeys(function for function in given if function is not None))


def _describe_optimizer(table: HardwareTable, message: Any) -> None:
    own = table.parameters
    is_summed = own.use_gradient_accumulation
    message.gradient_accumulation_status = 1 + (not is_summed)
    for limits, (smallest, largest) in (
        (message.clipping_limits, (own.clip_weight_min, own.clip_weight_max)),
        (message.gradient_clipping_limits, (own.clip_gradient_min, own.clip_gradient_max)),
    ):
        if smallest is not None:
            limits.lower.value = smallest
        if largest is not None:
            limits.upper.value = largest
    if own.weight_decay_factor:
        message.weight_decay_factor = own.weight_decay_factor
        message.multiply_weight_decay_factor_by_learning_rate = bool(
            own.multiply_weight_decay_factor_by_learning_rate
        )
    settings = getattr(message, table.kind)
    settings.SetInParent()
    for name, value in _settings(own).items():
        setattr(settings, name, value)


def _settings(own: config.OptimizationParameters) -> dict:
    """Gives an optimizer's own settings, by their names in `optimization_parameters.proto`."""
    match own:
        case config.AdamParameters():
            return {
                "beta1": own.beta1,
                "beta2": own.beta2,
                "epsilon": own.epsilon,
                "use_non_lazy_adam": not own.lazy_adam,
                "use_sum_inside_sqrt": own.sum_inside_sqrt,
            }
        case config.FtrlParameters():
            return {
                "l1": own.l1_regularization_strength,
                "l2": own.l2_regularization_strength,
                "lr_power": own.learning_rate_power,
                "beta": own.beta,
                "multiply_linear_by_lr": own.multiply_linear_by_learning_rate,
                "allow_zero_accumulator": own.allow_zero_accumulator,
            }
        case config.MomentumParameters():
            return {"momentum": own.momentum, "use_nesterov": own.use_nesterov}
        case config.RMSPropParameters():
            return {"rho": own.rho, "momentum": own.momentum, "epsilon": own.epsilon}
        case config.ProximalAdagradParameters():
            return {"l1": own.l1_regularization_strength, "l2": own.l2_regularization_strength}
    return {}


def receive(configuration: bytes, shapes: Sequence[Sequence[int]]) -> list[tf.Tensor]:
    """Builds, in the program's graph, what a core gets: float32 `[*shape, dimension]` for each feature."""
    activations = _tf.tpu_embedding_ops().recv_tpu_embedding_activations(
        num_outputs=len(shapes), config=configuration
    )
    for tensor, shape in zip(activations, shapes):
        tensor.set_shape(shape)
    return activations


def send(configuration: bytes, gradients: list[tf.Tensor], rates: list[tf.Tensor]) -> tf.Operation:
    """Builds, in the program's graph, the update of the tables by one core's gradients.

    Args:
      configuration: see `configure`.
      gradients: of what `receive` gave.
      rates: learning rates, of `learning_rate_fns`.
    """
    return _tf.tpu_embedding_ops().send_tpu_embedding_gradients(
        inputs=gradients, learning_rates=rates, config=configuration
    )


def enqueued(feature: FeatureConfig, ids: Any, weights: Any) -> tuple[tf.Tensor, ...]:
    """Gives a feature's ids as a TPU takes them.

    Args:
      feature: its configuration.
      ids: sparse, or dense int `[batch_size]` or `[batch_size, 1]`.
      weights: sparse float32, of the same places; `None` for equal weights.

    Returns:
      int32 indices of examples (and places of a sequence), none of dense ids; int64 ids; float32 weights, none if equal.
    """
    no_weights = tf.zeros([0], tf.float32)
    if not isinstance(ids, tf.SparseTensor):
        flat = tf.cast(tf.reshape(ids, [-1]), tf.int64)
        return tf.zeros([0], tf.int32), flat, no_weights
    indices, values = ids.indices, tf.cast(ids.values, tf.int64)
    given = no_weights if weights is None else weights.values
    if feature.max_sequence_length:
        kept = indices[:, 1] < feature.max_sequence_length
        indices, values = tf.boolean_mask(indices, kept), tf.boolean_mask(values, kept)
        given = given if weights is None else tf.boolean_mask(given, kept)
        if indices.shape.as_list()[1] == 2:
            indices = tf.pad(indices, [[0, 0], [0, 1]])
    return tf.cast(indices, tf.int32), values, given


class HardwareTables:
    """One set of variables' tables, in a TPU's memory or waiting for it.

    Attributes:
      is_newer: whether the TPU has trained them since the variables got their values.
    """

    def __init__(self, memory: HardwareMemory, find_variable: Callable):
        """Makes them.

        Args:
          memory: the TPU's.
          find_variable: gives the live variable of a name in graphs, `None` if there is none with a value.
        """
        self._memory = memory
        self._find_variable = find_variable
        self.is_newer = False

    def place(self, step: HardwareStep) -> None:
        """Has the TPU hold these tables, before a step.

        Raises:
          UnsupportedError: the TPU has been configured for others.
        """
        self._memory.hold(self, step)
        self.is_newer = self.is_newer or step.trains

    def fetch(self) -> None:
        """Brings the variables up to date, before a host reads them."""
        if self.is_newer:
            self._memory.retrieve(self)
            self.is_newer = False

    def note_written(self) -> None:
        """Says that a host changed the variables: they are loaded before the next step."""
        self._memory.forget(self)

    def variables(self, table: HardwareTable) -> list[tf.Variable | None]:
        """Gives a table's variable and its slots', `None` for those that have no value yet."""
        with tf.init_scope():
            return [self._find_variable(name) for name in table.variables]

    def values(self, table: HardwareTable) -> list[tf.Tensor]:
        """Gives a table and its slots; of slots that training has not made yet, what it would make."""
        weights, *slots = self.variables(table)
        shape = [table.config.vocabulary_size, table.config.dimension]
        return [
            weights.read_value(),
            *(
                tf.fill(shape, slot.initial_value) if variable is None else variable.read_value()
                for variable, slot in zip(slots, slots_of(table.parameters), strict=True)
            ),
        ]


class HardwareMemory:
    """A TPU's memory for embeddings: configured once, it holds one set of tables at a time."""

    def __init__(self, strategy: tf.distribute.TPUStrategy):
        hosts = [_tf.host_of(device) for device in strategy.extended.worker_devices]
        self._hosts = list(dict.fromkeys(hosts))
        self._step: HardwareStep | None = None
        self._holds: HardwareTables | None = None

    def hold(self, tables: HardwareTables, step: HardwareStep) -> None:
        """Loads tables, unless they are there; those that were there go back to their variables first."""
        if self._step is None:
            self._run(lambda: _tf.configure_tpu_embedding(step.configuration))
            self._step = step
        if self._step.configuration != step.configuration:
            raise errors.UnsupportedError(
                "Another set of embeddings on the same TPU, or another batch size for each core in evaluation or "
                "prediction than in training",
                "Give train_batch_size, eval_batch_size and predict_batch_size the same value, or run the other in a "
                "process of its own.",
            )
        if self._holds is tables:
            return
        if self._holds is not None:
            self._holds.fetch()
        self._run(lambda: self.build_load(tables, step))
        self._holds = tables

    def forget(self, tables: HardwareTables) -> None:
        """Counts tables as gone: their variables have other values."""
        if self._holds is tables:
            self._holds = None
        tables.is_newer = False

    def retrieve(self, tables: HardwareTables) -> None:
        """Writes what the TPU holds to the tables' variables."""
        self._run(lambda: self.build_retrieve(tables, self._step))

    def build_load(self, tables: HardwareTables, step: HardwareStep) -> None:
        """Builds what writes tables to the TPU: each host gives its rows."""
        values = {table.name: tables.values(table) for table in step.tables}
        configuration = step.configuration
        for host_id, host in enumerate(self._hosts):
            with tf.device(host):
                for table in step.tables:
                    load = _operation("load", table)
                    rows = [self._rows(value, host_id) for value in values[table.name]]
                    load(
                        *rows,
                        num_shards=len(self._hosts),
                        shard_id=host_id,
                        table_name=table.name,
                        config=configuration,
                    )
                    # It is long, and once is enough.
                    configuration = b""

    def build_retrieve(self, tables: HardwareTables, step: HardwareStep) -> None:
        """Builds what writes the TPU's tables to variables: each host has its rows."""
        parts: dict[str, list] = {}
        configuration = step.configuration
        for host_id, host in enumerate(self._hosts):
            with tf.device(host):
                for table in step.tables:
                    found = _operation("retrieve", table)(
                        num_shards=len(self._hosts),
                        shard_id=host_id,
                        table_name=table.name,
                        config=configuration,
                    )
                    found = list(found) if isinstance(found, tuple) else [found]
                    parts.setdefault(table.name, []).append(found)
                    configuration = b""
        for table in step.tables:
            for place, variable in enumerate(tables.variables(table)):
                if variable is not None:
                    rows = tf.concat([of_host[place] for of_host in parts[table.name]], 0)
                    # Hosts beyond the number of rows hold one each that is nobody's.
                    variable.assign(rows[: table.config.vocabulary_size])

    def _rows(self, value: tf.Tensor, host_id: int) -> tf.Tensor:
        """Gives a host's rows: the first hosts have one more where they don't divide evenly, and none has none."""
        num_rows, num_hosts = value.shape.as_list()[0], len(self._hosts)
        share, longer = divmod(num_rows, num_hosts)
        if not share and host_id >= longer:
            return tf.zeros_like(value[:1])
        start = host_id * share + min(host_id, longer)
        return value[start : start + share + (host_id < longer)]

    def _run(self, build: Callable[[], None]) -> None:
        tf.function(build, autograph=False)()


@functools.cache
def memory_of(strategy: tf.distribute.TPUStrategy) -> HardwareMemory:
    """Gives the one memory of a TPU."""
    return HardwareMemory(strategy)


def _operation(verb: str, table: HardwareTable) -> Callable:
    return getattr(_tf.tpu_embedding_ops(), f"{verb}_tpu_embedding_{table.kind}_parameters")
