"""`tpuest.check` without a TPU's compiler: traced, scanned, lowered by XLA; each fault is named with its line."""

import broken
import numpy as np
import pytest
import tensorflow as tf
import traced as tracing
from broken import BROKEN
from tensorflow.python.framework.function import Defun
from tensorflow.python.tpu.ops import tpu_ops

import tpuest
from tpuest import checking
from tpuest.compat import tpu
from tpuest.planned_tpu import parse_tpu
from tpuest.spec import ModeKeys

v1 = tf.compat.v1
BY_SCAN = {name: case for name, case in BROKEN.items() if not case.needs_compiler}


@pytest.fixture(scope="module", autouse=True)
def _can_lower():
    """Skips where `--check` refuses: a TensorFlow for TPUs may come without XLA's CPU platform."""
    lower = tf.function(lambda x: x + 1, jit_compile=True).experimental_get_compiler_ir
    try:
        lower(tf.TensorSpec([]))(stage="hlo")
    except ValueError as error:
        if "transfer manager for platform Host" not in str(error):
            raise
        pytest.skip("this TensorFlow lowers no step on the CPU")


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch):
    monkeypatch.setattr(checking, "_compiler", lambda: None)


def make_estimator(model_fn, **arguments):
    return tpuest.TPUEstimator(
        model_fn,
        config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY),
        **{"train_batch_size": broken.BATCH_SIZE, "params": {"size": 1}, **arguments},
    )


def check(compute, input_fn=broken.good_input_fn, topology="v5e"):
    case = broken.Broken(compute, input_fn, "", "")
    batch_size = broken.BATCH_SIZE * parse_tpu(topology).num_cores
    return tpuest.check(
        make_estimator(case.model_fn, train_batch_size=batch_size),
        input_fn,
        ModeKeys.TRAIN,
        topology,
    )


@pytest.mark.filterwarnings("ignore:Converting sparse IndexedSlices to a dense Tensor")
@pytest.mark.parametrize("name", BY_SCAN)
def test_a_fault_is_named_with_the_users_line(name):
    case = BY_SCAN[name]
    report = check(case.compute, case.input_fn)
    assert not report.ok
    found = [f for f in report.findings if case.what in (f.name, *f.op_types)]
    assert [(f.kind.value, f.origin.file, f.origin.line) for f in found] == [
        (case.kind, broken.__file__, case.line)
    ]
    assert found[0].use


@pytest.mark.parametrize("topology", ["v5e", "v5e:2x4", "v3:2x4"])
def test_a_good_step_is_traced_under_the_true_strategy_and_lowered(topology):
    report = check(broken.nothing, topology=topology)
    assert report.ok and not report.findings
    assert report.num_traced_replicas == report.tpu.num_cores
    assert report.num_sums == 1
    assert report.memory.trainable_bytes == 4 * broken.NUM_FEATURES
    assert report.verdict == f"lowered by XLA on the CPU; not compiled for {report.tpu.name}"


def test_without_the_compiler_the_report_says_what_it_does_not_see():
    text = str(check(broken.nothing))
    assert "HBM, temporaries      not known" in text
    assert "pip install 'tpuest[check]'" in text
    assert "will run" not in text


def test_all_faults_are_named_at_once():
    def several(features):
        x = tf.ones([features["n"][0], 2])
        y = tf.range(features["n"][1])
        z = tf.linalg.det(tf.matmul(features["x"], features["x"], transpose_a=True))
        return tf.reduce_sum(x) + tf.cast(tf.reduce_sum(y), tf.float32) + z

    report = check(several)
    assert sorted(f.op_types[0] for f in report.findings) == ["Fill", "MatrixDeterminant", "Range"]


def exchanged(x):
    return tpu_ops.all_to_all(x, 0, 0, 8)


def moved_on(x):
    return tpu_ops.collective_permute(x, [[i, (i + 1) % 8] for i in range(8)])


def summed_in_a_branch(x):
    total = tpu_ops.cross_replica_sum(tf.reduce_sum(x))
    return tf.cond(total > 0, lambda: tpu_ops.cross_replica_sum(x), lambda: x)


@pytest.mark.parametrize("together", [exchanged, moved_on, summed_in_a_branch])
def test_what_cores_do_together_is_lowered(together):
    report = check(lambda features: tf.reduce_sum(together(features["x"])), topology="v5e:2x4")
    assert report.ok and not report.findings


@pytest.mark.parametrize("is_good", [True, False])
def test_a_defun_is_looked_into(is_good):
    @Defun(tf.float32)
    def compute(x):
        x = tf.reshape(x, [broken.BATCH_SIZE, broken.NUM_FEATURES])
        return tf.reduce_sum(x) if is_good else tf.linalg.det(tf.matmul(x, x, transpose_a=True))

    report = check(lambda features: tf.stop_gradient(compute(features["x"])))
    assert report.ok == is_good
    assert [f.op_types[0] for f in report.findings] == ([] if is_good else ["MatrixDeterminant"])


def test_what_a_program_leaves_to_the_host_is_not_a_fault():
    def sine(x):
        return tf.ensure_shape(v1.py_func(np.sin, [x], tf.float32), x.shape)

    report = check(lambda f: tf.reduce_sum(tpu.outside_compilation(sine, f["x"])))
    assert report.ok and report.num_outside >= 1
    assert "left to the host" in str(report)


