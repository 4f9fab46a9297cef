"""What a check found, and how it is told.

Takes findings and the compiler's figures; gives a table as text.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Iterator, Sequence

from tpuest.origins import Origin
from tpuest.planned_tpu import PlannedTPU

_GIB = 2**30
_LABEL_WIDTH = 22


class Kind(str, enum.Enum):
    """What is wrong."""

    DYNAMIC_SHAPE = "dynamic shape"
    HOST_ONLY = "host only"
    NOT_ON_TPU = "not on a TPU"
    REFUSED = "refused"
    TOO_LARGE = "too large"


_TITLES = {
    Kind.DYNAMIC_SHAPE: "Dynamic shapes: a TPU program is compiled for fixed ones",
    Kind.HOST_ONLY: "On the cores, and only a host has it",
    Kind.NOT_ON_TPU: "No such operation, or not of this type, on a TPU",
    Kind.REFUSED: "Refused by the compiler",
    Kind.TOO_LARGE: "Does not fit into memory",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing for which the step doesn't compile or doesn't fit.

    Attributes:
      kind: what is wrong.
      name: of the operation, or of the tensor of `input_fn` ("features['ids']").
      op_types: of the operations that the line makes, the culprit's first; empty for a tensor of `input_fn`.
      dtype: of its value.
      origin: the user's line; `None` if unknown.
      use: what to use instead.
      detail: the compiler's words, or the tensor's shape.
    """

    kind: Kind
    name: str
    op_types: tuple[str, ...]
    dtype: str
    origin: Origin | None
    use: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class LargeTensor:
    """A value that takes much memory.

    Attributes:
      name: of the operation that makes it, or of the variable.
      dtype: of the value.
      shape: of the value, on one core.
      num_bytes: without the padding to tiles.
      origin: the user's line.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    origin: Origin


@dataclasses.dataclass(frozen=True)
class Memory:
    """What is known of a core's memory without compiling, in bytes, without the padding to tiles.

    Attributes:
      trainable_bytes: of trainable variables.
      other_variable_bytes: of the optimizer's slots and other variables.
      batch_bytes: of one core's batch.
    """

    trainable_bytes: int
    other_variable_bytes: int
    batch_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.trainable_bytes + self.other_variable_bytes + self.batch_bytes


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """Whether a program's step compiles for a TPU and fits; `print` shows it as a table.

    Attributes:
      mode: 'train', 'eval' or 'infer'.
      tpu: what it was checked for.
      core_batch_size: examples of one core in a step; `None` if `input_fn` gave no batch.
      findings: what is wrong.
      num_traced_replicas: replicas of the computation that was traced under the true strategy, 0 if none was.
      num_sums: sums over cores in it.
      num_outside: operations that the program left to the host, by `tpu.outside_compilation`.
      cores_per_replica: over which each copy of the model is spread.
      is_lowered: whether XLA lowered the step.
      memory: known without compiling; `None` if `model_fn` wasn't called.
      compiled: the TPU compiler's figures (`aot.CompiledStep`); `None` if it refused or didn't run.
      required_bytes: of temporaries that the TPU compiler found no memory for, 0 if it didn't say so.
      compiler: its name and version; `None` if the packages of the `check` extra are missing.
      is_exact: whether the compiler took its time, as on a TPU.
      large_tensors: the step's largest values.
      unseen: what the check did not look at, as sentences.
      elapsed_seconds: of the check's parts, by name.
    """

    mode: str
    tpu: PlannedTPU
    core_batch_size: int | None = None
    findings: tuple[Finding, ...] = ()
    num_traced_replicas: int = 0
    num_sums: int = 0
    num_outside: int = 0
    cores_per_replica: int = 1
    is_lowered: bool = False
    memory: Memory | None = None
    compiled: object = None
    required_bytes: float = 0
    compiler: str | None = None
    is_exact: bool = False
    large_tensors: tuple[LargeTensor, ...] = ()
    unseen: tuple[str, ...] = ()
    elapsed_seconds: dict = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing was found to be wrong: the step compiles and fits, as far as the check sees."""
        if self.findings or not self.is_lowered:
            return False
        return self.compiler is None or self.compiled is not None

    @property
    def verdict(self) -> str:
        """The answer in a line."""
        hbm = self.tpu.generation.hbm_bytes
        if self.compiled is not None:
            used = f"about {_gib(self.compiled.hbm_bytes)} of {_gib(hbm)} GiB"
            return f"accepted by {self.compiler} for {self.tpu.name}, {used}"
        if self.ok:
            return f"lowered by XLA on the CPU; not compiled for {self.tpu.name}"
        kinds = [kind for kind in Kind if any(f.kind == kind for f in self.findings)]
        if kinds == [Kind.TOO_LARGE]:
            return f"does not fit on {self.tpu.name} ({_gib(hbm)} GiB a core)"
        return f"does not compile for {self.tpu.name}"

    def __str__(self) -> str:
        lines = [*self._heading(), *_rows(self._figures())]
        for kind in Kind:
            findings = [finding for finding in self.findings if finding.kind == kind]
            if findings:
                lines += ["", f"{_TITLES[kind]} ({len(findings)}):"]
                lines += [line for finding in findings for line in _finding_lines(finding)]
        if self.large_tensors and any(f.kind == Kind.TOO_LARGE for f in self.findings):
            lines += ["", "The largest values of the step, on one core:"]
            lines += [_large_line(large) for large in self.large_tensors]
        if self.unseen:
            lines += [
                "",
                "Not seen by this check:",
                *(f"  - {sentence}" for sentence in self.unseen),
            ]
        return "\n".join(lines)

    def _heading(self) -> list[str]:
        cores = _count(self.tpu.num_cores, "core")
        calls = {"train": "train", "eval": "evaluate", "infer": "predict"}
        each = "a core" if self.cores_per_replica == 1 else f"for {self.cores_per_replica} cores"
        batch = f", {self.core_batch_size} examples {each}" if self.core_batch_size else ""
        return [f"Check of the step of {calls[self.mode]} for {self.tpu.name} ({cores}{batch})", ""]

    def _figures(self) -> Iterator[tuple[str, str]]:
        """Yields the table's rows."""
        yield "compiles and fits", f"{'yes' if self.ok else 'NO'}: {self.verdict}"
        if self.num_traced_replicas:
            sums = f", {_count(self.num_sums, 'sum')} over the cores" if self.num_sums else ""
            replicas = _count(self.num_traced_replicas, "replica")
            if self.cores_per_replica > 1:
                replicas += f" of {self.cores_per_replica} cores"
            yield "true TPUStrategy", f"traced: one computation, {replicas}{sums}"
        if self.num_outside:
            yield "outside_compilation", f"{_count(self.num_outside, 'operation')} left to the host"
        yield from self._memory_figures()
        if self.compiled is not None:
            yield from self._time_figures()
        if self.elapsed_seconds:
            parts = ", ".join(f"{name} {s:.0f} s" for name, s in self.elapsed_seconds.items())
            yield "this check took", parts

    def _memory_figures(self) -> Iterator[tuple[str, str]]:
        hbm = self.tpu.generation.hbm_bytes
        if self.memory is not None:
            memory = self.memory
            variables = memory.trainable_bytes + memory.other_variable_bytes
            trained, others = _size(memory.trainable_bytes), _size(memory.other_variable_bytes)
            yield (
                "HBM, parameters",
                f"{_size(variables)} ({trained} trained, {others} slots and others)",
            )
            yield "HBM, batch", _size(memory.batch_bytes)
        if self.compiled is not None:
            compiled = self.compiled
            yield "HBM, temporaries", _size(compiled.temporary_bytes)
            arguments, program = _size(compiled.argument_bytes), _size(compiled.code_bytes)
            others = _size(compiled.output_bytes - compiled.alias_bytes)
            parts = f"arguments {arguments}, outputs beside them {others}, program {program}"
            yield "HBM, in all", f"about {_gib(compiled.hbm_bytes)} of {_gib(hbm)} GiB ({parts})"
        elif self.memory is not None:
            asked = f"{_gib(self.required_bytes)} GiB, says the compiler"
            yield "HBM, temporaries", asked if self.required_bytes else "not known"
            known = _size(self.memory.total_bytes + self.required_bytes)
            yield "HBM, in all", f"more than {known} of {_gib(hbm)} GiB"

    def _time_figures(self) -> Iterator[tuple[str, str]]:
        compiled, generation = self.compiled, self.tpu.generation
        moved = _size(compiled.bytes_accessed)
        yield "FLOPs", f"{compiled.flops:.3g} a step and core; {moved} read and written"
        if compiled.optimal_seconds is not None:
            seconds = _milliseconds(compiled.optimal_seconds)
            yield "step time", f"{seconds} by the compiler's estimate"
        else:
            computing = _milliseconds(compiled.flops / generation.flops_per_second)
            moving = _milliseconds(compiled.bytes_accessed / generation.hbm_bytes_per_second)
            parts = f"{computing} of computing, {moving} of memory traffic"
            yield "step time", f"the compiler tells none; at the chip's peak rates {parts}"
        if self.tpu.num_cores > 1:
            yield "all-reduces", f"{compiled.num_all_reduces}, after the compiler joined the sums"
        if compiled.num_exchanges:
            yield "exchanges", f"{compiled.num_exchanges} all-to-alls and collective-permutes"


