"""A process killed at any moment loses no step that it said was saved, and leaves no half-written export.

`TPUEST_KILLS=200 TPUEST_KILL_SEED=7 pytest tests/test_killed.py` kills more often, at other moments.
"""

import itertools
import json
import os
import pathlib
import subprocess
import sys

import models
import numpy as np
import pytest
import tensorflow as tf
from test_export import outputs_of

HERE = pathlib.Path(__file__).resolve().parent
NUM_KILLS = int(os.environ.get("TPUEST_KILLS", "20"))
SEED = os.environ.get("TPUEST_KILL_SEED", "1")
# float32 over a few hundred steps, in two programs.
RTOL = 1e-4


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Gives the directory that all processes worked in, and what each said before it was killed."""
    directory = tmp_path_factory.mktemp("killed")
    command = [sys.executable, HERE / "kill_programs.py", directory, NUM_KILLS, SEED]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(HERE.parent), *sys.path]))
    child = subprocess.run(
        [str(part) for part in command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-5000:]
    return directory, [json.loads(line) for line in child.stdout.splitlines()]


def test_every_process_was_killed(killed):
    _, results = killed
    assert [result["exit_code"] for result in results] == [-9] * NUM_KILLS


def test_no_saved_step_is_lost(killed):
    _, results = killed
    for result in results:
        assert result["newest_step"] >= result["last_step"]


def test_each_process_goes_on_where_the_last_one_was_killed(killed):
    _, results = killed
    for before, after in itertools.pairwise(results):
        assert after["first_step"] == before["newest_step"]
    assert results[-1]["newest_step"] > NUM_KILLS


def test_checkpoints_hold_what_undisturbed_training_gives(killed):
    _, results = killed
    for result in results:
        _, w, _ = models.trained(result["newest_step"], batch_size=models.NUM_EXAMPLES)
        np.testing.assert_allclose(result["w"], w, RTOL)


def test_every_checkpoint_in_the_list_is_there(killed):
    directory, _ = killed
    state = tf.train.get_checkpoint_state(str(directory / "model"))
    assert state.all_model_checkpoint_paths
    for path in state.all_model_checkpoint_paths:
        assert tf.train.load_checkpoint(path).has_tensor("w")


def test_every_export_that_a_loader_would_find_is_whole(killed):
    directory, results = killed
    found = sorted(directory.glob("exports/*/[0-9]*"))
    assert {result for one in results for result in one["exported"]} <= set(map(str, found))
    for path in found:
        variables = tf.train.load_checkpoint(f"{path}/variables/variables")
        step = int(variables.get_tensor("global_step"))
        _, w, b = models.trained(step, batch_size=models.NUM_EXAMPLES)
        outputs = outputs_of(str(path), x=models.X[:3])["outputs"]
        np.testing.assert_allclose(outputs, models.X[:3] @ w + b, RTOL)


def test_processes_were_killed_while_they_exported(killed):
    """What the test before this one has to find: the moments that matter."""
    directory, results = killed
    half_written = list(directory.glob("exports/*/temp-*"))
    assert half_written or not any(result["was_exporting"] for result in results)
    assert any(result["exported"] for result in results)
