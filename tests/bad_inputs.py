"""The list of bad inputs and faults: name to (program, type of the error, what its message says).

A program is a function of a `Room` and does one thing wrong. `CASES` are run by `test_bad_inputs.py`.
"""

import contextlib
import dataclasses
import glob
import io
import os
import pathlib
from collections.abc import Callable

import models
import numpy as np
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES, X, Y

import tpuest
from tpuest import EstimatorSpec, InputPipelineConfig, TPUConfig, TPUEstimatorSpec, cli

# In place of an error's type: the program goes on, after a warning that says so.
WARNS = None
STEPS_BEFORE = 4
STEPS_AFTER = 8


@dataclasses.dataclass(frozen=True)
class Room:
    """Where a program runs.

    Attributes:
      model_dir: holds checkpoints of steps 2 and 4.
      empty: a path where nothing is.
    """

    model_dir: pathlib.Path
    empty: pathlib.Path

    def estimator(self, num_cores=CPU, model_fn=None, **options):
        return models.make_estimator(self.model_dir, num_cores, model_fn, **options)


# --- what is done with a room: each gives a program


def making(**arguments):
    """Makes an estimator of these arguments, everything else right."""
    right = {"model_fn": models.linear_model(), "train_batch_size": 8}

    def program(room):
        config = {"config": tpuest.RunConfig(model_dir=str(room.model_dir))}
        tpuest.TPUEstimator(**{**right, **config, **arguments})

    return program


def settings(**arguments):
    return lambda room: TPUConfig(**arguments)


def run_config(**arguments):
    return lambda room: tpuest.RunConfig(**arguments)


def training(model_fn=None, input_fn=models.train_input_fn, num_cores=CPU, call=None, **options):
    """Trains four steps on."""

    def program(room):
        arguments = call or {"max_steps": STEPS_AFTER}
        with models.simulation(num_cores):
            room.estimator(num_cores, model_fn, **options).train(input_fn, **arguments)

    return program


def evaluating(
    model_fn=None, input_fn=models.one_epoch_input_fn, num_cores=CPU, call=None, **options
):
    def program(room):
        with models.simulation(num_cores):
            room.estimator(num_cores, model_fn, **options).evaluate(input_fn, **(call or {}))

    return program


def predicting(
    model_fn=None, input_fn=models.one_epoch_input_fn, num_cores=CPU, call=None, **options
):
    def program(room):
        with models.simulation(num_cores):
            list(room.estimator(num_cores, model_fn, **options).predict(input_fn, **(call or {})))

    return program


def exporting(receiver_fn, model_fn=None, **call):
    def program(room):
        room.estimator(CPU, model_fn).export_saved_model(str(room.empty), receiver_fn, **call)

    return program


def command(*arguments):
    """Gives the `tpuest` command arguments that it refuses before it changes the process; stderr is the message."""

    def program(room):
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            raise SystemExit(f"{end.code}: {errors.getvalue()}") from None

    return program


# --- models


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


class UsersError(Exception):
    """An error of the user's own."""


def fail(*arguments, **named):
    raise UsersError("mine")


def model_that_fails(features, labels, mode, params):
    fail()


# --- inputs


def giving(value):
    """Gives an `input_fn` that returns a value, or what a function makes of `params`."""

    def input_fn(params):
        return value(params) if callable(value) else value

    return input_fn


def batches(features, labels=Y, drop_remainder=True):
    """Gives an `input_fn` of features made by a function, so that no graph is touched before it is called."""

    def input_fn(params):
        dataset = tf.data.Dataset.from_tensor_slices((features(), labels)).repeat()
        return dataset.batch(params["batch_size"], drop_remainder=drop_remainder)

    return input_fn


def failing_at(batch):
    """Gives the usual batches; reading the numbered one is an error of Python."""

    def check(index):
        if index == batch:
            fail()
        return index

    def input_fn(params):
        def checked(index, element):
            index = tf.py_func(check, [index], tf.int64)
            with tf.control_dependencies([index]):
                return tf.nest.map_structure(tf.identity, element)

        return models.train_input_fn(params).enumerate().map(checked)

    return input_fn


