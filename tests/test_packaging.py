"""What `pip install` brings, and what is said where TensorFlow is missing."""

import ast
import email
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tpuest"
MODULES = sorted(path.relative_to(ROOT) for path in PACKAGE.rglob("*.py"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Gives the path of the project's wheel, built from a copy: building leaves files in the tree."""
    directory = tmp_path_factory.mktemp("wheel")
    tree = directory / "tree"
    tree.mkdir()
    for name in ("setup.cfg", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("tpuest", "tests", "benchmarks"):
        shutil.copytree(
            ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.npz")
        )
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    (built,) = tree.glob("tpuest-*.whl")
    return built


@pytest.fixture(scope="module")
def requirements(wheel):
    """Gives extra to the names it brings; '' is what everyone gets."""
    with zipfile.ZipFile(wheel) as contents:
        (name,) = [name for name in contents.namelist() if name.endswith("/METADATA")]
        metadata = email.message_from_bytes(contents.read(name))
    found = {extra: set() for extra in ["", *metadata.get_all("Provides-Extra")]}
    for line in metadata.get_all("Requires-Dist"):
        requirement, _, marker = line.partition(";")
        extra = marker.rpartition("extra ==")[2].strip(" '\"") if "extra ==" in marker else ""
        found[extra].add(requirement.strip().split("<")[0].split(">")[0].split("=")[0].strip())
    return found


@pytest.fixture(scope="module")
def bare_python(wheel, tmp_path_factory):
    """Gives a Python that has tpuest and nothing else, not even pip."""
    directory = tmp_path_factory.mktemp("bare")
    command = [sys.executable, "-m", "venv", "--without-pip", str(directory)]
    subprocess.run(command, check=True)
    (site_packages,) = directory.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as contents:
        contents.extractall(site_packages)
    return directory / "bin" / "python"


def test_wheel_holds_every_module_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as contents:
        names = [name for name in contents.namelist() if ".dist-info/" not in name]
    assert sorted(names) == [module.as_posix() for module in MODULES]


def test_installing_brings_no_tensorflow(requirements):
    assert requirements[""] == {"absl-py", "numpy"}


def test_each_extra_brings_one_tensorflow_at_most(requirements):
    tensorflows = {"tensorflow", "tensorflow-cpu", "tensorflow-tpu"}
    assert requirements["tensorflow"] & tensorflows == {"tensorflow"}
    assert requirements["cpu"] & tensorflows == {"tensorflow-cpu"}
    assert requirements["tpu"] & tensorflows == {"tensorflow-tpu"}
    for extra in ("text", "check", "test"):
        assert not requirements[extra] & tensorflows


@pytest.mark.parametrize("module", ["tpuest", "tpuest.errors", "tpuest.examples.digits"])
def test_import_without_tensorflow_names_the_extras(bare_python, module):
    command = [str(bare_python), "-I", "-c", f"import {module}"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    (last_error,) = [
        line for line in child.stderr.splitlines() if line.startswith("ModuleNotFoundError")
    ]
    assert "tpuest needs TensorFlow 2.16 to 2.21, and none is installed" in last_error
    for extra in ("tensorflow", "cpu", "tpu"):
        assert f"pip install 'tpuest[{extra}]'" in child.stderr


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_private_tensorflow_is_imported_in_one_file_only(module):
    private = ("tensorflow.python", "tensorflow.core", "tensorflow._api")
    found = [name for name in imported_names(ROOT / module) if name.startswith(private)]
    assert not found or module.as_posix() == "tpuest/_tf.py"


def test_imports_between_modules_point_one_way():
    imports = {dotted(module): imports_at_start(module) for module in MODULES}
    settled = set()
    while imports.keys() - settled:
        free = {name for name in imports.keys() - settled if imports[name] <= settled}
        assert free, f"import each other: {sorted(imports.keys() - settled)}"
        settled |= free


def dotted(module):
    parts = module.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_at_start(module):
    """Gives which of the package's modules this one needs at its import; functions import later."""
    known = {dotted(other) for other in MODULES}
    names = set(imported_names(ROOT / module, in_functions=False)) & known
    # `from tpuest import errors` needs errors, not all that the door shows.
    packages = {name for name in names if any(other.startswith(name + ".") for other in names)}
    return names - packages - {dotted(module)}


def imported_names(path, in_functions=True):
    """Gives every `a.b` and `a.b.c` of `import a.b` and `from a.b import c`."""
    pending = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from ([node.module, *(f"{node.module}.{alias.name}" for alias in node.names)])
        if in_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            pending += ast.iter_child_nodes(node)
