"""XLA lowers every conformance program's core part to HLO, by TensorFlow's CPU package alone."""

import dataclasses
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "conformance")]

import runner  # noqa: E402
import traced as tracing  # noqa: E402
from programs import PROGRAMS  # noqa: E402

import tpuest  # noqa: E402
from tpuest import aot  # noqa: E402
from tpuest.spec import ModeKeys  # noqa: E402

NUM_CORES = 8


def planned(name):
    estimator = tracing.make_estimator_class(aot.planned_topology(NUM_CORES))
    api = dataclasses.replace(runner.tpuest_api(), TPUEstimator=estimator)
    return runner.make_estimator(PROGRAMS[name], api, tempfile.mkdtemp(), NUM_CORES)


def lower(estimator, mode, input_fn):
    program, _ = estimator._build(mode, input_fn, None)
    return aot.lower_step(program, tracing.targets_of(program))


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_lowers(name):
    step = lower(planned(name), ModeKeys.TRAIN, PROGRAMS[name].train_input_fn)
    assert step.hlo and step.num_replicas == NUM_CORES


@pytest.mark.parametrize("name", ["cnn_batch_norm", "control_flow"])
def test_evaluation_lowers(name):
    assert lower(planned(name), ModeKeys.EVAL, PROGRAMS[name].eval_input_fn).hlo


@pytest.mark.parametrize("name", ["cnn_batch_norm", "control_flow"])
def test_prediction_lowers(name):
    assert lower(planned(name), ModeKeys.PREDICT, PROGRAMS[name].predict_input_fn).hlo
