"""`tpuest --doctor`: what this environment has, and for each fault the command that repairs it.

Takes nothing; gives lines, and an exit code that is 0 only where a program with `use_tpu=True` would run.
TensorFlow is imported in a process of its own: a wrong libtpu ends the process that imports it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

from tpuest import chips, wheels
from tpuest.wheels import STOCK_WHEELS, TPU_WHEEL

_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 10), (3, 13)
_OLDEST_TENSORFLOW, _NEWEST_TENSORFLOW = (2, 16), (2, 21)
# With tensorflow-tpu 2.20.0, later ones end the process at import.
_NEWEST_LIBTPU = (0, 0, 31)
# Where protobuf 7 lacks what TensorFlow calls to write a graph as text, as each training does.
_NEWEST_TENSORFLOW_WITHOUT_PROTOBUF_7 = (2, 20)
_LOCK = "/tmp/libtpu_lockfile"  # libtpu's own place for it
_PROBE_SECONDS = 180
_PROBE = """
import json
import tensorflow as tf
devices = tf.config.list_physical_devices()
print("tpuest:" + json.dumps({
    "version": tf.__version__,
    "devices": [device.name.removeprefix("/physical_device:") for device in devices],
}))
"""


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the report.

    Attributes:
      subject: what it is about.
      finding: what was found.
      repair: the command, or the sentence, that repairs it; `None` if nothing is wrong.
    """

    subject: str
    finding: str
    repair: str | None = None


@dataclasses.dataclass(frozen=True)
class Probe:
    """What importing TensorFlow showed.

    Attributes:
      version: of the TensorFlow that is imported; `None` if that fails.
      devices: "CPU:0", "TPU:0", ...
      failure: the last line of what went wrong, '' if nothing did.
    """

    version: str | None
    devices: tuple[str, ...] = ()
    failure: str = ""


@dataclasses.dataclass(frozen=True)
class Environment:
    """What the report is about.

    Attributes:
      versions: distribution to version, of those that are installed.
      is_tpu_wheel_whole: whether tensorflow-tpu's files are there and its own.
      probe: what importing TensorFlow showed; `None` where there is none.
      chips: device files of TPU chips.
      simulated_cores: how many are asked for.
    """

    versions: dict[str, str]
    is_tpu_wheel_whole: bool
    probe: Probe | None
    chips: tuple[str, ...]
    simulated_cores: int

    @property
    def stock_wheels(self) -> list[str]:
        """The installed distributions for CPU and GPU."""
        return [name for name in STOCK_WHEELS if name in self.versions]

    @property
    def has_tpu_wheel(self) -> bool:
        """Whether tensorflow-tpu is installed, whole or not."""
        return TPU_WHEEL in self.versions

    @property
    def tensorflow_fits(self) -> bool:
        """Whether TensorFlow is imported, and is one that tpuest was made for."""
        if self.probe is None or self.probe.version is None or self.is_protobuf_too_new:
            return False
        return _OLDEST_TENSORFLOW <= _numbers(self.probe.version)[:2] <= _NEWEST_TENSORFLOW

    @property
    def is_protobuf_too_new(self) -> bool:
        """Whether training would fail when it writes its graph."""
        wheels_found = [
            self.versions[name] for name in (TPU_WHEEL, *STOCK_WHEELS) if name in self.versions
        ]
        protobuf = _numbers(self.versions.get("protobuf", ""))
        return protobuf >= (7,) and any(
            _numbers(version)[:2] <= _NEWEST_TENSORFLOW_WITHOUT_PROTOBUF_7
            for version in wheels_found
        )

    @property
    def num_tpu_cores(self) -> int:
        """The cores that TensorFlow sees; it has a TPU_SYSTEM without a TPU too."""
        devices = self.probe.devices if self.probe else ()
        return sum(device.startswith("TPU:") for device in devices)

    @property
    def runs_on_cores(self) -> bool:
        """Whether a program with `use_tpu=True` would run."""
        return self.tensorflow_fits and bool(self.simulated_cores or self.num_tpu_cores)


