"""The process that the model runs in is killed, and comes back: a TPU worker's life, on loopback."""

import contextlib
import itertools
import json
import pathlib
import subprocess
import sys
import time

import models
import numpy as np
import pytest
from remote_worker_program import STEPS_OF_A_LOOP
from test_workers import free_ports

PROGRAM = str(pathlib.Path(__file__).with_name("remote_worker_program.py"))
# In the middle of a loop, which takes longer.
SECONDS_TO_KILL = 0.2
RTOL = 1e-4  # float32 over a hundred steps


class Process:
    """A child that tells what it does line by line."""

    def __init__(self, log_path, *arguments):
        command = [sys.executable, PROGRAM, *map(str, arguments)]
        with open(log_path, "w") as log:
            self._child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def wait_for(self, what, value=None):
        """Reads to the line that says so, and gives its value; `None` takes any."""
        for line in self._child.stdout:
            said, told = json.loads(line)
            if said == what and value in (None, told):
                return told
        raise AssertionError(f"ended with {self._child.wait()} before {what!r}")

    def kill(self):
        self._child.kill()
        self._child.wait()
        self._child.stdout.close()

    def exit_code(self):
        return self._child.wait(timeout=120)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Gives the directory of a training whose worker is killed again and again, and what came of it."""
    directory = tmp_path_factory.mktemp("remote")
    (port,) = free_ports(1)
    with contextlib.ExitStack() as stack:

        def start(*arguments):
            process = Process(directory / f"{arguments[0]}.log", *arguments)
            stack.callback(process.kill)
            return process

        def start_worker():
            worker = start("worker", port)
            worker.wait_for("ready")
            return worker

        def kill(worker):
            time.sleep(SECONDS_TO_KILL)
            worker.kill()

        worker = start_worker()
        trainer = start("train", port, directory / "model")
        for step in (STEPS_OF_A_LOOP, 2 * STEPS_OF_A_LOOP):
            trainer.wait_for("saved", step)
            kill(worker)
            worker = start_worker()
        told = {"trained": trainer.wait_for("trained")}
        trainer.wait_for("evaluating")
        kill(worker)
        worker = start_worker()
        told["evaluated"] = trainer.wait_for("evaluated")
        trainer.wait_for("predicting")
        kill(worker)
        told["predicted"] = trainer.wait_for("predicted")
        worker = start_worker()
        trainer.wait_for("saved")
        kill(worker)
        told["left"] = trainer.wait_for("left")
        told["exit code"] = trainer.exit_code()
    told["log"] = (directory / "train.log").read_text()
    return directory / "model", told


def trained():
    return models.trained(4 * STEPS_OF_A_LOOP)[1:]


def test_training_goes_on_with_the_new_worker(told):
    directory, results = told
    assert models.checkpoint_steps(directory) == [n * STEPS_OF_A_LOOP for n in range(5)]
    np.testing.assert_allclose(results["trained"], trained()[0], RTOL)


def test_an_evaluation_counts_no_batch_twice(told):
    _, results = told
    w, b = trained()
    error = np.mean(np.abs(models.X @ w + b - models.Y))
    np.testing.assert_allclose(results["evaluated"], error, RTOL)


def test_each_loss_is_one_line_of_the_log(told):
    _, results = told
    # absl, which connecting wakes up, repeats each line.
    lines = [line for line, _ in itertools.groupby(results["log"].splitlines())]
    lines = [line for line in lines if ", attempt " in line]
    # Two in training, one in evaluation, one in the training whose worker stays away.
    assert len(lines) >= 4
    assert all("UnavailableError: " in line and "model.ckpt-" in line for line in lines)
    assert "attempt 1 of 1" in lines[-1]


def test_a_prediction_under_way_ends_with_the_error(told):
    assert told[1]["predicted"] == "UnavailableError"


def test_training_whose_worker_stays_away_ends(told):
    _, results = told
    assert results["left"] == "UnavailableError"
    assert results["exit code"] == 0
