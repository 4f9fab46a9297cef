"""A worker that goes away in the middle of a call: what `UnavailableError` and `AbortedError` of TensorFlow lead to.

`test_remote_workers.py` has the real thing. Here a step raises the error after it has run: variables have changed.
"""

import dataclasses
import logging

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import test_embeddings as embeddings
from models import CPU, TWO_CORES
from test_embedding_hardware import memory_for  # noqa: F401  A fixture.

import tpuest
from tpuest import embedding_config, recovery, topology, tpu_system
from tpuest.loop import CompiledProgram
from tpuest.recovery import LIMIT_VARIABLE, Recovery

RTOL = 1e-5
on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Gives the seconds that were waited for; nobody waits."""
    waited = []
    monkeypatch.setattr(recovery.time, "sleep", waited.append)
    return waited


@pytest.fixture
def gone():
    """Gives an error: the one that a call ended with carries a mark."""
    return tf.errors.UnavailableError(None, None, "failed to connect to all addresses\nmore")


@pytest.fixture
def lose(monkeypatch, gone):
    """Gives a function that has calls of the compiled step fail after they ran: those that a predicate picks."""

    def lose(is_lost, error=gone):
        """`is_lost` gets the call's number, from 0; gives a list of the calls that were made."""
        calls = []

        def losing(run):
            def call(self, *args, **kwargs):
                values = run(self, *args, **kwargs)
                calls.append(self.program.mode)
                if is_lost(len(calls) - 1):
                    raise error
                return values

            return call

        for name in ("run_loop", "run_step"):
            monkeypatch.setattr(CompiledProgram, name, losing(getattr(CompiledProgram, name)))
        return calls

    return lose


class Watch(tf.train.SessionRunHook):
    """Counts what it is told, and wants to see every step."""

    def __init__(self):
        self.heard = []

    def begin(self):
        self.heard.append("begin")

    def after_create_session(self, session, coord):
        self.heard.append("session")

    def after_run(self, run_context, run_values):
        self.heard.append("run")

    def end(self, session):
        self.heard.append("end")


def attempts(caplog):
    return [r.getMessage() for r in caplog.records if ", attempt " in r.getMessage()]


def assert_trained(estimator, *parts):
    """Compares the newest checkpoint with training in parts, each from the data's first batch on."""
    w = b = None
    for num_steps in parts:
        _, w, b = models.trained(num_steps, w, b)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)
    np.testing.assert_allclose(estimator.get_variable_value("b"), b, RTOL)


@on_cpu_and_cores
@pytest.mark.parametrize("kind", [tf.errors.UnavailableError, tf.errors.AbortedError])
def test_training_goes_on_from_the_last_checkpoint(tmp_path, lose, caplog, num_cores, kind):
    watch = Watch()
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, save_checkpoints_steps=4)
        lose(lambda call: call == 5, kind(None, None, "gone"))
        estimator.train(models.train_input_fn, steps=10, hooks=[watch])
    assert models.checkpoint_steps(tmp_path) == [0, 4, 8, 10]
    assert_trained(estimator, 4, 6)
    path = f"{tmp_path}/model.ckpt-4"
    assert attempts(caplog) == [f"{kind.__name__}: gone. Going on from {path}, attempt 1 of 5."]
    runs = ["run"] * 5, ["run"] * 6
    assert watch.heard == ["begin", "session", *runs[0], "session", *runs[1], "end"]


def test_training_that_loses_workers_without_progress_ends_with_the_first_error(
    tmp_path, lose, monkeypatch, waits, caplog
):
    monkeypatch.setenv(LIMIT_VARIABLE, "3")
    errors = [tf.errors.UnavailableError(None, None, str(number)) for number in range(9)]
    calls = lose(lambda call: call >= 5 and raise_(errors[call]))
    watch = Watch()
    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=4)
    with pytest.raises(tf.errors.UnavailableError) as raised:
        estimator.train(models.train_input_fn, steps=10, hooks=[watch])
    assert raised.value is errors[5]
    assert len(calls) == 9
    assert waits == [0, 1, 2]
    assert len(attempts(caplog)) == 3
    assert "end" not in watch.heard
    assert models.checkpoint_steps(tmp_path) == [0, 4]
    assert_trained(estimator, 4)


