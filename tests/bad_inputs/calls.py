"""Calls of an estimator: their arguments, and what the machine has."""

import models
import tensorflow.compat.v1 as tf
from models import TWO_CORES, serving_input_receiver_fn

import tpuest
from bad_inputs.room import (
    WARNS,
    Raising,
    UsersError,
    evaluating,
    exporting,
    fail,
    predicting,
    training,
)


def _next_of_closed(room):
    predictions = room.estimator().predict(models.one_epoch_input_fn)
    next(predictions)
    predictions.close()
    next(predictions)


def warm_starting(vars_to_warm_start):
    """Trains a step from the values of the variables that are so named."""

    def program(room):
        start = tpuest.WarmStartSettings(str(room.model_dir), vars_to_warm_start)
        models.make_estimator(room.empty, warm_start_from=start).train(
            models.train_input_fn, steps=1
        )

    return program


CASES = {
    "no steps": (training(call={"steps": 0}), ValueError, "Must specify steps > 0, given: 0"),
    "half a step": (
        training(call={"steps": 0.5}),
        TypeError,
        "Train steps must be int, got .*float",
    ),
    "a bool as steps": (
        training(call={"steps": True}),
        TypeError,
        "Train steps must be int, got .*bool",
    ),
    "negative max_steps": (
        training(call={"max_steps": -1}),
        ValueError,
        "Must specify max_steps > 0, given: -1",
    ),
    "steps and max_steps": (
        training(call={"steps": 1, "max_steps": 9}),
        ValueError,
        "Can not provide both steps and max_steps",
    ),
    "a function as hook": (
        training(call={"steps": 1, "hooks": [len]}),
        TypeError,
        "Hooks must be a SessionRunHook, given: .*len",
    ),
    "a hook without its list": (
        training(call={"steps": 1, "hooks": Raising("end")}),
        TypeError,
        r"Hooks must be a list, given: .*Write hooks=\[hook\]",
    ),
    "a hook's class": (
        training(call={"steps": 1, "hooks": [tf.train.SessionRunHook]}),
        TypeError,
        "Hooks must be a SessionRunHook, given: .*class",
    ),
    "a hook as listener": (
        training(call={"steps": 1, "saving_listeners": [Raising("end")]}),
        TypeError,
        "saving_listeners must be a list of CheckpointSaverListener, given: .*Raising",
    ),
    "no input_fn": (training(input_fn=None), TypeError, "None is not a callable object"),
    "a dataset in place of input_fn": (
        lambda room: room.estimator().train(models.train_input_fn({"batch_size": 8}), steps=1),
        TypeError,
        "Dataset.* is not a callable object",
    ),
    "evaluation of no steps": (
        evaluating(call={"steps": 0}),
        ValueError,
        "Must specify steps > 0, given: 0",
    ),
    "a hook of evaluation": (
        evaluating(call={"hooks": [1]}),
        TypeError,
        "Hooks must be a SessionRunHook, given: 1",
    ),
    "evaluation of a missing checkpoint": (
        evaluating(call={"checkpoint_path": "/none/model.ckpt-1"}),
        ValueError,
        "The passed save_path is not a valid checkpoint: /none/model.ckpt-1",
    ),
    "prediction with a missing checkpoint": (
        predicting(call={"checkpoint_path": "/none/model.ckpt-1"}),
        ValueError,
        "The passed save_path is not a valid checkpoint: /none/model.ckpt-1",
    ),
    "unknown predict_keys": (
        predicting(call={"predict_keys": ["nonsense"]}),
        ValueError,
        r"Expected to run at least one output from .*, provided \['nonsense'\]",
    ),
    "a string as predict_keys": (
        predicting(call={"predict_keys": "outputs"}),
        WARNS,
        r"predict_keys is the string 'outputs', which chooses .*: \['outputs'\]. Write predict_keys=\['outputs'\]",
    ),
    "a hook of prediction": (
        predicting(call={"hooks": [1]}),
        TypeError,
        "Hooks must be a SessionRunHook, given: 1",
    ),
    "an unknown variable": (
        lambda room: room.estimator().get_variable_value("nonsense"),
        tf.errors.NotFoundError,
        "Key nonsense not found in checkpoint",
    ),
    "a variable of no checkpoint": (
        lambda room: models.make_estimator(room.empty).get_variable_value("w"),
        ValueError,
        "Could not find trained model in model_dir: .*Train the estimator first",
    ),
    "an export without receiver": (
        exporting(None),
        ValueError,
        "An input_receiver_fn must be defined",
    ),
    "an export of no checkpoint": (
        lambda room: models.make_estimator(room.empty).export_saved_model(
            str(room.empty), serving_input_receiver_fn
        ),
        ValueError,
        "Couldn't find trained model at ",
    ),
    "an export of a missing checkpoint": (
        exporting(serving_input_receiver_fn, checkpoint_path="/none/model.ckpt-1"),
        ValueError,
        "The passed save_path is not a valid checkpoint: /none/model.ckpt-1",
    ),
    "a receiver_fn that gives nothing": (
        exporting(lambda: None),
        TypeError,
        "The input_receiver_fn must return a ServingInputReceiver or its like, given: None",
    ),
    "a receiver_fn that raises": (exporting(fail), UsersError, "mine"),
    "a receiver of no tensors": (
        exporting(lambda: tpuest.ServingInputReceiver({"x": 1}, {"x": 1})),
        ValueError,
        "feature x must be a Tensor, SparseTensor, or RaggedTensor",
    ),
    "a closed generator": (lambda room: _next_of_closed(room), StopIteration, ""),
    "an EvalSpec of no steps": (
        lambda room: tpuest.EvalSpec(models.one_epoch_input_fn, steps=0),
        ValueError,
        "Must specify steps > 0, given: 0",
    ),
    "a TrainSpec without input_fn": (
        lambda room: tpuest.TrainSpec(None, max_steps=1),
        TypeError,
        "`input_fn` must be callable, given: None",
    ),
    "train_and_evaluate without specs": (
        lambda room: tpuest.train_and_evaluate(room.estimator(), None, None),
        TypeError,
        "`eval_spec` must have type `tf.estimator.EvalSpec`. Got: .*NoneType",
    ),
    "a batch that two cores can't share": (
        training(num_cores=TWO_CORES, batch_size=7),
        ValueError,
        "train batch size 7 must be divisible by number of replicas 2.*pass 6 or 8",
    ),
    "more shards than cores": (
        training(num_cores=TWO_CORES, tpu_config={"num_shards": 8}),
        ValueError,
        r"TPUConfig.num_shards is not set correctly.*\(2\), got \(8\).*leave it as `None`",
    ),
    "more cores than there are": (
        lambda room: tpuest.simulate_tpu(1000),
        RuntimeError,
        "Cannot simulate 1000 TPU cores.*Call tpuest.simulate_tpu before the first op",
    ),
    "a negative number of cores": (
        lambda room: tpuest.simulate_tpu(-1),
        ValueError,
        "num_cores must not be negative, got -1",
    ),
    "cores in a string": (
        lambda room: tpuest.simulate_tpu("2"),
        TypeError,
        "num_cores must be int, got '2'",
    ),
    "no TPU": (
        lambda room: room.estimator(TWO_CORES).train(models.train_input_fn, steps=1),
        RuntimeError,
        "Cannot find any TPU cores in the system.*tpuest --doctor.*use_tpu=False",
    ),
    "the name of no TPU": (
        lambda room: room.estimator(TWO_CORES, master="nonsense").train(
            models.train_input_fn, steps=1
        ),
        RuntimeError,
        "Cannot find any TPU cores in the system. Looked for: TPU 'nonsense'.*tpuest --doctor",
    ),
    "a checkpoint whose tables the warm start misses": (
        lambda room: models.make_estimator(room.empty, warm_start_from="/none/model.ckpt-1").train(
            models.train_input_fn, steps=1
        ),
        tf.errors.NotFoundError,
        "Failed to find any matching files for /none/model.ckpt-1",
    ),
    "a warm start with a pattern that matches nothing": (
        warm_starting("nonsense"),
        WARNS,
        "vars_to_warm_start: no variable of the model matches 'nonsense': nothing is taken from .*model",
    ),
    "a warm start with a name that is no variable's": (
        warm_starting(["w", "nonsense"]),
        WARNS,
        "vars_to_warm_start: no variable of the model matches 'nonsense': nothing is taken from .*model",
    ),
    "a warm start with no name": (
        warm_starting([]),
        WARNS,
        r"vars_to_warm_start: no variable of the model matches \[\]: nothing is taken from .*model",
    ),
    "a warm start with a bad pattern": (
        warm_starting("["),
        ValueError,
        r"vars_to_warm_start must be a regular expression of variable names, got '\['",
    ),
}