def generated(values, dtype=tf.float32):
    """Gives an `input_fn` of a Python generator."""

    def input_fn(params):
        shapes = ({"x": [3]}, [1])
        dataset = tf.data.Dataset.from_generator(
            lambda: iter(values), ({"x": dtype}, tf.float32), shapes
        )
        return dataset.batch(params["batch_size"], drop_remainder=True)

    return input_fn


# --- hooks


class Raising(tf.train.SessionRunHook):
    """Raises the user's error in one of its callbacks."""

    def __init__(self, callback):
        setattr(self, callback, fail)


class RaisingListener(tf.train.CheckpointSaverListener):
    def __init__(self, callback):
        setattr(self, callback, fail)


class Fetching(tf.train.SessionRunHook):
    """Asks for a tensor at every step."""

    def __init__(self, name):
        self._name = name

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._name)


# --- the checkpoints


@dataclasses.dataclass(frozen=True)
class Damaged:
    """A program that meets damaged files.

    Attributes:
      pattern: of the files in the model's directory.
      damage: what is done to each, given its path.
      program: runs afterwards.
    """

    pattern: str
    damage: Callable
    program: Callable

    def strike(self, room):
        for path in glob.glob(str(room.model_dir / self.pattern)):
            self.damage(path)

    def __call__(self, room):
        self.program(room)


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


def _dense_features():
    return {"x": X}


def serving_input_receiver_fn():
    """Takes rows of x."""
    x = tf.placeholder(tf.float32, [None, 3])
    return tpuest.ServingInputReceiver({"x": x}, {"x": x})


def _plain(mode, loss):
    step = tf.assign_add(tf.train.get_global_step(), 1).op
    return EstimatorSpec(mode, loss=loss, train_op=step, predictions={"loss": loss})


def _from_another_graph(tensors):
    with tf.Graph().as_default():
        return tf.constant(1.0)


CONSTRUCTOR = {
    "no train_batch_size": (
        making(train_batch_size=None),
        ValueError,
        "`train_batch_size` cannot be `None`",
    ),
    "a batch size in a string": (
        making(train_batch_size="8"),
        TypeError,
        "train_batch_size must be int, got .*str",
    ),
    "a float batch size": (
        making(train_batch_size=8.0),
        TypeError,
        "train_batch_size must be int, got .*float",
    ),
    "a negative batch size": (
        making(train_batch_size=-8),
        ValueError,
        "train_batch_size must be positive, got -8",
    ),
    "no examples to evaluate": (
        making(eval_batch_size=0),
        ValueError,
        "eval_batch_size must be positive, got 0",
    ),
    "half an example to predict": (
        making(predict_batch_size=0.5),
        TypeError,
        "predict_batch_size must be int, got .*float",
    ),
    "a reserved parameter": (
        making(params={"batch_size": 8}),
        ValueError,
        "are reserved keys but existed in params .*batch_size",
    ),
    "another reserved parameter": (
        making(params={"context": None}),
        ValueError,
        "are reserved keys but existed in params .*context",
    ),
    "a plain RunConfig for cores": (
        making(config=tpuest.run_config.RunConfig()),
        ValueError,
        "`config` must be provided with type `tpu_config.RunConfig`",
    ),
    "a dict as config": (
        making(config={"model_dir": "/tmp"}, use_tpu=False),
        ValueError,
        "`config` must be provided with type `tpu_config.RunConfig`",
    ),
    "no model_fn": (making(model_fn=None), ValueError, "model_fn must be provided to Estimator"),
    "a model_fn that isn't callable": (
        making(model_fn="model"),
        TypeError,
        "'model' is not a callable object",
    ),
    "a spec in place of model_fn": (
        making(model_fn=TPUEstimatorSpec("infer", predictions={})),
        TypeError,
        "TPUEstimatorSpec.* is not a callable object",
    ),
    "a model_fn without features": (
        making(model_fn=lambda x, y: None),
        ValueError,
        r"model_fn \(.*bad_inputs.py:\d+\) must include features argument",
    ),
    "a model_fn of unknown arguments": (
        making(model_fn=lambda features, labels, is_training: None),
        ValueError,
        r"has following not expected args: \['is_training'\].*`params`",
    ),
    "params for a model_fn without": (
        making(model_fn=lambda features, labels: None, params={"a": 1}),
        ValueError,
        "does not include params argument, but params .*'a': 1.* is passed",
    ),
    "a list as params": (
        making(params=[1]),
        TypeError,
        r"`params` is expected to be a dict. Got \[1\]",
    ),
    "two directories": (
        making(model_dir="/elsewhere"),
        ValueError,
        "`model_dir` are set both in constructor and `RunConfig`.*'/elsewhere'",
    ),
    "export version 3": (
        making(export_saved_model_api_version=3),
        ValueError,
        "export_saved_model_api_version should be 1 or 2; got 3",
    ),
    "a dict as embedding_config_spec": (
        making(embedding_config_spec={}),
        TypeError,
        "embedding_config_spec must be an EmbeddingConfigSpec, got .*dict",
    ),
    "a number to warm-start from": (
        making(warm_start_from=7),
        ValueError,
        "warm_start_from must be a string or a WarmStartSettings, instead got .*int",
    ),
    "an unknown argument": (
        making(nonsense=1),
        TypeError,
        "unexpected keyword argument 'nonsense'",
    ),
    "model parallelism for each shard": (
        making(
            config=tpuest.RunConfig(
                tpu_config=TPUConfig(num_cores_per_replica=2, per_host_input_for_training=False)
            )
        ),
        ValueError,
        "Model parallelism only supports per host input for training",
    ),
}

