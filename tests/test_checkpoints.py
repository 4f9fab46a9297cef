"""Checkpoints: when they are written, how many are kept, and what a model starts from."""

import os
import time

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES

from tpuest import WarmStartSettings

# float32 sums in another order.
RTOL = 1e-5

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])


@on_cpu_and_cores
def test_the_first_and_the_last_step_are_saved(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores)
        assert estimator.latest_checkpoint() is None
        estimator.train(models.train_input_fn, steps=3)
    assert models.checkpoint_steps(tmp_path) == [0, 3]
    assert estimator.latest_checkpoint() == str(tmp_path / "model.ckpt-3")
    assert {"checkpoint", "graph.pbtxt", "model.ckpt-3.meta"} <= set(os.listdir(tmp_path))
    assert estimator.get_variable_names() == ["b", "global_step", "w"]


@on_cpu_and_cores
def test_every_few_steps_are_saved(tmp_path, num_cores):
    with models.simulation(num_cores):
        models.make_estimator(
            tmp_path, num_cores, save_checkpoints_steps=2, iterations_per_loop=2
        ).train(models.train_input_fn, steps=7)
    assert models.checkpoint_steps(tmp_path) == [0, 2, 4, 6, 7]


def test_loops_longer_than_the_period_are_saved_at_their_end(tmp_path):
    with models.simulation(TWO_CORES):
        models.make_estimator(
            tmp_path, TWO_CORES, save_checkpoints_steps=2, iterations_per_loop=5
        ).train(models.train_input_fn, steps=10)
    assert models.checkpoint_steps(tmp_path) == [0, 5, 10]


def test_every_few_seconds_are_saved(tmp_path):
    class Slow(tf.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            time.sleep(0.4)

    estimator = models.make_estimator(
        tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=1
    )
    estimator.train(models.train_input_fn, steps=5, hooks=[Slow()])
    steps = models.checkpoint_steps(tmp_path)
    assert steps[0] == 0 and steps[-1] == 5
    assert 3 <= len(steps) <= 5


def test_nothing_is_saved_where_nothing_is_wanted(tmp_path):
    models.make_estimator(tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=None).train(
        models.train_input_fn, steps=2
    )
    assert models.checkpoint_steps(tmp_path) == []


def test_only_the_newest_checkpoints_are_kept_over_several_calls(tmp_path):
    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=1, keep_checkpoint_max=3)
    estimator.train(models.train_input_fn, steps=4)
    assert models.checkpoint_steps(tmp_path) == [2, 3, 4]
    estimator.train(models.train_input_fn, steps=1)
    assert models.checkpoint_steps(tmp_path) == [3, 4, 5]
    again = models.make_estimator(tmp_path, save_checkpoints_steps=1, keep_checkpoint_max=3)
    again.train(models.train_input_fn, steps=1)
    assert models.checkpoint_steps(tmp_path) == [4, 5, 6]
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert len(state.all_model_checkpoint_paths) == 3


def test_checkpoints_of_certain_hours_are_kept(tmp_path):
    estimator = models.make_estimator(
        tmp_path,
        save_checkpoints_steps=1,
        keep_checkpoint_max=1,
        keep_checkpoint_every_n_hours=1e-9,
    )
    estimator.train(models.train_input_fn, steps=3)
    assert models.checkpoint_steps(tmp_path) == [0, 1, 2, 3]


def test_all_checkpoints_are_kept_without_a_maximum(tmp_path):
    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=1, keep_checkpoint_max=0)
    estimator.train(models.train_input_fn, steps=7)
    assert models.checkpoint_steps(tmp_path) == list(range(8))


def test_a_moved_directory_still_has_its_checkpoints(tmp_path):
    models.make_estimator(tmp_path / "a").train(models.train_input_fn, steps=2)
    os.rename(tmp_path / "a", tmp_path / "b")
    estimator = models.make_estimator(tmp_path / "b")
    estimator.train(models.train_input_fn, steps=2)
    assert estimator.get_variable_value("global_step") == 4


def scaffold_model(make_scaffold):
    """Gives the linear model with a scaffold."""
    return models.linear_model(lambda **tensors: {"scaffold_fn": lambda: make_scaffold(**tensors)})


@on_cpu_and_cores
def test_init_fn_of_a_scaffold_gives_first_values(tmp_path, num_cores):
    def make_scaffold(w, **_):
        value = tf.placeholder(tf.float32, [3, 1])
        assign = w.assign(value)

        def init_fn(scaffold, session):
            assert isinstance(scaffold, tf.train.Scaffold)
            session.run(assign, {value: [[1.0], [2.0], [3.0]]})

        return tf.train.Scaffold(init_fn=init_fn)

    with models.simulation(num_cores):
        estimator = models.make_estimator(
            tmp_path, num_cores, scaffold_model(make_scaffold), save_checkpoints_steps=1
        )
        estimator.train(models.train_input_fn, steps=2)
        path = str(tmp_path / "model.ckpt-0")
        assert tf.train.load_variable(path, "w").tolist() == [[1], [2], [3]]
        _, w, b = models.trained(2, np.array([[1], [2], [3]], np.float32))
        np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)
        # A checkpoint takes precedence over first values.
        estimator.train(models.train_input_fn, steps=1)
        _, w, _ = models.trained(1, w, b)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)


