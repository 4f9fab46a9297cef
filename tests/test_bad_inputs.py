"""The list of bad inputs and faults (`bad_inputs`): each ends with its one message, and loses nothing."""

import glob
import os
import re
import shutil

import models
import numpy as np
import pytest
from bad_inputs import CASES
from bad_inputs.damage import Damaged
from bad_inputs.room import STEPS_BEFORE, WARNS, Room

RTOL = 1e-5


@pytest.fixture(scope="module")
def trained_dir(tmp_path_factory):
    """Gives a directory with checkpoints of steps 0, 2 and 4."""
    directory = tmp_path_factory.mktemp("trained") / "model"
    estimator = models.make_estimator(directory, save_checkpoints_steps=2)
    estimator.train(models.train_input_fn, max_steps=STEPS_BEFORE)
    return directory


@pytest.fixture
def room(tmp_path, trained_dir):
    model_dir = tmp_path / "model"
    shutil.copytree(trained_dir, model_dir)
    return Room(model_dir, tmp_path / "empty")


@pytest.mark.parametrize("name", CASES)
def test_a_bad_input_has_its_one_message_and_loses_nothing(room, caplog, name):
    program, error_type, message = CASES[name]
    if isinstance(program, Damaged):
        program.strike(room)
    before = files_in(room.model_dir)
    if error_type is WARNS:
        program(room)
        assert re.search(message, caplog.text)
    else:
        with pytest.raises(error_type, match=f"(?s){message}"):
            program(room)
    if files_in(room.model_dir) != before:
        assert_newest_checkpoint_is_whole(room.model_dir)
    assert_nothing_half_done(room)


def files_in(directory):
    return {path: os.path.getsize(path) for path in glob.glob(f"{directory}/[!e]*")}


def assert_newest_checkpoint_is_whole(model_dir):
    """Checks that it holds what its number of complete steps made, going on from an older checkpoint."""
    estimator = models.make_estimator(model_dir)
    step, w, b = estimator.get_variable_value(["global_step", "w", "b"])
    started_from = [start for start in (2, STEPS_BEFORE) if start <= step]
    assert any(is_trained(w, b, [start, int(step) - start]) for start in started_from)


def is_trained(w, b, calls):
    """Says whether variables are what calls of so many steps make of them; each begins the data anew."""
    made = None, None
    for num_steps in calls:
        _, *made = models.trained(num_steps, *made)
    return np.allclose(w, made[0], RTOL) and np.allclose(b, made[1], RTOL)


def assert_nothing_half_done(room):
    names = [name for _, _, files in os.walk(room.model_dir.parent) for name in files]
    assert not [name for name in names if ".tmp" in name or "_temp" in name]
    assert not glob.glob(f"{room.empty}/[0-9]*")
