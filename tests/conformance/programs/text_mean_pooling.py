"""Text classifier without recurrence: an embedding table, masked mean pooling, a hidden layer."""

import numpy as np
import tensorflow.compat.v1 as tf

from programs.program import Program, classification_spec, wrap_for_cores

VOCABULARY_SIZE = 30
MAX_LENGTH = 9


def make_examples(num_examples, seed):
    """Makes int32 tokens [num_examples, 9] padded with 0, int32 lengths, and labels by the majority of odd tokens."""
    random = np.random.RandomState(seed)
    lengths = random.randint(1, MAX_LENGTH + 1, size=num_examples)
    tokens = random.randint(1, VOCABULARY_SIZE, size=[num_examples, MAX_LENGTH])
    tokens *= np.arange(MAX_LENGTH) < lengths[:, np.newaxis]
    labels = (tokens % 2).sum(axis=1) * 2 > lengths
    return {"tokens": tokens.astype(np.int32), "length": lengths.astype(np.int32)}, labels.astype(
        np.int32
    )


def build_model_fn(api):
    def model_fn(features, labels, mode, params):
        with tf.variable_scope("text", reuse=tf.AUTO_REUSE):
            table = tf.get_variable(
                "embedding",
                [VOCABULARY_SIZE, 8],
                initializer=tf.random_uniform_initializer(-0.5, 0.5),
            )
            embedded = tf.nn.embedding_lookup(table, features["tokens"])
            mask = tf.sequence_mask(features["length"], MAX_LENGTH, dtype=tf.float32)[
                :, :, tf.newaxis
            ]
            pooled = tf.reduce_sum(embedded * mask, axis=1) / tf.reduce_sum(mask, axis=1)
            kernel = tf.get_variable("kernel", [8, 2], initializer=tf.glorot_normal_initializer())
            bias = tf.get_variable("bias", [2], initializer=tf.constant_initializer(0.1))
            logits = tf.nn.bias_add(tf.matmul(pooled, kernel), bias)

        def build_train_op(loss):
            optimizer = wrap_for_cores(tf.train.AdamOptimizer(0.05, beta2=0.99), api, params)
            return optimizer.minimize(loss, global_step=tf.train.get_global_step())

        return classification_spec(api, mode, params, logits, labels, build_train_op)

    return model_fn


PROGRAM = Program("text_mean_pooling", build_model_fn, make_examples)
