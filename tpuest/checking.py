"""`tpuest.check`: whether a program's step compiles for a TPU and fits there, with no TPU.

Takes an estimator, its `input_fn` and a mode; gives a `CheckReport`.

    program = input_fn and model_fn, called as for that TPU      the engine's own build
    scan(program)                                                 each operation of a core
    trace(program) under the true TPUStrategy
    hlo = lower(program) by XLA on the CPU                        as often as it names an operation: each is a finding
    compile(hlo) by libtpu                                        with the packages of the `check` extra
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tpuest import aot, check_advice, check_inputs, check_scan, errors, origins
from tpuest.check_report import CheckReport, Finding, Kind, Memory, group_by_line
from tpuest.planned_strategy import planned_topology
from tpuest.planned_tpu import DEFAULT_TPU, PlannedTPU, parse_tpu
from tpuest.replica import Program
from tpuest.spec import ModeKeys
from tpuest.transplant import core_of

# Of one step: who has more to repair repairs these first.
_MOST_REFUSALS_BY_XLA = 20
_MOST_REFUSALS_BY_LIBTPU = 5
# Tracing makes a variable for each of them.
_MOST_TRACED_CORES = 64
_OUT_OF_MEMORY = "RESOURCE_EXHAUSTED"
_NAMES_IN_MESSAGES = (
    r"\{\{node ([^}]+)\}\}",
    r"\[\[([^\]{}]+)\]\]",
    r"node `([^`]+)`",
    r'op_name="([^"]+)"',
)
# Stands for what nobody uses.
_ANY_SPEC = tf.TensorSpec([], tf.bool)
_UNSEEN = (
    "the host's part: input pipeline, host calls, metrics, summaries, checkpoints",
    "the TPU's runtime: it has its own build of the compiler, and buffers for the input",
)
_UNSEEN_WITHOUT_LIBTPU = (
    "HBM for activations and other temporaries, FLOPs: pip install 'tpuest[check]' (Python 3.11 or later)",
    "operations that XLA lowers and the TPU's compiler refuses: a few of 64 bits",
)
_UNSEEN_BEFORE_COMPILING = (
    "what only the TPU's compiler sees: it is asked when nothing else is wrong"
)
_UNSEEN_OF_SEVERAL_CORES = "how the TPU's runtime spreads a replica over its cores: here XLA's SPMD partitioner did it, by input_partition_dims"
_UNSEEN_CORES = "tf.device(tpu.core(i)): every core of a replica was taken to do everything that isn't split, which needs more memory"
_UNSEEN_OF_EMBEDDINGS = (
    "whether TensorFlow says of a {} that it has SparseCores: then each core has the whole tables of "
    "embedding_config_spec, as was checked here"
)
_UNSEEN_BY_FAST = "the compiler's default effort (--exact), which mostly needs less memory"


def check(
    estimator: Any,
    input_fn: Callable,
    mode: str = ModeKeys.TRAIN,
    topology: str = DEFAULT_TPU,
    exact: bool = False,
) -> CheckReport:
    """Checks that the step of a mode compiles for a TPU and fits into its memory; no TPU is needed.

    Without jaxlib and libtpu (`pip install 'tpuest[check]'`) XLA lowers the step on the CPU: nearly every operation
    that a TPU lacks is found, and what the parameters take; with them the TPU's own compiler compiles it.

    Args:
      estimator: a `TPUEstimator` with `use_tpu=True`.
      input_fn: as for the estimator's calls.
      mode: a `ModeKeys`.
      topology: the TPU: a kind ('v5e', one chip), a slice ('v5e:2x4') or an accelerator type ('v5litepod-8').
      exact: whether the compiler takes its time, as on a TPU.

    Returns:
      What was found; true where nothing is wrong is its `ok`.

    Raises:
      ValueError: there is no such TPU or mode, or the estimator runs this mode on the CPU.
      UnsupportedError: the model has an `embedding_config_spec`, and the TPU memory of its own for embeddings, or none.
      RuntimeError: the TPU's compiler is installed and doesn't run, or the cores can't be divided among replicas.
    """
    if mode not in (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT):
        raise ValueError(f"mode must be one of ModeKeys, got {mode!r}")
    tpu = parse_tpu(topology)
    if not estimator.wants_cores(mode):
        raise ValueError(
            f"This estimator does not run {mode} on TPU cores, so there is nothing to compile for {tpu.name}: pass "
            "use_tpu=True to TPUEstimator (most programs: --use_tpu=True), and eval_on_tpu=True for evaluation."
        )
    if estimator.has_embeddings and tpu.generation.embedding_feature == "V1":
        raise errors.UnsupportedError(
            f"Checking a model with embedding_config_spec for {tpu.name}, which has memory of its own for embeddings",
            "Check it with the tables as variables of model_fn, or for a v5p or v6e.",
        )
    cores_per_replica = estimator.config.tpu_config.num_cores_per_replica
    if (cores_per_replica or 1) > tpu.num_cores:
        raise ValueError(
            f"{tpu.name} has {tpu.num_cores} cores, a replica takes num_cores_per_replica={cores_per_replica}: name a "
            "larger slice, such as v5e:2x4."
        )
    recorded = check_inputs.RecordedInput(input_fn)
    watch = _Watch()
    try:
        with watch.timing("building"):
            topology_there = planned_topology(tpu, cores_per_replica)
            program, pipeline = estimator.build_for(topology_there, mode, recorded.input_fn)
    except errors.UnfitInputError as error:
        findings = check_inputs.find_unfit(error, recorded, mode)
        return CheckReport(
            mode,
            tpu,
            None,
            tuple(findings),
            unseen=("model_fn, which has no batch to be called with",),
        )
    except errors.UnfitModelError as error:
        return CheckReport(
            mode,
            tpu,
            findings=(_finding_of(error),),
            unseen=("the step: model_fn could not be built",),
        )
    report = _StepCheck(program, tpu, exact, watch).run()
    return dataclasses.replace(report, core_batch_size=pipeline.core_batches.core_batch_size)


def _finding_of(error: errors.UnfitModelError) -> Finding:
    """Makes a finding of what the build of a program refused."""
    is_tensor = tf.is_tensor(error.culprit)
    operation = error.culprit.op if is_tensor else error.culprit
    found = check_scan.describe(
        operation,
        Kind.DYNAMIC_SHAPE if is_tensor else Kind.HOST_ONLY,
        check_advice.STATIC_PREDICTION if is_tensor else check_advice.GIVEN_TO_HOST,
        str(error).partition(". ")[0],
    )
    return dataclasses.replace(found, name=error.name)


class _StepCheck:
    """The check of one step, from its graph to the compiler's figures."""

    def __init__(self, program: Program, tpu: PlannedTPU, is_exact: bool, watch: _Watch):
        self._program = program
        self._tpu = tpu
        self._is_exact = is_exact
        self._watch = watch
        self._targets = aot.targets_on_cores(program)
        self._all = check_scan.operations_on_cores(program, self._targets)
        self._outside = check_scan.outside_of_compilation(self._all)
        of_host = {one.outermost for one in self._outside}
        self._located = [one for one in self._all if one.outermost not in of_host]
        self._findings: list[Finding] = []
        # What stands for the results of operations that don't compile, so that the others are tried too.
        self._given: dict[str, tf.TensorSpec] = {}
        self._required_bytes = 0.0

    def run(self) -> CheckReport:
        num_replicas, num_sums = self._trace()
        self._scan()
        with self._watch.timing("lowering"):
            step = self._lower()
        memory = _memory_of(self._program, self._located)
        self._check_parameters(memory)
        compiler, compiled = _compiler(), None
        if compiler is not None and step is not None and not self._findings:
            with self._watch.timing("compiling"):
                compiled = self._compile(step)
        return CheckReport(
            mode=self._program.mode,
            tpu=self._tpu,
            findings=tuple(group_by_line(self._findings)),
            num_traced_replicas=num_replicas,
            num_sums=num_sums,
            num_outside=len(self._outside),
            cores_per_replica=self._program.topology.cores_per_replica or 1,
            is_lowered=step is not None,
            memory=memory,
            compiled=compiled,
            required_bytes=self._required_bytes,
            compiler=compiler,
            is_exact=self._is_exact,
            large_tensors=tuple(check_scan.large_tensors(self._located)),
            unseen=self._unseen(compiler),
            elapsed_seconds=self._watch.elapsed_seconds,
        )

    def _trace(self) -> tuple[int, int]:
        """Traces under the true strategy; gives the numbers of replicas and of sums over them."""
        if self._tpu.num_cores > _MOST_TRACED_CORES:
            return 0, 0
        with self._watch.timing("tracing"):
            graph = aot.trace_step(self._program, self._targets)
        graph_def = graph.as_graph_def()
        nodes = [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]
        (metadata,) = [node for node in nodes if node.op == "TPUReplicateMetadata"]
        num_sums = sum(node.op == "CrossReplicaSum" for node in nodes)
        return metadata.attr["num_replicas"].i, num_sums

    def _scan(self) -> None:
        for located in self._outside:
            self._leave_out(located)
        for located, finding in check_scan.find_misplaced(self._located).items():
            self._findings.append(finding)
            self._leave_out(located)

    def _lower(self) -> aot.LoweredStep | None:
        """Lowers the step, without the operations that XLA refuses; `None` if that isn't possible."""
        for _ in range(_MOST_REFUSALS_BY_XLA):
            try:
                return aot.lower_step(self._program, self._targets, self._given)
            except aot.CompilerRefusedError as error:
                if not self._note_refusal(str(error)):
                    return None
        return None

    def _compile(self, step: aot.LoweredStep) -> aot.CompiledStep | None:
        """Compiles the step; notes each operation that is refused, as long as the compiler names one."""
        for _ in range(_MOST_REFUSALS_BY_LIBTPU):
            try:
                compiled = aot.compile_step(step, self._tpu, self._is_exact)
                return None if self._findings else compiled
            except aot.CompilerRefusedError as error:
                if _OUT_OF_MEMORY in str(error):
                    self._required_bytes = _required_bytes(str(error))
                    self._note_lack_of_memory(check_advice.SMALLER, _first_line(str(error)))
                    return None
                if not self._note_refusal(str(error)):
                    return None
            step = self._lower()
            if step is None:
                return None
        return None

    def _note_refusal(self, message: str) -> bool:
        """Notes what a compiler refused; tells whether the step can be tried without it."""
        located = self._find_refused(message)
        is_constant = "must be a compile-time constant" in message
        if located is None:
            use = check_advice.CONSTANT_NEEDED if is_constant else "See the compiler's words."
            self._findings.append(
                Finding(Kind.REFUSED, "the step", (), "", None, use, message[:1000])
            )
            return False
        if f"{located.outermost.name}:0" in self._given:
            return False
        # Inside of a function that Python knows nothing of, the type is all there is.
        unsupported = re.search(r"JIT: (\w+) \(No registered", message)
        op_type = unsupported[1] if unsupported else located.operation.type
        advice = check_advice.advice_for(op_type).use
        found = check_scan.describe(
            located.operation,
            Kind.REFUSED,
            check_advice.CONSTANT_NEEDED if is_constant else advice,
            _first_line(message),
        )
        self._findings.append(dataclasses.replace(found, op_types=(op_type,)))
        return self._leave_out(located)

    def _find_refused(self, message: str) -> check_scan.Located | None:
        """Finds the operation that a compiler's message names first."""
        by_operation = {id(one.operation): one for one in self._located}
        for pattern in _NAMES_IN_MESSAGES:
            for name in re.findall(pattern, message):
                operation = origins.find_operation(self._program.graph, name.strip())
                if operation is not None and id(operation) in by_operation:
                    return by_operation[id(operation)]
        for name in re.findall(r"\{\{function_node ([^}]+)\}\}", message):
            for one in self._located:
                if name in origins.functions_called(one.operation.node_def):
                    return one
        return None

    def _leave_out(self, located: check_scan.Located) -> bool:
        """Lets an operation's results be given from outside; tells whether that is possible and new."""
        before = len(self._given)
        pending = [located.outermost]
        while pending:
            operation = pending.pop()
            if operation in self._targets:
                return False
            # Even without results: others may wait for it.
            names = [tensor.name for tensor in operation.outputs] or [f"{operation.name}:0"]
            specs = [_spec_of(tensor) for tensor in operation.outputs] or [_ANY_SPEC]
            self._given.update(zip(names, specs))
            # What cannot be given goes with those that use it.
            for tensor, spec in zip(operation.outputs, specs):
                if spec is _ANY_SPEC:
                    users = tensor.consumers()
                    pending.extend(o for o in users if not _is_given(o, self._given))
        return len(self._given) > before

    def _check_parameters(self, memory: Memory) -> None:
        if memory.total_bytes > self._tpu.generation.hbm_bytes:
            self._note_lack_of_memory(
                check_advice.FEWER_PARAMETERS,
                "parameters and batch alone are larger than the memory",
            )

    def _note_lack_of_memory(self, use: str, detail: str) -> None:
        largest = check_scan.large_tensors(self._located)
        name, dtype, origin = "the step", "", None
        if largest:
            name, dtype, origin = largest[0].name, largest[0].dtype, largest[0].origin
        self._findings.append(Finding(Kind.TOO_LARGE, name, (), dtype, origin, use, detail))

    def _unseen(self, compiler: str | None) -> tuple[str, ...]:
        unseen = list(_UNSEEN)
        if self._program.host_step is not None:
            unseen.append(_UNSEEN_OF_EMBEDDINGS.format(self._tpu.generation_name))
        if (self._program.topology.cores_per_replica or 1) > 1:
            unseen.append(_UNSEEN_OF_SEVERAL_CORES)
        if any(core_of(node) is not None for node in self._program.source.nodes().values()):
            unseen.append(_UNSEEN_CORES)
        if self._tpu.num_cores > _MOST_TRACED_CORES:
            unseen.append(f"tracing under the TPUStrategy: more than {_MOST_TRACED_CORES} cores")
        if compiler is None:
            return (*_UNSEEN_WITHOUT_LIBTPU, *unseen)
        if "compiling" not in self._watch.elapsed_seconds:
            return (_UNSEEN_BEFORE_COMPILING, *unseen)
        return tuple(unseen) if self._is_exact else (*unseen, _UNSEEN_BY_FAST)


