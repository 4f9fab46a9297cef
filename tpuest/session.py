"""The session that hooks, savers and queue runners of TF 1 talk to.

Takes a compiled program, its pipeline and what is fetched; gives values as `tf.compat.v1.Session.run` does. There
is no TF 1 session behind it: fetches are carried into functions and run on the live variables.
"""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import _tf, checkpoint, origins
from tpuest.errors import UnsupportedError
from tpuest.loop import CompiledProgram
from tpuest.partial import PartialStep
from tpuest.pipeline import InputPipeline
from tpuest.replica import STEP_MARKER
from tpuest.spec import ModeKeys
from tpuest.variables import ReplicaVariables
from tpuest.workers import Workers, lost_worker

GLOBAL_STEP = tf.compat.v1.GraphKeys.GLOBAL_STEP
# Who makes new names to fetch at every step must not fill the memory.
_MOST_FETCH_HANDLERS = 64


class ReplicaSession(_tf.SessionInterface):
    """One call's session.

    Fetching what depends on a batch takes the next batch and runs a step; with the operation `STEP_MARKER` among
    the fetches, `num_steps` of them, and every fetch gives the last step's value.

    Attributes:
      graph: the program's.
      num_steps: how many steps the next fetch of `step_marker` runs.
      steps_done: steps run so far.
      holds_whole_steps: whether the variables are what a number of complete steps made of them.
    """

    # What takes a batch, a node or an operation by itself, in an error's message; see `loop._Loop` for what has run when
    # it fails.
    _FETCH = re.compile(r"(\[\[[^\]]*|__wrapped__)IteratorGetNext")

    def __init__(
        self,
        compiled: CompiledProgram,
        pipeline: InputPipeline,
        host_every: int = 1,
        partial_step: PartialStep | None = None,
        prefers_loop: bool = False,
    ):
        """Makes the session.

        Args:
          compiled: the program's functions.
          pipeline: feeds it.
          host_every: steps from one host call to the next.
          partial_step: runs the batches that the pipeline sets aside.
          prefers_loop: whether a single step is run by the loop too: many steps will be, and one function is enough.
        """
        self._graph = compiled.program.graph
        self.num_steps = 1
        self.steps_done = 0
        self.holds_whole_steps = True
        self._compiled = compiled
        self._topology = compiled.program.topology
        self._workers = self._topology.workers
        # Those that take the same steps.
        self._in_step_with = self._workers if compiled.program.mode == ModeKeys.TRAIN else None
        self._pipeline = pipeline
        self._host_every = host_every
        self._iterator = None
        self._is_exhausted = False
        self._every_step: tuple = ()
        self._partial_step = partial_step
        self._prefers_loop = prefers_loop or compiled.program.topology.on_cores
        self._partial_batches: list = []
        self._global_step: int | None = None
        self._fetch_handlers: dict = {}

    @property
    def graph(self) -> tf.Graph:
        return self._graph

    @property
    def variables(self) -> ReplicaVariables:
        """The variables that the session works on."""
        return self._compiled.variables

    @property
    def on_cores(self) -> bool:
        return self._topology.on_cores

    @property
    def sess_str(self) -> str:
        return ""

    @property
    def graph_def(self) -> Any:
        return self.graph.as_graph_def()

    def always_run(self, targets: Any) -> None:
        """Sets what every marked step runs besides its fetches."""
        self._every_step = tuple(t.op if isinstance(t, tf.Tensor) else t for t in targets)

    def global_step(self) -> int:
        """Reads the global step; once for all who ask between two runs."""
        if self._global_step is None:
            self._topology.check_connected()
            with _tf.eager_mode():
                self._global_step = int(self._compiled.variables.value(GLOBAL_STEP))
        return self._global_step

    def uninitialized_variables(self) -> list[str]:
        """Names the graph's global and local variables that have no value."""
        keys = tf.compat.v1.GraphKeys
        names = {
            variable.op.name
            for key in (keys.GLOBAL_VARIABLES, keys.LOCAL_VARIABLES)
            for variable in self.graph.get_collection(key)
        }
        with _tf.eager_mode():
            return [
                name for name in names if not self.variables.has_value(self._compiled.key(name))
            ]

    def goes_on(self, wants_to: bool) -> bool:
        """Says whether to run another step: if all workers want to."""
        if self._in_step_with is None:
            return wants_to
        with _tf.eager_mode(), _LostWorker(self._workers):
            return self._workers.go_on(wants_to)

    def share_from_chief(self) -> None:
        """Gives every worker the values of the chief's variables."""
        if self._workers is not None:
            with _LostWorker(self._workers):
                self._compiled.share_from_chief()

    def check_metrics(self) -> None:
        """Refuses metrics that several workers can't count together.

        Raises:
          UnsupportedError: one isn't made of sums.
        """
        if self._workers is not None:
            self._compiled.parts_of_metrics()

    def add_up_metrics(self) -> None:
        """Counts in the metrics what all workers have evaluated."""
        if self._workers is not None:
            with _tf.eager_mode(), _LostWorker(self._workers):
                self._compiled.add_up_metrics()

    def run(self, fetches, feed_dict=None, options=None, run_metadata=None):
        """Computes fetches; see `tf.compat.v1.Session.run`. `options` and `run_metadata` have no effect."""
        path = self._path_to_save_to(fetches, feed_dict or {})
        if path is None:
            return self._run(fetches, feed_dict)
        save_to = lambda place: self._run(fetches, dict.fromkeys(feed_dict, place))
        checkpoint.save(path, self.variables.checkpoint, save_to)
        return path.encode()

    def _path_to_save_to(self, fetches, feed_dict) -> str | None:
        """Gives the path of the checkpoint that the fetch writes; `None` if it isn't that of the program's saver."""
        saver = self._compiled.program.scaffold.saver
        if saver is None or not isinstance(fetches, str):
            return None
        definition = saver.saver_def
        if definition is None or fetches != definition.save_tensor_name:
            return None
        return feed_dict.get(definition.filename_tensor_name)

    def _run(self, fetches, feed_dict):
        self._topology.check_connected()
        handler = self._fetch_handler(fetches)
        tensors = [self._readable(tensor) for tensor in handler.fetches()]
        targets = [*tensors, *handler.targets()]
        with _tf.eager_mode(), _LostWorker(self._workers), _Explained(self.graph):
            values = self._compute(targets, self._feeds(feed_dict))
        numpy = [None if value is None else value.numpy() for value in values[: len(tensors)]]
        return handler.build_results(self, numpy)

    def _fetch_handler(self, fetches):
        """Makes what takes nested fetches apart; loops ask for the same ones again and again."""
        key = _identities(fetches)
        if key not in self._fetch_handlers:
            if len(self._fetch_handlers) >= _MOST_FETCH_HANDLERS:
                self._fetch_handlers.clear()
            # With the fetches: while they are alive, no other object has their identity.
            self._fetch_handlers[key] = fetches, _tf.FetchHandler(self.graph, fetches, {})
        return self._fetch_handlers[key][1]

    def fetcher(self, tensors: Sequence[tf.Tensor]) -> Callable[[], list[np.ndarray]]:
        """Gives a function that runs a marked step and fetches flat tensors: `run` without its price for any structure."""
        if self._prefers_loop or self._every_step:
            return lambda: self._fetch(self._run_steps_in_order, tensors)
        with _tf.eager_mode(), _Explained(self.graph):
            step = self._compiled.repeated_step(self._pipeline, self._started_iterator(), tensors)
        return lambda: self._fetch(step)

    def _fetch(self, step, *arguments):
        self._global_step = None
        self._topology.check_connected()
        with _tf.eager_mode(), _Explained(self.graph):
            values = step(*arguments)
            if values is None:
                self._is_exhausted = True
                raise _end_of_data()
            return [value.numpy() for value in values]

    def make_callable(self, fetches, feed_list=None, accept_options=False):
        """Gives a function of the values of `feed_list`; see `tf.compat.v1.Session.make_callable`."""

        def call(*values, **unused_options):
            return self.run(fetches, dict(zip(feed_list or (), values)))

        return call

    def partial_run_setup(self, fetches, feeds=None):
        raise tf.errors.UnimplementedError(
            None, None, "tpuest runs no partial steps. Use Session.run."
        )

    def partial_run(self, handle, fetches, feed_dict=None):
        self.partial_run_setup(fetches)

    def close(self) -> None:
        """Releases the input pipeline."""
        self._iterator = None
        self._is_exhausted = True
        self._partial_batches = []

    def note_checkpoint(self, path: str) -> None:
        """Remembers that the variables hold what is in a checkpoint."""
        if self._compiled.program.restores_plainly:
            self._compiled.variables.checkpoint = checkpoint.identity(path)

    def _compute(self, targets, feeds):
        self._global_step = None
        if all(target.name != STEP_MARKER for target in targets):
            if not self._compiled.needs_batch(targets, [tensor for tensor, _ in feeds]):
                return self._compiled.run_host(targets, feeds)
            return self._one_step(targets, feeds)
        steps = [target for target in targets if target.name != STEP_MARKER]
        values = self._run_steps(steps, feeds)
        return [values.get(target.name) for target in targets]

    def _one_step(self, targets, feeds):
        iterator = self._started_iterator()
        with self._stepping():
            # TensorFlow on a TPU compiles a step in any case.
            is_rare = self._prefers_loop and not self._topology.is_tpu
            values = self._compiled.run_step(self._pipeline, iterator, targets, feeds, is_rare)
        if values is None:
            self._is_exhausted = True
            raise _end_of_data()
        return values

    @contextlib.contextmanager
    def _stepping(self):
        """Notes whether an operation of the model failed: others that change variables may have run before it."""
        try:
            yield
        except tf.errors.OpError as error:
            self.holds_whole_steps = bool(self._FETCH.search(error.message))
            raise

    def _run_steps(self, targets, feeds=()) -> dict[str, Any]:
        """Runs `num_steps` steps and gives the last one's values by name."""
        unique = {t.name: t for t in (*targets, *self._every_step)}
        wanted = [unique[name] for name in sorted(unique)]
        if self._in_step_with is None:
            return self._run_unique_steps(wanted, feeds)
        # What this worker alone reads beside the step (the chief, when it last saved) must not make it another step.
        alone = [t for t in wanted if self._is_read_alone(t)]
        before = self._compiled.run_host(alone) if alone else []
        together = [t for t in wanted if not self._is_read_alone(t)]
        self._workers.check_alike(target.name for target in together)
        values = self._run_unique_steps(together, feeds)
        return {**values, **{t.name: v for t, v in zip(alone, before, strict=True)}}

    def _is_read_alone(self, target) -> bool:
        is_tensor = isinstance(target, tf.Tensor) and target is not self._compiled.program.loss
        return is_tensor and not self._compiled.needs_batch([target])

    def _run_unique_steps(self, wanted, feeds) -> dict[str, Any]:
        if not self._is_exhausted:
            try:
                return self._run_full_steps(wanted, feeds)
            except tf.errors.OutOfRangeError:
                if not self._is_exhausted:
                    raise
        if feeds:
            raise UnsupportedError(
                f"Feeding {feeds[0][0].name} at the last, partial batch on cores",
                "Give evaluate(steps=...), or batches with drop_remainder=True.",
            )
        return self._run_partial_batch(wanted)

    def _run_steps_in_order(self, tensors):
        values = self._run_steps(tensors)
        return [values[tensor.name] for tensor in tensors]

    def _run_full_steps(self, wanted, feeds):
        if (self.num_steps > 1 or self._prefers_loop) and self._compiled.can_loop(wanted):
            return self._loop(wanted, self.num_steps, feeds)
        before = {}
        if self.num_steps > 1:
            steps_expected = self.steps_done + self.num_steps - 1
            before = self._loop(self._without_values(wanted), self.num_steps - 1, feeds)
            if self.steps_done < steps_expected:
                return before  # The data ended or the loss is no number.
        if (self.num_steps - 1) % self._host_every:
            wanted = [t for t in wanted if t not in self._every_step]
        try:
            values = self._one_step(wanted, feeds)
        except tf.errors.OutOfRangeError:
            if before and self._is_exhausted:
                return before  # The data ended in this call: its last step is that of the loop.
            raise
        self.steps_done += 1
        return dict(zip((t.name for t in wanted), values))

    def _run_partial_batch(self, wanted):
        """Runs one of the batches that the pipeline set aside, as a step of its own."""
        self._partial_batches += self._pipeline.partial_batches()
        if not self._partial_batches or self._partial_step is None:
            raise _end_of_data()
        values = self._partial_step.run(self._partial_batches.pop(0), wanted)
        self.steps_done += 1
        return dict(zip((t.name for t in wanted), values))

    def _without_values(self, wanted):
        """Leaves what changes variables, and the loss: the loop stops where it is no number."""
        loss = self._compiled.program.loss
        return [t for t in wanted if t is loss or not isinstance(t, tf.Tensor)]

    def _loop(self, targets, num_steps, feeds):
        iterator = self._started_iterator()
        with self._stepping():
            done, more, values = self._compiled.run_loop(
                self._pipeline, iterator, num_steps, targets, self._host_every, feeds
            )
        self.steps_done += done
        self._is_exhausted = not more
        if not done:
            raise _end_of_data()
        return dict(zip((t.name for t in targets), values))

    def _started_iterator(self):
        if self._is_exhausted:
            raise _end_of_data()
        if self._iterator is None:
            self._iterator = self._pipeline.make_iterator(self._compiled.handle)
        return self._iterator

    def _readable(self, tensor):
        """Gives the value of a variable that is fetched by name: `'w:0'` was the value itself in TF 1."""
        if tensor.dtype != tf.resource or tensor.op.type != "VarHandleOp":
            return tensor
        return self.graph.get_tensor_by_name(f"{tensor.op.name}/Read/ReadVariableOp:0")

    def _feeds(self, feed_dict):
        """Lists `(tensor, value)` pairs; keys may be names, as a Saver's are, or sparse tensors."""
        feeds = []
        for key, value in (feed_dict or {}).items():
            is_sparse = isinstance(key, tf.SparseTensor)
            keys = tf.nest.flatten(key, expand_composites=True) if is_sparse else [key]
            for one, given in zip(keys, tuple(value) if is_sparse else [value]):
                tensor = self.graph.as_graph_element(one, allow_operation=False)
                feeds.append((tensor, np.asarray(given, dtype=tensor.dtype.as_numpy_dtype)))
        return feeds


