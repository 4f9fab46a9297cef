"""Ids of embeddings as a core takes them where its tables are variables: of one static size, made on the host.

Takes a batch's ids, sparse and of any number; gives a list of fixed length, in which a core looks up:

    host:  ids, weights -> places, rows, weights     padded; the weights already say how a place's rows are combined
    core:  the sum of weights * table[rows] for each place
           gradient of a place -> of each row
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf

from tpuest.embedding_config import FeatureConfig, TableConfig
from tpuest.embedding_hardware import HardwareStep
from tpuest.embedding_tables import as_sparse, by_place
from tpuest.topology import Topology

# Ids of an example on average, if the batch doesn't say: TensorFlow's own number for SparseCores.
_IDS_OF_EXAMPLE = 64
# A wider batch tells how many ids there are to choose from, rather than how many an example has.
_WIDEST_EXAMPLE = 1024
_NONE = -1


@dataclasses.dataclass(frozen=True)
class HostStep:
    """What a step does for embeddings on the host; the cores' part is in the program's graph.

    Attributes:
      host_inputs: names of the graph's inputs that stay on the host.
      for_cores: tensors of the graph that the host computes of those, for the cores.
      hardware: looks up in place of the cores; `None` where tables are variables.
    """

    host_inputs: frozenset[str]
    for_cores: tuple[tf.Tensor, ...]
    hardware: HardwareStep | None = None


def stay_on_host(topology: Topology) -> bool:
    """Says whether cores can't be given ids as they come: strings in the pipeline, then tensors of unknown sizes."""
    return topology.is_tpu


@dataclasses.dataclass(frozen=True)
class PaddedIds:
    """One core's ids of one feature.

    Attributes:
      places: int32 `[n]`, number of the example, or of the place of a sequence, that an id belongs to; -1 is padding.
      rows: int32 `[n]`, of the table; -1 is padding.
      weights: float32 `[n]`, of the row in its place; 0 is padding.
      num_places: examples, or places of all sequences.
    """

    places: tf.Tensor
    rows: tf.Tensor
    weights: tf.Tensor
    num_places: int

    @property
    def tensors(self) -> tuple[tf.Tensor, ...]:
        return self.places, self.rows, self.weights

    def look_up(self, table: tf.Variable) -> tf.Tensor:
        """Combines each place's rows: float32 `[num_places, dimension]`, zeros where there are none."""
        found = tf.gather(table, tf.maximum(self.rows, 0)) * self.weights[:, tf.newaxis]
        # Padding belongs to no place: a negative number is left out.
        return tf.math.unsorted_segment_sum(found, self.places, self.num_places)

    def slices(self, gradient: tf.Tensor) -> tf.IndexedSlices:
        """Gives the gradient of each row from that of what was looked up; rows of -1 count for nothing."""
        of_places = tf.reshape(gradient, [self.num_places, -1])
        of_rows = tf.gather(of_places, tf.maximum(self.places, 0))
        return tf.IndexedSlices(of_rows * self.weights[:, tf.newaxis], self.rows)


def pad_ids(
    key: str, table: TableConfig, feature: FeatureConfig, ids: Any, weights: Any, batch_size: int
) -> PaddedIds:
    """Lists a feature's ids on the host.

    Args:
      key: the feature's.
      table: that the ids are looked up in.
      feature: its configuration.
      ids: sparse, or dense int `[batch_size]` or `[batch_size, width]`.
      weights: sparse float32, of the same places; `None` for equal weights.
      batch_size: of the core.

    Raises (when the step runs):
      InvalidArgumentError: there are more ids than a core takes, or one that the table doesn't have.
    """
    num_places = batch_size * (feature.max_sequence_length or 1)
    size = num_places * _ids_of_place(feature, ids)
    places, rows, weights = _list_ids(table, feature, ids, weights, num_places)
    count = tf.size(rows)
    # TensorFlow's error would put backslashes before quotation marks.
    too_many = (
        f"Feature {key} has more ids than the {size} that a core takes of a batch where embeddings are variables. Say how "
        f"many an example has at most, up to {_WIDEST_EXAMPLE}, by the static shape of the SparseTensor in the dataset. "
        "The number of ids:"
    )
    unknown = f"Feature {key} has an id beyond the {table.vocabulary_size} rows of its table:"
    fits = tf.debugging.Assert(count <= size, [too_many, count])
    is_known = tf.reduce_all(rows < table.vocabulary_size)
    exists = tf.debugging.Assert(is_known, [unknown, tf.reduce_max(rows)])
    with tf.control_dependencies([fits, exists]):
        paddings = [[0, size - count]]
        padded = [
            tf.ensure_shape(tf.pad(tf.cast(values, dtype), paddings, constant_values=none), [size])
            for values, dtype, none in (
                (places, tf.int32, _NONE),
                (rows, tf.int32, _NONE),
                (weights, tf.float32, 0.0),
            )
        ]
    return PaddedIds(*padded, num_places)


def _ids_of_place(feature, ids):
    """Gives how many ids an example, or a place of a sequence, has at most, as far as shapes tell."""
    *_, width = [1, *ids.shape.as_list()[1:]]
    if not isinstance(ids, tf.SparseTensor):
        return width
    if feature.max_sequence_length and ids.shape.rank == 2:
        return 1
    return width if width is not None and width <= _WIDEST_EXAMPLE else _IDS_OF_EXAMPLE


def _list_ids(table, feature, ids, weights, num_places):
    """Gives integer places and rows and float32 weights of the ids that count, all `[number of ids]`."""
    if table.combiner is None and not isinstance(ids, tf.SparseTensor):
        rows = tf.reshape(ids, [-1])
        return tf.range(tf.size(rows)), rows, tf.ones_like(rows, tf.float32)
    ids = as_sparse(ids)
    if feature.max_sequence_length:
        ids, weights = (by_place(s, feature.max_sequence_length) for s in (ids, weights))
    values = tf.ones_like(ids.values, tf.float32) if weights is None else weights.values
    counts = ids.values >= 0
    if table.combiner in ("mean", "sqrtn"):
        counts &= values > 0
    places, rows, values = (
        tf.boolean_mask(of_id, counts) for of_id in (ids.indices[:, 0], ids.values, values)
    )
    if table.combiner in ("mean", "sqrtn"):
        parts = values if table.combiner == "mean" else tf.square(values)
        totals = tf.gather(tf.math.unsorted_segment_sum(parts, places, num_places), places)
        values /= totals if table.combiner == "mean" else tf.sqrt(totals)
    return places, rows, values
