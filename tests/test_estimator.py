"""The constructors and attributes of `TPUEstimator` and `Estimator`, and what `model_fn` is given."""

import functools
import inspect
import os
import pathlib

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from input_models import batches_of_ids, echo_model, make_estimator
from models import CPU, TWO_CORES, simulation

import tpuest
from tpuest import Estimator, EstimatorSpec, ModeKeys, RunConfig, TPUEstimator, run_config

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])

# As in tensorflow-estimator 2.15.0.
ARGUMENTS = {
    Estimator.__init__: ["model_fn", "model_dir", "config", "params", "warm_start_from"],
    Estimator.train: ["input_fn", "hooks", "steps", "max_steps", "saving_listeners"],
    Estimator.evaluate: ["input_fn", "steps", "hooks", "checkpoint_path", "name"],
    Estimator.predict: [
        "input_fn",
        "predict_keys",
        "hooks",
        "checkpoint_path",
        "yield_single_examples",
    ],
    TPUEstimator.__init__: [
        "model_fn",
        "model_dir",
        "config",
        "params",
        "use_tpu",
        "train_batch_size",
        "eval_batch_size",
        "predict_batch_size",
        "batch_axis",
        "eval_on_tpu",
        "export_to_tpu",
        "export_to_cpu",
        "warm_start_from",
        "embedding_config_spec",
        "export_saved_model_api_version",
    ],
}


@pytest.mark.parametrize("function", ARGUMENTS, ids=lambda function: function.__qualname__)
def test_arguments_have_the_originals_names_and_order(function):
    assert list(inspect.signature(function).parameters)[1:] == ARGUMENTS[function]


def model_fn(features, labels, mode, params):
    raise AssertionError("called")


def config_of(tmp_path, **options):
    return RunConfig(model_dir=str(tmp_path), **options)


