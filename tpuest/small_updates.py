"""Adam's update of small variables on a CPU, without waking TensorFlow's threads.

Takes the nodes of a graph; gives the same nodes, those of `ResourceApplyAdam` on small variables as calls of a function
that computes the same. TensorFlow's kernel shares its work among all threads whenever (elements / 8)^2 is large: it
reports the cost of all elements where the cost of one is asked for (training_ops.cc, 2.16 to 2.21). Six variables of
1024 elements take 134 us so and 44 us as below; 32 elements 18 us and 36 us; 16384 elements 179 us and 151 us.

    m   += (g - m) (1 - beta1)
    v   += (g^2 - v) (1 - beta2)
    var -= m lr sqrt(1 - beta2^t) / (1 - beta1^t) / (sqrt(v) + epsilon)
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

_ADAM = "ResourceApplyAdam"
# Elements of a variable for which the function is faster than the kernel.
_SIZES = range(385, 8193)
_HANDLES = ("var", "m", "v")
_NUMBERS = ("beta1_power", "beta2_power", "lr", "beta1", "beta2", "epsilon", "grad")
# The formulas above as nodes: name, operation, inputs.
_MOMENTS = (
    ("old_m", "ReadVariableOp", "m"),
    ("old_v", "ReadVariableOp", "v"),
    ("rest1", "Sub", "one", "beta1"),
    ("rest2", "Sub", "one", "beta2"),
    ("off_m", "Sub", "grad", "old_m"),
    ("change_m", "Mul", "off_m", "rest1"),
    ("new_m", "AddV2", "old_m", "change_m"),
    ("square", "Square", "grad"),
    ("off_v", "Sub", "square", "old_v"),
    ("change_v", "Mul", "off_v", "rest2"),
    ("new_v", "AddV2", "old_v", "change_v"),
    ("assign_m", "AssignVariableOp", "m", "new_m"),
    ("assign_v", "AssignVariableOp", "v", "new_v"),
)
_STEP = (("step", "Identity", "new_m"),)
_NESTEROV_STEP = (
    ("new_part", "Mul", "grad", "rest1"),
    ("old_part", "Mul", "beta1", "new_m"),
    ("step", "AddV2", "new_part", "old_part"),
)
_UPDATE = (
    ("rest1_power", "Sub", "one", "beta1_power"),
    ("rest2_power", "Sub", "one", "beta2_power"),
    ("correction", "Sqrt", "rest2_power"),
    ("corrected", "Mul", "lr", "correction"),
    ("alpha", "RealDiv", "corrected", "rest1_power"),
    ("scaled", "Mul", "step", "alpha"),
    ("root_v", "Sqrt", "new_v"),
    ("divisor", "AddV2", "root_v", "epsilon"),
    ("update", "RealDiv", "scaled", "divisor"),
    ("assign_var", "AssignSubVariableOp", "var", "update"),
)
_OUTPUTS = {
    "Const": "output",
    "ReadVariableOp": "value",
    "Identity": "output",
    "Square": "y",
    "Sqrt": "y",
}
_ASSIGNMENTS = ("AssignVariableOp", "AssignSubVariableOp")
# Operations whose type is the attribute `dtype`, not `T`.
_OF_DTYPE = ("Const", "ReadVariableOp", *_ASSIGNMENTS)


def rewrite(nodes: Mapping[str, Any], library: Any) -> None:
    """Has small variables be updated by functions.

    Args:
      nodes: node name to `NodeDef`, changed in place.
      library: `FunctionDefLibrary`, to which the functions are added.
    """
    functions = {}
    for node in nodes.values():
        if node.op == _ADAM and _size(nodes.get(node.input[0])) in _SIZES:
            function = _adam(node.attr["T"].type, node.attr["use_nesterov"].b)
            functions[function.signature.name] = function
            _call(node, function.signature.name)
    library.function.extend(functions.values())


def _size(variable: Any) -> int | None:
    """Gives the number of elements of a variable's node, if that is known."""
    if variable is None or variable.op != "VarHandleOp":
        return None
    return tf.TensorShape(variable.attr["shape"].shape).num_elements()


def _call(node: Any, name: str) -> None:
    """Makes of a node the call of a function that takes the same inputs and gives nothing."""
    dtype = node.attr["T"].type
    node.op = "StatefulPartitionedCall"
    node.attr.clear()
    handles = [tf.resource.as_datatype_enum] * len(_HANDLES)
    node.attr["Tin"].list.type.extend([*handles, *[dtype] * len(_NUMBERS)])
    node.attr["Tout"].list.SetInParent()
    node.attr["f"].func.name = name


@functools.cache
def _adam(dtype: int, uses_nesterov: bool) -> Any:
    """Gives the update's `FunctionDef`: the kernel's inputs, no output.

    Written node by node: to trace it took 16 ms of a program's first step.
    """
    function = tf.compat.v1.GraphDef().library.function.add()
    signature = function.signature
    signature.name = f"tpuest_adam_{'nesterov_' * uses_nesterov}{tf.as_dtype(dtype).name}"
    signature.is_stateful = True
    for name in _HANDLES:
        signature.input_arg.add(name=name, type=tf.resource.as_datatype_enum)
    for name in _NUMBERS:
        signature.input_arg.add(name=name, type=dtype)
    references = {argument.name: argument.name for argument in signature.input_arg}
    step = _NESTEROV_STEP if uses_nesterov else _STEP
    for name, op, *inputs in (("one", "Const"), *_MOMENTS, *step, *_UPDATE):
        # Inlined, it stands below the call's name, where the model has some of the plainest names.
        node = function.node_def.add(name=f"tpuest/{name}", op=op)
        node.input.extend(references[i] for i in inputs)
        references[name] = f"{node.name}:{_OUTPUTS.get(op, 'z')}:0"
        node.attr["dtype" if op in _OF_DTYPE else "T"].type = dtype
        if op == "Const":
            one = tf.make_tensor_proto(1, tf.as_dtype(dtype))
            node.attr["value"].tensor.CopyFrom(one)
        if op in _ASSIGNMENTS:
            signature.control_output.append(name)
            function.control_ret[name] = node.name
    return function
