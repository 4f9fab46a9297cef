"""`add_metrics` and `call_logit_fn`."""

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tpuest
from tpuest import ModeKeys, add_metrics, extenders


def model_fn(features, labels, mode, params):
    outputs = tf.identity(features["x"] @ tf.get_variable("w", [3, 1]))
    loss = tf.reduce_mean(outputs)
    train_op = tf.assign_add(tf.train.get_global_step(), 1)
    metrics = {"mine": tf.metrics.mean(params["one"]), "both": tf.metrics.mean(1.0)}
    predictions = {"outputs": outputs}
    return tpuest.EstimatorSpec(mode, predictions, loss, train_op, eval_metric_ops=metrics)


def input_fn():
    return tf.data.Dataset.from_tensor_slices(({"x": models.X}, models.Y)).batch(8)


def test_metrics_are_added_and_replaced(tmp_path):
    def metric_fn(predictions, features, labels, config):
        assert isinstance(config, tpuest.RunConfig)
        return {
            "largest": tf.metrics.mean(tf.reduce_max(features["x"])),
            "outputs": tf.metrics.mean(predictions["outputs"]),
            "labels": tf.metrics.mean(labels),
            "both": tf.metrics.mean(2.0),
        }

    config = tpuest.RunConfig(model_dir=str(tmp_path))
    estimator = add_metrics(
        tpuest.Estimator(model_fn, config=config, params={"one": 1.0}), metric_fn
    )
    assert estimator.model_dir == str(tmp_path)
    metrics = estimator.train(input_fn).evaluate(input_fn)
    assert (metrics["mine"], metrics["both"]) == (1, 2)
    np.testing.assert_allclose(metrics["labels"], models.Y.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["outputs"], metrics["loss"], rtol=1e-5)


def test_another_argument_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not expected args: \['other'\]"):
        add_metrics(models.make_estimator(tmp_path), lambda features, other: {})


def test_a_tpu_spec_has_metrics_of_its_own(tmp_path):
    estimator = add_metrics(
        models.make_estimator(tmp_path, params={"unused": 8}), lambda predictions: {}
    )
    with pytest.raises(tpuest.UnsupportedError, match="Return the metrics in its eval_metrics"):
        estimator.evaluate(input_fn)


def test_a_logit_fn_gets_what_it_declares():
    call = extenders.call_logit_fn
    with tf.Graph().as_default():
        x = tf.constant(1.0)
        assert call(lambda features: features["x"], {"x": x}, ModeKeys.EVAL, {}, None) is x
        seen = call(
            lambda features, mode, params: {"logits": x} if (mode, params) == ("eval", 1) else None,
            {},
            "eval",
            1,
            None,
        )
        assert seen == {"logits": x}
        with pytest.raises(ValueError, match="logit_fn should return a Tensor or a dictionary"):
            call(lambda features: 1.0, {}, "eval", {}, None)
