"""Mistakes: one error each, that says what is wrong, as early as it can be known, and leaves nothing behind."""

import os
import subprocess
import sys
import traceback

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from input_models import (
    IDS,
    Recorder,
    batches_of_ids,
    echo_model,
    live_threads,
    make_estimator,
)
from models import CPU, EIGHT_CORES, TWO_CORES, simulation

from tpuest import EstimatorSpec, InputPipelineConfig, ModeKeys, TPUEstimatorSpec

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])


@pytest.fixture(autouse=True)
def leaves_no_thread():
    before = live_threads()
    yield
    assert live_threads() == before


def files_in(directory):
    return sorted(os.listdir(directory)) if os.path.isdir(directory) else []


def assert_refused(model_dir, error_type, words, call):
    """Checks that the call fails with these words and writes nothing."""
    with pytest.raises(error_type) as info:
        call()
    missing = [word for word in words if word not in str(info.value)]
    assert not missing, f"{missing} not in: {info.value}"
    assert files_in(model_dir) == []
    return info.value


# --- what input_fn gives


def dynamic_batch(params):
    return tf.data.Dataset.from_tensor_slices(({"id": IDS}, IDS)).batch(params["batch_size"])


def dynamic_length(params):
    dataset = tf.data.Dataset.range(12).map(
        lambda i: ({"id": i, "words": tf.fill([tf.cast(i, tf.int32)], 0)}, i)
    )
    return dataset.padded_batch(
        params["batch_size"], ({"id": [], "words": [None]}, []), drop_remainder=True
    )


def dynamic_labels(params):
    dataset = tf.data.Dataset.range(12).map(
        lambda i: (i, {"classes": tf.fill([tf.cast(i, tf.int32)], 0)})
    )
    return dataset.padded_batch(
        params["batch_size"], ([], {"classes": [None]}), drop_remainder=True
    )


def unknown_rank(params):
    def example(i):
        return {"id": i, "image": {"raw": tf.py_func(lambda i: i, [i], tf.int64)}}, i

    return tf.data.Dataset.range(12).map(example).batch(params["batch_size"], drop_remainder=True)


def strings(params):
    dataset = tf.data.Dataset.from_tensor_slices(({"id": IDS, "name": [str(i) for i in IDS]}, IDS))
    return dataset.batch(params["batch_size"], drop_remainder=True)


def sparse(params):
    dataset = tf.data.Dataset.range(12).map(
        lambda i: ({"id": i, "words": tf.SparseTensor([[0]], [i], [3])}, i)
    )
    return dataset.batch(params["batch_size"], drop_remainder=True)


def scalars(params):
    return tf.data.Dataset.from_tensor_slices(({"id": IDS}, IDS))


def other_batch_size(params):
    return tf.data.Dataset.from_tensor_slices(({"id": IDS}, IDS)).batch(3, drop_remainder=True)


def triple(params):
    return batches_of_ids(params).map(lambda features, labels: (features, labels, labels))


def triple_of_tensors(params):
    return tf.constant([0.0]), tf.constant([0.0]), tf.constant([0.0])


STATIC = "must have static shape"
BAD_INPUTS_ON_CORES = {
    "a dynamic batch size": (dynamic_batch, [STATIC, "features['id']", "drop_remainder=True"]),
    "a dynamic length": (dynamic_length, [STATIC, "features['words']", "padded_batch"]),
    "dynamic labels": (dynamic_labels, [STATIC, "labels['classes']"]),
    "an unknown rank": (unknown_rank, [STATIC, "features['image/raw']"]),
    "strings": (strings, ["features['name']", "numbers only", "use_tpu=False"]),
    "sparse tensors": (sparse, ["features['words']", "to_dense"]),
    "no batch dimension": (scalars, ["features['id']", "without a batch dimension"]),
    "a batch that cores cannot share": (other_batch_size, ["3 examples", "2 cores"]),
    "three items": (triple, ["(features, labels) as a len 2 tuple"]),
    "three tensors": (triple_of_tensors, ["(features, labels) as a len 2 tuple"]),
}


@pytest.mark.parametrize("name", BAD_INPUTS_ON_CORES)
def test_an_input_unfit_for_cores_is_refused_before_training(tmp_path, name):
    input_fn, words = BAD_INPUTS_ON_CORES[name]
    recorder = Recorder()
    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, echo_model(recorder), TWO_CORES)
        assert_refused(tmp_path, ValueError, words, lambda: estimator.train(input_fn, steps=1))
    assert recorder.calls == []


