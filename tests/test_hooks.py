"""Hooks: the stock ones of TF 1 and the user's own see what they saw in a TF 1 session."""

import re

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES

import tpuest

# float32 sums in another order.
RTOL = 1e-5

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])
through = pytest.mark.parametrize("through", ["hooks", "spec"])


def train(tmp_path, hooks, num_cores=CPU, through="hooks", steps=6, extra=None, **options):
    """Trains with hooks of the call or of the spec; gives the estimator."""
    in_spec = {"training_hooks": hooks} if through == "spec" else {}
    model_fn = models.linear_model(lambda **t: {**(extra(**t) if extra else {}), **in_spec})
    options = {"iterations_per_loop": 2, **options}
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, model_fn, **options)
        return estimator.train(
            models.train_input_fn, steps=steps, hooks=hooks if through == "hooks" else []
        )


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


class Record(tf.train.SessionRunHook):
    """Keeps each call's fetches."""

    def __init__(self, fetches):
        self._fetches = fetches
        self.values = []

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context, run_values):
        self.values.append(run_values.results)


@through
def test_a_hook_fetches_any_tensor_of_each_step_on_cpu(tmp_path, through):
    fetches = {"loss": "training_loss:0", "step": "global_step:0", "outputs": "outputs:0"}
    hook = Record(fetches)
    train(tmp_path, [hook], through=through, steps=4)
    losses, _, _ = models.trained(4)
    np.testing.assert_allclose([value["loss"] for value in hook.values], losses, RTOL)
    assert [value["outputs"].shape for value in hook.values] == [(8, 1)] * 4
    assert [int(value["step"]) for value in hook.values] in ([0, 1, 2, 3], [1, 2, 3, 4])


def test_a_hook_fetches_gradients_and_variables_of_the_spec(tmp_path):
    hooks = []

    def extra(loss, w, b, **_):
        gradient = tf.gradients(loss, [w, b])
        hooks.append(Record({"gradient": gradient, "nested": [(loss,), {"w": w}]}))
        return {"training_hooks": hooks}

    train(tmp_path, [], extra=extra, steps=3)
    ((hook,),) = [hooks]
    w, b = np.zeros([3, 1], np.float32), np.zeros([1], np.float32)
    for step, value in enumerate(hook.values):
        gradient_of_w, gradient_of_b = value["gradient"]
        losses, new_w, new_b = models.trained(1, w, b, first_step=step)
        np.testing.assert_allclose(gradient_of_w, (w - new_w) / 0.1, rtol=1e-4)
        np.testing.assert_allclose(gradient_of_b, (b - new_b) / 0.1, rtol=1e-4)
        np.testing.assert_allclose(value["nested"][0][0], losses[0], RTOL)
        w, b = new_w, new_b
    assert len(hook.values) == 3


def test_the_session_of_a_hook_reads_and_assigns_variables(tmp_path):
    class Zero(tf.train.SessionRunHook):
        def begin(self):
            (self.w,) = [v for v in tf.trainable_variables() if v.op.name == "w"]
            self.value = tf.placeholder(tf.float32, [3, 1])
            self.assign = self.w.assign(self.value)
            self.seen = []

        def after_create_session(self, session, coord):
            assert session.graph is tf.get_default_graph()
            session.run(self.assign, {self.value: np.ones([3, 1])})

        def after_run(self, run_context, run_values):
            self.seen.append(run_context.session.run(self.w))
            run_context.session.run(self.assign, feed_dict={self.value: np.zeros([3, 1])})

    hook = Zero()
    estimator = train(tmp_path, [hook], steps=2)
    assert not estimator.get_variable_value("w").any()
    _, w, b = models.trained(1, np.ones([3, 1], np.float32))
    np.testing.assert_allclose(hook.seen[0], w, RTOL)
    np.testing.assert_allclose(hook.seen[1], models.trained(1, 0 * w, b, first_step=1)[1], RTOL)


def test_what_a_hook_assigns_on_cores_is_every_cores(tmp_path):
    class Reset(tf.train.SessionRunHook):
        def begin(self):
            (w,) = [v for v in tf.trainable_variables() if v.op.name == "w"]
            self.assign = w.assign(tf.ones_like(w))

        def after_create_session(self, session, coord):
            session.run(self.assign)

    estimator = train(tmp_path, [Reset()], TWO_CORES, steps=2)
    _, w, _ = models.trained(2, np.ones([3, 1], np.float32))
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)


