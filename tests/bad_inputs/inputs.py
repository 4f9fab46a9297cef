"""What `input_fn` gives."""

import models
import numpy as np
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES, X, Y

from bad_inputs.room import WARNS, UsersError, evaluating, fail, predicting, training


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


def _dense_features():
    return {"x": X}


def fours(params):
    return models.one_epoch_input_fn({**params, "batch_size": 4})


ON_CPU_AND_CORES = {"on CPU": CPU, "on cores": TWO_CORES}
CASES = {
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
    **{
        f"batches of four where eight were asked for, {where}": (
            evaluating(input_fn=fours, num_cores=num_cores),
            WARNS,
            r"input_fn gives batches of 4 examples, and params\['batch_size'\] is 8. Batch by params",
        )
        for where, num_cores in ON_CPU_AND_CORES.items()
    },
    **{
        f"data without end to evaluate, {where}": (
            evaluating(input_fn=models.train_input_fn, num_cores=num_cores),
            ValueError,
            r"input_fn gives data without end, and evaluate has no steps.*Pass evaluate\(steps=",
        )
        for where, num_cores in ON_CPU_AND_CORES.items()
    },
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
