"""What `model_fn` answers, and the functions in it."""

import models
import numpy as np
import tensorflow.compat.v1 as tf
from models import TWO_CORES, serving_input_receiver_fn

from bad_inputs.room import WARNS, UsersError, evaluating, exporting, fail, predicting, training
from tpuest import EstimatorSpec, TPUEstimatorSpec


def spec_with(**fields):
    """Gives a model whose spec has these fields; a function gives the field from the model's tensors."""

    def extra(**tensors):
        return {
            name: value(tensors) if callable(value) else value for name, value in fields.items()
        }

    return models.linear_model(extra)


def answering(answer):
    """Gives a model that answers what `answer` makes of the mode and a loss of one variable."""

    def model_fn(features, labels, mode, params):
        w = tf.get_variable("w", [3, 1])
        tf.get_variable("b", [1])
        return answer(mode, tf.reduce_mean(features["x"] @ w))

    return model_fn


def variables_of(**shapes):
    """Gives a model with other variables than the checkpoint's."""

    def model_fn(features, labels, mode, params):
        made = [tf.get_variable(name, **options) for name, options in shapes.items()]
        loss = tf.add_n([tf.reduce_sum(tf.cast(v, tf.float32)) for v in made])
        return TPUEstimatorSpec(
            mode,
            loss=loss,
            train_op=tf.assign_add(tf.train.get_global_step(), 1).op,
            predictions={"loss": tf.fill([8], loss)},
        )

    return model_fn


def model_that_fails(features, labels, mode, params):
    fail()


def _plain(mode, loss):
    step = tf.assign_add(tf.train.get_global_step(), 1).op
    return EstimatorSpec(mode, loss=loss, train_op=step, predictions={"loss": loss})


def _from_another_graph(tensors):
    with tf.Graph().as_default():
        return tf.constant(1.0)


def _two(labels, outputs):
    return {}


def _metric(function, *names):
    return lambda tensors: (function, [tensors[name] for name in names])


