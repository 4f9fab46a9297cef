"""Cases of `tf.contrib.seq2seq`; run by TensorFlow 1.15, writes what they give.

    path/to/tensorflow1.15/bin/python tests/goldens/record_seq2seq.py

Each case takes the module and gives tensors by name. `tests/test_seq2seq.py` runs the same cases here.
"""

import os

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
GOLDENS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seq2seq_tf115.npz")
BATCH, TIME, DEPTH, CLASSES, MEMORY_TIME, UNITS = 3, 4, 5, 7, 6, 8
LENGTHS = [4, 2, 3]
MEMORY_LENGTHS = [6, 3, 1]


def constant(seed, *shape):
    return tf.constant(np.random.RandomState(seed).uniform(-1, 1, shape).astype("float32"))


def memory():
    return constant(1, BATCH, MEMORY_TIME, DEPTH)


def wrapped(seq2seq, mechanism, **options):
    return seq2seq.AttentionWrapper(v1.nn.rnn_cell.BasicLSTMCell(UNITS), mechanism, **options)


def decoded(seq2seq, cell, helper, state=None, output_layer=None, **options):
    state = cell.zero_state(BATCH, tf.float32) if state is None else state
    decoder = seq2seq.BasicDecoder(cell, helper, state, output_layer)
    outputs, state, lengths = seq2seq.dynamic_decode(decoder, **options)
    return {"outputs": outputs.rnn_output, "ids": outputs.sample_id, "lengths": lengths}


def trained(seq2seq, mechanism, **options):
    helper = seq2seq.TrainingHelper(constant(2, BATCH, TIME, DEPTH), LENGTHS)
    cell = wrapped(seq2seq, mechanism, **options)
    return decoded(seq2seq, cell, helper, impute_finished=True)


def luong(seq2seq):
    mechanism = seq2seq.LuongAttention(UNITS, memory(), MEMORY_LENGTHS, scale=True)
    return trained(seq2seq, mechanism, attention_layer_size=6)


def bahdanau(seq2seq):
    return trained(seq2seq, seq2seq.BahdanauAttention(UNITS, memory(), MEMORY_LENGTHS))


def bahdanau_normalized(seq2seq):
    mechanism = seq2seq.BahdanauAttention(UNITS, memory(), normalize=True)
    return trained(seq2seq, mechanism, attention_layer_size=6, output_attention=False)


def two_mechanisms(seq2seq):
    mechanisms = [
        seq2seq.LuongAttention(UNITS, memory()),
        seq2seq.BahdanauMonotonicAttention(UNITS, memory(), normalize=True),
    ]
    return trained(seq2seq, mechanisms, attention_layer_size=[3, 4])


def monotonic(seq2seq):
    made = {}
    for mode in ("recursive", "parallel", "hard"):
        with v1.variable_scope(mode):
            mechanism = seq2seq.LuongMonotonicAttention(UNITS, memory(), mode=mode)
            for name, tensor in trained(seq2seq, mechanism).items():
                made[mode + "_" + name] = tensor
    return made


def history(seq2seq):
    mechanism = seq2seq.LuongAttention(UNITS, memory(), MEMORY_LENGTHS)
    cell = wrapped(seq2seq, mechanism, alignment_history=True)
    helper = seq2seq.TrainingHelper(constant(2, BATCH, TIME, DEPTH), LENGTHS)
    decoder = seq2seq.BasicDecoder(cell, helper, cell.zero_state(BATCH, tf.float32))
    _, state, _ = seq2seq.dynamic_decode(decoder, output_time_major=True)
    return {"history": state.alignment_history.stack(), "time": state.time}


def greedy(seq2seq):
    cell = v1.nn.rnn_cell.GRUCell(UNITS)
    helper = seq2seq.GreedyEmbeddingHelper(constant(3, CLASSES, DEPTH), [1] * BATCH, 2)
    layer = v1.layers.Dense(CLASSES, name="logits")
    state = constant(4, BATCH, UNITS)
    return decoded(seq2seq, cell, helper, state, layer, maximum_iterations=5)


def sampled(seq2seq):
    cell = v1.nn.rnn_cell.GRUCell(UNITS)
    table = constant(3, CLASSES, DEPTH)
    helper = seq2seq.SampleEmbeddingHelper(table, [1] * BATCH, 2, 0.5, seed=7)
    layer = v1.layers.Dense(CLASSES, name="logits")
    return decoded(seq2seq, cell, helper, output_layer=layer, maximum_iterations=5)


def scheduled_embedding(seq2seq):
    made = {}
    # Draws in a loop come in no certain order: these probabilities need none.
    for probability in (0.0, 1.0):
        with v1.variable_scope("with_%d" % probability):
            cell = v1.nn.rnn_cell.GRUCell(UNITS)
            helper = seq2seq.ScheduledEmbeddingTrainingHelper(
                constant(2, BATCH, TIME, DEPTH), LENGTHS, constant(3, CLASSES, DEPTH),
                probability, seed=5,
            )  # fmt: skip
            layer = v1.layers.Dense(CLASSES, name="logits")
            for name, tensor in decoded(seq2seq, cell, helper, output_layer=layer).items():
                made["%s_with_%d" % (name, probability)] = tensor
    return made


