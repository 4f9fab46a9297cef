"""The text of a graph is read as the graph that it was."""

import tensorflow.compat.v1 as tf
from google.protobuf import text_format

from tpuest import graph_text


def test_text_is_read_as_the_same_graph():
    contents = [bytes(range(256)) * 3, b'"\\"\\x4a\n' * 100, b"short"]
    with tf.Graph().as_default() as graph:
        for content in contents:
            tf.constant(list(content), tf.uint8)
        tf.constant([1.1, 1e-20, float("inf"), -0.0])
        tf.constant([b'tensor_content: "tpuest_0"', b"a\xff\n"])
        in_branch = lambda: tf.constant(list(contents[0]), tf.uint8)
        tf.cond(tf.placeholder(tf.bool), in_branch, lambda: tf.zeros([768], tf.uint8))
    graph_def = graph.as_graph_def(add_shapes=True)
    expected = type(graph_def).FromString(graph_def.SerializeToString())
    text = graph_text.to_text(graph_def)
    assert text_format.Parse(text, type(graph_def)()) == expected
