"""Parts of a TF 1 graph, carried into functions: the same values, order and resources, on one replica or several."""

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from input_models import make_estimator
from models import CPU, EIGHT_CORES, ONE_CORE, TWO_CORES, simulation
from tensorflow.python.ops import op_selector
from tensorflow.python.tpu.ops import tpu_ops

from tpuest import RunConfig, TPUEstimatorSpec, UnsupportedError, _tf
from tpuest.compat import trace
from tpuest.cross_replica import meet_alone, meet_in_replica_context
from tpuest.topology import find_topology
from tpuest.transplant import TransplantSource

# float32 sums in another order.
RTOL = 1e-5


class Model:
    """A graph under test; `with model:` adds to it."""

    def __init__(self):
        self.graph = tf.Graph()
        self.source = TransplantSource(self.graph)
        self._scopes = []

    def __enter__(self):
        self._scopes.append(trace.graph_scope(self.graph))
        self._scopes[-1].__enter__()
        return self

    def __exit__(self, *error):
        return self._scopes.pop().__exit__(*error)

    def run(self, targets, bindings=None, **options):
        """Computes tensors in a function of their own; `bindings` are numpy arrays."""
        names = list(bindings or {})

        @tf2.function(autograph=False)
        def compute(*values):
            built = self.source.transplant(targets, dict(zip(names, values)), **options)
            operations = [item for item in built if isinstance(item, tf.Operation)]
            with tf.control_dependencies(operations):
                return [tf.identity(item) for item in built if isinstance(item, tf.Tensor)]

        values = compute(*(tf.constant((bindings or {})[name]) for name in names))
        return [value.numpy() for value in values]


@pytest.fixture
def model():
    with Model() as made:
        yield made


# --- what is carried


def test_a_closure_is_what_a_target_needs_in_the_order_of_creation(model):
    a = tf.constant(1.0, name="a")
    tf.constant(2.0, name="unneeded")
    b = tf.add(a, a, name="b")
    c = tf.multiply(b, a, name="c")
    assert model.source.closure([c]) == ["a", "b", "c"]


def test_a_closure_ends_at_its_leaves(model):
    a = tf.placeholder(tf.float32, [], name="a")
    b = tf.add(a, a, name="b")
    c = tf.multiply(b, a, name="c")
    assert model.source.closure([c], leaves=[b.name, a.name]) == ["c"]


def test_a_closure_follows_control_inputs(model):
    check = tf.no_op(name="check")
    with tf.control_dependencies([check]):
        a = tf.constant(1.0, name="a")
    assert model.source.closure([a]) == ["check", "a"]


def test_ops_made_later_are_seen(model):
    a = tf.constant(1.0, name="a")
    assert model.source.closure([a]) == ["a"]
    assert model.source.closure([tf.negative(a, name="b")]) == ["a", "b"]


def test_a_bound_tensor_is_replaced_and_its_producer_left_out(model):
    a = tf.placeholder(tf.float32, [], name="a")
    b = a * 3
    with _tf.eager_mode():
        assert model.run([b], {a.name: np.float32(2)}) == [6]


def test_a_binding_may_be_a_target(model):
    a = tf.placeholder(tf.float32, [], name="a")
    with _tf.eager_mode():
        assert model.run([a], {a.name: np.float32(2)}) == [2]


def test_waiting_for_a_bound_tensor_is_dropped(model):
    a = tf.placeholder(tf.float32, [], name="a")
    with tf.control_dependencies([a]):
        b = tf.constant(1.0)
    with _tf.eager_mode():
        assert model.run([b], {a.name: np.float32(2)}) == [1]


def test_static_shapes_that_python_knows_are_kept(model):
    unknown = tf.py_func(lambda: np.zeros([2, 3], np.float32), [], tf.float32)
    unknown.set_shape([2, 3])
    with _tf.eager_mode():
        shapes = []

        @tf2.function(autograph=False)
        def compute():
            (built,) = model.source.transplant([unknown], {})
            shapes.append(built.shape.as_list())
            return built

        compute()
    assert shapes == [[2, 3]]


