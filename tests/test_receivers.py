"""Receivers check what they are given and name what has no name."""

import numpy as np
import pytest
import tensorflow as tf

from tpuest import receivers
from tpuest.receivers import (
    ServingInputReceiver,
    SupervisedInputReceiver,
    TensorServingInputReceiver,
    UnsupervisedInputReceiver,
)

FEED = tf.constant(["text"])


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as default_graph:
        yield default_graph


def number():
    return tf.constant([1.0])


def test_lone_tensors_get_the_originals_names():
    receiver = ServingInputReceiver(number(), number(), {"other": number()})
    assert list(receiver.features) == ["feature"]
    assert list(receiver.receiver_tensors) == ["input"]
    assert {k: list(v) for k, v in receiver.receiver_tensors_alternatives.items()} == {
        "other": ["input"]
    }


def test_tensor_receiver_passes_its_feature_as_it_is():
    feature = number()
    receiver = TensorServingInputReceiver(feature, {"x": feature})
    assert receiver.features is feature


def test_unsupervised_receiver_is_a_serving_receiver_without_alternatives():
    receiver = UnsupervisedInputReceiver({"a": number()}, {"x": number()})
    assert isinstance(receiver, ServingInputReceiver)
    assert receiver.receiver_tensors_alternatives is None


def test_supervised_receiver_leaves_features_and_labels_as_they_are():
    feature, label = number(), number()
    receiver = SupervisedInputReceiver(feature, label, number())
    assert receiver.features is feature
    assert receiver.labels is label


def test_names_of_features_may_be_integers():
    features = {"a": number(), 42: number()}
    assert ServingInputReceiver(features, number()).features is features
    assert SupervisedInputReceiver(features, features, number()).labels is features


def test_sparse_and_ragged_tensors_are_tensors():
    sparse = tf.sparse.from_dense([[1.0]])
    ragged = tf.RaggedTensor.from_row_lengths([1.0], [1])
    assert ServingInputReceiver({"s": sparse, "r": ragged}, {"s": sparse}).features["s"] is sparse
    assert TensorServingInputReceiver(sparse, sparse).features is sparse


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x: ServingInputReceiver(None, x), "features must be defined."),
        (lambda x: TensorServingInputReceiver(None, x), "features must be defined."),
        (lambda x: SupervisedInputReceiver(x, None, x), "labels must be defined."),
        (lambda x: ServingInputReceiver(x, None), "receiver_tensors must be defined."),
        (lambda x: ServingInputReceiver({1.5: x}, x), "feature keys must be strings or ints: 1.5."),
        (lambda x: SupervisedInputReceiver(x, {1.5: x}, x), "label keys must be strings or ints"),
        (lambda x: ServingInputReceiver(x, {1: x}), "receiver_tensor keys must be strings: 1."),
        (
            lambda x: ServingInputReceiver({"a": [1]}, x),
            "feature a must be a Tensor, SparseTensor, or RaggedTensor.",
        ),
        (
            lambda x: TensorServingInputReceiver({"a": x}, x),
            "feature must be a Tensor, SparseTensor, or RaggedTensor.",
        ),
        (lambda x: ServingInputReceiver(x, {"a": [1]}), "receiver_tensor a must be a Tensor"),
        (lambda x: SupervisedInputReceiver(x, 100, x), "label must be a Tensor"),
        (
            lambda x: ServingInputReceiver(x, x, [x]),
            "receiver_tensors_alternatives must be a dict",
        ),
        (
            lambda x: ServingInputReceiver(x, x, {"other": {"a": 1}}),
            "receiver_tensors_alternative a must be a Tensor",
        ),
    ],
)
def test_what_is_no_receiver_is_refused_in_the_originals_words(make, words):
    with pytest.raises(ValueError) as caught:
        make(number())
    assert words in str(caught.value)


def test_parsing_receiver_is_fed_examples():
    receiver = receivers.build_parsing_serving_input_receiver_fn(
        {"x": tf.io.FixedLenFeature([2], tf.float32)}, default_batch_size=5
    )()
    (examples,) = receiver.receiver_tensors.values()
    assert (examples.name, examples.shape) == ("input_example_tensor:0", [5])
    assert receiver.features["x"].shape == [5, 2]


def test_raw_receiver_is_fed_the_features():
    given = {"a": tf.compat.v1.placeholder(tf.int32, [7, 3], name="given"), "b": FEED}
    receiver = receivers.build_raw_serving_input_receiver_fn(given)()
    assert receiver.features is receiver.receiver_tensors
    assert receiver.features["a"].shape.as_list() == [None, 3]
    assert receiver.features["a"].op.name == "given_1"
    assert receiver.features["b"].dtype == tf.string


def test_raw_receiver_keeps_an_unknown_shape():
    given = {"a": tf.compat.v1.placeholder(tf.int32)}
    assert receivers.build_raw_serving_input_receiver_fn(given)().features["a"].shape.rank is None


def test_supervised_receiver_is_fed_features_and_labels():
    receiver_fn = receivers.build_raw_supervised_input_receiver_fn(number(), number(), 3)
    receiver = receiver_fn()
    assert receiver.receiver_tensors == {"input": receiver.features, "label": receiver.labels}
    assert receiver.features.shape == [3]


def test_features_and_labels_of_one_name_are_refused():
    with pytest.raises(ValueError, match="must have distinct keys. Found overlapping keys"):
        receivers.build_raw_supervised_input_receiver_fn({"a": FEED}, {"a": FEED})


def dataset_input_fn(size=2):
    x = np.zeros([6, size], np.float32)
    return tf.data.Dataset.from_tensor_slices(({"x": x}, x[:, 0])).batch(3)


def tensors_input_fn(size=2):
    return {"x": tf.zeros([3, size])}, tf.zeros([3])


@pytest.mark.parametrize("input_fn", [dataset_input_fn, tensors_input_fn])
def test_supervised_receiver_takes_the_shapes_of_an_input_fn(input_fn, graph):
    receiver_fn = receivers.build_supervised_input_receiver_fn_from_input_fn(input_fn, size=4)
    assert not graph.get_operations()
    receiver = receiver_fn()
    assert receiver.features["x"].shape.as_list() == [None, 4]
    assert receiver.labels.shape.as_list() == [None]
    assert sorted(receiver.receiver_tensors) == ["label", "x"]


def test_input_fn_without_labels_is_refused():
    with pytest.raises(ValueError, match="should return \\(features, labels\\)"):
        receivers.build_supervised_input_receiver_fn_from_input_fn(lambda: {"x": number()})
