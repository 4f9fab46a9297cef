"""`tpuest --doctor`: what this environment has, and for each fault the command that repairs it.

Takes nothing; gives lines, and an exit code that is 0 only where a program with `use_tpu=True` would run.
TensorFlow is imported in a process of its own: a wrong libtpu ends the process that imports it.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys

_TPU_WHEEL = "tensorflow-tpu"
_STOCK_WHEELS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-intel")
_REINSTALL = (
    "pip uninstall -y {stock} && pip install --force-reinstall --no-deps {tpu_wheel}=={version}"
)
# With tensorflow-tpu 2.20.0, later ones end the process at import.
_NEWEST_LIBTPU = (0, 0, 31)
_PROBE_SECONDS = 180
_PROBE = """
import json, os
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import tensorflow as tf
devices = tf.config.list_physical_devices()
print("tpuest:" + json.dumps({
    "version": tf.__version__,
    "devices": [device.name.removeprefix("/physical_device:") for device in devices],
    "tpu": any(device.device_type == "TPU" for device in devices),
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
      has_tpu: whether one is a TPU.
      failure: the last line of what went wrong, '' if nothing did.
    """

    version: str | None
    devices: tuple[str, ...]
    has_tpu: bool
    failure: str


def main() -> int:
    """Prints the report; gives the exit code."""
    lines, runs_on_tpu = examine()
    for line in lines:
        print(f"{line.subject + ':':<22}{line.finding}")
        if line.repair is not None:
            print(f"{'':<22}repair: {line.repair}")
    return 0 if runs_on_tpu else 1


def examine() -> tuple[list[Line], bool]:
    """Looks at the environment; tells also whether `use_tpu=True` would run."""
    versions = _installed_versions()
    probe = _probe() if importlib.util.find_spec("tensorflow") is not None else None
    simulated = os.environ.get("TPUEST_SIMULATE_TPU", "")
    lines = [
        Line("Python", f"{sys.version.split()[0]} ({sys.executable})"),
        _tensorflow_line(versions, probe),
        _overwritten_line(versions, probe),
        _libtpu_line(versions),
        _import_line(probe),
        Line("Devices", ", ".join(probe.devices) if probe and probe.devices else "none seen"),
        _tpu_line(versions, probe),
        _keras_line(versions),
        Line("Simulation", f"{simulated} cores" if simulated else "off (--simulate-tpu N)"),
    ]
    runs = probe is not None and probe.version is not None and bool(simulated or probe.has_tpu)
    return [*lines, _verdict_line(simulated, probe, runs)], runs


def _installed_versions() -> dict[str, str]:
    versions = {}
    for name in (_TPU_WHEEL, *_STOCK_WHEELS, "libtpu", "tf-keras"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _probe() -> Probe:
    """Imports TensorFlow in another process."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(None, (), False, f"no answer within {_PROBE_SECONDS} seconds")
    for line in ended.stdout.splitlines():
        if line.startswith("tpuest:"):
            told = json.loads(line.removeprefix("tpuest:"))
            return Probe(told["version"], tuple(told["devices"]), told["tpu"], "")
    last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
    return Probe(None, (), False, last)


def _stock(versions: dict[str, str]) -> list[str]:
    return [name for name in _STOCK_WHEELS if name in versions]


def _tensorflow_line(versions: dict[str, str], probe: Probe | None) -> Line:
    wheels = [
        f"{name} {versions[name]}" for name in (_TPU_WHEEL, *_STOCK_WHEELS) if name in versions
    ]
    if not wheels and probe is None:
        return Line(
            "TensorFlow",
            "not installed",
            "pip install 'tpuest[tpu]'  (without a TPU: pip install 'tpuest[cpu]')",
        )
    imported = f"; imports as {probe.version}" if probe and probe.version else ""
    repair = None
    if probe and probe.version and not (2, 16) <= _numbers(probe.version)[:2] <= (2, 21):
        repair = "pip install 'tensorflow>=2.16,<2.22'"
    return Line("TensorFlow", (", ".join(wheels) or "without a distribution") + imported, repair)


def _overwritten_line(versions: dict[str, str], probe: Probe | None) -> Line:
    """Tells whether another wheel lies over tensorflow-tpu: they own the same folder."""
    stock = _stock(versions)
    if _TPU_WHEEL not in versions:
        return Line("tensorflow-tpu", "not installed")
    if not stock:
        return Line("tensorflow-tpu", "alone, as it must be")
    repair = _REINSTALL.format(
        stock=" ".join(stock), tpu_wheel=_TPU_WHEEL, version=versions[_TPU_WHEEL]
    )
    return Line("tensorflow-tpu", f"overwritten by {', '.join(stock)}", repair)


def _libtpu_line(versions: dict[str, str]) -> Line:
    version = versions.get("libtpu")
    if version is None:
        repair = "pip install 'libtpu<=0.0.31'" if _TPU_WHEEL in versions else None
        return Line("libtpu", "not installed", repair)
    is_too_new = _TPU_WHEEL in versions and _numbers(version)[:3] > _NEWEST_LIBTPU
    repair = "pip install 'libtpu<=0.0.31'" if is_too_new else None
    return Line("libtpu", version + (", too new for tensorflow-tpu" if is_too_new else ""), repair)


def _import_line(probe: Probe | None) -> Line:
    if probe is None:
        return Line("import tensorflow", "no such module")
    if probe.failure:
        return Line("import tensorflow", f"fails: {probe.failure[:100]}", "see the lines above")
    return Line("import tensorflow", "works")


def _tpu_line(versions: dict[str, str], probe: Probe | None) -> Line:
    if probe is not None and probe.has_tpu:
        return Line("TPU", "reachable")
    chips = [name for name in ("/dev/accel0", "/dev/vfio/0") if os.path.exists(name)]
    if not chips:
        return Line("TPU", "none on this machine")
    if _TPU_WHEEL not in versions:
        stock = " ".join(_stock(versions))
        remove = f"pip uninstall -y {stock} && " if stock else ""
        return Line(
            "TPU",
            f"{chips[0]} is there, but not tensorflow-tpu",
            f"{remove}pip install 'tpuest[tpu]'",
        )
    lock = "/tmp/libtpu_lockfile"  # libtpu's own place for it
    if os.path.exists(lock):
        return Line(
            "TPU",
            f"{chips[0]} is there and not seen; {lock} says that another process holds it",
            f"end that process (sudo lsof -w {chips[0]}), then rm {lock}",
        )
    return Line("TPU", f"{chips[0]} is there and not seen by TensorFlow")


def _keras_line(versions: dict[str, str]) -> Line:
    variable = os.environ.get("TF_USE_LEGACY_KERAS")
    said = f"TF_USE_LEGACY_KERAS={variable}" if variable else "TF_USE_LEGACY_KERAS unset"
    keras = versions.get("tf-keras")
    return Line("Keras 2", f"{f'tf-keras {keras}' if keras else 'tf-keras not installed'}; {said}")


def _verdict_line(simulated: str, probe: Probe | None, runs: bool) -> Line:
    if runs:
        where = f"{simulated} simulated cores (CPU)" if simulated else _count_tpus(probe)
        return Line("use_tpu=True", f"would run on {where}")
    repair = (
        "tpuest --simulate-tpu 8 SCRIPT runs it without a TPU" if probe and probe.version else None
    )
    return Line("use_tpu=True", "would not run", repair)


def _count_tpus(probe: Probe) -> str:
    count = sum(device.startswith("TPU:") for device in probe.devices)
    return f"{count} TPU core{'s' if count != 1 else ''}"


def _numbers(version: str) -> tuple[int, ...]:
    """Reads '0.0.21.1' as (0, 0, 21, 1)."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