@dataclasses.dataclass
class _Watch:
    """Measures the check's parts.

    Attributes:
      elapsed_seconds: by the part's name.
    """

    elapsed_seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def timing(self, part: str) -> Iterator[None]:
        tf.compat.v1.logging.info("Check: %s", part)
        start = time.monotonic()
        yield
        self.elapsed_seconds[part] = time.monotonic() - start


def _spec_of(tensor: tf.Tensor) -> tf.TensorSpec:
    """Describes a tensor that can be an input of a step; `_ANY_SPEC` if it can't."""
    is_number = tensor.dtype not in (tf.resource, tf.variant, tf.string)
    if not is_number or not tensor.shape.is_fully_defined():
        return _ANY_SPEC
    return tf.TensorSpec(tensor.shape, tensor.dtype)


def _is_given(operation: tf.Operation, given: dict[str, tf.TensorSpec]) -> bool:
    return f"{operation.name}:0" in given


def _compiler() -> str | None:
    """Names the TPU's compiler and its version; `None` if it or what drives it isn't installed."""
    if any(importlib.util.find_spec(name) is None for name in ("jaxlib", "libtpu")):
        return None
    return f"libtpu {importlib.metadata.version('libtpu')}"


def _memory_of(program: Program, located: list[check_scan.Located]) -> Memory:
    trainable = {
        variable.op.name
        for variable in program.graph.get_collection(tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES)
    }
    sizes = {True: 0, False: 0}
    for one in located:
        operation = one.operation
        if operation.type == "VarHandleOp" and operation is one.outermost:
            shape = tf.TensorShape(operation.get_attr("shape"))
            num_elements = shape.num_elements() or 0
            sizes[operation.name in trainable] += num_elements * operation.get_attr("dtype").size
    batch = sum(t.shape.num_elements() * t.dtype.size for t in program.core_inputs)
    return Memory(sizes[True], sizes[False], batch)


def _required_bytes(message: str) -> float:
    """Reads how much memory the compiler found missing; 0 if it doesn't say."""
    found = re.search(r"HLO temporaries \(([\d.]+)([KMGT])\)", message)
    return float(found[1]) * 2 ** {"K": 10, "M": 20, "G": 30, "T": 40}[found[2]] if found else 0.0


def _first_line(message: str) -> str:
    """Gives what a compiler says first, without what it says of itself."""
    text = message.removeprefix("Failed getting HLO text: '")
    return text.strip().splitlines()[0][:400]
