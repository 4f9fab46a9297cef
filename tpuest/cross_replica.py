"""What replicas do together where no TPU does it: sums, exchanges, and the control flow that these are made in.

Takes the `Meeting`s at which `transplant` stops: ops of the graph that need a value of every replica. Gives each
replica's results. A `tf.cond` or `tf.while_loop` with a sum inside is built once for all of them, on their inputs side
by side, because a kernel of one branch cannot wait for that of another:

    tf.cond(p0, branch(x0), ...); tf.cond(p1, branch(x1), ...)     as on a TPU
    tf.cond(p0, lambda: branches(x0, x1), ...)                     here; p0 == p1 is checked
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import errors

CROSS_REPLICA_SUM = "CrossReplicaSum"
ALL_TO_ALL = "AllToAll"
COLLECTIVE_PERMUTE = "CollectivePermute"
COLLECTIVES = frozenset({CROSS_REPLICA_SUM, ALL_TO_ALL, COLLECTIVE_PERMUTE})
# Tells a core which one it is; run where no TPU is, it ends the process (TensorFlow 2.21).
REPLICA_ID = "XlaReplicaId"
# Has an input for each core; gives a core its own.
OF_CORES = "TPUReplicatedInput"


@dataclasses.dataclass(frozen=True)
class Meeting:
    """An op for which replicas must meet.

    Attributes:
      node: its `NodeDef`.
      inputs: this replica's values of the op's inputs.
      groups: of a collective op its second input, int: `[num_groups, group_size]`, the replicas that sum or exchange
        with each other, or `[num_pairs, 2]`, who sends to whom; `None` of control flow.
      function: gives the source of the graph of one of the op's functions, from its name and its inputs.
    """

    node: Any
    inputs: tuple[tf.Tensor, ...]
    groups: np.ndarray | None
    function: Callable


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one replica gets from a meeting.

    Attributes:
      outputs: of the op.
      done: an operation that waits for all the op did.
    """

    outputs: list[tf.Tensor]
    done: tf.Operation


@dataclasses.dataclass(frozen=True)
class _Room:
    """Where replicas meet.

    Attributes:
      devices: of the replicas; of one replica also `[None]`, the current device.
      hold: gives the replicas' outcomes of a collective op, from their meetings and the devices.
    """

    devices: Sequence[str | None]
    hold: Callable

    def meet(self, meetings: Sequence[Sequence[Meeting]]) -> list[list[Outcome]]:
        """Holds meetings at which every replica is present.

        Args:
          meetings: of each replica, all in the same order.

        Returns:
          Of each meeting the outcome for each replica.
        """
        return [
            self.hold(together, self.devices)
            if together[0].groups is not None
            else _build(together, self)
            for together in zip(*meetings)
        ]


def meet_alone(meetings: Sequence[Meeting]) -> list[Outcome]:
    """Holds the meetings of a single replica."""
    return [outcomes[0] for outcomes in _Room([None], _hold).meet([meetings])]


def meet_by(hold: Callable[[Meeting], Outcome]) -> Callable:
    """Gives what holds the meetings of one replica of several, the others being compiled elsewhere.

    Args:
      hold: builds the op that communicates, from the replica's meeting.
    """
    room = _Room([None], lambda together, _: [hold(together[0])])
    return lambda meetings: [outcomes[0] for outcomes in room.meet([meetings])]


def meet_in_replica_context(devices: Sequence[str]) -> Callable:
    """Gives what holds the meetings of several replicas, called by each in its replica context.

    Args:
      devices: of this process's replicas.
    """

    def meet(meetings: Sequence[Meeting]) -> list[Outcome]:
        context = tf.distribute.get_replica_context()
        replica_id = int(tf.get_static_value(context.replica_id_in_sync_group))
        outcomes = [None] * len(meetings)
        sums = [index for index, meeting in enumerate(meetings) if _sums_over_all(meeting)]
        if sums:
            tensors = [meetings[index].inputs[0] for index in sums]
            outcomes_of_sums = map(outcome_of, _sum_over_all(context, tensors, devices))
            for index, outcome in zip(sums, outcomes_of_sums):
                outcomes[index] = outcome
        for index, meeting in enumerate(meetings):
            if outcomes[index] is None:
                if context.num_replicas_in_sync > len(devices):
                    raise errors.UnsupportedError(
                        f"A sum over workers inside {meeting.node.op} ({meeting.node.name})",
                        "Apply gradients outside of tf.cond and tf.while_loop, or train in one process.",
                    )
                outcomes[index] = _in_cross_replica_context(context, meeting, devices)[replica_id]
        return outcomes

    return meet


