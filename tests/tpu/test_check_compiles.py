"""`tpuest.check` with the TPU's own compiler; needs the `check` extra."""

import pytest

pytest.importorskip("libtpu", reason="needs the `check` extra: jaxlib==0.10.2 libtpu==0.0.42.1")
pytest.importorskip("jaxlib")

import broken
import tensorflow as tf
import traced as tracing
from broken import BROKEN
from tensorflow.python.tpu.ops import tpu_ops

import tpuest
from tpuest import aot, check_scan
from tpuest.check_report import Kind
from tpuest.spec import ModeKeys


def check(case, topology="v5e", num_cores=1):
    estimator = tpuest.TPUEstimator(
        case.model_fn,
        config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY),
        train_batch_size=broken.BATCH_SIZE * num_cores,
        params={"size": 1},
    )
    return tpuest.check(estimator, case.input_fn, ModeKeys.TRAIN, topology)


@pytest.mark.parametrize(
    ("topology", "name", "num_cores"),
    [
        ("v5e", "v5e:1x1", 1),
        ("v5e:2x2", "v5e:2x2", 4),
        ("v5e:4x2", "v5e:4x2", 8),
        ("v4", "v4:1x1x1", 2),
        ("v6e", "v6e:1x1", 1),
    ],
)
def test_a_good_step_is_accepted_by_libtpu(topology, name, num_cores):
    report = check(broken.Broken(broken.nothing, broken.good_input_fn, "", ""), topology, num_cores)
    assert report.ok
    assert report.verdict.startswith(f"accepted by libtpu 0.0.42.1 for {name}, about 0.01 of ")
    assert report.compiled.flops > 0
    assert report.compiled.num_all_reduces > 0


def exchanged(x):
    return tpu_ops.all_to_all(x, 1, 0, 4)


def exchanged_in_pairs(x):
    return tpu_ops.all_to_all(x, 0, 0, 2, [[0, 1], [2, 3]])


def moved_on(x):
    return tpu_ops.collective_permute(x, [[i, (i + 1) % 4] for i in range(4)])


@pytest.mark.parametrize("together", [exchanged, exchanged_in_pairs, moved_on])
def test_exchanges_are_compiled_as_what_they_are(together):
    def square_sum(features):
        # Its gradient is an exchange too; and it depends on the variables.
        x = features["x"][:, :8] * tf.compat.v1.get_variable("scale", [])
        return tf.reduce_sum(tf.square(together(x)))

    case = broken.Broken(square_sum, broken.good_input_fn, "", "")
    report = check(case, "v5e:2x2", num_cores=4)
    assert report.ok
    assert report.compiled.num_exchanges == 2
    assert "2 all-to-alls and collective-permutes" in str(report)


def test_the_cores_of_a_replica_share_the_work():
    def model_fn(features, labels, mode, params):
        images = tf.compat.v1.layers.conv2d(features, 8, 3, padding="same")
        loss = tf.reduce_mean(tf.square(tf.compat.v1.layers.conv2d(images, 1, 3, padding="same")))
        optimizer = tpuest.CrossShardOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1))
        train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
        return tpuest.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)

    def input_fn(params):
        return tf.data.Dataset.from_tensors(tf.ones([params["batch_size"], 33, 32, 3])).repeat()

    flops = {}
    for dims in ([1, 2, 1, 1], None):
        tpu_config = tpuest.TPUConfig(
            num_cores_per_replica=2,
            per_host_input_for_training=tpuest.InputPipelineConfig.PER_HOST_V2,
            input_partition_dims=dims and [dims],
        )
        estimator = tpuest.TPUEstimator(
            model_fn,
            config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY, tpu_config=tpu_config),
            train_batch_size=8,
            params={},
        )
        report = tpuest.check(estimator, input_fn, ModeKeys.TRAIN, "v5e:2x2")
        assert report.verdict.startswith("accepted by libtpu 0.0.42.1 for v5e:2x2")
        flops[bool(dims)] = report.compiled.flops
        # The rows at the border go from one core to the other.
        assert bool(report.compiled.num_exchanges) == bool(dims)
    assert flops[True] < 0.7 * flops[False]


def test_a_step_that_needs_too_much_memory_is_named_by_its_largest_value():
    case = BROKEN["activations too big"]
    report = check(case)
    (finding,) = report.findings
    assert (finding.kind, finding.name) == (Kind.TOO_LARGE, "MatMul")
    assert finding.origin.line == case.line
    assert "exceeds available HBM (15.75G)" in finding.detail
    assert "HBM, temporaries      128.00 GiB, says the compiler" in str(report)
    assert report.verdict == "does not fit on v5e:1x1 (15.75 GiB a core)"


@pytest.mark.parametrize("name", ["int64 matmul", "float64 max-pool gradient"])
def test_what_libtpu_refuses_is_found_by_its_message(name, monkeypatch):
    monkeypatch.setattr(check_scan, "find_misplaced", lambda located: {})
    case = BROKEN[name]
    (finding,) = check(case).findings
    assert (finding.kind, finding.origin.line) == (Kind.REFUSED, case.line)
    assert case.what in finding.op_types


def test_a_compiler_that_does_not_run_is_told_with_its_version(monkeypatch):
    monkeypatch.setattr(aot, "_NO_TPU_HERE", {"PYTHONHOME": "/nonexistent"})
    monkeypatch.delenv("PYTHONHOME", raising=False)
    case = broken.Broken(broken.nothing, broken.good_input_fn, "", "")
    with pytest.raises(RuntimeError, match=r"did not run, of jaxlib .* and libtpu 0\.0\.42\.1"):
        check(case)