def raise_(error):
    raise error


def test_steps_that_are_lost_again_are_no_progress(tmp_path, lose, monkeypatch, caplog):
    monkeypatch.setenv(LIMIT_VARIABLE, "2")
    # The sixth step each time, two of them after the checkpoint.
    calls = lose(lambda call: call in (5, 7, 9))
    with pytest.raises(tf.errors.UnavailableError):
        models.make_estimator(tmp_path, save_checkpoints_steps=4).train(
            models.train_input_fn, steps=10, hooks=[Watch()]
        )
    assert len(calls) == 10
    assert len(attempts(caplog)) == 2


def test_a_later_checkpoint_is_progress(tmp_path, lose, monkeypatch, caplog):
    monkeypatch.setenv(LIMIT_VARIABLE, "1")
    lose(lambda call: call in (1, 4, 8))  # after 1, 3 and 5 steps are saved
    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=1)
    estimator.train(models.train_input_fn, steps=8, hooks=[Watch()])
    assert_trained(estimator, 1, 2, 3, 2)
    assert [line.rsplit(", ", 1)[1] for line in attempts(caplog)] == ["attempt 1 of 1."] * 3


def test_no_attempt_is_made_where_none_is_allowed(tmp_path, lose, monkeypatch, gone):
    monkeypatch.setenv(LIMIT_VARIABLE, "0")
    calls = lose(lambda call: True)
    with pytest.raises(tf.errors.UnavailableError) as raised:
        models.make_estimator(tmp_path).train(models.train_input_fn, steps=3)
    assert raised.value is gone
    assert len(calls) == 1


def test_a_limit_that_is_no_number_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "-1")
    with pytest.raises(ValueError, match="TPUEST_RECOVERIES is '-1'"):
        models.make_estimator(tmp_path).train(models.train_input_fn, steps=1)


def test_a_worker_that_is_lost_while_a_session_is_made_anew_is_another_attempt(
    tmp_path, lose, caplog, gone
):
    class LosesOnce(Watch):
        def after_create_session(self, session, coord):
            super().after_create_session(session, coord)
            if self.heard.count("session") == 2:
                raise gone

    lose(lambda call: call == 5)
    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=4)
    estimator.train(models.train_input_fn, steps=6, hooks=[LosesOnce()])
    assert_trained(estimator, 4, 2)
    assert len(attempts(caplog)) == 2


def test_a_session_that_was_never_ready_is_not_saved(tmp_path, lose, monkeypatch, gone):
    """The variables are still those of the sixth step, half done as far as anyone knows."""
    lose(lambda call: call == 5)
    monkeypatch.setenv(LIMIT_VARIABLE, "1")
    monkeypatch.setattr(tf.train.Saver, "restore", lambda *arguments: raise_(gone))
    with pytest.raises(tf.errors.UnavailableError):
        models.make_estimator(tmp_path, save_checkpoints_steps=4).train(
            models.train_input_fn, steps=10, hooks=[Watch()]
        )
    assert models.checkpoint_steps(tmp_path) == [0, 4]


def test_a_hook_that_loses_a_service_is_tried_again_as_in_the_original(tmp_path, caplog, gone):
    class LosesOnce(Watch):
        def after_run(self, run_context, run_values):
            super().after_run(run_context, run_values)
            if self.heard.count("run") == 3:
                raise gone

    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=2)
    estimator.train(models.train_input_fn, steps=4, hooks=[LosesOnce()])
    assert_trained(estimator, 2, 2)
    assert len(attempts(caplog)) == 1


