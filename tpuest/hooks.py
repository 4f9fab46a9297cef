"""The estimator's own hooks: logs, checkpoints, summaries and the end of training.

Takes TF 1's hook interface; adds one question that lets many steps run in one call: `steps_until_due(global_step)`,
the number of steps after which the hook wants to see a step's values. Hooks of the user don't answer it and are
called at every step.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf, checkpoint, graph_text
from tpuest.errors import UnsupportedError
from tpuest.summaries import due_summaries

SessionRunHook = tf.compat.v1.train.SessionRunHook
# Collection of the paths that a graph has been written to.
_GRAPH_WRITTEN = "tpuest_graph_written"
# Collection of the operations that flush the graph's summary writers, one for each.
_FLUSHES = "tpuest_flush_summary_writers"
_SummaryWriters = tf.compat.v1.summary.FileWriterCache


def steps_until_due(hooks: Iterable[Any], global_step: int, most: int) -> int:
    """Tells how many steps may run before a hook wants to see one, at most `most`, at least 1."""
    due = [most]
    for hook in hooks:
        ask = getattr(hook, "steps_until_due", None)
        if ask is None:
            return 1
        due.append(ask(global_step) or most)
    return max(1, min(due))


def check_supported(hooks: Iterable[Any]) -> None:
    """Refuses hooks that need what only a session of TF 1 has.

    Raises:
      UnsupportedError: there is a `ProfilerHook`, which reads the session's trace of each operation.
    """
    if any(isinstance(hook, tf.compat.v1.train.ProfilerHook) for hook in hooks):
        raise UnsupportedError(
            "tf.compat.v1.train.ProfilerHook",
            "Call tf.profiler.experimental.start(log_dir) before train and tf.profiler.experimental.stop() after it, and "
            "look at the profile in TensorBoard.",
        )


class StopAtStep(SessionRunHook):
    """Ends training after `num_steps` steps or at `last_step`.

    Attributes:
      last_step: the global step to end at; known once the session is there.
    """

    def __init__(self, num_steps: int | None, last_step: int | None):
        self._num_steps = num_steps
        self.last_step = last_step

    def after_create_session(self, session: Any, coord: Any) -> None:
        if self.last_step is None:
            self.last_step = session.global_step() + self._num_steps

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if run_context.session.global_step() >= self.last_step:
            run_context.request_stop()

    def steps_until_due(self, global_step: int) -> int:
        return self.last_step - global_step


class StopOnNan(tf.compat.v1.train.NanTensorHook):
    """Stops training when the loss is no number; the compiled loop ends at that step."""

    def steps_until_due(self, global_step: int) -> None:
        return None


@dataclasses.dataclass(frozen=True)
class LogPeriod:
    """How often training tells of its progress.

    Attributes:
      steps: steps between two lines; `None` for none, or if `seconds` is given.
      seconds: seconds between two lines.
      batch_size: global batch size for examples/sec; `None` leaves that out.
    """

    steps: int | None
    seconds: float | None
    batch_size: int | None


class _Periodic:
    """Counts steps or seconds between two events."""

    def __init__(self, every_steps: int | None, every_seconds: float | None = None):
        self.timer = tf.compat.v1.train.SecondOrStepTimer(
            every_secs=every_seconds, every_steps=every_steps
        )
        self.every_steps = every_steps

    def steps_left(self, global_step: int) -> int | None:
        last = self.timer.last_triggered_step()
        if last is None:
            return 1
        return None if self.every_steps is None else last + self.every_steps - global_step


class LossLogger(SessionRunHook):
    """Logs `loss = 0.42, step = 100 (1.234 sec)`.

    The first line tells of the first step run. Step is the global step before the logged step without cores, where
    the original logs it so, and after the loop on cores.
    """

    def __init__(
        self, loss: tf.Tensor, every_steps: int | None, every_seconds: float | None, on_cores: bool
    ):
        self._loss = loss
        self._due = _Periodic(every_steps, every_seconds)
        self._on_cores = on_cores

    def before_run(self, run_context: Any) -> Any:
        return tf.compat.v1.train.SessionRunArgs(self._loss)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step = run_context.session.global_step()
        shown = step if self._on_cores else step - 1
        if not self._due.timer.should_trigger_for_step(shown):
            return
        seconds, _ = self._due.timer.update_last_triggered_step(shown)
        line = f"loss = {run_values.results}, step = {shown}"
        tf.compat.v1.logging.info(line if seconds is None else f"{line} ({seconds:.3f} sec)")

    def steps_until_due(self, global_step: int) -> int | None:
        left = self._due.steps_left(global_step)
        return (
            left
            if left is None or self._on_cores or self._due.timer.last_triggered_step() is None
            else left + 1
        )


class SpeedLogger(SessionRunHook):
    """Logs `global_step/sec` and `examples/sec` and writes them as summaries."""

    def __init__(
        self,
        batch_size: int | None,
        output_dir: str | None,
        every_steps: int | None,
        every_seconds: float | None,
        on_cores: bool,
    ):
        self._batch_size = batch_size
        self._output_dir = output_dir
        self._due = _Periodic(every_steps, every_seconds)
        self._on_cores = on_cores

    def after_create_session(self, session: Any, coord: Any) -> None:
        # Elsewhere time counts from the end of the first step, as the loss's log does: both then want the same steps.
        if self._on_cores:
            self._due.timer.update_last_triggered_step(session.global_step())

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step = run_context.session.global_step()
        if not self._due.timer.should_trigger_for_step(step):
            return
        seconds, steps = self._due.timer.update_last_triggered_step(step)
        if seconds is None:
            return
        speeds = {"global_step/sec": steps / seconds}
        if self._batch_size is not None:
            speeds["examples/sec"] = self._batch_size * steps / seconds
        for tag, value in speeds.items():
            tf.compat.v1.logging.info("%s: %g", tag, value)
        if self._output_dir is not None:
            write_scalars(self._output_dir, speeds, step)

    def steps_until_due(self, global_step: int) -> int | None:
        return self._due.steps_left(global_step)


class SummarySaver(SessionRunHook):
    """Writes the graph's summaries after the first step and every `save_steps` from there."""

    def __init__(self, output_dir: str, save_steps: int, scaffold: tf.compat.v1.train.Scaffold):
        self._output_dir = output_dir
        self._due = _Periodic(save_steps)
        self._scaffold = scaffold
        self._version_2: list = []

    def begin(self) -> None:
        self._version_2 = due_summaries(tf.compat.v1.get_default_graph())

    def before_run(self, run_context: Any) -> Any:
        session = run_context.session
        last = self._due.timer.last_triggered_step()
        upcoming = session.global_step() + session.num_steps
        if not self._has_summaries() or not (
            last is None or self._due.timer.should_trigger_for_step(upcoming)
        ):
            return None
        merged = self._scaffold.summary_op
        fetches = [[] if merged is None else [merged], [due.fetch for due in self._version_2]]
        steps = {due.step: upcoming for due in self._version_2}
        return tf.compat.v1.train.SessionRunArgs(fetches, steps or None)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        if run_values.results is None:
            return
        merged, version_2 = run_values.results
        if None in (*merged, *version_2):
            return  # The data ended before the step that was due.
        step = run_context.session.global_step()
        writer = _SummaryWriters.get(self._output_dir)
        if self._due.timer.last_triggered_step() is None:
            writer.add_session_log(
                tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START), step
            )
        self._due.timer.update_last_triggered_step(step)
        for summary in merged:
            writer.add_summary(summary, step)

    def end(self, session: Any) -> None:
        _SummaryWriters.get(self._output_dir).flush()

    def steps_until_due(self, global_step: int) -> int | None:
        return self._due.steps_left(global_step) if self._has_summaries() else None

    def _has_summaries(self) -> bool:
        return self._scaffold.summary_op is not None or bool(self._version_2)