BAD_ARGUMENTS = {
    "no config": ({"config": None}, ValueError, "`config` must be provided with type"),
    "a plain config on a TPU": (
        {"config": run_config.RunConfig()},
        ValueError,
        "`config` must be provided with type `tpu_config.RunConfig`",
    ),
    "batch_size in params": (
        {"params": {"batch_size": 1}},
        ValueError,
        r"\['batch_size', 'context'\] are reserved keys but existed in params",
    ),
    "context in params": ({"params": {"context": 1}}, ValueError, "are reserved keys"),
    "no train_batch_size": (
        {"train_batch_size": None},
        ValueError,
        "`train_batch_size` cannot be `None`",
    ),
    "a train_batch_size of 0": (
        {"train_batch_size": 0},
        ValueError,
        "train_batch_size must be positive",
    ),
    "a fraction as eval_batch_size": (
        {"eval_batch_size": 1.5},
        TypeError,
        "eval_batch_size must be int",
    ),
    "a negative predict_batch_size": (
        {"predict_batch_size": -8},
        ValueError,
        "predict_batch_size must be positive",
    ),
    "version 3 of the export": (
        {"export_saved_model_api_version": 3},
        ValueError,
        "export_saved_model_api_version should be 1 or 2; got 3",
    ),
    "no model_fn": ({"model_fn": None}, ValueError, "model_fn must be provided to Estimator"),
    "a model_fn without features": (
        {"model_fn": lambda labels, params: None},
        ValueError,
        "must include features argument",
    ),
    "a model_fn with another argument": (
        {"model_fn": lambda features, params, other: None},
        ValueError,
        "has following not expected args",
    ),
    "params for a model_fn that takes none": (
        {"model_fn": lambda features: None, "params": {"depth": 3}},
        ValueError,
        "does not include params argument",
    ),
    "params that are a list": ({"params": [1]}, TypeError, "`params` is expected to be a dict"),
    "another model_dir": (
        {"model_dir": "/elsewhere"},
        ValueError,
        "`model_dir` are set both in constructor and `RunConfig`, but with different values",
    ),
    "a number as warm_start_from": (
        {"warm_start_from": 1},
        ValueError,
        "warm_start_from must be a string or a WarmStartSettings",
    ),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
def test_a_bad_argument_is_refused_by_the_constructor(tmp_path, name):
    arguments, error_type, words = BAD_ARGUMENTS[name]
    good = {"model_fn": model_fn, "config": config_of(tmp_path), "train_batch_size": 8}
    with pytest.raises(error_type, match=words):
        TPUEstimator(**{**good, **arguments})


def test_use_tpu_may_be_among_params_and_the_run_decides(tmp_path):
    told = []

    def model_fn(features, labels, mode, params):
        told.append(params["use_tpu"])
        return echo_model()(features, labels, mode, params)

    estimator = make_estimator(tmp_path, model_fn, params={"use_tpu": True})
    estimator.train(batches_of_ids, steps=1)
    assert told == [False]
    assert estimator.params == {"use_tpu": True}


def test_a_plain_config_will_do_without_a_tpu(tmp_path):
    plain = run_config.RunConfig(model_dir=str(tmp_path), save_checkpoints_steps=7)
    estimator = TPUEstimator(echo_model(), config=plain, use_tpu=False, train_batch_size=4)
    assert estimator.config.save_checkpoints_steps == 7
    estimator.train(batches_of_ids, steps=1)
    assert estimator.get_variable_value("global_step") == 1


# --- attributes


def test_attributes_are_copies(tmp_path):
    given = {"nested": {"depth": 3}}
    estimator = TPUEstimator(model_fn, config=config_of(tmp_path), params=given, train_batch_size=8)
    given["nested"]["depth"] = 4
    estimator.params["nested"]["depth"] = 5
    estimator.config._model_dir = "elsewhere"
    assert estimator.params == {"nested": {"depth": 3}}
    assert estimator.model_dir == estimator.config.model_dir == str(tmp_path)


def test_directories(tmp_path):
    estimator = TPUEstimator(model_fn, config=config_of(tmp_path), train_batch_size=8)
    assert estimator.eval_dir() == str(tmp_path / "eval")
    assert estimator.eval_dir("test") == str(tmp_path / "eval_test")
    assert estimator.latest_checkpoint() is None


@pytest.mark.parametrize("given", [str, pathlib.Path])
def test_model_dir_may_be_in_the_constructor_or_the_config(tmp_path, given):
    in_constructor = Estimator(model_fn, given(tmp_path), params={})
    in_config = Estimator(model_fn, config=run_config.RunConfig(given(tmp_path)), params={})
    in_both = Estimator(
        model_fn, given(tmp_path), config=run_config.RunConfig(given(tmp_path)), params={}
    )
    for estimator in (in_constructor, in_config, in_both):
        assert estimator.model_dir == estimator.config.model_dir == str(tmp_path)


def test_without_a_model_dir_there_is_a_temporary_one(caplog):
    estimator = Estimator(model_fn, params={})
    assert os.path.isdir(estimator.model_dir)
    assert f"Using temporary folder as model directory: {estimator.model_dir}" in caplog.text
    os.rmdir(estimator.model_dir)


def test_a_config_of_another_class_is_refused():
    with pytest.raises(ValueError, match="config must be an instance of `RunConfig`"):
        Estimator(model_fn, config="config", params={})


def test_the_config_gets_the_session_options_of_the_original(tmp_path):
    estimator = Estimator(model_fn, str(tmp_path), params={})
    assert estimator.config.session_config.allow_soft_placement


@on_cpu_and_cores
def test_variables_are_read_from_the_newest_checkpoint(tmp_path, num_cores):
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(), num_cores)
        with pytest.raises(ValueError, match="Could not find trained model in model_dir"):
            estimator.get_variable_names()
        with pytest.raises(ValueError, match="Could not find trained model in model_dir"):
            estimator.get_variable_value("w")
        estimator.train(batches_of_ids, max_steps=2)
    assert sorted(estimator.get_variable_names()) == ["global_step", "w"]
    assert estimator.get_variable_value("global_step") == 2
    # The mean ids of the two batches are 1.5 and 5.5.
    np.testing.assert_allclose(estimator.get_variable_value("w"), 1 - 0.01 * 7, rtol=1e-6)
    assert estimator.latest_checkpoint() == str(tmp_path / "model.ckpt-2")


def test_model_fn_attribute_is_bound_to_params(tmp_path):
    def model_fn(features, labels, mode, params, config):
        return features, labels, mode, params, config.model_dir

    estimator = TPUEstimator(
        model_fn, config=config_of(tmp_path), params={"depth": 3}, train_batch_size=8
    )
    given = estimator.model_fn(1, 2, ModeKeys.TRAIN, estimator.config)
    assert given == (1, 2, ModeKeys.TRAIN, {"depth": 3}, str(tmp_path))


# --- what model_fn is given


def spec(features, mode):
    w = tf.get_variable("w", [], initializer=tf.ones_initializer())
    loss = w * tf.reduce_mean(tf.cast(features["id"], tf.float32))
    optimizer = tf.tpu.CrossShardOptimizer(tf.train.GradientDescentOptimizer(0.1))
    train_op = optimizer.minimize(loss, tf.train.get_global_step())
    return tpuest.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)


def takes_all(features, labels, mode, params, config):
    assert labels.shape == [params["batch_size"]]
    assert isinstance(config, RunConfig)
    return spec(features, mode)


