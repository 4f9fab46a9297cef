"""What old programs use of `pkg_resources`, which setuptools 82 removed; Python's own modules do it now.

Stands in only where there is no `pkg_resources`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from packaging import version as _version

DistributionNotFound = importlib.metadata.PackageNotFoundError
parse_version = _version.parse


class VersionConflict(Exception):
    """A package is there in another version than asked for."""


class _Distribution:
    """An installed package."""

    def __init__(self, name: str):
        self.project_name = self.key = name
        self.version = importlib.metadata.version(name)
        self.parsed_version = parse_version(self.version)


def get_distribution(dist: str) -> _Distribution:
    """Finds an installed package.

    Raises:
      DistributionNotFound: it isn't installed.
    """
    return _Distribution(dist)


def iter_entry_points(group: str, name: str | None = None) -> Iterator[Any]:
    """Lists the entry points of a group."""
    for point in importlib.metadata.entry_points(group=group):
        if name is None or point.name == name:
            yield point


def resource_filename(package_or_requirement: str, resource_name: str) -> str:
    """Gives the path of a file of a package."""
    return _resource(package_or_requirement, resource_name)


def resource_exists(package_or_requirement: str, resource_name: str) -> bool:
    """Says whether a package has a file."""
    return os.path.exists(resource_filename(package_or_requirement, resource_name))


def resource_isdir(resource_package: str, resource_name: str) -> bool:
    """Says whether a package has a folder."""
    return os.path.isdir(resource_filename(resource_package, resource_name))


def resource_listdir(package_or_requirement: str, resource_name: str) -> list[str]:
    """Lists a folder of a package."""
    return os.listdir(resource_filename(package_or_requirement, resource_name))


def resource_stream(package_or_requirement: str, resource_name: str) -> BinaryIO:
    """Opens a file of a package."""
    return open(resource_filename(package_or_requirement, resource_name), "rb")


def resource_string(package_or_requirement: str, resource_name: str) -> bytes:
    """Reads a file of a package."""
    with contextlib.closing(resource_stream(package_or_requirement, resource_name)) as stream:
        return stream.read()


def _resource(package: str, name: str) -> str:
    # The file of a module that isn't a package lies beside it.
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    folders = spec.submodule_search_locations or [os.path.dirname(spec.origin)]
    return os.path.join(next(iter(folders)), name)
