"""How the user's functions are called: with the arguments they declare, and no others.

Takes a `model_fn` or `input_fn` and all that could be passed to it, gives the function's result:

    offered  = {features, labels, mode, config, params}
    declared = the names in the function's signature
    result   = function(**offered restricted to declared)

Imports no TensorFlow.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_logger = logging.getLogger("tensorflow")

_MODEL_FN_ARGUMENTS = frozenset({"features", "labels", "mode", "params", "self", "config"})

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def declared_arguments(function: Callable) -> tuple[str, ...]:
    """Names the arguments that `function` can be given by keyword.

    Sees through `functools.partial` (what it binds is no longer declared), bound methods and
    callable objects (`self` is not declared) and decorators that use `functools.wraps` and pass
    `**kwargs` on. `**kwargs` itself declares nothing.

    Differs from TPUEstimator: keyword-only arguments count, and `functools.wraps` is followed;
    the original refused such functions.

    Args:
      function: anything callable.

    Raises:
      TypeError: `function` isn't callable.
      ValueError: it is a built-in whose signature Python doesn't know.
    """
    return tuple(p.name for p in _parameters(function) if p.kind in _KEYWORD)


def positional_arguments(function: Callable) -> tuple[str, ...] | None:
    """Names the arguments that `function` takes by position; None if it takes any number.

    None is also the answer for built-ins whose signature Python doesn't know.
    """
    try:
        parameters = _parameters(function)
    except ValueError:
        return None
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind in _POSITIONAL)


def accepts_any_keyword(function: Callable) -> bool:
    """Says whether `function` has `**kwargs`."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in _parameters(function))


def call_with_declared(function: Callable, offered: Mapping[str, Any]) -> Any:
    """Calls `function` with those of the `offered` arguments that it declares."""
    return function(**_restrict(offered, declared_arguments(function)))


def call_model_fn(
    model_fn: Callable, *, features: Any, labels: Any, mode: str, config: Any, params: Any
) -> Any:
    """Calls `model_fn` with the subset of the arguments that it declares.

    Args:
      model_fn: verified by `verify_model_fn_args`.
      features: what `input_fn` gave.
      labels: what `input_fn` gave, None if it gave features only.
      mode: a `ModeKeys`.
      config: the `RunConfig`; the caller makes a copy if `model_fn` mustn't change it.
      params: as `config`, with 'batch_size' set.

    Raises:
      ValueError: there are labels, and `model_fn` takes none.
    """
    declared = declared_arguments(model_fn)
    if labels is not None and "labels" not in declared:
        raise ValueError(
            "model_fn does not take labels, but input_fn returns labels. Add a `labels` argument "
            f"to model_fn ({_describe(model_fn)}), or return features only from input_fn."
        )
    offered = {"labels": labels, "mode": mode, "config": config, "params": params}
    return model_fn(features=features, **_restrict(offered, declared))


def call_input_fn(
    input_fn: Callable, *, params: Any, mode: str, config: Any, input_context: Any = None
) -> Any:
    """Calls `input_fn` with the subset of the arguments that it declares.

    Differs from TPUEstimator: `input_fn` need not declare `params`; one that takes `**kwargs`
    and no `params` gets `params` only.

    Args:
      input_fn: returns a `tf.data.Dataset`, or features and labels.
      params: the hyper-parameters, with 'batch_size' set.
      mode: a `ModeKeys`.
      config: the `RunConfig`.
      input_context: a `tf.distribute.InputContext`, None where there is but one pipeline.
    """
    declared = declared_arguments(input_fn)
    offered = {"params": params, "mode": mode, "config": config, "input_context": input_context}
    passed = _restrict(offered, declared)
    if "params" not in declared and accepts_any_keyword(input_fn):
        passed["params"] = params
    return input_fn(**passed)


def is_hparams(params: Any) -> bool:
    """Says whether `params` are `HParams` of tf.contrib, or an object that works like them."""
    return hasattr(params, "set_hparam") and hasattr(params, "add_hparam")