def _identities(fetches: Any) -> Any:
    """Gives a key that is equal for the same objects in the same nest."""
    if isinstance(fetches, dict):
        return type(fetches), tuple((id(key), _identities(fetches[key])) for key in fetches)
    if type(fetches) in (list, tuple):
        return type(fetches), tuple(map(_identities, fetches))
    return id(fetches)


def _end_of_data() -> tf.errors.OutOfRangeError:
    return tf.errors.OutOfRangeError(None, None, "End of sequence")


class _LostWorker:
    """Ends a session whose other workers are gone: made anew, as after a lost TPU, it would wait for them forever."""

    def __init__(self, workers: Workers | None):
        self._workers = workers

    def __enter__(self):
        return self

    def __exit__(self, error_type, error, trace):
        lost = (tf.errors.AbortedError, tf.errors.UnavailableError)
        if self._workers is not None and isinstance(error, lost):
            raise lost_worker() from error


class _Explained:
    """Adds to an error of an operation where in the user's code the operation was made."""

    _NODE = re.compile(r"\{\{node ([^}]+)\}\}")
    # Errors that tell what happened outside the model: hooks and MonitoredSession act on their type alone.
    _NOT_OF_AN_OP = (tf.errors.OutOfRangeError, tf.errors.AbortedError, tf.errors.UnavailableError)

    def __init__(self, graph: tf.Graph):
        self._graph = graph

    def __enter__(self):
        return self

    def __exit__(self, error_type, error, trace):
        if not isinstance(error, tf.errors.OpError) or isinstance(error, self._NOT_OF_AN_OP):
            return
        operation = self._operation(error.message)
        if operation is None:
            return
        made_at = "".join(traceback.format_list(origins.user_frames(operation)))
        message = f"{error.message}\n\nOperation {operation.name!r} was made at:\n{made_at}"
        raise type(error)(error.node_def, operation, message).with_traceback(trace) from None

    def _operation(self, message):
        for name in self._NODE.findall(message):
            operation = origins.find_operation(self._graph, name)
            if operation is not None:
                return operation
        return None
