"""Exported models: their predictions, however they are loaded, and what a failed export leaves."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import pytest
import tensorflow as tf
from models import CPU, EIGHT_CORES, TWO_CORES

import tpuest
from tpuest import ModeKeys, TPUEstimator, export, receivers, tpu_inference, wheels
from tpuest.compat import simulated_serving

v1 = tf.compat.v1
HERE = Path(__file__).resolve().parent
ORIGINAL_PYTHON = "TPUEST_ORIGINAL_PYTHON"
NUM_EXAMPLES = 8
# A session and an eager function may add in another order.
RTOL = 1e-6


def serving_input_receiver_fn():
    x = v1.placeholder(tf.float32, [None, 3], name="x")
    return receivers.ServingInputReceiver({"x": x}, {"x": x})


def supervised_input_receiver_fn():
    x = v1.placeholder(tf.float32, [None, 3], name="x")
    y = v1.placeholder(tf.float32, [None, 1], name="y")
    return receivers.SupervisedInputReceiver({"x": x}, y, {"x": x, "y": y})


def make_estimator(model_dir, num_cores=CPU, num_steps=3, **options):
    """Gives an estimator of the linear model; one that exports to CPU alone unless `options` say otherwise."""
    model_fn = options.pop("model_fn", None) or models.linear_model()
    estimator = TPUEstimator(
        model_fn,
        config=tpuest.RunConfig(model_dir=str(model_dir), save_summary_steps=0),
        use_tpu=num_cores is not CPU,
        train_batch_size=models.BATCH_SIZE,
        eval_batch_size=models.BATCH_SIZE,
        predict_batch_size=models.BATCH_SIZE,
        **{"export_to_tpu": False, **options},
    )
    if num_steps:
        estimator.train(models.train_input_fn, steps=num_steps)
    return estimator


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Gives the path of a model that two cores trained, and what `predict` says of the first examples."""
    directory = tmp_path_factory.mktemp("exported")
    with models.simulation(TWO_CORES):
        estimator = make_estimator(directory / "model", TWO_CORES, export_to_tpu=True)
        path = estimator.export_saved_model(str(directory / "export"), serving_input_receiver_fn)
        predictions = list(estimator.predict(models.examples_input_fn(NUM_EXAMPLES)))
    return path.decode(), np.stack([prediction["outputs"] for prediction in predictions])


@contextlib.contextmanager
def loaded(path, tags=("serve",)):
    """Gives a session and the MetaGraphDef, loaded as TF 1 does."""
    with v1.Session(graph=tf.Graph()) as session:
        yield session, v1.saved_model.loader.load(session, list(tags), path)


def outputs_of(path, tags=("serve",), signature="serving_default", **feeds):
    with loaded(path, tags) as (session, meta_graph):
        return run_signature(session, meta_graph.signature_def[signature], feeds)


def run_signature(session, signature, feeds):
    fetches = {name: info.name for name, info in signature.outputs.items()}
    feed_dict = {signature.inputs[name].name: value for name, value in feeds.items()}
    return session.run(fetches, feed_dict)


# --- loaded in four ways


def test_tensorflow_2_loads_the_predictions(exported):
    path, expected = exported
    signature = tf.saved_model.load(path, tags=["serve"]).signatures["serving_default"]
    outputs = signature(x=tf.constant(models.X[:NUM_EXAMPLES]))["outputs"]
    np.testing.assert_allclose(outputs, expected, RTOL)


def test_a_session_loads_the_predictions(exported):
    path, expected = exported
    outputs = outputs_of(path, x=models.X[:NUM_EXAMPLES])["outputs"]
    np.testing.assert_allclose(outputs, expected, RTOL)


def test_saved_model_cli_shows_and_runs_the_predictions(exported, tmp_path):
    path, expected = exported
    np.save(tmp_path / "x.npy", models.X[:NUM_EXAMPLES])
    model = ["--dir", path, "--tag_set", "serve", "--signature_def", "serving_default"]
    shown = run_saved_model_cli("show", *model)
    assert "inputs['x'] tensor_info:" in shown
    assert "outputs['outputs'] tensor_info:" in shown
    inputs, outputs = f"x={tmp_path / 'x.npy'}", tmp_path / "out"
    run_saved_model_cli("run", *model, "--inputs", inputs, "--outdir", str(outputs))
    np.testing.assert_allclose(np.load(outputs / "outputs.npy"), expected, RTOL)


