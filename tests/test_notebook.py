"""The notebook for Colab runs here, on simulated cores, with the small model in place of the download."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "tpuest" / "examples" / "colab_bert.ipynb"
# It would start a server that outlives the notebook.
SKIPPED_TAG = "server"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Gives the cells of the notebook after all of them ran, and the directory where they did."""
    pytest.importorskip("nbconvert")
    pytest.importorskip("ipykernel")
    directory = tmp_path_factory.mktemp("notebook")
    # nbconvert runs a notebook in the directory where that lies.
    notebook = shutil.copy(NOTEBOOK, directory)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BERT_SOURCE": "", "HOME": str(directory)}
    environment.pop("TPUEST_SIMULATE_TPU", None)
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to=notebook", notebook]
    options = [
        "--output=executed.ipynb",
        "--TagRemovePreprocessor.enabled=True",
        f"--TagRemovePreprocessor.remove_cell_tags={SKIPPED_TAG}",
        "--ExecutePreprocessor.timeout=600",
    ]
    ended = subprocess.run(
        [*command, *options],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-5000:]
    return json.loads((directory / "executed.ipynb").read_text())["cells"], directory


def printed(cells):
    """Gives what the cells printed."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", [])) for output in outputs)


def test_small_model_is_trained_on_simulated_cores_by_the_command(executed):
    cells, directory = executed
    output = printed(cells)
    assert "would not run" in output and "8 simulated cores" in output
    assert "Running on 8 simulated TPU cores" in output
    assert list((directory / "output").glob("events*"))


def test_load_ext_makes_old_names_resolve(executed):
    cells, _ = executed
    assert "output/model.ckpt-64" in printed(cells[-1:])


def test_notebook_is_committed_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
