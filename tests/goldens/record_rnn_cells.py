"""Cases of `tf.contrib.rnn`; run by TensorFlow 1.15, writes what they give.

    path/to/tensorflow1.15/bin/python tests/goldens/record_rnn_cells.py

Each case takes the module and gives tensors by name. `tests/test_rnn_cells.py` runs the same cases here.
"""

import os

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
GOLDENS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rnn_cells_tf115.npz")
BATCH, TIME, DEPTH, UNITS = 3, 4, 5, 6
LENGTHS = [4, 2, 3]


def constant(seed, *shape):
    return tf.constant(np.random.RandomState(seed).uniform(-1, 1, shape).astype("float32"))


def unrolled(cell, inputs, lengths=None):
    """Runs a cell over inputs [BATCH, TIME, ...]; gives outputs, state and a gradient's sum."""
    outputs, state = v1.nn.dynamic_rnn(cell, inputs, sequence_length=lengths, dtype=tf.float32)
    gradients = tf.gradients(tf.reduce_sum(tf.square(outputs)), v1.trainable_variables())
    sums = tf.stack([tf.reduce_sum(tf.abs(gradient)) for gradient in gradients])
    return {"outputs": outputs, "cell": state[0], "hidden": state[1], "gradients": sums}


def layer_norm_lstm(rnn):
    cell = rnn.LayerNormBasicLSTMCell(UNITS, forget_bias=0.5)
    return unrolled(cell, constant(1, BATCH, TIME, DEPTH), LENGTHS)


def layer_norm_lstm_gains(rnn):
    cell = rnn.LayerNormBasicLSTMCell(UNITS, activation=tf.nn.relu, norm_gain=0.7, norm_shift=0.1)
    return unrolled(cell, constant(2, BATCH, TIME, DEPTH))


def layer_norm_lstm_without_norm(rnn):
    cell = rnn.LayerNormBasicLSTMCell(UNITS, layer_norm=False)
    return unrolled(cell, constant(3, BATCH, TIME, DEPTH), LENGTHS)


def layer_norm_lstm_small_inputs(rnn):
    cell = rnn.LayerNormBasicLSTMCell(UNITS)
    return unrolled(cell, 1e-3 * constant(4, BATCH, TIME, DEPTH))


def two_layers_of_layer_norm_lstm(rnn):
    cells = [rnn.LayerNormBasicLSTMCell(size) for size in (UNITS, UNITS - 1)]
    outputs, states = v1.nn.dynamic_rnn(
        rnn.MultiRNNCell(cells), constant(5, BATCH, TIME, DEPTH), dtype=tf.float32
    )
    return {"outputs": outputs, "first": states[0].c, "second": states[1].h}


def nas(rnn):
    return unrolled(rnn.NASCell(UNITS), constant(12, BATCH, TIME, DEPTH), LENGTHS)


def nas_with_bias_and_projection(rnn):
    cell = rnn.NASCell(UNITS, num_proj=UNITS - 2, use_bias=True, name="cell_of_mine")
    return unrolled(cell, constant(13, BATCH, TIME, DEPTH))


def conv1d_lstm(rnn):
    cell = rnn.Conv1DLSTMCell(input_shape=[5, 2], output_channels=3, kernel_shape=[3])
    return unrolled(cell, constant(6, BATCH, TIME, 5, 2), LENGTHS)


def conv2d_lstm(rnn):
    cell = rnn.Conv2DLSTMCell(
        input_shape=[5, 4, 2], output_channels=3, kernel_shape=[3, 2], use_bias=False
    )
    return unrolled(cell, constant(7, BATCH, TIME, 5, 4, 2))


def conv2d_lstm_of_a_name(rnn):
    cell = rnn.ConvLSTMCell(
        conv_ndims=2,
        input_shape=[4, 4, 2],
        output_channels=2,
        kernel_shape=[3, 3],
        forget_bias=0.3,
        name="cell_of_mine",
    )
    return unrolled(cell, constant(8, BATCH, TIME, 4, 4, 2))


def conv3d_lstm(rnn):
    cell = rnn.Conv3DLSTMCell(input_shape=[3, 3, 2, 1], output_channels=2, kernel_shape=[3, 1, 2])
    return unrolled(cell, constant(9, BATCH, TIME, 3, 3, 2, 1))


def conv2d_lstm_with_skip_connection(rnn):
    cell = rnn.Conv2DLSTMCell(
        input_shape=[4, 4, 2], output_channels=3, kernel_shape=[3, 3], skip_connection=True
    )
    # One step: the state that it gives has more channels than the one it takes.
    outputs, state = cell(constant(10, BATCH, 4, 4, 2), cell.zero_state(BATCH, tf.float32))
    return {"outputs": outputs, "cell": state.c, "hidden": state.h}


def bidirectional_layers(rnn):
    sides = [[v1.nn.rnn_cell.GRUCell(size) for size in (UNITS, UNITS - 2)] for _ in range(2)]
    outputs, forward, backward = rnn.stack_bidirectional_dynamic_rnn(
        sides[0],
        sides[1],
        constant(11, BATCH, TIME, DEPTH),
        sequence_length=LENGTHS,
        dtype=tf.float32,
    )
    return {"outputs": outputs, "forward": forward[1], "backward": backward[0]}


CASES = [
    layer_norm_lstm, layer_norm_lstm_gains, layer_norm_lstm_without_norm,
    layer_norm_lstm_small_inputs, two_layers_of_layer_norm_lstm, nas, nas_with_bias_and_projection,
    conv1d_lstm, conv2d_lstm, conv2d_lstm_of_a_name, conv3d_lstm, conv2d_lstm_with_skip_connection, bidirectional_layers,
]  # fmt: skip


def run(case, rnn):
    """Gives what a case computes: values by name, and the names of its variables."""
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        initializer = v1.random_uniform_initializer(-0.5, 0.5, seed=3)
        with v1.variable_scope("case", initializer=initializer):
            tensors = case(rnn)
        names = sorted(v.op.name for v in v1.trainable_variables())
        session.run(v1.global_variables_initializer())
        return dict(session.run(tensors), variables=np.array(names, dtype=str))


if __name__ == "__main__":
    from tensorflow.contrib import rnn as original

    values = {}
    for case in CASES:
        for name, value in run(case, original).items():
            values["%s/%s" % (case.__name__, name)] = value
    np.savez_compressed(GOLDENS, **values)
