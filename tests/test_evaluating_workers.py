"""Two processes of a cluster in TF_CONFIG evaluate and predict; see `evaluating_workers_program`."""

import glob
import json
import os

import models
import numpy as np
import pytest
import tensorflow as tf
from test_workers import SECONDS, two_workers

PROGRAM = os.path.join(os.path.dirname(__file__), "evaluating_workers_program.py")
SCENARIOS = (
    "evaluated",
    "evaluated_a_step",
    "evaluated_without_data_on_one",
    "evaluated_alone",
    "predicted",
    "a_metric_of_its_own",
    "evaluated_in_training",
)
RTOL = 1e-5  # float32 sums in another order
STEP = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Gives the directory of a run, and by scenario what the chief and the worker said."""
    directory = tmp_path_factory.mktemp("workers")
    with two_workers(directory, *SCENARIOS, program=PROGRAM) as processes:
        outputs = [process.communicate(timeout=SECONDS)[0] for process in processes]
    said = [[json.loads(line) for line in output.splitlines()] for output in outputs]
    assert [len(lines) for lines in said] == [len(SCENARIOS)] * 2
    return directory, dict(zip(SCENARIOS, zip(*said, strict=True), strict=True))


def outputs_of(directory):
    path = str(directory / f"model.ckpt-{STEP}")
    return models.X @ tf.train.load_variable(path, "w") + tf.train.load_variable(path, "b")


def expected(directory, *batches):
    """Computes the metrics of batches of examples: the loss is the mean of theirs."""
    errors = outputs_of(directory) - models.Y
    return {
        "error": np.mean(np.abs(np.concatenate([errors[batch] for batch in batches]))),
        "loss": np.mean([np.mean(errors[batch] ** 2) for batch in batches]),
        "global_step": STEP,
    }


def batches(*starts, size=8):
    return [slice(start, start + size) for start in starts]


def assert_both_say(results, metrics):
    for said in results:
        assert said.keys() == metrics.keys()
        for name, value in metrics.items():
            np.testing.assert_allclose(said[name], value, RTOL, err_msg=name)


def test_metrics_count_the_data_of_all_workers(run):
    directory, said = run
    metrics = expected(directory, *batches(0, 8, 20), slice(16, 20))
    for evaluation in zip(*said["evaluated"], strict=True):
        assert_both_say(evaluation, metrics)


def test_steps_are_each_workers(run):
    directory, said = run
    assert_both_say(said["evaluated_a_step"], expected(directory, *batches(0, 20)))


def test_a_worker_may_have_no_data(run):
    directory, said = run
    assert_both_say(said["evaluated_without_data_on_one"], expected(directory, *batches(0)))


def test_results_are_written_once_by_the_chief(run):
    directory, said = run
    (events,) = glob.glob(str(directory / "eval_all_0" / "events.*"))
    assert os.path.getsize(events)
    written = models.read_scalars(directory / "eval_all_0", "error")
    np.testing.assert_allclose(written[STEP], said["evaluated"][0][0]["error"], RTOL)


def test_without_eval_distribute_each_process_evaluates_its_whole_input(run):
    directory, said = run
    assert_both_say(said["evaluated_alone"], expected(directory, *batches(0, 8, 16, 24, 32)))


def test_each_process_predicts_its_whole_input_in_order(run):
    directory, said = run
    for predictions in said["predicted"]:
        np.testing.assert_allclose(predictions, outputs_of(directory).ravel(), RTOL)


def test_a_metric_that_cannot_be_added_up_is_refused(run):
    for message in run[1]["a_metric_of_its_own"]:
        assert "A metric that keeps seen in evaluation over several workers" in message
        assert "leave eval_distribute out" in message


def test_an_evaluation_over_workers_in_their_training_is_refused(run):
    for message in run[1]["evaluated_in_training"]:
        assert "To evaluate over several workers while they train" in message
        assert "Leave eval_distribute out" in message
