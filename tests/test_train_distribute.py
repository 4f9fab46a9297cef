"""RunConfig(train_distribute=..., eval_distribute=...): replicas of a `tf.distribute` strategy on one machine."""

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tpuest

# float32 sums in another order.
RTOL = 1e-5
REPLICA_BATCH_SIZE = models.BATCH_SIZE // 2
STRATEGIES = {
    "version 1": tf.distribute.MirroredStrategy,
    "version 2": tf.compat.v2.distribute.MirroredStrategy,
}


@pytest.fixture(scope="module", params=STRATEGIES)
def strategy(request):
    # Collective ops, the default, refuse a second strategy of another size in the same process.
    return STRATEGIES[request.param](
        ["/cpu:0", "/cpu:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def batches(num_epochs=1, num_examples=models.NUM_EXAMPLES):
    """Gives an `input_fn` of batches for one replica: two of them are one of the other tests' models."""

    def input_fn():
        x, y = models.X[:num_examples], models.Y[:num_examples]
        dataset = tf.data.Dataset.from_tensor_slices(({"x": x}, y)).repeat(num_epochs)
        return dataset.batch(REPLICA_BATCH_SIZE)

    return input_fn


def test_replicas_take_the_steps_of_one_with_their_batches_together(tmp_path, strategy):
    class Losses(tf.train.SessionRunHook):
        values = ()

        def begin(self):
            (self.loss,) = tf.get_collection(tf.GraphKeys.LOSSES)

        def before_run(self, run_context):
            return tf.train.SessionRunArgs(self.loss)

        def after_run(self, run_context, run_values):
            self.values = (*self.values, run_values.results)

    hook = Losses()
    estimator = models.make_estimator(tmp_path, train_distribute=strategy, save_summary_steps=3)
    estimator.train(batches(None), steps=7, hooks=[hook])
    losses, w, b = models.trained(7)
    np.testing.assert_allclose(hook.values, losses, RTOL)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)
    np.testing.assert_allclose(estimator.get_variable_value("b"), b, RTOL)
    assert estimator.get_variable_value("global_step") == 7
    # It goes on from the checkpoint, and predicts on one device.
    assert estimator.train(batches(), max_steps=9).get_variable_value("global_step") == 9
    assert len(list(estimator.predict(batches()))) == models.NUM_EXAMPLES
    assert set(models.read_scalars(tmp_path, "loss")) == {1, 4, 7, 8}


def test_metrics_are_those_of_all_replicas(tmp_path, strategy):
    estimator = models.make_estimator(tmp_path, eval_distribute=strategy)
    estimator.train(models.train_input_fn, steps=3)
    _, w, b = models.trained(3)
    errors = np.abs(models.X @ w + b - models.Y)
    for steps, num_examples in ((None, 40), (2, 16)):
        metrics = estimator.evaluate(batches(), steps)
        np.testing.assert_allclose(metrics["error"], errors[:num_examples].mean(), RTOL)
        np.testing.assert_allclose(metrics["loss"], (errors**2)[:num_examples].mean(), RTOL)


def test_what_is_too_little_for_all_replicas_is_left_out(tmp_path, strategy):
    estimator = models.make_estimator(tmp_path, train_distribute=strategy, eval_distribute=strategy)
    too_many = models.NUM_EXAMPLES - REPLICA_BATCH_SIZE
    estimator.train(batches(1, too_many))
    assert estimator.get_variable_value("global_step") == 4
    metrics = estimator.evaluate(batches(1, too_many))
    _, w, b = models.trained(4)
    errors = np.abs(models.X @ w + b - models.Y)[: 4 * models.BATCH_SIZE]
    np.testing.assert_allclose(metrics["error"], errors.mean(), RTOL)


def test_an_input_fn_is_told_of_the_replicas(tmp_path, strategy):
    seen = []

    def input_fn(input_context):
        seen.append((input_context.num_input_pipelines, input_context.num_replicas_in_sync))
        return batches()()

    models.make_estimator(tmp_path, train_distribute=strategy).train(input_fn, steps=1)
    assert seen == [(1, 2)]


def test_moving_averages_are_saved_as_the_mean_of_the_replicas(tmp_path, strategy):
    def model_fn(features, labels, mode):
        outputs = tf.layers.batch_normalization(features["x"], training=True, momentum=0.5)
        loss = tf.losses.mean_squared_error(labels, outputs[:, :1], reduction="weighted_sum")
        with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
            optimizer = tf.train.GradientDescentOptimizer(0.0)
            train_op = optimizer.minimize(loss, tf.train.get_global_step())
        return tpuest.EstimatorSpec(mode, loss=loss, train_op=train_op)

    estimator = tpuest.Estimator(
        model_fn,
        str(tmp_path),
        tpuest.RunConfig(train_distribute=strategy, save_checkpoints_steps=1, save_summary_steps=0),
    )
    estimator.train(batches(), steps=2)
    # 1/4 of the first step's means, 1/2 of the second's, each the mean of two batches.
    means = [models.X[start : start + models.BATCH_SIZE].mean(axis=0) for start in (0, 8)]
    expected = means[0] / 4 + means[1] / 2
    moving_mean = estimator.get_variable_value("batch_normalization/moving_mean")
    np.testing.assert_allclose(moving_mean, expected, RTOL)


def test_gradients_that_nobody_sums_are_refused(tmp_path, strategy):
    def model_fn(features, labels, mode):
        w = tf.get_variable("w", [3, 1])
        loss = tf.reduce_mean(tf.square(features["x"] @ w - labels))
        update = w.assign_sub(tf.gradients(loss, w)[0])
        train_op = tf.group(update, tf.assign_add(tf.train.get_global_step(), 1))
        return tpuest.EstimatorSpec(mode, loss=loss, train_op=train_op)

    config = tpuest.RunConfig(train_distribute=strategy)
    with pytest.raises(ValueError, match="sums gradients where an optimizer"):
        tpuest.Estimator(model_fn, str(tmp_path), config).train(batches(), steps=1)


def test_a_strategy_of_one_device_is_that_device(tmp_path):
    strategy = tf.distribute.OneDeviceStrategy("/cpu:1")
    estimator = models.make_estimator(tmp_path, train_distribute=strategy)
    estimator.train(models.train_input_fn, steps=2)
    np.testing.assert_allclose(estimator.get_variable_value("w"), models.trained(2)[1], RTOL)


def test_another_strategy_is_refused(tmp_path):
    strategy = tf.distribute.experimental.CentralStorageStrategy(["/cpu:0"])
    estimator = models.make_estimator(tmp_path, train_distribute=strategy)
    with pytest.raises(tpuest.UnsupportedError, match=r"Use tf.distribute.MirroredStrategy"):
        estimator.train(models.train_input_fn, steps=1)


def test_an_optimizer_is_itself_again_afterwards(tmp_path, strategy):
    before = dict(vars(tf.train.Optimizer))
    models.make_estimator(tmp_path, train_distribute=strategy).train(batches(), steps=1)
    assert dict(vars(tf.train.Optimizer)) == before