def test_what_the_users_python_raises_in_the_input_is_the_users(tmp_path, caplog):
    def read_record(x):
        raise tf.errors.UnavailableError(None, None, "no such shard today")

    def input_fn(params):
        read = lambda features, labels: (
            {"x": tf.py_function(read_record, [features["x"]], tf.float32)},
            labels,
        )
        shaped = lambda features, labels: (
            {"x": tf.ensure_shape(features["x"], [models.BATCH_SIZE, 3])},
            labels,
        )
        return models.train_input_fn(params).map(read).map(shaped)

    with pytest.raises(tf.errors.UnknownError, match="in read_record(.|\n)*no such shard today"):
        models.make_estimator(tmp_path).train(input_fn, steps=3)
    assert not attempts(caplog)


def test_what_input_fn_itself_raises_is_the_users(tmp_path, caplog, gone):
    with pytest.raises(tf.errors.UnavailableError) as raised:
        models.make_estimator(tmp_path).train(lambda params: raise_(gone), steps=3)
    assert raised.value is gone
    assert not attempts(caplog)


@on_cpu_and_cores
def test_an_evaluation_starts_again_with_its_metrics(tmp_path, lose, num_cores):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores)
        estimator.train(models.train_input_fn, steps=2)
        examples = models.examples_input_fn(models.NUM_EXAMPLES - 3)
        expected = estimator.evaluate(examples, hooks=[Watch()])
        calls = lose(lambda call: call == 2)
        assert estimator.evaluate(examples, hooks=[Watch()]) == expected
    assert len(calls) > 5


def test_an_evaluation_that_cannot_go_on_ends_with_the_first_error(
    tmp_path, lose, monkeypatch, gone
):
    monkeypatch.setenv(LIMIT_VARIABLE, "2")
    estimator = models.make_estimator(tmp_path)
    estimator.train(models.train_input_fn, steps=2)
    calls = lose(lambda call: True)
    with pytest.raises(tf.errors.UnavailableError) as raised:
        estimator.evaluate(models.one_epoch_input_fn)
    assert raised.value is gone
    assert len(calls) == 3


@on_cpu_and_cores
def test_a_prediction_starts_again_only_before_its_first_result(tmp_path, lose, num_cores, gone):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores)
        estimator.train(models.train_input_fn, steps=2)
        predict = lambda: estimator.predict(models.one_epoch_input_fn, hooks=[Watch()])
        expected = [one["outputs"] for one in predict()]
        calls = lose(lambda call: call in (0, 4))
        np.testing.assert_array_equal(
            [one["outputs"] for one in take(predict(), 3 * models.BATCH_SIZE)],
            expected[: 3 * models.BATCH_SIZE],
        )
        calls.clear()
        results = predict()
        with pytest.raises(tf.errors.UnavailableError) as raised:
            list(results)
        assert raised.value is gone
        assert len(calls) == 5


def take(results, count):
    taken = [next(results) for _ in range(count)]
    results.close()
    return taken


class Cluster:
    """Two simulated cores that stand for a TPU's: what was on them before they were found again is gone."""

    def __init__(self):
        self.found = []

    def find(self):
        if not self.found or not self.found[-1].is_connected:
            strategy = tf.distribute.MirroredStrategy(
                ["/cpu:0", "/cpu:1"], cross_device_ops=tf.distribute.ReductionToOneDevice()
            )
            anew = {"find_again": self.find, "generation": tpu_system.generation()}
            here = topology.find_topology(tpuest.RunConfig(), True)
            self.found.append(dataclasses.replace(here, strategy=strategy, **anew))
        return self.found[-1]


@pytest.fixture
def cluster():
    with models.simulation(TWO_CORES):
        yield Cluster()


def estimator_on(cluster, model_dir, **run_config):
    estimator = models.make_estimator(model_dir, TWO_CORES, **run_config)
    estimator._topology = lambda mode: cluster.find()
    return estimator


