"""Logs an evaluation's results and writes them as summaries, in the original's words; reads summaries back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

_CHECKPOINT_TAG = "checkpoint_path"


def write_evaluation(directory: str, results: dict[str, Any], checkpoint_path: str | None) -> None:
    """Writes the results to the directory's event file.

    Args:
      directory: `Estimator.eval_dir(name)`.
      results: metric name to value, `global_step` among them.
      checkpoint_path: what was evaluated; `None` for a model without one.
    """
    step = int(results[tf.compat.v1.GraphKeys.GLOBAL_STEP])
    shown = ", ".join(f"{k} = {v}" for k, v in sorted(results.items()) if not isinstance(v, bytes))
    tf.compat.v1.logging.info("Saving dict for global step %d: %s", step, shown)
    write_results(directory, results, step)
    writer = _writer(directory)
    if checkpoint_path:
        tf.compat.v1.logging.info(
            "Saving '%s' summary for global step %d: %s", _CHECKPOINT_TAG, step, checkpoint_path
        )
        value = tf.compat.v1.Summary.Value(
            tag=_CHECKPOINT_TAG, tensor=tf.make_tensor_proto(checkpoint_path, dtype=tf.string)
        )
        writer.add_summary(tf.compat.v1.Summary(value=[value]), step)
    writer.flush()


def write_results(directory: str, results: dict[str, Any], step: int) -> None:
    """Writes results as summaries of a step: numbers, arrays and serialized summaries."""
    writer = _writer(directory)
    writer.add_summary(_summary_of(results), step)
    writer.flush()


def read_results(pattern: str) -> Iterator[tuple[int, dict[str, float]]]:
    """Reads scalars from event files.

    Args:
      pattern: of the files' paths.

    Yields:
      A step and its scalars by tag, in the order they were written.
    """
    for path in tf.io.gfile.glob(pattern):
        try:
            for event in tf.compat.v1.train.summary_iterator(path):
                scalars = [v for v in event.summary.value if v.HasField("simple_value")]
                if scalars:
                    yield event.step, {value.tag: value.simple_value for value in scalars}
        except tf.errors.DataLossError as error:
            # Its writer was stopped in the middle of an event.
            tf.compat.v1.logging.warning(
                "Skipping the rest of %s, which is damaged: %s", path, error
            )


def _writer(directory):
    with tf.Graph().as_default():  # a version 1 writer refuses to be made eagerly
        return tf.compat.v1.summary.FileWriterCache.get(directory)


def _summary_of(results):
    summary = tf.compat.v1.Summary()
    for name, value in results.items():
        if name == tf.compat.v1.GraphKeys.GLOBAL_STEP or value is None:
            continue
        if isinstance(value, (float, int, np.floating, np.integer)):
            summary.value.add(tag=name, simple_value=float(value))
        elif isinstance(value, bytes):
            _merge_serialized(summary, name, value)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            summary.value.add(tag=name, tensor=tf.make_tensor_proto(value))
        else:
            tf.compat.v1.logging.warn(
                "Skipping summary for %s, must be a float, np.float32, np.int64, np.int32 or int or np.ndarray or a "
                "serialized string of Summary.",
                name,
            )
    return summary


def _merge_serialized(summary, name, serialized):
    """Adds a metric that is a summary itself, such as `tf.summary.image`'s."""
    try:
        parsed = tf.compat.v1.Summary.FromString(serialized)
    except DecodeError:
        tf.compat.v1.logging.warn("Skipping summary for %s, cannot parse string to Summary.", name)
        return
    for index, value in enumerate(parsed.value):
        value.tag = f"{name}/{index}"
    summary.value.extend(parsed.value)
