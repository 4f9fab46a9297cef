"""TPUEstimator on TensorFlow 2.

    from tpuest import RunConfig, TPUConfig, TPUEstimator, TPUEstimatorSpec

The names are the original's, letter for letter. `install()` makes the old spellings resolve too.
Names are imported when they are used: the `tpuest` command starts without loading TensorFlow.
"""

import importlib as _importlib
import importlib.util as _importlib_util
import os as _os
import sys as _sys

# `tpuest --doctor` must tell what is missing: only as a command may this load without TensorFlow.
_IS_COMMAND = _os.path.basename(_sys.argv[0] if _sys.argv else "") in ("-m", "tpuest")
if not _IS_COMMAND and _importlib_util.find_spec("tensorflow") is None:
    from tpuest import errors as _errors

    raise _errors.missing_tensorflow()

_HOMES = {
    "BatchConfig": "tpuest.spec",
    "BestExporter": "tpuest.exporters",
    "ClassificationOutput": "tpuest.export_output",
    "CrossShardOptimizer": "tpuest.compat.tpu",
    "Estimator": "tpuest.estimator",
    "EstimatorSpec": "tpuest.spec",
    "EvalOutput": "tpuest.export_output",
    "EvalSpec": "tpuest.training",
    "ExportOutput": "tpuest.export_output",
    "ExportSavedModelApiVersion": "tpuest.spec",
    "Exporter": "tpuest.exporters",
    "FinalExporter": "tpuest.exporters",
    "InMemoryEvaluatorHook": "tpuest.in_memory_evaluation",
    "InputPipelineConfig": "tpuest.config",
    "LatestExporter": "tpuest.exporters",
    "ModeKeys": "tpuest.spec",
    "PredictOutput": "tpuest.export_output",
    "RegressionOutput": "tpuest.export_output",
    "RunConfig": "tpuest.config",
    "ServingInputReceiver": "tpuest.receivers",
    "SupervisedInputReceiver": "tpuest.receivers",
    "TPUConfig": "tpuest.config",
    "TPUEstimator": "tpuest.tpu_estimator",
    "TPUEstimatorSpec": "tpuest.spec",
    "TensorServingInputReceiver": "tpuest.receivers",
    "TrainSpec": "tpuest.training",
    "UnsupervisedInputReceiver": "tpuest.receivers",
    "UnsupportedError": "tpuest.errors",
    "WarmStartSettings": "tpuest.spec",
    "add_metrics": "tpuest.extenders",
    "build_parsing_serving_input_receiver_fn": "tpuest.receivers",
    "build_raw_serving_input_receiver_fn": "tpuest.receivers",
    "build_raw_supervised_input_receiver_fn": "tpuest.receivers",
    "build_supervised_input_receiver_fn_from_input_fn": "tpuest.receivers",
    "check": "tpuest.checking",
    "export_estimator_savedmodel": "tpuest.tpu_estimator",
    "inference_on_tpu": "tpuest.tpu_inference",
    "install": "tpuest.compat.installation",
    "installed": "tpuest.compat.installation",
    "make_early_stopping_hook": "tpuest.early_stopping",
    "make_stop_at_checkpoint_step_hook": "tpuest.stop_at_checkpoint",
    "model_fn_inference_on_tpu": "tpuest.tpu_inference",
    "numpy_input_fn": "tpuest.array_inputs",
    "pandas_input_fn": "tpuest.array_inputs",
    "simulate_tpu": "tpuest.topology",
    "stop_if_higher_hook": "tpuest.early_stopping",
    "stop_if_lower_hook": "tpuest.early_stopping",
    "stop_if_no_decrease_hook": "tpuest.early_stopping",
    "stop_if_no_increase_hook": "tpuest.early_stopping",
    "train_and_evaluate": "tpuest.training",
    "uninstall": "tpuest.compat.installation",
}

__all__ = [
    "BatchConfig",
    "BestExporter",
    "ClassificationOutput",
    "CrossShardOptimizer",
    "Estimator",
    "EstimatorSpec",
    "EvalOutput",
    "EvalSpec",
    "ExportOutput",
    "ExportSavedModelApiVersion",
    "Exporter",
    "FinalExporter",
    "InMemoryEvaluatorHook",
    "InputPipelineConfig",
    "LatestExporter",
    "ModeKeys",
    "PredictOutput",
    "RegressionOutput",
    "RunConfig",
    "ServingInputReceiver",
    "SupervisedInputReceiver",
    "TPUConfig",
    "TPUEstimator",
    "TPUEstimatorSpec",
    "TensorServingInputReceiver",
    "TrainSpec",
    "UnsupervisedInputReceiver",
    "UnsupportedError",
    "WarmStartSettings",
    "add_metrics",
    "build_parsing_serving_input_receiver_fn",
    "build_raw_serving_input_receiver_fn",
    "build_raw_supervised_input_receiver_fn",
    "build_supervised_input_receiver_fn_from_input_fn",
    "check",
    "export_estimator_savedmodel",
    "inference_on_tpu",
    "install",
    "installed",
    "make_early_stopping_hook",
    "make_stop_at_checkpoint_step_hook",
    "model_fn_inference_on_tpu",
    "numpy_input_fn",
    "pandas_input_fn",
    "simulate_tpu",
    "stop_if_higher_hook",
    "stop_if_lower_hook",
    "stop_if_no_decrease_hook",
    "stop_if_no_increase_hook",
    "train_and_evaluate",
    "uninstall",
]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'tpuest' has no attribute {name!r}")
    try:
        value = getattr(_importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        from tpuest import errors

        raise errors.missing_tensorflow() from None
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython):
    """Makes the old names resolve in a notebook: `%load_ext tpuest`."""
    from tpuest.compat import installation

    installation.install()


def unload_ipython_extension(ipython):
    """Takes them back: `%unload_ext tpuest`."""
    from tpuest.compat import installation

    installation.uninstall()