CASES = {
    "a model_fn that raises": (training(model_that_fails), UsersError, "mine"),
    "no spec": (
        training(answering(lambda mode, loss: None)),
        ValueError,
        "model_fn should return an EstimatorSpec",
    ),
    "a tuple in place of a spec": (
        training(answering(lambda mode, loss: (loss, None))),
        ValueError,
        "model_fn should return an EstimatorSpec",
    ),
    "a loss in place of a spec": (
        evaluating(answering(lambda mode, loss: loss)),
        ValueError,
        "model_fn should return an EstimatorSpec",
    ),
    "an EstimatorSpec for evaluation on cores": (
        evaluating(answering(_plain), num_cores=TWO_CORES),
        RuntimeError,
        "used by TPU evaluation must have type`TPUEstimatorSpec`",
    ),
    "a spec for prediction in training": (
        training(
            answering(lambda mode, loss: TPUEstimatorSpec("infer", predictions={"loss": loss}))
        ),
        ValueError,
        "Missing loss and train_op: model_fn was called with mode 'train' .* mode 'infer'",
    ),
    "a spec for evaluation in training": (
        training(answering(lambda mode, loss: TPUEstimatorSpec("eval", loss=loss))),
        ValueError,
        "Missing train_op: model_fn was called with mode 'train' .* mode 'eval'",
    ),
    "an unknown mode": (
        training(answering(lambda mode, loss: TPUEstimatorSpec("nonsense", loss=loss))),
        ValueError,
        "Missing train_op: model_fn was called with mode 'train' .* mode 'nonsense'",
    ),
    "no loss": (
        training(spec_with(loss=None)),
        ValueError,
        "Missing loss. model_fn must return one in mode 'train'",
    ),
    "a loss for each example": (
        training(spec_with(loss=lambda t: t["outputs"])),
        ValueError,
        "Loss must be scalar, given: ",
    ),
    "a loss that is a number of Python": (
        training(spec_with(loss=1.0)),
        TypeError,
        "loss must be Tensor, given: 1.0",
    ),
    "a loss of another graph": (
        training(spec_with(loss=_from_another_graph)),
        ValueError,
        'loss with "Const:0" must be from the default graph',
    ),
    "a loss that is no number": (
        training(spec_with(loss=lambda t: t["loss"] * np.nan)),
        tf.train.NanLossDuringTrainingError,
        "NaN loss during training",
    ),
    "a loss that is no number on cores": (
        training(spec_with(loss=lambda t: t["loss"] * np.nan), params={}, num_cores=TWO_CORES),
        tf.train.NanLossDuringTrainingError,
        "NaN loss during training",
    ),
    "no train_op": (
        training(spec_with(train_op=None)),
        ValueError,
        "Missing train_op. model_fn must return one in mode 'train'",
    ),
    "a number as train_op": (
        training(spec_with(train_op=7)),
        TypeError,
        "train_op must be Operation or Tensor, given: 7",
    ),
    "no predictions": (
        predicting(answering(lambda mode, loss: TPUEstimatorSpec(mode))),
        ValueError,
        "Missing predictions. model_fn must return some in mode 'infer'",
    ),
    "a string as predictions": (
        predicting(answering(lambda mode, loss: TPUEstimatorSpec(mode, predictions="x"))),
        TypeError,
        "predictions must be Tensor, given: x",
    ),
    "predictions of different lengths": (
        predicting(models.linear_model(predictions=lambda f, o: {"a": o, "b": o[:2]})),
        ValueError,
        "Batch length of predictions should be same. b has different batch length",
    ),
    "predictions of unknown length on cores": (
        predicting(
            models.linear_model(predictions=lambda f, o: {"a": tf.boolean_mask(o, o[:, 0] > 0)}),
            num_cores=TWO_CORES,
        ),
        ValueError,
        r"The tensor with key \(a\) in TPUEstimatorSpec.predictions has dynamic shape.*avoid",
    ),
    "a tensor as predictions on cores": (
        predicting(models.linear_model(predictions=lambda f, o: o), num_cores=TWO_CORES),
        TypeError,
        "TPUEstimatorSpec.predictions must be dict of Tensors",
    ),
    "metrics without tensors": (
        evaluating(spec_with(eval_metrics=lambda t: (_two, []))),
        RuntimeError,
        "In TPUEstimatorSpec.eval_metrics, length of tensors 0 does not match .* takes 2",
    ),
    "metrics that are no tuple": (
        evaluating(spec_with(eval_metrics=lambda t: _two)),
        ValueError,
        "eval_metrics should be tuple or list, got .*function",
    ),
    "a tuple of three as metrics": (
        evaluating(spec_with(eval_metrics=lambda t: (_two, [], []))),
        ValueError,
        "eval_metrics should have two elements, got 3",
    ),
    "metrics without a function": (
        evaluating(spec_with(eval_metrics=lambda t: ("error", [t["outputs"]]))),
        TypeError,
        r"eval_metrics\[0\] should be callable, got 'error'",
    ),
    "metrics of other names": (
        evaluating(spec_with(eval_metrics=lambda t: (_two, {"a": t["outputs"]}))),
        TypeError,
        "unexpected keyword argument 'a'",
    ),
    "a metric_fn that raises": (
        evaluating(spec_with(eval_metrics=_metric(fail, "outputs"))),
        UsersError,
        "mine",
    ),
    "a metric_fn that gives nothing": (
        evaluating(spec_with(eval_metrics=_metric(lambda outputs: None, "outputs"))),
        WARNS,
        "metric_fn returned None: evaluation gives the loss only",
    ),
    "a metric named global_step": (
        evaluating(
            spec_with(
                eval_metrics=_metric(lambda o: {"global_step": tf.metrics.mean(o)}, "outputs")
            )
        ),
        ValueError,
        'Metric with name "global_step" is not allowed',
    ),
    "a metric that uses the model's tensors on cores": (
        evaluating(
            spec_with(
                eval_metrics=lambda t: (lambda o: {"a": tf.metrics.mean(t["x"])}, [t["outputs"]])
            ),
            num_cores=TWO_CORES,
        ),
        ValueError,
        "Inside eval_metrics: Op .* depends on TPU computation.*Pass the tensor along",
    ),
    "a host call that is no tuple": (
        training(spec_with(host_call=lambda t: _two), num_cores=TWO_CORES),
        ValueError,
        "host_call should be tuple or list, got .*function",
    ),
    "a host call of a string": (
        training(spec_with(host_call=("f", [])), num_cores=TWO_CORES),
        TypeError,
        r"host_call\[0\] should be callable, got 'f'",
    ),
    "a host call of fewer tensors": (
        training(spec_with(host_call=lambda t: (_two, [t["loss"]])), num_cores=TWO_CORES),
        RuntimeError,
        "In TPUEstimatorSpec.host_call, length of tensors 1 does not match .* takes 2",
    ),
    "a host call that raises": (
        training(
            spec_with(host_call=lambda t: (fail, [tf.reshape(t["loss"], [1])])), num_cores=TWO_CORES
        ),
        UsersError,
        "mine",
    ),
    "a hook of the spec that is none": (
        training(spec_with(training_hooks=[1])),
        TypeError,
        "All hooks must be SessionRunHook instances, given: 1",
    ),
    "a scaffold that is none": (
        training(spec_with(scaffold_fn=lambda t: lambda: 1)),
        TypeError,
        "scaffold_fn must return a tf.train.Scaffold. Given: 1",
    ),
    "a scaffold_fn that raises": (
        training(spec_with(scaffold_fn=lambda t: fail)),
        UsersError,
        "mine",
    ),
    "a scaffold_fn that isn't callable": (
        training(spec_with(scaffold_fn=7)),
        TypeError,
        "'int' object is not callable",
    ),
    "a scaffold whose init_fn raises": (
        lambda room: models.make_estimator(
            room.empty,
            models.CPU,
            spec_with(scaffold_fn=lambda t: lambda: tf.train.Scaffold(init_fn=fail)),
        ).train(models.train_input_fn, steps=1),
        UsersError,
        "mine",
    ),
    "cores that sum no gradients": (
        training(
            models.linear_model(
                lambda **t: {
                    "train_op": tf.train.GradientDescentOptimizer(0.1).minimize(
                        t["loss"], tf.train.get_global_step()
                    )
                }
            ),
            num_cores=TWO_CORES,
        ),
        ValueError,
        "CrossShardOptimizer must be used for model training on TPUs.*Wrap the optimizer",
    ),
    "an error of an operation": (
        training(
            spec_with(loss=lambda t: tf.debugging.check_numerics(t["loss"] * np.nan, "bad loss"))
        ),
        tf.errors.InvalidArgumentError,
        "bad loss : Tensor had NaN values.*answers.py",
    ),
    "labels that model_fn doesn't take": (
        training(lambda features, mode, params: None),
        ValueError,
        "model_fn does not take labels, but input_fn returns labels. Add a `labels` argument",
    ),
    "a variable of another shape than the checkpoint's": (
        training(variables_of(w={"shape": [4, 1]})),
        tf.errors.InvalidArgumentError,
        r"requires shapes of both tensors to match. w: \(4, 1\) in the model, \(3, 1\) saved",
    ),
    "a variable of another type than the checkpoint's": (
        training(variables_of(w={"shape": [3, 1], "dtype": tf.int32})),
        tf.errors.InvalidArgumentError,
        "Restoring from checkpoint failed.*tensor_name = w; expected dtype int32",
    ),
    "a variable that the checkpoint lacks": (
        training(variables_of(other={"shape": [3, 1]})),
        tf.errors.NotFoundError,
        "Restoring from checkpoint failed.*Key other not found in checkpoint",
    ),
    "a variable that the checkpoint lacks, in prediction": (
        predicting(variables_of(other={"shape": [3, 1]})),
        tf.errors.NotFoundError,
        "Restoring from checkpoint failed.*Key other not found in checkpoint",
    ),
    "a variable that is made twice": (
        training(
            lambda features, labels, mode, params: [tf.get_variable("w", [1]) for _ in range(2)]
        ),
        ValueError,
        "Variable w already exists, disallowed. Did you mean to set reuse=True",
    ),
    "export outputs that are no dict": (
        exporting(serving_input_receiver_fn, spec_with(export_outputs=lambda t: t["outputs"])),
        TypeError,
        "`export_outputs` must be dict, received: ",
    ),
}
