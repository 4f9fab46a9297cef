"""Runs the batch that is too small for the cores, exactly.

Takes the examples left at the end of the data; gives what the cores would have computed on a batch of just these. Whole
core batches run on the compiled program; the rest, smaller than one core's batch, runs on a program of its own size:

    r examples, c for a core:  r // c core batches on that many cores, the others idle along
                               r % c on a program of that batch size, on every core alike
    host part:                 once, on all r
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tpuest import errors
from tpuest.core_batches import CoreBatches
from tpuest.loop import CompiledProgram
from tpuest.replica import HostInput


class PartialStep:
    """A step on fewer examples than a global batch."""

    def __init__(
        self,
        compiled: CompiledProgram,
        core_batches: CoreBatches,
        compile_for: Callable[[int], CompiledProgram],
    ):
        """Makes the step.

        Args:
          compiled: the program for whole core batches.
          core_batches: how it is fed.
          compile_for: gives the same model for another core batch size, on the same variables.
        """
        self._compiled = compiled
        self._core_batches = core_batches
        self._compile_for = compile_for

    def run(self, batch: list[tf.Tensor], targets: Sequence) -> list[Any]:
        """Computes targets on the batch; of operations, gives `None`.

        Raises:
          ValueError: a function of the host must know how many examples it gets.
        """
        program, cut = self._compiled.program, self._core_batches
        if program.needs_whole_batches:
            raise errors.smaller_batch_refused(
                program.needs_whole_batches, cut.num_examples(batch), cut.batch_size
            )
        fetches = self._compiled.sort(targets)
        host_inputs = fetches.host_inputs
        own = [t for t in fetches.on_replicas if isinstance(t, tf.Tensor)]
        parts = self._run_parts(batch, [*own, *(h.tensor for h in host_inputs)])
        values = {t.name: parts[0][1][i] for i, t in enumerate(own)}
        gathered = [
            (
                h.placeholder,
                _combine(h, [(weight, outputs[len(own) + i]) for weight, outputs in parts]),
            )
            for i, h in enumerate(host_inputs)
        ]
        on_host = (*fetches.on_host, *fetches.after)
        values.update(
            (t.name, v) for t, v in zip(on_host, self._compiled.run_host(on_host, gathered))
        )
        return [values.get(target.name) for target in targets]

    def _run_parts(self, batch, targets) -> list[tuple[int, list[tf.Tensor]]]:
        """Gives the number of examples and the tensors of each core batch and of the rest."""
        chunks, rest, rest_size = self._core_batches.chunks(batch)
        num_replicas = self._compiled.program.topology.num_replicas
        parts = []
        if chunks:
            fed = [*chunks, *chunks[:1] * (num_replicas - len(chunks))]
            outputs = self._compiled.run_replicas(fed, targets)
            size = self._core_batches.core_batch_size
            parts += [(size, [values[i] for values in outputs]) for i in range(len(chunks))]
        if rest_size:
            small = self._compile_for(rest_size)
            names = [small.program.graph.get_tensor_by_name(t.name) for t in targets]
            outputs = small.run_replicas([rest] * num_replicas, names)
            parts.append((rest_size, [values[0] for values in outputs]))
        return parts


def _combine(host_input: HostInput, parts: list[tuple[int, tf.Tensor]]) -> tf.Tensor:
    """Gathers what the parts computed, as the loop does what the replicas did."""
    if host_input.only_first or len(parts) == 1:
        return parts[0][1]
    if not host_input.is_mean:
        return tf.concat([value for _, value in parts], axis=0)
    total = sum(weight for weight, _ in parts)
    return tf.add_n([value * tf.cast(weight / total, value.dtype) for weight, value in parts])
