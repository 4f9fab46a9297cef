"""What is installed: TensorFlow's distributions, and whether the files of each are there.

Takes pip's records; gives versions. Loads no TensorFlow: `tensorflow`, `tensorflow-cpu` and `tensorflow-tpu` own the
same folder, and the one installed last lies over the others.
"""

from __future__ import annotations

import csv
import importlib.metadata
import os

TPU_WHEEL = "tensorflow-tpu"
STOCK_WHEELS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "tensorflow-intel")


def find_versions(*names: str) -> dict[str, str]:
    """Gives the installed version of each distribution that is installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def is_whole(name: str) -> bool:
    """Says whether an installed distribution's libraries are its own, as pip recorded them."""
    distribution = importlib.metadata.distribution(name)
    # Not its `files`: from Python 3.12 on they are only those that are there.
    record = csv.reader((distribution.read_text("RECORD") or "").splitlines())
    return all(
        _size(distribution.locate_file(path)) == int(size)
        for path, _, size in record
        if ".so" in os.path.basename(path) and size
    )


def _size(path: os.PathLike) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:
        return None
