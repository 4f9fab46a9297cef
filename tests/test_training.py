"""`train_and_evaluate`: when it evaluates and exports, in each role of a process."""

import json
import os

import models
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import CPU, TWO_CORES

import tpuest
from tpuest import EvalSpec, TrainSpec, receivers, train_and_evaluate
from tpuest.training import _ContinuousEvalListener, _TrainingExecutor

# float32 sums in another order.
RTOL = 1e-5
on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])
CLUSTER = {"chief": ["host0:1"], "worker": ["host1:1"]}


class Exporter(tpuest.Exporter):
    """Records what it is asked to export, and calls a function."""

    name = "record"

    def __init__(self, and_then=None):
        self.exports = []
        self._and_then = and_then

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export):
        step = int(eval_result["global_step"])
        assert checkpoint_path.endswith(f"model.ckpt-{step}")
        assert export_path == os.path.join(estimator.model_dir, "export", "record")
        self.exports.append((step, is_the_final_export))
        if self._and_then is not None:
            self._and_then()
        return f"export of {step}"


@pytest.fixture
def task(monkeypatch):
    """Gives this process a task of the cluster."""

    def set_task(task_type, index=0, cluster=CLUSTER):
        config = {"cluster": cluster, "task": {"type": task_type, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))

    return set_task


def eval_spec(exporter=None, throttle_secs=0, **options):
    return EvalSpec(
        models.one_epoch_input_fn,
        steps=5,
        exporters=exporter,
        start_delay_secs=0,
        throttle_secs=throttle_secs,
        **options,
    )


def error_of(w, b):
    return np.mean(np.abs(models.X @ w + b - models.Y))


@on_cpu_and_cores
def test_every_checkpoint_is_evaluated_and_exported(tmp_path, num_cores):
    exporter = Exporter()
    with models.simulation(num_cores):
        estimator = models.make_estimator(
            tmp_path, num_cores, iterations_per_loop=3, save_checkpoints_steps=3
        )
        train_spec = TrainSpec(models.train_input_fn, max_steps=8)
        metrics, exports = train_and_evaluate(estimator, train_spec, eval_spec(exporter))
    assert exporter.exports == [(3, False), (6, False), (8, True)]
    assert exports == ["export of 8"]
    _, w, b = models.trained(8)
    np.testing.assert_allclose(metrics["error"], error_of(w, b), RTOL)
    # The evaluations between them left training as it was.
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)
    errors = models.read_scalars(estimator.eval_dir(), "error")
    assert list(errors) == [3, 6, 8]
    np.testing.assert_allclose(errors[6], error_of(*models.trained(6)[1:]), RTOL)


def test_exported_models_are_those_of_their_checkpoints(tmp_path):
    features = {"x": np.zeros([1, 3], np.float32)}

    def receiver_fn():
        placeholders = {name: tf.placeholder(tf.float32, [None, 3]) for name in features}
        return receivers.ServingInputReceiver(placeholders, placeholders)

    exporters = [
        tpuest.LatestExporter("latest", receiver_fn, exports_to_keep=1),
        tpuest.BestExporter("best", receiver_fn),
        tpuest.FinalExporter("final", receiver_fn),
    ]
    model_fn = models.linear_model(predictions=lambda features, outputs: {"outputs": outputs})
    estimator = models.make_estimator(tmp_path, model_fn=model_fn, save_checkpoints_steps=2)
    train_spec = TrainSpec(models.train_input_fn, max_steps=4)
    _, exports = train_and_evaluate(estimator, train_spec, eval_spec(exporters))
    assert [len(os.listdir(tmp_path / "export" / e.name)) for e in exporters] == [1, 2, 1]
    _, w, b = models.trained(4)
    for path in exports:
        serve = tf.saved_model.load_v2(path.decode(), ["serve"]).signatures["serving_default"]
        outputs = serve(x=tf.constant(models.X))["outputs"]
        np.testing.assert_allclose(outputs, models.X @ w + b, RTOL)


def test_evaluations_are_throttled_but_for_the_last_one(tmp_path):
    exporter = Exporter()
    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=2)
    train_spec = TrainSpec(models.train_input_fn, max_steps=6)
    train_and_evaluate(estimator, train_spec, eval_spec(exporter, throttle_secs=600))
    assert exporter.exports == [(2, False), (6, True)]


