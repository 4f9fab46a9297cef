"""Resumes a checkpoint with the original: `python resume_with_original.py PROGRAM MODEL_DIR [NUM_STEPS]`.

Run it under TF 1.15 or 2.15. Trains NUM_STEPS further from MODEL_DIR's last checkpoint (whoever wrote it) and
prints the loss of each step as a JSON list on the last line.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import runner
import tensorflow.compat.v1 as tf
from programs import PROGRAMS


def main(program_name, model_dir, num_steps=runner.NUM_RESUMED_STEPS):
    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    losses = runner.resume(PROGRAMS[program_name], runner.original_api(), model_dir, int(num_steps))
    print(json.dumps(losses))


if __name__ == "__main__":
    main(*sys.argv[1:])
