"""The cores that `use_tpu=True` would find, as told before TensorFlow is loaded: a TPU's chips, or simulated ones."""

from __future__ import annotations

import glob
import os

SIMULATION_VARIABLE = "TPUEST_SIMULATE_TPU"
# Chips of v2 to v4, and of later ones by the kernel's vfio.
_DEVICE_FILES = ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*")

# What libtpu would ask for; seen with libtpu 0.0.31.
_NO_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


def find_chips() -> list[str]:
    """Gives this machine's device files of TPU chips."""
    return sorted(path for pattern in _DEVICE_FILES for path in glob.glob(pattern))


def cores_to_simulate() -> int:
    """Returns how many simulated cores the environment asks for, 0 if none."""
    return int(os.environ.get(SIMULATION_VARIABLE) or 0)


def settle_without_chips() -> None:
    """Spares TensorFlow for TPUs, where there is no chip, the minutes in which it asks for one.

    libtpu asks Google Cloud's metadata servers at `import tensorflow`, many times, unless it is told.
    """
    if not find_chips():
        for name, value in _NO_TPU.items():
            os.environ.setdefault(name, value)
