"""Loads an export under the original's TensorFlow: `python load_with_original.py EXPORT X.npy OUTPUTS.npy`."""

import sys

import numpy as np
import tensorflow.compat.v1 as tf


def main(path, x_path, outputs_path):
    with tf.Session(graph=tf.Graph()) as session:
        meta_graph = tf.saved_model.loader.load(session, ["serve"], path)
        signature = meta_graph.signature_def["serving_default"]
        feeds = {signature.inputs["x"].name: np.load(x_path)}
        np.save(outputs_path, session.run(signature.outputs["outputs"].name, feeds))


if __name__ == "__main__":
    main(*sys.argv[1:])
