"""Two hosts in processes of their own, which read for their cores: see `remote_hosts_program`."""

import contextlib
import json
import pathlib
import subprocess
import sys

import models
import numpy as np
import pytest
from remote_hosts_program import (
    EXAMPLES_OF_HOST,
    MORE_ON_ONE,
    NUM_EXAMPLES,
    NUM_HOSTS,
    NUM_STEPS,
)
from test_workers import free_ports

PROGRAM = str(pathlib.Path(__file__).with_name("remote_hosts_program.py"))
SECONDS = 300
RTOL = 1e-5  # float32 sums in another order
EXAMPLES_OF_A_HOST = models.BATCH_SIZE // NUM_HOSTS


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Gives what the program said, by what it was about."""
    directory = tmp_path_factory.mktemp("hosts")
    ports = free_ports(NUM_HOSTS)
    with contextlib.ExitStack() as stack:

        def start(name, *arguments):
            log = stack.enter_context((directory / f"{name}.log").open("w"))
            command = [sys.executable, PROGRAM, *map(str, arguments)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            for end in (process.stdout.close, process.wait, process.kill):
                stack.callback(end)
            return process

        for index in range(NUM_HOSTS):
            host = start(f"host_{index}", "host", index, *ports)
            assert json.loads(host.stdout.readline()) == ["ready", None]
        program = start("program", "run", *ports, directory / "model")
        output, _ = program.communicate(timeout=SECONDS)
        assert program.returncode == 0, (directory / "program.log").read_text()[-5000:]
    return dict(map(json.loads, output.splitlines()))


def outputs():
    """Computes the model that two trainings made, each from the data's first batch on."""
    _, w, b = models.trained(NUM_STEPS)
    _, w, b = models.trained(NUM_STEPS, w, b)
    return models.X @ w + b


def assert_evaluated(metrics, batches):
    """Compares with the metrics of batches of examples: the loss is the mean of theirs."""
    errors = outputs() - models.Y
    of_batches = [errors[batch] for batch in batches]
    np.testing.assert_allclose(metrics["error"], np.mean(np.abs(np.concatenate(of_batches))), RTOL)
    loss = np.mean([np.mean(error**2) for error in of_batches])
    np.testing.assert_allclose(metrics["loss"], loss, RTOL)
    assert metrics["global_step"] == 2 * NUM_STEPS


def steps_of_hosts(examples_of_host, num_steps):
    """Lists, for each step, the examples that both hosts' cores get together."""
    starts = [
        [own.start + EXAMPLES_OF_A_HOST * n for own in examples_of_host] for n in range(num_steps)
    ]
    return [np.concatenate([np.arange(s, s + EXAMPLES_OF_A_HOST) for s in step]) for step in starts]


def test_hosts_train_on_what_each_reads(said):
    _, w, b = models.trained(NUM_STEPS)
    np.testing.assert_allclose(said["trained PER_HOST_V1"], w, RTOL)
    _, w, _ = models.trained(NUM_STEPS, w, b)
    np.testing.assert_allclose(said["trained PER_HOST_V2"], w, RTOL)


def test_metrics_count_the_data_of_all_hosts_with_what_is_left_on_each(said):
    steps = steps_of_hosts(EXAMPLES_OF_HOST, 2)
    left = [np.arange(own.start + 2 * EXAMPLES_OF_A_HOST, own.stop) for own in EXAMPLES_OF_HOST]
    assert_evaluated(said["evaluated PER_HOST_V2"], [*steps, *left])


def test_steps_are_taken_of_hosts_with_more(said):
    assert_evaluated(said["steps"], steps_of_hosts(MORE_ON_ONE, 2))


def test_data_that_ends_on_one_host_before_another_is_an_error(said):
    assert "The data of one host has ended, and that of another has not" in said["more on one"]
    assert "SLICED" in said["more on one"]


@pytest.mark.parametrize("deployment", ["BROADCAST", "SLICED", "PER_HOST_V1"])
def test_one_input_for_all_hosts_is_evaluated_and_predicted_once_in_order(said, deployment):
    starts = range(0, NUM_EXAMPLES, models.BATCH_SIZE)
    batches = [slice(start, min(start + models.BATCH_SIZE, NUM_EXAMPLES)) for start in starts]
    assert_evaluated(said[f"evaluated {deployment}"], batches)
    expected = outputs()[:NUM_EXAMPLES].ravel()
    np.testing.assert_allclose(said[f"predicted {deployment}"], expected, RTOL)