def scheduled_output(seq2seq):
    made = {}
    options = {
        "never": {"sampling_probability": 0.0},
        "always": {
            "sampling_probability": 1.0, "auxiliary_inputs": constant(8, BATCH, TIME, 2),
        },
        "doubled": {"sampling_probability": 1.0, "next_inputs_fn": lambda x: 2 * x},
    }  # fmt: skip
    for name in sorted(options):
        with v1.variable_scope(name):
            helper = seq2seq.ScheduledOutputTrainingHelper(
                constant(2, BATCH, TIME, DEPTH), LENGTHS, **options[name]
            )
            made[name] = decoded(seq2seq, v1.nn.rnn_cell.GRUCell(DEPTH), helper)["outputs"]
    return made


def beams(seq2seq):
    width = 3
    tiled = seq2seq.tile_batch(memory(), width)
    mechanism = seq2seq.BahdanauAttention(
        UNITS, tiled, seq2seq.tile_batch(tf.constant(MEMORY_LENGTHS), width)
    )
    cell = wrapped(seq2seq, mechanism, attention_layer_size=6, alignment_history=True)
    decoder = seq2seq.BeamSearchDecoder(
        cell, constant(3, CLASSES, DEPTH), [1] * BATCH, 2,
        cell.zero_state(BATCH * width, tf.float32), width,
        output_layer=v1.layers.Dense(CLASSES, name="logits", use_bias=False),
        length_penalty_weight=0.6, coverage_penalty_weight=0.2,
    )  # fmt: skip
    outputs, state, lengths = seq2seq.dynamic_decode(decoder, maximum_iterations=6)
    return {
        "sequences": outputs.predicted_ids,
        "scores": outputs.beam_search_decoder_output.scores,
        "parents": outputs.beam_search_decoder_output.parent_ids,
        "lengths": lengths,
        "log_probs": state.log_probs,
        "history": state.cell_state.alignment_history.stack(),
    }


def beams_of_plain_cells(seq2seq):
    width = 2
    cells = [v1.nn.rnn_cell.LSTMCell(UNITS) for _ in range(2)]
    cell = v1.nn.rnn_cell.MultiRNNCell(cells)
    decoder = seq2seq.BeamSearchDecoder(
        cell, constant(3, CLASSES, DEPTH), [1] * BATCH, 2,
        cell.zero_state(BATCH * width, tf.float32), width,
        output_layer=v1.layers.Dense(CLASSES, name="logits"),
    )  # fmt: skip
    outputs, _, lengths = seq2seq.dynamic_decode(decoder, maximum_iterations=5)
    return {"sequences": outputs.predicted_ids, "lengths": lengths}


def trees(seq2seq):
    ids = tf.constant([[[2, 2, 2]], [[3, 4, 5]], [[6, 7, 8]], [[9, 10, 10]]])
    parents = tf.constant([[[0, 0, 0]], [[0, 1, 1]], [[1, 2, 1]], [[2, 0, 1]]])
    array = tf.reshape(tf.range(12), [4, 1, 3])
    lengths = tf.constant([[3, 3, 4]])
    return {
        "tree": seq2seq.gather_tree(ids, parents, [3], 10),
        "array": seq2seq.gather_tree_from_array(array, parents, lengths),
    }


def losses(seq2seq):
    logits, targets = constant(9, BATCH, TIME, CLASSES), tf.constant([[1, 2, 3, 4]] * BATCH)
    weights = tf.sequence_mask(LENGTHS, TIME, dtype=tf.float32)
    options = {
        "mean": {},
        "by_batch": {"average_across_batch": False},
        "by_time": {"average_across_timesteps": False},
        "each": {"average_across_batch": False, "average_across_timesteps": False},
        "sum": {
            "average_across_batch": False, "average_across_timesteps": False,
            "sum_over_batch": True, "sum_over_timesteps": True,
        },
    }  # fmt: skip
    return {n: seq2seq.sequence_loss(logits, targets, weights, **o) for n, o in options.items()}


def small_functions(seq2seq):
    x = constant(10, 2, 5)
    return {"hardmax": seq2seq.hardmax(x), "cumprod": seq2seq.safe_cumprod(tf.abs(x), axis=1)}


CASES = [
    luong, bahdanau, bahdanau_normalized, two_mechanisms, monotonic, history, greedy, sampled,
    scheduled_embedding, scheduled_output, beams, beams_of_plain_cells, trees, losses,
    small_functions,
]  # fmt: skip


def run(case, seq2seq):
    """Gives what a case computes: values by name, and the names of its variables."""
    graph = tf.Graph()
    with graph.as_default(), v1.Session(graph=graph) as session:
        initializer = v1.random_uniform_initializer(-0.5, 0.5, seed=3)
        with v1.variable_scope("case", initializer=initializer):
            tensors = case(seq2seq)
        names = sorted(v.op.name for v in v1.trainable_variables())
        session.run(v1.global_variables_initializer())
        return dict(session.run(tensors), variables=np.array(names, dtype=str))


if __name__ == "__main__":
    from tensorflow.contrib import seq2seq as original
    from tensorflow.contrib.seq2seq.python.ops import beam_search_decoder, beam_search_ops

    original.gather_tree = beam_search_ops.gather_tree
    original.gather_tree_from_array = beam_search_decoder.gather_tree_from_array
    values = {}
    for case in CASES:
        for name, value in run(case, original).items():
            values["%s/%s" % (case.__name__, name)] = value
    np.savez_compressed(GOLDENS, **values)
