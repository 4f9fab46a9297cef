"""The outer loops: one function for each of train, evaluate and predict.

Takes a compiled program, its pipeline and the call's hooks; runs a `MonitoredSession` of TF 1 over a `ReplicaSession`,
so that hooks, end of data, errors and recovery behave as they always did.

    with MonitoredSession(creator, hooks) as session:
      while not session.should_stop():
        run as many steps as no hook objects to
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import checkpoint, rescue
from tpuest import hooks as own_hooks
from tpuest.compat import trace
from tpuest.loop import CompiledProgram
from tpuest.partial import PartialStep
from tpuest.pipeline import InputPipeline
from tpuest.replica import STEP_MARKER
from tpuest.session import ReplicaSession
from tpuest.variables import ReplicaVariables

# Between two calls of the compiled loop the host looks at clocks and signals: seldom, but before people wonder.
_SECONDS_PER_CALL = 1.0
_MOST_STEPS_PER_CALL = 10_000


@dataclasses.dataclass(frozen=True)
class Run:
    """What every call needs.

    Attributes:
      compiled: the program on its variables.
      pipeline: feeds it.
      checkpoint_path: whose values to start from; `None` runs the initialisers.
      hooks: all hooks of the call.
      partial_step: for batches too small for the cores; `None` where there are none.
      model_dir: where checkpoints are, to keep deleting the oldest; `None` outside training.
      may_use_older: whether an older checkpoint of the directory may stand in for a damaged `checkpoint_path`.
      live_variables: whose values to start from instead, as far as they have the model's names.
    """

    compiled: CompiledProgram
    pipeline: InputPipeline
    checkpoint_path: str | None
    hooks: tuple
    partial_step: PartialStep | None = None
    model_dir: str | None = None
    may_use_older: bool = False
    live_variables: ReplicaVariables | None = None

    def __post_init__(self):
        own_hooks.check_supported(self.hooks)


class _SessionCreator(tf.compat.v1.train.SessionCreator):
    """Makes the session, at the start and again after a worker was lost."""

    def __init__(
        self, run: Run, every_step: Sequence = (), host_every: int = 1, prefers_loop: bool = False
    ):
        self._run = run
        self._every_step = every_step
        self._host_every = host_every
        self._prefers_loop = prefers_loop
        self.session: ReplicaSession | None = None

    def create_session(self) -> ReplicaSession:
        run = self._run
        run.compiled.program.topology.check_is_here()
        scaffold = run.compiled.program.scaffold
        checkpoint.finalize(scaffold, run.compiled.program.graph)
        run.compiled.ensure_variables()
        self.session = ReplicaSession(
            run.compiled, run.pipeline, self._host_every, run.partial_step, self._prefers_loop
        )
        self.session.always_run(self._every_step)
        if run.model_dir is not None:
            checkpoint.recover_history(scaffold.saver, run.model_dir)
        # a session made anew goes on from the newest checkpoint, not from where the first one started
        path = (
            run.model_dir and checkpoint.latest_checkpoint(run.model_dir)
        ) or run.checkpoint_path
        variables = run.compiled.variables
        checkpoint.initialize(
            self.session,
            run.compiled.program,
            variables,
            path,
            run.live_variables,
            checkpoint.older_than(path) if run.may_use_older else (),
        )
        self.session.share_from_chief()
        return self.session


class _Pace:
    """Keeps one call of the compiled loop short enough for clocks and Ctrl-C."""

    def __init__(self):
        self._most = 1

    @property
    def most(self) -> int:
        return self._most

    def measure(self, steps: int, seconds: float) -> None:
        fitting = int(steps * _SECONDS_PER_CALL / max(seconds, 1e-6))
        self._most = max(1, min(fitting, 10 * self._most, _MOST_STEPS_PER_CALL))


def train(run: Run, stop: own_hooks.StopAtStep | None, iterations: Any, host_every: int) -> Any:
    """Trains until a hook stops or the data ends.

    Args:
      run: of a training program.
      stop: among the hooks, the one that knows the last step.
      iterations: an `IterationsPerLoop`, on cores; `None` elsewhere.
      host_every: steps from one host call to the next.

    Returns:
      The last step's loss, `None` if there was no step.
    """
    program = run.compiled.program
    creator = _SessionCreator(run, program.host_ops, host_every, _may_skip_steps(run))
    marker = program.graph.get_operation_by_name(STEP_MARKER)
    pace, loss = _Pace(), None
    with (
        tf.compat.v1.train.MonitoredSession(creator, run.hooks) as monitored,
        rescue.progress_saved(run.hooks, lambda: creator.session),
    ):
        while creator.session.goes_on(not monitored.should_stop()):
            session = creator.session
            step = session.global_step()
            session.num_steps = _training_steps(run, stop, iterations, pace, step)
            start = time.monotonic()
            _, _, loss = monitored.run([marker, program.train_op, program.loss])
            elapsed = time.monotonic() - start
            pace.measure(session.num_steps, elapsed)
            if iterations is not None:
                iterations.measure(session.num_steps, elapsed)
    # Nobody looks for the last checkpoint before the chief has written it.
    creator.session.goes_on(True)
    if loss is None:
        tf.compat.v1.logging.warn(
            "Training with estimator made no steps. Perhaps input is empty or misspecified."
        )
    return loss


def _training_steps(run, stop, iterations, pace, step) -> int:
    if run.compiled.program.topology.workers is not None:
        return 1  # What fits into a second differs between workers.
    if iterations is None:
        return own_hooks.steps_until_due(run.hooks, step, pace.most)
    left = stop.steps_until_due(step) if stop is not None else iterations.steps
    return max(1, min(iterations.steps, left))


def evaluate(run: Run, steps: int | None) -> dict[str, Any]:
    """Evaluates `steps` batches, or all.

    Returns:
      Metric name to value, `global_step` included.
    """
    program = run.compiled.program
    marker = program.graph.get_operation_by_name(STEP_MARKER)
    final = tf.compat.v1.train.FinalOpsHook(program.eval_values)
    creator = _SessionCreator(run, program.host_ops, prefers_loop=_may_skip_steps(run))
    pace = _Pace()
    with tf.compat.v1.train.MonitoredSession(creator, (*run.hooks, final)) as monitored:
        while not monitored.should_stop() and (steps is None or creator.session.steps_done < steps):
            session = creator.session
            session.num_steps = _evaluation_steps(run, steps, session.steps_done, pace)
            start = time.monotonic()
            monitored.run([marker, program.eval_update])
            pace.measure(session.num_steps, time.monotonic() - start)
    return final.final_ops_values


def _evaluation_steps(run, steps, steps_done, pace) -> int:
    """Chooses how many steps the next call runs; on cores hooks are called once for all `steps`, as they were."""
    if steps is None:
        return own_hooks.steps_until_due(run.hooks, steps_done, pace.most)
    left = steps - steps_done
    if run.compiled.program.topology.on_cores:
        return left
    return min(left, own_hooks.steps_until_due(run.hooks, steps_done, pace.most))


def predict(run: Run, predictions: Any) -> Iterator[Any]:
    """Yields the predictions of one global batch after the other, without padding.

    Args:
      run: of a prediction program.
      predictions: what to fetch of the program's.
    """
    program = run.compiled.program
    mask = [] if program.padding_mask is None else [program.padding_mask]
    flat = tf.nest.flatten(predictions)
    creator = _SessionCreator(run, program.host_ops)
    with trace.graph_scope(program.graph):
        monitored = tf.compat.v1.train.MonitoredSession(creator, run.hooks)
    with _Closing(monitored, program.graph):
        fetch = _fetcher(run, creator, monitored, [*flat, *mask])
        while not monitored.should_stop():
            *values, last = fetch()
            values = _without_padding(values, last) if mask else [*values, last]
            yield tf.nest.pack_sequence_as(predictions, values)


def _fetcher(
    run: Run, creator: _SessionCreator, monitored: Any, tensors: list
) -> Callable[[], list]:
    """Gives a function that fetches the next batch's tensors; around the hooks if none wants to see the batch."""
    if _may_skip_steps(run):
        return creator.session.fetcher(tensors)
    graph = run.compiled.program.graph
    marker = graph.get_operation_by_name(STEP_MARKER)

    def fetch() -> list:
        with trace.graph_scope(graph):
            return monitored.run([tensors, marker])[0]

    return fetch


def _may_skip_steps(run: Run) -> bool:
    """Says whether no hook wants to see every step."""
    return all(hasattr(hook, "steps_until_due") for hook in run.hooks)


class _Closing:
    """Closes a session in its graph. A generator must not keep the graph the default while its caller works."""

    def __init__(self, monitored: tf.compat.v1.train.MonitoredSession, graph: tf.Graph):
        self._monitored = monitored
        self._graph = graph

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with trace.graph_scope(self._graph):
            return self._monitored.__exit__(*error)


def _without_padding(values: list[np.ndarray], mask: np.ndarray) -> list[np.ndarray]:
    real = mask == 0
    if real.all():
        return values
    return [value[real] if len(value) == len(real) else value for value in values]
