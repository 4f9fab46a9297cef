"""Takes batches of predictions apart, for `Estimator.predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf


def choose(predictions: Any, predict_keys: Sequence[str] | None) -> Any:
    """Leaves out the predictions that nobody asked for.

    Raises:
      ValueError: the predictions aren't a dict, or none of the keys is in it.
    """
    if not predict_keys:
        return predictions
    if not isinstance(predictions, dict):
        raise ValueError("predict_keys argument is not valid in case of non-dict predictions.")
    chosen = {key: value for key, value in predictions.items() if key in predict_keys}
    if isinstance(predict_keys, str) and chosen:
        tf.compat.v1.logging.warning(
            "predict_keys is the string %r, which chooses every key that is part of it: %s. Write predict_keys=[%r].",
            predict_keys,
            list(chosen),
            predict_keys,
        )
    if not chosen:
        raise ValueError(
            f"Expected to run at least one output from {list(predictions)}, provided {predict_keys}."
        )
    return chosen


def examples(batch: Any) -> Iterator[Any]:
    """Yields each example of a batch: of a dict, a dict of the values' rows.

    Raises:
      ValueError: the values of a dict differ in length.
    """
    if not isinstance(batch, dict):
        yield from batch
        return
    _check_lengths(batch)
    for values in zip(*batch.values()):
        yield dict(zip(batch, values))


def _check_lengths(batch: dict[str, Any]) -> None:
    length = None
    for key, value in batch.items():
        length = len(value) if length is None else length
        if len(value) != length:
            raise ValueError(
                f"Batch length of predictions should be same. {key} has different batch length than others."
            )
