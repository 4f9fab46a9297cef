"""Sorts what a step is asked for by where it runs: on every core, on the host, or after the last step.

Takes a `Program` and targets of its graph; gives `Fetches`, from which `loop` builds the step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

from tpuest.replica import HostInput, Program


@dataclasses.dataclass(frozen=True)
class Fetches:
    """What one kind of step computes, sorted by where it runs.

    Attributes:
      on_replicas: tensors and operations that every replica computes; of tensors, replica 0's value is given.
      host_inputs: what the host needs gathered from the replicas.
      on_host: tensors and operations of the host, from what was gathered.
      after: those that no batch is needed for: computed when the steps are done.
    """

    on_replicas: tuple
    host_inputs: tuple[HostInput, ...]
    on_host: tuple
    after: tuple


def sort_fetches(program: Program, targets: Sequence) -> Fetches:
    """Finds out where each target of a step runs.

    Args:
      program: the targets' program.
      targets: tensors and operations of its graph.
    """
    if not program.topology.on_cores:
        return Fetches(tuple(targets), (), (), ())
    source = program.source
    gathered = {host_input.placeholder.op.name: host_input for host_input in program.host_inputs}
    batch = {tensor.op.name for tensor in program.inputs}
    on_replicas, on_host, after, needed = [], [], [], {}
    for target in targets:
        closure = source.closure([target])
        own = [gathered[name] for name in closure if name in gathered]
        cut = [] if target is program.train_op else _boundary(program, closure, batch)
        needed.update((h.placeholder.name, h) for h in (*own, *cut))
        if own or cut:
            on_host.append(target)
        elif target is program.train_op or not batch.isdisjoint(closure):
            on_replicas.append(target)
        else:
            after.append(target)
    return Fetches(tuple(on_replicas), tuple(needed.values()), tuple(on_host), tuple(after))


def _boundary(program, closure, batch):
    """Finds what the cores give to ops that only a host has (summaries make strings)."""
    graph = program.graph
    operations = [graph.get_operation_by_name(name) for name in closure]
    checks = program.source.functions_with("Assert")
    host_only = set()
    # In the order of creation: what takes a string or a writer comes after it.
    for op in operations:
        if _is_host_only(op, checks) or any(t.op.name in host_only for t in op.inputs):
            host_only.add(op.name)
    if not host_only:
        return []
    crossing = {}
    for op in operations:
        for tensor in op.inputs:
            if op.name in host_only and tensor.op.name not in host_only:
                crossing[tensor.name] = tensor
    return [
        HostInput(tensor, tensor, only_first=True)
        for tensor in crossing.values()
        if not batch.isdisjoint(program.source.closure([tensor]))
    ]


def _is_host_only(op: tf.Operation, checks: set[str]) -> bool:
    """Says whether only a host has the op: it makes or takes strings, other than an assertion's message.

    Args:
      op: of the program's graph.
      checks: names of functions with assertions.
    """
    if op.type in ("Const", "Assert"):
        return False
    strings = [t for t in (*op.inputs, *op.outputs) if t.dtype == tf.string]
    return op.type == "SummaryWriter" or bool(strings and _else_branch(op) not in checks)


def _else_branch(op: tf.Operation) -> str | None:
    """Names the branch that an assertion takes if it fails; `None` if the op is no `tf.cond`."""
    return op.get_attr("else_branch").name if op.type in ("If", "StatelessIf") else None