def test_it_goes_on_where_an_earlier_run_ended(tmp_path):
    exporter = Exporter()
    for max_steps in (4, 6, 6):
        estimator = models.make_estimator(tmp_path, save_checkpoints_steps=4)
        train_spec = TrainSpec(models.train_input_fn, max_steps=max_steps)
        metrics, exports = train_and_evaluate(estimator, train_spec, eval_spec(exporter))
    assert exporter.exports == [(4, True), (6, True)]
    assert (metrics, exports) == (None, None)  # Nothing was left to do the third time.


def test_a_name_and_hooks_reach_evaluation_and_training(tmp_path):
    class Count(tf.train.SessionRunHook):
        num_runs = 0

        def after_run(self, run_context, run_values):
            self.num_runs += 1

    in_training, in_evaluation = Count(), Count()
    estimator = models.make_estimator(tmp_path)
    train_spec = TrainSpec(models.train_input_fn, max_steps=3, hooks=[in_training])
    train_and_evaluate(estimator, train_spec, eval_spec(name="test", hooks=[in_evaluation]))
    assert (in_training.num_runs, in_evaluation.num_runs) == (3, 5)
    assert list(models.read_scalars(estimator.eval_dir("test"), "error")) == [3]


def test_an_error_in_an_exporter_ends_it_with_that_error(tmp_path):
    def fail():
        raise ZeroDivisionError("in the exporter")

    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=2)
    train_spec = TrainSpec(models.train_input_fn, max_steps=6)
    with pytest.raises(ZeroDivisionError, match="in the exporter"):
        train_and_evaluate(estimator, train_spec, eval_spec(Exporter(fail)))
    assert models.checkpoint_steps(tmp_path) == [0, 2]


@pytest.mark.parametrize(("method", "num_evaluations"), [("before_eval", 0), ("after_eval", 1)])
def test_a_listener_ends_training(tmp_path, method, num_evaluations):
    exporter = Exporter()
    stops = type("Stops", (_ContinuousEvalListener,), {method: lambda *_: False})
    estimator = models.make_estimator(tmp_path, save_checkpoints_steps=2)
    train_spec = TrainSpec(models.train_input_fn, max_steps=100)
    executor = _TrainingExecutor(
        estimator, train_spec, eval_spec(exporter), continuous_eval_listener=stops()
    )
    executor.run()
    assert len(exporter.exports) == num_evaluations
    assert models.checkpoint_steps(tmp_path)[-1] == 2


def test_without_checkpoints_there_is_nothing_to_evaluate(tmp_path):
    estimator = models.make_estimator(
        tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=None
    )
    with pytest.raises(ValueError, match="There should be a CheckpointSaverHook"):
        train_and_evaluate(estimator, TrainSpec(models.train_input_fn, max_steps=3), eval_spec())


def test_an_evaluator_follows_the_checkpoints_of_another_process(tmp_path, task):
    trainer = models.make_estimator(tmp_path)
    trainer.train(models.train_input_fn, steps=2)

    def train_on():
        if len(exporter.exports) < 3:
            trainer.train(models.train_input_fn, steps=2)

    exporter = Exporter(and_then=train_on)
    task("evaluator")
    evaluator = models.make_estimator(tmp_path)
    train_spec = TrainSpec(models.train_input_fn, max_steps=6)
    assert train_and_evaluate(evaluator, train_spec, eval_spec(exporter)) is None
    assert exporter.exports == [(2, False), (4, False), (6, True)]
    with pytest.raises(ValueError, match="Train has been called wrong configuration"):
        evaluator.train(models.train_input_fn, steps=1)


def test_a_second_evaluator_is_refused(tmp_path, task):
    task("evaluator", 1)
    with pytest.raises(ValueError, match="there can only be one `evaluator` task"):
        train_and_evaluate(
            models.make_estimator(tmp_path), TrainSpec(models.train_input_fn), eval_spec()
        )


def test_a_chief_without_workers_trains_and_leaves_evaluation_to_the_evaluator(tmp_path, task):
    task("chief", cluster={"chief": ["host0:1"]})
    exporter = Exporter()
    train_spec = TrainSpec(models.train_input_fn, max_steps=2)
    estimator = models.make_estimator(tmp_path)
    assert train_and_evaluate(estimator, train_spec, eval_spec(exporter)) is None
    assert exporter.exports == []
    assert models.checkpoint_steps(tmp_path) == [0, 2]


