"""The parts of `tf.contrib.metrics` that most programs use, without tf-slim.

Each gives `(value, update_op)`; variables and numbers are TensorFlow 1.15's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest import _tf

_v1 = tf.compat.v1


def _with_labels_second(metric: Callable) -> Callable:
    """Gives a metric of tf.metrics the argument order of tf.contrib.metrics: predictions first."""

    def streaming(
        predictions: Any,
        labels: Any,
        *args: Any,
        **kwargs: Any,
    ) -> tuple:
        return metric(labels, predictions, *args, **kwargs)

    streaming.__name__ = f"streaming_{metric.__name__}"
    streaming.__doc__ = metric.__doc__
    return streaming


streaming_accuracy = _with_labels_second(_v1.metrics.accuracy)
streaming_mean = _v1.metrics.mean
streaming_mean_absolute_error = _with_labels_second(_v1.metrics.mean_absolute_error)
streaming_mean_squared_error = _with_labels_second(_v1.metrics.mean_squared_error)
streaming_precision = _with_labels_second(_v1.metrics.precision)
streaming_recall = _with_labels_second(_v1.metrics.recall)
streaming_root_mean_squared_error = _with_labels_second(_v1.metrics.root_mean_squared_error)


def accuracy(
    predictions: Any, labels: Any, weights: Any = None, name: str | None = None
) -> tf.Tensor:
    """Gives how many predictions are the labels, of this batch."""
    with tf.name_scope(name or "accuracy"):
        is_correct = tf.cast(tf.equal(predictions, labels), tf.float32)
        if weights is None:
            return tf.reduce_mean(is_correct)
        weights = tf.cast(weights, tf.float32)
        return tf.reduce_sum(is_correct * weights) / tf.reduce_sum(
            weights * tf.ones_like(is_correct)
        )


def aggregate_metrics(*value_update_tuples: Any) -> tuple[list, list]:
    """Gives the values and the updates of metrics apart."""
    if not value_update_tuples:
        raise ValueError("Expected at least one value_tensor/update_op pair")
    values, updates = zip(*value_update_tuples, strict=True)
    return list(values), list(updates)


def aggregate_metric_map(names_to_tuples: dict) -> tuple[dict, dict]:
    """Gives the values and the updates of named metrics apart."""
    values = {name: pair[0] for name, pair in names_to_tuples.items()}
    return values, {name: pair[1] for name, pair in names_to_tuples.items()}


def streaming_covariance(
    predictions: Any,
    labels: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Estimates the sample covariance of predictions and labels over batches."""
    with _v1.variable_scope(name, "covariance", (predictions, labels, weights)):
        predictions, labels = tf.cast(predictions, tf.float32), tf.cast(labels, tf.float32)
        predictions.shape.assert_is_compatible_with(labels.shape)
        count = _metric_variable("count")
        mean_prediction, mean_label = (
            _metric_variable("mean_prediction"),
            _metric_variable("mean_label"),
        )
        comoment = _metric_variable("comoment")
        weights = tf.ones_like(labels) if weights is None else tf.cast(weights, tf.float32)
        weights *= tf.ones_like(labels)
        batch_count = tf.reduce_sum(weights)
        new_count = count.assign_add(batch_count)
        batch_prediction = tf.math.divide_no_nan(tf.reduce_sum(predictions * weights), batch_count)
        batch_label = tf.math.divide_no_nan(tf.reduce_sum(labels * weights), batch_count)
        batch_comoment = tf.reduce_sum(
            (predictions - batch_prediction) * (labels - batch_label) * weights
        )
        share = tf.math.divide_no_nan(batch_count, new_count)
        delta_prediction = (batch_prediction - mean_prediction) * share
        delta_label = (batch_label - mean_label) * share
        previous_count = new_count - batch_count
        change = (
            batch_comoment
            + (batch_prediction - mean_prediction)
            * (batch_label - mean_label)
            * share
            * previous_count
        )
        with tf.control_dependencies([change, delta_prediction, delta_label]):
            updates = [
                mean_prediction.assign_add(delta_prediction),
                mean_label.assign_add(delta_label),
            ]
            new_comoment = comoment.assign_add(change)

        def of(total: Any, number: Any) -> tf.Tensor:
            return tf.where(tf.less_equal(number, 1.0), float("nan"), total / (number - 1.0))

        value = of(comoment, count)
        with tf.control_dependencies(updates):
            update = of(new_comoment, new_count)
        return _collected(value, update, metrics_collections, updates_collections)


def streaming_pearson_correlation(
    predictions: Any,
    labels: Any,
    weights: Any = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Estimates the correlation of predictions and labels over batches."""
    with _v1.variable_scope(name, "pearson_r", (predictions, labels, weights)):
        predictions, labels = tf.cast(predictions, tf.float32), tf.cast(labels, tf.float32)
        if weights is not None:
            weights = tf.cast(weights, tf.float32) * tf.ones_like(labels)
        both, update_both = streaming_covariance(predictions, labels, weights, name="covariance")
        of_predictions, update_predictions = streaming_covariance(
            predictions, predictions, weights, name="variance_predictions"
        )
        of_labels, update_labels = streaming_covariance(
            labels, labels, weights, name="variance_labels"
        )
        value = tf.truediv(both, tf.sqrt(of_predictions) * tf.sqrt(of_labels), name="pearson_r")
        update = tf.truediv(
            update_both, tf.sqrt(update_predictions) * tf.sqrt(update_labels), name="update_op"
        )
        return _collected(value, update, metrics_collections, updates_collections)


def streaming_concat(
    values: Any,
    axis: int = 0,
    max_size: int | None = None,
    metrics_collections: Any = None,
    updates_collections: Any = None,
    name: str | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Concatenates tensors over batches along an axis, up to `max_size`."""
    with _v1.variable_scope(name, "streaming_concat", (values,)):
        values = tf.convert_to_tensor(values)
        shape = values.shape.as_list()
        shape[axis] = 0
        held = _tf.metric_variable(shape, values.dtype, validate_shape=False, name="array")
        size = _tf.metric_variable([], tf.int32, name="size")
        joined = tf.concat([held, values], axis=axis)
        if max_size is not None:
            kept = tf.minimum(tf.shape(joined)[axis], max_size)
            joined = tf.gather(joined, tf.range(kept), axis=axis)
        held_now = _v1.assign(held, joined, validate_shape=False)
        with tf.control_dependencies([held_now]):
            update = _v1.assign(size, tf.shape(joined)[axis])
        return _collected(tf.identity(held), update, metrics_collections, updates_collections)


def _metric_variable(name: str) -> Any:
    return _tf.metric_variable([], tf.float32, name=name)


def _collected(value: Any, update: Any, values: Any, updates: Any) -> tuple:
    if values:
        _v1.add_to_collections(values, value)
    if updates:
        _v1.add_to_collections(updates, update)
    return value, update
