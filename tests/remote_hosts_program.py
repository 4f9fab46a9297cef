"""Two hosts of two cores each, and a program that runs on them; `test_remote_hosts` starts them.

    remote_hosts_program.py host INDEX PORT PORT
    remote_hosts_program.py run PORT PORT DIRECTORY

A CPU device of a host's process stands for a core. The program prints one line of JSON with what it found.
"""

import os
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import models
import tensorflow.compat.v1 as tf
from remote_worker_program import say
from test_batch_sizes import (
    BROADCAST,
    DEPLOYMENTS,
    HOST,
    HOST_V2,
    SLICED,
    deployment_arguments,
)

from tpuest import _tf, tpu_system
from tpuest.topology import Topology

NUM_HOSTS, CORES_OF_A_HOST = 2, 2
NUM_CORES = NUM_HOSTS * CORES_OF_A_HOST
JOB = "worker"
NUM_STEPS = 4
# Of two batches for each host and a rest, and of more on one.
EXAMPLES_OF_HOST = slice(0, 9), slice(9, 20)
MORE_ON_ONE = slice(0, 12), slice(12, 20)
# Not whole batches.
NUM_EXAMPLES = 29


def cluster_at(ports):
    return tf.train.ClusterSpec({JOB: [f"127.0.0.1:{port}" for port in ports]})


def be_host(index, *ports):
    cpu = tf.config.list_physical_devices("CPU")[0]
    cores = [tf.config.LogicalDeviceConfiguration()] * CORES_OF_A_HOST
    tf.config.set_logical_device_configuration(cpu, cores)
    config = tf.ConfigProto(device_count={"CPU": CORES_OF_A_HOST})
    server = tf.distribute.Server(
        cluster_at(ports), JOB, int(index), protocol="grpc", config=config
    )
    say("ready")
    server.join()


def connect(ports):
    """Gives what stands for a TPU of two hosts."""
    cluster = cluster_at(ports)
    tpu_system.wait_for_hosts(cluster)
    with _tf.eager_mode():
        tf.config.experimental_connect_to_cluster(cluster)
    devices = tuple(
        f"/job:{JOB}/replica:0/task:{host}/device:CPU:{core}"
        for host in range(NUM_HOSTS)
        for core in range(CORES_OF_A_HOST)
    )
    # Refused under eager execution, where it runs all the same.
    with _tf.graph_mode():
        strategy = tf.compat.v2.distribute.MirroredStrategy(
            devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
        )
    strategy.extended._input_workers_devices = tuple(
        (
            f"/job:{JOB}/replica:0/task:{host}/device:CPU:0",
            devices[host * CORES_OF_A_HOST :][:CORES_OF_A_HOST],
        )
        for host in range(NUM_HOSTS)
    )

    def find() -> Topology:
        return found

    found = Topology(
        strategy=strategy,
        devices=devices,
        num_hosts=NUM_HOSTS,
        num_cores=NUM_CORES,
        num_replicas=NUM_CORES,
        on_cores=True,
        is_tpu=False,
        find_again=find,
        system=tpu_system.TPUSystem(NUM_CORES, NUM_HOSTS, None, job=JOB),
    )
    return found


def of_own_host(input_fn):
    """Gives each host every other batch of its size, and so both together what `input_fn` gives."""

    def own_input_fn(params):
        return input_fn(params).shard(NUM_HOSTS, params["context"].current_host)

    return own_input_fn


def examples_of(hosts):
    def input_fn(params):
        own = hosts[params["context"].current_host]
        dataset = tf.data.Dataset.from_tensor_slices(({"x": models.X[own]}, models.Y[own]))
        return dataset.batch(params["batch_size"])

    return input_fn


def run(*arguments):
    *ports, directory = arguments
    found = connect(ports)

    def estimator(deployment):
        made = models.make_estimator(
            directory, models.EIGHT_CORES, tpu_config=deployment_arguments(deployment)
        )
        made._topology = lambda mode: found
        return made

    for deployment in (HOST, HOST_V2):
        estimator(deployment).train(of_own_host(models.train_input_fn), steps=NUM_STEPS)
        say(
            f"trained {DEPLOYMENTS[deployment]}",
            estimator(deployment).get_variable_value("w").tolist(),
        )
    asked = estimator(HOST_V2)
    say("evaluated PER_HOST_V2", numbers(asked.evaluate(examples_of(EXAMPLES_OF_HOST))))
    say("steps", numbers(asked.evaluate(examples_of(MORE_ON_ONE), steps=2)))
    say("more on one", error_of(lambda: asked.evaluate(examples_of(MORE_ON_ONE))))
    for deployment in (BROADCAST, SLICED, HOST):
        asked = estimator(deployment)
        input_fn = models.examples_input_fn(NUM_EXAMPLES)
        say(f"evaluated {DEPLOYMENTS[deployment]}", numbers(asked.evaluate(input_fn)))
        predictions = [float(one["outputs"][0]) for one in asked.predict(input_fn)]
        say(f"predicted {DEPLOYMENTS[deployment]}", predictions)


def error_of(act):
    try:
        act()
    except tf.errors.InvalidArgumentError as error:
        return error.message
    return None


def numbers(metrics):
    return {name: float(value) for name, value in metrics.items()}


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    {"host": be_host, "run": run}[role](*arguments)
