"""Runs steps of a program in compiled functions: one, many in a loop, or the host's part alone.

Takes a `Program` and the `ReplicaVariables` it works on; gives numpy-convertible values of what was asked for.

    loop(iterator, n):                      one tf.function
      while i < n and the data lasts and the loss is a number:
        batch = next(iterator)
        per_replica = strategy.run(step, batch)
        host(gather(per_replica))
"""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf
from tpuest.cross_replica import meet_alone, meet_in_replica_context
from tpuest.embedding_hardware import HardwareTables, memory_of
from tpuest.embedding_tables import REPLICA_ID
from tpuest.errors import UnsupportedError
from tpuest.fetches import Fetches, sort_fetches
from tpuest.mirroring import combined_variables
from tpuest.pipeline import InputPipeline
from tpuest.replica import HostInput, Program
from tpuest.spec import ModeKeys
from tpuest.topology import Topology
from tpuest.transplant import producer_name
from tpuest.variables import ReplicaVariables

_programs = itertools.count()
_ENDED_APART = (
    "The data of one host has ended, and that of another has not. Give as many batches on each, pass steps, or set "
    "TPUConfig(eval_training_input_configuration=InputPipelineConfig.SLICED): input_fn is called once for all hosts."
)
# A core's batch has one static shape: nothing to pad on a TPU.
_STATIC = tf.distribute.RunOptions(experimental_enable_dynamic_batch_size=False)


class _Takes(enum.Enum):
    """How a step comes by its batch.

    Attributes:
      OPTIONAL: from the iterator, its argument; its first value says whether there was a batch, and nothing ran without.
      NEXT: from the iterator; without a batch it is an `OutOfRangeError`, and what needs none has run.
      BATCH: as arguments, what `_tf.take_batch` gives: compiled soonest.
    """

    OPTIONAL = enum.auto()
    NEXT = enum.auto()
    BATCH = enum.auto()