def branch(x):
    return tf.cond(x > 0, lambda: x * 2, lambda: tf.negative(x))


def loop(x):
    return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * x), [0, tf.ones([])])[1]


def case(x):
    return tf.switch_case(tf.cast(x, tf.int32), [lambda: x + 1, lambda: x + 2])


def nested(x):
    return tf.cond(x > 0, lambda: loop(x) + branch(-x), lambda: x)


def with_defun(x):
    from tensorflow.python.framework import function

    @function.Defun(tf.float32)
    def double(value):
        return value * 2

    return double(x)


def with_function(x):
    return tf2.function(lambda value: value + 5)(x)


@pytest.mark.parametrize(
    ("build", "given", "expected"),
    [
        (branch, 3, 6),
        (branch, -3, 3),
        (loop, 2, 8),
        (case, 0, 1),
        (case, 1, 3),
        (nested, 2, 10),
        (nested, -2, -2),
        (with_defun, 4, 8),
        (with_function, 1, 6),
        (lambda x: tf.gradients(branch(x), x)[0], 1, 2),
        (lambda x: tf.gradients(loop(x), x)[0], 2, 12),
    ],
)
def test_control_flow_and_functions_compute_the_same(model, build, given, expected):
    x = tf.placeholder(tf.float32, [], name="x")
    y = build(x)
    with _tf.eager_mode():
        assert model.run([y], {x.name: np.float32(given)}) == [expected]


# --- resources and random numbers


def test_a_queue_keeps_its_items_between_functions(model):
    queue = tf.FIFOQueue(10, [tf.int32], shared_name="queue")
    put = queue.enqueue([3])
    take = queue.dequeue()
    with _tf.eager_mode():
        model.run([put])
        assert model.run([take]) == [3]


def test_resources_of_two_graphs_are_apart():
    sizes = []
    for _ in range(2):
        with Model() as model:
            queue = tf.FIFOQueue(10, [tf.int32], shared_name="queue")
            put, size = queue.enqueue([3]), queue.size()
            with _tf.eager_mode():
                model.run([put])
                sizes.extend(model.run([size]))
    assert sizes == [1, 1]


def test_replicas_draw_other_numbers_from_equal_seeds(model):
    tf.set_random_seed(1)
    x = tf.random.uniform([], name="x")
    with _tf.eager_mode():
        first, again = (model.run([x], replica_id=0) for _ in range(2))
        second = model.run([x], replica_id=1)
    assert first == again
    assert first != second


def test_replica_0_draws_what_a_session_draws(model):
    tf.set_random_seed(1)
    x = tf.random.uniform([3], name="x")
    with tf.Session(graph=model.graph) as session:
        expected = session.run(x)
    with _tf.eager_mode():
        (actual,) = model.run([x])
    np.testing.assert_array_equal(actual, expected)


def test_control_dependencies_keep_their_order(model):
    order, previous = [], []
    for i in range(5):
        with tf.control_dependencies(previous):
            previous = [tf.py_func(lambda i=i: order.append(i), [], [])]
    with _tf.eager_mode():
        model.run(previous)
    assert order == [0, 1, 2, 3, 4]


# --- sums over replicas


def stages_of(model, targets):
    source = model.source
    needed = source.closure(targets)
    return [
        (stage.nodes, stage.meetings)
        for stage in source._stages(needed, source._meeting_nodes(needed))
    ]


def test_a_sum_ends_a_stage_and_independent_sums_share_one(model):
    a, b = tf.constant(1.0, name="a"), tf.constant(2.0, name="b")
    with tf.name_scope("first"):
        x, y = tf.tpu.cross_replica_sum(a, [[0]]), tf.tpu.cross_replica_sum(b, [[0]])
    z = tf.tpu.cross_replica_sum(tf.add(x, y, name="z"), [[0]])
    (nodes, meetings), (later_nodes, later_meetings) = stages_of(model, [z])
    assert meetings == [x.op.name, y.op.name]
    assert {"a", "b"} <= set(nodes)
    assert "z" in later_nodes
    assert later_meetings == [z.op.name]


