"""One of two workers that train together; `test_workers` starts both.

    worker_program.py INDEX PORT PORT DIRECTORY SCENARIO...

Prints one line of JSON for each scenario: what its function, below, gives.
"""

import json
import os
import sys

import numpy as np

INDEX = int(sys.argv[1])
TASKS = {"master": [f"127.0.0.1:{sys.argv[2]}"], "worker": [f"127.0.0.1:{sys.argv[3]}"]}
TASK = {"type": ("master", "worker")[INDEX], "index": 0}
DIRECTORY = sys.argv[4]
os.environ["TF_CONFIG"] = json.dumps({"cluster": TASKS, "task": TASK})

import models
import tensorflow.compat.v1 as tf

import tpuest

tf.disable_v2_behavior()  # as old programs begin


def model_fn(features, labels, mode):
    w = tf.get_variable("w", [3, 1])  # a random value, of the chief's
    b = tf.get_variable("b", [1], initializer=tf.zeros_initializer())
    outputs = features["x"] @ w + b
    loss = tf.reduce_mean(tf.square(outputs - labels))
    train_op = tf.train.GradientDescentOptimizer(0.1).minimize(loss, tf.train.get_global_step())
    metrics = {"error": tf.metrics.mean_absolute_error(labels, outputs)}
    return tpuest.EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops=metrics)


def input_fn(num_batches):
    """Gives every other half batch of the data, at most `num_batches`; `None` has no end."""

    def shard(input_context):
        dataset = tf.data.Dataset.from_tensor_slices(({"x": models.X}, models.Y))
        dataset = dataset.batch(models.BATCH_SIZE // 2)
        dataset = dataset.shard(input_context.num_input_pipelines, input_context.input_pipeline_id)
        return dataset.repeat() if num_batches is None else dataset.take(num_batches)

    return shard


def eval_input_fn():
    return tf.data.Dataset.from_tensor_slices(({"x": models.X}, models.Y)).batch(8)


class Watch(tf.train.SessionRunHook):
    """Counts the steps, and keeps what the worker's own variables are at the end."""

    num_steps = 0

    def begin(self):
        self._variables = {v.op.name: v for v in tf.trainable_variables()}

    def after_run(self, run_context, run_values):
        self.num_steps += 1

    def end(self, session):
        self.values = {n: np.ravel(v).tolist() for n, v in session.run(self._variables).items()}


def estimator(name):
    config = tpuest.RunConfig(
        model_dir=os.path.join(DIRECTORY, name), save_checkpoints_steps=3, save_summary_steps=2
    )
    return tpuest.Estimator(model_fn, config=config)


def together():
    watch = Watch()
    train_spec = tpuest.TrainSpec(input_fn(None), max_steps=7, hooks=[watch])
    eval_spec = tpuest.EvalSpec(eval_input_fn, throttle_secs=0)
    trained = estimator("together")
    tpuest.train_and_evaluate(trained, train_spec, eval_spec)
    return {**watch.values, "last checkpoint": int(trained.get_variable_value("global_step"))}


def data_that_ends_earlier_on_one():
    watch = Watch()
    estimator("data").train(input_fn(3 + INDEX), hooks=[watch])
    return watch.num_steps


def data_that_ends_earlier_on_one_without_hooks():
    trained = estimator("no_hooks").train(input_fn(3 + INDEX))
    return int(trained.get_variable_value("global_step"))


def the_chief_stops_early():
    watch, trained = Watch(), estimator("early")
    stop = tpuest.make_early_stopping_hook(
        trained, lambda: watch.num_steps >= 2, run_every_secs=None, run_every_steps=1
    )
    trained.train(input_fn(None), hooks=[watch, stop], steps=100)
    return watch.num_steps


def one_fetches_something_else():
    class Fetch(tf.train.SessionRunHook):
        def before_run(self, run_context):
            return tf.train.SessionRunArgs("sub:0" if INDEX else [])

    try:
        estimator("other").train(input_fn(None), hooks=[Fetch()], steps=3)
    except RuntimeError as error:
        return str(error)
    return None


class Report(tf.train.SessionRunHook):
    """Says how many steps this worker has run."""

    def after_run(self, run_context, run_values):
        print(json.dumps(int(run_context.session.run("global_step:0"))), flush=True)


def until_killed():
    estimator("killed").train(input_fn(None), hooks=[Report()], steps=10**6)


def resumed():
    watch, resumes = Watch(), estimator("killed")
    start = int(resumes.get_variable_value("global_step"))
    resumes.train(input_fn(None), hooks=[watch], steps=4)
    return {"start": start, **watch.values}


for name in sys.argv[5:]:
    print(json.dumps(globals()[name]()), flush=True)
