"""Default names of layers: the class's name in snake case, counted in each graph."""

from __future__ import annotations

import collections
import re
import weakref

import tensorflow.compat.v1 as tf

# How often each name was given, by graph.
_counts: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def to_snake_case(class_name: str) -> str:
    """Returns 'conv2d_transpose' for 'Conv2DTranspose': a name that can begin a scope."""
    name = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", class_name)
    name = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    # A scope's name can't begin with an underscore.
    return "private" + name if name.startswith("_") else name


def make_unique(name: str) -> str:
    """Returns 'dense_1' the first time in a graph, then 'dense_2'."""
    counts = _counts.setdefault(tf.get_default_graph(), collections.Counter())
    counts[name] += 1
    return f"{name}_{counts[name]}"
