"""tpuest.compat.layers against what TF 1.15's and 2.15's `tf.layers` did.

The cases are those of goldens/record_layers.py; each check loops over all of them.
"""

import ast
import contextlib
import copy
import functools
import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from tpuest import _tf
from tpuest.compat import layers
from tpuest.errors import UnsupportedError

GOLDENS = pathlib.Path(__file__).parent / "goldens"

# Kernels of six years later add up in another order.
SUM_ORDER = 1e-5
# The same random numbers, scaled by the same operations.
SAME_NUMBERS = 1e-6
# float16 has ten bits; bfloat16 seven.
HALF_PRECISION = 1e-2


def load_record_module():
    spec = importlib.util.spec_from_file_location("record_layers", GOLDENS / "record_layers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


record = load_record_module()
TF115, TF115_ARRAYS = record.load(GOLDENS / "layers_tf115.npz")
TF215, TF215_ARRAYS = record.load(GOLDENS / "layers_tf215.npz")

# Cases whose outputs come from an operation that TensorFlow itself has renamed since 1.15.
RENAMED_BY_TENSORFLOW = {
    "dropout_class": "tf.nn.dropout selects instead of multiplying",
    "dropout_noise_shape": "tf.nn.dropout selects instead of multiplying",
}

every_case = pytest.mark.parametrize("case", record.CASES, ids=lambda case: case.__name__)
every_meaning = pytest.mark.parametrize("meaning", ["tf1", "tf2"])


@contextlib.contextmanager
def behaviour(meaning):
    """TF 1's variables, control flow and shapes, or TF 2's; then what was before."""
    switches = [
        (
            tf.resource_variables_enabled,
            tf.enable_resource_variables,
            tf.disable_resource_variables,
        ),
        (tf.control_flow_v2_enabled, tf.enable_control_flow_v2, tf.disable_control_flow_v2),
        (shapes_are_tf2, tf.enable_v2_tensorshape, tf.disable_v2_tensorshape),
    ]
    before = [is_on() for is_on, _, _ in switches]
    for _, enable, disable in switches:
        (enable if meaning == "tf2" else disable)()
    try:
        yield
    finally:
        for was_on, (_, enable, disable) in zip(before, switches, strict=True):
            (enable if was_on else disable)()


def shapes_are_tf2():
    return isinstance(tf.TensorShape([1])[0], int)


@functools.cache
def run(case, meaning):
    with behaviour(meaning):
        return record.run_case(case, tf, layers)


def tolerance_of(case):
    is_half = any(word in case.__name__ for word in ("half", "bfloat16"))
    return HALF_PRECISION if is_half else SUM_ORDER


def check_arrays(case, meaning, kind, golden, tolerance):
    _, arrays = run(case, meaning)
    for key, value in arrays.items():
        if key.startswith(kind):
            expected = golden[f"{case.__name__}/{key}"]
            np.testing.assert_allclose(
                np.asarray(value, np.float32), expected, rtol=tolerance, atol=tolerance, err_msg=key
            )


@every_meaning
@every_case
def test_variables_have_the_names_shapes_types_and_collections_of_tf115(case, meaning):
    description, _ = run(case, meaning)
    assert description["variables"] == TF115[case.__name__]["variables"]


@every_meaning
@every_case
def test_update_ops_and_losses_are_as_many_as_in_tf115(case, meaning):
    description, _ = run(case, meaning)
    for count in ("num_updates", "num_losses"):
        assert description[count] == TF115[case.__name__][count]


@every_meaning
@every_case
def test_outputs_have_the_static_shapes_and_types_of_tf115(case, meaning):
    description, _ = run(case, meaning)
    ours = [output[1:] for output in description["outputs"]]
    assert ours == [output[1:] for output in TF115[case.__name__]["outputs"]]


@every_case
def test_outputs_have_the_names_of_tf115(case):
    description, _ = run(case, "tf1")
    ours = [output[0] for output in description["outputs"]]
    original = [output[0] for output in TF115[case.__name__]["outputs"]]
    assert (ours == original) is (case.__name__ not in RENAMED_BY_TENSORFLOW)


@every_meaning
@every_case
def test_initial_values_of_a_seed_are_those_of_tf215(case, meaning):
    check_arrays(case, meaning, "initial/", TF215_ARRAYS, SAME_NUMBERS)


@every_meaning
def test_initial_values_of_a_seeded_initializer_are_those_of_tf115(meaning):
    _, arrays = run(record.dense_seeded_initializer, meaning)
    expected = TF115_ARRAYS["dense_seeded_initializer/initial/dense/kernel"]
    np.testing.assert_allclose(arrays["initial/dense/kernel"], expected, rtol=SAME_NUMBERS)


@every_meaning
@every_case
def test_outputs_are_those_of_tf115_for_equal_variables(case, meaning):
    check_arrays(case, meaning, "output/", TF115_ARRAYS, tolerance_of(case))


@every_meaning
@every_case
def test_losses_are_those_of_tf115_for_equal_variables(case, meaning):
    check_arrays(case, meaning, "loss/", TF115_ARRAYS, tolerance_of(case))


@every_meaning
@every_case
def test_updates_leave_the_variables_that_tf115_left(case, meaning):
    check_arrays(case, meaning, "final/", TF115_ARRAYS, tolerance_of(case))


@every_case
def test_tf215_agrees_with_tf115_on_variables(case):
    assert TF215[case.__name__]["variables"] == TF115[case.__name__]["variables"]


@pytest.mark.parametrize("name", sorted(TF115["signatures"]))
def test_arguments_are_those_of_tf115_in_name_order_and_default(name):
    assert record.describe_signatures(layers)[name] == TF115["signatures"][name]


def test_every_name_of_tf115_is_exported():
    assert set(layers.__all__) == set(TF115["signatures"]) | {"experimental"}


@pytest.fixture
def x():
    """float32 [None, 4, 4, 3], in a graph of its own."""
    with tf.Graph().as_default():
        yield tf.placeholder(tf.float32, [None, 4, 4, 3])


MISTAKES = {
    "unknown argument": (lambda x: layers.dense(x, 2, unit=3), TypeError, "unexpected keyword"),
    "unknown argument of a class": (
        lambda x: layers.Dense(2, unit=3),
        TypeError,
        "Keyword argument not understood: unit",
    ),
    "no strides": (lambda x: layers.MaxPooling2D(2, None), ValueError, "must not be None"),
    "unknown activation": (
        lambda x: layers.dense(x, 2, activation="rely"),
        ValueError,
        "Could not interpret activation identifier: 'rely'",
    ),
    "integers": (
        lambda x: layers.dense(tf.cast(x, tf.int32), 2),
        TypeError,
        "non-floating point dtype",
    ),
    "unknown channels": (
        lambda x: layers.conv2d(tf.placeholder(tf.float32, [2, 4, 4, None]), 2, 2),
        ValueError,
        "should be defined. Found `None`",
    ),
    "wrong rank": (lambda x: layers.conv1d(x, 2, 2), ValueError, "expected ndim=3, found ndim=4"),
    "causal images": (
        lambda x: layers.conv2d(x, 2, 2, padding="causal"),
        ValueError,
        "only supported for `Conv1D`",
    ),
    "kernel size": (
        lambda x: layers.conv2d(x, 2, (1, 2, 3)),
        ValueError,
        "`kernel_size` argument must be a tuple of 2",
    ),
    "axis": (lambda x: layers.batch_normalization(x, axis=4), ValueError, "Invalid axis: 4"),
    "renorm limits": (
        lambda x: layers.batch_normalization(x, renorm=True, renorm_clipping={"max": 1.0}),
        ValueError,
        "contains keys not in",
    ),
    "virtual batch": (
        lambda x: layers.batch_normalization(x, virtual_batch_size=2, adjustment=len),
        ValueError,
        "adjustment cannot be specified",
    ),
    "keras style": (
        lambda x: layers.experimental.keras_style_scope(),
        UnsupportedError,
        "tf.AUTO_REUSE",
    ),
    "keras style for all": (
        lambda x: layers.experimental.set_keras_style(),
        UnsupportedError,
        "tf.AUTO_REUSE",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(mistake, x):
    call, error, words = MISTAKES[mistake]
    with pytest.raises(error, match=words.replace("(", r"\(")):
        call(x)


def test_a_name_used_twice_asks_for_reuse(x):
    layers.dense(x, 2, name="logits")
    with pytest.raises(ValueError, match="already exists, disallowed"):
        layers.dense(x, 2, name="logits")


def test_a_layer_used_with_another_size_is_refused(x):
    layer = layers.Dense(2)
    layer(x)
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        layer(tf.zeros([1, 5]))


def test_a_copied_layer_shares_the_variables_and_no_lists(x):
    layer = layers.Dense(2)
    layer(x)
    duplicate = copy.deepcopy(layer)
    duplicate.add_update(tf.no_op())
    assert duplicate.kernel is layer.kernel
    assert [len(layer.updates), len(duplicate.updates)] == [0, 1]


def test_a_frozen_layer_reports_its_weights_as_not_trainable(x):
    layer = layers.BatchNormalization()
    layer(x, training=True)
    assert [len(layer.trainable_weights), len(layer.updates)] == [2, 2]
    layer.trainable = False
    assert [len(layer.trainable_weights), len(layer.updates)] == [0, 0]
    assert len(layer.non_trainable_weights) == 4


def test_an_optimizer_applies_a_constraint(x):
    outputs = layers.dense(
        tf.ones([1, 2]), 1, kernel_constraint="non_neg", kernel_initializer="ones"
    )
    train_op = tf.train.GradientDescentOptimizer(5.0).minimize(tf.reduce_sum(outputs))
    kernel = tf.trainable_variables()[0]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(train_op)
        np.testing.assert_array_equal(session.run(kernel), np.zeros([2, 1]))


def test_layers_run_eagerly():
    with _tf.eager_mode():
        layer = layers.BatchNormalization(momentum=0.5, gamma_regularizer=tf.nn.l2_loss)
        layer(tf.constant([[1.0], [3.0]]), training=True)
        np.testing.assert_allclose(layer.moving_mean.numpy(), [1.0])
        np.testing.assert_allclose(layer.losses[0].numpy(), 0.5)


def test_no_module_imports_keras():
    folder = pathlib.Path(layers.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])]
            names.append(getattr(node, "module", None) or "")
            assert not any("keras" in name for name in names), path