def run_saved_model_cli(*arguments):
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(
    ORIGINAL_PYTHON not in os.environ, reason=ORIGINAL_PYTHON + " names no Python with the original"
)
def test_tensorflow_of_the_original_loads_the_predictions(exported, tmp_path):
    path, expected = exported
    np.save(tmp_path / "x.npy", models.X[:NUM_EXAMPLES])
    script = HERE / "load_with_original.py"
    command = [os.environ[ORIGINAL_PYTHON], script, path, tmp_path / "x.npy", tmp_path / "y.npy"]
    subprocess.run([str(part) for part in command], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, RTOL)


# --- for TPUs


def version_2_model(batch_config):
    """Gives a `model_fn` that has a TPU serve all of the linear model."""
    linear = models.linear_model()

    def model_fn(features, labels, mode, config, params):
        if mode != ModeKeys.PREDICT or not params["use_tpu"]:
            return linear(features, labels, mode, params)
        return tpu_inference.model_fn_inference_on_tpu(
            linear, features, labels, config, params, batch_config
        )

    return model_fn


def rewritten_model(features, labels, mode, params):
    """Is a `model_fn` that calls the rewrite itself."""

    def computation(x):
        w = v1.get_variable("w", [3, 1])
        b = v1.get_variable("b", [1])
        return tf.add(x @ w, b)

    outputs = v1.tpu.rewrite(computation, [features["x"]])
    outputs = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
    return tpuest.TPUEstimatorSpec(mode, predictions={"outputs": outputs})


BATCHES_OF_4 = tpuest.BatchConfig(
    num_batch_threads=1,
    max_batch_size=NUM_EXAMPLES,
    batch_timeout_micros=100,
    allowed_batch_sizes=[NUM_EXAMPLES],
)


@pytest.mark.parametrize(
    ("model_fn", "version"),
    [
        (models.linear_model(), 1),
        (version_2_model(None), 2),
        (version_2_model(BATCHES_OF_4), 2),
        (rewritten_model, 2),
    ],
    ids=["version 1", "version 2", "version 2 with batches", "own rewrite"],
)
def test_graph_for_tpus_predicts_the_same_on_simulated_cores(tmp_path, model_fn, version):
    trained = make_estimator(tmp_path / "model")
    estimator = make_estimator(
        tmp_path / "model",
        num_steps=0,
        model_fn=model_fn,
        export_to_tpu=True,
        export_saved_model_api_version=version,
    )
    with tpuest.installed(), models.simulation(EIGHT_CORES):
        path = estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
        outputs = outputs_of(path, ["serve", "tpu"], x=models.X[:NUM_EXAMPLES])["outputs"]
    expected = list(trained.predict(models.examples_input_fn(NUM_EXAMPLES)))
    np.testing.assert_allclose(outputs, [p["outputs"] for p in expected], RTOL)
    assert ops_of(path, {"serve", "tpu"}) & {"TPUPartitionedCall", "TPUReplicateMetadata"}
    assert not any("TPU" in op for op in ops_of(path, {"serve"}))


def ops_of(path, tags):
    """Lists the types of the operations of one graph and its functions."""
    path = path.decode() if isinstance(path, bytes) else path
    saved_model = read_saved_model(path)
    (graph,) = [g for g in saved_model.meta_graphs if set(g.meta_info_def.tags) == tags]
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for f in functions for node in f.node_def)]
    return {node.op for node in nodes}


def read_saved_model(path):
    from tensorflow.core.protobuf import saved_model_pb2

    return saved_model_pb2.SavedModel.FromString((Path(path) / "saved_model.pb").read_bytes())


def test_graph_for_tpus_keeps_a_part_outside_of_the_cores(tmp_path):
    def classes(mode, outputs, **_):
        text = v1.tpu.outside_compilation(lambda t: tf.strings.as_string(t), outputs)
        return {
            "export_outputs": {
                "serving_default": tpuest.PredictOutput({"outputs": outputs}),
                "text": tpuest.PredictOutput({"outputs": text}),
            }
        }

    estimator = make_estimator(
        tmp_path / "model",
        model_fn=models.linear_model(extra=only_in_prediction(classes)),
        export_to_tpu=True,
    )
    path = estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
    (graph,) = [
        g for g in read_saved_model(path.decode()).meta_graphs if len(g.meta_info_def.tags) == 2
    ]
    (function,) = graph.graph_def.library.function
    (as_string,) = [node for node in function.node_def if node.op == "AsString"]
    assert "_xla_outside_compilation" in as_string.attr
    with tpuest.installed(), models.simulation(EIGHT_CORES):
        feeds = {"x": models.X[:2]}
        text = outputs_of(path, ["serve", "tpu"], "text", **feeds)["outputs"]
        numbers = outputs_of(path, ["serve", "tpu"], **feeds)["outputs"]
    np.testing.assert_allclose(text.astype(np.float32), numbers, 1e-5)