def main() -> int:
    """Prints the report; gives the exit code."""
    environment = examine()
    for line in report(environment):
        print(f"{line.subject + ':':<20}{line.finding}")
        if line.repair is not None:
            print(f"{'':<20}repair: {line.repair}")
    return 0 if environment.runs_on_cores else 1


def examine() -> Environment:
    """Looks at this process's environment."""
    chips.settle_without_chips()
    versions = wheels.find_versions(TPU_WHEEL, *STOCK_WHEELS, "libtpu", "tf-keras", "protobuf")
    return Environment(
        versions,
        is_tpu_wheel_whole=TPU_WHEEL in versions and wheels.is_whole(TPU_WHEEL),
        probe=_probe() if importlib.util.find_spec("tensorflow") is not None else None,
        chips=tuple(chips.find_chips()),
        simulated_cores=chips.cores_to_simulate(),
    )


def report(environment: Environment) -> list[Line]:
    """Says what was found, and for each fault what repairs it."""
    lines = [
        _python_line(),
        _tensorflow_line(environment),
        _tpu_wheel_line(environment),
        _libtpu_line(environment),
    ]
    explained = any(line.repair for line in lines[2:])
    lines.append(_import_line(environment, explained))
    devices = environment.probe.devices if environment.probe else ()
    cores = environment.simulated_cores
    return [
        *lines,
        Line("Devices", ", ".join(devices) or "none seen"),
        _tpu_line(environment),
        _keras_line(environment),
        Line("Simulation", f"{cores} cores" if cores else "off"),
        _verdict_line(environment),
    ]


def _probe() -> Probe:
    """Imports TensorFlow in another process."""
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(None, failure=f"no answer within {_PROBE_SECONDS} seconds")
    for line in ended.stdout.splitlines():
        if line.startswith("tpuest:"):
            told = json.loads(line.removeprefix("tpuest:"))
            return Probe(told["version"], tuple(told["devices"]))
    last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    return Probe(None, failure=last)


def _python_line() -> Line:
    fits = _OLDEST_PYTHON <= sys.version_info[:2] <= _NEWEST_PYTHON
    repair = None if fits else "use Python 3.10 to 3.13: no other has a TensorFlow that fits"
    return Line("Python", f"{sys.version.split()[0]} ({sys.executable})", repair)


def _tensorflow_line(environment: Environment) -> Line:
    versions, probe = environment.versions, environment.probe
    installed = [
        f"{name} {versions[name]}" for name in (TPU_WHEEL, *STOCK_WHEELS) if name in versions
    ]
    if not installed and probe is None:
        extra = "tpu" if environment.chips else "cpu"
        return Line("TensorFlow", "not installed", f"pip install 'tpuest[{extra}]'")
    finding = ", ".join(installed) or "without a distribution"
    if environment.is_protobuf_too_new:
        finding += f"; protobuf {versions['protobuf']} is too new for it"
        return Line("TensorFlow", finding, "pip install 'protobuf<7'")
    if probe is None or probe.version is None:
        return Line("TensorFlow", finding)
    repair = (
        None
        if environment.tensorflow_fits
        else f"pip install '{_own_wheel(environment)}>=2.16,<2.22'"
    )
    return Line("TensorFlow", f"{finding}; imports as {probe.version}", repair)


def _tpu_wheel_line(environment: Environment) -> Line:
    """Tells whether another wheel lies over tensorflow-tpu: they own the same folder."""
    stock = environment.stock_wheels
    if not environment.has_tpu_wheel:
        return Line(TPU_WHEEL, "not installed")
    if environment.is_tpu_wheel_whole:
        return Line(TPU_WHEEL, f"whole; it lies over {', '.join(stock)}" if stock else "whole")
    finding = f"overwritten by {', '.join(stock)}" if stock else "its files are gone"
    uninstall = f"pip uninstall -y {' '.join(stock)} && " if stock else ""
    return Line(TPU_WHEEL, finding, uninstall + _reinstall(environment, TPU_WHEEL))


