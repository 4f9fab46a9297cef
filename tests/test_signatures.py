"""How user functions are called, against facts recorded from TF 2.15.1's originals."""

import functools
import logging
import types

import pytest
import tensorflow as tf

from tpuest import signatures


def model_fn(features, labels, mode, params):
    return features, labels, mode, params


class Model:
    """Functions of every kind that a class can have."""

    def __call__(self, features, params):
        return features, params

    def method(self, features, *tensors, **more):
        return features, tensors, more

    @staticmethod
    def static(features):
        return features

    @classmethod
    def of_class(cls, features):
        return features

    def self_in_varargs(*tensors):
        return tensors


def decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def decorate_narrowly(function):
    @functools.wraps(function)
    def wrapper(features, params):
        return function(features, None, "train", params)

    return wrapper


class DecoratedModel:
    @decorate
    def method(self, features, labels):
        return features, labels


ALL = ("features", "labels", "mode", "params")


@pytest.mark.parametrize(
    ("function", "declared"),
    [
        pytest.param(model_fn, ALL, id="function"),
        pytest.param(lambda: 0, (), id="lambda"),
        pytest.param(functools.partial(model_fn, 1), ALL[1:], id="partial by position"),
        pytest.param(functools.partial(model_fn, params={}), ALL[:3], id="partial by keyword"),
        pytest.param(
            functools.partial(functools.partial(model_fn, 1), mode="train"),
            ("labels", "params"),
            id="partial of a partial",
        ),
        pytest.param(functools.partial(Model().method), ("features",), id="partial of a method"),
        pytest.param(Model(), ("features", "params"), id="callable object"),
        pytest.param(Model().method, ("features",), id="bound method"),
        pytest.param(Model().static, ("features",), id="static method"),
        pytest.param(Model.of_class, ("features",), id="class method"),
        pytest.param(Model().self_in_varargs, (), id="self in varargs"),
        pytest.param(decorate_narrowly(model_fn), ("features", "params"), id="narrow decorator"),
        pytest.param(tf.function(model_fn), ALL, id="tf.function"),
    ],
)
def test_declared_arguments_are_those_the_original_saw(function, declared):
    assert signatures.declared_arguments(function) == declared


@pytest.mark.parametrize(
    ("function", "declared"),
    [
        pytest.param(decorate(model_fn), ALL, id="functools.wraps"),
        pytest.param(decorate(decorate(model_fn)), ALL, id="functools.wraps twice"),
        pytest.param(DecoratedModel().method, ("features", "labels"), id="decorated method"),
        pytest.param(tf.autograph.experimental.do_not_convert(model_fn), ALL, id="do_not_convert"),
        pytest.param(lambda features, *, params: 0, ("features", "params"), id="keyword-only"),
    ],
)
def test_declared_arguments_go_beyond_the_original(function, declared):
    assert signatures.declared_arguments(function) == declared


def test_a_thing_that_cannot_be_called_declares_nothing():
    with pytest.raises(TypeError):
        signatures.declared_arguments(3)


@pytest.mark.parametrize(
    ("function", "positional"),
    [
        (lambda a, b: 0, ("a", "b")),
        (lambda a, *, b: 0, ("a",)),
        (lambda *a: 0, None),
        (decorate(lambda a, b: 0), ("a", "b")),
        (max, None),
    ],
)
def test_positional_arguments_are_none_where_any_number_goes(function, positional):
    assert signatures.positional_arguments(function) == positional


class TestModelFn:
    """Checking and calling `model_fn`."""

    values = types.MappingProxyType(
        {"features": 1, "labels": 2, "mode": "train", "config": 3, "params": 4}
    )

    @pytest.mark.parametrize(
        ("function", "result"),
        [
            (lambda features, labels, mode, config, params: (labels, config), (2, 3)),
            (lambda features, labels: (features, labels), (1, 2)),
            (lambda params, labels, features: (features, labels, params), (1, 2, 4)),
            (decorate(model_fn), (1, 2, "train", 4)),
            (functools.partial(model_fn, params=9), (1, 2, "train", 9)),
        ],
    )
    def test_it_gets_what_it_declares(self, function, result):
        assert signatures.call_model_fn(function, **self.values) == result

    def test_labels_it_does_not_take_are_an_error(self):
        with pytest.raises(
            ValueError, match="model_fn does not take labels, but input_fn returns labels"
        ):
            signatures.call_model_fn(lambda features: features, **self.values)

    def test_it_need_not_take_labels_that_are_not_there(self):
        values = {**self.values, "labels": None}
        assert signatures.call_model_fn(lambda features: features, **values) == 1

    @pytest.mark.parametrize(
        ("function", "params", "rule"),
        [
            (lambda x: 0, None, r"model_fn \(.*\) must include features argument"),
            (
                lambda features: 0,
                {},
                r"does not include params argument, but params \({}\) is passed to Estimator",
            ),
            (
                lambda features, zeta, alpha: 0,
                None,
                r"has following not expected args: \['alpha', 'zeta'\]",
            ),
            (lambda features, *, alpha: 0, None, r"not expected args: \['alpha'\]"),
        ],
    )
    def test_wrong_arguments_are_named(self, function, params, rule):
        with pytest.raises(ValueError, match=rule):
            signatures.verify_model_fn_args(function, params)

    def test_the_error_says_where_the_function_stands(self):
        with pytest.raises(ValueError, match=r"<lambda> at .*test_signatures.py:\d+"):
            signatures.verify_model_fn_args(lambda x: 0, None)

    def test_a_keyword_only_argument_may_have_a_default(self):
        signatures.verify_model_fn_args(lambda features, *, alpha=1: 0, None)

    def test_on_cores_params_are_required(self):
        with pytest.raises(ValueError, match="required by TPUEstimator to pass batch size as"):
            signatures.verify_takes_params(lambda features: 0)
        signatures.verify_takes_params(lambda features, params: 0)

    def test_params_that_are_never_passed_are_warned_of(self, caplog):
        with caplog.at_level(logging.WARNING, logger="tensorflow"):
            signatures.verify_model_fn_args(model_fn, None)
        assert "includes params argument, but params are not passed to Estimator" in caplog.text

    def test_params_that_are_passed_are_not_warned_of(self, caplog):
        signatures.verify_model_fn_args(model_fn, {})
        assert not caplog.records


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (lambda params: params, 1),
        (lambda params, mode: (params, mode), (1, "train")),
        (lambda config, input_context=None: (config, input_context), (2, 3)),
        (lambda: "nothing", "nothing"),
        (lambda **more: more, {"params": 1}),
        (lambda mode, **more: (mode, more), ("train", {"params": 1})),
        (decorate(lambda params: params), 1),
        (functools.partial(lambda files, params: (files, params), "files"), ("files", 1)),
    ],
)
def test_an_input_fn_gets_what_it_declares(function, result):
    called = signatures.call_input_fn(function, params=1, mode="train", config=2, input_context=3)
    assert called == result


def test_any_function_gets_what_it_declares():
    offered = {"first": 1, "second": 2}
    assert signatures.call_with_declared(lambda second, third=3: (second, third), offered) == (2, 3)


def test_an_error_of_the_function_passes_unchanged():
    error = KeyError("image")

    def input_fn(params):
        raise error

    with pytest.raises(KeyError) as caught:
        signatures.call_input_fn(input_fn, params={}, mode="train", config=None)
    assert caught.value is error
