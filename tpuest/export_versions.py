"""Which exports of a directory to keep and which to delete: `tensorflow_estimator.python.estimator.gc`.

Takes the sub-directories of an export's base directory as `Path`s; a filter gives those it keeps:

    stale = negation(largest_export_versions(5))
    for path in stale(get_paths(base_dir, parse_timestamp)):
      delete path.path
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from tpuest import _tf

# A timestamp in seconds, as exports are named: the same number of digits until the year 2286.
_TIMESTAMP_DIGITS = 10


class Path(NamedTuple):
    """A directory.

    Attributes:
      path: where it is.
      export_version: the number it is named by; `None` if that isn't known.
    """

    path: str
    export_version: int | None


Filter = Callable[[Sequence[Path]], list[Path]]


def largest_export_versions(n: int) -> Filter:
    """Makes a filter that keeps the `n` largest versions."""

    def keep(paths: Sequence[Path]) -> list[Path]:
        versioned = [(path.export_version, index) for index, path in _versioned(paths)]
        return sorted(paths[index] for _, index in sorted(versioned, reverse=True)[:n])

    return keep


def one_of_every_n_export_versions(n: int) -> Filter:
    """Makes a filter that keeps the largest version of each interval [0, n], (n, 2n], (2n, 3n] ..."""

    def keep(paths: Sequence[Path]) -> list[Path]:
        largest = {}
        for _, path in _versioned(paths):
            interval = (path.export_version - 1) // n if path.export_version else 0
            known = largest.get(interval)
            if known is None or known.export_version < path.export_version:
                largest[interval] = path
        return sorted(largest.values())

    return keep


def mod_export_version(n: int) -> Filter:
    """Makes a filter that keeps the versions divisible by `n`."""
    return lambda paths: sorted(path for path in paths if path.export_version % n == 0)


def union(first: Filter, second: Filter) -> Filter:
    """Makes a filter that keeps what either of two filters keeps."""
    return lambda paths: sorted({*first(paths), *second(paths)})


def negation(inverted: Filter) -> Filter:
    """Makes a filter that keeps what another one doesn't."""
    return lambda paths: sorted({*paths} - {*inverted(paths)})


def get_paths(base_dir: str, parser: Callable[[Path], Path | None]) -> list[Path]:
    """Lists what is in a directory, in order.

    Args:
      base_dir: the directory.
      parser: fills in a `Path`'s version, or gives `None` to leave it out.
    """
    base_dir = tf.compat.as_str_any(base_dir)
    # On a bucket a directory's name ends in a slash.
    names = [tf.compat.as_str_any(name).rstrip("/") for name in _tf.gfile.ListDirectory(base_dir)]
    parsed = [parser(Path(os.path.join(base_dir, name), None)) for name in names]
    return sorted(path for path in parsed if path)


def delete_stale_exports(base_dir: str, exports_to_keep: int | None) -> None:
    """Deletes all but the newest exports.

    Args:
      base_dir: holds exports in directories that are named by their time.
      exports_to_keep: how many stay; `None` keeps all.
    """
    if exports_to_keep is None:
        return
    stale = negation(largest_export_versions(exports_to_keep))
    for path in stale(get_paths(base_dir, _parse_timestamp)):
        try:
            tf.io.gfile.rmtree(path.path)
        except tf.errors.NotFoundError as error:
            tf.compat.v1.logging.warn("Can not delete %s recursively: %s", path.path, error)


def _parse_timestamp(path: Path) -> Path | None:
    name = os.path.basename(path.path)
    if len(name) != _TIMESTAMP_DIGITS or not name.isdigit():
        return None
    return path._replace(export_version=int(name))


def _versioned(paths):
    return [(index, path) for index, path in enumerate(paths) if path.export_version is not None]