def test_training_goes_on_where_the_tpu_is_initialised_anew(tmp_path, lose, cluster):
    estimator = estimator_on(cluster, tmp_path, save_checkpoints_steps=4, iterations_per_loop=2)
    lose(lambda call: call == 2)
    estimator.train(models.train_input_fn, max_steps=10)
    assert_trained(estimator, 4, 6)
    assert len(cluster.found) == 2
    estimator.train(models.train_input_fn, max_steps=12)
    assert_trained(estimator, 4, 6, 2)
    assert len(cluster.found) == 2


@pytest.mark.parametrize("is_found_anew", [False, True], ids=["in the same place", "found anew"])
@pytest.mark.parametrize("in_hardware", [False, True], ids=["variables", "hardware"])
def test_tables_of_embeddings_and_their_slots_go_on_from_the_checkpoint(
    tmp_path, lose, cluster, request, in_hardware, is_found_anew
):
    """A step has updated the tables before the loss is known: they are restored like any variable."""
    parameters = embedding_config.AdagradParameters(0.1)
    if in_hardware:
        request.getfixturevalue("memory_for")(parameters)

    def train(name):
        directory, spec = tmp_path / name, embeddings.spec_of(parameters)
        estimator = embeddings.make_estimator(directory, spec, save_checkpoints_steps=4)
        if is_found_anew:
            estimator._topology = lambda mode: cluster.find()
        estimator.train(embeddings.input_fn, max_steps=10)
        names = estimator.get_variable_names()
        return {name: estimator.get_variable_value(name) for name in names}

    expected = train("whole")
    calls = lose(lambda call: call == 2)
    values = train("lost")
    assert len(calls) == 6  # loops of two steps: one is lost
    assert len(cluster.found) == (2 if is_found_anew else 0)
    assert (
        {f"{embeddings.TABLE}", f"{embeddings.TABLE}/Adagrad"} <= values.keys() == expected.keys()
    )
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name], RTOL, err_msg=name)


def test_what_is_under_way_beside_a_loss_hears_of_it(tmp_path, lose, cluster):
    """An evaluation in training loses the TPU: training's variables are gone as well."""
    estimator = estimator_on(cluster, tmp_path, save_checkpoints_steps=2, iterations_per_loop=2)
    calls = lose(lambda call: calls[call] == "eval" and calls.count("eval") == 2)
    train_spec = tpuest.TrainSpec(models.train_input_fn, max_steps=6)
    eval_spec = tpuest.EvalSpec(models.one_epoch_input_fn, steps=None, throttle_secs=0)
    tpuest.train_and_evaluate(estimator, train_spec, eval_spec)
    assert estimator.get_variable_value("global_step") == 6
    assert len(cluster.found) == 2


def test_a_prediction_under_way_beside_a_loss_ends(tmp_path, lose, cluster):
    estimator = estimator_on(cluster, tmp_path)
    estimator.train(models.train_input_fn, steps=2)
    results = estimator.predict(models.one_epoch_input_fn)
    next(results)
    lose(lambda call: call == 0)
    estimator.evaluate(models.one_epoch_input_fn)
    with pytest.raises(tf.errors.AbortedError, match="has been initialised anew meanwhile"):
        list(results)


def test_a_host_that_stays_away_is_named(waits, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(tpu_system.time, "monotonic", lambda: 10 * next(clock))
    cluster = tf.train.ClusterSpec({"worker": ["127.0.0.1:9"]})
    with pytest.raises(tf.errors.UnavailableError, match="No connection to 127.0.0.1:9 within 60"):
        tpu_system.wait_for_hosts(cluster)


def test_waits_grow_to_a_minute(waits, caplog, gone):
    counted = Recovery(limit=9)
    with caplog.at_level(logging.WARNING):
        for _ in range(9):
            counted.allow(gone, "the start")
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert attempts(caplog)[0] == (
        "UnavailableError: failed to connect to all addresses. Going on from the start, attempt 1 of 9."
    )
