"""Looks at a step's operations one by one: which has no place on a core, and which tensors are large.

Takes a `Program` and what its cores compute; gives `Finding`s with the user's lines. Sees types of operations and of
values, not how they play together: that is for the compilers (`aot`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import tensorflow as tf

from tpuest import _tf, check_advice, origins
from tpuest.check_report import Finding, Kind, LargeTensor
from tpuest.replica import Program

# In the model's graph or around it, and not compiled: what stands for the batch, variables, the sums over cores.
_NOT_COMPILED = frozenset(
    {
        "AllToAll",
        "CollectivePermute",
        "CrossReplicaSum",
        "Placeholder",
        "VarHandleOp",
    }
)
_STRINGS_OF_ASSERTIONS = frozenset({"Const", "Identity", "If", "Placeholder", "StatelessIf"})
_MATRIX_PRODUCTS = frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul"})
# Give another look at the same values.
_VIEWS = frozenset(
    {"Enter", "Exit", "ExpandDims", "Identity", "IdentityN", "If", "Reshape", "Squeeze", "While"}
)
_MOST_LARGE_TENSORS = 5


@dataclasses.dataclass(frozen=True)
class Located:
    """An operation that a core would run.

    Attributes:
      operation: in the model's graph, or in a branch or a loop's body.
      outermost: the operation of the model's graph that it is, or is inside of.
    """

    operation: tf.Operation
    outermost: tf.Operation


def operations_on_cores(program: Program, targets: Sequence) -> list[Located]:
    """Lists every operation that the targets need, those of branches and loop bodies too."""
    leaves = [tensor.name for tensor in program.core_inputs]
    names = program.source.closure(targets, leaves)
    located = []
    for name in names:
        operation = program.graph.get_operation_by_name(name)
        located.append(Located(operation, operation))
        located.extend(_inside(program.graph, operation, operation, set()))
    return located


def _inside(graph, operation, outermost, seen) -> Iterator[Located]:
    for name in origins.functions_called(operation.node_def):
        function = _tf.function_graph(graph, name)
        if function is None or name in seen:
            continue
        seen.add(name)
        for inner in _needed(function):
            yield Located(inner, outermost)
            yield from _inside(graph, inner, outermost, seen)


def _needed(function: tf.Graph) -> list[tf.Operation]:
    """Lists the operations of a function that its outputs need: XLA drops the others."""
    pending = [tensor.op for tensor in function.outputs] + list(function.control_outputs)
    found = set()
    while pending:
        operation = pending.pop()
        if operation not in found:
            found.add(operation)
            pending.extend(tensor.op for tensor in operation.inputs)
            pending.extend(operation.control_inputs)
    return [operation for operation in function.get_operations() if operation in found]


def outside_of_compilation(located: Iterable[Located]) -> list[Located]:
    """Lists those that the program itself left to the host, by `tpu.outside_compilation`."""
    return [one for one in located if _tf.OUTSIDE_COMPILATION in one.operation.node_def.attr]


def find_misplaced(located: Iterable[Located]) -> dict[Located, Finding]:
    """Finds the operations that a TPU does not have, and those whose values it doesn't."""
    kernels = _tf.xla_kernels()
    found = {}
    for one in located:
        finding = _judge(one.operation, kernels)
        if finding is not None:
            found[one] = finding
    misplaced = {one.operation for one in found}
    return {one: f for one, f in found.items() if not _only_serves(one.operation, misplaced)}


def _only_serves(operation: tf.Operation, misplaced: set[tf.Operation]) -> bool:
    """Says whether an operation only holds what another one uses, which is named instead: a table, a writer."""
    if not all(tensor.dtype in (tf.resource, tf.variant) for tensor in operation.outputs):
        return False
    return any(user in misplaced for t in operation.outputs for user in t.consumers())


def _judge(operation: tf.Operation, kernels: frozenset[str]) -> Finding | None:
    """Gives what is wrong with an operation; `None` if nothing is."""
    if operation.type in _NOT_COMPILED or _tf.is_function_call(operation):
        return None
    advice = check_advice.advice_for(operation.type)
    if kernels and operation.type not in kernels:
        kind = Kind.HOST_ONLY if advice.is_host_only else Kind.NOT_ON_TPU
        return describe(operation, kind, advice.use)
    types = {tensor.dtype.base_dtype for tensor in operation.outputs}
    if tf.string in types and operation.type not in _STRINGS_OF_ASSERTIONS:
        return describe(operation, Kind.HOST_ONLY, check_advice.ENCODE)
    if tf.complex128 in types - {tensor.dtype.base_dtype for tensor in operation.inputs}:
        return describe(operation, Kind.NOT_ON_TPU, check_advice.COMPLEX128)
    if tf.int64 in types and operation.type in _MATRIX_PRODUCTS:
        return describe(operation, Kind.NOT_ON_TPU, check_advice.INT64_MATMUL)
    if tf.float64 in types and operation.type.startswith("MaxPoolGrad"):
        return describe(operation, Kind.NOT_ON_TPU, check_advice.FLOAT64_POOL)
    return None


def describe(operation: tf.Operation, kind: Kind, use: str, detail: str = "") -> Finding:
    """Makes a finding about an operation."""
    tensors = list(operation.outputs) or list(operation.inputs)
    return Finding(
        kind=kind,
        name=operation.name,
        op_types=(operation.type,),
        dtype=tensors[0].dtype.base_dtype.name if tensors else "",
        origin=origins.origin_of(operation),
        use=use,
        detail=detail,
    )


def large_tensors(located: Iterable[Located]) -> list[LargeTensor]:
    """Lists the largest values of a step, one for each line of the user's program, the largest first."""
    by_line: dict = {}
    for one in located:
        operation = one.operation
        if operation.type in _VIEWS:
            continue
        for size, tensor in _sizes(operation):
            origin = origins.origin_of(operation)
            if origin is None:
                continue
            known = by_line.get(origin)
            if known is None or known.num_bytes < size:
                by_line[origin] = LargeTensor(operation.name, *tensor, size, origin)
    ranked = sorted(by_line.values(), key=lambda large: -large.num_bytes)
    return ranked[:_MOST_LARGE_TENSORS]


def _sizes(operation: tf.Operation) -> Iterator[tuple[int, tuple[str, tuple[int, ...]]]]:
    """Yields bytes, type and shape of an operation's values, of a variable its value's."""
    if operation.type == "VarHandleOp":
        dtype = operation.get_attr("dtype")
        shape = tf.TensorShape(operation.get_attr("shape"))
        kinds = [(dtype, shape)]
    else:
        kinds = [(tensor.dtype.base_dtype, tensor.shape) for tensor in operation.outputs]
    for dtype, shape in kinds:
        if shape.is_fully_defined() and dtype not in (tf.resource, tf.variant, tf.string):
            yield shape.num_elements() * dtype.size, (dtype.name, tuple(shape.as_list()))
