"""Trains and exports in processes that it kills: `python kill_programs.py DIRECTORY NUM_KILLS SEED`.

Each process goes on from what the last one left, saves a checkpoint at every step and exports after every few, and
says so. It is killed (SIGKILL) a moment after it has said one of its first things. Prints a line for each: the first
and last step that it said was saved, the exports it said were done, and the newest checkpoint after its death.

TensorFlow is imported once and runs in the forked processes only: a fork of one that has run is of no use.
"""

import ast
import itertools
import json
import os
import random
import signal
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import models
import tensorflow.compat.v1 as tf
from test_export import serving_input_receiver_fn

import tpuest

STEPS_BETWEEN_EXPORTS = 3
# A round of training and exporting says five things or so; the moment is about as long as one of them takes.
MOST_LINES = 11
MOST_SECONDS = 0.15
SAVED, EXPORTING, EXPORTED = "saved", "exporting", "exported"


class Report(tf.train.CheckpointSaverListener):
    """Says which steps have been saved."""

    def __init__(self, say):
        self._say = say

    def after_save(self, session, global_step_value):
        self._say(SAVED, int(global_step_value))


def train_input_fn(params):
    """Gives all examples in each batch: so the global step alone says what the variables are."""
    return tf.data.Dataset.from_tensors(({"x": models.X}, models.Y)).repeat()


def work_forever(directory, say):
    config = tpuest.RunConfig(save_checkpoints_steps=1, keep_checkpoint_max=3, save_summary_steps=0)
    estimator = tpuest.TPUEstimator(
        models.linear_model(),
        os.path.join(directory, "model"),
        config,
        use_tpu=False,
        train_batch_size=models.NUM_EXAMPLES,
    )
    for count in itertools.count():
        estimator.train(train_input_fn, steps=STEPS_BETWEEN_EXPORTS, saving_listeners=[Report(say)])
        # A base for each: exports into one base wait for the next second.
        base = os.path.join(directory, "exports", f"{os.getpid()}-{count}")
        say(EXPORTING, base)
        say(EXPORTED, estimator.export_saved_model(base, serving_input_receiver_fn).decode())


def kill_one(directory, num_lines, seconds):
    """Starts a process, kills it that long after so many lines, and gives what it said."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            work_forever(directory, lambda *words: os.write(writing, f"{words}\n".encode()))
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as reports:
        lines = list(itertools.islice(reports, num_lines))
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        lines += reports
    said = [ast.literal_eval(line) for line in lines]
    steps = [what for word, what in said if word == SAVED]
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "first_step": steps[0],
        "last_step": steps[-1],
        "exported": [what for word, what in said if word == EXPORTED],
        "was_exporting": said[-1][0] == EXPORTING,
    }


def main(directory, num_kills, seed):
    chance = random.Random(int(seed))
    for _ in range(int(num_kills)):
        result = kill_one(directory, chance.randint(1, MOST_LINES), chance.uniform(0, MOST_SECONDS))
        newest = tf.train.load_checkpoint(tf.train.latest_checkpoint(f"{directory}/model"))
        result["newest_step"] = int(newest.get_tensor("global_step"))
        result["w"] = newest.get_tensor("w").tolist()
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
