"""What `model_fn` answers, against facts recorded from TF 2.15.1's originals."""

import logging

import pytest
import tensorflow as tf

from tpuest import _tf, export_output
from tpuest.spec import (
    BatchConfig,
    EstimatorSpec,
    ExportSavedModelApiVersion,
    HostCallHook,
    ModeKeys,
    TPUEstimatorSpec,
    VocabInfo,
    WarmStartSettings,
    is_metric_object,
)

BOTH = [EstimatorSpec, TPUEstimatorSpec]
MODES = [ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT]


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as default_graph:
        yield default_graph


@pytest.fixture
def other_graph_tensor(graph):
    with tf.Graph().as_default():
        return tf.constant(1.0)


def needed(mode, **changes):
    """The fields that the mode needs, some of them changed."""
    fields = {
        ModeKeys.TRAIN: lambda: {"loss": tf.constant(1.0), "train_op": tf.no_op()},
        ModeKeys.EVAL: lambda: {"loss": tf.constant(1.0)},
        ModeKeys.PREDICT: lambda: {"predictions": {"label": tf.constant([1])}},
    }[mode]()
    return {"mode": mode, **fields, **changes}


class Metric:
    """A metric object as tf_keras makes them in a graph: `updates` lists what it was given."""

    name = "my_mean"

    def __init__(self):
        self.total = tf.compat.v1.get_variable(
            "total", initializer=0.0, trainable=False, collections=[]
        )
        self.variables = [self.total]
        self.updates = []

    def update_state(self, values):
        self.updates.append(self.total.assign_add(tf.reduce_sum(values)))

    def result(self):
        return tf.identity(self.total)


class MetricWithoutUpdates:
    """A metric object as Keras 3 makes them: its updates are kept nowhere."""

    def update_state(self, values):
        pass

    def result(self):
        return tf.constant(0.0)


def test_the_modes_are_the_originals_words():
    assert (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT) == ("train", "eval", "infer")


@pytest.mark.parametrize("spec_class", BOTH)
@pytest.mark.parametrize("mode", MODES)
def test_the_needed_fields_are_enough(spec_class, mode):
    assert spec_class(**needed(mode)).mode == mode


@pytest.mark.parametrize("spec_class", BOTH)
@pytest.mark.parametrize(
    ("mode", "missing"),
    [
        (ModeKeys.TRAIN, "train_op"),
        (ModeKeys.TRAIN, "loss"),
        (ModeKeys.EVAL, "loss"),
        (ModeKeys.PREDICT, "predictions"),
    ],
)
def test_a_missing_field_is_named(spec_class, mode, missing):
    with pytest.raises(ValueError, match=f"Missing {missing}"):
        spec_class(**needed(mode, **{missing: None}))


@pytest.mark.parametrize(
    ("spec_class", "fields"),
    [
        (
            EstimatorSpec,
            (
                "mode predictions loss train_op eval_metric_ops export_outputs training_chief_hooks "
                "training_hooks scaffold evaluation_hooks prediction_hooks"
            ),
        ),
        (
            TPUEstimatorSpec,
            (
                "mode predictions loss train_op eval_metrics export_outputs scaffold_fn host_call "
                "training_hooks evaluation_hooks prediction_hooks"
            ),
        ),
    ],
)
def test_the_fields_keep_their_order(spec_class, fields):
    assert " ".join(spec_class._fields) == fields