def test_a_branch_with_a_sum_is_a_meeting_and_one_without_is_none(model):
    x = tf.placeholder(tf.float32, [])
    plain = tf.cond(x > 0, lambda: x, lambda: -x, name="plain")
    summing = tf.cond(x > 0, lambda: tf.tpu.cross_replica_sum(plain, [[0]]), lambda: x, name="sum")
    ((nodes, meetings), *_) = stages_of(model, [summing])
    assert any(name.startswith("plain") for name in nodes)
    assert len(meetings) == 1
    assert meetings[0].startswith("sum")


def test_functions_that_call_a_function_with_a_sum_are_found(model):
    x = tf.placeholder(tf.float32, [])
    sum_of = lambda: tf.tpu.cross_replica_sum(x, [[0]])
    tf.cond(x > 0, lambda: tf.cond(x > 1, sum_of, lambda: x), lambda: x)
    found = model.source.functions_with("CrossReplicaSum")
    assert len(found) == 2
    assert not model.source.functions_with("Conv2D")


def test_a_branch_that_only_reads_a_variable_changes_none(model):
    w = tf.get_variable("w", [], use_resource=True)
    nested = lambda act: tf.cond(w > 0, lambda: tf.cond(w > 1, act, lambda: 0.0), lambda: 0.0)
    reads = nested(lambda: w + 0.0)
    writes = nested(lambda: w.assign(1.0))
    written_by = lambda tensor: {
        v for name in model.source.closure([tensor]) for v in model.source.written_by(name)
    }
    assert written_by(reads) == set()
    assert written_by(writes) == {"w"}


def on_replicas(model, build, num_replicas):
    """Runs what `build` makes of a float32 placeholder, on replica r fed with r + 1; gives each replica's value."""
    x = tf.placeholder(tf.float32, [], name="x")
    y = build(x)
    with _tf.eager_mode(), simulation(num_replicas):
        topology = find_topology(RunConfig(), use_tpu=True)
        strategy = topology.strategy
        meet = meet_alone if num_replicas == 1 else meet_in_replica_context(topology.devices)

        def replica():
            replica_id = tf.distribute.get_replica_context().replica_id_in_sync_group
            given = tf.cast(replica_id, tf.float32) + 1
            return model.source.transplant([y], {x.name: given}, 0, meet)[0]

        result = tf2.function(lambda: strategy.run(replica), autograph=False)()
        return [float(value) for value in strategy.experimental_local_results(result)]


def total(x, groups=None):
    return tf.tpu.cross_replica_sum(x, groups)


HALVES = [[0, 2], [1, 3]]


def sums_in_a_loop(x):
    def body(i, y):
        return i + 1, y + total(y * 0.5, [[0, 1]])

    return tf.while_loop(lambda i, y: i < 2, body, [0, x])[1]


def sum_in_a_branch_of_a_branch(x):
    inner = lambda: tf.cond(total(x, [[0, 1]]) > 2, lambda: total(x, [[0, 1]]), lambda: x)
    return tf.cond(tf.constant(1.0) > 0, inner, lambda: x)


