"""What some names mean while `model_fn` is called: TF 1's meaning, in TensorFlow 2.

Takes nothing and gives a context manager; each patch is undone when it ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator

import tensorflow as tf

from tpuest import _tf
from tpuest.compat import api, layers


@contextlib.contextmanager
def graph_scope(graph: tf.Graph) -> Iterator[None]:
    """Makes a TF 1 graph the default, with ops that `transplant` can carry over."""
    with graph.as_default(), functional_control_flow(), resource_variables():
        yield


@contextlib.contextmanager
def model_fn_scope(num_shards: int | None) -> Iterator[None]:
    """Gives names their TF 1 meaning, in a `graph_scope`.

    Args:
      num_shards: what `CrossShardOptimizer` divides gradients by; `None` without cores.
    """
    with contextlib.ExitStack() as stack:
        if not keras_serves_layers():
            stack.enter_context(keras_free_layers())
        if num_shards is not None:
            stack.enter_context(_tf.tpu_shard_context(num_shards))
            stack.enter_context(_tf.compiled_by_xla())
        yield


@contextlib.contextmanager
def functional_control_flow() -> Iterator[None]:
    """Lets `tf.cond` and `tf.while_loop` make functional ops: the loop's own graph has no frames to nest in."""
    was_enabled = tf.compat.v1.control_flow_v2_enabled()
    tf.compat.v1.enable_control_flow_v2()
    try:
        yield
    finally:
        if not was_enabled:
            tf.compat.v1.disable_control_flow_v2()


@contextlib.contextmanager
def resource_variables() -> Iterator[None]:
    """Makes every variable a resource, even after `tf.disable_v2_behavior()` or with `use_resource=False`."""

    def use_resource(next_creator, **arguments):
        arguments["use_resource"] = True
        if arguments.get("validate_shape") is False and arguments.get("shape") is None:
            # Values of other shapes will be assigned; from the first one's, constants would be folded.
            arguments["shape"] = tf.TensorShape(None)
        return next_creator(**arguments)

    were_enabled = tf.compat.v1.resource_variables_enabled()
    tf.compat.v1.enable_resource_variables()
    try:
        with tf.variable_creator_scope(use_resource):
            yield
    finally:
        if not were_enabled:
            tf.compat.v1.disable_resource_variables()


def keras_serves_layers() -> bool:
    """Says whether the user asked for Keras 2, whose `tf.layers` are the original ones."""
    wants_keras_2 = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
    return wants_keras_2 and importlib.util.find_spec("tf_keras") is not None


@contextlib.contextmanager
def keras_free_layers() -> Iterator[None]:
    """Puts tpuest's layers where `tf.compat.v1.layers` has Keras's, which refuse to work with Keras 3."""
    ours = {name: getattr(layers, name) for name in layers.__all__}
    # Not setattr: the attribute is a lazy module, and loading it is what fails.
    copies = [vars(module) for module in api.modules("layers")]
    before = [{name: names[name] for name in ours if name in names} for names in copies]
    for names in copies:
        names.update(ours)
    try:
        yield
    finally:
        for names, previous in zip(copies, before, strict=True):
            for name in ours:
                del names[name]
            names.update(previous)