class CheckpointSaver(tf.compat.v1.train.CheckpointSaverHook):
    """Saves at the start, every `save_steps` steps or `save_secs` seconds, and at the end."""

    def __init__(
        self, checkpoint_dir: str, save_secs: float | None, save_steps: int | None, **options: Any
    ):
        self._progress = _Progress(checkpoint_dir, save_steps)
        self._writes_text = options.get("save_graph_def", True)
        self._graph_path = os.path.join(checkpoint_dir, "graph.pbtxt")
        listeners = [self._progress, *options.pop("listeners", ())]
        super().__init__(
            checkpoint_dir,
            save_secs=save_secs,
            save_steps=save_steps,
            listeners=listeners,
            **options,
        )

    def begin(self) -> None:
        """Prepares; TF's hook would ask at each read whether the step has a value, and compiling that takes long."""
        _tf.begin_saving(self, tf.compat.v1.train.get_global_step())

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Saves; writes the graph as text, unless it is there from a call before."""
        written = session.graph.get_collection_ref(_GRAPH_WRITTEN)
        if self._graph_path not in written or not tf.io.gfile.exists(self._graph_path):
            self._write_graph(session.graph)
            written.append(self._graph_path)
        _tf.save_checkpoint(self, session, session.global_step())

    def _write_graph(self, graph: tf.Graph) -> None:
        """Writes what TF's hook would, sooner."""
        graph_def = graph.as_graph_def(add_shapes=True)
        _tf.add_graph_events(self, graph, graph_def)
        if self._writes_text:
            _tf.write_whole(self._graph_path, graph_text.to_text(graph_def))

    def before_run(self, run_context: Any) -> None:
        """Fetches nothing: the session knows the global step, which TF's hook would compute at every step."""

    def after_run(self, run_context: Any, run_values: Any) -> None:
        step = run_context.session.global_step()
        if _tf.checkpoint_is_due(self, step) and _tf.save_checkpoint(
            self, run_context.session, step
        ):
            run_context.request_stop()

    def steps_until_due(self, global_step: int) -> int | None:
        return self._progress.steps_left(global_step)