def test_a_hook_feeds_a_placeholder_of_the_model(tmp_path):
    def extra(loss, **_):
        rate = tf.placeholder_with_default(0.1, [], name="rate")
        optimizer = tf.train.GradientDescentOptimizer(rate)
        return {"train_op": optimizer.minimize(loss, tf.train.get_global_step())}

    class Feed(tf.train.SessionRunHook):
        def before_run(self, run_context):
            return tf.train.SessionRunArgs(None, feed_dict={"rate:0": 0.2})

    estimator = train(tmp_path, [Feed()], extra=extra, steps=3)
    _, w, _ = models.trained(3, learning_rate=0.2)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)


def test_the_stock_feed_hook_feeds(tmp_path):
    def extra(loss, **_):
        rate = tf.placeholder_with_default(0.1, [], name="rate")
        optimizer = tf.train.GradientDescentOptimizer(rate)
        return {"train_op": optimizer.minimize(loss, tf.train.get_global_step())}

    hook = tf.train.FeedFnHook(lambda: {"rate:0": 0.2})
    estimator = train(tmp_path, [hook], extra=extra, steps=3)
    _, w, _ = models.trained(3, learning_rate=0.2)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)


def test_feeding_and_fetching_apart_from_the_steps(tmp_path):
    results = []

    class Ask(tf.train.SessionRunHook):
        def begin(self):
            self.given = tf.placeholder(tf.float32, [None])
            self.double = self.given * 2

        def after_run(self, run_context, run_values):
            results.append(run_context.session.run(self.double, {self.given: [1.0, 2.0]}))

    train(tmp_path, [Ask()], steps=1)
    assert results[0].tolist() == [2.0, 4.0]


