"""`tpuest --check SCRIPT`: the program runs to its first call, whose step is checked."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
from models import lowers_steps

from tpuest import cli

ROOT = pathlib.Path(__file__).parent.parent
PROGRAM = """
    import sys
    import tensorflow as tf

    def input_fn(params):
        dataset = tf.data.Dataset.from_tensor_slices(({"x": [[1.0, 2.0]] * 8}, [[1.0]] * 8))
        return dataset.repeat().batch(params["batch_size"], drop_remainder=True)

    def model_fn(features, labels, mode, params):
        outputs = tf.layers.dense(features["x"], 1)
        if "--bad" in sys.argv:
            outputs += tf.linalg.det(tf.matmul(features["x"], features["x"], transpose_a=True))
        loss = tf.losses.mean_squared_error(labels, outputs)
        optimizer = tf.contrib.tpu.CrossShardOptimizer(tf.train.AdamOptimizer(0.1))
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
        return tf.contrib.tpu.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)

    def main(argv):
        print("the program starts", argv[1:])
        config = tf.contrib.tpu.RunConfig(model_dir="model", tpu_config=tf.contrib.tpu.TPUConfig(num_shards=8))
        estimator = tf.contrib.tpu.TPUEstimator(model_fn, config=config, train_batch_size=8)
        try:
            estimator.train(input_fn, steps=1)
        except Exception:
            print("caught")
        print("not reached")

    tf.app.run()
"""


def run(directory, *arguments, program=PROGRAM):
    (directory / "program.py").write_text(textwrap.dedent(program))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TPUEST_SIMULATE_TPU", None)
    options, rest = arguments[:1], arguments[1:]
    return subprocess.run(
        [sys.executable, "-m", "tpuest", *options, "program.py", *rest],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@lowers_steps
def test_a_program_is_checked_at_its_first_call_and_ends_there(tmp_path):
    ended = run(tmp_path, "--check=v5e:4x2")
    start, *report = ended.stdout.splitlines()
    assert start == "the program starts []"
    assert report[0] == "Check of the step of train for v5e:4x2 (8 cores, 1 examples a core)"
    assert report[2].startswith("compiles and fits     yes: ")
    assert "not reached" not in ended.stdout and "caught" not in ended.stdout
    assert ended.returncode == 0
    assert not (tmp_path / "model").exists()


@lowers_steps
def test_a_step_that_does_not_compile_makes_the_exit_code_1(tmp_path):
    ended = run(tmp_path, "--check", "--bad")
    assert "compiles and fits     NO: does not compile for v5e:1x1" in ended.stdout
    line = (
        textwrap.dedent(PROGRAM)
        .splitlines()
        .index(
            '        outputs += tf.linalg.det(tf.matmul(features["x"], features["x"], transpose_a=True))'
        )
    )
    assert f"program.py:{line + 1}   outputs += tf.linalg.det" in ended.stdout
    assert ended.returncode == 1


EMBEDDINGS = """
    import tensorflow as tf

    column = tf.feature_column.categorical_column_with_identity("x", 4)
    spec = tf.estimator.tpu.experimental.EmbeddingConfigSpec(
        [tf.compat.v1.tpu.experimental.embedding_column(column, 2)],
        optimization_parameters=tf.compat.v1.tpu.experimental.AdagradParameters(0.1),
    )
    config = tf.estimator.tpu.RunConfig()
    estimator = tf.estimator.tpu.TPUEstimator(
        lambda features, labels, mode, params: None, config=config, train_batch_size=8, embedding_config_spec=spec
    )
    estimator.train(lambda params: None, steps=1)
"""


def test_what_a_check_does_not_know_makes_the_exit_code_2_in_a_line(tmp_path):
    ended = run(tmp_path, "--check=v4", program=EMBEDDINGS)
    assert ended.stderr.splitlines()[-1].startswith(
        "tpuest --check: nothing was checked: Checking a model with embedding_config_spec for v4"
    )
    assert ended.returncode == 2


def test_a_program_without_a_call_makes_the_exit_code_2(tmp_path):
    ended = run(tmp_path, "--check", program="print('nothing to train')")
    assert "nothing was checked" in ended.stderr
    assert ended.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check=v9", "program.py"], "There is no TPU 'v9'"),
        (["--exact", "program.py"], "--exact goes with --check"),
        (["--check"], "a script or -m MODULE is needed"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_the_program_runs(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
