"""What `train_and_evaluate` exports after an evaluation: every model, the last one, or the best.

Takes an estimator and the result of its evaluation; gives the path of a SavedModel that
`estimator.export_saved_model` wrote, or `None` where there was nothing to export.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest import export_versions, reports, signatures
from tpuest.replica import LOSS

_COMPARED = ("best_eval_result", "current_eval_result")


class Exporter:
    """Exports a model of one kind; see `EvalSpec`."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The directory below `model_dir/export` that the exports go to; never empty."""

    @abc.abstractmethod
    def export(
        self,
        estimator: Any,
        export_path: str,
        checkpoint_path: str,
        eval_result: dict[str, Any],
        is_the_final_export: bool,
    ) -> Any:
        """Exports the estimator's model.

        Args:
          estimator: what to export.
          export_path: the directory to write to.
          checkpoint_path: the checkpoint to export.
          eval_result: what `Estimator.evaluate` gave for the checkpoint.
          is_the_final_export: whether training has ended; never, where `TrainSpec.max_steps` is `None`.

        Returns:
          The path of the export; `None` if there is none.
        """


class SavedModelExporter(Exporter):
    """Exports every model it is given as a SavedModel."""

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable,
        assets_extra: dict[str, str] | None = None,
        as_text: bool = False,
    ):
        """Makes an exporter.

        Args:
          name: of the directory below `model_dir/export`; each exporter needs its own.
          serving_input_receiver_fn: gives a `ServingInputReceiver`.
          assets_extra: path below the export's `assets.extra` to the path of the file to copy there.
          as_text: whether the SavedModel is written as text.
        """
        self._name = name
        self._serving_input_receiver_fn = serving_input_receiver_fn
        self._assets_extra = assets_extra
        self._as_text = as_text

    @property
    def name(self) -> str:
        return self._name

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export):
        return estimator.export_saved_model(
            export_path,
            self._serving_input_receiver_fn,
            assets_extra=self._assets_extra,
            as_text=self._as_text,
            checkpoint_path=checkpoint_path,
        )


class FinalExporter(SavedModelExporter):
    """Exports once, at the end of training."""

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export):
        if not is_the_final_export:
            return None
        tf.compat.v1.logging.info("Performing the final export in the end of training.")
        return super().export(
            estimator, export_path, checkpoint_path, eval_result, is_the_final_export
        )


class LatestExporter(SavedModelExporter):
    """Exports after every evaluation and keeps the newest exports."""

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable,
        assets_extra: dict[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
    ):
        """Makes an exporter.

        Args:
          name: see `SavedModelExporter`.
          serving_input_receiver_fn: see there.
          assets_extra: see there.
          as_text: see there.
          exports_to_keep: how many exports stay, older ones are deleted; `None` keeps all.

        Raises:
          ValueError: `exports_to_keep` isn't positive.
        """
        super().__init__(name, serving_input_receiver_fn, assets_extra, as_text)
        if exports_to_keep is not None and exports_to_keep <= 0:
            raise ValueError("`exports_to_keep`, if provided, must be positive number")
        self._exports_to_keep = exports_to_keep

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export):
        exported = super().export(
            estimator, export_path, checkpoint_path, eval_result, is_the_final_export
        )
        export_versions.delete_stale_exports(export_path, self._exports_to_keep)
        return exported


def loss_smaller(best_eval_result: dict[str, Any], current_eval_result: dict[str, Any]) -> bool:
    """Says whether the second result's loss is smaller.

    Raises:
      ValueError: a result has no loss.
    """
    results = {"best_eval_result": best_eval_result, "current_eval_result": current_eval_result}
    for name, result in results.items():
        if not result or LOSS not in result:
            raise ValueError(f"{name} cannot be empty or no loss is found in it.")
    return best_eval_result[LOSS] > current_eval_result[LOSS]


class BestExporter(Exporter):
    """Exports whenever a model is better than all before it, those of earlier runs included."""

    def __init__(
        self,
        name: str = "best_exporter",
        serving_input_receiver_fn: Callable | None = None,
        event_file_pattern: str | None = "eval/*.tfevents.*",
        compare_fn: Callable = loss_smaller,
        assets_extra: dict[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
    ):
        """Makes an exporter.

        Args:
          name: see `SavedModelExporter`.
          serving_input_receiver_fn: see there.
          event_file_pattern: of event files below `model_dir`, from which the best result of earlier runs is read;
            `None` forgets them.
          compare_fn: `compare_fn(best_eval_result, current_eval_result)` says whether the current one is better.
          assets_extra: see `SavedModelExporter`.
          as_text: see there.
          exports_to_keep: how many exports stay, older ones are deleted; `None` keeps all.

        Raises:
          ValueError: `compare_fn` is missing or has other arguments, or `exports_to_keep` isn't positive.
        """
        _check_compare_fn(compare_fn)
        if exports_to_keep is not None and exports_to_keep <= 0:
            raise ValueError(
                f"`exports_to_keep`, if provided, must be a positive number. Got {exports_to_keep}"
            )
        self._compare_fn = compare_fn
        self._exporter = SavedModelExporter(name, serving_input_receiver_fn, assets_extra, as_text)
        self._event_file_pattern = event_file_pattern
        self._exports_to_keep = exports_to_keep
        self._model_dir: str | None = None
        self._best: dict[str, Any] | None = None
        self._has_exported = False

    @property
    def name(self) -> str:
        return self._exporter.name

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export):
        if self._model_dir != estimator.model_dir and self._event_file_pattern:
            tf.compat.v1.logging.info("Loading best metric from event files.")
            self._model_dir = estimator.model_dir
            self._best = self._read_best(os.path.join(self._model_dir, self._event_file_pattern))
        if not self._is_better(eval_result):
            return None
        tf.compat.v1.logging.info("Performing best model export.")
        self._best = eval_result
        exported = self._exporter.export(
            estimator, export_path, checkpoint_path, eval_result, is_the_final_export
        )
        export_versions.delete_stale_exports(export_path, self._exports_to_keep)
        self._has_exported = True
        return exported

    def _is_better(self, eval_result: dict[str, Any]) -> bool:
        """Says whether to export; the first model always is, as the original does."""
        if self._best is None or not self._has_exported:
            return True
        return self._compare_fn(best_eval_result=self._best, current_eval_result=eval_result)

    def _read_best(self, pattern: str) -> dict[str, Any] | None:
        best = None
        for _, result in reports.read_results(pattern):
            if best is None or self._compare_fn(best_eval_result=best, current_eval_result=result):
                best = result
        return best


def _check_compare_fn(compare_fn: Any) -> None:
    if compare_fn is None:
        raise ValueError("`compare_fn` must not be None.")
    declared = set(signatures.declared_arguments(compare_fn))
    for name in _COMPARED:
        if name not in declared:
            raise ValueError(f"compare_fn ({compare_fn}) must include {name} argument.")
    unexpected = sorted(declared.difference(_COMPARED))
    if unexpected:
        raise ValueError(f"compare_fn ({compare_fn}) has following not expected args: {unexpected}")