def only_in_prediction(extra):
    """Gives fields of the spec in prediction only."""
    return lambda **tensors: extra(**tensors) if tensors["mode"] == ModeKeys.PREDICT else {}


@pytest.mark.skipif(
    bool(wheels.find_versions("tensorflow-tpu")),
    reason="without a TPU, tensorflow-tpu ends the process that runs a graph for one",
)
def test_graph_for_tpus_is_left_alone_outside_a_simulation(exported):
    path, _ = exported
    with tpuest.installed(), pytest.raises(tf.errors.InvalidArgumentError, match="TPU"):
        outputs_of(path, ["serve", "tpu"], x=models.X[:1])


def test_simulated_graph_is_a_copy(exported):
    path, _ = exported
    (graph,) = [g for g in read_saved_model(path).meta_graphs if len(g.meta_info_def.tags) == 2]
    before = graph.SerializeToString(deterministic=True)
    simulated_serving.on_simulated_cores(graph)
    assert graph.SerializeToString(deterministic=True) == before


def test_use_tpu_tells_model_fn_what_the_original_told_it(tmp_path):
    make_estimator(tmp_path / "model")
    told = []

    def model_fn(features, labels, mode, params):
        told.append((mode, dict(params)))
        return models.linear_model()(features, labels, mode, params)

    for version in (1, 2):
        estimator = make_estimator(
            tmp_path / "model",
            num_steps=0,
            model_fn=model_fn,
            params={"depth": 2},
            export_to_tpu=True,
            export_saved_model_api_version=version,
        )
        estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
    assert told == [
        (ModeKeys.PREDICT, {"depth": 2, "use_tpu": use_tpu})
        for use_tpu in (False, False, False, True)
    ]
    assert estimator.params == {"depth": 2}


def test_inference_on_tpu_is_the_model_itself_on_a_core(tmp_path):
    """A `model_fn` for version 2 predicts on cores, where `use_tpu` is true too."""
    with models.simulation(TWO_CORES):
        estimator = make_estimator(tmp_path / "model", TWO_CORES, model_fn=version_2_model(None))
        predictions = list(estimator.predict(models.examples_input_fn(NUM_EXAMPLES)))
    assert len(predictions) == NUM_EXAMPLES


def test_cpu_graph_has_no_device_of_a_tpu(tmp_path):
    def on_a_core(features, outputs):
        with tf.device(v1.tpu.core(0)):
            return {"outputs": tf.identity(outputs)}

    model_fn = models.linear_model(predictions=on_a_core)
    estimator = make_estimator(tmp_path / "model", model_fn=model_fn)
    path = estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
    (graph,) = read_saved_model(path.decode()).meta_graphs
    assert not any("TPU" in node.device for node in graph.graph_def.node)
    assert outputs_of(path, x=models.X[:2])["outputs"].shape == (2, 1)


# --- modes


def test_training_graph_trains_on(tmp_path):
    estimator = make_estimator(tmp_path / "model", num_steps=1)
    path = estimator.experimental_export_all_saved_models(
        str(tmp_path / "export"),
        {ModeKeys.TRAIN: supervised_input_receiver_fn, ModeKeys.PREDICT: serving_input_receiver_fn},
    )
    first_losses, *_ = models.trained(4)
    with loaded(path, ["train"]) as (session, meta_graph):
        signature = meta_graph.signature_def["train"]
        (train_op,) = meta_graph.collection_def["saved_model_train_op"].node_list.value
        losses = []
        for start in (8, 16, 24):
            feeds = {
                signature.inputs["x"].name: models.X[start : start + 8],
                signature.inputs["y"].name: models.Y[start : start + 8],
            }
            losses.append(session.run(signature.outputs["loss"].name, feeds))
            session.run(train_op, feeds)
    np.testing.assert_allclose(losses, first_losses[1:], 1e-5)


