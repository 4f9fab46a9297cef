"""A model's directory that is full, or that may not be written: one error, nothing lost, and a way back."""

import os
import subprocess

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

ROOM = 512 * 1024  # bytes: some ten checkpoints of the tiny model
RTOL = 1e-5


def mount(directory, options):
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no mount: {error}")
    if done.returncode:
        pytest.skip(f"tmpfs can't be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """Gives a small disk of its own with a model's directory, trained two steps."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mount(directory, f"size={ROOM}")
    try:
        make_estimator(directory / "model").train(models.train_input_fn, max_steps=2)
        yield directory
    finally:
        tf.summary.FileWriterCache.clear()
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def make_estimator(model_dir, **options):
    return models.make_estimator(model_dir, save_checkpoints_steps=2, **options)


def fill(disk, bytes_left):
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(b"x" * max(0, free - bytes_left))


def unfinished_in(directory):
    return [name for name in os.listdir(directory) if ".tmp" in name or "_temp" in name]


class FillsAt(tf.train.SessionRunHook):
    """Fills the disk after a step, so that the next checkpoint meets it full."""

    def __init__(self, step, disk, bytes_left):
        self._step = step
        self._disk = disk
        self._bytes_left = bytes_left

    def after_run(self, run_context, run_values):
        if run_context.session.run("global_step:0") == self._step:
            fill(self._disk, self._bytes_left)


# From nothing to all but enough, a few pages at a time: each stage of a save meets the full disk once.
@pytest.mark.parametrize("pages_left", range(6))
@pytest.mark.parametrize("save_summary_steps", [0, 1])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_ends_training_with_one_error_and_loses_no_checkpoint(
    disk, pages_left, save_summary_steps
):
    model_dir = disk / "model"
    hook = FillsAt(5, disk, pages_left * 4096)
    with pytest.raises(tf.errors.ResourceExhaustedError) as raised:
        make_estimator(model_dir, save_summary_steps=save_summary_steps).train(
            models.train_input_fn, max_steps=20, hooks=[hook]
        )
    for words in (str(model_dir), "No space left on device", "Make room there", "goes on from"):
        assert words in str(raised.value)
    assert unfinished_in(model_dir) == []
    step = int(make_estimator(model_dir).get_variable_value("global_step"))
    assert step >= 4
    assert_holds(model_dir, step)

    (disk / "filler").unlink()
    make_estimator(model_dir).train(models.train_input_fn, max_steps=8)
    assert_holds(model_dir, 8, (step, 8 - step))


def model_with_its_own_saver():
    return models.linear_model(
        lambda **_: {"scaffold_fn": lambda: tf.train.Scaffold(saver=tf.train.Saver())}
    )


# What is there already is written again before the first step, by a saver of the program's own for its own reasons.
@pytest.mark.parametrize("pages_left", range(6))
@pytest.mark.parametrize("model_fn", [None, model_with_its_own_saver()], ids=["plain", "own saver"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_is_full_when_training_begins_keeps_the_checkpoint_it_begins_from(
    disk, pages_left, model_fn
):
    model_dir = disk / "model"
    tf.summary.FileWriterCache.clear()
    fill(disk, pages_left * 4096)
    with pytest.raises(tf.errors.ResourceExhaustedError, match="Make room there"):
        make_estimator(model_dir, model_fn=model_fn).train(models.train_input_fn, max_steps=40)
    assert unfinished_in(model_dir) == []
    step = int(make_estimator(model_dir).get_variable_value("global_step"))
    assert_holds(model_dir, step)
    np.testing.assert_allclose(
        tf.train.load_variable(f"{model_dir}/model.ckpt-2", "w"), models.trained(2)[1], RTOL
    )
    (disk / "filler").unlink()
    make_estimator(model_dir, model_fn=model_fn).train(models.train_input_fn, max_steps=step + 2)
    assert_holds(model_dir, step + 2, (step, 2))


def assert_holds(model_dir, num_steps, parts=None):
    """Checks the newest checkpoint's values: each call of train begins the data anew."""
    w = b = None
    for steps in (2, num_steps - 2) if parts is None else (2, parts[0] - 2, parts[1]):
        _, w, b = models.trained(steps, w, b)
    estimator = make_estimator(model_dir)
    assert estimator.get_variable_value("global_step") == num_steps
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)
    np.testing.assert_allclose(estimator.get_variable_value("b"), b, RTOL)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_on_a_full_disk_evaluation_and_prediction_go_on_and_an_export_leaves_nothing(disk, caplog):
    model_dir = disk / "model"
    fill(disk, 0)
    estimator = make_estimator(model_dir)
    assert estimator.evaluate(models.one_epoch_input_fn)["global_step"] == 2
    assert caplog.text.count("The results of the evaluation were not written to") == 1
    assert len(list(estimator.predict(models.one_epoch_input_fn))) == models.NUM_EXAMPLES
    with pytest.raises(tf.errors.ResourceExhaustedError, match="Make room there.*export again"):
        estimator.export_saved_model(str(disk / "exports"), models.serving_input_receiver_fn)
    assert os.listdir(disk / "exports") == []

    (disk / "filler").unlink()
    estimator.evaluate(models.one_epoch_input_fn)
    assert models.read_scalars(model_dir / "eval", "error").keys() == {2}
    estimator.export_saved_model(str(disk / "exports"), models.serving_input_receiver_fn)


@pytest.fixture
def read_only(disk):
    """Gives the model's directory on the disk, which nobody may write any more: root neither."""
    tf.summary.FileWriterCache.clear()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return disk / "model"


def test_a_read_only_directory_is_read_and_refused_before_anything_is_built(read_only, caplog):
    calls = []
    estimator = make_estimator(read_only)
    with pytest.raises(tf.errors.PermissionDeniedError, match="model_dir.*can't be written"):
        estimator.train(calls.append, max_steps=4)
    assert calls == []
    assert (
        estimator.train(models.train_input_fn, max_steps=2) is estimator
    )  # Nothing is left to do.
    assert len(list(estimator.predict(models.one_epoch_input_fn))) == models.NUM_EXAMPLES
    assert estimator.evaluate(models.one_epoch_input_fn)["global_step"] == 2
    assert caplog.text.count("The results of the evaluation were not written to") == 1
    with pytest.raises(tf.errors.PermissionDeniedError, match="Let this user write there"):
        estimator.export_saved_model(str(read_only / "exports"), models.serving_input_receiver_fn)


def test_a_directory_that_cannot_be_made_is_refused_before_anything_is_built(read_only):
    with pytest.raises(tf.errors.PermissionDeniedError, match="is read-only for this user"):
        make_estimator(read_only / "new" / "model").train(None, max_steps=4)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_users_directory_is_refused_before_anything_is_built(tmp_path):
    calls = []
    estimator = make_estimator(tmp_path)
    os.seteuid(65534)
    try:
        with pytest.raises(tf.errors.PermissionDeniedError, match="is read-only for this user"):
            estimator.train(calls.append, max_steps=4)
    finally:
        os.seteuid(0)
    assert calls == []