def group_by_line(findings: Iterable[Finding]) -> list[Finding]:
    """Joins what one line of the user's program does wrong in one way."""
    grouped: dict = {}
    for finding in findings:
        key = (finding.kind, finding.origin or finding.name, finding.use)
        known = grouped.get(key)
        if known is None:
            grouped[key] = finding
        else:
            types = tuple(dict.fromkeys((*known.op_types, *finding.op_types)))
            grouped[key] = dataclasses.replace(known, op_types=types)
    return list(grouped.values())


def _finding_lines(finding: Finding) -> list[str]:
    types = "" if finding.op_types in ((), (finding.name,)) else f" ({', '.join(finding.op_types)})"
    dtype = f", {finding.dtype}" if finding.dtype else ""
    lines = [f"  {finding.name}{types}{dtype}"]
    if finding.origin is not None:
        lines.append(f"      at   {finding.origin}   {finding.origin.source}".rstrip())
    if finding.detail:
        lines.append(f"      says {finding.detail}")
    lines.append(f"      use  {finding.use}")
    return lines


def _large_line(large: LargeTensor) -> str:
    shape = "x".join(map(str, large.shape)) or "scalar"
    return f"  {_size(large.num_bytes):>9}  {large.name}, {large.dtype} {shape}   at {large.origin}"


def _rows(rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"{label:<{_LABEL_WIDTH}}{text}" for label, text in rows]


def _gib(num_bytes: float) -> str:
    return f"{max(num_bytes / _GIB, 0.01):.2f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _size(num_bytes: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.3g} {unit}"
    return f"{num_bytes:.0f} B"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds > 1e-5 else "less than 0.01 ms"
