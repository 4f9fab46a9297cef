"""Exporters: when they export, and which exports they keep."""

import os

import pytest
import tensorflow as tf

from tpuest import BestExporter, FinalExporter, LatestExporter, reports


class Estimator:
    """Writes an empty directory for each export."""

    def __init__(self, model_dir):
        self.model_dir = str(model_dir)
        self.exports = []

    def export_saved_model(
        self, export_path, receiver_fn, assets_extra=None, as_text=False, checkpoint_path=None
    ):
        assert receiver_fn is receiver
        assert (assets_extra, as_text) == ({"a": "b"}, True)
        name = str(1_500_000_000 + len(self.exports))
        self.exports.append(checkpoint_path)
        os.makedirs(os.path.join(export_path, name))
        return os.path.join(export_path, name)


def receiver():
    """Stands for a serving_input_receiver_fn."""


OPTIONS = {"serving_input_receiver_fn": receiver, "assets_extra": {"a": "b"}, "as_text": True}


@pytest.fixture
def estimator(tmp_path):
    return Estimator(tmp_path)


def export(exporter, estimator, losses, final=False):
    """Exports a model of each loss; says which were exported."""
    path = os.path.join(estimator.model_dir, "export", exporter.name)
    return [
        exporter.export(estimator, path, f"checkpoint {loss}", {"loss": loss}, final) is not None
        for loss in losses
    ]


def kept(estimator, exporter):
    path = os.path.join(estimator.model_dir, "export", exporter.name)
    return sorted(int(name) - 1_500_000_000 for name in os.listdir(path) if name.isdigit())


def test_final_exporter_exports_at_the_end_only(estimator):
    exporter = FinalExporter("final", **OPTIONS)
    assert export(exporter, estimator, [3, 2]) == [False, False]
    assert export(exporter, estimator, [1], final=True) == [True]
    assert estimator.exports == ["checkpoint 1"]


def test_latest_exporter_keeps_the_newest(estimator):
    exporter = LatestExporter("latest", **OPTIONS, exports_to_keep=2)
    assert export(exporter, estimator, [1, 2, 3, 4]) == [True] * 4
    assert kept(estimator, exporter) == [2, 3]


def test_nothing_is_deleted_that_is_no_export(estimator):
    exporter = LatestExporter("latest", **OPTIONS, exports_to_keep=1)
    export(exporter, estimator, [1])
    directory = os.path.join(estimator.model_dir, "export", "latest")
    others = ["1500", "temp-1500000000", "notes"]
    for name in others:
        os.mkdir(os.path.join(directory, name))
    export(exporter, estimator, [2])
    assert sorted(os.listdir(directory)) == sorted([*others, "1500000001"])


def test_latest_exporter_keeps_all_without_a_number(estimator):
    exporter = LatestExporter("latest", **OPTIONS, exports_to_keep=None)
    export(exporter, estimator, range(7))
    assert kept(estimator, exporter) == list(range(7))


def test_best_exporter_exports_what_is_better(estimator):
    exporter = BestExporter(**OPTIONS, exports_to_keep=2)
    assert exporter.name == "best_exporter"
    assert export(exporter, estimator, [5, 6, 4, 4, 3]) == [True, False, True, False, True]
    assert kept(estimator, exporter) == [1, 2]


def test_best_exporter_compares_by_the_users_function(estimator):
    def higher(best_eval_result, current_eval_result):
        return current_eval_result["loss"] > best_eval_result["loss"]

    exporter = BestExporter(**OPTIONS, compare_fn=higher)
    assert export(exporter, estimator, [5, 6, 4, 7]) == [True, True, False, True]


def test_best_exporter_reads_the_results_of_an_earlier_run(estimator, tmp_path):
    compared = []

    def lower(best_eval_result, current_eval_result):
        compared.append((best_eval_result["loss"], current_eval_result["loss"]))
        return current_eval_result["loss"] < best_eval_result["loss"]

    for step, loss in enumerate([4.0, 2.0, 3.0]):
        reports.write_results(str(tmp_path / "eval"), {"loss": loss}, step)
    exporter = BestExporter(**OPTIONS, compare_fn=lower)
    # The first model of a run is exported whatever it is, as by the original.
    assert export(exporter, estimator, [1.0, 2.5, 0.5]) == [True, False, True]
    assert compared == [(4.0, 2.0), (2.0, 3.0), (1.0, 2.5), (1.0, 0.5)]


def test_a_damaged_event_file_ends_where_it_is_damaged(estimator, tmp_path):
    reports.write_results(str(tmp_path / "eval"), {"loss": 2.0}, 1)
    ((path),) = tf.io.gfile.glob(str(tmp_path / "eval" / "*"))
    with open(path, "ab") as file:
        file.write(b"the half of an event")
    assert [result for _, result in reports.read_results(path)] == [{"loss": 2.0}]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LatestExporter("latest", receiver, exports_to_keep=0), "must be positive number"),
        (lambda: BestExporter(exports_to_keep=0), "must be a positive number"),
        (lambda: BestExporter(compare_fn=None), "`compare_fn` must not be None"),
        (
            lambda: BestExporter(compare_fn=lambda best_eval_result: True),
            "must include current_eval_result argument",
        ),
        (
            lambda: BestExporter(
                compare_fn=lambda best_eval_result, current_eval_result, other: True
            ),
            "has following not expected args",
        ),
    ],
)
def test_a_wrong_argument_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
