"""Lets a SavedModel's graph for TPUs run where cores are simulated.

Takes the `{serve, tpu}` MetaGraphDef that a loader has read; gives one in which the CPU does what the TPU's ops ask for:

    TPUPartitionedCall(args, TPUOrdinalSelector())    StatefulPartitionedCall(args)
    TPUReplicatedInput, TPUReplicatedOutput           Identity

Installed with the old names; a loader outside a simulation gets the graph as it was saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import topology

_CALL = "TPUPartitionedCall"
_SELECTOR = "TPUOrdinalSelector"
_IDENTITIES = ("TPUReplicatedInput", "TPUReplicatedOutput")
# What places a node on a core, or outside of one.
_PLACEMENTS = ("_tpu_replicate", "_xla_outside_compilation", "_tpu_output_identity")


def simulating(find_meta_graph: Callable) -> Callable:
    """Wraps a loader's method that finds a MetaGraphDef by its tags."""

    def find(loader: Any, tags: Any) -> Any:
        meta_graph = find_meta_graph(loader, tags)
        if topology.cores_to_simulate() and tf.saved_model.TPU in meta_graph.meta_info_def.tags:
            return on_simulated_cores(meta_graph)
        return meta_graph

    return find


def on_simulated_cores(meta_graph: Any) -> Any:
    """Gives a copy of a MetaGraphDef that needs no TPU."""
    copied = type(meta_graph)()
    copied.CopyFrom(meta_graph)
    for node in copied.graph_def.node:
        _replace(node)
    for function in copied.graph_def.library.function:
        replaced = {node.name for node in function.node_def if _replace(node)}
        for node in function.node_def:
            for index, reference in enumerate(node.input):
                node.input[index] = _renamed(reference, replaced)
        for name, reference in list(function.ret.items()):
            function.ret[name] = _renamed(reference, replaced)
    return copied


def _renamed(reference: str, replaced: set[str]) -> str:
    """Names an output in a function, 'node:output:0', as the op that stands there now does."""
    name, *output = reference.split(":")
    return f"{name}:output:{output[-1]}" if name in replaced and output else reference


def _replace(node: Any) -> bool:
    """Changes one NodeDef in place, under its name; says whether it is another op now."""
    for placement in _PLACEMENTS:
        node.attr.pop(placement, None)
    if node.op == _CALL:
        node.op = "StatefulPartitionedCall"
        del node.input[_num_arguments(node)]
        _keep_attributes(node, "Tin", "Tout", "f", "_output_shapes")
    elif node.op == _SELECTOR:
        _become_constant(node, np.zeros([1], np.int32))
    elif node.op == "TPUCompilationResult":
        _become_constant(node, np.array(b"", object))
    elif node.op == "TPUReplicateMetadata":
        node.op = "NoOp"
        _keep_attributes(node)
    elif node.op in _IDENTITIES:
        node.op = "Identity"
        _keep_attributes(node, "T", "_output_shapes")
    else:
        return False
    return True


def _num_arguments(node: Any) -> int:
    """Counts what a call passes to its function; the core's number comes after that."""
    return len(node.attr["Tin"].list.type)


def _become_constant(node: Any, value: np.ndarray) -> None:
    node.op = "Const"
    _keep_attributes(node)
    tensor = tf.make_tensor_proto(value)
    node.attr["dtype"].type = tensor.dtype
    node.attr["value"].tensor.CopyFrom(tensor)


def _keep_attributes(node: Any, *names: str) -> None:
    for name in [name for name in node.attr if name not in names]:
        del node.attr[name]