@pytest.mark.parametrize("mode", ["train", "evaluate", "predict"])
@pytest.mark.parametrize("input_fn", [triple, triple_of_tensors])
def test_a_tuple_of_three_is_refused(tmp_path, input_fn, mode):
    estimator = make_estimator(tmp_path, echo_model())
    words = ["input_fn should return (features, labels) as a len 2 tuple"]

    def call():
        result = getattr(estimator, mode)(input_fn)
        return list(result) if mode == "predict" else result

    assert_refused(tmp_path, ValueError, words, call)


def test_batch_axis_must_name_every_tensor(tmp_path):
    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, echo_model(), TWO_CORES, batch_axis=[0])
        words = ["batch_axis", "1 entries", "2 tensors"]
        assert_refused(tmp_path, ValueError, words, lambda: estimator.train(batches_of_ids))


@pytest.mark.parametrize("mode", ["train", "eval", "predict"])
def test_a_batch_that_is_no_multiple_of_the_cores_is_refused(tmp_path, mode):
    called = []
    with simulation(EIGHT_CORES):
        estimator = make_estimator(
            tmp_path, echo_model(), EIGHT_CORES, 16, **{f"{mode}_batch_size": 12}
        )
        call = {"train": estimator.train, "eval": estimator.evaluate, "predict": estimator.predict}
        words = [f"{mode} batch size 12 must be divisible by number of replicas 8", "8 or 16"]
        assert_refused(tmp_path, ValueError, words, lambda: list(call[mode](called.append) or []))
    assert called == []


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("eval", "eval_batch_size in TPUEstimator constructor cannot be `None`"),
        ("predict", "predict_batch_size in TPUEstimator constructor cannot be `None`"),
    ],
)
def test_on_cores_every_mode_needs_its_batch_size(tmp_path, mode, words):
    with simulation(TWO_CORES):
        estimator = make_estimator(
            tmp_path, echo_model(), TWO_CORES, **{f"{mode}_batch_size": None}
        )
        call = {"eval": estimator.evaluate, "predict": estimator.predict}[mode]
        assert_refused(tmp_path, ValueError, [words], lambda: list(call(batches_of_ids)))


def test_slices_are_refused_off_the_tpu(tmp_path):
    sliced = {"eval_training_input_configuration": InputPipelineConfig.SLICED}
    estimator = make_estimator(tmp_path, echo_model(), tpu=sliced)
    words = ["SLICED mode only works on use_tpu = True"]
    assert_refused(tmp_path, ValueError, words, lambda: estimator.evaluate(batches_of_ids))


# --- what model_fn answers


def spec_of(make_spec):
    """Gives a `model_fn` that answers what `make_spec` gives of mode, loss and train_op."""

    def model_fn(features, labels, mode, params):
        w = tf.get_variable("w", [], initializer=tf.ones_initializer())
        loss = w * tf.reduce_mean(tf.cast(features["id"], tf.float32))
        optimizer = tf.tpu.CrossShardOptimizer(tf.train.GradientDescentOptimizer(0.01))
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
        return make_spec(mode, loss, train_op)

    return model_fn


def metrics_of_two(labels, outputs):
    return {}


