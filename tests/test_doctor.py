"""The doctor tells the cases apart, and for each fault gives the command that repairs it."""

import dataclasses

import pytest

from tpuest import doctor, wheels
from tpuest.doctor import Environment, Probe

TPU, STOCK, LIBTPU = {"tensorflow-tpu": "2.20.0"}, {"tensorflow": "2.20.0"}, {"libtpu": "0.0.31"}
CPU_ONLY = Probe("2.20.0", ("CPU:0",))
NO_TPU = Probe("2.20.0", ("CPU:0", "TPU_SYSTEM:0"))
ONE_CORE = Probe("2.20.0", ("CPU:0", "TPU_SYSTEM:0", "TPU:0"))
ABORTED = Probe(None, failure="TpuExecutable_FreeMaybe... not available in this library.")
REINSTALL = "pip install --force-reinstall --no-deps tensorflow-tpu==2.20.0"
SIMULATE = "tpuest --simulate-tpu 8 SCRIPT runs it on simulated cores"
FEWER_LIBTPU = "pip install 'libtpu<=0.0.31'"


def environment(versions, probe, **others):
    settings = {"is_tpu_wheel_whole": True, "chips": (), "simulated_cores": 0, **others}
    return Environment({**versions}, probe=probe, **settings)


CASES = {
    "nothing": (environment({}, None), {"TensorFlow": "pip install 'tpuest[cpu]'"}),
    "nothing beside a chip": (
        environment({}, None, chips=("/dev/accel0",)),
        {"TensorFlow": "pip install 'tpuest[tpu]'", "TPU": "pip install 'tpuest[tpu]'"},
    ),
    "stock": (environment(STOCK, CPU_ONLY), {"use_tpu=True": SIMULATE}),
    "stock beside a chip": (
        environment(STOCK, CPU_ONLY, chips=("/dev/vfio/0",)),
        {"TPU": "pip uninstall -y tensorflow && pip install 'tpuest[tpu]'"},
    ),
    "too old": (
        environment({"tensorflow-cpu": "2.15.1"}, Probe("2.15.1", ("CPU:0",))),
        {"TensorFlow": "pip install 'tensorflow-cpu>=2.16,<2.22'"},
    ),
    "protobuf too new": (
        environment(STOCK | {"protobuf": "7.36.2"}, CPU_ONLY),
        {"TensorFlow": "pip install 'protobuf<7'"},
    ),
    "for a TPU, without one": (environment(TPU | LIBTPU, NO_TPU), {"use_tpu=True": SIMULATE}),
    "for a TPU, overwritten": (
        environment(TPU | STOCK | LIBTPU, CPU_ONLY, is_tpu_wheel_whole=False),
        {
            "tensorflow-tpu": f"pip uninstall -y tensorflow && {REINSTALL}",
            "use_tpu=True": SIMULATE,
        },
    ),
    "for a TPU, over the stock one": (
        environment(TPU | STOCK | LIBTPU, ONE_CORE, chips=("/dev/vfio/0",)),
        {},
    ),
    "for a TPU, its files gone": (
        environment(TPU | LIBTPU, None, is_tpu_wheel_whole=False),
        {"tensorflow-tpu": REINSTALL},
    ),
    "without libtpu": (environment(TPU, NO_TPU), {"libtpu": FEWER_LIBTPU, "use_tpu=True": SIMULATE}),
    "libtpu too new": (
        environment(TPU | {"libtpu": "0.0.32.1"}, ABORTED),
        {"libtpu": FEWER_LIBTPU},
    ),
    "fails for another reason": (environment(TPU | LIBTPU, ABORTED), {"import tensorflow": REINSTALL}),
    "chip held": (
        environment(TPU | LIBTPU, NO_TPU, chips=("/dev/vfio/0",)),
        {"TPU": "end the process that `sudo lsof -w /dev/vfio/0` shows"},
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def usual_surroundings(monkeypatch, tmp_path):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    monkeypatch.setattr(doctor, "_LOCK", str(tmp_path / "lock"))


@pytest.mark.parametrize("case", CASES)
def test_each_fault_has_its_repair_and_nothing_else_has(case):
    examined, repairs = CASES[case]
    assert {line.subject: line.repair for line in doctor.report(examined) if line.repair} == repairs


@pytest.mark.parametrize("case", CASES)
def test_report_is_ten_lines(case):
    assert len(doctor.report(CASES[case][0])) == 10


def test_lock_of_libtpu_is_named(tmp_path):
    (tmp_path / "lock").touch()
    examined, _ = CASES["chip held"]
    (line,) = [line for line in doctor.report(examined) if line.subject == "TPU"]
    assert line.finding.endswith("says that a process holds it")
    assert line.repair.endswith(f"then rm {tmp_path / 'lock'}")


def test_keras_2_is_missed_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    (line,) = [line for line in doctor.report(CASES["stock"][0]) if line.subject == "Keras 2"]
    assert line.repair.startswith("pip install --no-deps 'tf-keras==2.20.*'")


@pytest.mark.parametrize("case", CASES)
def test_program_runs_on_a_tpu_only_where_cores_are_seen(case):
    examined, _ = CASES[case]
    assert examined.runs_on_cores == (examined.probe is ONE_CORE)


@pytest.mark.parametrize("case", CASES)
def test_program_runs_on_simulated_cores_where_tensorflow_fits(case):
    examined, _ = CASES[case]
    simulated = dataclasses.replace(examined, simulated_cores=8)
    assert simulated.runs_on_cores == (case not in BROKEN)


BROKEN = {
    "nothing",
    "nothing beside a chip",
    "too old",
    "protobuf too new",
    "for a TPU, its files gone",
    "libtpu too new",
    "fails for another reason",
}


@pytest.fixture
def recorded_wheel(tmp_path, monkeypatch):
    """Gives the library of a distribution that pip recorded with a size of 5 bytes."""
    metadata = tmp_path / "tpuest_test_wheel-2.20.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: tpuest-test-wheel\nVersion: 2.20.0\n")
    (metadata / "RECORD").write_text(
        "library/lib.so.2,sha256=x,5\nlibrary/__init__.py,sha256=x,9\n"
    )
    library = tmp_path / "library" / "lib.so.2"
    library.parent.mkdir()
    library.write_text("12345")
    monkeypatch.syspath_prepend(str(tmp_path))
    return library


def test_wheel_with_its_own_libraries_is_whole(recorded_wheel):
    assert wheels.find_versions("tpuest-test-wheel", "nobody's") == {"tpuest-test-wheel": "2.20.0"}
    assert wheels.is_whole("tpuest-test-wheel")


def test_wheel_with_another_library_in_its_place_is_not_whole(recorded_wheel):
    recorded_wheel.write_text("another's")
    assert not wheels.is_whole("tpuest-test-wheel")


def test_wheel_without_its_library_is_not_whole(recorded_wheel):
    recorded_wheel.unlink()
    assert not wheels.is_whole("tpuest-test-wheel")


@pytest.mark.parametrize(("simulated_cores", "code"), [(0, 1), (8, 0)])
def test_exit_code_says_whether_a_program_would_run(monkeypatch, capsys, simulated_cores, code):
    examined = dataclasses.replace(CASES["stock"][0], simulated_cores=simulated_cores)
    monkeypatch.setattr(doctor, "examine", lambda: examined)
    assert doctor.main() == code
    assert ("would not run" in capsys.readouterr().out) == bool(code)