@pytest.mark.parametrize("spec_class", BOTH)
@pytest.mark.parametrize(
    ("mode", "field", "make_value", "error", "rule"),
    [
        ("eval", "loss", lambda: 1.0, TypeError, "loss must be Tensor, given: 1.0"),
        (
            "eval",
            "loss",
            lambda: tf.sparse.SparseTensor([[0]], [0.0], [1]),
            TypeError,
            "loss must be Tensor",
        ),
        ("eval", "loss", lambda: tf.constant([1.0, 2.0]), ValueError, "Loss must be scalar"),
        ("train", "train_op", lambda: "op", TypeError, "train_op must be Operation or Tensor"),
        ("infer", "predictions", lambda: 1, TypeError, "predictions must be Tensor, given: 1"),
        (
            "infer",
            "predictions",
            lambda: {"label": 1},
            TypeError,
            r"predictions\[label\] must be Tensor, given: 1",
        ),
        (
            "eval",
            "evaluation_hooks",
            lambda: ["hook"],
            TypeError,
            "All hooks must be SessionRunHook instances, given: hook",
        ),
        (
            "infer",
            "export_outputs",
            lambda: 1,
            TypeError,
            "`export_outputs` must be dict, received: 1",
        ),
        (
            "infer",
            "export_outputs",
            lambda: {"serve": 1},
            TypeError,
            "Values in `export_outputs` must be ExportOutput objects",
        ),
    ],
)
def test_a_broken_rule_is_named(spec_class, mode, field, make_value, error, rule):
    with pytest.raises(error, match=rule):
        spec_class(**needed(mode, **{field: make_value()}))


@pytest.mark.parametrize(
    "field", ["training_chief_hooks", "training_hooks", "evaluation_hooks", "prediction_hooks"]
)
def test_hooks_become_a_tuple(field):
    hook = tf.compat.v1.train.SessionRunHook()
    spec = EstimatorSpec(**needed("train", **{field: iter([hook])}))
    assert getattr(spec, field) == (hook,)


@pytest.mark.parametrize("spec_class", BOTH)
def test_a_loss_of_one_element_becomes_a_scalar(spec_class):
    assert spec_class(**needed("eval", loss=tf.constant([1.0]))).loss.shape == []


def test_a_loss_of_unknown_shape_is_taken():
    loss = tf.compat.v1.placeholder(tf.float32)
    assert EstimatorSpec(**needed("eval", loss=loss)).loss is loss


def test_the_step_of_a_variable_is_the_operation_that_assigned_it():
    variable = tf.compat.v1.get_variable("step", initializer=0)
    spec = EstimatorSpec(**needed("train", train_op=variable.assign_add(1)))
    assert isinstance(spec.train_op, (tf.Operation, tf.Tensor))


@pytest.mark.parametrize("spec_class", BOTH)
@pytest.mark.parametrize(
    ("mode", "field"),
    [("train", "train_op"), ("eval", "loss"), ("infer", "predictions")],
)
def test_a_tensor_of_another_graph_is_refused(spec_class, mode, field, other_graph_tensor):
    with pytest.raises(ValueError, match="must be from the default graph"):
        spec_class(**needed(mode, **{field: other_graph_tensor}))


def test_a_prediction_of_another_graph_is_named(other_graph_tensor):
    with pytest.raises(ValueError, match='prediction values with "label: Const:0" must be from'):
        EstimatorSpec(**needed("infer", predictions={"label": other_graph_tensor}))


def test_nothing_is_a_valid_scaffold():
    assert isinstance(EstimatorSpec(**needed("eval")).scaffold, tf.compat.v1.train.Scaffold)
    with pytest.raises(TypeError, match="scaffold must be tf.train.Scaffold. Given: saver"):
        EstimatorSpec(**needed("eval", scaffold="saver"))


def test_predictions_are_exported_by_default():
    predictions = {"label": tf.constant([1])}
    spec = EstimatorSpec(**needed("infer", predictions=predictions))
    assert spec.export_outputs["serving_default"].outputs == predictions


def test_export_outputs_are_left_alone_while_training():
    spec = EstimatorSpec(**needed("train", export_outputs={"a": 1, "b": 2}))
    assert spec.export_outputs == {"a": 1, "b": 2}