class CompiledProgram:
    """A program's functions on one set of variables, compiled when first needed and kept."""

    def __init__(self, program: Program, variables: ReplicaVariables):
        self.program = program
        self.variables = variables
        self._prefix = f"program_{next(_programs)}/"
        self._functions: dict[Any, Callable] = {}
        self._has_run: set[Callable] = set()
        self._fetches: dict[Any, Fetches] = {}
        self._shared: frozenset[str] = frozenset()
        self._written: dict[Any, list[str]] = {}
        self._needs_batch: dict[Any, bool] = {}
        self._parts: dict[str, bool] | None = None
        self._read: dict[Any, set[str]] = {}
        self._fed: dict[str, tf.Tensor] = {}
        self._gate: tf.Tensor | None = None

    def ensure_variables(self) -> None:
        """Makes the graph's variables; those of the model are shared with the estimator's other programs."""
        collection = self.program.graph.get_collection(tf.compat.v1.GraphKeys.GLOBAL_VARIABLES)
        self._shared = frozenset(variable.op.name for variable in collection)
        of_cores = self._variables_of_cores()
        with _tf.eager_mode():
            for name, node in self.program.source.variables().items():
                shape = tf.TensorShape(node.attr["shape"].shape)
                dtype = tf.as_dtype(node.attr["dtype"].type)
                on_host = name not in of_cores
                self.variables.ensure(self.key(name), shape, dtype, name, on_host)
        if self.program.hardware_step is not None and self.variables.tables is None:
            memory = memory_of(self.program.topology.strategy)
            self.variables.tables = HardwareTables(memory, self.variables.find)

    def release(self) -> None:
        """Lets go of the functions, and of the variables that no other program uses."""
        self._functions.clear()
        self._has_run.clear()
        self.variables.forget(self._prefix)

    def _variables_of_cores(self) -> frozenset[str]:
        """Names the model's variables, and of the program's own those that a core uses."""
        program = self.program
        if not program.topology.on_cores:
            return frozenset(program.source.variables())
        outputs = [h.tensor for h in program.host_inputs]
        if program.train_op is not None:
            outputs.append(program.train_op)
        on_cores = self._shared.union(program.source.closure(outputs))
        return on_cores - self._tables() - self._inputs_of_cores()

    def _inputs_of_cores(self) -> set[str]:
        """Names what each core has one of, such as its part of a variable: of that there need be no copies.

        Raises:
          UnsupportedError: on a TPU, whose cores have copies of the same variables here.
        """
        names = self.program.source.inputs_of_cores()
        if names and self.program.topology.is_tpu:
            raise UnsupportedError(
                f"An input of which each core has its own, such as {min(names)}, on a TPU (tpu_replicated_input, Mesh "
                "TensorFlow's variables in parts)",
                "Keep the whole variable on every core; what differs between cores goes through input_fn.",
            )
        return names

    def _tables(self) -> frozenset[str]:
        """Names the variables that embeddings' hardware has in place of the cores."""
        step = self.program.hardware_step
        return frozenset() if step is None else step.variables

    def _place_tables(self) -> None:
        """Has the TPU hold the tables that the next step looks up in."""
        if self.program.hardware_step is not None:
            self.variables.tables.place(self.program.hardware_step)

    def key(self, name: str) -> str:
        """Gives a variable's name in `ReplicaVariables`: metrics' counters are the program's own."""
        return name if name in self._shared else self._prefix + name

    def handle(self, name: str, replica_id: int = 0) -> tf.Tensor:
        return self.variables.handle(self.key(name), replica_id)

    def sort(self, targets: Sequence) -> Fetches:
        """Finds out where each target of a step runs."""
        key = tuple(target.name for target in targets)
        if key not in self._fetches:
            self._fetches[key] = sort_fetches(self.program, targets)
        return self._fetches[key]

    def needs_batch(self, targets: Sequence, fed: Sequence[tf.Tensor] = ()) -> bool:
        """Says whether any target depends on a batch, other than by what is fed."""
        leaves = tuple(tensor.name for tensor in fed)
        key = (tuple(target.name for target in targets), leaves)
        if key not in self._needs_batch:
            batch = [*self.program.inputs, *(h.placeholder for h in self.program.host_inputs)]
            closure = self.program.source.closure(targets, leaves)
            self._needs_batch[key] = not {tensor.op.name for tensor in batch}.isdisjoint(closure)
        return self._needs_batch[key]

    def run_host(self, targets: Sequence, feeds: Sequence[tuple[tf.Tensor, Any]] = ()) -> list:
        """Computes targets that need no batch, on replica 0's variables.

        Args:
          targets: tensors and operations of the graph.
          feeds: tensors of the graph and the values they get.

        Returns:
          For each target a tensor, or `None` for an operation.
        """
        fed = [tensor for tensor, _ in feeds]
        if self.program.topology.is_mirrored:
            self._combine_parts(targets)
        if not self._tables().isdisjoint(self.program.source.closure(targets)):
            self.variables.tables.fetch()
        names, fed_names = (tuple(t.name for t in tensors) for tensors in (targets, fed))
        key = ("host", names, fed_names)
        if key not in self._functions:
            self._functions[key] = self._read_of(targets, fed) or self._build_host(targets, fed)
        values = self._functions[key](*_fed_values(feeds))
        written = self._note_written(targets)
        if not self._tables().isdisjoint(written):
            self.variables.tables.note_written()
        self.variables.share_first(written, self._sums())
        return values

    def run_step(
        self,
        pipeline: InputPipeline,
        iterator: Any,
        targets: Sequence,
        feeds: Sequence = (),
        is_rare: bool = False,
    ) -> list | None:
        """Takes the next batch, runs one step on it and computes `targets` there.

        Args:
          pipeline: whose batches `iterator` gives.
          iterator: from `pipeline.make_iterator`.
          targets: tensors and operations of the graph.
          feeds: see `run_host`.
          is_rare: whether most steps are the loop's; then this one takes what is there sooner: a function of the batch,
            which runs its first time as it was traced.

        Returns:
          The values, `None` for operations; or `None` if the data has ended.
        """
        takes = _Takes.BATCH if is_rare and self._is_alone else _Takes.OPTIONAL
        step = self.build_step(pipeline, iterator, targets, [t for t, _ in feeds], takes)
        self._note_written(targets)
        self._place_tables()
        runs_as_traced = is_rare and step not in self._has_run
        self._has_run.add(step)
        given = _tf.take_batch(iterator) if takes is _Takes.BATCH else [iterator]
        if given is None:
            return None
        values = _tf.call_flat(
            step, *given, *_fed_values(feeds), rewrites=0 if runs_as_traced else 1
        )
        if takes is _Takes.OPTIONAL:
            more, *values = values
            if not bool(more):
                return None
        return self._in_order(targets, self.sort(targets), *values)

    def repeated_step(
        self, pipeline: InputPipeline, iterator: Any, targets: Sequence[tf.Tensor]
    ) -> Callable[[], list[tf.Tensor] | None]:
        """Gives what `run_step` does for these targets as a function: all but the step itself is done once, here.

        Args:
          pipeline: whose batches `iterator` gives.
          iterator: from `pipeline.make_iterator`.
          targets: tensors that the replicas compute, or the host on what they computed.
        """
        batch = [tensor.name for tensor in self.program.inputs]
        is_pure = self._is_alone and self.program.source.only_reads(targets, batch)
        takes = _Takes.NEXT if is_pure else _Takes.OPTIONAL
        step = self.build_step(pipeline, iterator, targets, takes=takes)
        call = _tf.repeated_call(step, iterator)
        fetches = self.sort(targets)
        computed = [t.name for t in (*fetches.on_replicas, *fetches.on_host)]
        order = [computed.index(target.name) for target in targets]
        self._note_written(targets)

        def run() -> list[tf.Tensor] | None:
            self._place_tables()
            try:
                values = call()
            except tf.errors.OutOfRangeError:
                if takes is _Takes.NEXT:
                    return None
                raise
            if takes is _Takes.OPTIONAL:
                more, *values = values
                if not more:
                    return None
            return [values[index] for index in order]

        return run

    @property
    def _is_alone(self) -> bool:
        """Whether no other replica must agree on whether there is a batch."""
        topology = self.program.topology
        return topology.num_replicas == 1 and topology.workers is None

    def build_step(
        self,
        pipeline: InputPipeline,
        iterator: Any,
        targets: Sequence,
        fed: Sequence = (),
        takes: _Takes = _Takes.OPTIONAL,
    ) -> Callable:
        """Traces a step, a function that gives the values on replicas and host; see `run_step`.

        Args:
          pipeline: whose batches `iterator` gives.
          iterator: from `pipeline.make_iterator`.
          targets: tensors and operations of the graph.
          fed: tensors of the graph whose values are the function's last arguments.
          takes: how the step comes by its batch.
        """
        key = ("step", tuple(t.name for t in targets), tuple(t.name for t in fed), takes)
        if key not in self._functions:
            fetches = self.sort(targets)
            # The iterator itself must not stay with the function.
            element_spec = iterator.element_spec
            taken = _tf.specs_of_batch(iterator) if takes is _Takes.BATCH else [iterator]
            num_taken = len(taken)

            def run(element):
                return tuple(map(_tensors, self._step(pipeline, element, fetches)))

            def take_and_run(iterator):
                element = iterator.get_next_as_optional()
                more = element.has_value()
                workers = self.program.topology.workers
                if workers is not None and self.program.mode == ModeKeys.TRAIN:
                    more = workers.agree(more)
                # Nothing of the step may run where there is no batch, not even what needs none.
                return more, *tf.cond(
                    more, lambda: run(element.get_value()), lambda: _zeros(fetches)
                )

            # Not a lambda: TPUStrategy names ops after it.
            def step(*arguments):
                given, values = arguments[:num_taken], arguments[num_taken:]
                with self._feeding(fed, values):
                    if takes is _Takes.BATCH:
                        return run(_tf.structured_batch(element_spec, given))
                    if takes is _Takes.NEXT:
                        return run(given[0].get_next())
                    return take_and_run(*given)

            step = tf.function(step, autograph=False)
            self._functions[key] = step.get_concrete_function(*taken, *_specs(fed))
        return self._functions[key]

    def run_replicas(self, batches: Sequence, targets: Sequence) -> list[list[tf.Tensor]]:
        """Computes tensors on every replica, nothing on the host.

        Args:
          batches: the flat batch of each replica.
          targets: tensors of the graph.

        Returns:
          For each target the values of the replicas.

        Raises:
          UnsupportedError: a TPU looks up embeddings, for batches of one size.
        """
        if self.program.hardware_step is not None:
            raise UnsupportedError(
                "A last, smaller batch with embedding_config_spec on a TPU",
                "Give evaluate(steps=...), or batches with drop_remainder=True.",
            )
        key = ("replicas", tuple(t.name for t in targets))
        if key not in self._functions:
            self._functions[key] = tf.function(self._replicas(targets), autograph=False)
        if len(batches) == 1:
            return self._functions[key](*batches[0])
        strategy = self.program.topology.strategy
        per_replica = [
            strategy.experimental_distribute_values_from_function(
                lambda context, values=values: values[context.replica_id_in_sync_group]
            )
            for values in zip(*batches)
        ]
        return self._functions[key](*per_replica)

    def build_replicas(self, targets: Sequence) -> Callable:
        """Traces what `run_replicas` runs, a function of one flat batch that every replica gets."""
        batch = _specs(self.program.inputs)
        return tf.function(self._replicas(targets), autograph=False).get_concrete_function(*batch)

    def _replicas(self, targets):
        strategy = self.program.topology.strategy

        def run(*batch):
            computed = strategy.run(
                lambda *own: self._replica_step(targets, own),
                args=tuple(self._given_to_cores(batch)),
                options=_STATIC,
            )
            return [list(strategy.experimental_local_results(value)) for value in computed]

        return run

    def run_loop(
        self,
        pipeline: InputPipeline,
        iterator: Any,
        num_steps: int,
        targets: Sequence,
        host_every: int = 1,
        feeds: Sequence = (),
    ):
        """Runs up to `num_steps` steps in one call and gives the last one's `targets`.

        Args:
          pipeline: whose batches `iterator` gives.
          iterator: from `pipeline.make_iterator`.
          num_steps: steps to run, at most.
          targets: to compute at every step; tensors must have static shapes (`can_loop`).
          host_every: steps from one host's part to the next.
          feeds: see `run_host`; the same at every step.

        Returns:
          Steps done, whether the data may go on, and the values: `None` for operations.
        """
        fed = [tensor for tensor, _ in feeds]
        loop = self.build_loop(pipeline, iterator, targets, host_every, fed)
        self._note_written(targets)
        self._place_tables()
        done, more, on_replicas, on_host = _tf.call_flat(
            loop, iterator, tf.constant(num_steps), *_fed_values(feeds)
        )
        if not int(done):
            return 0, bool(more), []
        values = self._in_order(targets, self.sort(targets), on_replicas, on_host)
        return int(done), bool(more), values

    def build_loop(
        self,
        pipeline: InputPipeline,
        iterator: Any,
        targets: Sequence,
        host_every: int = 1,
        fed: Sequence = (),
    ) -> Callable:
        """Traces what `run_loop` runs, a function of the iterator, int32 `num_steps` and what is fed; see there."""
        names, fed_names = (tuple(t.name for t in tensors) for tensors in (targets, fed))
        key = ("loop", names, host_every, fed_names, pipeline.reads_variables)
        if key not in self._functions:
            body = _Loop(self, pipeline, self.sort(targets), host_every)

            def loop(iterator, num_steps, *values):
                with self._feeding(fed, values):
                    return body(iterator, num_steps)

            loop = tf.function(loop, autograph=False)
            num_steps = tf.TensorSpec([], tf.int32)
            self._functions[key] = loop.get_concrete_function(iterator, num_steps, *_specs(fed))
        return self._functions[key]

    def can_loop(self, targets: Sequence) -> bool:
        """Says whether `run_loop` can carry the targets from one step to the next, and whether that is worth it.

        Strings are summaries: work for the host that only the last step's caller wants.
        """
        fetches = self.sort(targets)
        carried = [t for t in (*fetches.on_replicas, *fetches.on_host) if isinstance(t, tf.Tensor)]
        return all(
            t.shape.is_fully_defined() and t.dtype not in (tf.variant, tf.resource, tf.string)
            for t in carried
        )

    def _in_order(self, targets, fetches, on_replicas, on_host):
        """Puts the values in the order of `targets`, and adds those that waited for the end."""
        after = self.run_host(fetches.after) if fetches.after else []
        values = {}
        for group, computed in ((fetches.on_replicas, on_replicas), (fetches.on_host, on_host)):
            tensors = [t for t in group if isinstance(t, tf.Tensor)]
            values.update((t.name, v) for t, v in zip(tensors, computed))
        values.update((t.name, v) for t, v in zip(fetches.after, after))
        return [values.get(target.name) for target in targets]

    def _combine_parts(self, targets) -> None:
        """Puts together what the replicas hold parts of, as far as the targets read it."""
        read = self._read_variables(targets)
        parts = {n: m for n, m in self._replicas_parts().items() if n in read}
        self.variables.combine({n: m for n, m in parts.items() if self.variables.has_value(n)})

    def share_from_chief(self) -> None:
        """Gives the program's variables on every worker the values of the chief's."""
        names = [self.key(name) for name in sorted(self.program.source.variables())]
        self.variables.share_from_chief(self.program.topology.workers, names)

    def add_up_metrics(self) -> None:
        """Counts in every worker's metrics what all of them have counted."""
        parts = self.parts_of_metrics()
        self.variables.combine(parts)
        self.variables.add_up(self.program.topology.workers, parts)

    def parts_of_metrics(self) -> dict[str, bool]:
        """Gives the metrics' variables of which each replica holds a part, and whether they are the parts' mean.

        Raises:
          UnsupportedError: a metric has others.
        """
        parts = {n: m for n, m in self._replicas_parts().items() if n.startswith(self._prefix)}
        written = self._find_written([self.program.eval_update])
        steps = self.program.graph.get_collection(tf.compat.v1.GraphKeys.EVAL_STEP)
        known = {*parts, *(self.key(step.op.name) for step in steps)}
        others = [name.removeprefix(self._prefix) for name in written if name not in known]
        if others:
            raise UnsupportedError(
                f"A metric that keeps {others[0]} in evaluation over several workers",
                "Use tf.metrics, whose counters can be added up, or leave eval_distribute out.",
            )
        return parts

    def _sums(self) -> set[str]:
        return {name for name, is_mean in self._replicas_parts().items() if not is_mean}

    def _replicas_parts(self) -> dict[str, bool]:
        """Gives the variables of which each replica holds a part, and whether they are the parts' mean."""
        if self._parts is None:
            is_mirrored = self.program.topology.is_mirrored
            parts = combined_variables(self.program.graph) if is_mirrored else {}
            self._parts = {self.key(name): is_mean for name, is_mean in parts.items()}
        return self._parts

    def _read_variables(self, targets) -> set[str]:
        key = tuple(t.name for t in targets)
        if key not in self._read:
            source = self.program.source
            nodes, variables = source.nodes(), source.variables()
            self._read[key] = {
                self.key(producer_name(reference))
                for name in source.closure(targets)
                if nodes[name].op in ("ReadVariableOp", "SaveV2")
                for reference in nodes[name].input
                if producer_name(reference) in variables
            }
        return self._read[key]

    def _note_written(self, targets) -> list[str]:
        """Names the variables that the targets may write; of the model's, says that they left their checkpoint."""
        key = tuple(t.name for t in targets)
        if key not in self._written:
            self._written[key] = self._find_written(targets)
        if not self._shared.isdisjoint(self._written[key]):
            self.variables.checkpoint = None
        return self._written[key]

    def _find_written(self, targets):
        source = self.program.source
        written = {v for name in source.closure(targets) for v in source.written_by(name)}
        return [self.key(name) for name in sorted(written)]

    def _build_host(self, targets, fed):
        def run(*values):
            with self._host_device():
                bindings = {t.name: value for t, value in zip(fed, values)}
                return self._transplant_host(targets, bindings)

        function = tf.function(run, autograph=False).get_concrete_function(*_specs(fed))

        return functools.partial(_tf.call_flat, function, rewrites=0)

    def _read_of(self, targets, fed):
        """Gives what reads variables, or does nothing, if that is all the targets ask for; else `None`.

        A function takes longer to compile than such a read takes, and every call of a small model makes some.
        """
        nodes = self.program.source.nodes()
        if fed:
            return None
        if all(nodes[name].op == "NoOp" for name in self.program.source.closure(targets)):
            return lambda: [None] * len(targets)
        reads = [_variable_read(target, nodes) for target in targets]
        if None in reads:
            return None
        return lambda: [self.variables.read(self.key(name)) for name in reads]

    def _transplant_host(self, targets, bindings):
        """Builds targets on replica 0's variables; gives a tensor or `None` for each."""
        built = self.program.source.transplant(
            targets,
            {**self._handles(targets, 0, bindings), **bindings},
            meet=meet_alone,
        )
        return [t if isinstance(t, tf.Tensor) else None for t in _with_operations_done(built)]

    def _host_device(self):
        topology = self.program.topology
        return tf.device("/cpu:0" if topology.on_cores or topology.devices == ("/cpu:0",) else None)

    @contextlib.contextmanager
    def _feeding(self, fed, values):
        """Gives tensors of the graph other values wherever the step being traced uses them."""
        self._fed = {tensor.name: value for tensor, value in zip(fed, values)}
        try:
            yield
        finally:
            self._fed = {}

    @contextlib.contextmanager
    def _writing_after(self, tensor):
        """Lets the step being traced change variables only once a tensor is there."""
        self._gate = tensor
        try:
            yield
        finally:
            self._gate = None

    def _handles(self, targets, replica_id, leaves):
        """Gives what stands for the variables, and for what is fed, of one replica."""
        nodes = self.program.source.nodes()
        closure = self.program.source.closure(targets, leaves)
        variables = [name for name in closure if nodes[name].op == "VarHandleOp"]
        return {
            **{f"{name}:0": self.handle(name, replica_id) for name in variables},
            **{name: value for name, value in self._fed.items() if producer_name(name) in closure},
        }

    def _step(self, pipeline, element, fetches, runs_host_call=None):
        """Builds one step: replicas, then the host; `runs_host_call` says whether its operations run too."""
        flat = self._flat_batch(pipeline, element)
        strategy = self.program.topology.strategy
        core_tensors = [h.tensor for h in fetches.host_inputs]
        targets = [*fetches.on_replicas, *core_tensors]
        self._check_reads_no_table([*targets, *fetches.on_host])
        computed = strategy.run(
            lambda *given: self._replica_step(targets, given),
            args=tuple(self._given_to_cores(flat)),
            options=_STATIC,
        )
        per_replica = [strategy.experimental_local_results(value) for value in computed]
        num_own = len(per_replica) - len(core_tensors)
        on_replicas = [values[0] for values in per_replica[:num_own]]
        with self._host_device():
            on_host = self._host_step(fetches, per_replica[num_own:], runs_host_call)
        return on_replicas, on_host

    def _given_to_cores(self, flat):
        """Gives values of `core_inputs`; where embeddings' hardware looks up, it gets each core's ids."""
        program, strategy = self.program, self.program.topology.strategy
        step, hardware = program.host_step, program.hardware_step
        if step is None:
            return flat
        ids = [] if hardware is None else [t for of_feature in hardware.ids for t in of_feature]
        local = [strategy.experimental_local_results(value) for value in flat]
        for_cores = []
        for replica_id, device in enumerate(strategy.extended.worker_devices):
            # A value that isn't each core's own is all cores'.
            own = {
                t.name: v[replica_id if len(v) > 1 else 0]
                for t, v in zip(program.inputs, local, strict=True)
            }
            with tf.device(_tf.host_of(device)):
                built = program.source.transplant([*ids, *step.for_cores], own)
            if hardware is not None:
                hardware.enqueue(built[: len(ids)], device)
            for_cores.append(built[len(ids) :])
        batch = [
            value
            for value, tensor in zip(flat, program.inputs, strict=True)
            if tensor.name not in step.host_inputs
        ]
        return [*batch, *(_tf.per_replica(list(values)) for values in zip(*for_cores))]

    def _check_reads_no_table(self, targets):
        """Refuses what would see a table as it was when the TPU got it."""
        tables = self._tables()
        read = tables and tables.intersection(self.program.source.closure(targets))
        if read:
            raise UnsupportedError(
                f"Reading the embedding table {min(read)} in a step on a TPU",
                "Read it between steps: estimator.get_variable_value, or a hook that fetches it alone.",
            )

    def _flat_batch(self, pipeline, element):
        topology = self.program.topology
        if topology.num_replicas == 1:
            flat = pipeline.flatten(element)
        else:
            flat = element if isinstance(element, (list, tuple)) else [element]
        if topology.on_cores:
            if pipeline.may_end_apart and self.program.mode == ModeKeys.EVAL:
                self._check_all_have_batches(flat[0])
            # An element of an optional has lost its shape, and a TPU would be given padding to do.
            for value, tensor in zip(flat, self.program.inputs):
                for own in topology.strategy.experimental_local_results(value):
                    own.set_shape(tensor.shape)
        return flat

    def _check_all_have_batches(self, per_replica):
        """Refuses, in the function being traced, what TensorFlow gives where one host's data has ended: empty batches."""
        topology = self.program.topology
        sizes = []
        for value, device in zip(
            topology.strategy.experimental_local_results(per_replica), topology.devices, strict=True
        ):
            with tf.device(device):  # Where it is: elsewhere it would be sent for its size.
                sizes.append(tf.size(value))
        with tf.device("/cpu:0"):
            tf.debugging.Assert(
                tf.reduce_all(tf.stack(sizes) > 0),
                [_ENDED_APART],
            )

    def _replica_step(self, targets, given):
        """Runs in the strategy's replica context; gives the tensors among `targets`."""
        topology = self.program.topology
        own_id = _static_replica_id() - topology.first_replica_id
        if not topology.is_tpu:
            return self.build_replica(targets, given, own_id, _meet_on(topology))
        given = self.program.split_over_cores(given)
        stand_ins = {}
        if REPLICA_ID in self.program.source.nodes():
            # One trace serves all cores, each of which knows its number when it runs.
            own_number = tf.distribute.get_replica_context().replica_id_in_sync_group
            stand_ins[f"{REPLICA_ID}:0"] = own_number
        return self.build_replica(targets, given, own_id, None, stand_ins)

    def build_replica(
        self,
        targets: Sequence,
        given: Sequence[tf.Tensor],
        replica_id: int,
        meet: Callable | None,
        stand_ins: Mapping[str, tf.Tensor] | None = None,
    ) -> list[tf.Tensor]:
        """Builds one replica's part of a step in the function being traced.

        Args:
          targets: tensors and operations of the graph.
          given: what stands for `program.core_inputs`.
          replica_id: whose variables to use.
          meet: see `TransplantSource.transplant`.
          stand_ins: names of further tensors of the graph, and what stands for them.

        Returns:
          The tensors among `targets`.
        """
        bindings = {tensor.name: value for tensor, value in zip(self.program.core_inputs, given)}
        if REPLICA_ID in self.program.source.nodes():
            bindings[f"{REPLICA_ID}:0"] = tf.constant(replica_id)
        bindings.update(stand_ins or {})
        bindings.update(self._handles(targets, replica_id, bindings))
        topology = self.program.topology
        keeps_cores = topology.is_tpu and topology.cores_per_replica is not None
        id_in_sync = self.program.topology.first_replica_id + replica_id
        built = self.program.source.transplant(
            targets, bindings, id_in_sync, meet, keeps_cores, self._gate
        )
        return [t for t in _with_operations_done(built) if isinstance(t, tf.Tensor)]

    def _host_step(self, fetches, per_replica, runs_host_call):
        bindings = {
            h.placeholder.name: _gather(h, values)
            for h, values in zip(fetches.host_inputs, per_replica)
        }
        # On a TPU a variable's handle is another on the host than in the step: nothing else orders them.
        with tf.control_dependencies([values[0] for values in per_replica]):
            for name, handle in self._handles(fetches.on_host, 0, bindings).items():
                if producer_name(name) in self._shared:
                    bindings[name] = tf.identity(handle)
        tensors, operations = (
            [t for t in fetches.on_host if isinstance(t, tf.Tensor) is is_tensor]
            for is_tensor in (True, False)
        )

        def run_operations():
            handles = self._handles(operations, 0, bindings)
            built = self.program.source.transplant(
                operations, {**handles, **bindings}, meet=meet_alone
            )
            with tf.control_dependencies(built):
                return tf.constant(True)

        if runs_host_call is None:
            built = self._transplant_host([*tensors, *operations], bindings)
            return built[: len(tensors)]
        ran = tf.cond(runs_host_call, run_operations, lambda: tf.constant(False))
        with tf.control_dependencies([ran]):
            return [tf.identity(tensor) for tensor in self._transplant_host(tensors, bindings)]