def test_the_table_gives_name_type_line_and_what_to_use():
    case = BROKEN["tf.linalg.det"]
    text = str(check(case.compute))
    assert "compiles and fits     NO: does not compile for v5e:1x1" in text
    assert "MatrixDeterminant, float32" in text
    assert f"at   {broken.__file__}:{case.line}   return tf.linalg.det(square)" in text
    assert "use  Take the product of a factor's diagonal" in text


@pytest.mark.parametrize("mode", [ModeKeys.EVAL, ModeKeys.PREDICT])
def test_evaluation_and_prediction_are_checked_too(mode):
    def model_fn(features, labels, mode, params):
        x = tf.reshape(features["x"], [-1, 2, 2, 1])
        y = v1.image.resize_bicubic(x, [4, 4])
        loss = tf.reduce_mean(y)
        metrics = (lambda y: {"mean": v1.metrics.mean(y)}, [y])
        return tpuest.TPUEstimatorSpec(mode, {"y": y}, loss, eval_metrics=metrics)

    estimator = make_estimator(model_fn, eval_batch_size=8, predict_batch_size=8)
    (finding,) = tpuest.check(estimator, broken.good_input_fn, mode).findings
    assert finding.op_types == ("ResizeBicubic",)


def test_a_prediction_of_unknown_length_is_named_with_its_line():
    def model_fn(features, labels, mode, params):
        large = tf.boolean_mask(features["x"], features["n"] > 2)  # at fault
        return tpuest.TPUEstimatorSpec(mode, {"large": large})

    estimator = make_estimator(model_fn, predict_batch_size=8)
    (finding,) = tpuest.check(estimator, broken.good_input_fn, ModeKeys.PREDICT).findings
    assert (finding.kind.value, finding.name) == ("dynamic shape", "predictions['large']")
    assert finding.origin.source.endswith(broken.MARK)


def test_a_metric_that_captures_a_tensor_is_named_with_its_line():
    def model_fn(features, labels, mode, params):
        loss = tf.reduce_mean(features["x"])

        def metric_fn(x):
            return {"mean": v1.metrics.mean(x + loss)}  # at fault

        return tpuest.TPUEstimatorSpec(mode, loss=loss, eval_metrics=(metric_fn, [features["x"]]))

    estimator = make_estimator(model_fn, eval_batch_size=8)
    (finding,) = tpuest.check(estimator, broken.good_input_fn, ModeKeys.EVAL).findings
    assert (finding.kind.value, finding.origin.source[-len(broken.MARK) :]) == (
        "host only",
        broken.MARK,
    )


def test_an_estimator_without_cores_is_refused():
    estimator = make_estimator(broken.BROKEN["bicubic"].model_fn, use_tpu=False)
    with pytest.raises(ValueError, match="use_tpu=True"):
        tpuest.check(estimator, broken.good_input_fn, ModeKeys.TRAIN)


def check_on_pairs(compute, topology, dims=None):
    """Checks a model whose replicas have two cores, which share the rows of its first feature."""
    tpu_config = tpuest.TPUConfig(
        num_cores_per_replica=2,
        per_host_input_for_training=tpuest.InputPipelineConfig.PER_HOST_V2,
        input_partition_dims=dims and [{"x": dims, "n": None}],
    )
    estimator = tpuest.TPUEstimator(
        broken.Broken(compute, broken.good_input_fn, "", "").model_fn,
        config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY, tpu_config=tpu_config),
        train_batch_size=2 * broken.BATCH_SIZE,
    )
    return tpuest.check(estimator, broken.good_input_fn, ModeKeys.TRAIN, topology)


def test_a_model_over_several_cores_is_checked_and_the_report_says_how():
    def on_another_core(features):
        with v1.device(v1.tpu.core(1)):
            return tf.reduce_sum(features["x"])

    report = check_on_pairs(on_another_core, "v5e:2x2", [2, 1])
    assert report.ok
    assert "2 replicas of 2 cores" in str(report)
    assert "8 examples for 2 cores" in str(report)
    assert "XLA's SPMD partitioner" in str(report)
    assert "tf.device(tpu.core(i)): every core" in str(report)
    assert "tpu.core(i)" not in str(check_on_pairs(broken.nothing, "v5e:2x2"))


def test_what_is_wrong_over_several_cores_is_found():
    report = check_on_pairs(BROKEN["tf.linalg.det"].compute, "v5e:2x2", [2, 1])
    assert [finding.origin.line for finding in report.findings] == [BROKEN["tf.linalg.det"].line]


def test_a_slice_too_small_for_a_replica_is_refused():
    with pytest.raises(ValueError, match="v5e:1x1 has 1 cores.*num_cores_per_replica=2"):
        check_on_pairs(broken.nothing, "v5e")


def test_an_error_of_model_fn_stays_the_users():
    def fails(features):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        check(fails)


def test_input_fn_may_be_a_partial_or_a_method():
    import functools

    class Input:
        def read(self, params, size):
            return broken.good_input_fn(params)

    assert check(broken.nothing, functools.partial(Input().read, size=3)).ok


def test_no_variable_takes_memory():
    def large(features):
        weights = v1.get_variable("large", [2**20, 2**10])  # 4 GiB, and as many slots
        return tf.reduce_sum(tf.gather(weights, features["n"]))

    before = _resident_bytes()
    with pytest.warns(UserWarning, match="Converting sparse IndexedSlices"):
        assert check(large, topology="v5e:2x4").memory.trainable_bytes > 2**32
    assert _resident_bytes() - before < 2**30


def _resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