def test_the_users_dicts_are_not_changed():
    predictions = {"label": tf.constant([1])}
    export_outputs = {"serve": export_output.PredictOutput(predictions)}
    spec = EstimatorSpec("infer", predictions=predictions, export_outputs=export_outputs)
    assert sorted(spec.export_outputs) == ["serve", "serving_default"]
    assert list(export_outputs) == ["serve"]
    assert spec.predictions is not predictions


class TestMetrics:
    """`eval_metric_ops`."""

    def test_pairs_of_anything_nested_are_taken(self):
        part = tf.constant(1.0)
        metrics = {"nested": ((part, [part], {"key": part}), tf.no_op())}
        assert EstimatorSpec(**needed("eval", eval_metric_ops=metrics)).eval_metric_ops == metrics

    @pytest.mark.parametrize(
        ("make_metrics", "rule"),
        [
            (lambda part: [part], "eval_metric_ops must be a dict"),
            (lambda part: {"mean": [part, part]}, r"\(metric_value, update_op\) tuples, given:"),
            (lambda part: {"mean": (part, part, part)}, "given: .* for key: mean"),
            (lambda part: {"mean": (part, None)}, r"eval_metric_ops\[mean\] must be Operation or"),
        ],
    )
    def test_other_forms_are_refused(self, make_metrics, rule):
        with pytest.raises(TypeError, match=rule):
            EstimatorSpec(**needed("eval", eval_metric_ops=make_metrics(tf.constant(1.0))))

    @pytest.mark.parametrize("position", [0, 1])
    def test_another_graph_is_refused(self, position, other_graph_tensor):
        pair = [tf.constant(1.0), tf.no_op()]
        pair[position] = other_graph_tensor
        with pytest.raises(ValueError, match='eval_metric_ops with "mean: Const:0" must be from'):
            EstimatorSpec(**needed("eval", eval_metric_ops={"mean": tuple(pair)}))

    def test_an_updated_object_becomes_a_pair(self):
        metric = Metric()
        metric.update_state([1.0, 2.0])
        spec = EstimatorSpec(**needed("eval", eval_metric_ops={"mean": metric}))
        value, update_op = spec.eval_metric_ops["mean"]
        assert isinstance(value, tf.Tensor)
        assert update_op is metric.updates[0]

    def test_the_variables_of_an_object_are_local(self):
        metric = Metric()
        metric.update_state([1.0])
        for _ in range(2):  # Once is enough.
            EstimatorSpec(**needed("eval", eval_metric_ops={"mean": metric}))
        keys = tf.compat.v1.GraphKeys
        for key in (keys.LOCAL_VARIABLES, keys.METRIC_VARIABLES):
            (variable,) = tf.compat.v1.get_collection(key)
            assert variable is metric.total

    def test_an_object_that_was_never_updated_is_named(self):
        with pytest.raises(ValueError, match=r'Please call update_state\(...\) on the "my_mean"'):
            EstimatorSpec(**needed("eval", eval_metric_ops={"mean": Metric()}))

    def test_an_object_without_updates_stays_as_it_is(self):
        metric = MetricWithoutUpdates()
        spec = EstimatorSpec(**needed("eval", eval_metric_ops={"mean": metric}))
        assert spec.eval_metric_ops == {"mean": metric}
        assert is_metric_object(metric)

    def test_in_a_function_an_object_stays_as_it_is(self):
        """A tf.function runs updates as they are traced, so that tf_keras lists none."""

        def trace():
            metric = MetricWithoutUpdates()
            metric.updates = []
            spec = EstimatorSpec(**needed("eval", eval_metric_ops={"mean": metric}))
            assert spec.eval_metric_ops["mean"] is metric
            return spec.loss

        tf.function(trace, autograph=False).get_concrete_function()


