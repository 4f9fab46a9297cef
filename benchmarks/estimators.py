"""Measures an estimator, tpuest's or the original's: prints one line of JSON.

    python -m benchmarks.estimators tpuest tiny_mlp
    python -m benchmarks.estimators original tiny_mlp     # under TensorFlow 2.15
"""

import gc
import json
import os
import shutil
import sys
import tempfile
import time
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks import workloads


def measure(which, workload):
    """Runs train, evaluate and predict twice and then for long, each in turn; exports, and serves what was exported.

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
        "export": lambda: exports.append(_export(tf, names, workload, estimator)),
    }
    steps, evals = workload.train_steps, workload.eval_steps
    # In the order of most programs: who evaluates has trained, more than a step.
    rates = {
        "train": ("training, steps/s", steps, lambda: estimator.train(endless, steps=steps)),
        "evaluate": ("evaluation, steps/s", evals, lambda: estimator.evaluate(limited)),
        "predict": (
            "prediction, examples/s",
            evals * size,
            lambda: sum(1 for _ in estimator.predict(limited)),
        ),
    }
    figures, exports = {}, []
    for name, call in calls.items():
        gc.collect()  # Else the garbage of the imports is collected in whichever call it is due: 0.1 s by chance.
        figures[f"first {name} call, seconds"] = _seconds(call)
        figures[f"second {name} call, seconds"] = _seconds(call)
        if name == "train":
            estimator.train(endless, steps=steps // 10)
        if name in rates:
            figure, amount, run = rates[name]
            figures[figure] = amount / _seconds(run)
    served = {"a session": _in_session, "TensorFlow 2": _as_function}
    for name, load in served.items():
        figures[f"served by {name}, examples/s"] = _serve(workload, load(tf, exports[-1]))
    return figures


def _export(tf, names, workload, estimator):
    """Exports for CPU and TPU; each into a base of its own, where no export waits for the next second."""

    def receiver_fn():
        features = tf.placeholder(tf.float32, [None, *workload.image_shape], name="features")
        return names.TensorServingInputReceiver(features, {"features": features})

    return estimator.export_saved_model(tempfile.mkdtemp(dir=estimator.model_dir), receiver_fn)


def _serve(workload, classify):
    """Gives the examples a second that `classify` answers, one batch at a time."""
    features, _ = workload.data()
    batch = features[: workload.batch_size]
    for _ in range(workload.eval_steps // 10):
        classify(batch)
    seconds = _seconds(lambda: [classify(batch) for _ in range(workload.eval_steps)])
    return workload.eval_steps * workload.batch_size / seconds


def _in_session(tf, path):
    session = tf.Session(graph=tf.Graph())
    loaded = tf.saved_model.loader.load(session, ["serve"], path)
    signature = loaded.signature_def["serving_default"]
    feed = signature.inputs["features"].name
    return session.make_callable(signature.outputs["classes"].name, [feed])


def _as_function(tf, path):
    loaded = tf.compat.v2.saved_model.load(path, tags=["serve"])
    signature = loaded.signatures["serving_default"]
    # The closure keeps `loaded`, and so its variables.
    return lambda batch: (signature(features=tf.constant(batch))["classes"].numpy(), loaded)[0]


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
    public = {**vars(tf.estimator.tpu), **vars(tf.estimator.export)}
    return tf, types.SimpleNamespace(**public)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], workloads.WORKLOADS[sys.argv[2]])))
