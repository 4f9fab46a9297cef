"""`tf.contrib.lookup` where its arguments differ from `tf.lookup`'s."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tpuest import _tf

_lookup = tf.compat.v1.lookup


class HashTable(_lookup.StaticHashTable):
    """A table that doesn't change; `init` is its initialiser."""

    def __init__(
        self, initializer: Any, default_value: Any, shared_name: Any = None, name: Any = None
    ):
        super().__init__(initializer, default_value, name)

    @property
    def init(self) -> Any:
        return self.initializer


def MutableHashTable(
    key_dtype: Any,
    value_dtype: Any,
    default_value: Any,
    shared_name: Any = None,
    name: str = "MutableHashTable",
    checkpoint: bool = True,
) -> Any:
    """Makes a table that may change."""
    return _lookup.experimental.MutableHashTable(
        key_dtype, value_dtype, default_value, name, checkpoint
    )


def MutableDenseHashTable(
    key_dtype: Any,
    value_dtype: Any,
    default_value: Any,
    empty_key: Any,
    deleted_key: Any,
    initial_num_buckets: Any = None,
    shared_name: Any = None,
    name: str = "MutableDenseHashTable",
    checkpoint: bool = True,
) -> Any:
    """Makes a table that may change, in dense memory."""
    return _lookup.experimental.DenseHashTable(
        key_dtype,
        value_dtype,
        default_value,
        empty_key,
        deleted_key,
        initial_num_buckets,
        name,
        checkpoint,
    )


def index_table_from_tensor(
    mapping: Any,
    num_oov_buckets: int = 0,
    default_value: int = -1,
    hasher_spec: Any = None,
    dtype: Any = tf.string,
    name: str | None = None,
) -> Any:
    """Makes a table from a value to its index in `mapping`."""
    return _tf.lookup_ops.index_table_from_tensor(
        vocabulary_list=mapping,
        num_oov_buckets=num_oov_buckets,
        default_value=default_value,
        hasher_spec=hasher_spec or _tf.lookup_ops.FastHashSpec,
        dtype=dtype,
        name=name,
    )


string_to_index_table_from_tensor = index_table_from_tensor


def string_to_index(tensor: Any, mapping: Any, default_value: int = -1, name: Any = None) -> Any:
    """Gives the indices of strings in `mapping`."""
    table = index_table_from_tensor(mapping, default_value=default_value, name=name)
    return table.lookup(tensor)
