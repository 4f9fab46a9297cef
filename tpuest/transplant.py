"""Carries a part of a TF 1 graph into the function that is being traced.

Takes tensors and operations of a `tf.Graph` (what to compute) and `bindings`, the values that stand for
some of its tensors (variables' handles, the batch); gives the same tensors and operations inside the
`tf.function` under way. So `model_fn` runs once, in a plain graph, with TF 1's meaning, and its ops are
compiled wherever they are needed: on each core, in a loop, for a hook's fetch.

    with graph.as_default():
      loss = model(features)
    source = TransplantSource(graph)

    @tf.function
    def step(batch):
      return source.transplant([loss], {features.name: batch})[0]
"""

import itertools
import re

import tensorflow as tf

from tpuest import _tf, small_updates
from tpuest.cross_replica import COLLECTIVES, OF_CORES, REPLICA_ID, Meeting
from tpuest.origins import functions_called

_VARIABLE = "VarHandleOp"
_READ = "ReadVariableOp"
# Ops that use a variable's handle and leave the variable as it is.
_READS = frozenset(
    {
        _READ,
        "VarIsInitializedOp",
        "VariableShape",
        "ResourceGather",
        "ResourceGatherNd",
        "Identity",
    }
)
# Control input of what may only run behind the gate; see `TransplantSource.transplant`.
_GATE = "^tpuest_gate"
# Ops that have the attribute and refuse to be given one.
_NEVER_SHARED = frozenset({"OneShotIterator"})
# Distance between two replicas' op seeds: any constant that users do not pick as an offset themselves.
_REPLICA_SEED_STRIDE = 7919
_sessions = itertools.count()
_CORE = re.compile(r"TPU_REPLICATED_CORE:(\d+)")


def producer_name(reference):
    """Gives the node's name in `'node:0'`, `'node'` or `'^node'`."""
    return reference.lstrip("^").split(":")[0]


def tensor_name(reference):
    """Gives the full tensor name of a node's input: `'node'` means `'node:0'`."""
    return reference if ":" in reference or reference.startswith("^") else reference + ":0"


