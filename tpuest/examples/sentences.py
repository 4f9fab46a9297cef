"""Real sentences that are on every machine with TensorFlow: the documentation of three projects."""

import inspect
import random
import re
from pydoc_data import topics

import numpy as np
import tensorflow as tf

SOURCES = ("Python", "NumPy", "TensorFlow")
NUM_SENTENCES_OF_EACH = 1500

_SENTENCE_END = re.compile(r"(?<=[a-z)`][.?!])\s+(?=[A-Z])")
_NOT_PROSE = re.compile(r">>>|\.\. |::|={3,}|-{3,}|\*{3,}|https?:|(Args|Returns|Raises):")
_QUOTES = re.compile(r"[`\"*]")  # each project has its own, which would give it away
_FEWEST_WORDS, _MOST_WORDS = 6, 40


def load_sentences():
    """Gives `(sentences, labels)`, shuffled, as many of each source; a label is an index of `SOURCES`."""
    documents = (
        topics.topics.values(),
        _docstrings(np, np.linalg, np.random, np.fft, np.ndarray),
        _docstrings(tf, tf.math, tf.nn, tf.linalg, tf.image, tf.io, tf.data, tf.data.Dataset),
    )
    labelled = []
    for label, documents_of_source in enumerate(documents):
        sentences = sorted(set(_sentences(documents_of_source)))
        random.Random(label).shuffle(sentences)
        labelled += [(sentence, label) for sentence in sentences[:NUM_SENTENCES_OF_EACH]]
    random.Random(0).shuffle(labelled)
    return tuple(zip(*labelled))


def _docstrings(*places):
    for place in places:
        for name in dir(place):
            if not name.startswith("_"):
                yield inspect.getdoc(getattr(place, name, None)) or ""


def _sentences(documents):
    for document in documents:
        for paragraph in re.split(r"\n\s*\n", document):
            if not _NOT_PROSE.search(paragraph):
                yield from _sentences_of_paragraph(" ".join(paragraph.split()))


def _sentences_of_paragraph(paragraph):
    for sentence in _SENTENCE_END.split(paragraph):
        is_whole = sentence[:1].isupper() and sentence.endswith((".", "?", "!"))
        if is_whole and _FEWEST_WORDS <= len(sentence.split()) <= _MOST_WORDS:
            yield _QUOTES.sub("", sentence)
