"""What `train_and_evaluate` is told: `TrainSpec` and `EvalSpec`, checked when made."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf

from tpuest.exporters import Exporter


class TrainSpec(
    collections.namedtuple("TrainSpec", ["input_fn", "max_steps", "hooks", "saving_listeners"])
):
    """How `train_and_evaluate` trains.

    Attributes:
      input_fn: see `Estimator.train`.
      max_steps: the global step to train to; `None` trains to the end of data.
      hooks: `SessionRunHook`s, a tuple.
      saving_listeners: `CheckpointSaverListener`s, a tuple.
    """

    __slots__ = ()

    def __new__(
        cls,
        input_fn: Callable,
        max_steps: int | None = None,
        hooks: Iterable | None = None,
        saving_listeners: Iterable | None = None,
    ):
        """Makes a spec.

        Raises:
          ValueError: `max_steps` isn't positive.
          TypeError: another argument is of the wrong type.
        """
        _check_input_fn(input_fn)
        if max_steps is not None and max_steps <= 0:
            raise ValueError(f"Must specify max_steps > 0, given: {max_steps}")
        return super().__new__(
            cls, input_fn, max_steps, checked_hooks(hooks), _checked_listeners(saving_listeners)
        )


class EvalSpec(
    collections.namedtuple(
        "EvalSpec",
        ["input_fn", "steps", "name", "hooks", "exporters", "start_delay_secs", "throttle_secs"],
    )
):
    """How `train_and_evaluate` evaluates and exports.

    Attributes:
      input_fn: see `Estimator.evaluate`.
      steps: how many batches an evaluation takes; `None` is all.
      name: of the evaluation, in `Estimator.eval_dir`.
      hooks: `SessionRunHook`s, a tuple.
      exporters: `Exporter`s, a tuple; called after each evaluation.
      start_delay_secs: seconds that an evaluator's process waits before the first evaluation.
      throttle_secs: seconds from the start of one evaluation to the next, at least.
    """

    __slots__ = ()

    def __new__(
        cls,
        input_fn: Callable,
        steps: int | None = 100,
        name: str | None = None,
        hooks: Iterable | None = None,
        exporters: Exporter | Iterable[Exporter] | None = None,
        start_delay_secs: float = 120,
        throttle_secs: float = 600,
    ):
        """Makes a spec.

        Raises:
          ValueError: a number is out of range, or two exporters have the same name.
          TypeError: another argument is of the wrong type.
        """
        _check_input_fn(input_fn)
        if steps is not None and steps <= 0:
            raise ValueError(f"Must specify steps > 0, given: {steps}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"`name` must be string, given: {name}")
        hooks, exporters = checked_hooks(hooks), _checked_exporters(exporters)
        for argument, seconds in (
            ("start_delay_secs", start_delay_secs),
            ("throttle_secs", throttle_secs),
        ):
            if seconds < 0:
                raise ValueError(f"Must specify {argument} >= 0, given: {seconds}")
        return super().__new__(
            cls, input_fn, steps, name, hooks, exporters, start_delay_secs, throttle_secs
        )


def _check_input_fn(input_fn: Any) -> None:
    if not callable(input_fn):
        raise TypeError(f"`input_fn` must be callable, given: {input_fn}")


def checked_hooks(hooks: Iterable | None) -> tuple:
    hooks = tuple(hooks or ())
    for hook in hooks:
        if not isinstance(hook, tf.compat.v1.train.SessionRunHook):
            raise TypeError(f"All hooks must be `SessionRunHook` instances, given: {hook}")
    return hooks


def _checked_listeners(saving_listeners: Iterable | None) -> tuple:
    listeners = tuple(saving_listeners or ())
    for listener in listeners:
        if not isinstance(listener, tf.compat.v1.train.CheckpointSaverListener):
            raise TypeError(
                "All saving_listeners must be `CheckpointSaverListener` instances, "
                f"given: {listener}"
            )
    return listeners


def _checked_exporters(exporters: Any) -> tuple:
    if not exporters:
        return ()
    is_many = not isinstance(exporters, Exporter) and isinstance(exporters, Iterable)
    given = tuple(exporters) if is_many else (exporters,)
    if not all(isinstance(exporter, Exporter) for exporter in given):
        raise TypeError(
            "`exporters` must be an Exporter, an iterable of Exporter, or `None`, "
            f"found {exporters}."
        )
    names = [exporter.name for exporter in given]
    for name in names:
        if not name:
            raise ValueError(
                "An Exporter cannot have a name that is `None` or empty. "
                f"All exporter names: {names}"
            )
        if not isinstance(name, str):
            raise ValueError(f"An Exporter must have a string name. Given: {type(name)}")
    if len(set(names)) < len(names):
        raise ValueError(
            "`exporters` must have unique names. Such a name cannot be `None`. "
            f"All exporter names: {names}"
        )
    return given
