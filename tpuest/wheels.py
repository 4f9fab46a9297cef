"""What is installed: TensorFlow's distributions, and whether the files of each are there.

Takes pip's records; gives versions. Loads no TensorFlow: `tensorflow`, `tensorflow-cpu` and `tensorflow-tpu` own the
same folder, and the one installed last lies over the others.
"""

from __future__ import annotations

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
    files = importlib.metadata.files(name) or []
    libraries = [file for file in files if ".so" in file.name and file.size is not None]
    return all(_size(file.locate()) == file.size for file in libraries)


def _size(path: os.PathLike) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:
        return None
