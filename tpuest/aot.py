"""Compiles what one core computes in a step ahead of time, with no TPU.

Takes a `Program` and what is asked of a step; gives its HLO, and what the TPU compiler says of that:

    program, targets -> the replica's part in a tf.function -> HLO        TensorFlow alone
    HLO, TPU's name  -> libtpu's compiler in a child process -> memory    the `check` extra: jaxlib and libtpu

TensorFlow's CPU package can lower everything but what cores do together, which is put there as an all-reduce or a call by
name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tpuest import _tf, aot_compile, errors
from tpuest.cross_replica import (
    COLLECTIVE_PERMUTE,
    CROSS_REPLICA_SUM,
    Meeting,
    Outcome,
    meet_by,
    outcome_of,
)
from tpuest.loop import CompiledProgram
from tpuest.planned_tpu import PlannedTPU
from tpuest.replica import Program
from tpuest.spec import ModeKeys
from tpuest.unallocated import SharedZeros, UninitializedReplicaVariables

# libtpu asks the cloud's metadata server what machine it runs on, and locks the TPU, unless told.
_NO_TPU_HERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
_PATIENCE_SECONDS = 1800


@dataclasses.dataclass(frozen=True)
class LoweredStep:
    """A core's part of a step, as the TPU compiler reads it.

    Attributes:
      hlo: a serialized `HloModuleProto`.
      num_replicas: copies of the model that sum with each other.
      cores_per_replica: over which the compiler spreads each of them.
    """

    hlo: bytes
    num_replicas: int
    cores_per_replica: int = 1


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """What the TPU compiler made of a step.

    Attributes:
      hbm_bytes: of one core's memory, at most: the sum of the parts below, without what is aliased.
      argument_bytes: batch, and variables with their slots.
      output_bytes: values for the host, and the new variables.
      alias_bytes: outputs that take their arguments' place: variables that are updated.
      temporary_bytes: activations and scratch.
      code_bytes: the program.
      num_all_reduces: sums over cores, after the compiler joined them.
      num_exchanges: all-to-alls and collective-permutes.
      flops: floating-point operations of one core, as the compiler counts them.
      bytes_accessed: that one core's operations read and write, as the compiler counts them.
      optimal_seconds: the compiler's own estimate of one step; `None` where it has none.
    """

    hbm_bytes: int
    argument_bytes: int
    output_bytes: int
    alias_bytes: int
    temporary_bytes: int
    code_bytes: int
    num_all_reduces: int
    num_exchanges: int
    flops: float
    bytes_accessed: float
    optimal_seconds: float | None


class CompilerRefusedError(RuntimeError):
    """A compiler, XLA on the CPU or that of the TPU, refused the step: an operation it lacks, or too little memory."""


def targets_of_step(program: Program) -> list:
    """Lists what the engine asks of a step in the program's mode."""
    if program.mode == ModeKeys.TRAIN:
        own = [program.train_op, program.loss]
    elif program.mode == ModeKeys.EVAL:
        own = [program.eval_update]
    else:
        own = [*tf.nest.flatten(program.predictions), program.padding_mask]
    host = [op.op if isinstance(op, tf.Tensor) else op for op in program.host_ops]
    return sorted([*own, *host], key=lambda target: target.name)


def targets_on_cores(program: Program) -> list:
    """Lists what each core computes in a step: tensors and operations of the program's graph."""
    fetches = CompiledProgram(program, SharedZeros()).sort(targets_of_step(program))
    return [*fetches.on_replicas, *(given.tensor for given in fetches.host_inputs)]


def trace_step(program: Program, targets: Sequence) -> tf.Graph:
    """Traces what the cores compute in a step under the program's own strategy, over all its cores.

    Args:
      program: built for a `TPUStrategy`, of a TPU that need not be there.
      targets: see `targets_on_cores`.

    Returns:
      The function's graph, with the replicated computation in it.
    """
    compiled = CompiledProgram(program, UninitializedReplicaVariables(program.topology))
    compiled.ensure_variables()
    with _tf.eager_mode():
        return compiled.build_replicas(targets).graph