def add_param(params: Any, key: str, value: Any) -> None:
    """Sets a value in a dict or in `HParams`, which don't let `add` change or `set` make one."""
    if not is_hparams(params):
        params[key] = value
    elif key in params:
        params.set_hparam(key, value)
    else:
        params.add_hparam(key, value)


def verify_model_fn_args(model_fn: Callable, params: Mapping | None) -> None:
    """Checks the arguments of `model_fn` before anything is built.

    Args:
      model_fn: the user's function.
      params: the estimator's hyper-parameters, None if it was given none.

    Raises:
      ValueError: `features` is missing, `params` is missing though it is passed, or an argument
        is none that an estimator knows.
    """
    declared = declared_arguments(model_fn)
    name = _describe(model_fn)
    if "features" not in declared:
        raise ValueError(f"model_fn ({name}) must include features argument.")
    if params is not None and "params" not in declared:
        raise ValueError(
            f"model_fn ({name}) does not include params argument, but params ({params}) is passed "
            "to Estimator."
        )
    if params is None and "params" in declared:
        _logger.warning(
            "Estimator's model_fn (%s) includes params argument, but params are not passed to "
            "Estimator.",
            name,
        )
    unexpected = _unexpected_model_fn_arguments(model_fn)
    if unexpected:
        raise ValueError(
            f"model_fn ({name}) has following not expected args: {unexpected}. An estimator passes "
            "features, labels, mode, params and config; put other values into `params`, or bind "
            "them with functools.partial."
        )


def verify_takes_params(model_fn: Callable) -> None:
    """Checks that a `model_fn` for cores can be told its batch size.

    Raises:
      ValueError: it takes no `params`.
    """
    if "params" not in declared_arguments(model_fn):
        raise ValueError(
            f"model_fn ({_describe(model_fn)}) does not include params argument, required by TPUEstimator to pass "
            "batch size as params['batch_size']"
        )


def _unexpected_model_fn_arguments(model_fn: Callable) -> list[str]:
    """Names the arguments no estimator passes; keyword-only ones may have a default."""
    return sorted(
        p.name
        for p in _parameters(model_fn)
        if p.kind in _KEYWORD
        and p.name not in _MODEL_FN_ARGUMENTS
        and (p.kind is not inspect.Parameter.KEYWORD_ONLY or p.default is p.empty)
    )


def _restrict(offered: Mapping[str, Any], declared: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in offered.items() if name in declared}


def _describe(function: Callable) -> str:
    """Gives the function's name with the file and line where it stands, if it has these."""
    function = inspect.unwrap(function)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    return f"{function.__qualname__} at {code.co_filename}:{code.co_firstlineno}"


def _parameters(function: Callable) -> list[inspect.Parameter]:
    """Lists what is left to pass to `function`, `*args` and `**kwargs` included."""
    if isinstance(function, functools.partial):
        return _parameters_left_by(function)
    if inspect.ismethod(function):
        return _without_self(_parameters(function.__func__))
    if _is_callable_object(function):
        own = _parameters(function.__call__)
    else:
        own = list(inspect.signature(function, follow_wrapped=False).parameters.values())
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None and any(p.kind is inspect.Parameter.VAR_KEYWORD for p in own):
        return _merge_wrapped(own, _parameters(wrapped))
    return own


def _parameters_left_by(partial: functools.partial) -> list[inspect.Parameter]:
    parameters = _parameters(partial.func)
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    bound = {p.name for p in positional[: len(partial.args)]} | set(partial.keywords)
    return [p for p in parameters if p.name not in bound]


def _without_self(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    if parameters and parameters[0].kind in _POSITIONAL:
        return parameters[1:]
    return parameters  # `self` is in `*args`.


def _is_callable_object(function: Callable) -> bool:
    if inspect.isclass(function) or not callable(function):
        return False
    return inspect.ismethod(function.__call__)  # A plain function's is a slot wrapper.


def _merge_wrapped(
    own: list[inspect.Parameter], wrapped: list[inspect.Parameter]
) -> list[inspect.Parameter]:
    """Gives the arguments of a decorator's wrapper, then those it passes on by `**kwargs`."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [p for p in own if p.kind not in variadic]
    names = {p.name for p in named}
    return named + [p for p in wrapped if p.name not in names]
