"""A program that brings its own copy of TPUEstimator gets this package's."""

import models
import pytest
import tensorflow as tf

import tpuest


@pytest.fixture
def copied():
    class TPUEstimator(tpuest.Estimator):
        def __init__(self, model_fn, train_cache_fn=None, **kwargs):
            raise AssertionError("the copy's own engine starts")

        def _augment_model_fn(self):
            """As the original's engine has it."""

    return TPUEstimator


def model_fn(features, labels, mode, params):
    """Isn't called."""


def test_copy_makes_an_estimator_of_this_package(copied):
    made = copied(
        model_fn, train_cache_fn=None, config=tpuest.RunConfig(), use_tpu=False, train_batch_size=8
    )
    assert type(made) is tpuest.TPUEstimator


def test_copy_refuses_its_own_arguments(copied):
    with pytest.raises(tpuest.UnsupportedError, match="serve_cache_fn.*train_cache_fn and"):
        copied(
            model_fn,
            serve_cache_fn=len,
            config=tpuest.RunConfig(),
            use_tpu=False,
            train_batch_size=8,
        )


def counting_model_fn(features, labels, mode, params):
    """Hands on how many steps there were; the loss is this number."""
    (count,) = params["cache"]
    assert count.shape == [params["batch_size"]]
    weight = tf.compat.v1.get_variable("weight", [], initializer=tf.compat.v1.zeros_initializer())
    loss = tf.reduce_mean(count) + 0 * weight * tf.reduce_sum(features)
    optimizer = tpuest.CrossShardOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1))
    train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
    spec = tpuest.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)
    tf.compat.v1.add_to_collection("losses_seen", loss)
    spec.cache = [count + 1]
    return spec


def input_fn(params):
    return tf.data.Dataset.from_tensors(tf.zeros([params["batch_size"]])).repeat()


def zeros(batch_size):
    return [tf.zeros([batch_size])]


@pytest.mark.parametrize("num_cores", [0, 2])
def test_state_goes_from_step_to_step_and_starts_anew_with_each_call(copied, num_cores, tmp_path):
    made = copied(
        model_fn=counting_model_fn,
        train_cache_fn=zeros,
        eval_cache_fn=zeros,
        model_dir=str(tmp_path),
        config=tpuest.RunConfig(tpu_config=tpuest.TPUConfig(iterations_per_loop=2, num_shards=2)),
        use_tpu=num_cores > 0,
        train_batch_size=8,
        eval_batch_size=8,
    )
    with models.simulation(num_cores):
        for last_step in (4, 8):
            losses = EveryLoss()
            made.train(input_fn, steps=4, hooks=[losses])
            assert losses.values[-1] == 3
            found = made.evaluate(input_fn, steps=3)
            assert (found["loss"], found["global_step"]) == (1, last_step)
    assert made.get_variable_names() == ["global_step", "weight"]


class EveryLoss(tf.compat.v1.train.SessionRunHook):
    """Keeps the losses."""

    def __init__(self):
        self.values = []

    def before_run(self, run_context):
        return tf.compat.v1.train.SessionRunArgs(tf.compat.v1.get_collection("losses_seen"))

    def after_run(self, run_context, run_values):
        self.values += run_values.results


def test_spec_without_state_is_refused(copied, tmp_path):
    def forgetful_model_fn(features, labels, mode, params):
        return tpuest.TPUEstimatorSpec(mode, loss=tf.reduce_sum(features), train_op=tf.no_op())

    made = copied(
        forgetful_model_fn,
        train_cache_fn=zeros,
        model_dir=str(tmp_path),
        config=tpuest.RunConfig(),
        use_tpu=False,
        train_batch_size=8,
    )
    with pytest.raises(ValueError, match="as many tensors as params\\['cache'\\], 1; got None"):
        made.train(input_fn, steps=1)


def test_other_subclasses_stay_themselves():
    class TPUEstimator(tpuest.TPUEstimator):
        """Adds nothing."""

    made = TPUEstimator(model_fn, config=tpuest.RunConfig(), use_tpu=False, train_batch_size=8)
    assert type(made) is TPUEstimator
