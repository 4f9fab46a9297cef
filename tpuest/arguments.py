"""What an estimator is given, checked: the constructor's arguments and those of its calls.

Takes them as the user wrote them; gives what the estimators work with, or the original's error.
"""

from __future__ import annotations

import numbers
import os
import re
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tpuest import run_config
from tpuest.config import InputPipelineConfig, RunConfig, TPUConfig
from tpuest.embedding_config import EmbeddingConfigSpec
from tpuest.spec import WarmStartSettings


def with_model_dir(config: Any, model_dir: str | None) -> Any:
    """Settles where checkpoints go, and the session's options.

    Raises:
      ValueError: `config` is no `RunConfig`, or two different directories are given.
      TypeError: `model_dir` is neither a string nor a path.
    """
    model_dir = run_config.path_to_str(model_dir)
    if config is None:
        config = run_config.RunConfig()
        tf.compat.v1.logging.info("Using default config.")
    if not isinstance(config, run_config.RunConfig):
        raise ValueError(f"config must be an instance of `RunConfig`, but provided {config}.")
    if config.session_config is None:
        config = config.replace(session_config=run_config.get_default_session_config())
    if model_dir is not None and config.model_dir is not None and model_dir != config.model_dir:
        raise ValueError(
            "`model_dir` are set both in constructor and `RunConfig`, but with different values. In constructor: "
            f"'{model_dir}', in `RunConfig`: '{config.model_dir}' "
        )
    chosen = model_dir or config.model_dir
    if chosen is None:
        chosen = tempfile.mkdtemp()
        tf.compat.v1.logging.warn("Using temporary folder as model directory: %s", chosen)
    return config.replace(model_dir=chosen)


def warm_start_settings(warm_start_from: Any) -> WarmStartSettings | None:
    """Reads `warm_start_from`.

    Raises:
      ValueError: it is neither a path nor settings, or `vars_to_warm_start` is no regular expression.
    """
    if warm_start_from is None:
        return None
    if isinstance(warm_start_from, WarmStartSettings):
        _check_pattern(warm_start_from.vars_to_warm_start)
        return warm_start_from
    if not isinstance(warm_start_from, (str, os.PathLike)):
        raise ValueError(
            "warm_start_from must be a string or a WarmStartSettings, instead got "
            f"{type(warm_start_from)}"
        )
    path = os.fspath(warm_start_from)
    saved_model = os.path.join(path, "variables", "variables")
    is_saved_model = tf.io.gfile.exists(os.path.join(path, "saved_model.pb"))
    return WarmStartSettings(ckpt_to_initialize_from=saved_model if is_saved_model else path)


def _check_pattern(vars_to_warm_start: Any) -> None:
    if not isinstance(vars_to_warm_start, str):
        return
    try:
        re.compile(vars_to_warm_start)
    except re.error as error:
        raise ValueError(
            f"vars_to_warm_start must be a regular expression of variable names, got {vars_to_warm_start!r}: {error}."
        ) from error


def tell_of_useless_patterns(settings: WarmStartSettings) -> None:
    """Warns of what no variable of the default graph is warm-started by: a misspelled name, as a rule."""
    patterns = settings.vars_to_warm_start
    if not patterns and settings.var_name_to_vocab_info:
        return  # Only those are wanted.
    keys = tf.compat.v1.GraphKeys
    key = keys.TRAINABLE_VARIABLES if isinstance(patterns, str) else keys.GLOBAL_VARIABLES
    names = patterns if patterns and isinstance(patterns, list) else [patterns]
    useless = [
        name
        for name in names
        if isinstance(name, (str, list, type(None)))  # not a variable itself
        and not (name and tf.compat.v1.get_collection(key, scope=name))
    ]
    if useless:
        tf.compat.v1.logging.warning(
            "vars_to_warm_start: no variable of the model matches %s: nothing is taken from %s for it.",
            ", ".join(map(repr, useless)),
            settings.ckpt_to_initialize_from,
        )