@pytest.mark.parametrize(
    ("num_replicas", "build", "expected"),
    [
        (1, lambda x: total(x, [[0]]), [1]),
        (2, lambda x: total(x, [[0, 1]]), [3, 3]),
        (4, lambda x: total(x, HALVES), [4, 6, 4, 6]),
        (4, lambda x: tf.cond(x < 9, lambda: total(x, HALVES), lambda: x), [4, 6, 4, 6]),
        (2, lambda x: tf.cond(x > 9, lambda: total(x, [[0, 1]]), lambda: x), [1, 2]),
        (1, lambda x: tf.cond(x < 9, lambda: total(x, [[0]]), lambda: x), [1]),
        # y: 1, 2 -> 1 + 1.5, 2 + 1.5 -> 2.5 + 3, 3.5 + 3
        (2, sums_in_a_loop, [5.5, 6.5]),
        (2, sum_in_a_branch_of_a_branch, [3, 3]),
        (2, lambda x: tf2.function(lambda v: total(v, [[0, 1]]))(x), [3, 3]),
        (2, lambda x: total(total(x, [[0, 1]]) * x, [[0, 1]]), [9, 9]),
        (
            2,
            lambda x: tf.switch_case(tf.constant(1), [lambda: x, lambda: total(x, [[0, 1]])]),
            [3, 3],
        ),
    ],
)
def test_replicas_sum_over_their_group(model, num_replicas, build, expected):
    np.testing.assert_allclose(on_replicas(model, build, num_replicas), expected)


def test_a_sum_takes_no_walk_over_all_that_was_built_before_it(model, monkeypatch):
    def walk(*_, **__):
        raise AssertionError(
            "With hundreds of sums, as synchronous batch norm has, walks take minutes."
        )

    monkeypatch.setattr(op_selector, "get_backward_walk_ops", walk)
    chain = lambda x: total(total(x) * x)
    np.testing.assert_allclose(on_replicas(model, chain, 2), [9, 9])


def exchanged(x, groups):
    """Gives what a replica got from the first and, times 100, from the second of its group."""
    sent = tf.stack([x, 10 * x])
    return tf.reduce_sum(tpu_ops.all_to_all(sent, 0, 0, 2, groups) * [1.0, 100.0])


def moved_on(x, pairs):
    return tpu_ops.collective_permute(x, pairs)


def gradient_of_a_move(x):
    loss = moved_on(x, [[0, 1]]) * tf.stop_gradient(x)
    return tf.gradients(loss, x)[0]


@pytest.mark.parametrize(
    ("num_replicas", "build", "expected"),
    [
        (1, lambda x: tpu_ops.all_to_all(tf.stack([x]), 0, 0, 1, [[0]])[0], [1]),
        (2, lambda x: exchanged(x, [[0, 1]]), [201, 2010]),
        (4, lambda x: exchanged(x, HALVES), [301, 402, 3010, 4020]),
        (2, lambda x: tf.cond(x < 9, lambda: exchanged(x, [[0, 1]]), lambda: x), [201, 2010]),
        (4, lambda x: moved_on(x, [[0, 1], [1, 2], [2, 3]]), [0, 1, 2, 3]),
        (2, lambda x: moved_on(x, [[0, 1], [1, 0]]), [2, 1]),
        (1, lambda x: moved_on(x, [[0, 0]]), [1]),
        (2, gradient_of_a_move, [2, 0]),
        (2, lambda x: tf.gradients(exchanged(x, [[0, 1]]), x)[0], [11, 1100]),
    ],
)
def test_replicas_exchange_tensors(model, num_replicas, build, expected):
    np.testing.assert_allclose(on_replicas(model, build, num_replicas), expected)


def test_an_exchange_between_another_number_of_replicas_than_pieces_is_refused(model):
    with pytest.raises(ValueError, match="split_count 2 must equal .* 1"):
        on_replicas(model, lambda x: exchanged(x, [[0], [1]]), 2)


def test_replicas_that_take_different_branches_to_a_sum_are_told(model):
    with pytest.raises(tf.errors.InvalidArgumentError, match="The cores do not agree"):
        on_replicas(model, lambda x: tf.cond(x > 1, lambda: total(x, [[0, 1]]), lambda: x), 2)