@on_cpu_and_cores
def test_a_hook_ends_training(tmp_path, num_cores):
    class Stop(tf.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            run_context.request_stop()

    estimator = train(tmp_path, [Stop()], num_cores)
    assert estimator.get_variable_value("global_step") == (1 if num_cores is CPU else 2)


@on_cpu_and_cores
def test_a_hook_is_called_at_every_step_on_cpu_and_every_loop_on_cores(tmp_path, num_cores):
    class Events(tf.train.SessionRunHook):
        def __init__(self):
            self.events = []

        def begin(self):
            assert tf.get_default_graph().get_tensor_by_name("training_loss:0") is not None
            self.events.append("begin")

        def after_create_session(self, session, coord):
            self.events.append("session")

        def before_run(self, run_context):
            self.events.append("before")
            assert run_context.original_args is not None

        def after_run(self, run_context, run_values):
            self.events.append("after")

        def end(self, session):
            self.events.append("end")

    hook = Events()
    train(tmp_path, [hook], num_cores, steps=5)
    times = 5 if num_cores is CPU else 3
    assert hook.events == ["begin", "session", *["before", "after"] * times, "end"]


def test_hooks_of_a_program_that_is_reused_begin_anew(tmp_path):
    begun = []

    class Begin(tf.train.SessionRunHook):
        def begin(self):
            begun.append(tf.get_default_graph())
            tf.constant(1.0)  # the graph of the second call takes ops, too

    estimator = train(tmp_path, [Begin()], steps=1)
    estimator.train(models.train_input_fn, steps=1, hooks=[Begin()])
    assert begun[0] is begun[1]


# The stock hooks.


@through
@on_cpu_and_cores
def test_logging_tensor_hook_by_names(tmp_path, caplog, through, num_cores):
    caplog.set_level("INFO", "tensorflow")
    hook = tf.train.LoggingTensorHook(["training_loss"], every_n_iter=1)
    train(tmp_path, [hook], num_cores, through, steps=4)
    lines = [m for m in messages(caplog) if m.startswith("training_loss = ")]
    assert len(lines) == (4 if num_cores is CPU else 2)
    if num_cores is CPU:
        values = [float(re.match(r"training_loss = ([\d.]+)", line)[1]) for line in lines]
        np.testing.assert_allclose(values, models.trained(4)[0], RTOL)


def test_logging_tensor_hook_of_a_dict_every_few_steps(tmp_path, caplog):
    caplog.set_level("INFO", "tensorflow")
    hook = tf.train.LoggingTensorHook({"mean": "training_loss", "at": "global_step"}, 3)
    train(tmp_path, [hook], steps=7)
    lines = [m for m in messages(caplog) if "mean = " in m]
    assert len(lines) == 3


def test_logging_tensor_hook_at_the_end(tmp_path, caplog):
    caplog.set_level("INFO", "tensorflow")
    tensors = {"final": "w"}
    hook = tf.train.LoggingTensorHook(
        tensors, at_end=True, formatter=lambda t: f"w is {t['final']}"
    )
    estimator = train(tmp_path, [hook], steps=3)
    (line,) = [m for m in messages(caplog) if m.startswith("w is")]
    assert line == f"w is {estimator.get_variable_value('w')}"


def test_logging_tensor_hook_every_few_seconds(tmp_path, caplog):
    caplog.set_level("INFO", "tensorflow")
    train(tmp_path, [tf.train.LoggingTensorHook(["training_loss"], every_n_secs=60)], steps=3)
    assert len([m for m in messages(caplog) if m.startswith("training_loss = ")]) == 1


@through
@on_cpu_and_cores
def test_stop_at_step_hook(tmp_path, through, num_cores):
    hook = tf.train.StopAtStepHook(num_steps=4)
    estimator = train(tmp_path, [hook], num_cores, through, steps=10)
    assert estimator.get_variable_value("global_step") == 4


def test_stop_at_step_hook_by_last_step(tmp_path):
    hook = tf.train.StopAtStepHook(last_step=3)
    assert train(tmp_path, [hook], steps=10).get_variable_value("global_step") == 3


@through
def test_a_users_checkpoint_saver_takes_the_place_of_ours(tmp_path, through):
    hook = tf.train.CheckpointSaverHook(str(tmp_path / "own"), save_steps=2)
    train(tmp_path, [hook], through=through, steps=4)
    assert models.checkpoint_steps(tmp_path / "own") == [0, 2, 4]
    assert models.checkpoint_steps(tmp_path) == []


@through
@on_cpu_and_cores
def test_step_counter_hook(tmp_path, through, num_cores):
    hook = tf.train.StepCounterHook(every_n_steps=2, output_dir=str(tmp_path / "speed"))
    train(tmp_path, [hook], num_cores, through, steps=6)
    assert list(models.read_scalars(tmp_path / "speed", "global_step/sec"))[-1] in (5, 6)


def test_summary_saver_hook_with_a_summary_op(tmp_path):
    def extra(loss, **_):
        summary = tf.summary.scalar("own_loss", loss)
        directory = str(tmp_path / "own")
        hook = tf.train.SummarySaverHook(2, output_dir=directory, summary_op=summary)
        return {"training_hooks": [hook]}

    train(tmp_path, [], extra=extra, steps=6)
    values = models.read_scalars(tmp_path / "own", "own_loss")
    losses, _, _ = models.trained(6)
    assert sorted(values) == [1, 3, 5]
    np.testing.assert_allclose(list(values.values()), losses[::2], RTOL)


@on_cpu_and_cores
def test_nan_tensor_hook_only_warns_if_told_so(tmp_path, caplog, num_cores):
    def extra(loss, mode, **_):
        bad = tf.identity(loss * float("nan"), name="bad")
        return {"training_hooks": [tf.train.NanTensorHook(bad, fail_on_nan_loss=False)]}

    estimator = train(tmp_path, [], num_cores, extra=extra, steps=4)
    assert "Model diverged with loss = NaN." in messages(caplog)
    assert estimator.get_variable_value("global_step") == (1 if num_cores is CPU else 2)


def test_nan_tensor_hook_fails(tmp_path):
    def extra(loss, **_):
        return {"training_hooks": [tf.train.NanTensorHook(loss * float("nan"))]}

    with pytest.raises(tf.train.NanLossDuringTrainingError):
        train(tmp_path, [], extra=extra)


def test_final_ops_hook(tmp_path):
    class Final(tf.train.FinalOpsHook):
        def begin(self):
            (w,) = [v for v in tf.trainable_variables() if v.op.name == "w"]
            self._final_ops = {"double": w * 2}

    hook = Final(None)
    estimator = train(tmp_path, [hook])
    np.testing.assert_allclose(
        hook.final_ops_values["double"], 2 * estimator.get_variable_value("w"), RTOL
    )


def test_global_step_waiter_hook(tmp_path):
    estimator = train(tmp_path, [], steps=2)
    estimator.train(
        models.train_input_fn, steps=1, hooks=[tf.train.GlobalStepWaiterHook(wait_until_step=2)]
    )
    assert estimator.get_variable_value("global_step") == 3


@on_cpu_and_cores
def test_profiler_hook_is_refused_with_what_to_use_instead(tmp_path, num_cores):
    with tf.Graph().as_default():  # it makes a writer of version 1, which is refused eagerly
        hook = tf.train.ProfilerHook(save_steps=2, output_dir=str(tmp_path))
    with pytest.raises(tpuest.UnsupportedError, match=r"ProfilerHook.*tf\.profiler\.experimental"):
        train(tmp_path, [hook], num_cores)


@through
def test_hooks_must_be_hooks(tmp_path, through):
    with pytest.raises(TypeError, match="(?i)hooks must be .*SessionRunHook.*, given: 1"):
        train(tmp_path, [1], through=through)


# Savers' listeners.


class Listener(tf.train.CheckpointSaverListener):
    def __init__(self, events, name=""):
        self._events = events
        self._name = name

    def begin(self):
        self._events.append(f"{self._name}begin")

    def before_save(self, session, global_step_value):
        self._events.append(f"{self._name}before {global_step_value}")

    def after_save(self, session, global_step_value):
        assert session.run("global_step:0") == global_step_value
        self._events.append(f"{self._name}after {global_step_value}")

    def end(self, session, global_step_value):
        self._events.append(f"{self._name}end {global_step_value}")


@on_cpu_and_cores
def test_listeners_hear_of_every_checkpoint_in_order(tmp_path, num_cores):
    events = []
    with models.simulation(num_cores):
        models.make_estimator(
            tmp_path, num_cores, iterations_per_loop=2, save_checkpoints_steps=2
        ).train(
            models.train_input_fn,
            steps=4,
            saving_listeners=[Listener(events, "a "), Listener(events, "b ")],
        )
    expected = ["a begin", "b begin"]
    for step in (0, 2, 4):
        expected += [f"{name} {when} {step}" for when in ("before", "after") for name in "ab"]
    assert events == [*expected, "a end 4", "b end 4"]


def test_a_listener_may_end_training(tmp_path):
    class Stop(tf.train.CheckpointSaverListener):
        def after_save(self, session, global_step_value):
            return global_step_value == 2

    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=1)
    estimator.train(models.train_input_fn, steps=10, saving_listeners=[Stop()])
    assert estimator.get_variable_value("global_step") == 2


