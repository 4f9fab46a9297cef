"""Records the numbers of the original implementation: `python tests/conformance/record.py`.

Under TF 1.15 it writes the checkpoints of `CHECKPOINT_PROGRAMS` to checkpoints/tf115; under TF 2.15 those
of checkpoints/tf215 and the goldens of every program. Run 1.15 first: 2.15 also resumes its checkpoints.

Both run with TF 2 behaviour disabled, as the programs of the time did. Under TF 2.15 it makes one difference:
with TF 2 behaviour, tf.layers draws its initial values from seeds of Python's own generator, whatever
tf_random_seed says, and no two runs agree. All other numbers are the same to the last bit.
"""

import json
import os
import shutil
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import runner
import tensorflow.compat.v1 as tf
from programs import PROGRAMS

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDENS = os.path.join(HERE, "goldens")
CHECKPOINTS = os.path.join(HERE, "checkpoints")
RESUMED_LOSSES = os.path.join(GOLDENS, "resumed_losses.json")
CHECKPOINT_PROGRAMS = ("mlp", "adam_weight_decay")
VERSIONS = {"1.15": "tf115", "2.15": "tf215"}


def main():
    tf.logging.set_verbosity(tf.logging.ERROR)
    tf.disable_v2_behavior()
    version = VERSIONS.get(".".join(tf.__version__.split(".")[:2]))
    if version is None:
        raise SystemExit(
            f"Found TensorFlow {tf.__version__}; the original runs under {sorted(VERSIONS)}."
        )
    if not os.path.isdir(GOLDENS):
        os.makedirs(GOLDENS)
    names = CHECKPOINT_PROGRAMS if version == "tf115" else sorted(PROGRAMS)
    for name in names:
        record_program(PROGRAMS[name], version)
    record_resumed_losses(version)


def record_program(program, version):
    """Runs one program from its seed; keeps its numbers (2.15 only) and its last checkpoint."""
    model_dir = tempfile.mkdtemp()
    try:
        results = runner.run(program, runner.original_api(), model_dir)
        if version == "tf215":
            path = os.path.join(GOLDENS, program.name + ".npz")
            np.savez_compressed(path, **{name: narrow(value) for name, value in results.items()})
        if program.name in CHECKPOINT_PROGRAMS:
            keep_checkpoint(model_dir, os.path.join(CHECKPOINTS, version, program.name))
    finally:
        shutil.rmtree(model_dir)
    losses = results["step/" + runner.LOSS]
    print(f"{program.name:24} loss {losses[0]:.6f} to {losses[-1]:.6f}")


def narrow(value):
    """Gives float64 results as float32, which is what the model computed in."""
    return value.astype(np.float32) if value.dtype == np.float64 else value


def keep_checkpoint(model_dir, target):
    """Copies the last checkpoint without its graph (resuming does not read it)."""
    if os.path.isdir(target):
        shutil.rmtree(target)
    os.makedirs(target)
    stem = f"model.ckpt-{runner.NUM_STEPS}"
    for name in os.listdir(model_dir):
        if name.startswith(stem + ".") and not name.endswith(".meta"):
            shutil.copy(os.path.join(model_dir, name), target)
    with open(os.path.join(target, "checkpoint"), "w") as state:
        state.write(f'model_checkpoint_path: "{stem}"\nall_model_checkpoint_paths: "{stem}"\n')


def record_resumed_losses(version):
    """Keeps the losses that this version gets when it resumes each recorded checkpoint."""
    recorded = {}
    if os.path.exists(RESUMED_LOSSES):
        with open(RESUMED_LOSSES) as stored:
            recorded = json.load(stored)
    for writer in sorted(os.listdir(CHECKPOINTS)):
        for name in sorted(os.listdir(os.path.join(CHECKPOINTS, writer))):
            losses = resume_copy(PROGRAMS[name], os.path.join(CHECKPOINTS, writer, name))
            recorded.setdefault(writer + "/" + name, {})["resumed by " + version] = losses
    with open(RESUMED_LOSSES, "w") as stored:
        json.dump(recorded, stored, indent=1, sort_keys=True)
        stored.write("\n")


def resume_copy(program, checkpoint_dir):
    parent = tempfile.mkdtemp()
    try:
        model_dir = os.path.join(parent, "model")
        shutil.copytree(checkpoint_dir, model_dir)
        return runner.resume(program, runner.original_api(), model_dir)
    finally:
        shutil.rmtree(parent)


if __name__ == "__main__":
    sys.exit(main())
