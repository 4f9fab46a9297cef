"""`InMemoryEvaluatorHook`: evaluates variables as they are in training."""

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES

import tpuest
from tpuest import InMemoryEvaluatorHook

# float32 sums in another order.
RTOL = 1e-5


# On cores a hook is called once a loop: every second loop of two steps.
@pytest.mark.parametrize(("num_cores", "every"), [(CPU, 4), (TWO_CORES, 2)])
def test_it_evaluates_before_training_on_the_way_and_at_the_end(tmp_path, num_cores, every):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, iterations_per_loop=2)
        hook = InMemoryEvaluatorHook(
            estimator, models.one_epoch_input_fn, name="memory", every_n_iter=every
        )
        estimator.train(models.train_input_fn, hooks=[hook], steps=10)
    errors = models.read_scalars(estimator.eval_dir("memory"), "error")
    assert list(errors) == [0, 4, 8, 10]
    for step, error in errors.items():
        _, w, b = models.trained(step)
        np.testing.assert_allclose(error, np.mean(np.abs(models.X @ w + b - models.Y)), RTOL)
    # Only the training's own checkpoints are there, and it went on undisturbed.
    assert models.checkpoint_steps(tmp_path) == [0, 10]
    np.testing.assert_allclose(estimator.get_variable_value("w"), models.trained(10)[1], RTOL)


def test_it_evaluates_anew_in_each_training(tmp_path):
    estimator = models.make_estimator(tmp_path)
    hook = InMemoryEvaluatorHook(estimator, models.one_epoch_input_fn, steps=1, every_n_iter=2)
    for _ in range(2):
        estimator.train(models.train_input_fn, hooks=[hook], steps=3)
    assert list(models.read_scalars(estimator.eval_dir(), "error")) == [0, 2, 3, 5, 6]


def fails(tmp_path, words, extra):
    estimator = models.make_estimator(tmp_path, model_fn=models.linear_model(extra))
    hook = InMemoryEvaluatorHook(estimator, models.one_epoch_input_fn)
    with pytest.raises(ValueError, match=words):
        estimator.train(models.train_input_fn, hooks=[hook], steps=1)


def test_a_saver_of_the_models_own_is_refused(tmp_path):
    scaffold = lambda: tf.train.Scaffold(saver=tf.train.Saver())
    fails(tmp_path, "does not support custom saver", lambda **_: {"scaffold_fn": scaffold})


def test_an_initialisation_of_the_models_own_is_refused(tmp_path):
    scaffold = lambda: tf.train.Scaffold(init_fn=lambda scaffold, session: None)
    fails(tmp_path, "does not support custom init_fn", lambda **_: {"scaffold_fn": scaffold})


def test_saveables_that_are_no_variables_are_refused(tmp_path):
    def extra(**_):
        # Made apart from the variables, as a table is.
        other = tf.Variable([0.0], collections=[tf.GraphKeys.SAVEABLE_OBJECTS], trainable=False)
        init_op = tf.group(other.initializer, tf.global_variables_initializer())
        return {"scaffold_fn": lambda: tf.train.Scaffold(init_op=init_op)}

    fails(tmp_path, "does not support saveables", extra)


def test_no_steps_between_evaluations_are_refused(tmp_path):
    with pytest.raises(ValueError, match="invalid every_n_iter=0"):
        InMemoryEvaluatorHook(models.make_estimator(tmp_path), None, every_n_iter=0)


def test_a_session_of_the_users_own_is_refused(tmp_path):
    estimator = models.make_estimator(tmp_path)
    hook = InMemoryEvaluatorHook(estimator, models.one_epoch_input_fn)
    with tf.Graph().as_default():
        tf.no_op()
        with pytest.raises(tpuest.UnsupportedError, match=r"Estimator.train\(hooks="):
            tf.train.SingularMonitoredSession([hook])
