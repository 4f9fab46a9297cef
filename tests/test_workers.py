"""Two processes of a cluster in TF_CONFIG train one model; see `worker_program`."""

import contextlib
import glob
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


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Gives the directory of a run, and each scenario's results: of the chief, of the worker."""
    directory = tmp_path_factory.mktemp("workers")
    ports = free_ports(2)
    processes = [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(index), *ports, str(directory)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    results = [[json.loads(line) for line in output.splitlines()] for output in outputs]
    assert [len(lines) for lines in results] == [4, 4]
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
    assert run[1][1] == (3, 3)


def test_workers_end_together_when_the_chief_stops_early(run):
    assert run[1][2] == (2, 2)


def test_workers_that_fetch_different_tensors_are_told_so(run):
    for message in run[1][3]:
        assert "pass the same hooks to train on every worker" in message


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
