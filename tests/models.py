"""A tiny linear model, its data, and readers of what a run leaves behind."""

import contextlib
import glob
import os

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import tpuest
from tpuest import ModeKeys, TPUEstimatorSpec, wheels

BATCH_SIZE = 8
NUM_EXAMPLES = 40
X = np.random.RandomState(0).rand(NUM_EXAMPLES, 3).astype(np.float32)
Y = (X @ np.array([[1.0], [2.0], [3.0]]) + 1).astype(np.float32)

lowers_steps = pytest.mark.skipif(
    bool(wheels.find_versions("tensorflow-tpu")), reason="tensorflow-tpu has no XLA for the host"
)

# None is use_tpu=False, a number that many simulated cores.
CPU, ONE_CORE, TWO_CORES, EIGHT_CORES = None, 1, 2, 8


@contextlib.contextmanager
def simulation(num_cores):
    """Simulates cores inside it; the process got its logical devices before the first test."""
    tpuest.simulate_tpu(num_cores or 0)
    try:
        yield
    finally:
        tpuest.simulate_tpu(0)


def linear_model(extra=None, calls=None, metric_fn=None, learning_rate=0.1, predictions=None):
    """Gives a `model_fn`: outputs = x w + b, mean squared error, gradient descent.

    Args:
      extra: gives more fields of the spec from the tensors of the model, by name.
      calls: a list that gets each call's mode.
      metric_fn: of labels and outputs; `None` for mean absolute error.
      learning_rate: of the optimizer.
      predictions: gives the predictions from features and outputs.
    """

    def model_fn(features, labels, mode, params):
        if calls is not None:
            calls.append(mode)
        x = features["x"]
        w = tf.get_variable("w", [3, 1], initializer=tf.zeros_initializer())
        b = tf.get_variable("b", [1], initializer=tf.zeros_initializer())
        outputs = tf.add(x @ w, b, name="outputs")
        if mode == ModeKeys.PREDICT:
            made = predictions(features, outputs) if predictions else {"outputs": outputs, "x": x}
            more = extra(mode=mode, outputs=outputs, w=w, b=b) if extra else {}
            return TPUEstimatorSpec(mode, predictions=made, **more)
        loss = tf.reduce_mean(tf.square(outputs - labels), name="training_loss")
        optimizer = tf.train.GradientDescentOptimizer(learning_rate)
        if params.get("use_tpu"):
            optimizer = tf.tpu.CrossShardOptimizer(optimizer)
        gradients = optimizer.compute_gradients(loss, [w, b])
        train_op = optimizer.apply_gradients(gradients, tf.train.get_global_step())
        tensors = {
            "mode": mode,
            "loss": loss,
            "outputs": outputs,
            "labels": labels,
            "w": w,
            "b": b,
            "x": x,
        }
        fields = {
            "loss": loss,
            "train_op": train_op,
            "eval_metrics": (metric_fn or mean_absolute_error, [labels, outputs]),
            **(extra(**tensors) if extra else {}),
        }
        return TPUEstimatorSpec(mode, **fields)

    return model_fn


def mean_absolute_error(labels, outputs):
    return {"error": tf.metrics.mean_absolute_error(labels, outputs)}


def train_input_fn(params):
    dataset = tf.data.Dataset.from_tensor_slices(({"x": X}, Y)).repeat()
    return dataset.batch(params["batch_size"], drop_remainder=True)


def one_epoch_input_fn(params):
    """Gives NUM_EXAMPLES examples: five whole batches."""
    dataset = tf.data.Dataset.from_tensor_slices(({"x": X}, Y))
    return dataset.batch(params["batch_size"], drop_remainder=True)


def examples_input_fn(num_examples):
    """Gives an `input_fn` of the first examples; the last batch may be smaller."""

    def input_fn(params):
        dataset = tf.data.Dataset.from_tensor_slices(({"x": X[:num_examples]}, Y[:num_examples]))
        return dataset.batch(params["batch_size"])

    return input_fn


def serving_input_receiver_fn():
    """Takes rows of x."""
    x = tf.placeholder(tf.float32, [None, 3])
    return tpuest.ServingInputReceiver({"x": x}, {"x": x})


def make_estimator(
    model_dir,
    num_cores=CPU,
    model_fn=None,
    iterations_per_loop=1,
    tpu_config=None,
    params=None,
    batch_size=BATCH_SIZE,
    warm_start_from=None,
    eval_on_tpu=True,
    **run_config,
):
    """Gives an estimator of the linear model, quiet unless `run_config` says otherwise."""
    options = {"save_checkpoints_steps": 1000, "save_summary_steps": 0, **run_config}
    config = tpuest.RunConfig(
        tpu_config=tpuest.TPUConfig(iterations_per_loop, **(tpu_config or {})), **options
    )
    return tpuest.TPUEstimator(
        model_fn or linear_model(),
        str(model_dir),
        config,
        params,
        use_tpu=num_cores is not CPU,
        train_batch_size=batch_size,
        eval_batch_size=batch_size,
        predict_batch_size=batch_size,
        warm_start_from=warm_start_from,
        eval_on_tpu=eval_on_tpu,
    )


class CountRuns(tf.train.SessionRunHook):
    """Notes what it is called for, in `events`."""

    def __init__(self):
        self.events = []

    def begin(self):
        self.events.append("begin")

    def after_create_session(self, session, coord):
        self.events.append("session")

    def after_run(self, run_context, run_values):
        self.events.append("run")

    def end(self, session):
        self.events.append("end")


def trained(num_steps, w=None, b=None, first_step=0, batch_size=BATCH_SIZE, learning_rate=0.1):
    """Computes in numpy what training gives: `(losses, w, b)`; `losses` before each step."""
    w = np.zeros([3, 1], np.float32) if w is None else w
    b = np.zeros([1], np.float32) if b is None else b
    losses = []
    for step in range(first_step, first_step + num_steps):
        rows = np.arange(step * batch_size, (step + 1) * batch_size) % NUM_EXAMPLES
        x, y = X[rows], Y[rows]
        difference = x @ w + b - y
        losses.append(np.mean(difference**2))
        w = w - learning_rate * 2 * x.T @ difference / len(rows)
        b = b - learning_rate * 2 * difference.mean(axis=0)
    return losses, w, b


def checkpoint_steps(model_dir):
    """Lists the global steps of the checkpoints that are there."""
    paths = glob.glob(os.path.join(str(model_dir), "model.ckpt-*.index"))
    return sorted(int(path[: -len(".index")].rsplit("-", 1)[1]) for path in paths)


def read_events(directory):
    """Lists the events of a directory, in the order of their files."""
    for writer in list(tf.summary.FileWriterCache._cache.values()):
        writer.flush()
    paths = sorted(glob.glob(os.path.join(str(directory), "events.*")))
    return [event for path in paths for event in tf.train.summary_iterator(path)]


def read_scalars(directory, tag):
    """Gives step to value of a scalar, of TF 1 or TF 2, in a directory's events."""
    values = {}
    for event in read_events(directory):
        for value in event.summary.value:
            if value.tag == tag:
                is_tensor = value.HasField("tensor")
                values[event.step] = (
                    float(tf.make_ndarray(value.tensor)) if is_tensor else value.simple_value
                )
    return values


def read_tags(directory):
    return {value.tag for event in read_events(directory) for value in event.summary.value}
