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
import tensorflow as tf
import test_embeddings
from remote_worker_program import (
    EMBEDDING_STEPS_SAVED,
    STEPS_OF_A_LOOP,
    embeddings_estimator,
)
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


class Room:
    """Starts processes; none is left behind."""

    def __init__(self, directory, stack):
        self._directory = directory
        self._stack = stack
        (self._port,) = free_ports(1)

    def start(self, role, *arguments):
        process = Process(self._directory / f"{role}.log", role, self._port, *arguments)
        self._stack.callback(process.kill)
        return process

    def start_worker(self):
        worker = self.start("worker")
        worker.wait_for("ready")
        return worker


def kill(worker):
    time.sleep(SECONDS_TO_KILL)
    worker.kill()


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Gives the directory of a training whose worker is killed again and again, and what came of it."""
    directory = tmp_path_factory.mktemp("remote")
    with contextlib.ExitStack() as stack:
        room = Room(directory, stack)
        worker = room.start_worker()
        trainer = room.start("train", directory / "model")
        for step in (STEPS_OF_A_LOOP, 2 * STEPS_OF_A_LOOP):
            trainer.wait_for("saved", step)
            kill(worker)
            worker = room.start_worker()
        told = {"trained": trainer.wait_for("trained")}
        trainer.wait_for("evaluating")
        kill(worker)
        worker = room.start_worker()
        told["evaluated"] = trainer.wait_for("evaluated")
        trainer.wait_for("predicting")
        kill(worker)
        told["predicted"] = trainer.wait_for("predicted")
        worker = room.start_worker()
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


def test_tables_of_embeddings_and_their_slots_go_on_with_the_new_worker(tmp_path):
    with contextlib.ExitStack() as stack:
        room = Room(tmp_path, stack)
        worker = room.start_worker()
        trainer = room.start("embeddings", tmp_path / "lost")
        trainer.wait_for("saved", EMBEDDING_STEPS_SAVED)
        kill(worker)
        room.start_worker()
        trainer.wait_for("trained")
        assert trainer.exit_code() == 0
    with models.simulation(models.ONE_CORE):
        whole = embeddings_estimator(tmp_path / "whole")
        whole.train(test_embeddings.input_fn, max_steps=3 * EMBEDDING_STEPS_SAVED)
    assert ", attempt 1 of 5" in (tmp_path / "embeddings.log").read_text()
    assert any("Adagrad" in name for name in whole.get_variable_names())
    for name in whole.get_variable_names():
        value = tf.train.load_variable(str(tmp_path / "lost"), name)
        np.testing.assert_allclose(value, whole.get_variable_value(name), RTOL, err_msg=name)
