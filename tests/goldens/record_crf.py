"""Cases of `tf.contrib.crf`; run by TensorFlow 1.15, writes what they give.

    path/to/tensorflow1.15/bin/python tests/goldens/record_crf.py

`tests/test_crf.py` runs the same cases here.
"""

import os

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
GOLDENS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "crf_tf115.npz")
BATCH, TAGS = 4, 3


def values(seed, *shape):
    return np.random.RandomState(seed).uniform(-1, 1, shape).astype("float32")


def of_length(crf, time, lengths):
    inputs = tf.constant(values(1, BATCH, time, TAGS))
    tags = tf.constant(np.random.RandomState(2).randint(0, TAGS, (BATCH, time)), tf.int32)
    bitmap = tf.constant(values(4, BATCH, time, TAGS) > -0.8)
    transitions = tf.constant(values(3, TAGS, TAGS))
    lengths = tf.constant(lengths)
    likelihood, _ = crf.crf_log_likelihood(inputs, tags, lengths, transitions)
    decoded, score = crf.crf_decode(inputs, transitions, lengths)
    _, variable = crf.crf_log_likelihood(inputs, tags, lengths)
    return {
        "likelihood": likelihood,
        "gradient": tf.gradients(likelihood, inputs)[0],
        "unary": crf.crf_unary_score(tags, lengths, inputs),
        "binary": crf.crf_binary_score(tags, lengths, transitions),
        "sequence": crf.crf_sequence_score(inputs, tags, lengths, transitions),
        "multitag": crf.crf_multitag_sequence_score(inputs, bitmap, lengths, transitions),
        "norm": crf.crf_log_norm(inputs, lengths, transitions),
        "decoded": decoded,
        "score": score,
        "transitions": tf.shape(variable),
    }


CASES = {"long": (5, [5, 3, 1, 2]), "with_empty": (4, [4, 0, 2, 3]), "single": (1, [1, 1, 1, 1])}


def run(crf, name):
    """Gives what a case computes: values by name, and the names of its variables."""
    with tf.Graph().as_default(), v1.Session() as session:
        tensors = of_length(crf, *CASES[name])
        names = [v.op.name for v in v1.trainable_variables()]
        session.run(v1.global_variables_initializer())
        found = session.run(tensors)
    found["variables"] = np.array(names)
    best, score = crf.viterbi_decode(values(1, 5, TAGS), values(3, TAGS, TAGS))
    return dict(found, viterbi=np.array(best), viterbi_score=np.array(score))


if __name__ == "__main__":
    from tensorflow.contrib import crf as original

    recorded = {}
    for case in CASES:
        for key, value in run(original, case).items():
            recorded[case + "/" + key] = value
    np.savez_compressed(GOLDENS, **recorded)
