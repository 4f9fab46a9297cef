"""`pkg_resources` can be imported by programs that need it, where setuptools no longer has it."""

import importlib
import sys

import pytest

from tpuest.compat import package_resources, python_names


@pytest.fixture
def gone_module(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setitem(python_names._STAND_INS, "gone_module", package_resources.__name__)
    python_names.restore_modules()
    python_names.restore_modules()
    yield importlib.import_module("gone_module")
    del sys.modules["gone_module"]


def test_gone_module_is_served_by_its_stand_in(gone_module):
    assert gone_module.parse_version("1.15.5") < gone_module.parse_version("2.0.0rc1")
    assert sys.meta_path.count(python_names._GoneModules) == 1


def test_other_missing_modules_stay_missing(gone_module):
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_module_of_that_name")


def test_installed_packages_are_found(gone_module):
    assert gone_module.get_distribution("numpy").version
    with pytest.raises(gone_module.DistributionNotFound):
        gone_module.get_distribution("no-package-of-that-name")


def test_files_of_packages_are_read(gone_module):
    assert gone_module.resource_exists("tpuest", "compat")
    assert gone_module.resource_isdir("tpuest", "compat")
    assert "table.py" in gone_module.resource_listdir("tpuest", "compat")
    text = gone_module.resource_string("tpuest.compat.package_resources", "table.py")
    assert text.startswith(b'"""Old names')
    assert gone_module.resource_string("tpuest.compat", "table.py") == text
    with pytest.raises(ModuleNotFoundError, match="no_package"):
        gone_module.resource_filename("no_package", "file")