class _Progress(tf.compat.v1.train.CheckpointSaverListener):
    """Remembers the step of the last checkpoint, and tells the session of it."""

    def __init__(self, checkpoint_dir: str, save_steps: int | None):
        self._checkpoint_dir = checkpoint_dir
        self._save_steps = save_steps
        self._last_step = None

    def after_save(self, session: Any, global_step_value: int) -> None:
        self._last_step = int(global_step_value)
        session.note_checkpoint(checkpoint.latest_checkpoint(self._checkpoint_dir))

    def steps_left(self, global_step: int) -> int | None:
        if self._save_steps is None or self._last_step is None:
            return None
        return self._last_step + self._save_steps - global_step


class SummaryWriters(SessionRunHook):
    """Opens the writers that a host call or `model_fn` made, and flushes them at the end."""

    def begin(self) -> None:
        graph = tf.compat.v1.get_default_graph()
        self._open = list(_tf.summary_writer_initializer_op())
        self._flush = graph.get_collection_ref(_FLUSHES)
        for op in self._open[len(self._flush) :]:
            self._flush.append(tf.raw_ops.FlushSummaryWriter(writer=op.inputs[0]))

    def after_create_session(self, session: Any, coord: Any) -> None:
        if self._open:
            session.run(self._open)

    def end(self, session: Any) -> None:
        if self._flush:
            session.run(self._flush)

    def steps_until_due(self, global_step: int) -> None:
        return None


class AddUpMetrics(SessionRunHook):
    """At the end of an evaluation has the metrics count what all workers have evaluated."""

    def after_create_session(self, session: Any, coord: Any) -> None:
        session.check_metrics()

    def end(self, session: Any) -> None:
        session.add_up_metrics()

    def steps_until_due(self, global_step: int) -> None:
        return None


class IterationsPerLoop:
    """Chooses how many steps one loop on the cores runs: a count, or what fits into so many seconds."""

    # A longer first guess would overshoot a short duration; a jump of more than this, a slow step's luck.
    _MOST_GROWTH = 10

    def __init__(self, iterations_per_loop: Any):
        self._setting = iterations_per_loop
        self._steps = 1 if iterations_per_loop.unit == "seconds" else iterations_per_loop.value

    @property
    def steps(self) -> int:
        return self._steps

    def measure(self, steps: int, seconds: float) -> None:
        """Learns from one loop's duration."""
        if self._setting.unit == "seconds":
            fitting = int(steps * self._setting.value / max(seconds, 1e-6))
            self._steps = max(1, min(fitting, steps * self._MOST_GROWTH))


def write_scalars(output_dir: str, values: dict[str, float], step: int) -> None:
    """Writes scalars to the directory's event file."""
    summary = tf.compat.v1.Summary(
        value=[
            tf.compat.v1.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()
        ]
    )
    _SummaryWriters.get(output_dir).add_summary(summary, step)


def checkpoint_saver(config: Any, scaffold: tf.compat.v1.train.Scaffold) -> CheckpointSaver:
    """Makes the saver that the configuration asks for."""
    return CheckpointSaver(
        config.model_dir,
        save_secs=config.save_checkpoints_secs,
        save_steps=config.save_checkpoints_steps,
        scaffold=scaffold,
        save_graph_def=config.checkpoint_save_graph_def,
    )


def add_listeners(savers: Sequence[Any], saving_listeners: Sequence[Any]) -> None:
    """Gives the first saver the listeners it hasn't got.

    Raises:
      ValueError: there is no saver.
    """
    if not savers:
        raise ValueError(
            "There should be a CheckpointSaverHook to use saving_listeners. Please set one of the "
            "RunConfig.save_checkpoints_steps or RunConfig.save_checkpoints_secs."
        )
    listeners = _tf.saving_listeners(savers[0])
    listeners.extend(listener for listener in saving_listeners if listener not in listeners)


def progress_hooks(program: Any, config: Any, log_period: LogPeriod) -> list[Any]:
    """Makes the hooks that log and write summaries of training."""
    made: list[Any] = []
    if log_period.steps or log_period.seconds:
        directory = config.model_dir if config.save_summary_steps else None
        period = (log_period.steps, log_period.seconds, program.topology.on_cores)
        made.append(SpeedLogger(log_period.batch_size, directory, *period))
        made.append(LossLogger(program.loss, *period))
    if config.save_summary_steps:
        made.append(SummarySaver(config.model_dir, config.save_summary_steps, program.scaffold))
    return made