def _sum_over_all(context, tensors, devices):
    if context.num_replicas_in_sync > len(devices):
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)

    # What all_reduce does, but for a gradient, for which it walks over everything built so far.
    def reduce(strategy, *values):
        destinations = [(value, value) for value in values]
        return strategy.extended.batch_reduce_to(tf.distribute.ReduceOp.SUM, destinations)

    return context.merge_call(reduce, args=tensors)


def _in_cross_replica_context(context, meeting, devices):
    def meet(strategy, *inputs):
        values = [strategy.experimental_local_results(value) for value in inputs]
        per_replica = [
            [
                dataclasses.replace(
                    meeting, inputs=tuple(v[r] if len(v) > 1 else v[0] for v in values)
                )
            ]
            for r in range(len(devices))
        ]
        return _Room(devices, _hold).meet(per_replica)[0]

    return context.merge_call(meet, args=meeting.inputs)


def _sums_over_all(meeting):
    groups = meeting.groups
    if groups is None or meeting.node.op != CROSS_REPLICA_SUM:
        return False
    return np.size(groups) == 0 or len(groups) == 1


def outcome_of(value: tf.Tensor) -> Outcome:
    """Gives the outcome of a collective op whose only result is this."""
    value = tf.identity(value)
    return Outcome([value], value.op)


def _hold(together, devices):
    """Holds a collective op's meeting by the plain ops of one machine."""
    values = _COLLECTIVES[together[0].node.op](together, devices)
    outcomes = []
    for value, device in zip(values, devices):
        with tf.device(device):
            outcomes.append(outcome_of(value))
    return outcomes


def _sum(together, devices):
    tensors = [meeting.inputs[0] for meeting in together]
    totals = {}
    for group in _groups(together):
        with tf.device(devices[group[0]]):
            total = tf.add_n([tensors[replica_id] for replica_id in group])
        totals.update((replica_id, total) for replica_id in group)
    return [totals[replica_id] for replica_id in range(len(tensors))]


def _exchange(together, devices):
    """Gives each replica of a group its piece of everybody's tensor."""
    attributes = together[0].node.attr
    axis, count = attributes["split_dimension"].i, attributes["split_count"].i
    exchanged = {}
    for group in _groups(together):
        if len(group) != count:
            raise ValueError(
                f"{together[0].node.name}: split_count {count} must equal the number of replicas "
                f"that exchange with each other, {len(group)}."
            )
        pieces = [tf.split(together[replica_id].inputs[0], count, axis) for replica_id in group]
        for position, replica_id in enumerate(group):
            with tf.device(devices[replica_id]):
                own = [of_sender[position] for of_sender in pieces]
                exchanged[replica_id] = tf.concat(own, attributes["concat_dimension"].i)
    return [exchanged[replica_id] for replica_id in range(len(together))]


def _permute(together, devices):
    """Gives each replica the tensor of the one that sends to it, zeros if none does."""
    senders = {int(target): int(source) for source, target in together[0].groups}
    return [
        together[senders[replica_id]].inputs[0]
        if replica_id in senders
        else tf.zeros_like(meeting.inputs[0])
        for replica_id, meeting in enumerate(together)
    ]


def _groups(together):
    groups = together[0].groups
    return [range(len(together))] if np.size(groups) == 0 else groups


_COLLECTIVES = {CROSS_REPLICA_SUM: _sum, ALL_TO_ALL: _exchange, COLLECTIVE_PERMUTE: _permute}


def _build(together, room):
    """Builds one op of control flow for all replicas."""
    node = together[0].node
    build = _BUILDERS.get(node.op)
    if build is None:
        raise errors.UnsupportedError(
            f"{CROSS_REPLICA_SUM} in a function of {node.op} ({node.name})",
            "Make the sum (CrossShardOptimizer.apply_gradients) outside of it, in a tf.cond or in "
            "a tf.while_loop.",
        )
    flat = build(together, room)
    per_replica = (len(flat) - 1) // len(room.devices)
    done = flat[-1].op
    return [
        Outcome(flat[i * per_replica : (i + 1) * per_replica], done)
        for i in range(len(room.devices))
    ]


