"""State that a `model_fn` hands from step to step: `train_cache_fn` and `eval_cache_fn`.

Copies of `tpu_estimator.py` that come with language models (transformer-xl, xlnet) have these arguments.
Takes such a `model_fn`, gives one for any estimator:

    params["cache"]                 ->  what the step before left, read from local variables
    spec.cache = new_state          ->  written to them at the end of the step
    cache_fn(batch_size)            ->  their initial values, at every call of train or evaluate

Differs from those copies: they began anew at every `iterations_per_loop` steps, and had no state off the TPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest.spec import ModeKeys

_v1 = tf.compat.v1


def carrying_state(
    model_fn: Callable, train_cache_fn: Callable | None, eval_cache_fn: Callable | None
) -> Callable:
    """Gives a `model_fn` that keeps what `model_fn` hands on.

    Args:
      model_fn: reads `params["cache"]`, a tuple of tensors, and sets the attribute `cache` of its
        spec to as many, of the same shapes and types.
      train_cache_fn: gives a list of tensors for a core's batch size, a number of examples; None for a
        training without state.
      eval_cache_fn: the same for evaluation.
    """
    cache_fns = {ModeKeys.TRAIN: train_cache_fn, ModeKeys.EVAL: eval_cache_fn}

    @functools.wraps(model_fn)
    def model_fn_with_state(features: Any, **arguments: Any) -> Any:
        params = arguments["params"]
        cache_fn = cache_fns.get(arguments.get("mode"))
        if cache_fn is None:
            return model_fn(features=features, **arguments)
        variables = _variables(functools.partial(cache_fn, params["batch_size"]))
        state = tuple(variable.read_value() for variable in variables)
        arguments["params"] = {**params, "cache": state}
        spec = model_fn(features=features, **arguments)
        return _with_updates(spec, variables, state)

    return model_fn_with_state


def _variables(initial_values: Callable[[], list[tf.Tensor]]) -> list[tf.Variable]:
    """Makes a core's local variables: what is in no checkpoint."""
    with tf.Graph().as_default():
        forms = [(value.shape, value.dtype) for value in initial_values()]
    return [
        _v1.get_variable(
            f"carried_state_{i}",
            shape=shape,
            dtype=dtype,
            # Called where variables get their values: a value made here would belong to the core's step.
            initializer=lambda *args, i=i, **kwargs: initial_values()[i],
            trainable=False,
            collections=[_v1.GraphKeys.LOCAL_VARIABLES],
            use_resource=True,
        )
        for i, (shape, dtype) in enumerate(forms)
    ]


def _with_updates(spec: Any, variables: list[tf.Variable], state: tuple[tf.Tensor, ...]) -> Any:
    """Adds to a spec's step what keeps its `cache`.

    Raises:
      ValueError: the spec has none, or not as many tensors as it was given.
    """
    new_state = getattr(spec, "cache", None)
    if new_state is None or len(new_state) != len(variables):
        raise ValueError(
            f"The spec's `cache` must have as many tensors as params['cache'], {len(variables)}; "
            f"got {new_state}."
        )
    # The step reads before it writes, whether or not the new state depends on the old.
    with tf.control_dependencies([*state, *new_state]):
        updates = [
            variable.assign(value, read_value=False)
            for variable, value in zip(variables, new_state, strict=True)
        ]
    if spec.mode == ModeKeys.TRAIN:
        return spec._replace(train_op=tf.group(spec.train_op, *updates))
    with tf.control_dependencies(updates):
        return spec._replace(loss=tf.identity(spec.loss))