def lower_step(
    program: Program, targets: Sequence, given: Mapping[str, tf.TensorSpec] | None = None
) -> LoweredStep:
    """Lowers what one core computes in a step.

    Args:
      program: built for cores.
      targets: see `targets_on_cores`.
      given: names of further tensors of the graph that are inputs instead of being computed, and their specs.

    Raises:
      CompilerRefusedError: XLA has no such operation, or needs a constant where there is none; the message names the
        operation.
    """
    compiled = CompiledProgram(program, SharedZeros())
    compiled.ensure_variables()
    given = dict(given or {})
    num_inputs = len(program.core_inputs)

    @tf.function(jit_compile=True, autograph=False)
    def replica_step(*values):
        batch, others = values[:num_inputs], values[num_inputs:]
        batch = program.split_over_cores(batch)
        stand_ins = dict(zip(given, others, strict=True))
        return compiled.build_replica(targets, batch, 0, meet_by(_communicate), stand_ins)

    # Specs: of a tensor the value would be taken for a constant, which it isn't on a TPU.
    batch = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in program.core_inputs]
    with _tf.eager_mode():
        lower = replica_step.experimental_get_compiler_ir(*batch, *given.values())
        try:
            hlo = lower(stage="hlo_serialized")
        except (ValueError, tf.errors.OpError) as error:
            if "transfer manager for platform Host" in str(error):
                raise errors.UnsupportedError(
                    "Lowering a step with tensorflow-tpu",
                    "Run --check where tensorflow-cpu is installed: pip install 'tpuest[cpu]'.",
                ) from error
            raise CompilerRefusedError(str(error)) from error
    topology = program.topology
    return LoweredStep(hlo, topology.num_replicas, topology.cores_per_replica or 1)


def compile_step(step: LoweredStep, tpu: PlannedTPU, is_exact: bool = False) -> CompiledStep:
    """Compiles a step for a TPU; needs the packages of the `check` extra.

    Args:
      step: from `lower_step`.
      tpu: must have as many cores as the step's replicas have.
      is_exact: whether the compiler takes its time, as on a TPU; otherwise a little more memory comes out, of a tiny
        model a few times as much.

    Raises:
      CompilerRefusedError: with the compiler's message.
      RuntimeError: the compiler could not be run.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "step.hlo")
        with open(path, "wb") as file:
            file.write(step.hlo)
        chips_per_host = ",".join(map(str, tpu.chips_per_host))
        command = [sys.executable, aot_compile.__file__, path, tpu.name, str(step.num_replicas)]
        command += ["--cores-per-replica", str(step.cores_per_replica)]
        command += ["--chips-per-host", chips_per_host, *(["--exact"] if is_exact else [])]
        # A process of its own: libtpu may abort, and keeps what it loads.
        try:
            child = subprocess.run(
                command,
                env={**_NO_TPU_HERE, **os.environ},
                capture_output=True,
                text=True,
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _failed(f"no answer within {_PATIENCE_SECONDS} seconds") from error
    if child.returncode:
        raise _failed(child.stderr[-4000:])
    answer = json.loads(child.stdout.splitlines()[-1])
    if "refused" in answer:
        raise CompilerRefusedError(answer["refused"])
    return CompiledStep(**answer)


def _failed(reason: str) -> RuntimeError:
    """Says that the compiler could not be run, with which packages, and which were tried."""
    versions = []
    for name in ("jaxlib", "libtpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{name} {importlib.metadata.version(name)}")
    return RuntimeError(
        f"The TPU compiler did not run, of {' and '.join(versions) or 'no packages'}: {reason}\n"
        "tpuest is tried with those of its extra: pip install 'tpuest[check]'."
    )


def _communicate(meeting: Meeting) -> Outcome:
    """Builds what stands for a core's collective op until the TPU's compiler gets it: XLA has all-reduces alone on the CPU.

    Exchanges are calls by name, which `aot_compile` turns into XLA's all-to-all and collective-permute.
    """
    op_type, value, groups = meeting.node.op, meeting.inputs[0], meeting.groups
    if op_type == CROSS_REPLICA_SUM:
        return outcome_of(_tf.xla_all_reduce(value, groups))
    shape = value.shape.as_list()
    if op_type == COLLECTIVE_PERMUTE:
        pairs = np.asarray(groups).reshape(-1, 2).tolist()
        settings = {"pairs": pairs}
        return outcome_of(_tf.xla_call(aot_compile.PERMUTE, json.dumps(settings), value, shape))
    attributes = meeting.node.attr
    count, split = attributes["split_count"].i, attributes["split_dimension"].i
    joined = attributes["concat_dimension"].i
    shape[split] //= count
    shape[joined] *= count
    settings = {
        "groups": np.asarray(groups).tolist(),
        "split": split,
        "concat": joined,
        "count": count,
    }
    return outcome_of(_tf.xla_call(aot_compile.EXCHANGE, json.dumps(settings), value, shape))
