"""Traces a program's functions under the true `TPUStrategy` and describes their graphs.

Takes an estimator for a TPU that isn't there; gives `Traced`s: what is inside the replicated computation, what is
around it. Nothing is run.
"""

from __future__ import annotations

import dataclasses
import functools

import runner
import tensorflow as tf
from programs import PROGRAMS

import tpuest
from tpuest import _tf, aot, loop, topology, tpu_system
from tpuest.planned_strategy import planned_strategy
from tpuest.spec import ModeKeys

INSIDE = "_tpu_replicate"
# Nothing runs, so nothing is written.
NO_DIRECTORY = "/nonexistent/model_dir"


@dataclasses.dataclass(frozen=True)
class Traced:
    """One function of the engine, traced.

    Attributes:
      program: of the engine.
      graph: the `FuncGraph` that the replicated computation is in.
      outer: the whole function.
    """

    program: object
    graph: tf.Graph
    outer: tf.Graph

    @functools.cached_property
    def inside(self) -> list[tf.Operation]:
        """Lists the operations of the replicated computation."""
        return [op for op in self.graph.get_operations() if INSIDE in op.node_def.attr]

    @functools.cached_property
    def around(self) -> list[tf.Operation]:
        """Lists the other operations of its graph: the host's."""
        return [op for op in self.graph.get_operations() if INSIDE not in op.node_def.attr]

    @functools.cached_property
    def inside_nodes(self) -> list:
        """Lists the nodes inside: of the graph and of the functions that its control flow calls."""
        library = {f.signature.name: f for f in self.graph.as_graph_def().library.function}
        nodes = [op.node_def for op in self.inside]
        called = [name for node in nodes for name in _functions_of(node)]
        seen = set()
        while called:
            name = called.pop()
            if name not in seen:
                seen.add(name)
                nodes.extend(library[name].node_def)
                called.extend(f for node in library[name].node_def for f in _functions_of(node))
        return nodes

    @functools.cached_property
    def all_nodes(self) -> list:
        """Lists every node of the function and its library."""
        graph_def = self.outer.as_graph_def()
        return [*graph_def.node, *(n for f in graph_def.library.function for n in f.node_def)]

    def replicated_handles(self) -> list[tf.Operation]:
        """Lists what stands for a variable on every core."""
        return [
            op
            for op in self.around
            if op.type == "TPUReplicatedInput" and op.outputs[0].dtype == tf.resource
        ]


def _functions_of(node):
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def count(nodes, op_type: str) -> int:
    """Counts the nodes of a type."""
    return sum(node.op == op_type for node in nodes)


@functools.cache
def fake_topology(
    num_cores: int, num_hosts: int = 1, cores_per_replica: int | None = None
) -> topology.Topology:
    strategy = planned_strategy(num_cores, num_hosts, cores_per_replica)
    mesh = tpu_system.simulated_mesh(num_cores)
    return topology.tpu_topology(strategy, None, cores_per_replica, mesh)


def make_estimator_class(on: topology.Topology) -> type:
    """Gives a `TPUEstimator` that runs there."""

    class TPUEstimatorThere(tpuest.TPUEstimator):
        def _topology(self, mode):
            return on

    return TPUEstimatorThere


def conformance_estimator(name: str, on: topology.Topology) -> tpuest.TPUEstimator:
    """Gives the estimator of a conformance program."""
    api = dataclasses.replace(runner.tpuest_api(), TPUEstimator=make_estimator_class(on))
    estimator = runner.make_estimator(PROGRAMS[name], api, NO_DIRECTORY, on.num_cores)
    if on.num_hosts > 1:  # Each of which would evaluate the same, else.
        tpu_config = estimator.config.tpu_config._replace(
            eval_training_input_configuration=tpuest.InputPipelineConfig.SLICED
        )
        estimator._config = estimator.config.replace(tpu_config=tpu_config)
    return estimator


def input_fn_of(name: str, mode: str):
    """Gives a conformance program's `input_fn` of a mode."""
    program = PROGRAMS[name]
    return {
        ModeKeys.TRAIN: program.train_input_fn,
        ModeKeys.EVAL: program.eval_input_fn,
        ModeKeys.PREDICT: program.predict_input_fn,
    }[mode]


def lower(estimator: tpuest.TPUEstimator, mode: str, input_fn) -> tuple:
    """Gives the engine's program of a mode and its lowered step."""
    program, _ = estimator._build(mode, input_fn, None)
    return program, aot.lower_step(program, aot.targets_on_cores(program))


class _Recorded(loop.CompiledProgram):
    """Keeps the graphs that replicas are built in."""

    def build_replica(self, *arguments):
        self.replica_graphs.append(tf.compat.v1.get_default_graph())
        return super().build_replica(*arguments)


def trace(estimator, mode: str, input_fn, more_targets=()) -> dict[str, Traced]:
    """Traces the step and the loop of a mode; without a loop where the engine takes single steps.

    Args:
      estimator: of a class of `make_estimator_class`.
      mode: a `ModeKeys`.
      input_fn: of the estimator.
      more_targets: gives more targets from the program.
    """
    traced = {}
    with _tf.eager_mode():
        program, pipeline = estimator._build(mode, input_fn, None)
        with estimator._workspaces.lease(program, None) as space:
            compiled = _Recorded(program, space.variables)
            compiled.replica_graphs = []
            compiled.ensure_variables()
            iterator = pipeline.make_iterator(compiled.handle)
            targets = aot.targets_of_step(program)
            if more_targets:
                with program.graph.as_default():
                    targets += more_targets(program)
            step = compiled.build_step(pipeline, iterator, targets)
            traced["step"] = Traced(program, compiled.replica_graphs.pop(), step.graph)
            if compiled.can_loop(targets):
                looped = compiled.build_loop(pipeline, iterator, targets)
                traced["loop"] = Traced(program, compiled.replica_graphs.pop(), looped.graph)
            assert not compiled.replica_graphs, "one trace serves all replicas"
    return traced
