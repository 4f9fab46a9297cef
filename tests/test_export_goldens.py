"""What an export holds, against what the original wrote for the same model (goldens/record_exports.py)."""

import importlib.util
import json
import pathlib

import pytest
import tensorflow as tf

import tpuest

GOLDENS = pathlib.Path(__file__).parent / "goldens"


def load_record_module():
    spec = importlib.util.spec_from_file_location("record_exports", GOLDENS / "record_exports.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


record = load_record_module()
TF215 = json.loads((GOLDENS / "exports_tf215.json").read_text())


def as_json(value):
    return json.loads(json.dumps(value))


def test_every_case_has_a_golden_and_every_golden_a_case():
    assert sorted(TF215) == sorted(case.__name__ for case in record.CASES)


@pytest.mark.parametrize("case", record.CASES, ids=lambda case: case.__name__)
def test_export_holds_what_the_originals_holds(case, tmp_path):
    v1 = tf.compat.v1
    with tpuest.installed(), tf.Graph().as_default():
        path = case(v1, str(tmp_path))
        assert as_json(record.describe(v1, path)) == TF215[case.__name__]


@pytest.mark.parametrize("case", record.CASES, ids=lambda case: case.__name__)
def test_graph_for_cpu_has_nothing_of_a_tpu(case):
    """Holds of the goldens, and so of the exports."""
    graphs = [graph for graph in TF215[case.__name__]["graphs"] if "tpu" not in graph["tags"]]
    assert all(not graph["of_tpus"] for graph in graphs)
    assert all("TPU" not in device for graph in graphs for device in graph["devices"])