class _Loop:
    """The body of one compiled loop."""

    def __init__(
        self, compiled: CompiledProgram, pipeline: InputPipeline, fetches: Fetches, host_every: int
    ):
        self._compiled = compiled
        self._pipeline = pipeline
        self._fetches = fetches
        self._host_every = host_every
        program = compiled.program
        self._watched = program.loss if program.mode == ModeKeys.TRAIN else None
        # Another thread fetches: waiting for it was a fifth of a small model's time. Not where the input reads what the
        # step changes; and an input that fails must not leave a step half done: variables change when the fetch is over,
        # which the graphs of several replicas cannot be told.
        topology = program.topology
        self._fetches_beside_step = not (
            pipeline.reads_variables
            or topology.is_tpu
            or topology.is_mirrored
            or topology.num_replicas > 1
        )

    def __call__(self, iterator, num_steps):
        replicas, host = _zeros(self._fetches)
        every = self._host_every

        def proceed(i, element, are_numbers, *_):
            goes_on = (i < num_steps) & element.has_value()
            return functools.reduce(tf.logical_and, are_numbers, goes_on)

        def fetch(i, element):
            return tf.cond(i + 1 < num_steps, iterator.get_next_as_optional, lambda: element)

        def step(i, element):
            runs_host_call = None if every == 1 else tf.equal(i % every, 0)
            return self._compiled._step(
                self._pipeline, element.get_value(), self._fetches, runs_host_call
            )

        def advance(i, element, are_numbers, replicas, host):
            if self._fetches_beside_step:
                following = fetch(i, element)
                (gate,) = tf.nest.flatten(following, expand_composites=True)
                with self._compiled._writing_after(gate):
                    computed = step(i, element)
            else:
                computed = step(i, element)
                with tf.control_dependencies(tf.nest.flatten(computed)):
                    following = fetch(i, element)
            are_numbers = [~tf.math.is_nan(value) for value in self._watched_of(*computed)]
            return i + 1, following, are_numbers, *map(_tensors, computed)

        are_numbers = [tf.constant(True) for _ in self._watched_of(replicas, host)]
        start = (tf.constant(0), iterator.get_next_as_optional(), are_numbers, replicas, host)
        done, element, _, replicas, host = tf.while_loop(
            proceed, advance, start, parallel_iterations=1
        )
        return done, element.has_value(), replicas, host

    def _watched_of(self, on_replicas, on_host):
        """Gives the loss, as a list of one, where training must stop at the step at which it isn't a number any more."""
        for group, computed in (
            (self._fetches.on_replicas, on_replicas),
            (self._fetches.on_host, on_host),
        ):
            names = [t.name for t in group if isinstance(t, tf.Tensor)]
            if self._watched is not None and self._watched.name in names:
                return [computed[names.index(self._watched.name)]]
        return []


