"""Convolutions with fused batch normalisation, UPDATE_OPS and Nesterov momentum."""

import numpy as np
import tensorflow.compat.v1 as tf

from programs.program import Program, classification_spec, make_blobs, wrap_for_cores


def make_examples(num_examples, seed):
    images, labels = make_blobs(num_examples, seed, num_features=64, num_classes=3)
    return {"image": np.reshape(images, [-1, 8, 8, 1])}, labels


def build_model_fn(api):
    def model_fn(features, labels, mode, params):
        is_training = mode == api.ModeKeys.TRAIN
        net = tf.layers.conv2d(features["image"], 6, 3, padding="same", use_bias=False)
        net = tf.layers.batch_normalization(
            net, momentum=0.9, epsilon=1e-5, fused=True, training=is_training
        )
        net = tf.layers.max_pooling2d(tf.nn.relu(net), pool_size=2, strides=2)
        # No bias before a normalisation: its gradient is zero but for rounding, which no two machines share.
        net = tf.layers.conv2d(net, 8, 3, padding="same", use_bias=False, name="second")
        net = tf.layers.batch_normalization(
            net, momentum=0.9, fused=True, training=is_training, name="second_norm"
        )
        net = tf.reduce_mean(tf.nn.relu(net), axis=[1, 2])
        logits = tf.layers.dense(net, 3)

        def build_train_op(loss):
            optimizer = tf.train.MomentumOptimizer(0.05, momentum=0.9, use_nesterov=True)
            optimizer = wrap_for_cores(optimizer, api, params)
            with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
                return optimizer.minimize(loss, global_step=tf.train.get_global_step())

        return classification_spec(api, mode, params, logits, labels, build_train_op)

    return model_fn


PROGRAM = Program(
    "cnn_batch_norm",
    build_model_fn,
    make_examples,
    has_batch_norm=True,
    exact_on_cores=False,
    why_inexact_on_cores="batch moments are those of a core's own examples",
)
