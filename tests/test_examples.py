"""The example programs, run as a user runs them: what they print, leave behind, and how they end."""

import os
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

# Far above the second or two that `benchmarks/exit_time.py` measures, far below the minutes that threads left
# alive would take: this finds a process that doesn't end, on a machine however busy.
MOST_SECONDS_TO_EXIT = 30.0


def with_our_modules():
    """Gives an environment whose Python imports what this one does."""
    return dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path)))


def run_example(module, model_dir):
    """Runs an example; gives its printed lines and the seconds from the last of them to its end."""
    command = [sys.executable, "-u", "-m", module, f"--model_dir={model_dir}"]
    printed, time_of_last_line = [], None
    with (
        open(model_dir / "log", "w+") as log,
        subprocess.Popen(
            command, env=with_our_modules(), stdout=subprocess.PIPE, stderr=log, text=True
        ) as child,
    ):
        for line in child.stdout:
            printed.append(line.rstrip("\n"))
            time_of_last_line = time.monotonic()
        status = child.wait()
        time_of_end = time.monotonic()
        log.seek(0)
        assert status == 0, log.read()[-5000:]
    return printed, time_of_end - time_of_last_line


def events_of(directory):
    """Gives summary tag to its steps, over all event files of a directory."""
    steps = {}
    for path in sorted(directory.glob("events*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
    return steps


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Gives `(model_dir, printed lines, seconds to exit)` of the main job."""
    pytest.importorskip("sklearn")
    model_dir = tmp_path_factory.mktemp("digits")
    return model_dir, *run_example("tpuest.examples.digits", model_dir)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Gives the printed lines of the second example."""
    pytest.importorskip("tensorflow_text", exc_type=ImportError)
    printed, _ = run_example("tpuest.examples.text", tmp_path_factory.mktemp("text"))
    return printed


def test_the_program_in_readme_learns_its_weights(tmp_path):
    readme = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
    program = tmp_path / "program.py"
    program.write_text(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1])
    command = [sys.executable, str(program)]
    output = subprocess.run(
        command, env=with_our_modules(), check=True, capture_output=True, text=True
    )
    weights = [float(number) for number in re.findall(r"[0-9.]+", output.stdout)]
    assert weights == pytest.approx([1, 2, 3], abs=0.05)


def accuracy_in(printed):
    (found,) = re.findall(r"Test accuracy: ([0-9.]+)", "\n".join(printed))
    return float(found)


def test_digits_are_read_with_over_95_percent_accuracy(digits):
    _, printed, _ = digits
    assert accuracy_in(printed) > 0.95


def test_digits_are_predicted_once_each_and_in_order(digits):
    _, printed, _ = digits
    assert "Predicted 360 images, each once and in order: True." in printed


def test_digits_end_soon_after_their_last_line(digits):
    *_, seconds_to_exit = digits
    assert seconds_to_exit < MOST_SECONDS_TO_EXIT


def test_digits_run_on_eight_simulated_cores(digits):
    model_dir, *_ = digits
    assert "Running on 8 simulated TPU cores" in (model_dir / "log").read_text()


def test_digits_leave_checkpoints(digits):
    model_dir, *_ = digits
    saved = tf.train.get_checkpoint_state(str(model_dir)).all_model_checkpoint_paths
    assert [os.path.basename(path) for path in saved] == [
        f"model.ckpt-{step}" for step in (0, 50, 100, 150)
    ]
    kernel = "conv2d/kernel"
    last = tf.train.load_checkpoint(saved[-1])
    shapes = last.get_variable_to_shape_map()
    for name in ("", "/Adam", "/Adam_1", "/ExponentialMovingAverage"):
        assert shapes[kernel + name] == [3, 3, 1, 32]
    assert last.get_tensor("global_step") == 150
    assert not np.array_equal(last.get_tensor(kernel), tf.train.load_variable(saved[0], kernel))


def test_digits_leave_events_of_training_for_tensorboard(digits):
    model_dir, *_ = digits
    steps = events_of(model_dir)
    assert {"loss", "global_step/sec", "examples/sec"} <= steps.keys()
    assert steps["training/loss"] == steps["training/learning_rate"] == list(range(150))


def test_digits_leave_events_of_evaluation_for_tensorboard(digits):
    model_dir, *_ = digits
    steps = events_of(model_dir / "eval")
    assert steps["accuracy"] == steps["mean_class_accuracy"] == steps["loss"] == [150]


def test_sentences_are_told_apart_far_better_than_by_chance(text):
    assert accuracy_in(text) > 0.8  # A third is chance.


def test_every_sentence_is_predicted(text):
    assert "Predicted 900 sentences of 900; the first three:" in text


def test_exported_classifier_reads_text_as_it_is(text):
    """The exported model says of the first three sentences what `predict` says."""
    (start,) = [
        i for i, line in enumerate(text) if line.endswith("takes the text itself and says:")
    ]
    assert text[start + 1 :] == text[start - 3 : start]
    assert len(text[start + 1 :]) == 3
