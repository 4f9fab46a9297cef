"""XLA lowers every conformance program's core part to HLO, by TensorFlow's CPU package alone; no check objects."""

import pytest
import traced as tracing
from programs import PROGRAMS

from tpuest import aot, check_scan
from tpuest.spec import ModeKeys

NUM_CORES = 8


def lower(name, mode):
    estimator = tracing.conformance_estimator(name, tracing.fake_topology(NUM_CORES))
    program, step = tracing.lower(estimator, mode, tracing.input_fn_of(name, mode))
    on_cores = check_scan.operations_on_cores(program, aot.targets_on_cores(program))
    assert not check_scan.find_misplaced(on_cores)
    return step


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_lowers(name):
    step = lower(name, ModeKeys.TRAIN)
    assert step.hlo and step.num_replicas == NUM_CORES


@pytest.mark.parametrize("mode", [ModeKeys.EVAL, ModeKeys.PREDICT])
@pytest.mark.parametrize("name", ["cnn_batch_norm", "control_flow"])
def test_evaluation_and_prediction_lower(name, mode):
    assert lower(name, mode).hlo
