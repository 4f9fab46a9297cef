"""The functions of `tf.layers`, made from its classes."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from tpuest.compat.layers.base import Layer

_NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD


def make_function(name: str, layer_class: type[Layer]) -> Callable:
    """Makes the function of a layer class: build one, apply it once.

        dense = make_function('dense', Dense)
        dense(x, 10, name='logits', reuse=True)

    Args:
      name: name of the function.
      layer_class: the class. The function takes `inputs`, then what the class
        takes, then, where the class has variables, `reuse`.

    Returns:
      A function from inputs and arguments to outputs.
    """
    has_variables = layer_class.build is not Layer.build
    signature = _extend_signature(layer_class, with_reuse=has_variables)

    def apply_once(*args, **kwargs):
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{name}() {error}") from None
        inputs = arguments.pop("inputs")
        if has_variables:
            arguments["_reuse"] = arguments.pop("reuse", None)
            arguments["_scope"] = arguments.get("name")
        return layer_class(**arguments).apply(inputs)

    apply_once.__name__ = apply_once.__qualname__ = name
    apply_once.__module__ = layer_class.__module__
    apply_once.__signature__ = signature
    apply_once.__doc__ = (
        f"Makes a `{layer_class.__name__}` and applies it to `inputs`.\n\n{layer_class.__doc__}"
    )
    return apply_once


def _extend_signature(layer_class, with_reuse):
    own = [
        parameter
        for parameter in inspect.signature(layer_class).parameters.values()
        if parameter.kind is _NAMED
    ]
    reuse = [inspect.Parameter("reuse", _NAMED, default=None)]
    return inspect.Signature(
        [inspect.Parameter("inputs", _NAMED), *own, *(reuse if with_reuse else [])]
    )
