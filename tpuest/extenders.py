"""Adds to what an estimator or a function does: `add_metrics`, `call_logit_fn`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest import signatures
from tpuest.errors import UnsupportedError
from tpuest.estimator import Estimator
from tpuest.spec import ModeKeys, TPUEstimatorSpec

_METRIC_FN_ARGUMENTS = ("features", "labels", "predictions", "config")


def add_metrics(estimator: Estimator, metric_fn: Callable) -> Estimator:
    """Makes an estimator that evaluates more metrics.

        def auc(labels, predictions):
            return {"auc": tf.compat.v1.metrics.auc(labels, predictions["probability"])}

        estimator = add_metrics(estimator, auc)

    Args:
      estimator: whose model and `model_dir` to take.
      metric_fn: takes any of `features`, `labels`, `predictions` and `config`; gives a dict of metrics, which replace
        those of the same names.

    Raises:
      ValueError: `metric_fn` takes other arguments.
      UnsupportedError: `model_fn` gives a `TPUEstimatorSpec`; raised by `evaluate`.
    """
    declared = signatures.declared_arguments(metric_fn)
    unknown = sorted(set(declared).difference(_METRIC_FN_ARGUMENTS))
    if unknown:
        raise ValueError(f"metric_fn ({metric_fn}) has following not expected args: {unknown}")

    def model_fn(features, labels, mode, config):
        spec = estimator.model_fn(features, labels, mode, config)
        if mode != ModeKeys.EVAL:
            return spec
        if isinstance(spec, TPUEstimatorSpec):
            raise UnsupportedError(
                "add_metrics for a model_fn that gives a TPUEstimatorSpec",
                "Return the metrics in its eval_metrics.",
            )
        offered = {
            "features": features,
            "labels": labels,
            "predictions": spec.predictions,
            "config": config,
        }
        added = signatures.call_with_declared(metric_fn, offered)
        return spec._replace(eval_metric_ops={**(spec.eval_metric_ops or {}), **added})

    return Estimator(
        model_fn,
        model_dir=estimator.model_dir,
        config=estimator.config,
        warm_start_from=estimator.warm_start_settings,
    )


def call_logit_fn(
    logit_fn: Callable, features: Any, mode: str, params: dict | None, config: Any
) -> Any:
    """Calls a function that gives logits with those of the arguments that it declares.

    Returns:
      A tensor, or a dict of tensors.

    Raises:
      ValueError: `logit_fn` gives something else.
    """
    declared = signatures.declared_arguments(logit_fn)
    offered = {"mode": mode, "params": params, "config": config}
    passed = {name: value for name, value in offered.items() if name in declared}
    logits = logit_fn(features=features, **passed)
    leaves = logits if isinstance(logits, dict) else {"logits": logits}
    if all(isinstance(k, str) and isinstance(v, tf.Tensor) for k, v in leaves.items()):
        return logits
    raise ValueError(
        "logit_fn should return a Tensor or a dictionary mapping strings to Tensors.  "
        f"logit_fn returned: {logits}"
    )