def _build_cond(together, room):
    node = together[0].node
    branches = [
        lambda name=name: _run(together, name, [m.inputs[1:] for m in together], room)
        for name in (node.attr["then_branch"].func.name, node.attr["else_branch"].func.name)
    ]
    return tf.cond(_agreed(node, [m.inputs[0] for m in together]), *branches)


def _build_case(together, room):
    node = together[0].node
    branches = [
        lambda name=function.name: _run(together, name, [m.inputs[1:] for m in together], room)
        for function in node.attr["branches"].list.func
    ]
    return tf.switch_case(_agreed(node, [m.inputs[0] for m in together]), branches)


def _build_call(together, room):
    name = together[0].node.attr["f"].func.name
    return _run(together, name, [m.inputs for m in together], room)


def _build_while(together, room):
    """Builds one loop; handles of resources don't change in it and are captured."""
    node = together[0].node
    inputs = [list(m.inputs) for m in together]
    carried = [i for i, t in enumerate(inputs[0]) if t.dtype != tf.resource]
    shapes = [tf.TensorShape(shape) for shape in node.attr["output_shapes"].list.shape]

    def arguments(flat):
        filled = []
        for replica_id, own in enumerate(inputs):
            values = flat[replica_id * len(carried) : (replica_id + 1) * len(carried)]
            known = dict(zip(carried, values))
            filled.append([known.get(i, given) for i, given in enumerate(own)])
        return filled

    def proceed(*flat):
        outputs = _run(
            together, node.attr["cond"].func.name, arguments(flat[:-1]), room, meets=False
        )
        return _agreed(node, outputs[:-1])

    def advance(*flat):
        outputs = _run(together, node.attr["body"].func.name, arguments(flat[:-1]), room)
        kept = [outputs[r * len(inputs[0]) + i] for r in range(len(inputs)) for i in carried]
        return [*kept, outputs[-1]]

    start = [own[i] for own in inputs for i in carried]
    invariants = [(shapes[i] if shapes else own[i].shape) for own in inputs for i in carried]
    flat = tf.while_loop(
        proceed,
        advance,
        [*start, tf.constant(True)],
        shape_invariants=[*invariants, tf.TensorShape([])],
        parallel_iterations=node.attr["parallel_iterations"].i or 10,
    )
    return [value for own in arguments(flat[:-1]) for value in own] + [flat[-1]]


_BUILDERS = {
    "If": _build_cond,
    "StatelessIf": _build_cond,
    "Case": _build_case,
    "StatelessCase": _build_case,
    "While": _build_while,
    "StatelessWhile": _build_while,
    "PartitionedCall": _build_call,
    "StatefulPartitionedCall": _build_call,
}


def _agreed(node, values):
    """Gives the value that all replicas have for the branch to take."""
    if len(values) == 1:
        return values[0]
    message = (
        f"The cores do not agree on the branch of {node.name}, in which they sum over the cores: "
        "on a TPU they would wait for each other forever. What decides must not depend on the "
        "batch of one core; sum it over the cores first."
    )
    check = tf.debugging.Assert(tf.reduce_all(tf.equal(tf.stack(values), values[0])), [message])
    with tf.control_dependencies([check]):
        return tf.identity(values[0])


def _run(together, name, inputs, room, meets=True):
    """Builds the body of a function for every replica, in step.

    Returns:
      The outputs of replica 0, of replica 1, ..., and a tensor that waits for all the function does.
    """
    source = together[0].function(name, inputs[0])
    graph = source.graph
    targets = [*graph.outputs, *graph.control_outputs]
    building = []
    for replica_id, own in enumerate(inputs):
        bindings = {tensor.name: value for tensor, value in zip(graph.inputs, own)}
        building.append(source.build(targets, bindings, replica_id))
    built = _in_step(building, room)
    operations = [item for own in built for item in own if isinstance(item, tf.Operation)]
    with tf.control_dependencies(operations):
        done = tf.constant(True)
    outputs = [tf.identity(item) for own in built for item in own[: len(graph.outputs)]]
    return [*outputs, done]


def _in_step(building, room):
    """Runs the replicas' generators from one meeting to the next; gives what they built."""
    outcomes = [None] * len(building)
    while True:
        meetings, built = [], []
        for generator, device, outcome in zip(building, room.devices, outcomes):
            with tf.device(device):
                try:
                    meetings.append(generator.send(outcome))
                except StopIteration as end:
                    built.append(end.value)
        if built:
            return built
        outcomes = list(zip(*room.meet(meetings)))