BAD_SPECS = {
    "no loss": (
        "train",
        lambda mode, loss, train_op: TPUEstimatorSpec(mode, train_op=train_op),
        ValueError,
        ["Missing loss"],
    ),
    "no train_op": (
        "train",
        lambda mode, loss, train_op: TPUEstimatorSpec(mode, loss=loss),
        ValueError,
        ["Missing train_op"],
    ),
    "no predictions": (
        "predict",
        lambda mode, loss, train_op: TPUEstimatorSpec(mode),
        ValueError,
        ["Missing predictions"],
    ),
    "no loss in evaluation": (
        "evaluate",
        lambda mode, loss, train_op: TPUEstimatorSpec(mode),
        ValueError,
        ["Missing loss"],
    ),
    "a loss for each example": (
        "train",
        lambda mode, loss, train_op: TPUEstimatorSpec(
            mode, loss=tf.stack([loss, loss]), train_op=train_op
        ),
        ValueError,
        ["Loss must be scalar"],
    ),
    "nothing": (
        "train",
        lambda mode, loss, train_op: None,
        ValueError,
        ["model_fn should return an EstimatorSpec"],
    ),
    "a tuple": (
        "train",
        lambda mode, loss, train_op: (loss, train_op),
        ValueError,
        ["model_fn should return an EstimatorSpec"],
    ),
    "a number as a train_op": (
        "train",
        lambda mode, loss, train_op: TPUEstimatorSpec(mode, loss=loss, train_op=1),
        TypeError,
        ["train_op must be Operation or Tensor"],
    ),
    "a hook of another class": (
        "train",
        lambda mode, loss, train_op: TPUEstimatorSpec(
            mode, loss=loss, train_op=train_op, training_hooks=["hook"]
        ),
        TypeError,
        ["All hooks must be SessionRunHook instances", "hook"],
    ),
    "fewer tensors than metric_fn takes": (
        "evaluate",
        lambda mode, loss, train_op: TPUEstimatorSpec(
            mode, loss=loss, eval_metrics=(metrics_of_two, [loss])
        ),
        RuntimeError,
        ["In TPUEstimatorSpec.eval_metrics", "length of tensors 1 does not match"],
    ),
    "a dict of other names than metric_fn takes": (
        "evaluate",
        lambda mode, loss, train_op: TPUEstimatorSpec(
            mode, loss=loss, eval_metrics=(metrics_of_two, {"other": loss})
        ),
        TypeError,
        ["other"],
    ),
    "metrics that are no tuple": (
        "evaluate",
        lambda mode, loss, train_op: TPUEstimatorSpec(mode, loss=loss, eval_metrics=metrics_of_two),
        ValueError,
        ["eval_metrics should be tuple or list"],
    ),
}


@on_cpu_and_cores
@pytest.mark.parametrize("name", BAD_SPECS)
def test_a_bad_answer_of_model_fn_is_refused_before_anything_runs(tmp_path, name, num_cores):
    mode, make_spec, error_type, words = BAD_SPECS[name]
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, spec_of(make_spec), num_cores)

        def call():
            return list(getattr(estimator, mode)(batches_of_ids) or [])

        assert_refused(tmp_path, error_type, words, call)


@on_cpu_and_cores
def test_labels_that_model_fn_does_not_take_are_refused(tmp_path, num_cores):
    def model_fn(features, mode, params):
        raise AssertionError("called")

    with simulation(num_cores):
        estimator = make_estimator(tmp_path, model_fn, num_cores)
        words = ["model_fn does not take labels, but input_fn returns labels", __file__]
        assert_refused(tmp_path, ValueError, words, lambda: estimator.train(batches_of_ids))


def test_a_plain_specs_chief_hooks_are_refused_on_cores(tmp_path):
    def make_spec(mode, loss, train_op):
        hooks = [tf.train.SessionRunHook()]
        return EstimatorSpec(mode, loss=loss, train_op=train_op, training_chief_hooks=hooks)

    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, spec_of(make_spec), TWO_CORES)
        words = ["training_chief_hooks returned by EstimatorSpec is not supported"]
        assert_refused(tmp_path, ValueError, words, lambda: estimator.train(batches_of_ids))


def without_sum(loss, step):
    return tf.train.GradientDescentOptimizer(0.01).minimize(loss, step)


def without_sum_in_branch(loss, step):
    return tf.cond(step > 1, lambda: tf.group(without_sum(loss, step)), tf.no_op)


def with_sum_in_branch(loss, step):
    optimizer = tf.tpu.CrossShardOptimizer(tf.train.GradientDescentOptimizer(0.01))
    gradients = optimizer.compute_gradients(loss)
    apply = lambda: tf.group(optimizer.apply_gradients(gradients, step))
    return tf.cond(step < 5, apply, tf.no_op)


def model_of(make_train_op):
    def model_fn(features, labels, mode, params):
        w = tf.get_variable("w", [], initializer=tf.ones_initializer())
        loss = w * tf.reduce_mean(tf.cast(features["id"], tf.float32))
        train_op = make_train_op(loss, tf.train.get_global_step())
        return TPUEstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


@pytest.mark.parametrize("make_train_op", [without_sum, without_sum_in_branch])
def test_several_cores_that_sum_no_gradients_are_refused(tmp_path, make_train_op):
    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, model_of(make_train_op), TWO_CORES)
        words = ["CrossShardOptimizer must be used for model training on TPUs", "2 replicas"]
        assert_refused(tmp_path, ValueError, words, lambda: estimator.train(batches_of_ids))


