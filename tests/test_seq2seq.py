"""`tf.contrib.seq2seq` gives TensorFlow 1.15's variables and numbers."""

import numpy as np
import pytest
import recorded
import tensorflow as tf

import tpuest

pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated")
cases = recorded.load("record_seq2seq")


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
    recorded.assert_case_equals(found, case, original, atol=1e-6)


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
