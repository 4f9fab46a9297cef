"""`_InputsWithStoppingSignals` and its kin of `tensorflow_estimator...tpu_estimator`.

Takes a dataset of batches; gives it with signals: the last batch is followed by one that says stop, and a batch that
is too small is padded, with a mask. The engine has its own way; programs with loops of their own use these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_v1 = tf.compat.v1


class StopSignals:
    """Whether a batch is the one after the last."""

    NON_STOPPING_SIGNAL = False
    STOPPING_SIGNAL = True

    def __init__(self, stop: bool, batch_size: int, padding_mask: Any = None):
        self._stop = stop
        self._batch_size = batch_size
        self._padding_mask = padding_mask

    def as_dict(self) -> dict[str, tf.Tensor]:
        """Gives 'stopping', bool `[batch_size, 1]`, and 'padding_mask' if there is one."""
        signals = {"stopping": tf.fill([self._batch_size, 1], self._stop)}
        if self._padding_mask is not None:
            signals["padding_mask"] = self._padding_mask
        return signals

    @staticmethod
    def as_scalar_stopping_signal(signals: dict) -> tf.Tensor:
        return tf.identity(signals["stopping"][0][0])

    @staticmethod
    def should_stop(scalar_stopping_signal: Any) -> Any:
        """Says whether a scalar signal, a tensor or a value, means stop."""
        if isinstance(scalar_stopping_signal, tf.Tensor):
            return tf.identity(scalar_stopping_signal)
        return bool(scalar_stopping_signal)


class PaddingSignals:
    """Pads batches to their full size, and takes the padding away again."""

    @staticmethod
    def pad_features_and_labels(features: Any, labels: Any, batch_size: int) -> tuple:
        """Gives the mask, int32 `[batch_size]` with 1 for padding, features and labels."""
        tensors = [x for x in tf.nest.flatten(features) if isinstance(x, tf.Tensor)]
        if not tensors:
            raise ValueError("Cannot find any Tensor in features dict.")
        real_size = tf.shape(tensors[0])[0]
        fits = _v1.debugging.assert_greater_equal(
            batch_size,
            real_size,
            data=(batch_size, real_size),
            message="The real batch size should not be greater than batch_size.",
        )
        with tf.control_dependencies([fits]):
            missing = batch_size - real_size

        def pad(tensor: tf.Tensor) -> tf.Tensor:
            padded = tf.pad(tensor, [[0, missing]] + [[0, 0]] * (tensor.shape.rank - 1))
            padded.set_shape([batch_size, *tensor.shape[1:]])
            return padded

        mask = tf.concat([tf.zeros([real_size], tf.int32), tf.ones([missing], tf.int32)], axis=0)
        mask.set_shape([batch_size])
        padded_labels = None if labels is None else tf.nest.map_structure(pad, labels)
        return mask, tf.nest.map_structure(pad, features), padded_labels

    @staticmethod
    def slice_tensor_or_dict(tensor_or_dict: Any, signals: dict) -> Any:
        """Takes padding away; the batch that says stop stays whole."""
        mask = signals["padding_mask"]
        size = tf.shape(mask)[0]
        num_padded = tf.reduce_sum(mask)
        should_stop = StopSignals.should_stop(StopSignals.as_scalar_stopping_signal(signals))
        real_size = tf.where(should_stop, size, size - num_padded)
        return tf.nest.map_structure(lambda tensor: tensor[:real_size], tensor_or_dict)


class InputsWithStoppingSignals:
    """A dataset of batches, with signals beside features and labels."""

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        add_padding: bool = False,
        num_invocations_per_step: int = 1,
    ):
        """Adds signals to a dataset.

        Args:
          dataset: of `features` or `(features, labels)`.
          batch_size: of a full batch.
          add_padding: whether smaller batches are padded.
          num_invocations_per_step: how often a step takes a batch.
        """
        last = dataset.take(1).map(self.insert_stopping_signal(True, batch_size, add_padding))
        if num_invocations_per_step > 1:
            last = last.repeat(2 * num_invocations_per_step - 1).map(_all_padding)
        batches = dataset.map(self.insert_stopping_signal(False, batch_size, add_padding))
        self.dataset = batches.concatenate(last).prefetch(2)
        self.is_dataset = True
        self._iterator: Any = None
        self._current: Any = None

    def dataset_initializer(self) -> Any:
        """Gives the initialiser, to be run first."""
        self._iterator = _v1.data.make_initializable_iterator(self.dataset)
        return self._iterator.initializer

    def features_and_labels(self) -> tuple:
        """Takes a batch; call `signals` after it."""
        if self._current is not None:
            raise RuntimeError(
                "Internal Error: The previous inputs have not been properly consumed. First call "
                "features_and_labels, then call signals."
            )
        self._current = self._iterator.get_next()
        return self._current["features"], self._current.get("labels")

    def signals(self) -> dict:
        """Gives the signals of the batch taken last."""
        if self._current is None:
            raise RuntimeError(
                "Internal Error: The current inputs have not been properly generated. First call "
                "features_and_labels, then call signals."
            )
        current, self._current = self._current, None
        return current["signals"]

    @staticmethod
    def insert_stopping_signal(stop: bool, batch_size: int, add_padding: bool = False) -> Callable:
        """Gives a function for `dataset.map` that adds signals."""

        def insert(*parts: Any) -> dict:
            features, labels = parts if len(parts) == 2 else (parts[0], None)
            mask = None
            if add_padding:
                mask, features, labels = PaddingSignals.pad_features_and_labels(
                    features, labels, batch_size
                )
            batch = {"features": features}
            if labels is not None:
                batch["labels"] = labels
            return {**batch, "signals": StopSignals(stop, batch_size, mask).as_dict()}

        return insert


def _all_padding(batch: dict) -> dict:
    signals = {**batch["signals"], "padding_mask": tf.ones_like(batch["signals"]["padding_mask"])}
    return {**batch, "signals": signals}