@pytest.mark.parametrize(
    ("num_cores", "make_train_op"), [(TWO_CORES, with_sum_in_branch), (1, without_sum)]
)
def test_a_sum_in_a_branch_is_one_and_one_core_needs_none(tmp_path, num_cores, make_train_op):
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, model_of(make_train_op), num_cores)
        estimator.train(batches_of_ids, max_steps=1)
    assert estimator.get_variable_value("global_step") == 1


# --- how the estimator is called


@pytest.mark.parametrize(
    ("arguments", "error_type", "words"),
    [
        ({"steps": 0}, ValueError, "Must specify steps > 0, given: 0"),
        ({"max_steps": -1}, ValueError, "Must specify max_steps > 0, given: -1"),
        ({"steps": 1, "max_steps": 1}, ValueError, "Can not provide both steps and max_steps"),
        ({"hooks": ["hook"]}, TypeError, "Hooks must be a SessionRunHook, given: hook"),
        (
            {"saving_listeners": ["listener"]},
            TypeError,
            "saving_listeners must be a list of CheckpointSaverListener, given: listener",
        ),
    ],
)
def test_bad_arguments_of_train_are_refused_on_its_first_line(
    tmp_path, arguments, error_type, words
):
    called = []
    estimator = make_estimator(tmp_path, echo_model())
    assert_refused(
        tmp_path, error_type, [words], lambda: estimator.train(called.append, **arguments)
    )
    assert called == []


def test_bad_arguments_of_evaluate_and_predict_are_refused(tmp_path):
    estimator = make_estimator(tmp_path, echo_model())
    for call, error_type, words in (
        (lambda: estimator.evaluate(None, steps=0), ValueError, "Must specify steps > 0, given: 0"),
        (lambda: estimator.evaluate(None, hooks=[1]), TypeError, "Hooks must be a SessionRunHook"),
        (
            lambda: next(estimator.predict(None, hooks=[1])),
            TypeError,
            "Hooks must be a SessionRunHook",
        ),
    ):
        assert_refused(tmp_path, error_type, [words], call)


def test_num_shards_must_be_the_simulated_cores(tmp_path):
    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, echo_model(), TWO_CORES, 8, {"num_shards": 8})
        words = ["TPUConfig.num_shards is not set correctly", "(2), got (8)", "leave it as `None`"]
        assert_refused(tmp_path, ValueError, words, lambda: estimator.train(batches_of_ids))


@pytest.mark.parametrize("mode", ["train", "evaluate", "predict"])
def test_without_tpu_and_simulation_the_first_call_says_what_to_do(tmp_path, mode):
    called = []
    with simulation(CPU):
        estimator = make_estimator(tmp_path, echo_model(), num_cores=8, batch_size=8)
        words = [
            "Cannot find any TPU cores in the system",
            "a TPU on this machine (tpu='local')",
            "Available devices are: ",
            "tpuest --doctor",
            "tpuest --simulate-tpu 8",
            "use_tpu=False",
        ]

        def call():
            return list(getattr(estimator, mode)(called.append) or [])

        assert_refused(tmp_path, RuntimeError, words, call)
    assert called == []


def test_without_tpu_and_simulation_a_program_ends_with_one_error(tmp_path):
    program = """
import tpuest
config = tpuest.RunConfig(model_dir="model")
estimator = tpuest.TPUEstimator(lambda features, params: None, config=config, train_batch_size=8)
print("made", flush=True)
estimator.train(lambda params: None, steps=1)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TPUEST_")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    child = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert child.returncode == 1
    assert child.stdout == "made\n"
    assert child.stderr.count("Traceback") == 1
    assert "RuntimeError: Cannot find any TPU cores in the system" in child.stderr
    assert files_in(tmp_path) == []


# --- functions of the user that raise


class UsersError(Exception):
    """An error of the user's own."""


def failing_input_fn(params):
    raise UsersError("no data today")


def failing_model_fn(features, labels, mode, params):
    raise UsersError("no model today")


def failing_metric_fn(*tensors):
    raise UsersError("no metrics today")


@on_cpu_and_cores
@pytest.mark.parametrize("mode", ["train", "evaluate", "predict"])
@pytest.mark.parametrize("failing", [failing_input_fn, failing_model_fn])
def test_an_error_of_the_users_function_keeps_type_and_frame(tmp_path, failing, mode, num_cores):
    is_input = failing is failing_input_fn
    with simulation(num_cores):
        estimator = make_estimator(
            tmp_path, echo_model() if is_input else failing_model_fn, num_cores
        )
        input_fn = failing_input_fn if is_input else batches_of_ids

        def call():
            return list(getattr(estimator, mode)(input_fn) or [])

        error = assert_refused(tmp_path, UsersError, ["today"], call)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    assert (frame.filename, frame.name) == (__file__, failing.__name__)


