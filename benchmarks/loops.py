"""Measures training without an estimator: a hand-written `tf.function` loop, or Keras `fit`. Prints one line of JSON.

    python -m benchmarks.loops handwritten tiny_mlp
    python -m benchmarks.loops keras tiny_mlp
"""

import itertools
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from benchmarks import workloads

_STEPS_PER_CALL = 100


def handwritten(workload):
    """The loop an expert would write: `for _ in tf.range(n)` around a step, Adam's op applied directly."""
    variables, model = _variables_and_model(workload)
    moments = [[tf.Variable(tf.zeros_like(v)) for v in variables] for _ in range(2)]
    step = tf.Variable(0.0)
    iterator = iter(_dataset(workload))

    @tf.function
    def loop(num_steps):
        loss = 0.0
        for _ in tf.range(num_steps):
            features, labels = next(iterator)
            with tf.GradientTape() as tape:
                logits = model(features)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss = tf.reduce_mean(losses)
            step.assign_add(1.0)
            for variable, m, v, gradient in zip(
                variables, *moments, tape.gradient(loss, variables)
            ):
                tf.raw_ops.ResourceApplyAdam(
                    var=variable.handle,
                    m=m.handle,
                    v=v.handle,
                    beta1_power=0.9**step,
                    beta2_power=0.999**step,
                    lr=1e-3,
                    beta1=0.9,
                    beta2=0.999,
                    epsilon=1e-8,
                    grad=gradient,
                )
        return loss

    calls = workload.train_steps // _STEPS_PER_CALL
    loop(tf.constant(_STEPS_PER_CALL))
    start = time.perf_counter()
    for _ in range(calls):
        float(loop(tf.constant(_STEPS_PER_CALL)))
    return calls * _STEPS_PER_CALL / (time.perf_counter() - start)


def keras(workload):
    """`Model.fit(steps_per_execution=100)`, which runs a compiled loop as well."""
    layers = [tf.keras.Input(workload.image_shape)]
    layers += [
        tf.keras.layers.Conv2D(n, 3, 2, "same", activation="relu") for n in workload.filters
    ]
    layers.append(tf.keras.layers.Flatten())
    layers += [tf.keras.layers.Dense(n, "relu") for n in workload.units]
    model = tf.keras.Sequential([*layers, tf.keras.layers.Dense(workload.num_classes)])
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, steps_per_execution=_STEPS_PER_CALL, jit_compile=False)
    dataset = _dataset(workload)
    model.fit(dataset, steps_per_epoch=_STEPS_PER_CALL, verbose=0)
    steps = workload.train_steps // _STEPS_PER_CALL * _STEPS_PER_CALL
    start = time.perf_counter()
    model.fit(dataset, steps_per_epoch=steps, verbose=0)
    return steps / (time.perf_counter() - start)


def _dataset(workload):
    dataset = tf.data.Dataset.from_tensor_slices(workload.data()).repeat()
    return dataset.batch(workload.batch_size, drop_remainder=True).prefetch(4)


def _variables_and_model(workload):
    random = np.random.RandomState(1)

    def variable(*shape):
        return tf.Variable(random.normal(scale=0.1, size=shape).astype(np.float32))

    channels, side = workload.image_shape[-1], workload.image_shape[0]
    convolutions = []
    for filters in workload.filters:
        convolutions.append((variable(3, 3, channels, filters), variable(filters)))
        channels, side = filters, (side + 1) // 2
    inputs = side * side * channels if convolutions else channels
    sizes = [inputs, *workload.units, workload.num_classes]
    dense = [(variable(a, b), variable(b)) for a, b in itertools.pairwise(sizes)]

    def model(hidden):
        for kernel, bias in convolutions:
            hidden = tf.nn.relu(tf.nn.conv2d(hidden, kernel, 2, "SAME") + bias)
        hidden = tf.reshape(hidden, [-1, inputs])
        for kernel, bias in dense[:-1]:
            hidden = tf.nn.relu(hidden @ kernel + bias)
        kernel, bias = dense[-1]
        return hidden @ kernel + bias

    return [v for pair in (*convolutions, *dense) for v in pair], model


if __name__ == "__main__":
    contender = {"handwritten": handwritten, "keras": keras}[sys.argv[1]]
    speed = contender(workloads.WORKLOADS[sys.argv[2]])
    print(json.dumps({"training, steps/s": speed}))
