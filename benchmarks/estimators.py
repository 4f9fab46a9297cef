"""Measures an estimator, tpuest's or the original's: prints one line of JSON.

    python -m benchmarks.estimators tpuest tiny_mlp
    python -m benchmarks.estimators original tiny_mlp     # under TensorFlow 2.15
"""

import json
import os
import shutil
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import workloads


def measure(which, workload):
    """Runs train, evaluate and predict twice each.

    Returns:
      Name of the figure to its value: steps and examples a second, or seconds.
    """
    tf, names = _import(which)
    model_dir = tempfile.mkdtemp()
    try:
        return _measure(tf, names, workload, model_dir)
    finally:
        shutil.rmtree(model_dir)


def _measure(tf, names, workload, model_dir):
    config = names.RunConfig(
        model_dir=model_dir, save_checkpoints_secs=None, save_checkpoints_steps=10**9
    )
    size = workload.batch_size
    estimator = names.TPUEstimator(
        workloads.make_model_fn(tf, names.TPUEstimatorSpec, workload),
        config=config,
        use_tpu=False,
        train_batch_size=size,
        eval_batch_size=size,
        predict_batch_size=size,
    )
    endless = workloads.make_input_fn(tf, workload)
    limited = workloads.make_input_fn(tf, workload, workload.eval_steps)
    short = workloads.make_input_fn(tf, workload, 1)
    calls = {
        "train": lambda: estimator.train(endless, steps=1),
        "evaluate": lambda: estimator.evaluate(short),
        "predict": lambda: list(estimator.predict(short)),
    }
    figures = {}
    for name, call in calls.items():
        figures[f"first {name} call, seconds"] = _seconds(call)
        figures[f"second {name} call, seconds"] = _seconds(call)
    steps, evals = workload.train_steps, workload.eval_steps
    estimator.train(endless, steps=steps // 10)
    figures["training, steps/s"] = steps / _seconds(lambda: estimator.train(endless, steps=steps))
    figures["evaluation, steps/s"] = evals / _seconds(lambda: estimator.evaluate(limited))
    predicted = _seconds(lambda: sum(1 for _ in estimator.predict(limited)))
    figures["prediction, examples/s"] = evals * size / predicted
    return figures


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _import(which):
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    if which == "tpuest":
        import tpuest

        return tf, tpuest
    return tf, tf.estimator.tpu


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], workloads.WORKLOADS[sys.argv[2]])))
