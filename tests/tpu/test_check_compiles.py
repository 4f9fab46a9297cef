"""`tpuest.check` with the TPU's own compiler; needs the `check` extra."""

import pytest

pytest.importorskip("libtpu", reason="needs the `check` extra: jaxlib==0.10.2 libtpu==0.0.42.1")
pytest.importorskip("jaxlib")

import broken
import traced as tracing
from broken import BROKEN

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
