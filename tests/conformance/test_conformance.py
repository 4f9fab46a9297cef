"""Every conformance program gives under tpuest the numbers that the original gave (see README.md)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import runner
from programs import PROGRAMS

HERE = Path(__file__).resolve().parent
GOLDENS = HERE / "goldens"
CHECKPOINTS = HERE / "checkpoints"
ORIGINAL_PYTHON = "TPUEST_ORIGINAL_PYTHON"

# Two builds of TensorFlow, or one device and eight, add float32 in another order.
RTOL = 1e-5
# An element left near zero by cancellation carries the rounding of its tensor's large elements.
ATOL_OF_LARGEST = 1e-6

INEXACT_ON_CORES = {name for name, program in PROGRAMS.items() if not program.exact_on_cores}


def read_golden(name):
    with np.load(GOLDENS / (name + ".npz")) as stored:
        return {key: stored[key] for key in stored.files}


def stage(results, *names):
    """Gives the results of the named stages."""
    return {key: value for key, value in results.items() if key.split("/")[0] in names}


def assert_same_numbers(actual, expected):
    assert sorted(actual) == sorted(expected)
    for key, value in expected.items():
        assert actual[key].shape == value.shape, key
        largest = np.max(np.abs(value), initial=0)
        np.testing.assert_allclose(actual[key], value, RTOL, ATOL_OF_LARGEST * largest, err_msg=key)


def run_in_child(output, *arguments):
    """Runs `run_programs.py`; gives the results of each program, keyed by program name."""
    command = [sys.executable, str(HERE / "run_programs.py"), str(output), *arguments]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(HERE.parents[1]), *sys.path]))
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr[-5000:]
    results = {}
    with np.load(output) as stored:
        for key in stored.files:
            program_name, name = key.split("|", 1)
            results.setdefault(program_name, {})[name] = stored[key]
    return results


def results_of(program_name, child_results):
    results = child_results[program_name]
    if "error" in results:
        pytest.fail(str(results["error"]), pytrace=False)
    return results


@pytest.fixture(scope="module", params=sorted(PROGRAMS))
def on_cpu(request, tmp_path_factory):
    """Gives a program's numbers on CPU, and the original's."""
    name = request.param
    model_dir = tmp_path_factory.mktemp(name)
    return runner.run(PROGRAMS[name], runner.tpuest_api(), str(model_dir)), read_golden(name)


@pytest.fixture(scope="module", params=[2, 8])
def on_cores(request, tmp_path_factory):
    """Gives the numbers of every exact program on N simulated cores."""
    output = tmp_path_factory.mktemp("cores") / "results.npz"
    return run_in_child(output, "--num_cores", str(request.param))


@pytest.fixture(scope="module")
def without_v2_behavior(tmp_path_factory):
    """Gives the numbers of every program on CPU after tf.disable_v2_behavior()."""
    return run_in_child(tmp_path_factory.mktemp("v1") / "results.npz", "--disable_v2_behavior")


def test_every_program_has_goldens_and_every_golden_a_program():
    assert sorted(path.stem for path in GOLDENS.glob("*.npz")) == sorted(PROGRAMS)


def test_initial_values_equal_the_originals(on_cpu):
    actual, golden = on_cpu
    expected = stage(golden, "initial")
    assert sorted(stage(actual, "initial")) == sorted(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(actual[key], value, err_msg=key)


def test_loss_of_each_step_is_the_originals(on_cpu):
    actual, golden = on_cpu
    assert_same_numbers(stage(actual, "step"), stage(golden, "step"))


def test_host_call_writes_the_originals_losses(on_cpu):
    actual, golden = on_cpu
    assert_same_numbers(stage(actual, "host_call"), stage(golden, "host_call"))


def test_all_variables_after_training_are_the_originals(on_cpu):
    actual, golden = on_cpu
    assert_same_numbers(stage(actual, "final"), stage(golden, "final"))


def test_evaluation_is_the_originals(on_cpu):
    actual, golden = on_cpu
    assert_same_numbers(stage(actual, "evaluate"), stage(golden, "evaluate"))


def test_evaluation_of_two_steps_is_the_originals(on_cpu):
    actual, golden = on_cpu
    assert_same_numbers(stage(actual, "evaluate_2_steps"), stage(golden, "evaluate_2_steps"))


def test_predictions_are_the_originals_in_order(on_cpu):
    actual, golden = on_cpu
    assert_same_numbers(stage(actual, "predict"), stage(golden, "predict"))


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_numbers_without_v2_behavior_are_the_originals(name, without_v2_behavior):
    assert_same_numbers(results_of(name, without_v2_behavior), read_golden(name))


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - INEXACT_ON_CORES))
def test_training_on_cores_is_that_of_one_device(name, on_cores):
    actual = results_of(name, on_cores)
    assert_same_numbers(
        stage(actual, "initial", "final"), stage(read_golden(name), "initial", "final")
    )


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - INEXACT_ON_CORES))
def test_mean_loss_over_cores_is_that_of_one_device(name, on_cores):
    losses = "step/" + runner.LOSS
    actual = results_of(name, on_cores)
    assert_same_numbers({losses: actual[losses]}, {losses: read_golden(name)[losses]})


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - INEXACT_ON_CORES))
def test_evaluation_on_cores_is_that_of_one_device(name, on_cores):
    actual = results_of(name, on_cores)
    stages = ("evaluate", "evaluate_2_steps")
    assert_same_numbers(stage(actual, *stages), stage(read_golden(name), *stages))


@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - INEXACT_ON_CORES))
def test_predictions_on_cores_are_those_of_one_device(name, on_cores):
    actual = results_of(name, on_cores)
    assert_same_numbers(stage(actual, "predict"), stage(read_golden(name), "predict"))


RECORDED_CHECKPOINTS = sorted(
    str(path.parent.relative_to(CHECKPOINTS)) for path in CHECKPOINTS.glob("*/*/checkpoint")
)


@pytest.mark.parametrize("recorded", RECORDED_CHECKPOINTS)
def test_checkpoint_of_the_original_resumes_with_the_originals_losses(recorded, tmp_path):
    program = PROGRAMS[Path(recorded).name]
    model_dir = tmp_path / "model"
    shutil.copytree(CHECKPOINTS / recorded, model_dir)
    losses = runner.resume(program, runner.tpuest_api(), str(model_dir))
    expected = json.loads((GOLDENS / "resumed_losses.json").read_text())[recorded][
        "resumed by tf215"
    ]
    np.testing.assert_allclose(losses, expected, RTOL)


@pytest.mark.skipif(
    ORIGINAL_PYTHON not in os.environ, reason=ORIGINAL_PYTHON + " names no Python with the original"
)
@pytest.mark.parametrize("name", ["adam_weight_decay", "cnn_batch_norm", "mlp", "rms_prop"])
def test_checkpoint_of_tpuest_resumes_under_the_original(name, tmp_path):
    program, api = PROGRAMS[name], runner.tpuest_api()
    model_dir, copied_dir = tmp_path / "model", tmp_path / "copy"
    runner.train(program, runner.make_estimator(program, api, str(model_dir)), records_steps=True)
    shutil.copytree(model_dir, copied_dir)
    script = str(HERE / "resume_with_original.py")
    output = subprocess.check_output(
        [os.environ[ORIGINAL_PYTHON], script, name, str(copied_dir)], text=True
    )
    expected = json.loads(output.splitlines()[-1])
    np.testing.assert_allclose(runner.resume(program, api, str(model_dir)), expected, RTOL)
