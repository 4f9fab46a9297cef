"""The methods of an estimator that write SavedModels.

Takes an estimator's `model_fn` and checkpoints; has `export` write them:

    with a fresh TF 1 graph for each mode:
      receiver = receiver_fn()
      spec     = model_fn(receiver.features, receiver.labels, mode)
      export.add_meta_graph(receiver, spec)
"""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tpuest import checkpoint, export
from tpuest.compat import trace
from tpuest.spec import EstimatorSpec, ModeKeys, TPUEstimatorSpec, WarmStartSettings


class SavedModelExports:
    """What `Estimator` does besides training, evaluating and predicting."""

    model_dir: str
    config: Any
    model_fn: Callable
    _warm_start: WarmStartSettings | None

    @abstractmethod
    def latest_checkpoint(self) -> str | None:
        """Finds the newest checkpoint in `model_dir`."""

    @abstractmethod
    def _new_graph(self) -> contextlib.AbstractContextManager:
        """Opens a TF 1 graph with its seed and global step."""

    def export_saved_model(
        self,
        export_dir_base: str,
        serving_input_receiver_fn: Callable,
        assets_extra: dict[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
        experimental_mode: str = ModeKeys.PREDICT,
    ) -> bytes:
        """Writes a SavedModel into a new directory, named by the second, below `export_dir_base`.

        Args:
          export_dir_base: where exports go.
          serving_input_receiver_fn: gives a `ServingInputReceiver` or `TensorServingInputReceiver`; for another mode a
            `SupervisedInputReceiver`.
          assets_extra: path below the model's assets.extra to the file that is copied there.
          as_text: whether saved_model is written as text.
          checkpoint_path: whose variables; `None` is the newest checkpoint.
          experimental_mode: which of the model's modes.

        Returns:
          The directory's path; it appears once it is whole.

        Raises:
          ValueError: there is no `serving_input_receiver_fn`, no checkpoint, or it lacks a variable.
        """
        if not serving_input_receiver_fn:
            raise ValueError("An input_receiver_fn must be defined.")
        return self._export(
            export_dir_base,
            {experimental_mode: serving_input_receiver_fn},
            assets_extra,
            as_text,
            checkpoint_path,
        )

    def export_savedmodel(
        self,
        export_dir_base: str,
        serving_input_receiver_fn: Callable,
        assets_extra: dict[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
        strip_default_attrs: bool = False,
    ) -> bytes:
        """Is the old name of `export_saved_model`.

        Args:
          export_dir_base: see `export_saved_model`.
          serving_input_receiver_fn: see `export_saved_model`.
          assets_extra: see `export_saved_model`.
          as_text: see `export_saved_model`.
          checkpoint_path: see `export_saved_model`.
          strip_default_attrs: whether attributes with default values are left out, so that older TensorFlow can load
            the model.
        """
        tf.compat.v1.logging.warn(
            "export_savedmodel: This function has been renamed, use `export_saved_model` instead."
        )
        if not serving_input_receiver_fn:
            raise ValueError("An input_receiver_fn must be defined.")
        return self._export(
            export_dir_base,
            {ModeKeys.PREDICT: serving_input_receiver_fn},
            assets_extra,
            as_text,
            checkpoint_path,
            strip_default_attrs,
        )

    def experimental_export_all_saved_models(
        self,
        export_dir_base: str,
        input_receiver_fn_map: dict[str, Callable],
        assets_extra: dict[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
    ) -> bytes:
        """Writes a SavedModel with a graph for each mode, all on one set of variables.

        Args:
          export_dir_base: see `export_saved_model`.
          input_receiver_fn_map: a `ModeKeys` to its receiver function. Of TRAIN, EVAL and PREDICT, the first one there
            says which variables are saved.
          assets_extra: see `export_saved_model`.
          as_text: see `export_saved_model`.
          checkpoint_path: see `export_saved_model`.

        Raises:
          ValueError: no mode has a receiver function, there is no checkpoint, or it lacks a variable.
        """
        return self._export(
            export_dir_base, input_receiver_fn_map, assets_extra, as_text, checkpoint_path
        )

    def _export(
        self,
        export_dir_base: str,
        input_receiver_fn_map: dict[str, Callable],
        assets_extra: dict[str, str] | None,
        as_text: bool,
        checkpoint_path: str | None,
        strip_default_attrs: bool = True,
    ) -> bytes:
        path = os.fspath(checkpoint_path or self._checkpoint_to_export())
        modes = [
            mode
            for mode in (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT)
            if input_receiver_fn_map.get(mode)
        ]
        if not modes:
            raise ValueError(
                f"No valid modes for exporting found. Got {input_receiver_fn_map.keys()}."
            )
        with export.new_version(export_dir_base) as version:
            builder = tf.compat.v1.saved_model.Builder(version.directory)
            for mode in modes:
                self._add_meta_graph_for_mode(
                    builder,
                    input_receiver_fn_map,
                    path,
                    save_variables=mode == modes[0],
                    mode=mode,
                    strip_default_attrs=strip_default_attrs,
                )
            if not tf.io.gfile.listdir(version.directory):
                raise ValueError(f"There is no graph to export in {modes} for TPU alone.")
            builder.save(as_text)
            export.copy_extra_assets(version.directory, assets_extra)
        return version.path

    def _add_meta_graph_for_mode(
        self,
        builder: Any,
        input_receiver_fn_map: dict[str, Callable],
        checkpoint_path: str,
        save_variables: bool = True,
        mode: str = ModeKeys.PREDICT,
        export_tags: list[str] | None = None,
        check_variables: bool = True,
        strip_default_attrs: bool = True,
    ) -> None:
        """Adds one mode's graph to a SavedModel. Programs override it, so it is called as the original's was."""
        meta_graph = export.MetaGraph(
            tags=export_tags or export.EXPORT_TAG_MAP[mode],
            checkpoint_path=checkpoint_path,
            saves_variables=save_variables,
            checks_variables=check_variables,
            strip_default_attrs=strip_default_attrs,
            serving_only=mode == ModeKeys.PREDICT,
        )
        with self._new_graph():
            receiver = input_receiver_fn_map[mode]()
            if not hasattr(receiver, "features"):
                raise TypeError(
                    f"The input_receiver_fn must return a ServingInputReceiver or its like, given: {receiver}"
                )
            labels = getattr(receiver, "labels", None)
            with trace.model_fn_scope(None):
                spec = self._call_model_fn(receiver.features, labels, mode, self.config)
                export.add_meta_graph(builder, meta_graph, receiver, spec)

    def _call_model_fn(self, features: Any, labels: Any, mode: str, config: Any) -> EstimatorSpec:
        """Calls `model_fn` for an export, outside the engine."""
        spec = self._spec_for_export(features, labels, mode, config)
        if isinstance(spec, TPUEstimatorSpec):
            return spec.as_estimator_spec()
        if not isinstance(spec, EstimatorSpec):
            raise ValueError("model_fn should return an EstimatorSpec.")
        return spec

    def _spec_for_export(self, features: Any, labels: Any, mode: str, config: Any) -> Any:
        with tf.compat.v1.device(export.without_tpu_devices):
            return self.model_fn(features, labels, mode, config)

    def _checkpoint_to_export(self) -> str:
        path = self.latest_checkpoint()
        if path is None and self._warm_start:
            path = self._warm_start.ckpt_to_initialize_from
            if tf.io.gfile.isdir(path):
                path = checkpoint.latest_checkpoint(path)
        if path is None:
            raise ValueError(f"Couldn't find trained model at {self.model_dir}.")
        return path