class TransplantSource:
    """A TF 1 graph whose parts can be carried into functions.

    Attributes:
      graph: the `tf.Graph`; ops added to it later are seen.
    """

    def __init__(self, graph, scope=None):
        self.graph = graph
        # Resources (tables, queues, writers) live in one process-wide manager; in TF 1 each session had its own.
        self._scope = scope or f"tpuest_{next(_sessions)}"
        self._version = None
        self._nodes = {}
        self._position = {}
        self._library = None
        self._defined = set()
        self._writers = None
        self._update = None
        self._updates_on_cpu = False
        self._substitutes = {}
        self._inputs = {}

    def substitute(self, early, tensor):
        """Lets a tensor of the graph stand for one that others were made from before it was there.

        Args:
          early: the only output of its operation, which is forgotten.
          tensor: of the same type.
        """
        self._substitutes[early.op.name] = tensor
        self._version = None

    def replace_input(self, operation, index, tensor):
        """Gives an operation of the graph another input, whichever of them was made first."""
        self._inputs[operation.name, index] = tensor
        self._version = None

    def set_update(self, update, on_cpu):
        """Has variables be read before `update` changes them, unless the graph or the update says otherwise.

        A session of TF 1 ran unordered operations as soon as it could: what a summary, a host call or a hook reads beside
        a step was the value before the step, wherever in `model_fn` it stands.

        Args:
          update: the train op.
          on_cpu: whether it runs there; see `small_updates`.
        """
        self._update = update
        self._updates_on_cpu = on_cpu
        self._version = None

    def nodes(self):
        """Returns node name to `NodeDef`, in the order of creation."""
        if self._version != self.graph.version:
            graph_def = self.graph.as_graph_def()
            self._nodes = {node.name: node for node in graph_def.node}
            for name, tensor in self._substitutes.items():
                _hand_on(self._nodes[name], tensor)
            for (name, index), tensor in self._inputs.items():
                self._nodes[name].input[index] = tensor.name
            is_changed = self._substitutes or self._inputs
            order = _producers_first(self._nodes) if is_changed else self._nodes
            self._position = {name: index for index, name in enumerate(order)}
            self._library = graph_def
            self._writers = None
            if self._updates_on_cpu:
                small_updates.rewrite(self._nodes, graph_def.library)
            _tf.register_functions(graph_def.library)
            self._version = self.graph.version
            if self._update is not None:
                early = self._early_reads()
                self._position.update((name, i - len(early)) for i, name in enumerate(early))
        return self._nodes

    def _early_reads(self):
        """Names the variables and the unordered reads of them that the update doesn't need."""
        needed = set(self.closure([self._update]))
        variables = [name for name, node in self._nodes.items() if node.op == _VARIABLE]
        reads = [
            name
            for name, node in self._nodes.items()
            if node.op == _READ and name not in needed and len(node.input) == 1
        ]
        known = set(variables)
        return [*variables, *(name for name in reads if self._nodes[name].input[0] in known)]

    def variables(self):
        """Returns each variable's name to its `VarHandleOp` node."""
        return {name: node for name, node in self.nodes().items() if node.op == _VARIABLE}

    def inputs_of_cores(self):
        """Names the nodes of which each core gets one."""
        choices = (node for node in self.nodes().values() if node.op == OF_CORES)
        return {producer_name(reference) for node in choices for reference in node.input}

    def written_by(self, name):
        """Names the variables that a node may change."""
        node = self.nodes()[name]
        if node.op in _READS:
            return []
        references = [r.split(":")[0] for r in node.input if not r.startswith("^")]
        found = [r for r in references if r in self._nodes and self._nodes[r].op == _VARIABLE]
        return [] if found and self._calls_only_readers(node) else found

    def _calls_only_readers(self, node):
        """Says whether a node hands what it is given to functions, such as branches, that change no variable."""
        if self._writers is None:
            functions = self._library.library.function
            self._defined = {f.signature.name for f in functions}
            self._writers, known = set(), None
            while known != len(self._writers):
                known = len(self._writers)
                self._writers.update(f.signature.name for f in functions if self._may_write(f))
        called = self._defined.intersection(functions_called(node))
        return bool(called) and called.isdisjoint(self._writers)

    def _may_write(self, function):
        """Says whether a function does to a resource that it is given anything but read it, as far as known."""
        resources = {
            a.name for a in function.signature.input_arg if a.type == tf.resource.as_datatype_enum
        }
        for node in function.node_def:
            called = self._defined.intersection(functions_called(node))
            reads = called.isdisjoint(self._writers) if called else node.op in _READS - {"Identity"}
            if not reads and not resources.isdisjoint(map(producer_name, node.input)):
                return True
        return False

    def functions_with(self, *op_types):
        """Names the library functions (branches, loop bodies) that hold an op of these types, or call one that does."""
        self.nodes()
        functions = self._library.library.function
        found, known = set(), None
        while known != len(found):
            known = len(found)
            for f in functions:
                if any(
                    n.op in op_types or found.intersection(functions_called(n)) for n in f.node_def
                ):
                    found.add(f.signature.name)
        return found

    def closure(self, targets, leaves=()):
        """Names every node that `targets` need, in the order of creation.

        Args:
          targets: tensors or operations of `graph`.
          leaves: tensor names whose producers are not followed.
        """
        nodes = self.nodes()
        cut = _with_control_references(leaves)
        seen = set()
        pending = [target.name for target in targets]
        while pending:
            reference = pending.pop()
            if tensor_name(reference) in cut:
                continue
            name = producer_name(reference)
            if name not in seen:
                seen.add(name)
                pending.extend(nodes[name].input)
        return sorted(seen, key=self._position.__getitem__)

    def only_reads(self, targets, leaves):
        """Says whether computing `targets` has no effect beside them; see `closure`."""
        operations = map(self.graph.get_operation_by_name, self.closure(targets, leaves))
        return not any(
            o.op_def.is_stateful and o.type not in (_VARIABLE, *_READS) for o in operations
        )

    def transplant(self, targets, bindings, replica_id=0, meet=None, keeps_cores=False, gate=None):
        """Builds `targets` in the function being traced.

        Args:
          targets: tensors or operations of `graph`.
          bindings: tensor name of `graph` to the value that stands for it.
          replica_id: which replica this copy is for; stateful random ops differ between replicas.
          meet: holds the `Meeting`s of replicas, from a list of them to a list of `Outcome`s. `None` carries
            collective ops over as they are, which is right on a TPU.
          keeps_cores: whether operations stay on the core of the replica that `tf.device(tpu.core(i))` gave them.
          gate: a tensor that must be there before any variable is written; `None` for none.

        Returns:
          The new tensors and operations, in the order of `targets`.
        """
        building = self.build(targets, bindings, replica_id, meet is not None, keeps_cores, gate)
        outcomes = None
        while True:
            try:
                meetings = building.send(outcomes)
            except StopIteration as end:
                return end.value
            outcomes = meet(meetings)

    def build(self, targets, bindings, replica_id=0, meets=True, keeps_cores=False, gate=None):
        """Does what `transplant` does, as a generator that yields `Meeting`s and is sent their `Outcome`s."""
        capture = tf.compat.v1.get_default_graph().capture
        built = {name: capture(value) for name, value in bindings.items()}
        needed = self.closure(targets, built)
        wanted = {_reference(target) for target in targets}
        dropped = _with_control_references(bindings) - set(bindings)
        gated = {name for name in needed if self.written_by(name)} if gate is not None else ()
        if gated:
            built[_GATE] = gate
        for stage in self._stages(needed, self._meeting_nodes(needed) if meets else frozenset()):
            nodes = [self._portable(self._nodes[name], replica_id, dropped) for name in stage.nodes]
            for node in nodes:
                if node.name in gated:
                    node.input.append(_GATE)
                if meets:
                    # Off a TPU no pass takes the mark away, and TensorFlow for TPUs refuses it there.
                    node.attr.pop(_tf.OUTSIDE_COMPILATION, None)
                    if node.op == REPLICA_ID:
                        _make_constant(node, replica_id, tf.int32)
                    if node.op == OF_CORES:
                        _choose(node, replica_id)
            if keeps_cores:
                for node in nodes:
                    node.device = _device_of_core(core_of(self._nodes[node.name]))
            self._import(nodes, built, wanted | stage.wanted_later)
            if stage.meetings:
                outcomes = yield [
                    self._meeting(name, built, dropped, [gate] if name in gated else [])
                    for name in stage.meetings
                ]
                for name, outcome in zip(stage.meetings, outcomes):
                    built.update((f"{name}:{i}", t) for i, t in enumerate(outcome.outputs))
                    built["^" + name] = outcome.done
        return [built[_reference(target)] for target in targets]

    def _meeting_nodes(self, needed):
        """Names the nodes for which replicas must meet: collective ops, and calls of functions with such.

        Functions that ask for the replica's number are among them: each replica needs its own.
        """
        functions = self.functions_with(*COLLECTIVES, REPLICA_ID)
        return frozenset(
            name
            for name in needed
            if self._nodes[name].op in COLLECTIVES
            or not functions.isdisjoint(functions_called(self._nodes[name]))
        )

    def _stages(self, needed, meetings):
        """Cuts `needed` where replicas must meet: a stage ends in the meetings that its nodes feed."""
        level = {}
        for name in needed:
            producers = map(producer_name, self._nodes[name].input)
            level[name] = max(
                (level[p] + (p in meetings) for p in producers if p in level), default=0
            )
        stages = [_Stage() for _ in range(max(level.values(), default=-1) + 1)]
        for name in needed:
            stage = stages[level[name]]
            (stage.meetings if name in meetings else stage.nodes).append(name)
            for reference in self._nodes[name].input:
                producer = producer_name(reference)
                if producer in level and (level[producer] < level[name] or name in meetings):
                    stages[level[producer]].wanted_later.add(tensor_name(reference))
        return stages

    def _meeting(self, name, built, dropped_inputs, gates):
        node = self._nodes[name]
        references = [r for r in node.input if r not in dropped_inputs]
        waits_for = [*gates, *(built[r] for r in references if r.startswith("^"))]
        data = [built[tensor_name(r)] for r in references if not r.startswith("^")]
        groups = None
        if node.op in COLLECTIVES:
            groups = self._constant(node.input[1])
            data = data[:1]
        if waits_for:
            # A handle stays as it is: copies of it would hide which ops share its resource, and so their order.
            with tf.control_dependencies(waits_for):
                data = [t if t.dtype == tf.resource else tf.identity(t) for t in data]
        return Meeting(node, tuple(data), groups, self._function)

    def _constant(self, reference):
        """Computes a tensor that depends on constants only, as a numpy array."""
        node = self._nodes[producer_name(reference)]
        if node.op == "Const":
            return tf.make_ndarray(node.attr["value"].tensor)
        tensor = self.graph.get_tensor_by_name(tensor_name(reference))
        # The pairs of a gradient's CollectivePermute are those of its op, turned round.
        compute = tf.function(lambda: self.transplant([tensor], {})[0], autograph=False)
        with tf.init_scope():
            return compute().numpy()

    def _function(self, name, inputs):
        """Gives the source of a library function's graph, for inputs of these shapes."""
        (function,) = [f for f in self._library.library.function if f.signature.name == name]
        with self.graph.as_default():
            graph = _tf.function_def_to_graph(
                function,
                input_shapes=[None if t.dtype == tf.resource else t.shape for t in inputs],
                include_library_functions=True,
            )
        return TransplantSource(graph, self._scope)

    def _import(self, nodes, built, wanted):
        """Imports the nodes and adds what `wanted` names of them to `built`."""
        if not nodes:
            return
        part = tf.compat.v1.GraphDef(
            node=nodes, versions=self._library.versions, library=self._library.library
        )
        inside = {node.name for node in nodes}
        inputs = {tensor_name(reference) for node in nodes for reference in node.input}
        outside = {r for r in inputs if r in built or producer_name(r) not in inside}
        returned = sorted(r for r in wanted if producer_name(r) in inside and r not in built)
        input_map = {r: _as_tensor(built[r]) for r in outside}
        with _tf.no_control_dependencies():
            elements = tf.graph_util.import_graph_def(
                part,
                name="model",
                input_map=input_map,
                return_elements=[r.lstrip("^") for r in returned],
            )
        for reference, element in zip(returned, elements or ()):
            if isinstance(element, tf.Tensor):
                # Python knew more of it (set_shape, a queue's shapes) than an imported op infers.
                element.set_shape(self.graph.get_tensor_by_name(reference).shape)
            built[reference] = element

    def _portable(self, node, replica_id, dropped_inputs):
        """Copies a node without what tied it to its session: devices, colocation, private resources, equal seeds."""
        copy = type(node)()
        copy.CopyFrom(node)
        copy.device = ""  # the strategy places the step
        copy.attr.pop("_class", None)
        if not dropped_inputs.isdisjoint(node.input):
            copy.ClearField("input")
            copy.input.extend(r for r in node.input if r not in dropped_inputs)
        if "shared_name" in copy.attr and node.op not in _NEVER_SHARED:
            shared = copy.attr["shared_name"].s.decode() or node.name
            copy.attr["shared_name"].s = f"{self._scope}/{shared}".encode()
        if replica_id and "seed2" in copy.attr and (copy.attr["seed"].i or copy.attr["seed2"].i):
            copy.attr["seed2"].i += replica_id * _REPLICA_SEED_STRIDE
        return copy


