"""The cores that `use_tpu=True` would find, as told before TensorFlow is loaded: a TPU's chips, or simulated ones."""

from __future__ import annotations

import glob
import os

SIMULATION_VARIABLE = "TPUEST_SIMULATE_TPU"
# Chips of v2 to v4, and of later ones by the kernel's vfio.
_DEVICE_FILES = ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*")


def find_chips() -> list[str]:
    """Gives this machine's device files of TPU chips."""
    return sorted(path for pattern in _DEVICE_FILES for path in glob.glob(pattern))


def cores_to_simulate() -> int:
    """Returns how many simulated cores the environment asks for, 0 if none."""
    return int(os.environ.get(SIMULATION_VARIABLE) or 0)