CONFIG = {
    "an unknown unit of iterations": (
        settings(iterations_per_loop="5x"),
        ValueError,
        "Invalid TPUConfig `iterations_per_loop` value.*Got '5x'",
    ),
    "no iterations": (
        settings(iterations_per_loop=0),
        ValueError,
        "Invalid TPUConfig `iterations_per_loop` value.*Got 0",
    ),
    "half an iteration": (
        settings(iterations_per_loop=0.5),
        ValueError,
        "Invalid TPUConfig `iterations_per_loop` value.*Got 0.5",
    ),
    "iterations None": (
        settings(iterations_per_loop=None),
        ValueError,
        "Invalid TPUConfig `iterations_per_loop` value.*Got None",
    ),
    "no shards": (
        settings(num_shards=0),
        ValueError,
        "TPUConfig num_shards must be positive, got 0",
    ),
    "shards in a string": (
        settings(num_shards="8"),
        TypeError,
        "TPUConfig num_shards must be int, got .*str",
    ),
    "three cores a replica": (
        settings(num_cores_per_replica=3),
        ValueError,
        "num_cores_per_replica must be 1, 2, 4, .*; got 3",
    ),
    "a list as cores a replica": (
        settings(num_cores_per_replica=[2]),
        ValueError,
        r"num_cores_per_replica must be 1, 2, 4, .*; got \[2\]",
    ),
    "three partitions": (
        settings(input_partition_dims=[1, 2, 3]),
        ValueError,
        r"input_partition_dims must be a list/tuple with one or two elements, got \[1, 2, 3\]",
    ),
    "a number as partitions": (
        settings(input_partition_dims=3),
        ValueError,
        "input_partition_dims must be a list/tuple with one or two elements, got 3",
    ),
    "partitions of one core": (
        settings(
            input_partition_dims=[[1, 2]],
            per_host_input_for_training=InputPipelineConfig.PER_HOST_V2,
        ),
        ValueError,
        "input_partition_dims requires setting num_cores_per_replica",
    ),
    "partitions of a host's batch": (
        settings(input_partition_dims=[[1, 2]], num_cores_per_replica=2),
        ValueError,
        "input_partition_dims is only supported in PER_HOST_V2 mode",
    ),
    "an unknown way of input": (
        settings(per_host_input_for_training="yes"),
        ValueError,
        "per_host_input_for_training must be a boolean, .*BROADCAST; got yes",
    ),
    "an unknown way of evaluation": (
        settings(eval_training_input_configuration=3),
        ValueError,
        "eval_training_input_configuration must be PER_HOST_V1 or SLICED; got 3",
    ),
    "a host call every 0 steps": (
        settings(experimental_host_call_every_n_steps=0),
        ValueError,
        "experimental_host_call_every_n_steps must be positive, got 0",
    ),
    "an unknown setting": (
        settings(nonsense=1),
        TypeError,
        "unexpected keyword argument 'nonsense'",
    ),
    "checkpoints by two clocks": (
        run_config(save_checkpoints_secs=1, save_checkpoints_steps=1),
        ValueError,
        "`save_checkpoints_steps` and `save_checkpoints_secs` cannot be both set",
    ),
    "a negative period": (
        run_config(save_checkpoints_steps=-1),
        ValueError,
        "save_checkpoints_steps should be >= 0, got -1",
    ),
    "a negative number of checkpoints": (
        run_config(keep_checkpoint_max=-1),
        ValueError,
        "keep_checkpoint_max should be >= 0, got -1",
    ),
    "a seed in a string": (
        run_config(tf_random_seed="1"),
        ValueError,
        "tf_random_seed must be integer, got '1'",
    ),
    "a number as session_config": (
        run_config(session_config=1),
        ValueError,
        "session_config must be instance of ConfigProto, got 1",
    ),
    "no model_dir but an empty one": (
        run_config(model_dir=""),
        ValueError,
        "model_dir should be non-empty",
    ),
    "an unknown argument of RunConfig": (
        run_config(nonsense=1),
        TypeError,
        "unexpected keyword argument 'nonsense'",
    ),
    "a dict as tpu_config": (
        run_config(tpu_config={"iterations_per_loop": 1}),
        TypeError,
        "tpu_config must be a TPUConfig, got .*iterations_per_loop",
    ),
    "a master and a cluster": (
        run_config(
            master="local",
            cluster=tf.distribute.cluster_resolver.SimpleClusterResolver(tf.train.ClusterSpec({})),
        ),
        ValueError,
        "Both master and cluster are set.*pass `cluster` only",
    ),
}

