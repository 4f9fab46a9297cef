"""Integer features by one_hot and lookup, trained by optimizers with slots of every shape."""

import numpy as np
import tensorflow.compat.v1 as tf

from programs.program import Program, classification_spec, wrap_for_cores

NUM_KINDS = 7


def make_examples(num_examples, seed):
    """Makes int32 features [num_examples, 3] and labels by their sum."""
    random = np.random.RandomState(seed)
    kinds = random.randint(NUM_KINDS, size=[num_examples, 3]).astype(np.int32)
    return kinds, (kinds.sum(axis=1) > 9).astype(np.int32)


def build_logits(features):
    table = tf.get_variable(
        "table", [NUM_KINDS, 4], initializer=tf.random_normal_initializer(stddev=0.3)
    )
    looked_up = tf.reshape(tf.gather(table, features), [-1, 12])
    one_hot = tf.reshape(tf.one_hot(features, NUM_KINDS), [-1, 3 * NUM_KINDS])
    kernel = tf.get_variable(
        "kernel", [12 + 3 * NUM_KINDS, 2], initializer=tf.glorot_uniform_initializer()
    )
    return tf.matmul(tf.concat([looked_up, one_hot], axis=1), kernel)


def make_program(name, make_optimizer):
    def build_model_fn(api):
        def model_fn(features, labels, mode, params):
            def build_train_op(loss):
                optimizer = wrap_for_cores(make_optimizer(), api, params)
                return optimizer.minimize(loss, global_step=tf.train.get_global_step())

            return classification_spec(
                api, mode, params, build_logits(features), labels, build_train_op
            )

        return model_fn

    return Program(name, build_model_fn, make_examples)


PROGRAMS = (
    make_program("adagrad", lambda: tf.train.AdagradOptimizer(0.2)),
    make_program("adadelta", lambda: tf.train.AdadeltaOptimizer(1.0)),
    make_program("ftrl", lambda: tf.train.FtrlOptimizer(0.2, l1_regularization_strength=0.001)),
    make_program("rms_prop", lambda: tf.train.RMSPropOptimizer(0.02, momentum=0.5, centered=True)),
)
