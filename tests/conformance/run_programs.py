"""Runs programs under tpuest in a process of their own, where TensorFlow starts as the case needs.

    python run_programs.py OUTPUT.npz --num_cores 8         # simulated cores; the programs that are exact there
    python run_programs.py OUTPUT.npz --disable_v2_behavior # on CPU; every program

The file holds `<program>|<stage>/<name>` arrays; a program that fails leaves its traceback as `<program>|error`.
"""

import argparse
import os
import tempfile
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import runner
import tensorflow.compat.v1 as tf
from programs import PROGRAMS

import tpuest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output")
    parser.add_argument("--num_cores", type=int)
    parser.add_argument("--disable_v2_behavior", action="store_true")
    arguments = parser.parse_args()
    if arguments.disable_v2_behavior:
        tf.disable_v2_behavior()
    if arguments.num_cores:
        tpuest.simulate_tpu(arguments.num_cores)
    results = {}
    for name, program in PROGRAMS.items():
        if program.exact_on_cores or not arguments.num_cores:
            for key, value in run_or_explain(program, arguments.num_cores).items():
                results[name + "|" + key] = value
    np.savez_compressed(arguments.output, **results)


def run_or_explain(program, num_cores):
    with tempfile.TemporaryDirectory() as model_dir:
        try:
            return runner.run(program, runner.tpuest_api(), model_dir, num_cores)
        except Exception:  # noqa: BLE001 - one program's failure is that program's test, not everyone's.
            return {"error": np.asarray(traceback.format_exc())}


if __name__ == "__main__":
    main()
