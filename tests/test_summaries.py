"""Summaries: of version 1 and 2, of `model_fn` and of host calls, are read back from the event files."""

import os
import subprocess
import sys

import models
import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES

import tpuest

# float32 sums in another order.
RTOL = 1e-5

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])


def train(tmp_path, num_cores=CPU, extra=None, steps=6, **options):
    options = {"save_summary_steps": 2, "iterations_per_loop": 2, **options}
    with models.simulation(num_cores):
        estimator = models.make_estimator(
            tmp_path, num_cores, models.linear_model(extra), **options
        )
        return estimator.train(models.train_input_fn, steps=steps)


# Steps of the values that are written with save_summary_steps=2 in 6 steps. On cores hooks see the end of each loop of two.
WRITTEN = {CPU: [1, 3, 5], TWO_CORES: [2, 4, 6]}


def losses_at(steps):
    losses, _, _ = models.trained(max(steps))
    return [losses[step - 1] for step in steps]


@on_cpu_and_cores
def test_the_loss_is_written(tmp_path, num_cores):
    train(tmp_path, num_cores)
    values = models.read_scalars(tmp_path, "loss")
    assert list(values) == WRITTEN[num_cores]
    np.testing.assert_allclose(list(values.values()), losses_at(WRITTEN[num_cores]), RTOL)


def test_a_loop_is_longer_than_the_period(tmp_path):
    train(tmp_path, TWO_CORES, iterations_per_loop=3, save_summary_steps=1)
    values = models.read_scalars(tmp_path, "loss")
    assert list(values) == [3, 6]
    np.testing.assert_allclose(list(values.values()), losses_at([3, 6]), RTOL)


def test_a_loss_summary_of_the_users_is_the_only_one(tmp_path):
    def extra(loss, **_):
        tf.summary.scalar("loss", loss * 0 + 7)
        return {}

    train(tmp_path, extra=extra)
    assert models.read_scalars(tmp_path, "loss") == {1: 7, 3: 7, 5: 7}


def check_doubled_losses(directory, num_cores):
    values = models.read_scalars(directory, "double")
    assert list(values) == WRITTEN[num_cores]
    if num_cores is CPU:
        doubled = 2 * np.array(losses_at(WRITTEN[CPU]))
        np.testing.assert_allclose(list(values.values()), doubled, RTOL)


@on_cpu_and_cores
def test_version_1_summaries_of_a_model(tmp_path, num_cores):
    def extra(loss, w, x, **_):
        tf.summary.scalar("double", 2 * loss)
        tf.summary.histogram("weights", w)
        tf.summary.image("picture", tf.reshape(x[:, :1] * 0, [1, -1, 1, 1]))
        tf.summary.text("words", tf.constant("hello"))
        return {}

    train(tmp_path, num_cores, extra)
    check_doubled_losses(tmp_path, num_cores)
    assert {"weights", "picture/image/0", "words"} <= models.read_tags(tmp_path)


@on_cpu_and_cores
def test_version_2_summaries_of_a_model_without_a_writer(tmp_path, num_cores):
    def extra(loss, w, x, **_):
        tf2.summary.scalar("double", 2 * loss)
        tf2.summary.histogram("weights", w)
        tf2.summary.image("picture", tf.reshape(x[:, :1] * 0, [1, -1, 1, 1]))
        tf2.summary.text("words", tf.constant("hello"))
        return {}

    train(tmp_path, num_cores, extra)
    check_doubled_losses(tmp_path, num_cores)
    assert {"weights", "picture", "words"} <= models.read_tags(tmp_path)


def test_version_2_summaries_keep_the_step_they_are_given(tmp_path):
    def extra(loss, **_):
        tf2.summary.scalar("own_step", loss, step=100 + tf.train.get_global_step())
        return {}

    train(tmp_path, extra=extra)
    assert list(models.read_scalars(tmp_path, "own_step")) in ([100, 102, 104], [101, 103, 105])


