"""What stops training half-way, and what is left then: every complete step, and never half of one."""

import glob
import os
import signal

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES

RTOL = 1e-5

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])


def input_fn_that_fails_at(batch):
    """Gives the batches of `models.train_input_fn`; reading the numbered one, from 0, is an error."""

    def input_fn(params):
        def check(index, *element):
            checks = [tf.debugging.assert_less(index, tf.cast(batch, tf.int64), ["bad record"])]
            with tf.control_dependencies(checks):
                return tf.nest.map_structure(tf.identity, element)

        return models.train_input_fn(params).enumerate().map(lambda i, e: check(i, *e))

    return input_fn


class At(tf.train.SessionRunHook):
    """Does something after a step."""

    def __init__(self, step, act):
        self._step = step
        self._act = act

    def after_run(self, run_context, run_values):
        if run_context.session.run("global_step:0") >= self._step:
            self._act()


def raising(error):
    def act():
        raise error

    return act


def assert_saved_after(tmp_path, num_steps):
    assert models.checkpoint_steps(tmp_path)[-1] == num_steps
    _, w, b = models.trained(num_steps)
    estimator = models.make_estimator(tmp_path)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)
    np.testing.assert_allclose(estimator.get_variable_value("b"), b, RTOL)


@on_cpu_and_cores
@pytest.mark.parametrize("save_summary_steps", [0, 1, 4])
def test_an_input_that_fails_leaves_the_complete_steps(tmp_path, num_cores, save_summary_steps):
    with models.simulation(num_cores):
        estimator = models.make_estimator(
            tmp_path, num_cores, iterations_per_loop=10, save_summary_steps=save_summary_steps
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match="bad record"):
            estimator.train(input_fn_that_fails_at(25), steps=100)
    # Where the next batch is fetched beside a step, the step is given up with it.
    num_steps = models.checkpoint_steps(tmp_path)[-1]
    assert num_steps in (24, 25)
    assert_saved_after(tmp_path, num_steps)


def test_an_input_that_fails_between_single_steps_leaves_all_of_them(tmp_path):
    sees_every_step = At(100, raising(AssertionError))
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad record"):
        models.make_estimator(tmp_path).train(
            input_fn_that_fails_at(25), steps=100, hooks=[sees_every_step]
        )
    assert_saved_after(tmp_path, 25)


def test_an_input_that_fails_at_once_leaves_the_first_checkpoint(tmp_path):
    with pytest.raises(tf.errors.InvalidArgumentError, match="bad record"):
        models.make_estimator(tmp_path).train(input_fn_that_fails_at(0), steps=100)
    assert models.checkpoint_steps(tmp_path) == [0]


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_what_a_hook_raises_goes_on_after_the_steps_are_saved(tmp_path, error):
    hook = At(5, raising(error))
    with pytest.raises(type(error)) as raised:
        models.make_estimator(tmp_path).train(models.train_input_fn, steps=10, hooks=[hook])
    assert raised.value is error
    assert_saved_after(tmp_path, 5)


def test_sigterm_saves_and_leaves_with_its_code(tmp_path):
    hook = At(5, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as raised:
        models.make_estimator(tmp_path).train(models.train_input_fn, steps=10, hooks=[hook])
    assert raised.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert_saved_after(tmp_path, 5)


def test_a_program_that_handles_sigterm_keeps_its_handler(tmp_path):
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append(True))
    try:
        hook = At(2, lambda: signal.raise_signal(signal.SIGTERM))
        models.make_estimator(tmp_path).train(models.train_input_fn, steps=2, hooks=[hook])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert seen == [True]


@on_cpu_and_cores
def test_a_step_that_fails_is_not_saved(tmp_path, num_cores):
    def failing(loss, use_tpu, **_):
        step = tf.cast(tf.train.get_global_step(), tf.int64)
        check = tf.debugging.assert_less(step, tf.constant(4, tf.int64), ["bad step"])
        with tf.control_dependencies([check]):
            optimizer = tf.train.GradientDescentOptimizer(0.1)
            if use_tpu:
                optimizer = tf.tpu.CrossShardOptimizer(optimizer)
            train_op = optimizer.minimize(tf.identity(loss), tf.train.get_global_step())
        return {"train_op": train_op}

    with models.simulation(num_cores):
        estimator = models.make_estimator(
            tmp_path,
            num_cores,
            models.linear_model(lambda **t: failing(use_tpu=num_cores is not CPU, **t)),
            save_checkpoints_steps=2,
        )
        with pytest.raises(tf.errors.InvalidArgumentError, match="bad step"):
            estimator.train(models.train_input_fn, steps=10)
    assert models.checkpoint_steps(tmp_path)[-1] == 4


def test_a_save_that_fails_does_not_hide_what_stopped_training(tmp_path, caplog):
    class Full(tf.train.CheckpointSaverListener):
        def before_save(self, session, global_step_value):
            if global_step_value:
                raise OSError("no space left")

    hook = At(5, raising(ValueError("mine")))
    with pytest.raises(ValueError, match="mine"):
        models.make_estimator(tmp_path).train(
            models.train_input_fn, steps=10, hooks=[hook], saving_listeners=[Full()]
        )
    assert "The checkpoint of step 5 was not saved: no space left" in caplog.text
    assert models.checkpoint_steps(tmp_path) == [0]


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


def flip_a_bit(path):
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
@pytest.mark.parametrize("part", ["index", "data-00000-of-00001"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, caplog, damage, part):
    models.make_estimator(tmp_path, save_checkpoints_steps=2).train(models.train_input_fn, steps=4)
    damage(tmp_path / f"model.ckpt-4.{part}")
    estimator = models.make_estimator(tmp_path)
    assert estimator.evaluate(models.one_epoch_input_fn)["global_step"] == 2
    assert len(list(estimator.predict(models.one_epoch_input_fn))) == models.NUM_EXAMPLES
    assert "model.ckpt-4 is damaged, taking the one before" in caplog.text
    estimator.train(models.train_input_fn, max_steps=6)
    _, w, b = models.trained(2)
    _, w, b = models.trained(4, w, b)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)


def test_a_damaged_checkpoint_that_was_asked_for_is_an_error(tmp_path):
    models.make_estimator(tmp_path, save_checkpoints_steps=2).train(models.train_input_fn, steps=4)
    truncate(tmp_path / "model.ckpt-4.data-00000-of-00001")
    path = str(tmp_path / "model.ckpt-4")
    with pytest.raises(tf.errors.OpError):
        models.make_estimator(tmp_path).evaluate(models.one_epoch_input_fn, checkpoint_path=path)
    assert not glob.glob(str(tmp_path / "eval*"))