def keras_metric(labels, outputs):
    error = tf.keras.metrics.MeanAbsoluteError()
    error.update_state(labels, outputs)
    return {"error": error}


@pytest.mark.parametrize("metric_fn", [models.mean_absolute_error, keras_metric])
def test_evaluation_graph_gives_metrics(tmp_path, metric_fn):
    estimator = make_estimator(
        tmp_path / "model", model_fn=models.linear_model(metric_fn=metric_fn)
    )
    path = estimator.export_saved_model(
        str(tmp_path / "export"), supervised_input_receiver_fn, experimental_mode=ModeKeys.EVAL
    )
    expected = estimator.evaluate(models.examples_input_fn(NUM_EXAMPLES), steps=1)
    with loaded(path, ["eval"]) as (session, meta_graph):
        signature = meta_graph.signature_def["eval"]
        feeds = {
            signature.inputs["x"].name: models.X[:NUM_EXAMPLES],
            signature.inputs["y"].name: models.Y[:NUM_EXAMPLES],
        }
        outputs = {name: info.name for name, info in signature.outputs.items()}
        session.run(outputs["metrics/error/update_op"], feeds)
        error = session.run(outputs["metrics/error/value"], feeds)
        loss = session.run(outputs["loss"], feeds)
    np.testing.assert_allclose([error, loss], [expected["error"], expected["loss"]], 1e-5)


# --- errors, and what they leave


def test_export_needs_a_receiver(tmp_path):
    estimator = make_estimator(tmp_path, num_steps=0)
    for call in (estimator.export_saved_model, estimator.export_savedmodel):
        with pytest.raises(ValueError, match="An input_receiver_fn must be defined."):
            call(str(tmp_path / "export"), None)


def test_export_needs_a_checkpoint(tmp_path):
    estimator = make_estimator(tmp_path / "model", num_steps=0)
    with pytest.raises(ValueError, match="Couldn't find trained model at"):
        estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
    assert not (tmp_path / "export").exists()


def test_export_needs_a_mode(tmp_path):
    estimator = make_estimator(tmp_path / "model")
    with pytest.raises(ValueError, match="No valid modes for exporting found."):
        estimator.experimental_export_all_saved_models(
            str(tmp_path / "export"), {ModeKeys.EVAL: None}
        )


def test_export_to_neither_cpu_nor_tpu_is_refused(tmp_path):
    estimator = make_estimator(tmp_path / "model", export_to_cpu=False)
    with pytest.raises(ValueError, match="One of export_to_cpu and export_to_tpu must be true."):
        estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)


def test_evaluation_for_tpus_alone_is_refused(tmp_path):
    estimator = make_estimator(tmp_path / "model", export_to_cpu=False, export_to_tpu=True)
    with pytest.raises(ValueError, match="no graph to export"):
        estimator.export_saved_model(
            str(tmp_path / "export"), supervised_input_receiver_fn, experimental_mode=ModeKeys.EVAL
        )
    assert not os.listdir(tmp_path / "export")


def test_missing_variable_is_named_and_nothing_is_left(tmp_path):
    make_estimator(tmp_path / "model")

    def wider_model(features, labels, mode, params):
        v1.get_variable("missing", [2])
        return models.linear_model()(features, labels, mode, params)

    estimator = make_estimator(tmp_path / "model", num_steps=0, model_fn=wider_model)
    with pytest.raises(ValueError, match="Could not load all requested variables") as caught:
        estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
    assert "missing" in str(caught.value)
    assert not os.listdir(tmp_path / "export")


def test_error_of_model_fn_keeps_its_type_and_leaves_nothing(tmp_path):
    make_estimator(tmp_path / "model")

    def broken_model(features, labels, mode, params):
        raise KeyError("my own")

    estimator = make_estimator(tmp_path / "model", num_steps=0, model_fn=broken_model)
    with pytest.raises(KeyError, match="my own"):
        estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
    assert not os.listdir(tmp_path / "export")


def test_missing_extra_asset_leaves_nothing(tmp_path):
    estimator = make_estimator(tmp_path / "model")
    with pytest.raises(tf.errors.NotFoundError):
        estimator.export_saved_model(
            str(tmp_path / "export"), serving_input_receiver_fn, {"a": str(tmp_path / "nothing")}
        )
    assert not os.listdir(tmp_path / "export")


# --- directories