def test_version_2_summaries_obey_record_if(tmp_path):
    def extra(loss, **_):
        with tf2.summary.record_if(False):
            tf2.summary.scalar("never", loss)
        with tf2.summary.record_if(lambda: tf.greater(tf.train.get_global_step(), 100)):
            tf2.summary.scalar("not yet", loss)
        with tf2.summary.record_if(lambda: tf.less(tf.train.get_global_step(), 100)):
            tf2.summary.scalar("always", loss)
        return {}

    train(tmp_path, extra=extra)
    tags = models.read_tags(tmp_path)
    assert "always" in tags
    assert not {"never", "not yet"} & tags


@on_cpu_and_cores
def test_version_2_summaries_go_on_in_a_second_call(tmp_path, num_cores):
    def extra(loss, **_):
        tf2.summary.scalar("double", 2 * loss)
        return {}

    estimator = train(tmp_path, num_cores, extra, steps=2)
    with models.simulation(num_cores):
        estimator.train(models.train_input_fn, steps=2)
    steps = list(models.read_scalars(tmp_path, "double"))
    assert steps == ([1, 3] if num_cores is CPU else [2, 4])


def test_a_model_without_version_2_summaries_has_no_operation_for_them(tmp_path):
    def extra(**_):
        graphs.append(tf.get_default_graph())
        return {}

    graphs = []
    train(tmp_path, extra=extra)
    assert not [op.name for op in graphs[0].get_operations() if "SummaryWriter" in op.type]


@on_cpu_and_cores
def test_version_2_summaries_of_evaluation_and_prediction_do_no_harm(tmp_path, num_cores):
    def extra(outputs, **_):
        tf2.summary.scalar("mean", tf.reduce_mean(outputs))
        return {}

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, models.linear_model(extra))
        estimator.evaluate(models.examples_input_fn(16))
        assert len(list(estimator.predict(models.examples_input_fn(16)))) == 16


@on_cpu_and_cores
def test_no_summaries_are_written_where_none_are_wanted(tmp_path, num_cores):
    def extra(loss, **_):
        tf2.summary.scalar("two", loss)
        tf.summary.scalar("one", loss)
        return {}

    train(tmp_path, num_cores, extra, save_summary_steps=0)
    assert not {"one", "two", "loss"} & models.read_tags(tmp_path)


def host_call_model(directory, max_queue=10, every=1):
    """Gives the host call of the old ResNet and MNIST programs for TPUs."""

    def extra(loss, **_):
        def host_call_fn(global_step, loss):
            step = global_step[0]
            writer = tf2.summary.create_file_writer(directory, max_queue=max_queue)
            with writer.as_default(), tf2.summary.record_if(tf.equal(step % every, 0)):
                tf2.summary.scalar("host_loss", loss[0], step=step)
                tf2.summary.scalar("host_step", step, step=step)
                return tf.summary.all_v2_summary_ops()

        global_step = tf.reshape(tf.train.get_global_step(), [1])
        return {"host_call": (host_call_fn, [global_step, tf.reshape(loss, [1])])}

    return extra


@on_cpu_and_cores
def test_a_host_call_writes_every_step(tmp_path, num_cores):
    train(tmp_path, num_cores, host_call_model(str(tmp_path / "host")), steps=5)
    values = models.read_scalars(tmp_path / "host", "host_loss")
    assert list(values) == [0, 1, 2, 3, 4]
    if num_cores is CPU:
        np.testing.assert_allclose(list(values.values()), models.trained(5)[0], RTOL)


@on_cpu_and_cores
def test_a_host_call_may_leave_steps_out(tmp_path, num_cores):
    train(tmp_path, num_cores, host_call_model(str(tmp_path / "host"), every=2), steps=5)
    assert models.read_scalars(tmp_path / "host", "host_step") == {0: 0, 2: 2, 4: 4}


def test_the_original_tests_of_host_calls_every_few_steps(tmp_path):
    """As `test_summaries_every_n_steps` of tpu_estimator_test.py: each loop counts anew."""
    options = {
        "iterations_per_loop": 21,
        "tpu_config": {"experimental_host_call_every_n_steps": 2},
        "steps": 42,
    }
    extra = host_call_model(str(tmp_path / "host"), every=5)
    train(tmp_path / "cores", TWO_CORES, extra, **options)
    assert list(models.read_scalars(tmp_path / "host", "host_step")) == [0, 10, 20, 25, 35]
    # On CPU a host call runs at every step whatever the setting says.
    extra = host_call_model(str(tmp_path / "cpu_host"), every=5)
    train(tmp_path / "cpu", CPU, extra, **options)
    assert list(models.read_scalars(tmp_path / "cpu_host", "host_step")) == list(range(0, 42, 5))


