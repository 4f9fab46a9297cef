"""Old functions that export models, and that run exported ones."""

import models
import numpy as np
import pytest
import tensorflow as tf
from test_export import (
    make_estimator,
    outputs_of,
    serving_input_receiver_fn,
    supervised_input_receiver_fn,
)

import tpuest
from tpuest import ModeKeys

X = models.X[:4]


@pytest.fixture(autouse=True)
def old_names():
    with tpuest.installed():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Gives an estimator, and what it predicts of X."""
    estimator = make_estimator(tmp_path_factory.mktemp("model"))
    predictions = list(estimator.predict(models.examples_input_fn(len(X))))
    return estimator, np.stack([prediction["outputs"] for prediction in predictions])


def test_predictor_runs_an_export(trained, tmp_path):
    estimator, expected = trained
    path = estimator.export_saved_model(tmp_path, serving_input_receiver_fn).decode()
    predict = tf.contrib.predictor.from_saved_model(path)
    np.testing.assert_allclose(predict({"x": X})["outputs"], expected, 1e-6)
    by_names = tf.contrib.predictor.from_saved_model(
        path, input_names={"given": "x:0"}, output_names={"made": "outputs:0"}
    )
    np.testing.assert_allclose(by_names({"given": X})["made"], expected, 1e-6)
    for predictor in (predict, by_names):
        predictor.session.close()


def test_predictor_runs_an_estimator(trained):
    estimator, expected = trained
    predict = tf.contrib.predictor.from_estimator(estimator, serving_input_receiver_fn)
    np.testing.assert_allclose(predict({"x": X})["outputs"], expected, 1e-6)
    with pytest.raises(ValueError, match="Got unexpected keys in input_dict: {'y'}"):
        predict({"y": X})
    predict.session.close()


def test_predictor_says_what_is_missing(trained, tmp_path):
    estimator, _ = trained
    path = estimator.export_saved_model(tmp_path, serving_input_receiver_fn).decode()
    predictor = tf.contrib.predictor
    with pytest.raises(ValueError, match='Got signature_def_key "other". Available signatures are'):
        predictor.from_saved_model(path, "other")
    with pytest.raises(ValueError, match="must both be specified or both be unspecified"):
        predictor.from_saved_model(path, input_names={"x": "x:0"})
    with pytest.raises(ValueError, match="You must specify at most one of signature_def_key"):
        predictor.from_saved_model(path, "a", input_names={}, output_names={})
    with pytest.raises(KeyError, match="output_key must be one of"):
        predictor.from_estimator(estimator, serving_input_receiver_fn, "other")


def test_contrib_exports_one_mode_or_all(trained, tmp_path):
    estimator, expected = trained
    contrib = tf.contrib.estimator
    one = contrib.export_saved_model_for_mode(
        estimator, tmp_path / "one", serving_input_receiver_fn
    )
    receivers = {
        ModeKeys.EVAL: supervised_input_receiver_fn,
        ModeKeys.PREDICT: serving_input_receiver_fn,
    }
    both = contrib.export_all_saved_models(estimator, tmp_path / "both", receivers)
    for path in (one, both):
        np.testing.assert_allclose(outputs_of(path, x=X)["outputs"], expected, 1e-6)
