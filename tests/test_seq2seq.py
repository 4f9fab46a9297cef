"""`tf.contrib.seq2seq` gives TensorFlow 1.15's variables and numbers."""

import importlib.util
import os

import numpy as np
import pytest
import tensorflow as tf

import tpuest

GOLDENS = os.path.join(os.path.dirname(__file__), "goldens")
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated")


def _cases():
    path = os.path.join(GOLDENS, "record_seq2seq.py")
    spec = importlib.util.spec_from_file_location("record_seq2seq", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _cases()


@pytest.fixture(scope="module")
def original():
    with np.load(cases.GOLDENS) as values:
        return dict(values)


@pytest.fixture
def seq2seq():
    with tpuest.installed():
        yield tf.contrib.seq2seq


@pytest.mark.parametrize("case", cases.CASES, ids=lambda case: case.__name__)
def test_case_equals_the_original(seq2seq, original, case):
    found = cases.run(case, seq2seq)
    wanted = {
        name.partition("/")[2]: value
        for name, value in original.items()
        if name.startswith(f"{case.__name__}/")
    }
    assert found.keys() == wanted.keys()
    assert found["variables"].tolist() == wanted["variables"].tolist()
    for name in wanted.keys() - {"variables"}:
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5, atol=1e-6, err_msg=name)


def test_all_of_the_originals_names_are_there(seq2seq):
    assert {"AttentionWrapper", "BeamSearchDecoder", "dynamic_decode"} <= set(dir(seq2seq))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda s: s.dynamic_decode("no decoder"), TypeError, "to be type Decoder"),
        (lambda s: s.BasicDecoder("no cell", None, None), TypeError, "is not an RNNCell"),
        (lambda s: s.TrainingHelper(np.zeros([2, 3, 1]), 3), ValueError, "to be a vector"),
        (lambda s: s.GreedyEmbeddingHelper(len, 1, 2), ValueError, "start_tokens must be a vector"),
        (lambda s: s.monotonic_attention([[1.0]], [[1.0]], "no mode"), ValueError, "mode must be"),
        (
            lambda s: s.sequence_loss(tf.zeros([1, 2]), tf.zeros([1, 2]), tf.zeros([1, 2])),
            ValueError,
            "Logits must be",
        ),
    ],
)
def test_wrong_argument_is_refused_in_the_originals_words(seq2seq, make, error, words):
    with tf.Graph().as_default(), pytest.raises(error, match=words):
        make(seq2seq)
