"""Outputs of a SavedModel, against signatures recorded from TF 2.15.1's originals."""

import pytest
import tensorflow as tf

from tpuest.errors import UnsupportedError
from tpuest.export_output import (
    ClassificationOutput,
    EvalOutput,
    ExportOutput,
    PredictOutput,
    RegressionOutput,
    TrainOutput,
    resolve_export_outputs,
)


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as default_graph:
        yield default_graph


@pytest.fixture
def examples(graph):
    return tf.compat.v1.placeholder(tf.string, [None], name="examples")


def number(name):
    return tf.identity([[1.0]], name=name)


def text(name):
    return tf.identity([["a"]], name=name)


def describe(signature):
    """(method, name to input tensor, name to output tensor) of a SignatureDef."""
    inputs = {name: info.name for name, info in signature.inputs.items()}
    outputs = {name: info.name for name, info in signature.outputs.items()}
    return signature.method_name, inputs, outputs


@pytest.mark.parametrize(
    ("make_output", "method", "input_name", "outputs"),
    [
        (
            lambda: PredictOutput(number("n")),
            "tensorflow/serving/predict",
            "examples_key",
            {"output": "n:0"},
        ),
        (
            lambda: PredictOutput({"a": number("n"), ("head", "b"): text("t")}),
            "tensorflow/serving/predict",
            "examples_key",
            {"a": "n:0", "head/b": "t:0"},
        ),
        (
            lambda: ClassificationOutput(scores=number("n")),
            "tensorflow/serving/classify",
            "inputs",
            {"scores": "n:0"},
        ),
        (
            lambda: ClassificationOutput(number("n"), text("t")),
            "tensorflow/serving/classify",
            "inputs",
            {"scores": "n:0", "classes": "t:0"},
        ),
        (
            lambda: RegressionOutput(number("n")),
            "tensorflow/serving/regress",
            "inputs",
            {"outputs": "n:0"},
        ),
        (
            lambda: TrainOutput(loss=number("n")),
            "tensorflow/supervised/training",
            "examples_key",
            {"loss": "n:0"},
        ),
        (
            lambda: EvalOutput(number("n"), text("t"), (number("v"), number("u"))),
            "tensorflow/supervised/eval",
            "examples_key",
            {
                "loss": "n:0",
                "predictions": "t:0",
                "metrics/value": "v:0",
                "metrics/update_op": "u:0",
            },
        ),
    ],
)
def test_a_signature_names_inputs_and_outputs(examples, make_output, method, input_name, outputs):
    signature = make_output().as_signature_def({"examples_key": examples})
    assert describe(signature) == (method, {input_name: "examples:0"}, outputs)


def test_a_lone_receiver_is_called_input(examples):
    _, inputs, _ = describe(PredictOutput(number("n")).as_signature_def(examples))
    assert inputs == {"input": "examples:0"}


@pytest.mark.parametrize(
    ("make_output", "kind"),
    [
        (lambda: ClassificationOutput(scores=number("n")), "Classification"),
        (lambda: RegressionOutput(number("n")), "Regression"),
    ],
)
@pytest.mark.parametrize(
    "make_receivers",
    [
        lambda examples: {"a": examples, "b": examples},
        lambda examples: {"a": tf.compat.v1.placeholder(tf.float32)},
        lambda examples: {},
    ],
)
def test_one_string_receiver_is_needed(examples, make_output, kind, make_receivers):
    with pytest.raises(ValueError, match=f"{kind} signatures can only accept a single tensor"):
        make_output().as_signature_def(make_receivers(examples))


