"""`TPUEstimator`: an `Estimator` on TPU cores, which tells each function its part of the global batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf, arguments, export, signatures, tpu_inference
from tpuest import hooks as own_hooks
from tpuest.config import RunConfig, parse_iterations_per_loop
from tpuest.embeddings import Embeddings, check_is_possible
from tpuest.estimator import Estimator
from tpuest.replica import ModelCall, Program
from tpuest.run_context import RunContext
from tpuest.spec import ExportSavedModelApiVersion, ModeKeys, WarmStartSettings
from tpuest.topology import BatchSizes, Topology, find_batch_sizes, find_topology

# Not 'use_tpu': programs pass it themselves, and `model_fn` gets the run's.
RESERVED_PARAMS = ["batch_size", "context"]
# What an export for TPUs is called where other modes have their name.
INFERENCE_ON_TPU = "_inference_on_tpu"


class TPUEstimator(Estimator):
    """Trains, evaluates and predicts with a `model_fn` on TPU cores, or on CPU or GPU.

    `params['batch_size']` tells `input_fn` and `model_fn` their part of the global batch:

        estimator = TPUEstimator(model_fn, config=RunConfig(...), train_batch_size=1024)
        estimator.train(input_fn, steps=1000)        # 8 cores: model_fn sees 128 examples
    """

    def __init__(
        self,
        model_fn: Callable | None = None,
        model_dir: str | None = None,
        config: RunConfig | None = None,
        params: dict | None = None,
        use_tpu: bool = True,
        train_batch_size: int | None = None,
        eval_batch_size: int | None = None,
        predict_batch_size: int | None = None,
        batch_axis: Sequence[int] | None = None,
        eval_on_tpu: bool = True,
        export_to_tpu: bool = True,
        export_to_cpu: bool = True,
        warm_start_from: str | WarmStartSettings | None = None,
        embedding_config_spec: Any = None,
        export_saved_model_api_version: Any = ExportSavedModelApiVersion.V1,
    ):
        """Makes an estimator; nothing runs and no TPU is looked for yet.

        Args:
          model_fn: `model_fn(features, labels, mode, params, config)`, or the subset it declares; returns a
            `TPUEstimatorSpec`.
          model_dir: see `Estimator`.
          config: a TPU `RunConfig`; with `use_tpu=False` a plain one will do.
          params: hyper-parameters for `input_fn` and `model_fn`, without 'batch_size', 'context' and 'use_tpu'.
          use_tpu: whether to run on TPU cores.
          train_batch_size: global batch size of training, in examples; divisible by the number of replicas.
          eval_batch_size: the same of evaluation.
          predict_batch_size: the same of prediction.
          batch_axis: for each tensor of `input_fn`, flattened, the axis along which cores share it; `None` is axis 0.
          eval_on_tpu: whether evaluation runs on the cores.
          export_to_tpu: whether `export_saved_model` writes a graph for TPUs.
          export_to_cpu: whether it writes one for CPU and GPU.
          warm_start_from: see `Estimator`.
          embedding_config_spec: an `EmbeddingConfigSpec`: tables that are looked up before a core's step and updated by
            an optimizer of their own; without a TPU the columns' tables are variables of the model.
          export_saved_model_api_version: 1 or 2.

        Raises:
          ValueError: an argument is missing, reserved or out of range.
          TypeError: a batch size isn't an integer.
        """
        config = arguments.as_tpu_config(config, use_tpu)
        reserved = [key for key in RESERVED_PARAMS if params and key in params]
        if reserved:
            raise ValueError(f"{RESERVED_PARAMS} are reserved keys but existed in params {params}.")
        self._sizes = {
            ModeKeys.TRAIN: train_batch_size,
            ModeKeys.EVAL: eval_batch_size,
            ModeKeys.PREDICT: predict_batch_size,
        }
        if use_tpu:
            arguments.check_batch_sizes(train_batch_size, eval_batch_size, predict_batch_size)
            arguments.check_model_parallelism(config.tpu_config)
        arguments.check_embeddings(embedding_config_spec, config.tpu_config, use_tpu)
        self._embeddings = (
            None if embedding_config_spec is None else Embeddings.of(embedding_config_spec, use_tpu)
        )
        if export_saved_model_api_version not in (*ExportSavedModelApiVersion, 1, 2):
            raise ValueError(
                f"export_saved_model_api_version should be 1 or 2; got {export_saved_model_api_version}."
            )
        self._use_tpu = use_tpu
        self._eval_on_tpu = eval_on_tpu
        self._axes = batch_axis
        self._export_to_tpu = export_to_tpu
        self._export_to_cpu = export_to_cpu
        self._api_version = ExportSavedModelApiVersion(export_saved_model_api_version)
        super().__init__(model_fn, model_dir, config, params, warm_start_from)
        self._iterations_setting = parse_iterations_per_loop(config.tpu_config.iterations_per_loop)

    def _train(self, input_fn, hooks, steps, max_steps, listeners):
        if self._topology(ModeKeys.TRAIN).on_cores and steps is None and max_steps is None:
            tf.compat.v1.logging.info(
                "Neither `steps` nor `max_steps` is set: training until the data ends."
            )
        return super()._train(input_fn, hooks, steps, max_steps, listeners)

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
        if self._export_to_tpu and mode != ModeKeys.PREDICT:
            tf.compat.v1.logging.warn(
                "TPUEstimator only handles mode PREDICT for exporting when `export_to_tpu` is "
                "`True`; Mode %s will be ignored for TPU.",
                mode,
            )
        if not self._export_to_cpu and not self._export_to_tpu:
            raise ValueError("One of export_to_cpu and export_to_tpu must be true.")
        if self._export_to_cpu:
            super()._add_meta_graph_for_mode(
                builder,
                input_receiver_fn_map,
                checkpoint_path,
                save_variables,
                mode,
                export_tags,
                check_variables,
                strip_default_attrs,
            )
        if self._export_to_tpu and mode == ModeKeys.PREDICT:
            is_first = not self._export_to_cpu
            super()._add_meta_graph_for_mode(
                builder,
                {INFERENCE_ON_TPU: input_receiver_fn_map[mode]},
                checkpoint_path,
                save_variables=is_first,
                mode=INFERENCE_ON_TPU,
                export_tags=[tf.saved_model.SERVING, tf.saved_model.TPU],
                check_variables=is_first,
                strip_default_attrs=strip_default_attrs,
            )

    def _spec_for_export(self, features: Any, labels: Any, mode: str, config: Any) -> Any:
        """Calls `model_fn`; for a TPU, V1 wraps all of it, and V2 has it wrap itself."""
        if mode != INFERENCE_ON_TPU:
            with tf.compat.v1.device(export.without_tpu_devices):
                return self._call_with_use_tpu(features, labels, mode, config, use_tpu=False)
        with _tf.tpu_inference_context():
            if self._api_version == ExportSavedModelApiVersion.V2:
                return self._call_with_use_tpu(
                    features, labels, ModeKeys.PREDICT, config, use_tpu=True
                )
            on_host = functools.partial(self._call_with_use_tpu, use_tpu=False)
            return tpu_inference.model_fn_inference_on_tpu(on_host, features, labels, config)

    def _call_with_use_tpu(self, features, labels, mode, config, use_tpu):
        params = self.params
        signatures.add_param(params, "use_tpu", use_tpu)
        return signatures.call_model_fn(
            self._model_fn,
            features=features,
            labels=labels,
            mode=mode,
            config=config,
            params=params,
        )

    @property
    def _ctx(self) -> RunContext:
        """Tells where a mode would run; programs reach for it by this name."""
        return RunContext(self._config, self._topology, self._batch_sizes)

    @property
    def has_embeddings(self) -> bool:
        """Whether tables beside the model are looked up for the cores."""
        return self._embeddings is not None

    def wants_cores(self, mode: str) -> bool:
        return self._use_tpu and (mode != ModeKeys.EVAL or self._eval_on_tpu)

    def _topology(self, mode: str) -> Topology:
        return find_topology(self._config, self.wants_cores(mode), mode)

    def _batch_sizes(self, mode: str, topology: Topology) -> BatchSizes:
        return find_batch_sizes(mode, self._config.tpu_config, topology, self._sizes[mode])

    def _batch_axis(self) -> Any:
        return self._axes

    def _model_call(self, mode: str, topology: Topology, batch_sizes: BatchSizes) -> ModelCall:
        tf.compat.v1.logging.info(
            "Running %s on %s", mode, "TPU cores" if topology.on_cores else "CPU/GPU"
        )
        return ModelCall(
            self._model_fn,
            mode,
            self._config,
            self._params,
            topology,
            batch_sizes,
            embeddings=self._embeddings_on(topology),
        )

    def _embeddings_on(self, topology: Topology) -> Embeddings | None:
        if self._embeddings is None or not topology.on_cores:
            return None
        check_is_possible(topology)
        return self._embeddings

    def _iterations(self, topology: Topology) -> own_hooks.IterationsPerLoop | None:
        return own_hooks.IterationsPerLoop(self._iterations_setting) if topology.on_cores else None

    def _host_every(self, program: Program) -> int:
        on_cores = program.topology.on_cores
        return self._config.tpu_config.experimental_host_call_every_n_steps if on_cores else 1

    def _log_period(self) -> own_hooks.LogPeriod:
        size = self._sizes[ModeKeys.TRAIN]
        if self._iterations_setting.unit == "seconds":
            return own_hooks.LogPeriod(None, self._iterations_setting.value, size)
        return own_hooks.LogPeriod(self._config.log_step_count_steps, None, size)


def export_estimator_savedmodel(
    estimator: Estimator,
    export_dir_base: str,
    serving_input_receiver_fn: Callable,
    assets_extra: dict[str, str] | None = None,
    as_text: bool = False,
    checkpoint_path: str | None = None,
) -> bytes:
    """Exports the model of an `Estimator` for TPUs and CPU.

    Args:
      estimator: whose newest checkpoint and `model_fn` are exported.
      export_dir_base: see `Estimator.export_saved_model`.
      serving_input_receiver_fn: see `Estimator.export_saved_model`.
      assets_extra: see `Estimator.export_saved_model`.
      as_text: see `Estimator.export_saved_model`.
      checkpoint_path: see `Estimator.export_saved_model`.
    """
    exporting = TPUEstimator(
        estimator._model_fn,
        config=RunConfig(model_dir=estimator.model_dir),
        params=estimator.params,
        train_batch_size=2048,  # Asked for, and not used.
        eval_batch_size=2048,
    )
    return exporting.export_saved_model(
        export_dir_base, serving_input_receiver_fn, assets_extra, as_text, checkpoint_path
    )
