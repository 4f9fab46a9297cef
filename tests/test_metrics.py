"""Metrics: every kind that `metric_fn` and `eval_metric_ops` may give, on CPU and gathered from cores."""

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES, X, Y

import tpuest

# float32 sums in another order.
RTOL = 1e-5

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])

LABELS = Y[:37]
# What the untrained model gives.
OUTPUTS = np.zeros_like(LABELS)
NUM_EXAMPLES = len(LABELS)


def evaluate(
    tmp_path, num_cores, metric_fn=None, eval_metrics=None, num_examples=NUM_EXAMPLES, **options
):
    """Evaluates the untrained model on a few examples, the last batch partial."""

    def extra(labels, outputs, x, **_):
        made = eval_metrics(labels, outputs, x) if eval_metrics else (metric_fn, [labels, outputs])
        return {"eval_metrics": made}

    with models.simulation(num_cores):
        estimator = models.make_estimator(
            tmp_path, num_cores, models.linear_model(extra), **options
        )
        return estimator.evaluate(models.examples_input_fn(num_examples))


@on_cpu_and_cores
def test_pairs_of_tf_1(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        return {
            "mean": tf.metrics.mean(labels),
            "rmse": tf.metrics.root_mean_squared_error(labels, outputs),
            "large": tf.metrics.accuracy(labels > 4, outputs > -1),
            "auc": tf.metrics.auc(labels > 4, labels / 10),
        }

    results = evaluate(tmp_path, num_cores, metric_fn)
    np.testing.assert_allclose(results["mean"], LABELS.mean(), RTOL)
    np.testing.assert_allclose(results["rmse"], np.sqrt(np.mean(LABELS**2)), RTOL)
    np.testing.assert_allclose(results["large"], np.mean(LABELS > 4), RTOL)
    np.testing.assert_allclose(results["auc"], 1, rtol=0.01)


@on_cpu_and_cores
def test_variable_of_a_metric_may_change_its_shape(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        with tpuest.installed():
            kept, update = tf.contrib.metrics.streaming_concat(labels)
        # The labels' own shape must not be taken for that of the empty first value.
        return {"kept": (kept, update), "ones": tf.metrics.mean(tf.ones_like(labels))}

    results = evaluate(tmp_path, num_cores, metric_fn)
    np.testing.assert_array_equal(results["kept"], LABELS)
    assert results["ones"] == 1


@on_cpu_and_cores
def test_tensors_may_be_a_dict(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        return {"error": tf.metrics.mean_absolute_error(labels, outputs)}

    def eval_metrics(labels, outputs, x):
        return metric_fn, {"outputs": outputs, "labels": labels}

    results = evaluate(tmp_path, num_cores, eval_metrics=eval_metrics)
    np.testing.assert_allclose(results["error"], LABELS.mean(), RTOL)


@on_cpu_and_cores
def test_tensors_may_be_nested(tmp_path, num_cores):
    def metric_fn(pair, by_name):
        labels, outputs = pair
        doubled = outputs + by_name["outputs"]
        return {"error": tf.metrics.mean_absolute_error(labels, doubled)}

    def eval_metrics(labels, outputs, x):
        return metric_fn, [(labels, outputs), {"outputs": outputs}]

    results = evaluate(tmp_path, num_cores, eval_metrics=eval_metrics)
    np.testing.assert_allclose(results["error"], LABELS.mean(), RTOL)


@on_cpu_and_cores
def test_a_metric_may_be_an_array(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        return {
            "columns": tf.metrics.mean_tensor(tf.reduce_mean(tf.concat([labels, outputs], 1), 0)),
            "at": tf.metrics.precision_at_thresholds(labels > 4, labels / 10, [0.3, 0.5]),
        }

    results = evaluate(tmp_path, num_cores, metric_fn, num_examples=40)
    np.testing.assert_allclose(results["columns"], [Y.mean(), 0], RTOL)
    assert results["at"].shape == (2,)
    tags = models.read_tags(tmp_path / "eval")
    assert {"columns", "at"} <= tags


@on_cpu_and_cores
def test_an_update_may_be_an_operation(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        total = tf.get_local_variable("total", [], initializer=tf.zeros_initializer())
        count = tf.get_local_variable("count", [], initializer=tf.zeros_initializer())
        size = tf.cast(tf.shape(labels)[0], tf.float32)
        update = tf.group(total.assign_add(tf.reduce_sum(labels)), count.assign_add(size))
        return {"mean": (total / count, update), "count": (count.read_value(), tf.no_op())}

    results = evaluate(tmp_path, num_cores, metric_fn)
    np.testing.assert_allclose(results["mean"], LABELS.mean(), RTOL)
    assert results["count"] == NUM_EXAMPLES


@on_cpu_and_cores
def test_keras_metrics_that_metric_fn_updates(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        error = tf.keras.metrics.MeanAbsoluteError()
        error.update_state(labels, outputs)
        mean = tf.keras.metrics.Mean()
        mean.update_state(labels)
        return {"error": error, "mean": mean}

    results = evaluate(tmp_path, num_cores, metric_fn)
    np.testing.assert_allclose(results["error"], LABELS.mean(), RTOL)
    np.testing.assert_allclose(results["mean"], LABELS.mean(), RTOL)


@on_cpu_and_cores
def test_keras_metrics_start_anew_at_each_evaluation(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        mean = tf.keras.metrics.Mean()
        mean.update_state(labels)
        accuracy = tf.keras.metrics.BinaryAccuracy()
        accuracy.update_state(labels > 4, labels > 3)
        return {"mean": mean, "accuracy": accuracy}

    model_fn = models.linear_model(metric_fn=metric_fn)
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, model_fn)
        first = estimator.evaluate(models.examples_input_fn(37))
        second = estimator.evaluate(models.examples_input_fn(37))
        smaller = estimator.evaluate(models.examples_input_fn(16))
    assert first == second
    np.testing.assert_allclose(smaller["mean"], Y[:16].mean(), RTOL)
    expected = np.mean((Y[:37] > 4) == (Y[:37] > 3))
    np.testing.assert_allclose(first["accuracy"], expected, RTOL)


def test_keras_metrics_stay_out_of_checkpoints(tmp_path):
    def metric_fn(labels, outputs):
        mean = tf.keras.metrics.Mean()
        mean.update_state(labels)
        return {"mean": mean}

    estimator = models.make_estimator(tmp_path, model_fn=models.linear_model(metric_fn=metric_fn))
    estimator.train(models.train_input_fn, steps=1)
    estimator.evaluate(models.examples_input_fn(16))
    assert sorted(estimator.get_variable_names()) == ["b", "global_step", "w"]


def test_keras_metrics_in_eval_metric_ops_of_a_plain_spec(tmp_path):
    def model_fn(features, labels, mode):
        spec = models.linear_model()(features, labels, mode, {})
        mean = tf.keras.metrics.Mean()
        mean.update_state(labels)
        pairs = {"mean": mean, "error": tf.metrics.mean_absolute_error(labels, labels + 1)}
        return tpuest.EstimatorSpec(
            mode, loss=spec.loss, train_op=spec.train_op, eval_metric_ops=pairs
        )

    def input_fn():
        return models.examples_input_fn(37)({"batch_size": 8})

    results = tpuest.Estimator(model_fn, str(tmp_path)).evaluate(input_fn)
    np.testing.assert_allclose(results["mean"], LABELS.mean(), RTOL)
    np.testing.assert_allclose(results["error"], 1, RTOL)


@on_cpu_and_cores
def test_a_plain_tensor_is_averaged(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        return {"scalar": tf.reduce_mean(labels), "vector": labels}

    results = evaluate(tmp_path, num_cores, metric_fn, num_examples=40)
    np.testing.assert_allclose(results["scalar"], Y.mean(), RTOL)
    np.testing.assert_allclose(results["vector"], Y.mean(), RTOL)


@on_cpu_and_cores
def test_a_scalar_of_the_model_is_averaged_over_the_cores(tmp_path, num_cores):
    def metric_fn(labels, mean):
        return {"mean": tf.metrics.mean(mean)}

    def eval_metrics(labels, outputs, x):
        return metric_fn, [labels, tf.reduce_mean(labels)]

    results = evaluate(tmp_path, num_cores, eval_metrics=eval_metrics, num_examples=40)
    np.testing.assert_allclose(results["mean"], Y.mean(), RTOL)


@on_cpu_and_cores
def test_metric_fn_is_told_by_none_what_the_model_has_not(tmp_path, num_cores):
    def metric_fn(labels, other_outputs):
        assert other_outputs is None
        return {"mean": tf.metrics.mean(labels)}

    def eval_metrics(labels, outputs, x):
        return metric_fn, [labels, None]

    results = evaluate(tmp_path, num_cores, eval_metrics=eval_metrics)
    np.testing.assert_allclose(results["mean"], LABELS.mean(), RTOL)


@on_cpu_and_cores
def test_metric_fn_sees_the_whole_global_batch_once(tmp_path, num_cores):
    def metric_fn(labels, x):
        size = tf.cast(tf.shape(x)[0], tf.float32)
        most = tf.get_local_variable("most", [], initializer=tf.zeros_initializer())
        runs = tf.get_local_variable("runs", [], initializer=tf.zeros_initializer())
        first = tf.get_local_variable("first", [3], initializer=tf.zeros_initializer())
        update = tf.group(
            most.assign(tf.maximum(most, size)), runs.assign_add(1.0), first.assign(x[-1])
        )
        return {
            "most": (most.read_value(), update),
            "runs": (runs.read_value(), tf.no_op()),
            "last": (first.read_value(), tf.no_op()),
        }

    def eval_metrics(labels, outputs, x):
        return metric_fn, [labels, x]

    results = evaluate(tmp_path, num_cores, eval_metrics=eval_metrics, num_examples=40)
    assert results["most"] == models.BATCH_SIZE
    assert results["runs"] == 5
    np.testing.assert_allclose(results["last"], X[39], RTOL)


def test_what_is_no_metric_is_refused(tmp_path):
    def metric_fn(labels, outputs):
        return {"error": "none"}

    with pytest.raises(TypeError, match="error"):
        evaluate(tmp_path, CPU, metric_fn)


def test_metrics_must_be_a_dict(tmp_path):
    def metric_fn(labels, outputs):
        return [tf.metrics.mean(labels)]

    with pytest.raises(TypeError, match="dict"):
        evaluate(tmp_path, CPU, metric_fn)


def test_metric_fn_must_take_the_tensors(tmp_path):
    def metric_fn(labels):
        return {"mean": tf.metrics.mean(labels)}

    with pytest.raises(RuntimeError, match="length of tensors 2 does not match"):
        evaluate(tmp_path, CPU, metric_fn)


@on_cpu_and_cores
def test_a_metric_may_be_a_summary(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        constant = tf.summary.scalar("five", tf.constant(5.0))
        return {"inner": (constant, tf.no_op()), "mean": tf.metrics.mean(labels)}

    evaluate(tmp_path, num_cores, metric_fn, num_examples=40)
    assert models.read_scalars(tmp_path / "eval", "inner/0") == {0: 5.0}


@on_cpu_and_cores
def test_a_confusion_matrix_counts_every_example(tmp_path, num_cores):
    def metric_fn(labels, outputs):
        classes = tf.cast(tf.reshape(labels, [-1]) > 4, tf.int32)
        counts = tf.confusion_matrix(classes, 1 - classes, 2, dtype=tf.float32)
        total = tf.get_local_variable("counts", [2, 2], initializer=tf.zeros_initializer())
        return {"counts": (total.read_value(), total.assign_add(counts))}

    results = evaluate(tmp_path, num_cores, metric_fn)
    large = int(np.sum(LABELS > 4))
    assert results["counts"].tolist() == [[0, NUM_EXAMPLES - large], [large, 0]]
