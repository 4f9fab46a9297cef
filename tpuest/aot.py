"""Compiles what one core computes in a step ahead of time, with no TPU.

Takes a `Program` and what is asked of a step; gives its HLO, and what the TPU compiler says of that:

    program, targets -> the replica's part in a tf.function -> HLO        TensorFlow alone
    HLO, TPU's name  -> libtpu's compiler in a child process -> memory    the `check` extra: jaxlib and libtpu

TensorFlow's CPU package can lower everything but the sum over cores, which is put there as an all-reduce.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import tensorflow as tf

from tpuest import _tf, aot_compile, errors
from tpuest.cross_replica import CROSS_REPLICA_SUM, Meeting, Outcome
from tpuest.loop import CompiledProgram
from tpuest.replica import Program
from tpuest.topology import Topology

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
    """

    hlo: bytes
    num_replicas: int


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
    """

    hbm_bytes: int
    argument_bytes: int
    output_bytes: int
    alias_bytes: int
    temporary_bytes: int
    code_bytes: int
    num_all_reduces: int


class CompilerRefusedError(RuntimeError):
    """The TPU compiler refused the step: an operation it lacks, or too little memory."""


def planned_topology(num_cores: int) -> Topology:
    """Describes a TPU that need not be there: programs can be built for it, not run.

    Args:
      num_cores: each holds one replica.
    """
    return Topology(
        strategy=tf.distribute.get_strategy(),
        devices=tuple(f"/device:TPU:{index}" for index in range(num_cores)),
        num_hosts=1,
        num_cores=num_cores,
        num_replicas=num_cores,
        on_cores=True,
        is_tpu=True,
    )


def lower_step(program: Program, targets: Sequence) -> LoweredStep:
    """Lowers what one core computes in a step.

    Args:
      program: built for cores (`planned_topology`, or any other).
      targets: tensors and operations of its graph, as one asks of a step.

    Raises:
      tf.errors.InvalidArgumentError: XLA has no such operation, or needs a constant where there is none; the message
        names the operation and the user's line.
      UnsupportedError: a sum over cores is made in a `tf.cond` or `tf.while_loop`.
    """
    compiled = CompiledProgram(program, _ZeroVariables())
    compiled.ensure_variables()
    fetches = compiled.sort(targets)
    on_core = [*fetches.on_replicas, *(given.tensor for given in fetches.host_inputs)]

    @tf.function(jit_compile=True, autograph=False)
    def replica_step(*batch):
        return compiled.build_replica(on_core, batch, 0, _meet_by_all_reduce)

    # Specs: of a tensor the value would be taken for a constant, which it isn't on a TPU.
    batch = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in program.inputs]
    with _tf.eager_mode():
        hlo = replica_step.experimental_get_compiler_ir(*batch)(stage="hlo_serialized")
    return LoweredStep(hlo, program.topology.num_replicas)


def compile_step(step: LoweredStep, tpu: str, is_exact: bool = False) -> CompiledStep:
    """Compiles a step for a TPU; needs the packages of the `check` extra.

    Args:
      step: from `lower_step`.
      tpu: name and shape, for instance 'v5e:2x4'; must have as many cores as the step has replicas.
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
        command = [sys.executable, aot_compile.__file__, path, tpu, str(step.num_replicas)]
        # A process of its own: libtpu may abort, and keeps what it loads.
        child = subprocess.run(
            [*command, "--exact"] if is_exact else command,
            env={**_NO_TPU_HERE, **os.environ},
            capture_output=True,
            text=True,
            timeout=_PATIENCE_SECONDS,
            check=False,
        )
    if child.returncode:
        raise RuntimeError(f"The TPU compiler did not run: {child.stderr[-4000:]}")
    answer = json.loads(child.stdout.splitlines()[-1])
    if "refused" in answer:
        raise CompilerRefusedError(answer["refused"])
    return CompiledStep(**answer)


class _ZeroVariables:
    """Stands for `ReplicaVariables`: one copy of each on the CPU; a compiler looks at no value."""

    def __init__(self):
        self._variables = {}

    def ensure(self, name, shape, dtype, label, on_host=False):
        """Makes the variable, unless no core uses it."""
        if not on_host and name not in self._variables:
            zeros = tf.zeros(shape, dtype)
            self._variables[name] = tf.Variable(zeros, trainable=False, name=label)

    def handle(self, name, replica_id=0):
        """Returns the variable's resource handle."""
        return self._variables[name].handle


def _meet_by_all_reduce(meetings: Sequence[Meeting]) -> list[Outcome]:
    """Stands for the cores' meetings by the HLO that a TPU's `CrossReplicaSum` becomes."""
    return [_all_reduce(meeting) for meeting in meetings]


def _all_reduce(meeting):
    if meeting.groups is None:
        raise errors.UnsupportedError(
            f"Compiling ahead of time a {CROSS_REPLICA_SUM} in {meeting.node.name}",
            "Make the sum (CrossShardOptimizer.apply_gradients) outside of tf.cond and "
            "tf.while_loop, or leave this check out: on a TPU such a sum works.",
        )
    total = _tf.xla_all_reduce(meeting.inputs[0], meeting.groups)
    return Outcome([total], total.op)