def test_a_sum_where_replicas_cannot_meet_is_refused(model):
    def in_map(x):
        return tf.raw_ops.RemoteCall(
            target="/cpu:0",
            args=[x],
            Tout=[tf.float32],
            f=tf2.function(lambda v: total(v, [[0]])).get_concrete_function(x),
        )[0]

    with pytest.raises(UnsupportedError, match="CrossReplicaSum in a function of RemoteCall"):
        on_replicas(model, in_map, 1)


# --- whole programs with a sum in a branch

ROWS = np.random.RandomState(0).rand(64, 3).astype(np.float32)
TARGETS = (ROWS @ np.array([[1.0], [2.0], [3.0]])).astype(np.float32)


def rows_input_fn(params):
    dataset = tf.data.Dataset.from_tensor_slices((ROWS, TARGETS)).repeat()
    return dataset.batch(params["batch_size"], drop_remainder=True)


def accumulates_gradients(loss, w, use_tpu):
    """Applies the mean gradient of two steps at every second one, as public programs do."""
    step = tf.train.get_global_step()
    optimizer = tf.train.AdamOptimizer(0.1)
    if use_tpu:
        optimizer = tf.tpu.CrossShardOptimizer(optimizer)
    ((gradient, _),) = optimizer.compute_gradients(loss, [w])
    sums = tf.get_variable("sums", w.shape, initializer=tf.zeros_initializer(), trainable=False)
    with tf.control_dependencies([sums.assign_add(gradient)]):
        mean = sums.read_value() / 2

    def apply():
        with tf.control_dependencies([optimizer.apply_gradients([(mean, w)])]):
            return tf.group(sums.assign(tf.zeros_like(sums)))

    with tf.control_dependencies([tf.cond(tf.equal(step % 2, 1), apply, tf.no_op)]):
        return tf.assign_add(step, 1)


def looks_ahead(loss, w, use_tpu):
    """Sums in the body of a loop."""
    features = tf.get_default_graph().get_tensor_by_name("rows:0")
    targets = tf.get_default_graph().get_tensor_by_name("targets:0")

    def body(i, moved):
        ahead = tf.reduce_mean((features @ (w - 0.1 * moved) - targets) ** 2)
        gradient = tf.gradients(ahead, w)[0]
        if use_tpu:
            num_replicas = tf.tpu.cross_replica_sum(tf.ones([]))
            gradient = tf.tpu.cross_replica_sum(gradient) / num_replicas
        return i + 1, moved + gradient

    _, moved = tf.while_loop(lambda i, _: i < 3, body, [0, tf.zeros_like(w)])
    return tf.group(w.assign_sub(0.1 * moved), tf.assign_add(tf.train.get_global_step(), 1))


def program(make_train_op):
    def model_fn(features, labels, mode, params):
        features, labels = tf.identity(features, "rows"), tf.identity(labels, "targets")
        w = tf.get_variable("w", [3, 1], initializer=tf.zeros_initializer())
        loss = tf.reduce_mean((features @ w - labels) ** 2)
        train_op = make_train_op(loss, w, params["use_tpu"])
        return TPUEstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def trained_variables(model_dir, make_train_op, num_cores):
    with simulation(num_cores):
        estimator = make_estimator(
            model_dir, program(make_train_op), num_cores, 16, {"iterations_per_loop": 4}
        )
        estimator.train(rows_input_fn, steps=8)
    names = set(estimator.get_variable_names()) - {"sums"}  # each core's own share, until applied
    return {name: estimator.get_variable_value(name) for name in sorted(names)}


@pytest.mark.parametrize("make_train_op", [accumulates_gradients, looks_ahead])
def test_training_with_a_sum_in_a_branch_is_that_of_one_device(tmp_path, make_train_op):
    expected = trained_variables(tmp_path / "cpu", make_train_op, CPU)
    assert expected["w"].all()
    for num_cores in (ONE_CORE, TWO_CORES, EIGHT_CORES):
        actual = trained_variables(tmp_path / str(num_cores), make_train_op, num_cores)
        assert sorted(actual) == sorted(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, RTOL, err_msg=name)
