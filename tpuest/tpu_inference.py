"""Wraps a model for serving on a TPU.

Takes a function that builds a model; gives the tensors of one call that a TPU's cores serve in turn:

    TPUPartitionedCall(TPUOrdinalSelector(), tpu.rewrite(model))           what BatchConfig asks for, around it

Only TensorFlow's graph is built; it needs no TPU. The graph is that of `tpu_estimator.py` in tensorflow-estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf, signatures
from tpuest.export_output import (
    ClassificationOutput,
    ExportOutput,
    PredictOutput,
    RegressionOutput,
)
from tpuest.spec import BatchConfig, EstimatorSpec, ModeKeys, TPUEstimatorSpec


def inference_on_tpu(
    computation: Callable,
    inputs_to_tpu: Sequence[tf.Tensor],
    num_batch_threads: int,
    max_batch_size: int | None,
    batch_timeout_micros: int,
    allowed_batch_sizes: Sequence[int] | None = None,
    max_enqueued_batches: int = 100,
) -> list[tf.Tensor]:
    """Has a TPU compute a part of a served model, for `ExportSavedModelApiVersion.V2`.

    Args:
      computation: builds the part from the inputs; gives tensors.
      inputs_to_tpu: tensors.
      num_batch_threads: see `BatchConfig`.
      max_batch_size: see `BatchConfig`; `None` or 0 for no batching.
      batch_timeout_micros: see `BatchConfig`.
      allowed_batch_sizes: see `BatchConfig`.
      max_enqueued_batches: see `BatchConfig`.

    Returns:
      The part's tensors; those of the computation itself where a core runs the model already.
    """
    if _is_on_core():
        outputs = computation(*inputs_to_tpu)
        return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
    batch_config = None
    if max_batch_size:
        batch_config = BatchConfig(
            num_batch_threads,
            max_batch_size,
            batch_timeout_micros,
            allowed_batch_sizes,
            max_enqueued_batches,
        )
    return call_computation(
        list(inputs_to_tpu), lambda inputs: _rewritten(computation, inputs), batch_config
    )


def model_fn_inference_on_tpu(
    model_fn: Callable,
    features: Any,
    labels: Any = None,
    config: Any = None,
    params: Any = None,
    batch_config: BatchConfig | None = None,
) -> EstimatorSpec | TPUEstimatorSpec:
    """Has a TPU compute all that `model_fn` predicts, for `ExportSavedModelApiVersion.V2`.

    Args:
      model_fn: called for prediction, with the arguments it declares.
      features: a tensor or a dict of them, none sparse.
      labels: passed on.
      config: passed on.
      params: passed on.
      batch_config: how requests are batched; `None` for not at all.

    Returns:
      What `model_fn` answered, with tensors that the TPU gives; where a core runs the model already, the answer itself.

    Raises:
      ValueError: an export output is none that TensorFlow Serving knows.
    """

    def call(inputs: Any) -> Any:
        return signatures.call_model_fn(
            model_fn,
            features=inputs,
            labels=labels,
            mode=ModeKeys.PREDICT,
            config=config,
            params=params,
        )

    if _is_on_core():
        return call(features)
    answered = []

    def answer(inputs: Any) -> list[tf.Tensor]:
        # Brings them into the function, where `model_fn` may answer with them as they are.
        inputs = tf.nest.map_structure(tf.identity, inputs)

        def outputs() -> list[tf.Tensor]:
            answered.append(call(inputs))
            return [t for t in tf.nest.flatten(_tensors_of(answered[-1])) if t is not None]

        return _rewritten(outputs, [])

    tensors = iter(call_computation(features, answer, batch_config))
    spec = answered[-1]
    outside = tf.nest.map_structure(
        lambda tensor: None if tensor is None else next(tensors), _tensors_of(spec)
    )
    return _with_tensors(spec, *outside)


def call_computation(
    computation_inputs: Any, computation: Callable, batch_config: BatchConfig | None = None
) -> list[tf.Tensor]:
    """Builds the call of a TPU's next core.

    Args:
      computation_inputs: a tensor, or nested ones.
      computation: builds the rewritten model from the inputs; gives a list of tensors.
      batch_config: how requests are batched; `None` for not at all.

    Returns:
      The tensors of the call.
    """

    def partitioned_call(inputs: Any) -> list[tf.Tensor]:
        # Variables are passed by their handles: the TPU keeps copies of them.
        @_tf.Defun(capture_resource_var_by_value=False)
        def tpu_subgraph():
            return computation(inputs)

        return tf.raw_ops.TPUPartitionedCall(
            args=tpu_subgraph.captured_inputs,
            device_ordinal=tf.raw_ops.TPUOrdinalSelector(),
            Tout=[output.type for output in tpu_subgraph.definition.signature.output_arg],
            f=tpu_subgraph,
        )

    if batch_config is None:
        return partitioned_call(computation_inputs)

    @tf.nondifferentiable_batch_function(**batch_config._asdict(), autograph=False)
    def batched_tpu_computation(*flat_inputs):
        return partitioned_call(tf.nest.pack_sequence_as(computation_inputs, flat_inputs))

    return batched_tpu_computation(*tf.nest.flatten(computation_inputs))


def export_output_to_tensors(export_output: ExportOutput) -> list[tf.Tensor | None]:
    """Lists the tensors of an output.

    Raises:
      ValueError: it is none that TensorFlow Serving knows.
    """
    if isinstance(export_output, ClassificationOutput):
        return [export_output.scores, export_output.classes]
    if isinstance(export_output, RegressionOutput):
        return [export_output.value]
    if isinstance(export_output, PredictOutput):
        return list(export_output.outputs.values())
    raise _unknown_output(export_output)


def clone_export_output_with_tensors(
    export_output: ExportOutput, tensors: Sequence[tf.Tensor | None]
) -> ExportOutput:
    """Gives an output like this one, of other tensors.

    Args:
      export_output: a `ClassificationOutput`, `RegressionOutput` or `PredictOutput`.
      tensors: as `export_output_to_tensors` lists them.

    Raises:
      ValueError: it is none of these, or has another number of tensors.
    """
    count = len(export_output_to_tensors(export_output))
    if len(tensors) != count:
        raise ValueError(f"tensors must be of length {count}; got {len(tensors)}.")
    if isinstance(export_output, PredictOutput):
        return PredictOutput(dict(zip(export_output.outputs, tensors)))
    if isinstance(export_output, RegressionOutput):
        return RegressionOutput(*tensors)
    return ClassificationOutput(*tensors)


def _unknown_output(export_output: Any) -> ValueError:
    return ValueError(
        "`export_output` must be have type `ClassificationOutput`, `RegressionOutput`, or "
        f"`PredictOutput`; got {export_output}."
    )


def _is_on_core() -> bool:
    """Says whether `model_fn` is being built for cores, where there is nothing left to wrap."""
    return _tf.number_of_shards() is not None


def _rewritten(computation: Callable, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    outputs = _tf.tpu.rewrite(computation, list(inputs))
    _tf.tpu.prune_unconnected_ops_from_xla(tf.compat.v1.get_default_graph())
    return list(outputs)


def _tensors_of(spec: EstimatorSpec | TPUEstimatorSpec) -> tuple:
    """Gives the nested tensors that are served: predictions, and each export output's."""
    outputs = {
        name: export_output_to_tensors(output) for name, output in spec.export_outputs.items()
    }
    return spec.predictions, outputs


def _with_tensors(spec: Any, predictions: Any, tensors: dict[str, list]) -> Any:
    outputs = {
        name: clone_export_output_with_tensors(output, tensors[name])
        for name, output in spec.export_outputs.items()
    }
    # The rest stayed inside the call, where nothing else reaches it.
    inside = dict.fromkeys({"loss", "train_op", "eval_metrics", "eval_metric_ops", "host_call"})
    kept = {name: None for name in inside if name in spec._fields}
    return spec._replace(**kept, predictions=predictions, export_outputs=outputs)