def test_summaries_in_between_do_not_shift_the_host_calls(tmp_path):
    extra = host_call_model(str(tmp_path / "host"))
    train(
        tmp_path / "cores",
        TWO_CORES,
        extra,
        steps=8,
        iterations_per_loop=4,
        tpu_config={"experimental_host_call_every_n_steps": 2},
        save_summary_steps=4,
    )
    assert list(models.read_scalars(tmp_path / "host", "host_step")) == [0, 2, 4, 6]


@on_cpu_and_cores
def test_a_host_call_of_evaluation_writes_every_step(tmp_path, num_cores):
    extra = host_call_model(str(tmp_path / "host"))
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, models.linear_model(extra))
        estimator.evaluate(models.examples_input_fn(24))
    events = models.read_events(tmp_path / "host")
    assert len([e for e in events for v in e.summary.value if v.tag == "host_loss"]) == 3


@on_cpu_and_cores
def test_a_host_call_into_model_dir_shares_it_with_the_other_events(tmp_path, num_cores):
    train(tmp_path, num_cores, host_call_model(str(tmp_path)), steps=4, log_step_count_steps=2)
    tags = models.read_tags(tmp_path)
    assert {"host_loss", "loss", "global_step/sec", "examples/sec"} <= tags


def test_speeds_are_written(tmp_path):
    train(tmp_path, log_step_count_steps=2)
    # Counted from the first step on, as the original's StepCounterHook: its steps are those of the loss.
    assert list(models.read_scalars(tmp_path, "global_step/sec")) == [3, 5]
    assert list(models.read_scalars(tmp_path, "examples/sec")) == [3, 5]


@on_cpu_and_cores
def test_the_graph_and_the_checkpoints_are_in_the_events(tmp_path, num_cores):
    train(tmp_path, num_cores)
    events = models.read_events(tmp_path)
    assert [event for event in events if event.graph_def]
    statuses = [e.session_log.status for e in events if e.HasField("session_log")]
    assert statuses.count(tf.SessionLog.CHECKPOINT) == 2
    assert tf.SessionLog.START in statuses


CHILD = """
import sys
import tensorflow.compat.v1 as tf
getattr(tf, sys.argv[1])()
import tensorflow as tf2
import tpuest
tpuest.simulate_tpu(2)
tpuest.simulate_tpu(0)
import pathlib
import models
import test_summaries
import test_hooks
import test_metrics
directory = pathlib.Path(sys.argv[2])
for num_cores in (None, 2):
    path = directory / str(num_cores)
    test_summaries.test_version_1_summaries_of_a_model(path / "a", num_cores)
    test_summaries.test_version_2_summaries_of_a_model_without_a_writer(path / "b", num_cores)
    test_summaries.test_a_host_call_writes_every_step(path / "c", num_cores)
    test_metrics.test_keras_metrics_that_metric_fn_updates(path / "d", num_cores)
    test_metrics.test_pairs_of_tf_1(path / "e", num_cores)
    with models.simulation(num_cores):
        estimator = models.make_estimator(path / "f", num_cores)
        estimator.train(models.train_input_fn, steps=3)
        assert len(list(estimator.predict(models.examples_input_fn(21)))) == 21
        _, w, b = models.trained(3)
        assert abs(estimator.get_variable_value("w") - w).max() < 1e-5
test_hooks.test_a_hook_fetches_gradients_and_variables_of_the_spec(directory / "g")
test_hooks.test_the_session_of_a_hook_reads_and_assigns_variables(directory / "h")
assert not tf.executing_eagerly()
"""


@pytest.mark.parametrize("call", ["disable_v2_behavior", "disable_eager_execution"])
def test_programs_that_turn_version_2_off_work_the_same(tmp_path, call):
    folders = [os.path.dirname(os.path.dirname(tpuest.__file__)), os.path.dirname(__file__)]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([*folders, *sys.path]))
    child = subprocess.run(
        [sys.executable, "-c", CHILD, call, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr[-5000:]