def check_role(config: Any) -> None:
    """Refuses to train in a process that TF_CONFIG made for something else."""
    if config.task_type in (run_config.TaskType.EVALUATOR, run_config.TaskType.PS):
        raise ValueError(
            "Train has been called wrong configuration. Please use tf.estimator.train_and_evaluate "
            "which calls proper API according to given configuration. "
            f"Current configuration: {config}."
        )


def check_steps(steps: int | None, max_steps: int | None) -> None:
    if steps is not None and max_steps is not None:
        raise ValueError("Can not provide both steps and max_steps.")
    check_count("steps", steps, "Train steps")
    check_count("max_steps", max_steps, "Train max_steps")


def check_count(name: str, value: int | None, meaning: str) -> None:
    if value is None:
        return
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{meaning} must be int, got {type(value)}")
    if value <= 0:
        raise ValueError(f"Must specify {name} > 0, given: {value}. {meaning} must be positive.")


def checked_hooks(hooks: Sequence | None) -> list:
    if isinstance(hooks, tf.compat.v1.train.SessionRunHook):
        raise TypeError(f"Hooks must be a list, given: {hooks}. Write hooks=[hook].")
    hooks = list(hooks or [])
    for hook in hooks:
        if not isinstance(hook, tf.compat.v1.train.SessionRunHook):
            raise TypeError(f"Hooks must be a SessionRunHook, given: {hook}")
    return hooks


def checked_listeners(saving_listeners: Sequence | None) -> list:
    listeners = list(saving_listeners or [])
    for listener in listeners:
        if not isinstance(listener, tf.compat.v1.train.CheckpointSaverListener):
            raise TypeError(
                f"saving_listeners must be a list of CheckpointSaverListener, given: {listener}"
            )
    return listeners


def as_tpu_config(config: Any, use_tpu: bool) -> RunConfig:
    """Gives a TPU `RunConfig`.

    Differs from TPUEstimator: without a TPU a plain `RunConfig` is taken too.

    Raises:
      ValueError: it is no `RunConfig`.
    """
    if isinstance(config, RunConfig):
        return config
    if not use_tpu and isinstance(config, run_config.RunConfig):
        return RunConfig.from_plain(config)
    raise ValueError("`config` must be provided with type `tpu_config.RunConfig`")


def check_batch_sizes(train_batch_size: Any, eval_batch_size: Any, predict_batch_size: Any) -> None:
    """Refuses batch sizes that cores can't have.

    Differs from TPUEstimator: `True` is no 1.
    """
    if train_batch_size is None:
        raise ValueError("`train_batch_size` cannot be `None`")
    sizes = {
        "train_batch_size": train_batch_size,
        "eval_batch_size": eval_batch_size,
        "predict_batch_size": predict_batch_size,
    }
    for name, size in sizes.items():
        if size is None:
            continue
        if not isinstance(size, (int, np.integer)) or isinstance(size, bool):
            raise TypeError(f"{name} must be int, got {type(size)}")
        if size <= 0:
            raise ValueError(f"{name} must be positive, got {size}")


def check_embeddings(spec: Any, tpu_config: TPUConfig, use_tpu: bool) -> None:
    """Refuses an `embedding_config_spec` that isn't one, or that the run can't have.

    Raises:
      TypeError: it is of another class.
      ValueError: one core, or 'mod' without a TPU.
    """
    if spec is None:
        return
    if not isinstance(spec, EmbeddingConfigSpec):
        raise TypeError(f"embedding_config_spec must be an EmbeddingConfigSpec, got {type(spec)}")
    if use_tpu and tpu_config.num_shards == 1 and tpu_config.num_cores_per_replica is None:
        raise ValueError(
            "Setting TPUConfig.num_shards==1 is unsupported when embedding_config_spec is not None."
        )
    if not use_tpu and spec.partition_strategy == "mod":
        raise ValueError("Mod sharding of embedding tables not supported on CPU.")


def check_model_parallelism(tpu_config: TPUConfig) -> None:
    if not tpu_config.num_cores_per_replica:
        return
    if tpu_config.per_host_input_for_training == InputPipelineConfig.PER_SHARD_V1:
        raise ValueError(
            "Model parallelism only supports per host input for training. "
            "Please adjust TPURunconfig.per_host_input_for_training."
        )
