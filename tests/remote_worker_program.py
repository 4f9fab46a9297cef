"""A worker that TensorFlow runs on, and a program that trains on it; `test_remote_workers` starts and kills them.

    remote_worker_program.py worker PORT
    remote_worker_program.py train PORT DIRECTORY
    remote_worker_program.py embeddings PORT DIRECTORY

The program prints one line of JSON for each moment to kill at, and for each result.
"""

import itertools
import json
import os
import sys
import time

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import models
import tensorflow.compat.v1 as tf
import test_embeddings

from tpuest import _tf, tpu_system
from tpuest.embedding_config import AdagradParameters
from tpuest.topology import Topology

DEVICE = "/job:worker/replica:0/task:0/device:CPU:0"
STEPS_OF_A_LOOP = 25
# The data of the embeddings begins anew after every other step, and so after a checkpoint.
EMBEDDING_STEPS_SAVED = 24
SECONDS_OF_A_BATCH = 0.02
FEW = 5
SECONDS_TO_START = SECONDS_TO_COME_BACK = 60


def cluster_at(port):
    return tf.train.ClusterSpec({"worker": [f"127.0.0.1:{port}"]})


def work(cluster):
    server = tf.distribute.Server(cluster, job_name="worker", task_index=0, protocol="grpc")
    say("ready")
    server.join()


def say(what, value=None):
    print(json.dumps([what, value]), flush=True)


class Worker:
    """Stands for a TPU of one core: what is on it is gone with its process."""

    def __init__(self, cluster, seconds_to_come_back):
        self._cluster = cluster
        self._seconds = seconds_to_come_back
        self._found = None

    def find(self):
        if self._found is None or not self._found.is_connected:
            first = self._found is None
            tpu_system.wait_for_hosts(self._cluster, SECONDS_TO_START if first else self._seconds)
            with _tf.eager_mode():
                tf.config.experimental_connect_to_cluster(
                    tpu_system.as_connected(self._cluster) or self._cluster
                )
            self._found = Topology(
                strategy=tf.distribute.OneDeviceStrategy(DEVICE),
                devices=(DEVICE,),
                num_hosts=1,
                num_cores=1,
                num_replicas=1,
                on_cores=True,
                is_tpu=False,
                find_again=self.find,
            )
        return self._found


def make_estimator(directory, worker):
    estimator = models.make_estimator(
        directory,
        models.ONE_CORE,
        iterations_per_loop=STEPS_OF_A_LOOP,
        save_checkpoints_steps=STEPS_OF_A_LOOP,
    )
    estimator._topology = lambda mode: worker.find()
    return estimator


def slowly(input_fn, announced=None):
    """Gives the batches of an `input_fn`, none sooner than a worker can be killed in a loop of them.

    Args:
      input_fn: of the linear model.
      announced: what to say when a few batches were read.
    """
    numbers = itertools.count()

    def wait(labels):
        time.sleep(SECONDS_OF_A_BATCH)
        if announced is not None and next(numbers) == FEW:
            say(announced)
        return labels

    def slow_input_fn(params):
        def slow(features, labels):
            slowed = tf.numpy_function(wait, [labels], tf.float32)
            slowed.set_shape(labels.shape)
            return features, slowed

        return input_fn(params).map(slow)

    return slow_input_fn


def epochs(count):
    return lambda params: models.one_epoch_input_fn(params).repeat(count)


class Saved(tf.train.CheckpointSaverListener):
    def after_save(self, session, global_step_value):
        say("saved", int(global_step_value))


def train(cluster, directory):
    estimator = make_estimator(directory, Worker(cluster, SECONDS_TO_COME_BACK))
    input_fn = slowly(models.train_input_fn)
    estimator.train(input_fn, max_steps=4 * STEPS_OF_A_LOOP, saving_listeners=[Saved()])
    say("trained", estimator.get_variable_value("w").tolist())

    metrics = estimator.evaluate(slowly(epochs(20), "evaluating"))
    say("evaluated", float(metrics["error"]))
    results = estimator.predict(slowly(epochs(200), "predicting"))
    say("predicted", error_of(lambda: list(results)))
    os.environ["TPUEST_RECOVERIES"] = "1"
    lonely = make_estimator(directory, Worker(cluster, seconds_to_come_back=2))
    listener = Saved()
    say("left", error_of(lambda: lonely.train(input_fn, steps=100, saving_listeners=[listener])))


def embeddings_estimator(directory):
    """Gives an estimator of a table with slots."""
    spec = test_embeddings.spec_of(AdagradParameters(0.1))
    return test_embeddings.make_estimator(
        directory, spec, save_checkpoints_steps=EMBEDDING_STEPS_SAVED
    )


def train_embeddings(cluster, directory):
    worker = Worker(cluster, SECONDS_TO_COME_BACK)
    estimator = embeddings_estimator(directory)
    estimator._topology = lambda mode: worker.find()
    input_fn, max_steps = slowly(test_embeddings.input_fn), 3 * EMBEDDING_STEPS_SAVED
    estimator.train(input_fn, max_steps=max_steps, saving_listeners=[Saved()])
    say("trained")


def error_of(act):
    try:
        act()
    except tf.errors.OpError as error:
        return type(error).__name__
    return None


if __name__ == "__main__":
    role, port, *directory = sys.argv[1:]
    run = {"worker": work, "train": train, "embeddings": train_embeddings}[role]
    run(cluster_at(port), *directory)
