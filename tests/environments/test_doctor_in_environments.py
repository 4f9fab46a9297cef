"""The doctor in real environments: `make test-doctor`.

Each is a virtual environment with the distributions that pip really installs, made anew; the repairs are run as they
are printed, and the doctor asked again.
"""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TPU_WHEEL, FITTING = "tensorflow-tpu==2.20.0", ["libtpu<=0.0.31", "protobuf<7"]

pytestmark = pytest.mark.skipif(
    "TPUEST_ENVIRONMENTS" not in os.environ, reason="make test-doctor makes the environments"
)


class Environment:
    """A virtual environment, with what calls of `pip install` leave one after the other."""

    def __init__(self, name, *installs):
        directory = pathlib.Path(os.environ["TPUEST_ENVIRONMENTS"]) / name
        base = os.environ["TPUEST_ENVIRONMENTS_PYTHON"]
        subprocess.run([base, "-m", "venv", "--clear", str(directory)], check=True)
        self.bin = directory / "bin"
        for packages in installs:
            self.run(f"pip install --quiet {' '.join(repr(package) for package in packages)}")

    def run(self, command):
        """Runs a shell line with this environment's pip and Python."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        subprocess.run(command, shell=True, check=True, env={**os.environ, "PATH": path})

    def doctor(self, *options):
        """Gives the exit code, findings and repairs, by their subjects."""
        ended = subprocess.run(
            [self.bin / "python", "-m", "tpuest", *options, "--doctor"],
            # Another process, such as another test run's, may hold libtpu's lock.
            env={**os.environ, "PYTHONPATH": str(ROOT), "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=600,
            check=False,
        )
        findings, repairs, subject = {}, {}, None
        for line in ended.stdout.splitlines():
            said = re.match(r"(\S[^:]*): +(.*)", line)
            if said:
                subject, findings[said[1]] = said[1], said[2]
            else:
                repairs[subject] = line.strip().removeprefix("repair: ")
        return ended.returncode, findings, repairs


def test_without_tensorflow():
    environment = Environment("none")
    code, findings, repairs = environment.doctor()
    assert (code, findings["TensorFlow"]) == (1, "not installed")
    assert repairs == {"TensorFlow": "pip install 'tpuest[cpu]'"}
    assert environment.doctor("--simulate-tpu", "8")[0] == 1


def test_stock():
    environment = Environment("stock", ["tensorflow>=2.16,<2.22"])
    code, findings, repairs = environment.doctor()
    assert (code, findings["tensorflow-tpu"]) == (1, "not installed")
    assert repairs.keys() == {"use_tpu=True"}
    assert environment.doctor("--simulate-tpu", "8")[0] == 0


def test_for_tpus_as_pip_brings_it_until_repaired():
    environment = Environment("libtpu", [TPU_WHEEL])
    code, findings, repairs = environment.doctor("--simulate-tpu", "8")
    assert (code, findings["use_tpu=True"]) == (1, "would not run")
    assert findings["import tensorflow"].startswith("fails: ")
    assert repairs.keys() == {"TensorFlow", "libtpu"}
    for repair in repairs.values():
        environment.run(repair)
    code, findings, repairs = environment.doctor("--simulate-tpu", "8")
    assert (code, findings["tensorflow-tpu"], repairs) == (0, "whole", {})


def test_for_tpus_overwritten_until_repaired():
    environment = Environment("both", [TPU_WHEEL, *FITTING], ["tensorflow==2.20.0"])
    _, findings, repairs = environment.doctor()
    assert findings["tensorflow-tpu"] == "overwritten by tensorflow"
    assert "TPU_SYSTEM" not in findings["Devices"]
    environment.run(repairs["tensorflow-tpu"])
    code, findings, repairs = environment.doctor()
    assert (code, findings["tensorflow-tpu"], findings["TPU"]) == (
        1,
        "whole",
        "none on this machine",
    )
    assert "TPU_SYSTEM" in findings["Devices"]
    assert repairs.keys() == {"use_tpu=True"}
