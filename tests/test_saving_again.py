"""The checkpoint that training resumes from is saved again before the first step, as ever: it is whole all the time."""

import os

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES

from tpuest import checkpoint

# float32 sums in another order.
RTOL = 1e-5
STEP = 2


class Listener(tf.train.CheckpointSaverListener):
    """Remembers what it is told."""

    def __init__(self):
        self.told = []

    def before_save(self, session, global_step_value):
        self.told.append(("before", int(global_step_value)))

    def after_save(self, session, global_step_value):
        self.told.append(("after", int(global_step_value)))


def model_with(make_scaffold):
    return models.linear_model(lambda **tensors: {"scaffold_fn": lambda: make_scaffold(**tensors)})


def own_saver(**_):
    return tf.train.Scaffold(saver=tf.train.Saver(sharded=True))


def train(model_dir, make_scaffold=None, num_cores=CPU, **arguments):
    model_fn = make_scaffold and model_with(make_scaffold)
    with models.simulation(num_cores):
        estimator = models.make_estimator(model_dir, num_cores, model_fn, keep_checkpoint_max=2)
        estimator.train(models.train_input_fn, **arguments)


def files_of(model_dir, step):
    """Gives name to inode and time of a checkpoint's values: another inode is another file."""
    paths = [e for e in os.scandir(model_dir) if e.name.startswith(f"model.ckpt-{step}.")]
    return {
        e.name: (e.inode(), e.stat().st_mtime_ns) for e in paths if not e.name.endswith(".meta")
    }


@pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])
def test_values_that_are_there_are_not_written_and_all_else_is_done(tmp_path, num_cores):
    train(tmp_path, num_cores=num_cores, steps=STEP)
    before = files_of(tmp_path, STEP)
    assert len(before) == 2
    listener = Listener()
    train(tmp_path, num_cores=num_cores, steps=2, saving_listeners=[listener])
    assert listener.told == [("before", 2), ("after", 2), ("before", 4), ("after", 4)]
    assert files_of(tmp_path, STEP) == before
    assert models.checkpoint_steps(tmp_path) == [2, 4]
    log = [e.step for e in models.read_events(tmp_path) if e.HasField("session_log")]
    assert log.count(STEP) == 2  # by the call that ends there, and by that which begins there


def test_a_saver_of_the_programs_own_replaces_the_files(tmp_path):
    train(tmp_path, own_saver, steps=STEP)
    before = files_of(tmp_path, STEP)
    train(tmp_path, own_saver, steps=2)
    after = files_of(tmp_path, STEP)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert not [name for name in os.listdir(tmp_path) if "_temp" in name]
    saved = tf.train.load_variable(str(tmp_path / "model.ckpt-2"), "w")
    np.testing.assert_allclose(saved, models.trained(STEP)[1], RTOL)


def test_what_a_killed_process_left_of_replacing_files_is_in_nobodys_way(tmp_path):
    train(tmp_path, own_saver, steps=STEP)
    unfinished = tmp_path / "model.ckpt-2_temp"
    (unfinished / "model.ckpt-2_temp").mkdir(parents=True)
    (unfinished / "model.ckpt-2.data-00000-of-00009").write_bytes(b"half")
    train(tmp_path, own_saver, steps=2)
    assert models.checkpoint_steps(tmp_path) == [0, 2, 4]
    assert not [name for name in os.listdir(tmp_path) if "_temp" in name or "00009" in name]


def test_values_that_a_local_initialiser_changed_are_written(tmp_path):
    def make_scaffold(w, **_):
        default = tf.train.Scaffold.default_local_init_op()
        return tf.train.Scaffold(local_init_op=tf.group(default, w.assign(7 * tf.ones_like(w))))

    train(tmp_path, steps=STEP)
    train(tmp_path, make_scaffold, steps=1)
    assert tf.train.load_variable(str(tmp_path / "model.ckpt-2"), "w").tolist() == [[7]] * 3


def test_a_lost_data_file_is_written_again(tmp_path):
    estimator = models.make_estimator(tmp_path)
    estimator.train(models.train_input_fn, steps=STEP)
    os.remove(tmp_path / "model.ckpt-2.data-00000-of-00001")
    estimator.train(models.train_input_fn, steps=1)  # from the values in memory
    saved = tf.train.load_variable(str(tmp_path / "model.ckpt-2"), "w")
    np.testing.assert_allclose(saved, models.trained(STEP)[1], RTOL)


def test_a_checkpoint_stays_whole_if_writing_another_in_its_place_fails(tmp_path):
    train(tmp_path, steps=STEP)
    path = str(tmp_path / "model.ckpt-2")
    before = files_of(tmp_path, STEP)

    def write(place):
        with open(f"{place}.index", "wb") as index:
            index.write(b"half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    with pytest.raises(tf.errors.ResourceExhaustedError):
        checkpoint.save(path, None, write)
    assert files_of(tmp_path, STEP) == before
    np.testing.assert_allclose(tf.train.load_variable(path, "w"), models.trained(STEP)[1], RTOL)