@on_cpu_and_cores
def test_a_saver_of_the_scaffold_saves_and_restores(tmp_path, num_cores):
    def make_scaffold(w, b, **_):
        step = tf.train.get_global_step()
        names = {"global_step": step, "renamed/w": w, "renamed/b": b}
        return tf.train.Scaffold(saver=tf.train.Saver(names))

    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, scaffold_model(make_scaffold))
        estimator.train(models.train_input_fn, steps=2)
        assert estimator.get_variable_names() == ["global_step", "renamed/b", "renamed/w"]
        _, w, b = models.trained(2)
        np.testing.assert_allclose(estimator.get_variable_value("renamed/w"), w, RTOL)
        assert estimator.evaluate(models.examples_input_fn(16))["global_step"] == 2
        estimator.train(models.train_input_fn, steps=1)
    np.testing.assert_allclose(
        estimator.get_variable_value("renamed/w"), models.trained(1, w, b)[1], RTOL
    )


def test_local_init_op_of_a_scaffold_runs_at_each_call(tmp_path):
    def make_scaffold(**_):
        counter = tf.get_local_variable("counter", [], initializer=tf.zeros_initializer())
        local_init_op = tf.group(tf.train.Scaffold.default_local_init_op(), counter.assign(5.0))
        return tf.train.Scaffold(local_init_op=local_init_op)

    values = []

    class Read(tf.train.SessionRunHook):
        def after_create_session(self, session, coord):
            values.append(float(session.run("counter:0")))

    estimator = models.make_estimator(tmp_path, model_fn=scaffold_model(make_scaffold))
    for _ in range(2):
        estimator.train(models.train_input_fn, steps=1, hooks=[Read()])
    assert values == [5, 5]


def test_ready_op_of_a_scaffold_is_asked(tmp_path):
    def make_scaffold(**_):
        return tf.train.Scaffold(ready_op=tf.constant(["never"]))

    estimator = models.make_estimator(tmp_path, model_fn=scaffold_model(make_scaffold))
    with pytest.raises(RuntimeError, match="Variables not initialized: never"):
        estimator.train(models.train_input_fn, steps=1)


def test_summary_op_of_a_scaffold_is_what_is_written(tmp_path):
    def make_scaffold(loss, **_):
        return tf.train.Scaffold(summary_op=tf.summary.scalar("only", loss))

    estimator = models.make_estimator(
        tmp_path, model_fn=scaffold_model(make_scaffold), save_summary_steps=1
    )
    estimator.train(models.train_input_fn, steps=2)
    values = models.read_scalars(tmp_path, "only")
    np.testing.assert_allclose(list(values.values()), models.trained(2)[0], RTOL)
    assert "loss" not in models.read_tags(tmp_path)


def test_a_variable_that_nothing_initialises_is_named(tmp_path):
    def make_scaffold(**_):
        return tf.train.Scaffold(init_op=tf.variables_initializer([tf.train.get_global_step()]))

    estimator = models.make_estimator(tmp_path, model_fn=scaffold_model(make_scaffold))
    with pytest.raises(RuntimeError, match="Variables not initialized: b, w"):
        estimator.train(models.train_input_fn, steps=1)


@on_cpu_and_cores
def test_init_from_checkpoint_starts_from_another_models_values(tmp_path, num_cores):
    models.make_estimator(tmp_path / "old").train(models.train_input_fn, steps=3)

    def model_fn(features, labels, mode, params):
        spec = models.linear_model()(features, labels, mode, params)

        def scaffold_fn():
            tf.train.init_from_checkpoint(str(tmp_path / "old"), {"w": "w"})
            return tf.train.Scaffold()

        return spec._replace(scaffold_fn=scaffold_fn) if params.get("use_tpu") else with_init(spec)

    def with_init(spec):
        tf.train.init_from_checkpoint(str(tmp_path / "old"), {"w": "w"})
        return spec

    _, old, _ = models.trained(3)
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path / "new", num_cores, model_fn)
        evaluated = estimator.evaluate(models.examples_input_fn(16))
        estimator.train(models.train_input_fn, steps=2)
        estimator.train(models.train_input_fn, steps=1)
    np.testing.assert_allclose(
        tf.train.load_variable(str(tmp_path / "new" / "model.ckpt-0"), "w"), old, RTOL
    )
    losses, _, _ = models.trained(2, old)
    np.testing.assert_allclose(evaluated["loss"], np.mean([losses[0], loss_of(old, 1)]), RTOL)
    assert estimator.get_variable_value("global_step") == 3


def loss_of(w, batch):
    rows = slice(batch * 8, batch * 8 + 8)
    return np.mean((models.X[rows] @ w - models.Y[rows]) ** 2)