def test_a_master_evaluates_too(tmp_path, task):
    task("master", cluster={"master": ["host0:1"]})
    exporter = Exporter()
    train_spec = TrainSpec(models.train_input_fn, max_steps=2)
    train_and_evaluate(models.make_estimator(tmp_path), train_spec, eval_spec(exporter))
    assert exporter.exports == [(2, True)]


def test_parameter_servers_are_refused(tmp_path, task):
    task("ps", cluster={"chief": ["host0:1"], "ps": ["host1:1"]})
    with pytest.raises(tpuest.UnsupportedError, match="workers sum their gradients"):
        train_and_evaluate(
            models.make_estimator(tmp_path), TrainSpec(models.train_input_fn), eval_spec()
        )


def test_a_continuous_evaluation_over_checkpoints_iterator(tmp_path):
    models.make_estimator(tmp_path, save_checkpoints_steps=2).train(models.train_input_fn, steps=2)
    trainer = models.make_estimator(tmp_path)
    evaluator = models.make_estimator(tmp_path)
    steps = []
    for path in tf.train.checkpoints_iterator(str(tmp_path), timeout=0):
        result = evaluator.evaluate(models.one_epoch_input_fn, checkpoint_path=path)
        steps.append(int(result["global_step"]))
        w, b = (tf.train.load_variable(path, name) for name in "wb")
        np.testing.assert_allclose(result["error"], error_of(w, b), RTOL)
        if len(steps) < 3:
            trainer.train(models.train_input_fn, steps=3)
    assert steps == [2, 5, 8]


def input_fn():
    """Is never called."""


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: TrainSpec("input_fn"), TypeError, "`input_fn` must be callable"),
        (lambda: TrainSpec(input_fn, max_steps=0), ValueError, "Must specify max_steps > 0"),
        (lambda: TrainSpec(input_fn, hooks=[1]), TypeError, "All hooks must be `SessionRunHook`"),
        (
            lambda: TrainSpec(input_fn, saving_listeners=[1]),
            TypeError,
            "All saving_listeners must be `CheckpointSaverListener`",
        ),
        (lambda: EvalSpec("input_fn"), TypeError, "`input_fn` must be callable"),
        (lambda: EvalSpec(input_fn, steps=0), ValueError, "Must specify steps > 0"),
        (lambda: EvalSpec(input_fn, name=1), TypeError, "`name` must be string"),
        (lambda: EvalSpec(input_fn, hooks=[1]), TypeError, "All hooks must be `SessionRunHook`"),
        (
            lambda: EvalSpec(input_fn, exporters=[1]),
            TypeError,
            "`exporters` must be an Exporter",
        ),
        (lambda: EvalSpec(input_fn, exporters=7), TypeError, "`exporters` must be an Exporter"),
        (
            lambda: EvalSpec(input_fn, exporters=[Exporter(), Exporter()]),
            ValueError,
            "`exporters` must have unique names",
        ),
        (
            lambda: EvalSpec(input_fn, exporters=tpuest.FinalExporter("", input_fn)),
            ValueError,
            "cannot have a name that is `None`",
        ),
        (
            lambda: EvalSpec(input_fn, start_delay_secs=-1),
            ValueError,
            "Must specify start_delay_secs >= 0",
        ),
        (
            lambda: EvalSpec(input_fn, throttle_secs=-1),
            ValueError,
            "Must specify throttle_secs >= 0",
        ),
    ],
)
def test_a_wrong_spec_is_refused_when_it_is_made(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1, TrainSpec(input_fn), EvalSpec(input_fn)), "`estimator` must have type"),
        (("estimator", 1, EvalSpec(input_fn)), "`train_spec` must have type"),
        (("estimator", TrainSpec(input_fn), 1), "`eval_spec` must have type"),
    ],
)
def test_another_type_is_refused(tmp_path, arguments, words):
    estimator, *specs = arguments
    if estimator == "estimator":
        estimator = models.make_estimator(tmp_path)
    with pytest.raises(TypeError, match=words):
        train_and_evaluate(estimator, *specs)
