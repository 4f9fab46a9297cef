"""A program's own copy of `tpu_estimator.py` makes this package's estimators.

Such a copy subclasses `Estimator` and brings the original's engine, which needs TPU operations that no
TensorFlow runs any more. Its arguments are TPUEstimator's, and some of the program's own.
"""

from __future__ import annotations

import inspect
from typing import Any

from tpuest.errors import UnsupportedError

# A method of the original's engine that no program that merely subclasses TPUEstimator has.
_MARK = "_augment_model_fn"


def adopt(cls: type) -> None:
    """Changes a new subclass of `Estimator`, if it is such a copy, to make this package's `TPUEstimator`."""
    if cls.__name__ == "TPUEstimator" and _MARK in vars(cls):
        cls.__new__ = _make


def _make(cls: type, *args: Any, **kwargs: Any) -> Any:
    """Gives a `TPUEstimator` of this package.

    Raises:
      UnsupportedError: an argument of the copy's own has a value.
    """
    # Not above: it is a subclass of what imports this.
    from tpuest.compat.carried_state import carrying_state
    from tpuest.tpu_estimator import TPUEstimator

    cache_fns = [kwargs.pop(name, None) for name in ("train_cache_fn", "eval_cache_fn")]
    if any(cache_fns) and "model_fn" in kwargs:
        kwargs["model_fn"] = carrying_state(kwargs["model_fn"], *cache_fns)
    elif any(cache_fns):
        args = (carrying_state(args[0], *cache_fns), *args[1:])
    known = inspect.signature(TPUEstimator).parameters
    for name, value in kwargs.items():
        if name not in known and value is not None:
            raise UnsupportedError(
                f"{name} of the program's own TPUEstimator ({cls.__module__})",
                "Leave it out: only train_cache_fn and eval_cache_fn are known besides TPUEstimator's.",
            )
    return TPUEstimator(*args, **{name: kwargs[name] for name in kwargs if name in known})
