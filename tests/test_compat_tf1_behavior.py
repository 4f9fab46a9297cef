"""The engine works after tf.disable_v2_behavior(), which can't be taken back: in processes of their own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
REPEATED_CALLS = """
import numpy as np
import tensorflow as tf

def model_fn(features, labels, mode, params):
    value = tf.layers.dense(features, 1, kernel_initializer=tf.ones_initializer())
    spec = tf.contrib.tpu.TPUEstimatorSpec
    if mode == tf.estimator.ModeKeys.PREDICT:
        return spec(mode, predictions={"value": value})
    loss = tf.reduce_mean(tf.square(value - labels))
    optimizer = tf.contrib.tpu.CrossShardOptimizer(tf.train.GradientDescentOptimizer(0.0))
    train_op = optimizer.minimize(loss, tf.train.get_global_step())
    return spec(mode, loss=loss, train_op=train_op)

def input_fn(params):
    data = np.arange(8, dtype=np.float32).reshape(8, 1)
    dataset = tf.data.Dataset.from_tensor_slices((data, data))
    return dataset.repeat(2).batch(params["batch_size"], drop_remainder=True)

config = tf.contrib.tpu.RunConfig(tpu_config=tf.contrib.tpu.TPUConfig(iterations_per_loop=2))
estimator = tf.contrib.tpu.TPUEstimator(
    model_fn, config=config, train_batch_size=8, eval_batch_size=8, predict_batch_size=8)
for _ in range(2):
    estimator.train(input_fn, steps=2)
    assert estimator.evaluate(input_fn, steps=2)["loss"] == 0.0
    values = [float(p["value"][0]) for p in estimator.predict(lambda params: input_fn(params).take(1))]
    print(estimator.get_variable_value("global_step"), values)
"""


def test_every_call_works_twice_on_several_cores(tmp_path):
    program = tmp_path / "main.py"
    program.write_text(REPEATED_CALLS)
    ended = subprocess.run(
        [sys.executable, "-m", "tpuest", "--simulate-tpu", "2", str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = ended.stdout.splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == ["2", "4"], ended.stderr[-3000:]
    assert (
        lines[0].split(" ", 1)[1] == lines[1].split(" ", 1)[1] == str([float(i) for i in range(8)])
    )