@pytest.mark.parametrize("kind", ["directory", "checkpoint", "settings", "regular expression"])
def test_warm_start_from_a_checkpoint(tmp_path, caplog, kind):
    caplog.set_level("INFO", "tensorflow")
    old = models.make_estimator(tmp_path / "old").train(models.train_input_fn, steps=3)
    start = {
        "directory": str(tmp_path / "old"),
        "checkpoint": str(tmp_path / "old" / "model.ckpt-3"),
        "settings": WarmStartSettings(str(tmp_path / "old")),
        "regular expression": WarmStartSettings(str(tmp_path / "old"), vars_to_warm_start="w"),
    }[kind]
    new = models.make_estimator(tmp_path / "new", warm_start_from=start)
    new.train(models.train_input_fn, steps=1)
    first = str(tmp_path / "new" / "model.ckpt-0")
    np.testing.assert_array_equal(tf.train.load_variable(first, "w"), old.get_variable_value("w"))
    assert bool(tf.train.load_variable(first, "b")[0]) == (kind != "regular expression")
    assert tf.train.load_variable(first, "global_step") == 0
    assert any("Warm-starting with WarmStartSettings: " in r.getMessage() for r in caplog.records)
    # The second call goes on from its own checkpoint.
    new.train(models.train_input_fn, steps=1)
    assert new.get_variable_value("global_step") == 2
    w, b = old.get_variable_value("w"), old.get_variable_value("b")
    if kind != "regular expression":
        _, w, b = models.trained(1, w, b)
        _, w, b = models.trained(1, w, b)
        np.testing.assert_allclose(new.get_variable_value("w"), w, RTOL)


def test_warm_start_from_a_saved_model(tmp_path):
    w = np.array([[1.0], [2.0], [3.0]], np.float32)
    directory = str(tmp_path / "saved")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("w", initializer=w)
        tf.get_variable("b", initializer=np.ones([1], np.float32))
        session.run(tf.global_variables_initializer())
        builder = tf.saved_model.Builder(directory)
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    estimator = models.make_estimator(tmp_path / "new", warm_start_from=directory)
    estimator.train(models.train_input_fn, steps=1)
    first = str(tmp_path / "new" / "model.ckpt-0")
    assert tf.train.load_variable(first, "w").tolist() == w.tolist()


def test_warm_start_from_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="warm_start_from must be a string or a WarmStartSettings"):
        models.make_estimator(tmp_path, warm_start_from=3)


def test_slots_of_an_optimizer_are_saved_and_go_on(tmp_path):
    def extra(loss, **_):
        optimizer = tf.train.AdamOptimizer(0.1)
        return {"train_op": optimizer.minimize(loss, tf.train.get_global_step())}

    model_fn = models.linear_model(extra)

    def whole_data(params):
        return models.one_epoch_input_fn({"batch_size": 40}).repeat()

    at_once = models.make_estimator(tmp_path / "a", model_fn=model_fn)
    at_once.train(whole_data, steps=4)
    twice = models.make_estimator(tmp_path / "b", model_fn=model_fn)
    twice.train(whole_data, steps=2)
    models.make_estimator(tmp_path / "b", model_fn=model_fn).train(whole_data, steps=2)
    names = at_once.get_variable_names()
    assert names == [
        "b", "b/Adam", "b/Adam_1", "beta1_power", "beta2_power",
        "global_step", "w", "w/Adam", "w/Adam_1",
    ]  # fmt: skip
    for ours, expected in zip(twice.get_variable_value(names), at_once.get_variable_value(names)):
        np.testing.assert_allclose(ours, expected, RTOL)


def test_an_interrupted_call_goes_on_from_its_last_step(tmp_path):
    class Interrupt(tf.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            if run_context.session.run("global_step:0") == 5:
                raise KeyboardInterrupt

    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=2)
    with pytest.raises(KeyboardInterrupt):
        estimator.train(models.train_input_fn, steps=10, hooks=[Interrupt()])
    assert models.checkpoint_steps(tmp_path)[-1] == 5
    estimator.train(models.train_input_fn, max_steps=6)
    _, w, b = models.trained(5)
    _, w, b = models.trained(1, w, b)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)


def test_values_need_a_checkpoint(tmp_path):
    estimator = models.make_estimator(tmp_path)
    with pytest.raises(ValueError, match="Could not find trained model in model_dir"):
        estimator.get_variable_value("w")
    with pytest.raises(ValueError):
        estimator.get_variable_names()


def test_a_checkpoint_of_another_model_is_refused_with_its_names(tmp_path):
    models.make_estimator(tmp_path).train(models.train_input_fn, steps=1)

    def model_fn(features, labels, mode, params):
        tf.get_variable("other", [2])
        return models.linear_model()(features, labels, mode, params)

    with pytest.raises(Exception, match="other"):
        models.make_estimator(tmp_path, model_fn=model_fn).train(models.train_input_fn, steps=1)