CALLS = {
    "no steps": (training(call={"steps": 0}), ValueError, "Must specify steps > 0, given: 0"),
    "half a step": (
        training(call={"steps": 0.5}),
        TypeError,
        "Train steps must be int, got .*float",
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
    "a checkpoint whose tables the warm start misses": (
        lambda room: models.make_estimator(room.empty, warm_start_from="/none/model.ckpt-1").train(
            models.train_input_fn, steps=1
        ),
        tf.errors.NotFoundError,
        "Failed to find any matching files for /none/model.ckpt-1",
    ),
    "a warm start with a bad pattern": (
        lambda room: models.make_estimator(
            room.empty,
            warm_start_from=tpuest.WarmStartSettings(str(room.model_dir), vars_to_warm_start="["),
        ).train(models.train_input_fn, steps=1),
        ValueError,
        r"vars_to_warm_start must be a regular expression of variable names, got '\['",
    ),
}


def _next_of_closed(room):
    predictions = room.estimator().predict(models.one_epoch_input_fn)
    next(predictions)
    predictions.close()
    next(predictions)


INPUTS = {
    "a list of examples": (
        training(input_fn=giving([{"x": X}] * 3)),
        ValueError,
        r"input_fn should return \(features, labels\) as a len 2 tuple. Got 3 items",
    ),
    "three items": (
        training(input_fn=giving(lambda params: (tf.constant([1.0]),) * 3)),
        ValueError,
        r"input_fn should return \(features, labels\) as a len 2 tuple. Got 3 items",
    ),
    "an unknown argument of input_fn": (
        training(input_fn=lambda batch_size: None),
        TypeError,
        "missing 1 required positional argument: 'batch_size'",
    ),
    "an input_fn that raises": (training(input_fn=fail), UsersError, "mine"),
    "a missing feature": (training(input_fn=batches(lambda: {"y": X})), KeyError, "'x'"),
    "a feature of another shape": (
        training(input_fn=batches(lambda: {"x": X[:, :2]})),
        ValueError,
        "Dimensions must be equal, but are 2 and 3",
    ),
    "a feature of another type": (
        training(input_fn=batches(lambda: {"x": X.astype(int)})),
        (TypeError, ValueError),
        "has type float32 that does not match type int64",
    ),
    "no labels": (
        training(input_fn=lambda params: models.train_input_fn(params).map(lambda x, y: x)),
        ValueError,
        "None values not supported",
    ),
    "labels of another shape": (
        training(input_fn=batches(_dense_features, np.zeros([40, 3, 2]))),
        TypeError,
        "has type float64 that does not match type float32",
    ),
    "features and labels of different length": (
        training(input_fn=batches(_dense_features, Y[:7])),
        ValueError,
        "Dimensions 40 and 7 are not compatible",
    ),
    "strings on cores": (
        training(input_fn=batches(lambda: {"x": X, "name": ["a"] * 40}), num_cores=TWO_CORES),
        ValueError,
        r"features\['name'\] is .*dtype=string.*Encode it in input_fn",
    ),
    "ragged features on cores": (
        training(
            input_fn=batches(lambda: {"x": tf.ragged.constant([[1.0]] * 40)}), num_cores=TWO_CORES
        ),
        ValueError,
        r"features\['x'\] is tf.RaggedTensor.*to_tensor",
    ),
    "sparse features on cores": (
        training(input_fn=batches(lambda: {"x": tf.sparse.from_dense(X)}), num_cores=TWO_CORES),
        ValueError,
        r"features\['x'\] is SparseTensor.*to_dense",
    ),
    "a batch of unknown size on cores": (
        training(input_fn=batches(_dense_features, drop_remainder=False), num_cores=TWO_CORES),
        ValueError,
        r"must have static shape. Tensor: features\['x'\].*drop_remainder=True",
    ),
    "examples that aren't batched on cores": (
        training(
            input_fn=lambda params: tf.data.Dataset.from_tensor_slices(({"x": X[:, 0]}, Y[:, 0])),
            num_cores=TWO_CORES,
        ),
        ValueError,
        r"features\['x'\] is .*without a batch dimension.*Batch the dataset",
    ),
    "an odd batch for two cores": (
        training(
            input_fn=lambda params: models.train_input_fn({"batch_size": 5}), num_cores=TWO_CORES
        ),
        ValueError,
        r"batches of 5 examples, which cannot be split over 2 cores. Use params\['batch_size'\]",
    ),
    "an unknown rank on cores": (
        training(
            input_fn=lambda params: models.train_input_fn(params).map(
                lambda x, y: ({"x": tf.py_func(lambda v: v, [x["x"]], tf.float32)}, y)
            ),
            num_cores=TWO_CORES,
        ),
        ValueError,
        r"must have static shape. Tensor: features\['x'\]",
    ),
    "an error at the first batch": (
        training(input_fn=failing_at(0)),
        tf.errors.OpError,
        "UsersError: mine",
    ),
    "an error in the middle": (
        training(input_fn=failing_at(2)),
        tf.errors.OpError,
        "UsersError: mine",
    ),
    "an error in the middle on cores": (
        training(input_fn=failing_at(2), num_cores=TWO_CORES),
        tf.errors.OpError,
        "UsersError: mine",
    ),
    "an error in evaluation": (
        evaluating(input_fn=failing_at(2), call={"steps": 5}),
        tf.errors.OpError,
        "UsersError: mine",
    ),
    "an error in prediction": (
        predicting(input_fn=failing_at(2)),
        tf.errors.OpError,
        "UsersError: mine",
    ),
    "a generator of another type": (
        training(input_fn=generated([({"x": ["a", "b", "c"]}, [1.0])] * 8)),
        tf.errors.OpError,
        r"The expected type was float32, but the yielded element was \['a', 'b', 'c'\]",
    ),
    "a generator of another shape": (
        training(input_fn=generated([({"x": [1.0, 2.0]}, [1.0])] * 8)),
        tf.errors.OpError,
        r"yielded an element of shape \(2,\) where an element of shape \(3,\) was expected",
    ),
    "a generator of another structure": (
        training(input_fn=generated([{"x": [1.0, 2.0, 3.0]}] * 8)),
        tf.errors.OpError,
        "yielded an element that did not match the expected structure",
    ),
    "no data to evaluate": (
        evaluating(input_fn=lambda params: models.one_epoch_input_fn(params).take(0)),
        WARNS,
        "Evaluation made no steps: its results mean nothing. Perhaps input is empty",
    ),
    "no data to evaluate on cores": (
        evaluating(
            input_fn=lambda params: models.one_epoch_input_fn(params).take(0), num_cores=TWO_CORES
        ),
        WARNS,
        "Evaluation made no steps: its results mean nothing. Perhaps input is empty",
    ),
}


def _two(labels, outputs):
    return {}


def _metric(function, *names):
    return lambda tensors: (function, [tensors[name] for name in names])


MODELS = {
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
            CPU,
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
        "bad loss : Tensor had NaN values.*bad_inputs.py",
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

HOOKS = {
    **{
        f"a hook that raises in {callback}": (
            training(call={"max_steps": STEPS_AFTER, "hooks": [Raising(callback)]}),
            UsersError,
            "mine",
        )
        for callback in ("begin", "after_create_session", "before_run", "after_run", "end")
    },
    **{
        f"a listener that raises in {callback}": (
            training(
                call={"max_steps": STEPS_AFTER, "saving_listeners": [RaisingListener(callback)]}
            ),
            UsersError,
            "mine",
        )
        for callback in ("begin", "before_save", "after_save", "end")
    },
    "a hook that raises in evaluation": (
        evaluating(call={"hooks": [Raising("after_run")]}),
        UsersError,
        "mine",
    ),
    "a hook that raises in prediction": (
        predicting(call={"hooks": [Raising("after_run")]}),
        UsersError,
        "mine",
    ),
    "a hook that asks for an unknown tensor": (
        training(call={"steps": 1, "hooks": [Fetching("nonsense:0")]}),
        ValueError,
        "'nonsense:0' refers to a Tensor which does not exist",
    ),
    "a hook that asks for a number": (
        training(call={"steps": 1, "hooks": [Fetching(7)]}),
        TypeError,
        "`fetch` = 7 has invalid type",
    ),
}

DAMAGED = {
    "all checkpoints damaged, evaluated": (
        Damaged("model.ckpt-*.data*", truncate, evaluating()),
        tf.errors.OpError,
        "Read less bytes than requested",
    ),
    "all indices damaged, trained": (
        Damaged("model.ckpt-*.index", truncate, training()),
        tf.errors.DataLossError,
        "not an sstable",
    ),
    "the list of checkpoints cut off": (
        Damaged("checkpoint", truncate, training()),
        WARNS,
        "file 'checkpoint' is damaged: taking .*model.ckpt-4",
    ),
    "no index file": (
        Damaged("model.ckpt-4.index", os.remove, training()),
        WARNS,
        "The newest checkpoint of .* is missing.* taking .*model.ckpt-2",
    ),
    "no data file": (
        Damaged("model.ckpt-4.data*", os.remove, training()),
        WARNS,
        "model.ckpt-4 is damaged, taking the one before",
    ),
}

COMMAND = {
    "no script": (command(), SystemExit, "a script or -m MODULE is needed"),
    "a script that isn't there": (
        command("/none/script.py"),
        SystemExit,
        "can't open file '/none/script.py'",
    ),
    "no simulated cores": (
        command("--simulate-tpu", "0", "script.py"),
        SystemExit,
        "--simulate-tpu: must be a positive number of cores, got '0'",
    ),
    "simulated cores in words": (
        command("--simulate-tpu", "two", "script.py"),
        SystemExit,
        "--simulate-tpu: must be a positive number of cores, got 'two'",
    ),
    "simulated cores left out": (
        command("--simulate-tpu"),
        SystemExit,
        "--simulate-tpu: expected one argument",
    ),
    "an unknown TPU": (
        command("--check=v9", "script.py"),
        SystemExit,
        "There is no TPU 'v9' to compile for. Give a kind",
    ),
    "an unknown topology": (
        command("--check=v5e:3x5", "script.py"),
        SystemExit,
        "There is no TPU 'v5e:3x5' to compile for. Give a kind",
    ),
    "exactness of no check": (
        command("--exact", "script.py"),
        SystemExit,
        "--exact goes with --check",
    ),
    "both dialects": (
        command("--tf1", "--tf2", "script.py"),
        SystemExit,
        "--tf2: not allowed with argument --tf1",
    ),
    "an unknown option": (
        command("--nonsense", "script.py"),
        SystemExit,
        "unrecognized arguments: --nonsense",
    ),
}

CASES = {**CONSTRUCTOR, **CONFIG, **CALLS, **INPUTS, **MODELS, **HOOKS, **DAMAGED, **COMMAND}
