"""Two processes of a cluster in TF_CONFIG train one model; see `worker_program`."""

import contextlib
import glob
import itertools
import json
import os
import socket
import subprocess
import sys

import models
import numpy as np
import pytest
import tensorflow as tf

import tpuest

# float32 sums in another order.
RTOL = 1e-5
PROGRAM = os.path.join(os.path.dirname(__file__), "worker_program.py")
SECONDS = 300
SCENARIOS = (
    "together",
    "data_that_ends_earlier_on_one",
    "data_that_ends_earlier_on_one_without_hooks",
    "the_chief_stops_early",
    "one_fetches_something_else",
)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


@contextlib.contextmanager
def two_workers(directory, *scenarios, log=None, program=PROGRAM):
    """Starts a chief and a worker that run scenarios; none is left behind."""
    ports = free_ports(2)
    processes = [
        subprocess.Popen(
            [sys.executable, program, str(index), *ports, str(directory), *scenarios],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        for index in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Gives the directory of a run, and each scenario's results: of the chief, of the worker."""
    directory = tmp_path_factory.mktemp("workers")
    with two_workers(directory, *SCENARIOS) as processes:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    results = [[json.loads(line) for line in output.splitlines()] for output in outputs]
    assert [len(lines) for lines in results] == [len(SCENARIOS)] * 2
    return directory, list(zip(*results, strict=True))


def checkpoint(directory, step):
    path = str(directory / f"model.ckpt-{step}")
    return tf.train.load_variable(path, "w"), tf.train.load_variable(path, "b")


def test_workers_take_the_steps_of_one_process(run):
    directory, ((chief, worker), *_) = run
    _, w, b = models.trained(7, *checkpoint(directory / "together", 0))
    for values in (chief, worker):
        np.testing.assert_allclose(values["w"], w.ravel(), RTOL)
        np.testing.assert_allclose(values["b"], b, RTOL)
        assert values["last checkpoint"] == 7
    np.testing.assert_allclose(checkpoint(directory / "together", 7)[0], w, RTOL)


def test_only_the_chief_writes_and_a_master_evaluates(run):
    directory = run[0] / "together"
    assert models.checkpoint_steps(directory) == [0, 3, 6, 7]
    assert len(glob.glob(str(directory / "events.*"))) == 1
    assert list(models.read_scalars(directory, "loss")) == [1, 3, 5, 7]
    errors = models.read_scalars(directory / "eval", "error")
    assert list(errors) == [3, 6, 7]
    w, b = checkpoint(directory, 6)
    np.testing.assert_allclose(errors[6], np.mean(np.abs(models.X @ w + b - models.Y)), RTOL)


def test_workers_end_together_when_the_data_of_one_ends(run):
    assert run[1][1] == run[1][2] == (3, 3)


def test_workers_end_together_when_the_chief_stops_early(run):
    assert run[1][3] == (2, 2)


def test_workers_that_fetch_different_tensors_are_told_so(run):
    for message in run[1][4]:
        assert "pass the same hooks to train on every worker" in message


# As worker_program's configuration has it.
SAVED_EVERY = 3


@pytest.fixture(scope="module")
def survived(tmp_path_factory):
    """Kills the worker of one training and the chief of the next; gives the directory and what was left of each."""
    directory = tmp_path_factory.mktemp("survived")
    left = []
    for victim in (1, 0):
        log_path = directory / f"log_{victim}"
        with (
            log_path.open("w") as log,
            two_workers(directory, "until_killed", log=log) as processes,
        ):
            steps = [int(line) for line in itertools.islice(processes[victim].stdout, 8)]
            processes[victim].kill()
            survivor = processes[1 - victim]
            said, _ = survivor.communicate(timeout=SECONDS)
        state = tf.train.get_checkpoint_state(str(directory / "killed"))
        newest = int(state.model_checkpoint_path.rsplit("-", 1)[1])
        last_step = int(said.split()[-1])
        left.append((survivor.returncode, log_path.read_text(), last_step, steps, newest))
    return directory, left


def test_who_survives_ends_with_an_error_that_says_what_to_do(survived):
    for exit_code, log, *_ in survived[1]:
        assert exit_code == 1
        assert "Another worker of the cluster is gone. Start all workers again" in log


def test_a_chief_that_survives_between_two_steps_saves_the_last(survived):
    _, log, last_step, _, newest = survived[1][0]
    assert newest == last_step or "in _run_unique_steps" in log


def test_no_step_before_the_last_checkpoint_is_lost(survived):
    (*_, first_steps, first), (*_, second_steps, second) = survived[1]
    assert first_steps[0] == 1
    assert first >= first_steps[-1] - SAVED_EVERY
    assert second_steps[0] == first + 1
    assert second >= second_steps[-1] - SAVED_EVERY


def test_both_resume_from_the_last_complete_checkpoint(survived):
    directory, (*_, (*_, newest)) = survived
    with two_workers(directory, "resumed") as processes:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    for values in map(json.loads, outputs):
        assert values["start"] == newest
        _, w, b = models.trained(4, *checkpoint(directory / "killed", newest))
        np.testing.assert_allclose(values["w"], w.ravel(), RTOL)
        np.testing.assert_allclose(values["b"], b, RTOL)


@pytest.mark.parametrize(
    ("cluster", "options", "words"),
    [
        ({"chief": ["host0:1"], "ps": ["host1:1"]}, {}, "TF_CONFIG with parameter servers"),
        (
            {"chief": ["host0:1"], "worker": ["host1:1"]},
            {"train_distribute": tf.distribute.OneDeviceStrategy("/cpu:0")},
            "Pass tf.distribute.MultiWorkerMirroredStrategy",
        ),
    ],
)
def test_another_cluster_is_refused(tmp_path, monkeypatch, cluster, options, words):
    config = {"cluster": cluster, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    estimator = models.make_estimator(tmp_path, **options)
    with pytest.raises(tpuest.UnsupportedError, match=words):
        estimator.train(models.train_input_fn, steps=1)
