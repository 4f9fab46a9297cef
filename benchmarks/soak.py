"""Trains, evaluates, predicts and exports in turn for a long time: memory, file handles and threads must not grow.

    python -m benchmarks.soak --minutes 30                  # writes benchmarks/soak.svg

Two simulated cores, a small CNN, one estimator that lives through all rounds, summaries and checkpoints as by default.
After each round the process collects its garbage, gives freed memory back (malloc_trim) and is measured. The first
tenth of the time warms up: everything is compiled and buffers find their size. Over the rest

- the straight line fitted to the resident memory must climb by less than 1 % of its median in all;
- the most file handles and threads of the second half may not exceed those of the first.

The exit code is 1 if one of them does. Linux only: it reads /proc.
"""

import argparse
import ctypes
import dataclasses
import gc
import os
import pathlib
import shutil
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow.compat.v1 as tf

import tpuest
from benchmarks import plot, workloads

_WARM_UP = 0.1
_MOST_GROWTH = 0.01
_STEPS = 200
_EVAL_STEPS = 50
_PREDICT_STEPS = 50
_PLOT = pathlib.Path(__file__).with_name("soak.svg")


@dataclasses.dataclass(frozen=True)
class Sample:
    """The process after a round.

    Attributes:
      minutes: since the start.
      memory: resident, in MiB.
      handles: open files.
      threads: of Python and of TensorFlow.
    """

    minutes: float
    memory: float
    handles: int
    threads: int


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--plot", type=pathlib.Path, default=_PLOT)
    options = parser.parse_args()
    tf.logging.set_verbosity(tf.logging.ERROR)
    tpuest.simulate_tpu(2)
    with tempfile.TemporaryDirectory() as model_dir:
        samples = _run(options.minutes, model_dir)
    measured = [s for s in samples if s.minutes >= _WARM_UP * samples[-1].minutes]
    growth = _fitted_growth(measured)
    median = float(np.median([s.memory for s in measured]))
    summary = (
        f"{len(samples)} rounds in {samples[-1].minutes:.1f} minutes; memory {median:.0f} MiB, "
        f"fitted growth {growth:+.1f} MiB ({growth / median:+.2%})"
    )
    options.plot.write_text(_draw(samples, summary))
    print(summary)
    faults = _faults(measured, growth / median)
    sys.exit("\n".join(faults) if faults else 0)


def _run(minutes, model_dir):
    estimator = _make_estimator(model_dir)
    workload = workloads.SMALL_CNN
    endless = workloads.make_input_fn(tf, workload)
    start, samples = time.monotonic(), []
    while not samples or samples[-1].minutes < minutes:
        estimator.train(endless, steps=_STEPS)
        estimator.evaluate(endless, steps=_EVAL_STEPS)
        for _ in estimator.predict(workloads.make_input_fn(tf, workload, _PREDICT_STEPS)):
            pass
        shutil.rmtree(estimator.export_saved_model(f"{model_dir}/export", _receiver).decode())
        samples.append(_measure((time.monotonic() - start) / 60))
        print(*dataclasses.astuple(samples[-1]), flush=True)
    return samples


def _make_estimator(model_dir):
    workload = workloads.SMALL_CNN
    return tpuest.TPUEstimator(
        workloads.make_model_fn(tf, tpuest.TPUEstimatorSpec, workload, sums_over_cores=True),
        config=tpuest.RunConfig(model_dir=model_dir, tpu_config=tpuest.TPUConfig(50)),
        train_batch_size=workload.batch_size,
        eval_batch_size=workload.batch_size,
        predict_batch_size=workload.batch_size,
    )


def _receiver():
    shape = [None, *workloads.SMALL_CNN.image_shape]
    features = tf.placeholder(tf.float32, shape, name="features")
    return tpuest.TensorServingInputReceiver(features, {"features": features})


def _measure(minutes):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    handles, threads = (len(os.listdir(f"/proc/self/{what}")) for what in ("fd", "task"))
    return Sample(round(minutes, 3), round(memory, 2), handles, threads)


def _fitted_growth(samples):
    """Gives the MiB by which the line fitted to the memory climbs from the first sample to the last."""
    minutes = np.array([s.minutes for s in samples])
    slope, _ = np.polyfit(minutes, [s.memory for s in samples], 1)
    return float(slope * (minutes[-1] - minutes[0]))


def _faults(samples, relative_growth):
    faults = []
    if relative_growth > _MOST_GROWTH:
        faults.append(f"Memory grew by {relative_growth:.2%}, more than {_MOST_GROWTH:.0%}.")
    half = len(samples) // 2
    for what in ("handles", "threads"):
        before, after = (
            max(getattr(s, what) for s in part) for part in (samples[:half], samples[half:])
        )
        if after > before:
            faults.append(f"The {what} grew from {before} to {after}.")
    return faults


def _draw(samples, summary):
    titles = {"memory": "memory, MiB", "handles": "file handles", "threads": "threads"}
    return plot.draw(
        ["train, evaluate, predict, export in turn, 2 simulated cores", summary],
        [s.minutes for s in samples],
        {title: [getattr(s, name) for s in samples] for name, title in titles.items()},
        _WARM_UP * samples[-1].minutes,
    )


if __name__ == "__main__":
    main()
