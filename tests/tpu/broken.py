"""Models that a TPU does not take, each with one line at fault.

Takes nothing; gives `BROKEN`: what is wrong by name. The line is the one with the mark "# at fault".
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import tpuest

v1 = tf.compat.v1
MARK = "# at fault"
BATCH_SIZE = 8
NUM_FEATURES = 4


@dataclasses.dataclass(frozen=True)
class Broken:
    """A program with one fault.

    Attributes:
      compute: gives a float loss from the features; holds the line at fault, unless `input_fn` does.
      input_fn: of the estimator.
      kind: of the finding, a `check_report.Kind`.
      what: a part of the finding's name or type.
      needs_compiler: whether only the TPU's compiler finds it.
    """

    compute: Callable
    input_fn: Callable
    kind: str
    what: str
    needs_compiler: bool = False

    @property
    def line(self) -> int:
        """The number of the line at fault in this file."""
        for function in (self.compute, self.input_fn):
            lines, first = inspect.getsourcelines(function)
            for offset, line in enumerate(lines):
                if MARK in line:
                    return first + offset
        raise LookupError(self.compute.__name__)

    def model_fn(self, features, labels, mode, params):
        weights = v1.get_variable("weights", [NUM_FEATURES, 1])
        self_made = self.compute(features)
        loss = tf.reduce_mean(tf.square(tf.matmul(features["x"], weights))) + self_made
        optimizer = tpuest.CrossShardOptimizer(v1.train.GradientDescentOptimizer(0.1))
        train_op = optimizer.minimize(loss, v1.train.get_global_step())
        return tpuest.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)


def features_of(num_examples=64):
    return {
        "x": np.ones([num_examples, NUM_FEATURES], np.float32),
        "n": np.full([num_examples], 3, np.int32),
    }


def good_input_fn(params):
    dataset = tf.data.Dataset.from_tensor_slices(features_of())
    return dataset.repeat().batch(params["batch_size"], drop_remainder=True)


def nothing(features):
    return 0.0


def string_input_fn(params):
    dataset = tf.data.Dataset.from_tensor_slices(features_of())
    dataset = dataset.map(lambda f: {**f, "text": tf.as_string(f["n"])})  # at fault
    return dataset.repeat().batch(params["batch_size"], drop_remainder=True)


def unknown_batch_input_fn(params):
    dataset = tf.data.Dataset.from_tensor_slices(features_of())
    dataset = dataset.batch(params["batch_size"])  # at fault
    return dataset.prefetch(1)


def unknown_length_input_fn(params):
    dataset = tf.data.Dataset.from_tensor_slices(features_of())
    dataset = dataset.map(lambda f: {**f, "ids": tf.range(f["n"])})  # at fault
    return dataset.padded_batch(params["batch_size"], drop_remainder=True)


def sparse_input_fn(params):
    dataset = tf.data.Dataset.from_tensor_slices(features_of())
    dataset = dataset.map(lambda f: {**f, "s": tf.sparse.from_dense(f["x"])})  # at fault
    return dataset.batch(params["batch_size"], drop_remainder=True)


def strings_as_tensors_input_fn(params):
    x = tf.ones([params["batch_size"], NUM_FEATURES])
    return {"x": x, "text": tf.as_string(x)}  # at fault


def py_function(features):
    y = tf.py_function(lambda x: x + 1, [features["x"]], tf.float32)  # at fault
    return tf.reduce_sum(tf.ensure_shape(y, features["x"].shape))


def numpy_function(features):
    y = v1.py_func(np.sin, [features["x"]], tf.float32)  # at fault
    return tf.reduce_sum(tf.reshape(y, [BATCH_SIZE, NUM_FEATURES]))


def print_in_step(features):
    with tf.control_dependencies([tf.print("x is", features["x"])]):  # at fault
        return tf.reduce_sum(tf.identity(features["x"]))


def old_print(features):
    return tf.reduce_sum(v1.Print(features["x"], [features["n"]]))  # at fault


def lookup_table(features):
    keys, values = tf.range(5), tf.ones([5])
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)
    return tf.reduce_sum(table.lookup(features["n"]))  # at fault


def summary_in_step(features):
    with tf.control_dependencies([v1.summary.histogram("x", features["x"])]):  # at fault
        return tf.reduce_sum(tf.identity(features["x"]))


def parse_in_step(features):
    words = tf.as_string(features["n"])  # at fault
    return tf.reduce_sum(tf.cast(tf.strings.length(words), tf.float32))


def determinant(features):
    square = tf.matmul(features["x"], features["x"], transpose_a=True)
    return tf.linalg.det(square)  # at fault


def determinant_in_branch(features):
    square = tf.matmul(features["x"], features["x"], transpose_a=True)

    def positive():
        return tf.linalg.det(square)  # at fault

    return tf.cond(tf.reduce_sum(square) > 0, positive, lambda: tf.constant(0.0))


def determinant_in_loop(features):
    square = tf.matmul(features["x"], features["x"], transpose_a=True)

    def advance(i, total):
        return i + 1, total + tf.stop_gradient(tf.linalg.det(square))  # at fault

    return tf.while_loop(lambda i, _: i < 3, advance, [0, 0.0])[1]


def int64_matmul(features):
    wide = tf.cast(features["x"], tf.int64)
    return tf.cast(tf.reduce_sum(tf.matmul(wide, wide, transpose_a=True)), tf.float32)  # at fault


def complex128(features):
    wide = tf.cast(features["x"], tf.complex128)  # at fault
    return tf.cast(tf.math.real(tf.reduce_sum(tf.signal.fft(wide))), tf.float32)


def float64_pool(features):
    scale = tf.cast(v1.get_variable("scale", []), tf.float64)
    image = scale * tf.cast(tf.reshape(features["x"], [BATCH_SIZE, 2, 2, 1]), tf.float64)
    pooled = tf.nn.max_pool2d(image, 2, 1, "SAME")  # at fault
    return tf.cast(tf.reduce_sum(pooled), tf.float32)


def length_from_a_tensor(features):
    return tf.reduce_sum(tf.cast(tf.range(features["n"][0]), tf.float32))  # at fault


def shape_from_a_tensor(features):
    return tf.reduce_sum(tf.ones([features["n"][0], 2]))  # at fault


def bicubic(features):
    image = tf.reshape(features["x"], [BATCH_SIZE, 2, 2, 1])
    return tf.reduce_sum(v1.image.resize_bicubic(image, [4, 4]))  # at fault


def sparse_matmul(features):
    eye, dense = tf.sparse.from_dense(tf.eye(NUM_FEATURES)), tf.transpose(features["x"])
    return tf.reduce_sum(tf.sparse.sparse_dense_matmul(eye, dense))  # at fault


def parameters_too_big(features):
    table = v1.get_variable("table", [6 * 2**20, 1024])  # at fault
    return tf.reduce_sum(tf.gather(table, features["n"]))


def activations_too_big(features):
    x = tf.reshape(tf.tile(features["x"][:, :1], [1, 2**14]), [BATCH_SIZE * 2**14, 1])
    products = tf.matmul(x, x, transpose_b=True)  # at fault
    return tf.reduce_sum(tf.linalg.svd(products + 1.0, compute_uv=False))


def _of_model(compute, kind, what, **more):
    return Broken(compute, good_input_fn, kind, what, **more)


def _of_input(input_fn, kind, what):
    return Broken(nothing, input_fn, kind, what)


BROKEN = {
    "string input": _of_input(string_input_fn, "host only", "features['text']"),
    "strings as tensors": _of_input(strings_as_tensors_input_fn, "host only", "features['text']"),
    "sparse input": _of_input(sparse_input_fn, "host only", "features['s']"),
    "unknown batch": _of_input(unknown_batch_input_fn, "dynamic shape", "features['x']"),
    "unknown length": _of_input(unknown_length_input_fn, "dynamic shape", "features['ids']"),
    "py_function": _of_model(py_function, "host only", "EagerPyFunc"),
    "py_func": _of_model(numpy_function, "host only", "PyFunc"),
    "tf.print": _of_model(print_in_step, "host only", "PrintV2"),
    "tf.Print": _of_model(old_print, "host only", "Print"),
    "lookup table": _of_model(lookup_table, "host only", "LookupTableFindV2"),
    "summary in the step": _of_model(summary_in_step, "host only", "HistogramSummary"),
    "strings in the step": _of_model(parse_in_step, "host only", "AsString"),
    "tf.linalg.det": _of_model(determinant, "not on a TPU", "MatrixDeterminant"),
    "tf.linalg.det in a branch": _of_model(
        determinant_in_branch, "not on a TPU", "MatrixDeterminant"
    ),
    "tf.linalg.det in a loop": _of_model(determinant_in_loop, "not on a TPU", "MatrixDeterminant"),
    "bicubic": _of_model(bicubic, "not on a TPU", "ResizeBicubic"),
    "sparse matmul": _of_model(sparse_matmul, "not on a TPU", "SparseTensorDenseMatMul"),
    "int64 matmul": _of_model(int64_matmul, "not on a TPU", "MatMul"),
    "complex128": _of_model(complex128, "not on a TPU", "Cast"),
    "float64 max-pool gradient": _of_model(float64_pool, "not on a TPU", "MaxPoolGrad"),
    "length from a tensor": _of_model(length_from_a_tensor, "refused", "Range"),
    "shape from a tensor": _of_model(shape_from_a_tensor, "refused", "Fill"),
    "parameters too big": _of_model(parameters_too_big, "too large", "table"),
    "activations too big": _of_model(
        activations_too_big, "too large", "MatMul", needs_compiler=True
    ),
}