@on_cpu_and_cores
def test_after_an_error_the_same_estimator_goes_on(tmp_path, num_cores):
    recorder = Recorder()
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(recorder), num_cores)
        with pytest.raises(UsersError):
            estimator.train(failing_input_fn)
        estimator.train(batches_of_ids)
    assert recorder.ids == IDS.tolist()


def fails_at(bad_id, params):
    """Gives a dataset whose element `bad_id` raises the user's error in Python."""

    def load(i):
        if i == bad_id:
            raise UsersError(f"example {i} is broken")
        return i

    def example(i):
        loaded = tf.py_func(load, [i], tf.int32)
        loaded.set_shape([])
        return {"id": loaded}, i

    dataset = tf.data.Dataset.from_tensor_slices(IDS).map(example)
    return dataset.batch(params["batch_size"], drop_remainder=True)


@on_cpu_and_cores
def test_an_error_in_the_middle_of_the_data_loses_no_complete_step(tmp_path, num_cores):
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(), num_cores)
        estimator.train(batches_of_ids, steps=2)
        with pytest.raises(tf.errors.OpError, match="UsersError: example 9 is broken"):
            estimator.train(lambda params: fails_at(9, params), steps=10)
        # Two batches are whole; where the next is fetched beside a step, that step is given up with it.
        step = estimator.get_variable_value("global_step")
        assert step == (4 if num_cores else 3)
        assert not [name for name in files_in(tmp_path) if "temp" in name]
        estimator.train(batches_of_ids, steps=1)
    assert estimator.get_variable_value("global_step") == step + 1


class InvalidIds(tf.train.SessionRunHook):
    """Notes whether its `end` was called: after an error it must not be."""

    ended = False

    def end(self, session):
        self.ended = True


@on_cpu_and_cores
def test_an_op_that_fails_while_running_names_the_users_line(tmp_path, num_cores):
    def check_ids(features, labels):
        check = tf.debugging.assert_less(features["id"], 8, message="ids must be below 8")
        with tf.control_dependencies([check]):
            return tf.gather(tf.identity(IDS), features["id"] * 2)  # the failing line

    hook = InvalidIds()
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(None, check_ids), num_cores)
        with pytest.raises(tf.errors.InvalidArgumentError) as info:
            estimator.train(batches_of_ids, hooks=[hook])
    assert "test_bad_input.py" in str(info.value)
    assert "check_ids" in str(info.value)
    assert not hook.ended


# --- what isn't carried


def test_predictions_of_unknown_length_are_refused_on_cores(tmp_path):
    def model_fn(features, labels, mode, params):
        kept = tf.boolean_mask(features["id"], features["id"] > 3)
        return TPUEstimatorSpec(ModeKeys.PREDICT, predictions={"kept": kept})

    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, model_fn, TWO_CORES)
        words = ["The tensor with key (kept) in TPUEstimatorSpec.predictions has dynamic shape"]
        assert_refused(tmp_path, ValueError, words, lambda: list(estimator.predict(batches_of_ids)))


def test_predictions_that_are_no_dict_are_refused_on_cores(tmp_path):
    def model_fn(features, labels, mode, params):
        return TPUEstimatorSpec(ModeKeys.PREDICT, predictions=features["id"])

    with simulation(TWO_CORES):
        estimator = make_estimator(tmp_path, model_fn, TWO_CORES)
        words = ["TPUEstimatorSpec.predictions must be dict of Tensors"]
        assert_refused(tmp_path, TypeError, words, lambda: list(estimator.predict(batches_of_ids)))


def test_a_prediction_of_another_length_is_named(tmp_path):
    def model_fn(features, labels, mode, params):
        predictions = {"id": features["id"], "half": features["id"][:2]}
        return TPUEstimatorSpec(mode, predictions=predictions)

    estimator = make_estimator(tmp_path, model_fn)
    with pytest.raises(ValueError, match="Batch length of predictions should be same. half has"):
        list(estimator.predict(batches_of_ids))
    assert np.asarray(files_in(tmp_path)).size == 0
