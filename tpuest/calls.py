"""The outer loops: one function for each of train, evaluate and predict.

Takes a compiled program, its pipeline and the call's hooks; runs a `MonitoredSession` of TF 1 over a `ReplicaSession`,
so that hooks, end of data and errors behave as they always did.

    with MonitoredSession(creator, hooks) as session:
      while not session.should_stop():
        run as many steps as no hook objects to; after a lost worker, with a new session
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import _tf, checkpoint, rescue
from tpuest import hooks as own_hooks
from tpuest.compat import trace
from tpuest.loop import CompiledProgram
from tpuest.partial import PartialStep
from tpuest.pipeline import InputPipeline
from tpuest.recovery import LOST, Recovery, limit_from_environment
from tpuest.replica import STEP_MARKER
from tpuest.session import ReplicaSession
from tpuest.topology import Topology
from tpuest.variables import ReplicaVariables
from tpuest.workers import together

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
      on_topology: gives the same run elsewhere; `None` where nothing can be lost.
    """

    compiled: CompiledProgram
    pipeline: InputPipeline
    checkpoint_path: str | None
    hooks: tuple
    partial_step: PartialStep | None = None
    model_dir: str | None = None
    may_use_older: bool = False
    live_variables: ReplicaVariables | None = None
    on_topology: Callable[[Topology], Run] | None = None

    def __post_init__(self):
        own_hooks.check_supported(self.hooks)

    @property
    def start(self) -> str | None:
        """The checkpoint that a session of now starts from; `None` runs the initialisers.

        One made anew goes on from the newest checkpoint, not from where the first one started.
        """
        newest = self.model_dir and checkpoint.latest_checkpoint(self.model_dir)
        return newest or self.checkpoint_path


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
        self.session.holds_whole_steps = False  # Until all of a checkpoint is there.
        self.session.always_run(self._every_step)
        if run.model_dir is not None:
            checkpoint.recover_history(scaffold.saver, run.model_dir)
        path = run.start
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
        self.session.holds_whole_steps = True
        return self.session

    def reconnect(self) -> None:
        """Prepares for another session after a worker was lost: what was on a TPU is gone."""
        compiled = self._run.compiled
        topology = compiled.program.topology.reconnected()
        if topology is compiled.program.topology:
            compiled.variables.checkpoint = None  # Whatever they hold: the step may be half done.
        else:
            self._run = self._run.on_topology(topology)


class _MonitoredRun(_tf.RenewableSession):
    """The `MonitoredSession` of a run, which goes on when a worker was lost."""

    def __init__(self, run: Run, creator: _SessionCreator, hooks: Sequence):
        self._run = run
        self._creator = creator
        # What is in memory only, such as live variables, is lost with the worker.
        self._recovery = Recovery(limit_from_environment() if run.live_variables is None else 0)
        try:
            super().__init__(creator, hooks)
        except LOST as error:
            if not self.has_begun:
                raise
            self._renew_after(error)

    def attempt(self, act: Callable[[], Any]) -> Any:
        """Gives what a function of the session returns; after a lost worker it is called again, with a new session.

        Raises:
          OpError: workers were lost too often; the error of the first.
        """
        while True:
            try:
                return act()
            except LOST as error:
                self._renew_after(error)

    def _renew_after(self, error: tf.errors.OpError) -> None:
        while True:
            run = self._run
            step = None if run.model_dir is None else checkpoint.global_step_of(run.model_dir)
            self._recovery.allow(error, run.start or "the initial values", step)
            try:
                self._creator.reconnect()
                self.renew()
                return
            except LOST as another:
                error = another


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
    workers = program.topology.workers
    # The loop would not ask them whether they have a batch.
    prefers_loop = workers is None and _may_skip_steps(run)
    creator = _SessionCreator(run, program.host_ops, host_every, prefers_loop)
    marker = program.graph.get_operation_by_name(STEP_MARKER)
    pace, loss = _Pace(), None

    def run_steps() -> bool:
        """Says whether training went on."""
        nonlocal loss
        session = creator.session
        if not session.goes_on(not monitored.should_stop()):
            return False
        step = session.global_step()
        session.num_steps = _training_steps(run, stop, iterations, pace, step)
        start = time.monotonic()
        _, _, loss = monitored.run([marker, program.train_op, program.loss])
        elapsed = time.monotonic() - start
        pace.measure(session.num_steps, elapsed)
        if iterations is not None:
            iterations.measure(session.num_steps, elapsed)
        return True

    with (
        together(workers, "train"),
        _MonitoredRun(run, creator, run.hooks) as monitored,
        rescue.progress_saved(run.hooks, lambda: creator.session),
    ):
        while monitored.attempt(run_steps):
            pass
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

    Raises:
      ValueError: all of data without end is to be evaluated.
    """
    program = run.compiled.program
    if steps is None and _may_skip_steps(run):  # No hook of the user's could stop it.
        run = dataclasses.replace(run, pipeline=dataclasses.replace(run.pipeline, must_end=True))
    marker = program.graph.get_operation_by_name(STEP_MARKER)
    final = tf.compat.v1.train.FinalOpsHook(program.eval_values)
    creator = _SessionCreator(run, program.host_ops, prefers_loop=_may_skip_steps(run))
    pace = _Pace()

    def run_steps() -> bool:
        """Says whether evaluation went on: with a new session from the start, metrics too."""
        session = creator.session
        if monitored.should_stop() or session.steps_done == steps:
            return False
        session.num_steps = _evaluation_steps(run, steps, session.steps_done, pace)
        start = time.monotonic()
        monitored.run([marker, program.eval_update])
        pace.measure(session.num_steps, time.monotonic() - start)
        return True

    with (
        together(program.topology.workers, "evaluate"),
        _MonitoredRun(run, creator, (own_hooks.AddUpMetrics(), *run.hooks, final)) as monitored,
    ):
        while monitored.attempt(run_steps):
            pass
    if not creator.session.steps_done:
        tf.compat.v1.logging.warn(
            "Evaluation made no steps: its results mean nothing. Perhaps input is empty or misspecified."
        )
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
        monitored = _MonitoredRun(run, creator, run.hooks)

    def start() -> tuple[Callable, list | None]:
        fetch = _fetcher(run, creator, monitored, [*flat, *mask])
        return fetch, None if monitored.should_stop() else fetch()

    with _Closing(monitored, program.graph):
        # What has been yielded can't be taken back: only the first batch may be fetched again.
        with trace.graph_scope(program.graph):
            fetch, fetched = monitored.attempt(start)
        while fetched is not None:
            *values, last = fetched
            values = _without_padding(values, last) if mask else [*values, last]
            yield tf.nest.pack_sequence_as(predictions, values)
            fetched = None if monitored.should_stop() else fetch()


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