def test_listeners_go_to_a_users_saver(tmp_path):
    events = []
    saver = tf.train.CheckpointSaverHook(str(tmp_path), save_steps=2)
    models.make_estimator(tmp_path).train(
        models.train_input_fn, hooks=[saver], steps=2, saving_listeners=[Listener(events)]
    )
    assert events == ["before 0", "after 0", "before 2", "after 2", "end 2"] or events[0] == "begin"


def test_listeners_need_a_saver(tmp_path):
    estimator = models.make_estimator(
        tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=None
    )
    with pytest.raises(ValueError, match="There should be a CheckpointSaverHook"):
        estimator.train(models.train_input_fn, steps=1, saving_listeners=[Listener([])])


def test_listeners_must_be_listeners(tmp_path):
    with pytest.raises(TypeError, match="(?i)saving_?listeners must be"):
        models.make_estimator(tmp_path).train(
            models.train_input_fn, steps=1, saving_listeners=[tf.train.SessionRunHook()]
        )


# Evaluation and prediction.


def test_hooks_of_evaluation_fetch_tensors_of_each_batch(tmp_path):
    hook = Record("training_loss:0")
    estimator = models.make_estimator(tmp_path)
    results = estimator.evaluate(models.examples_input_fn(40), hooks=[hook])
    assert len(hook.values) == 5
    np.testing.assert_allclose(np.mean(hook.values), results["loss"], RTOL)


def test_hooks_of_prediction_fetch_tensors_of_each_batch(tmp_path):
    hook = Record("outputs:0")
    estimator = train(tmp_path, [])
    results = list(estimator.predict(models.examples_input_fn(20), hooks=[hook]))
    np.testing.assert_array_equal(np.concatenate(hook.values), [r["outputs"] for r in results])


def test_a_plain_estimators_chief_hooks_run(tmp_path):
    hook = Record("training_loss:0")

    def model_fn(features, labels, mode):
        spec = models.linear_model()(features, labels, mode, {})
        return tpuest.EstimatorSpec(
            mode, loss=spec.loss, train_op=spec.train_op, training_chief_hooks=[hook]
        )

    estimator = tpuest.Estimator(model_fn, str(tmp_path))
    estimator.train(lambda: models.train_input_fn({"batch_size": 8}), steps=3)
    np.testing.assert_allclose(hook.values, models.trained(3)[0], RTOL)


def test_an_error_of_a_hook_is_the_calls(tmp_path):
    class Fail(tf.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        train(tmp_path, [Fail()])
    # The step before the error was saved: six more follow it.
    assert train(tmp_path, []).get_variable_value("global_step") == 7


def test_a_hook_makes_its_variables_anew_in_each_training(tmp_path):
    class Count(tf.train.SessionRunHook):
        def begin(self):
            count = tf.get_variable(
                "num_calls", [], initializer=tf.zeros_initializer(), trainable=False
            )
            self.add = tf.assign_add(count, 1.0)

        def after_run(self, run_context, run_values):
            run_context.session.run(self.add)

    estimator = models.make_estimator(tmp_path)
    for num_runs in (2.0, 4.0):
        estimator.train(models.train_input_fn, hooks=[Count()], steps=2)
        assert estimator.get_variable_value("num_calls") == num_runs
    estimator.train(models.train_input_fn, steps=2)
    assert estimator.get_variable_names() == ["b", "global_step", "w"]