def _variable_read(target: Any, nodes: Mapping) -> str | None:
    """Names the variable whose plain value a target is; `None` if it is anything else."""
    node = nodes[producer_name(target.name)]
    if node.op != "ReadVariableOp" or len(node.input) > 1:
        return None
    variable = producer_name(node.input[0])
    return variable if nodes[variable].op == "VarHandleOp" else None


def _specs(tensors: Sequence[tf.Tensor]) -> list[tf.TensorSpec]:
    return [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors]


def _fed_values(feeds: Sequence[tuple[tf.Tensor, Any]]) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(value, tensor.dtype) for tensor, value in feeds]


def _tensors(values):
    return [tf.convert_to_tensor(value) for value in values]


def _zeros(fetches: Fetches) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Gives values that stand for a step that didn't run."""
    groups = (fetches.on_replicas, fetches.on_host)
    tensors = ([t for t in group if isinstance(t, tf.Tensor)] for group in groups)
    return tuple([tf.zeros(_smallest(t.shape), t.dtype) for t in group] for group in tensors)


def _smallest(shape: tf.TensorShape) -> list[int]:
    return [] if shape.rank is None else [size or 0 for size in shape.as_list()]


def _with_operations_done(built: list) -> list:
    """Makes every tensor wait for the operations: who fetched both wants both."""
    operations = [item for item in built if not isinstance(item, tf.Tensor)]
    if not operations:
        return built
    if len(operations) == len(built):
        # Nothing waits for them. TensorFlow finds assignments by itself, not all that a `tf.cond` of TF 1 does.
        with tf.control_dependencies(operations):
            tf.compat.v1.get_default_graph().control_outputs.append(tf.no_op())
    with tf.control_dependencies(operations):
        waiting = [tf.identity(item) if isinstance(item, tf.Tensor) else item for item in built]
    return waiting


def _static_replica_id() -> int:
    """Gives the replica's number while it is traced; 0 on a TPU, where one trace serves all."""
    replica_id = tf.distribute.get_replica_context().replica_id_in_sync_group
    return int(tf.get_static_value(replica_id) or 0)


def _gather(host_input: HostInput, values: Sequence[tf.Tensor]) -> tf.Tensor:
    if host_input.only_first or len(values) == 1:
        return tf.identity(values[0])
    if host_input.is_mean:
        return tf.add_n(list(values)) / len(values)
    return tf.concat(values, axis=0)


def _meet_on(topology: Topology) -> Callable | None:
    """Gives what holds the replicas' meetings where no TPU does it."""
    if topology.is_tpu:
        return None
    if topology.num_replicas_in_sync == 1:
        return meet_alone
    return meet_in_replica_context(topology.devices)