def _libtpu_line(environment: Environment) -> Line:
    version = environment.versions.get("libtpu")
    command = "pip install 'libtpu<=0.0.31'"
    if version is None:
        return Line("libtpu", "not installed", command if environment.has_tpu_wheel else None)
    if environment.has_tpu_wheel and _numbers(version)[:3] > _NEWEST_LIBTPU:
        return Line("libtpu", f"{version}, too new for tensorflow-tpu", command)
    return Line("libtpu", version)


def _import_line(environment: Environment, explained: bool) -> Line:
    """Tells whether TensorFlow is imported; `explained`: a line before gives the repair."""
    probe = environment.probe
    if probe is None:
        return Line("import tensorflow", "no such module")
    if not probe.failure:
        return Line("import tensorflow", "works")
    repair = None if explained else _reinstall(environment, _own_wheel(environment))
    return Line("import tensorflow", f"fails: {probe.failure[:100]}", repair)


def _tpu_line(environment: Environment) -> Line:
    if environment.num_tpu_cores:
        return Line("TPU", "reachable")
    if not environment.chips:
        return Line("TPU", "none on this machine")
    chip = environment.chips[0]
    if not environment.has_tpu_wheel:
        stock = environment.stock_wheels
        uninstall = f"pip uninstall -y {' '.join(stock)} && " if stock else ""
        return Line(
            "TPU",
            f"{chip} is there, but not {TPU_WHEEL}",
            f"{uninstall}pip install 'tpuest[tpu]'",
        )
    if not (environment.is_tpu_wheel_whole and environment.tensorflow_fits):
        return Line("TPU", f"{chip} is there; TensorFlow can't use it, see above")
    holder = f"end the process that `sudo lsof -w {chip}` shows"
    if os.path.exists(_LOCK):
        finding = f"{chip} is there and not seen; {_LOCK} says that a process holds it"
        return Line("TPU", finding, f"{holder}, then rm {_LOCK}")
    return Line("TPU", f"{chip} is there and not seen by TensorFlow", holder)


def _keras_line(environment: Environment) -> Line:
    keras = environment.versions.get("tf-keras")
    variable = os.environ.get("TF_USE_LEGACY_KERAS", "")
    said = f"TF_USE_LEGACY_KERAS={variable}" if variable else "TF_USE_LEGACY_KERAS unset"
    repair = None
    if keras is None and variable in ("1", "true", "True") and environment.tensorflow_fits:
        # Without --no-deps it would bring the stock tensorflow.
        version = ".".join(environment.probe.version.split(".")[:2])
        repair = f"pip install --no-deps 'tf-keras=={version}.*', or unset TF_USE_LEGACY_KERAS"
    installed = f"tf-keras {keras}" if keras else "tf-keras not installed"
    return Line("Keras 2", f"{installed}; {said}", repair)


def _verdict_line(environment: Environment) -> Line:
    if environment.runs_on_cores:
        simulated, real = environment.simulated_cores, environment.num_tpu_cores
        cores = f"{simulated} simulated cores (CPU)" if simulated else f"{real} TPU core(s)"
        return Line("use_tpu=True", f"would run on {cores}")
    repair = None
    if environment.tensorflow_fits and not environment.chips:
        repair = "tpuest --simulate-tpu 8 SCRIPT runs it on simulated cores"
    return Line("use_tpu=True", "would not run", repair)


def _own_wheel(environment: Environment) -> str:
    """Gives the distribution to repair."""
    return TPU_WHEEL if environment.has_tpu_wheel else (*environment.stock_wheels, "tensorflow")[0]


def _reinstall(environment: Environment, wheel: str) -> str:
    """Gives the command that puts a distribution's files back; other versions of what it needs stay away."""
    version = environment.versions.get(wheel)
    if version is None:
        return f"pip install --force-reinstall '{wheel}>=2.16,<2.22'"
    return f"pip install --force-reinstall --no-deps {wheel}=={version}"


def _numbers(version: str) -> tuple[int, ...]:
    """Reads '0.0.21.1' as (0, 0, 21, 1)."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