def takes_config(features, labels, mode, config):
    assert config.save_checkpoints_steps == 1000
    return spec(features, mode)


def takes_little(features, labels):
    return spec(features, ModeKeys.TRAIN)


class Model:
    def __call__(self, features, labels, mode, params):
        return spec(features, mode)

    def method(self, features, labels, mode, params):
        return spec(features, mode)


def takes_a_size(size, features, labels, mode, params):
    assert size == 3
    return spec(features, mode)


WITHOUT_PARAMS = {"config": takes_config, "features and labels": takes_little}
MODEL_FNS = {
    "all arguments": takes_all,
    "a callable object": Model(),
    "a bound method": Model().method,
    "a partial": functools.partial(takes_a_size, 3),
    "a partial with keywords": functools.partial(takes_a_size, size=3),
}


@on_cpu_and_cores
@pytest.mark.parametrize("name", MODEL_FNS)
def test_model_fn_gets_the_arguments_it_declares(tmp_path, name, num_cores):
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, MODEL_FNS[name], num_cores)
        estimator.train(batches_of_ids, max_steps=1)
    assert estimator.get_variable_value("global_step") == 1


@pytest.mark.parametrize("name", WITHOUT_PARAMS)
def test_only_off_the_cores_model_fn_may_do_without_params(tmp_path, name):
    make_estimator(tmp_path, WITHOUT_PARAMS[name], None).train(batches_of_ids, max_steps=1)
    with simulation(2), pytest.raises(ValueError, match="model_fn .* does not include params"):
        make_estimator(tmp_path, WITHOUT_PARAMS[name], 2).train(batches_of_ids, max_steps=2)


def test_model_fn_changes_only_its_own_params_and_config(tmp_path):
    def model_fn(features, labels, mode, params, config):
        assert (params["list"], config.model_dir) == ([1], str(tmp_path))
        params["list"].append(2)
        config._model_dir = "elsewhere"
        return spec(features, mode)

    estimator = make_estimator(tmp_path, model_fn, params={"list": [1]})
    estimator.train(batches_of_ids, steps=1)
    estimator.evaluate(batches_of_ids)
    assert estimator.params == {"list": [1]}
    assert estimator.model_dir == str(tmp_path)


class HParams:
    """Works like the `HParams` of tf.contrib.training: attributes that are added, then set."""

    def __init__(self, **values):
        for name, value in values.items():
            self.add_hparam(name, value)

    def __contains__(self, name):
        return hasattr(self, name)

    def add_hparam(self, name, value):
        assert name not in self
        setattr(self, name, value)

    def set_hparam(self, name, value):
        assert name in self
        setattr(self, name, value)


@on_cpu_and_cores
def test_params_may_be_hparams(tmp_path, num_cores):
    def model_fn(features, labels, mode, params):
        assert params.depth == 3
        assert params.batch_size == (4 if num_cores is CPU else 2)
        assert params.use_tpu == (num_cores is not CPU)
        return spec(features, mode)

    def input_fn(params):
        return batches_of_ids({"batch_size": params.batch_size})

    with simulation(num_cores):
        estimator = make_estimator(
            tmp_path, model_fn, num_cores, params=HParams(depth=3, use_tpu=True)
        )
        estimator.train(input_fn, max_steps=2)
    assert estimator.get_variable_value("global_step") == 2
    with pytest.raises(ValueError, match="reserved keys"):
        make_estimator(tmp_path, model_fn, params=HParams(batch_size=3))


# --- the plain estimator


def test_a_plain_estimator_gives_params_without_batch_size(tmp_path):
    told = []

    def input_fn(params):
        told.append(dict(params))
        return batches_of_ids({"batch_size": 4})

    def model_fn(features, labels, mode, params):
        told.append(dict(params))
        plain = spec(features, mode)
        return EstimatorSpec(mode, loss=plain.loss, train_op=plain.train_op)

    Estimator(model_fn, str(tmp_path), params={"depth": 3}).train(input_fn, steps=1)
    assert told == [{"depth": 3}] * 2


def test_a_plain_estimator_calls_an_input_fn_without_arguments(tmp_path):
    def model_fn(features, labels, mode):
        predictions = {"id": features["id"]}
        if mode == ModeKeys.PREDICT:
            return EstimatorSpec(mode, predictions)
        plain = spec(features, mode)
        return EstimatorSpec(mode, predictions, plain.loss, plain.train_op)

    estimator = Estimator(model_fn, str(tmp_path))
    input_fn = lambda: batches_of_ids({"batch_size": 4})
    estimator.train(input_fn, max_steps=2)
    assert estimator.evaluate(input_fn)["global_step"] == 2
    assert [one["id"] for one in estimator.predict(input_fn)] == list(range(12))
