"""Where a program does its one thing wrong, and the usual programs: each a function of a `Room`."""

import dataclasses
import pathlib

import models
import tensorflow.compat.v1 as tf
from models import CPU

# In place of an error's type: the program goes on, after a warning that says so.
WARNS = None
STEPS_BEFORE = 4
STEPS_AFTER = 8


@dataclasses.dataclass(frozen=True)
class Room:
    """Where a program runs.

    Attributes:
      model_dir: holds checkpoints of steps 0, 2 and 4.
      empty: a path where nothing is.
    """

    model_dir: pathlib.Path
    empty: pathlib.Path

    def estimator(self, num_cores=CPU, model_fn=None, **options):
        return models.make_estimator(self.model_dir, num_cores, model_fn, **options)


def training(model_fn=None, input_fn=models.train_input_fn, num_cores=CPU, call=None, **options):
    """Trains four steps on."""

    def program(room):
        arguments = call or {"max_steps": STEPS_AFTER}
        with models.simulation(num_cores):
            room.estimator(num_cores, model_fn, **options).train(input_fn, **arguments)

    return program


def evaluating(
    model_fn=None, input_fn=models.one_epoch_input_fn, num_cores=CPU, call=None, **options
):
    def program(room):
        with models.simulation(num_cores):
            room.estimator(num_cores, model_fn, **options).evaluate(input_fn, **(call or {}))

    return program


def predicting(
    model_fn=None, input_fn=models.one_epoch_input_fn, num_cores=CPU, call=None, **options
):
    def program(room):
        with models.simulation(num_cores):
            list(room.estimator(num_cores, model_fn, **options).predict(input_fn, **(call or {})))

    return program


def exporting(receiver_fn, model_fn=None, **call):
    def program(room):
        room.estimator(CPU, model_fn).export_saved_model(str(room.empty), receiver_fn, **call)

    return program


class UsersError(Exception):
    """An error of the user's own."""


def fail(*arguments, **named):
    raise UsersError("mine")


class Raising(tf.train.SessionRunHook):
    """Raises the user's error in one of its callbacks."""

    def __init__(self, callback):
        setattr(self, callback, fail)