@pytest.mark.parametrize(
    ("make_output", "rule"),
    [
        (ClassificationOutput, "Cannot create a ClassificationOutput with empty arguments"),
        (
            lambda: ClassificationOutput(scores=text("t")),
            "Classification scores must be a float32 Tensor; got",
        ),
        (
            lambda: ClassificationOutput(classes=number("n")),
            "Classification classes must be a string Tensor; got",
        ),
        (
            lambda: RegressionOutput(tf.constant([1])),
            "Regression output value must be a float32 Tensor; got",
        ),
        (lambda: RegressionOutput(1.0), "Regression output value must be a float32 Tensor"),
        (
            lambda: PredictOutput({1: number("n")}),
            "Prediction output key must be a string; got 1",
        ),
        (lambda: PredictOutput(1), "Prediction output value must be a Tensor; got 1"),
        (lambda: EvalOutput(loss=1), "loss output value must be a Tensor; got 1"),
        (lambda: EvalOutput(predictions={1: number("n")}), "predictions output key must be a"),
        (
            lambda: EvalOutput(metrics={"mean": (1, number("n"))}),
            "metrics/mean output value must be a Tensor; got 1",
        ),
        (
            lambda: EvalOutput(metrics={"mean": (number("n"), 1)}),
            "metrics/mean update_op must be a Tensor or Operation; got 1",
        ),
    ],
)
def test_a_broken_rule_is_named(make_output, rule):
    with pytest.raises(ValueError, match=rule):
        make_output()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"mine": 0}, ["loss/mine"]),
        ({"loss": 0}, ["loss"]),
        ({"loss_of_head": 0}, ["loss_of_head"]),
        ({("head", "a"): 0}, ["loss/head/a"]),
    ],
)
def test_a_name_starts_with_its_part(given, names):
    assert sorted(TrainOutput(loss=dict.fromkeys(given, number("n"))).loss) == names


def test_an_operation_is_wrapped_in_a_tensor():
    metrics = EvalOutput(metrics={"mean": (number("n"), tf.no_op("update"))}).metrics
    wrapper = metrics["metrics/mean/update_op"]
    assert isinstance(wrapper, tf.Tensor)
    assert [op.name for op in wrapper.op.control_inputs] == ["update"]


def test_a_metric_object_gives_result_and_first_update():
    class Metric:
        def __init__(self):
            self.updates = [number("u")]

        def result(self):
            return number("v")

    metrics = EvalOutput(metrics={"mean": Metric()}).metrics
    assert {name: tensor.name for name, tensor in metrics.items()} == {
        "metrics/mean/value": "v:0",
        "metrics/mean/update_op": "u:0",
    }


def test_a_metric_object_without_updates_is_refused_with_the_alternative():
    with pytest.raises(UnsupportedError, match=r"Give a \(value, update_op\) pair"):
        EvalOutput(metrics={"mean": object()})


@pytest.mark.parametrize("receivers", [None, {}])
def test_an_evaluation_needs_receivers(receivers):
    with pytest.raises(ValueError, match="tensorflow/supervised/eval `inputs` cannot be None or"):
        EvalOutput(loss=number("n")).as_signature_def(receivers)


def test_an_evaluation_needs_something_to_export(examples):
    with pytest.raises(ValueError, match="has no loss, predictions or metrics to export"):
        EvalOutput().as_signature_def(examples)


def test_anything_with_a_signature_is_an_export_output():
    class Foreign:
        def as_signature_def(self, receiver_tensors):
            return None

    assert isinstance(Foreign(), ExportOutput)
    assert not isinstance(Foreign(), PredictOutput)
    assert not isinstance(object(), ExportOutput)


class TestResolve:
    """Which outputs are exported, under which names."""

    def test_predictions_are_the_default(self):
        tensor = number("n")
        assert resolve_export_outputs(None, tensor)["serving_default"].outputs == {"output": tensor}

    def test_a_single_output_is_the_default_too(self):
        output = PredictOutput(number("n"))
        resolved = resolve_export_outputs({"head": output}, None)
        assert resolved == {"head": output, "serving_default": output}

    def test_one_of_several_must_be_the_default(self):
        output = PredictOutput(number("n"))
        with pytest.raises(ValueError, match="Multiple `export_outputs` were provided, but none"):
            resolve_export_outputs({"a": output, "b": output}, None)
        given = {"a": output, "serving_default": output}
        assert resolve_export_outputs(given, None) == given

    @pytest.mark.parametrize("given", [1, [], {"a": 1}])
    def test_other_forms_are_refused(self, given):
        with pytest.raises(TypeError, match="export_outputs` must be"):
            resolve_export_outputs(given, None)