class TestInAFunction:
    """Where the engine calls `model_fn`: variables are outside, tensors inside."""

    @pytest.fixture(autouse=True)
    def graph(self):
        """Is eager around the functions, as the engine is."""
        with _tf.eager_mode():
            yield

    @pytest.fixture
    def step(self):
        return tf.Variable(1, trainable=False, name="global_step")

    def test_a_variable_of_a_core_is_taken(self, step):
        def trace():
            spec = EstimatorSpec(
                "eval", {"step": step}, tf.constant(1.0), eval_metric_ops={"step": (step, step)}
            )
            assert spec.predictions["step"] is step
            return spec.loss

        tf.function(trace, autograph=False).get_concrete_function()

    def test_an_assignment_is_a_step(self, step):
        def trace():
            spec = EstimatorSpec("train", loss=tf.constant(1.0), train_op=step.assign_add(1))
            assert isinstance(spec.train_op, tf.Operation)
            return spec.loss

        tf.function(trace, autograph=False).get_concrete_function()

    def test_a_tensor_from_outside_is_refused(self):
        outside = tf.constant(1.0)

        def trace():
            return EstimatorSpec("eval", loss=outside).loss

        with pytest.raises(ValueError, match="must be from the default graph"):
            tf.function(trace, autograph=False).get_concrete_function()


class TestReplace:
    """`EstimatorSpec._replace`."""

    def test_it_gives_new_values(self):
        spec = EstimatorSpec(**needed("eval"))
        assert spec._replace(loss=tf.constant(2.0)).loss is not spec.loss
        assert spec._replace(mode="eval").loss is spec.loss

    @pytest.mark.parametrize(
        ("changes", "rule"),
        [
            ({"mode": "train"}, "mode of EstimatorSpec cannot be changed"),
            ({"loss": None}, "Missing loss"),
            ({"losses": 1}, "unexpected field names: .'losses'."),
        ],
    )
    def test_it_checks_them(self, changes, rule):
        with pytest.raises(ValueError, match=rule):
            EstimatorSpec(**needed("eval"))._replace(**changes)


class TestHostFunctions:
    """`eval_metrics` and `host_call` of a `TPUEstimatorSpec`."""

    @pytest.mark.parametrize("name", ["eval_metrics", "host_call"])
    @pytest.mark.parametrize(
        ("given", "error", "rule"),
        [
            (1, ValueError, "{} should be tuple or list"),
            ({}, ValueError, "{} should be tuple or list"),
            ((len,), ValueError, "{} should have two elements"),
            (("function", []), TypeError, "{}[0] should be callable"),
            ((len, 1), ValueError, "{}[1] should be tuple or list, or dict"),
            (
                (lambda labels, logits: {}, [1]),
                RuntimeError,
                (
                    "In TPUEstimatorSpec.{}, length of tensors 1 does not match method args of the "
                    "function, which takes 2."
                ),
            ),
        ],
    )
    def test_other_forms_are_refused(self, name, given, error, rule):
        with pytest.raises(error) as caught:
            TPUEstimatorSpec(**needed("eval", **{name: given}))
        assert rule.format(name) in str(caught.value)

    @pytest.mark.parametrize(
        "given",
        [
            (lambda labels, logits: {}, (1, 2)),
            [lambda labels, logits: {}, [1, 2]],
            (lambda *tensors: {}, [1]),
            (lambda labels: {}, {"labels": 1, "others": 2}),  # Names are checked by the call.
        ],
    )
    def test_lists_tuples_dicts_and_varargs_are_taken(self, given):
        assert TPUEstimatorSpec(**needed("eval", eval_metrics=given)).eval_metrics is given

    def test_names_that_do_not_match_are_logged(self, caplog):
        spec = TPUEstimatorSpec(**needed("eval", eval_metrics=(lambda labels: {}, {"x": 1})))
        with caplog.at_level(logging.WARNING, logger="tensorflow"), pytest.raises(TypeError):
            spec.as_estimator_spec()
        assert "It is likely the tensors (eval_metrics[1]) do not match" in caplog.text

    def test_two_specs_keep_their_own_functions(self):
        """The original kept them on the class: the last spec made overwrote the others."""
        first = TPUEstimatorSpec(**needed("eval", eval_metrics=(lambda: {"first": METRIC()}, [])))
        TPUEstimatorSpec(**needed("eval", eval_metrics=(lambda: {"second": METRIC()}, [])))
        assert list(first.as_estimator_spec().eval_metric_ops) == ["first"]