def _hand_on(node, tensor):
    """Turns a node into one that hands a tensor on."""
    node.op = "Identity"
    node.input[:] = [tensor.name]
    node.attr.clear()
    node.attr["T"].type = tensor.dtype.as_datatype_enum


def _choose(node, index):
    """Turns a node of which each core has an input into one that hands on that of a core."""
    dtype = node.attr["T"].type
    node.op = "Identity"
    node.input[:] = [node.input[index]]
    node.attr.clear()
    node.attr["T"].type = dtype


def _make_constant(node, value, dtype):
    """Turns a node into a constant."""
    node.op = "Const"
    node.attr.clear()
    node.attr["dtype"].type = dtype.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))


def _producers_first(nodes):
    """Orders nodes so that each comes after those it needs, else as they are."""
    order, seen = [], set()
    for start in nodes:
        pending = [start]
        while pending:
            name = pending[-1]
            missing = [p for p in map(producer_name, nodes[name].input) if p not in seen]
            if missing and name not in seen:
                pending.extend(missing)
                continue
            pending.pop()
            if name not in seen:
                seen.add(name)
                order.append(name)
    return order


def core_of(node):
    """Gives the number of the replica's core that `tf.device(tpu.core(i))` put a node on, else `None`."""
    found = _CORE.search(node.device)
    return int(found[1]) if found else None


def _device_of_core(core):
    return "" if core is None else f"/device:TPU_REPLICATED_CORE:{core}"


class _Stage:
    """Nodes that can be built before the replicas meet at `meetings`."""

    def __init__(self):
        self.nodes = []
        self.meetings = []
        self.wanted_later = set()


def _reference(target):
    return target.name if isinstance(target, tf.Tensor) else "^" + target.name


def _with_control_references(names):
    """Adds `^node` for each bound tensor: its producer is not there to be waited for."""
    return set(names) | {"^" + producer_name(name) for name in names}


def _as_tensor(value):
    """Gives something that `import_graph_def` takes for an input: of an operation, any tensor that waits for it."""
    if isinstance(value, tf.Tensor):
        return value
    if value.outputs:
        return value.outputs[0]
    with tf.control_dependencies([value]):
        return tf.constant(0)