def test_path_is_bytes_below_a_base_of_any_kind(tmp_path):
    estimator = make_estimator(tmp_path / "model")
    for base in (tmp_path / "a", str(tmp_path / "b"), os.fsencode(tmp_path / "c" / "deep")):
        path = estimator.export_saved_model(base, serving_input_receiver_fn)
        assert isinstance(path, bytes)
        assert os.path.dirname(path) == os.fsencode(base)
        assert re.fullmatch(rb"\d{10}", os.path.basename(path))


class Clock:
    """Stands for the module `time`; goes on while somebody sleeps."""

    def __init__(self, runs=True):
        self._now = 100.5
        self._runs = runs

    def time(self):
        return self._now

    def sleep(self, seconds):
        self._now += seconds * self._runs


def test_exports_of_one_second_do_not_meet(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "time", Clock())
    with export.new_version(tmp_path) as first, export.new_version(tmp_path) as second:
        pass
    names = [os.path.basename(version.path) for version in (first, second)]
    assert names == [b"100", b"101"]
    assert sorted(os.listdir(tmp_path)) == ["100", "101"]


def test_export_gives_up_where_every_second_is_taken(tmp_path, monkeypatch):
    (tmp_path / "100").mkdir()
    monkeypatch.setattr(export, "time", Clock(runs=False))
    words = "Failed to obtain a unique export directory name"
    with pytest.raises(RuntimeError, match=words), export.new_version(tmp_path):
        pass
    assert os.listdir(tmp_path) == ["100"]


def test_version_appears_only_when_it_is_whole(tmp_path):
    with export.new_version(tmp_path) as version:
        (written,) = os.listdir(tmp_path)
        assert written.startswith("temp-")
        assert not os.path.exists(version.path)
    assert os.path.isdir(version.path)


# --- programs that reach in


def test_warm_started_estimator_exports_what_it_starts_from(tmp_path):
    trained = make_estimator(tmp_path / "model")
    estimator = make_estimator(
        tmp_path / "new", num_steps=0, warm_start_from=str(tmp_path / "model")
    )
    path = estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
    np.testing.assert_array_equal(
        tf.train.load_variable(f"{path.decode()}/variables/variables", "w"),
        trained.get_variable_value("w"),
    )


def test_saver_that_was_not_built_yet_is_built(tmp_path):
    def scaffold_fn():
        return v1.train.Scaffold(saver=v1.train.Saver(defer_build=True))

    def with_scaffold(**_):
        return {"scaffold_fn": scaffold_fn}

    estimator = make_estimator(
        tmp_path / "model", model_fn=models.linear_model(extra=only_in_prediction(with_scaffold))
    )
    path = estimator.export_saved_model(
        tmp_path / "export",
        serving_input_receiver_fn,
        checkpoint_path=Path(estimator.latest_checkpoint()),
    )
    assert outputs_of(path, x=models.X[:1])["outputs"].shape == (1, 1)


def test_subclass_may_choose_what_is_added_for_a_mode(tmp_path):
    class Tagged(TPUEstimator):
        def _add_meta_graph_for_mode(self, builder, receiver_fns, path, *args, **kwargs):
            kwargs["export_tags"] = ["serve", "mine"]
            super()._add_meta_graph_for_mode(builder, receiver_fns, path, *args, **kwargs)

    trained = make_estimator(tmp_path / "model")
    estimator = Tagged(
        models.linear_model(),
        config=trained.config,
        use_tpu=False,
        train_batch_size=8,
        export_to_tpu=False,
    )
    path = estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)
    assert outputs_of(path, ["serve", "mine"], x=models.X[:1])["outputs"].shape == (1, 1)


def test_exporting_does_not_disturb_training(tmp_path):
    """Exports between calls, and from a hook of a call under way."""

    class ExportInTheMiddle(v1.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            if not os.path.exists(tmp_path / "export"):
                estimator.export_saved_model(str(tmp_path / "export"), serving_input_receiver_fn)

    with models.simulation(TWO_CORES):
        estimator = make_estimator(tmp_path / "model", TWO_CORES, num_steps=2)
        estimator.train(models.train_input_fn, steps=2, hooks=[ExportInTheMiddle()])
        w = estimator.get_variable_value("w")
    assert os.listdir(tmp_path / "export")
    _, w_of_two, b_of_two = models.trained(2)
    _, expected, _ = models.trained(2, w_of_two, b_of_two)
    np.testing.assert_allclose(w, expected, 1e-5)