def METRIC():
    return tf.constant(1.0), tf.no_op()


class TestAsEstimatorSpec:
    """`TPUEstimatorSpec.as_estimator_spec`, for runs without TPU."""

    def test_it_keeps_the_common_fields(self):
        fields = needed("train", training_hooks=[tf.compat.v1.train.SessionRunHook()])
        tpu_spec = TPUEstimatorSpec(**fields)
        spec = tpu_spec.as_estimator_spec()
        for name in ("mode", "loss", "train_op", "predictions", "training_hooks"):
            assert getattr(spec, name) is getattr(tpu_spec, name) or (
                getattr(spec, name) == getattr(tpu_spec, name)
            )

    @pytest.mark.parametrize("tensors", [["a", "b"], ("a", "b"), {"logits": "b", "labels": "a"}])
    def test_metrics_get_their_tensors(self, tensors):
        received = []

        def metric_fn(labels, logits):
            received.append((labels, logits))
            return {"mean": METRIC()}

        spec = TPUEstimatorSpec(**needed("eval", eval_metrics=(metric_fn, tensors)))
        assert list(spec.as_estimator_spec().eval_metric_ops) == ["mean"]
        assert received == [("a", "b")]

    def test_the_scaffold_is_made(self):
        scaffold = tf.compat.v1.train.Scaffold()
        spec = TPUEstimatorSpec(**needed("train", scaffold_fn=lambda: scaffold))
        assert spec.as_estimator_spec().scaffold is scaffold

    def test_a_host_call_becomes_a_hook_of_every_mode(self):
        spec = TPUEstimatorSpec(**needed("eval", host_call=(lambda: [tf.no_op()], [])))
        spec = spec.as_estimator_spec()
        (hook,) = spec.training_hooks
        assert isinstance(hook, HostCallHook)
        assert spec.evaluation_hooks == spec.prediction_hooks == (hook,)

    def test_a_host_call_writes_summaries_at_every_step(self, tmp_path):
        def host_call(loss):
            with tf.summary.create_file_writer(str(tmp_path)).as_default():
                tf.summary.scalar("loss", loss, step=0)
                return tf.compat.v1.summary.all_v2_summary_ops()

        loss = tf.constant(1.0)
        spec = TPUEstimatorSpec(**needed("train", loss=loss, host_call=(host_call, [loss])))
        hooks = spec.as_estimator_spec().training_hooks
        with tf.compat.v1.train.SingularMonitoredSession(hooks=hooks) as session:
            session.run(spec.train_op)
            session.run(spec.train_op)
        (path,) = tmp_path.iterdir()
        events = tf.compat.v1.train.summary_iterator(str(path))
        tags = [value.tag for event in events for value in event.summary.value]
        assert tags == ["loss", "loss"]


class TestWarmStartSettings:
    """The four settings."""

    def test_the_defaults_are_the_originals(self):
        assert tuple(WarmStartSettings("/checkpoint")) == ("/checkpoint", ".*", {}, {})

    @pytest.mark.parametrize("given", ["", None])
    def test_a_checkpoint_is_needed(self, given):
        with pytest.raises(ValueError, match="`ckpt_to_initialize_from` MUST be set"):
            WarmStartSettings(given)

    def test_the_vocabulary_type_is_tensorflows(self):
        assert VocabInfo is tf.compat.v1.train.VocabInfo


def test_a_batch_config_waits_for_100_batches_by_default():
    made = BatchConfig(1, 2, 3, [1, 2])
    assert tuple(made) == (1, 2, 3, [1, 2], 100)


def test_the_export_api_versions_are_1_and_2():
    assert [version.value for version in ExportSavedModelApiVersion] == [1, 2]
