"""Checkpoints that are damaged or lost."""

import dataclasses
import glob
import os
from collections.abc import Callable

import tensorflow.compat.v1 as tf

from bad_inputs.room import WARNS, evaluating, training


@dataclasses.dataclass(frozen=True)
class Damaged:
    """A program that meets damaged files.

    Attributes:
      pattern: of the files in the model's directory.
      damage: what is done to each, given its path.
      program: runs afterwards.
    """

    pattern: str
    damage: Callable
    program: Callable

    def strike(self, room):
        for path in glob.glob(str(room.model_dir / self.pattern)):
            self.damage(path)

    def __call__(self, room):
        self.program(room)


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


CASES = {
    "all checkpoints damaged, evaluated": (
        Damaged("model.ckpt-*.data*", truncate, evaluating()),
        tf.errors.OpError,
        "Read less bytes than requested",
    ),
    "all indices damaged, trained": (
        Damaged("model.ckpt-*.index", truncate, training()),
        tf.errors.DataLossError,
        "not an sstable",
    ),
    "the list of checkpoints cut off": (
        Damaged("checkpoint", truncate, training()),
        WARNS,
        "file 'checkpoint' is damaged: taking .*model.ckpt-4",
    ),
    "no index file": (
        Damaged("model.ckpt-4.index", os.remove, training()),
        WARNS,
        "The newest checkpoint of .* is missing.* taking .*model.ckpt-2",
    ),
    "no data file": (
        Damaged("model.ckpt-4.data*", os.remove, training()),
        WARNS,
        "model.ckpt-4 is damaged, taking the one before",
    ),
}
