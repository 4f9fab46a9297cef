"""TPUEstimator on TensorFlow 2.

    from tpuest import RunConfig, TPUConfig, TPUEstimator, TPUEstimatorSpec

The names are the original's, letter for letter.
"""

try:
    import tensorflow as _tensorflow  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "tensorflow":
        raise
    from tpuest import errors as _errors

    raise _errors.missing_tensorflow() from None

import tensorflow as _tensorflow

from tpuest.config import InputPipelineConfig, RunConfig, TPUConfig
from tpuest.errors import UnsupportedError
from tpuest.estimator import Estimator, TPUEstimator
from tpuest.spec import (
    BatchConfig,
    EstimatorSpec,
    ExportSavedModelApiVersion,
    ModeKeys,
    TPUEstimatorSpec,
    WarmStartSettings,
)
from tpuest.topology import simulate_tpu

CrossShardOptimizer = _tensorflow.compat.v1.tpu.CrossShardOptimizer

__all__ = [
    "BatchConfig",
    "CrossShardOptimizer",
    "Estimator",
    "EstimatorSpec",
    "ExportSavedModelApiVersion",
    "InputPipelineConfig",
    "ModeKeys",
    "RunConfig",
    "TPUConfig",
    "TPUEstimator",
    "TPUEstimatorSpec",
    "UnsupportedError",
    "WarmStartSettings",
    "simulate_tpu",
]
