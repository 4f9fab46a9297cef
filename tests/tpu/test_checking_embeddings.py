"""`tpuest.check` of a model with an `embedding_config_spec`, without a TPU's compiler and with it."""

import importlib.util

import pytest
import tensorflow as tf
import test_embeddings_on_tpu as on_hardware
import traced as tracing
from models import lowers_steps

import tpuest
from tpuest import checking, embedding_config
from tpuest.errors import UnsupportedError
from tpuest.spec import ModeKeys

NUM_ROWS, DIMENSION, FLOAT = 1000, 8, 4
has_compiler = all(importlib.util.find_spec(name) for name in ("jaxlib", "libtpu"))


def check(topology, mode=ModeKeys.TRAIN, model_fn=on_hardware.model_fn):
    column = tf.feature_column.sequence_categorical_column_with_identity("x", NUM_ROWS)
    spec = embedding_config.EmbeddingConfigSpec(
        [tf.compat.v1.tpu.experimental.embedding_column(column, DIMENSION, max_sequence_length=3)],
        optimization_parameters=embedding_config.AdagradParameters(0.1),
    )
    estimator = tpuest.TPUEstimator(
        model_fn,
        config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY),
        params={"columns": spec.feature_columns},
        train_batch_size=64,
        eval_batch_size=64,
        predict_batch_size=64,
        embedding_config_spec=spec,
    )
    return tpuest.check(estimator, on_hardware.input_fn, mode, topology)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(checking, "_compiler", lambda: None)


@lowers_steps
@pytest.mark.parametrize("mode", on_hardware.MODES)
@pytest.mark.parametrize("topology", ["v5p:2x2x1", "v6e:2x4"])
def test_tables_of_the_cores_are_checked(no_compiler, topology, mode):
    report = check(topology, mode)
    assert report.ok
    assert report.is_lowered
    assert any("that it has SparseCores" in unseen for unseen in report.unseen)
    slots = mode == ModeKeys.TRAIN
    assert report.memory.other_variable_bytes >= (1 + slots) * NUM_ROWS * DIMENSION * FLOAT


@lowers_steps
def test_what_is_wrong_beside_tables_is_found(no_compiler):
    def model_fn(features, labels, mode, params):
        features["x"] = features["x"] * tf.linalg.det(tf.eye(2) + features["x"][0, 0, 0])
        return on_hardware.model_fn(features, labels, mode, params)

    report = check("v6e:2x4", model_fn=model_fn)
    assert [finding.op_types for finding in report.findings] == [("MatrixDeterminant",)]


@pytest.mark.skipif(not has_compiler, reason="needs the `check` extra")
@pytest.mark.parametrize("topology", ["v5p:2x2x1", "v6e:2x4"])
def test_the_compiler_accepts_tables_of_the_cores(topology):
    report = check(topology)
    assert report.ok
    assert report.verdict.startswith(f"accepted by libtpu 0.0.42.1 for {topology}")


@pytest.mark.parametrize(
    ("topology", "words"),
    [
        ("v4", "Checking a model with embedding_config_spec for v4:1x1x1, which has memory"),
        ("v5e", "embedding_config_spec on a TPU that has no hardware for embeddings"),
    ],
)
def test_other_hardware_is_refused_and_the_alternative_named(topology, words):
    with pytest.raises(UnsupportedError, match=f"{words}.*variables of model_fn"):
        check(topology)
