"""Old names and what stands for them: one row a name.

A row's target is 'module:attribute', 'module:' for a module, or `Advice`: the sentence of a name that
isn't carried. `modules` reads the rows; nothing here is imported before it is used.

To carry one more name, add a row. `ROWS` has the members of old modules, `STAND_INS` the modules that
serve names without a row, `ALIASES` old modules that are another module (and what is below them),
`ADVICE` what to do about the rest, `REPLACED` names that exist and don't work, `MOVED` names that
TensorFlow took away from modules that it still has.
"""

from __future__ import annotations

from tpuest.compat.modules import Advice

V1 = "tensorflow.compat.v1"


def _rows(target: str, *names: str) -> dict[str, str]:
    """Gives rows for names that are the same under `target`."""
    glue = "" if target.endswith(":") else "."
    return {name: f"{target}{glue}{name}" for name in names}


_CANNED = Advice(
    "Write the model as a model_fn and pass it to tf.estimator.Estimator; ready-made estimators "
    "and heads are left to Keras."
)
_EMBEDDING = {
    name: f"tpuest.embedding_config:{name}"
    for name in (
        "AdagradParameters",
        "AdamParameters",
        "EmbeddingConfigSpec",
        "FtrlParameters",
        "MomentumParameters",
        "ProximalAdagradParameters",
        "RMSPropParameters",
        "StochasticGradientDescentParameters",
    )
}
_EMBEDDING_CONFIGS = {
    name: f"tpuest.embedding_config:{name}" for name in ("FeatureConfig", "TableConfig")
}
_EXPERIMENT = Advice(
    "Use tf.estimator.train_and_evaluate(estimator, tf.estimator.TrainSpec(...), tf.estimator.EvalSpec(...))."
)
_EMBEDDING_ENGINE = Advice(
    "It belonged to the original's engine: pass embedding_config_spec to TPUEstimator."
)
_SLIM = Advice("It is neither in tf-slim nor in tpuest: build it from tf.compat.v1.layers.")
_QUANTIZE = Advice("Drop the quantize option; use TensorFlow Lite's post-training quantization.")
_TENSORRT = Advice("Use tf.experimental.tensorrt.Converter on a SavedModel, with a TensorRT build.")
_SESSION_SUPPORT = "tpuest.compat.session_support"

_HOOKS = _rows(
    f"{V1}:train",
    "CheckpointSaverHook",
    "CheckpointSaverListener",
    "FeedFnHook",
    "FinalOpsHook",
    "GlobalStepWaiterHook",
    "LoggingTensorHook",
    "NanLossDuringTrainingError",
    "NanTensorHook",
    "ProfilerHook",
    "SecondOrStepTimer",
    "SessionRunArgs",
    "SessionRunContext",
    "SessionRunHook",
    "SessionRunValues",
    "StepCounterHook",
    "StopAtStepHook",
    "SummarySaverHook",
)

_EARLY_STOPPING = {
    **_rows(
        "tpuest.early_stopping:",
        "make_early_stopping_hook",
        "read_eval_metrics",
        "stop_if_higher_hook",
        "stop_if_lower_hook",
        "stop_if_no_decrease_hook",
        "stop_if_no_increase_hook",
    ),
    **_rows("tpuest.stop_at_checkpoint:", "make_stop_at_checkpoint_step_hook"),
}
_TRAINING_HOOKS = {
    **_EARLY_STOPPING,
    **_rows("tpuest.in_memory_evaluation:", "InMemoryEvaluatorHook"),
}
_EXTENDERS = {
    **_rows("tpuest.extenders:", "add_metrics"),
    **_rows("tpuest.compat.optimizers:", "clip_gradients_by_norm"),
}

_TRAINING = _rows("tpuest.training:", "EvalSpec", "TrainSpec", "train_and_evaluate")
_EXPORTERS = _rows(
    "tpuest.exporters:", "BestExporter", "Exporter", "FinalExporter", "LatestExporter"
)

_EXPORT_OUTPUTS = _rows(
    "tpuest.export_output:",
    "ClassificationOutput",
    "EvalOutput",
    "ExportOutput",
    "PredictOutput",
    "RegressionOutput",
    "TrainOutput",
)
_RECEIVERS = _rows(
    "tpuest.receivers:",
    "ServingInputReceiver",
    "SupervisedInputReceiver",
    "TensorServingInputReceiver",
    "UnsupervisedInputReceiver",
    "build_parsing_serving_input_receiver_fn",
    "build_raw_serving_input_receiver_fn",
    "build_raw_supervised_input_receiver_fn",
    "build_supervised_input_receiver_fn_from_input_fn",
    "wrap_and_check_input_tensors",
)
_INPUTS = _rows("tpuest.array_inputs:", "numpy_input_fn", "pandas_input_fn")

_TPU_CONFIG = _rows("tpuest.config:", "InputPipelineConfig", "RunConfig", "TPUConfig")
_SPECS = _rows("tpuest.spec:", "EstimatorSpec", "ModeKeys")
_TPU_ESTIMATOR = {
    **_rows("tpuest.tpu_estimator:", "TPUEstimator"),
    **_rows("tpuest.spec:", "BatchConfig", "ExportSavedModelApiVersion", "TPUEstimatorSpec"),
}

_TPU_FUNCTIONS = {
    **_rows(
        "tpuest.compat.tpu:",
        "CrossShardOptimizer",
        "batch_parallel",
        "cross_replica_sum",
        "initialize_system",
        "outside_compilation",
        "replicate",
        "rewrite",
        "shard",
        "shutdown_system",
    ),
    **_rows(f"{V1}:tpu", "bfloat16_scope", "core"),
}

_CONTRIB_TPU = {
    **_TPU_CONFIG,
    **_TPU_ESTIMATOR,
    **_TPU_FUNCTIONS,
    **_rows(f"{V1}:tpu.experimental", "DeviceAssignment", "Topology"),
    **_rows("tensorflow.python.tpu.tpu_feed:", "InfeedQueue"),
    **_rows("tensorflow.python.tpu.device_assignment:", "device_assignment"),
    **_rows("tensorflow.python.tpu.training_loop:", "repeat", "while_loop"),
    **_rows(
        "tensorflow.python.tpu.ops.tpu_ops:",
        "infeed_dequeue",
        "infeed_dequeue_tuple",
        "infeed_enqueue",
        "infeed_enqueue_tuple",
        "outfeed_dequeue",
        "outfeed_dequeue_tuple",
        "outfeed_enqueue",
        "outfeed_enqueue_tuple",
    ),
    "AsyncCheckpointSaverHook": "tpuest.compat.tpu_hooks:AsyncCheckpointSaverHook",
    "TPUDistributionStrategy": "tensorflow:distribute.TPUStrategy",
    "export_estimator_savedmodel": "tpuest.tpu_estimator:export_estimator_savedmodel",
    "keras_to_tpu_model": Advice(
        "Compile the Keras model in the scope of a tf.distribute.TPUStrategy."
    ),
    "profiler": "tensorflow:profiler.experimental",
}

_SUMMARY = {
    "all_summary_ops": f"{V1}:summary.all_v2_summary_ops",
    "create_summary_file_writer": "tensorflow.python.ops.summary_ops_v2:create_file_writer",
    "create_db_writer": Advice("Use create_file_writer: TensorFlow no longer writes databases."),
    **_rows(
        "tensorflow.python.ops.summary_ops_v2:",
        "SummaryWriter",
        "always_record_summaries",
        "audio",
        "create_file_writer",
        "eval_dir",
        "flush",
        "generic",
        "graph",
        "histogram",
        "image",
        "import_event",
        "initialize",
        "never_record_summaries",
        "record_summaries_every_n_global_steps",
        "scalar",
        "should_record_summaries",
        "summary_writer_initializer_op",
    ),
}

_DATA = {
    **_rows(
        f"{V1}:data.experimental",
        "AUTOTUNE",
        "Counter",
        "CsvDataset",
        "Optional",
        "RandomDataset",
        "Reducer",
        "SqlDataset",
        "TFRecordWriter",
        "bucket_by_sequence_length",
        "choose_from_datasets",
        "copy_to_device",
        "enumerate_dataset",
        "get_single_element",
        "group_by_reducer",
        "group_by_window",
        "ignore_errors",
        "make_batched_features_dataset",
        "make_csv_dataset",
        "make_saveable_from_iterator",
        "map_and_batch",
        "parallel_interleave",
        "parse_example_dataset",
        "prefetch_to_device",
        "rejection_resample",
        "sample_from_datasets",
        "scan",
        "shuffle_and_repeat",
        "unbatch",
        "unique",
    ),
    **_rows(
        "tpuest.compat.datasets:",
        "CheckpointInputPipelineHook",
        "assert_element_shape",
        "batch_and_drop_remainder",
        "dense_to_sparse_batch",
        "get_next_as_optional",
        "padded_batch_and_drop_remainder",
        "read_batch_features",
        "reduce_dataset",
        "sliding_window_batch",
        "sloppy_interleave",
    ),
}

_SLIM_FRAMEWORK = _rows(
    "tf_slim:",
    "add_arg_scope",
    "arg_scope",
    "arg_scoped_arguments",
    "assign_from_checkpoint",
    "assign_from_checkpoint_fn",
    "assign_from_values",
    "assign_from_values_fn",
    "current_arg_scope",
    "filter_variables",
    "get_local_variables",
    "get_model_variables",
    "get_or_create_global_step",
    "get_trainable_variables",
    "get_unique_variable",
    "get_variables",
    "get_variables_by_name",
    "get_variables_by_suffix",
    "get_variables_to_restore",
    "global_variable",
    "has_arg_scope",
    "local_variable",
    "model_variable",
    "variable",
)

_FRAMEWORK = {
    **_SLIM_FRAMEWORK,
    **_rows("tpuest.compat.framework:", "get_name_scope", "is_tensor"),
    **_rows(f"{V1}:", "argsort", "nest", "py_func", "sort", "TensorSpec"),
    **_rows(
        f"{V1}:train",
        "create_global_step",
        "get_global_step",
        "get_or_create_global_step",
        "init_from_checkpoint",
        "list_variables",
        "load_checkpoint",
        "load_variable",
    ),
    **_rows(
        "tensorflow.python.util.deprecation:",
        "deprecated",
        "deprecated_arg_values",
        "deprecated_args",
    ),
    **_rows(
        "tensorflow.python.framework.smart_cond:",
        "smart_case",
        "smart_cond",
        "smart_constant_value",
    ),
    **_rows("tensorflow.python.framework.tensor_spec:", "BoundedTensorSpec"),
    "RecordInput": "tensorflow.python.ops.data_flow_ops:RecordInput",
    "zero_initializer": f"{V1}:zeros_initializer",
}

_ERROR_HANDLING = _rows("tpuest.compat.error_handling:", "ErrorRendezvous")
_RNN_CELLS = _rows(
    f"{V1}:nn.rnn_cell",
    "BasicLSTMCell",
    "BasicRNNCell",
    "DeviceWrapper",
    "DropoutWrapper",
    "GRUCell",
    "LSTMCell",
    "LSTMStateTuple",
    "MultiRNNCell",
    "RNNCell",
    "ResidualWrapper",
)
_LOOKUP_V1 = f"{V1}:lookup"

_ORIGINAL = "tensorflow_estimator.python.estimator"
_FAKE_SUMMARY_WRITER = _rows("tpuest.compat.fake_summary_writer:", "FakeSummaryWriter")
# Programs import more of them than they use; the names of results are of use with any model.
READY_MADE_MODULES = frozenset(
    f"{_ORIGINAL}.{name}"
    for name in (
        *("canned.baseline", "canned.dnn", "canned.dnn_linear_combined", "canned.head"),
        *("canned.kmeans", "canned.linear", "canned.optimizers", "canned.rnn"),
        *("canned.saved_model_estimator", "head.base_head", "head.binary_class_head"),
        *("head.head_utils", "head.multi_class_head", "head.multi_head"),
        *("head.multi_label_head", "head.regression_head", "head.sequential_head"),
    )
)
_CANNED_MODULES = {
    **{path: {} for path in READY_MADE_MODULES},
    f"{_ORIGINAL}.canned.metric_keys": _rows("tpuest.compat.result_keys:", "MetricKeys"),
    f"{_ORIGINAL}.canned.prediction_keys": _rows("tpuest.compat.result_keys:", "PredictionKeys"),
}

# Parts of tf.contrib of which nothing is carried: programs import more than they use.
_IMPORTED_ONLY = (
    *("all_reduce", "batching", "bayesflow", "bigtable", "boosted_trees", "checkpoint"),
    *("constrained_optimization", "copy_graph", "cudnn_rnn", "decision_trees", "deprecated"),
    *(
        "factorization",
        "feature_column",
        "ffmpeg",
        "fused_conv",
        "graph_editor",
        "grid_rnn",
        "hadoop",
    ),
    *("hooks", "ignite", "input_pipeline", "integrate", "kafka", "kernel_methods", "kinesis"),
    *("labeled_tensor", "legacy_seq2seq", "libsvm", "linear_optimizer", "memory_stats"),
    *("meta_graph_transform", "model_pruning", "nearest_neighbor", "optimizer_v2"),
    *("periodic_resample", "proto", "quantization", "receptive_field", "recurrent"),
    *(
        "reduce_slice_ops",
        "remote_fused_graph",
        "resampler",
        "rpc",
        "saved_model",
        "session_bundle",
    ),
    *("solvers", "sparsemax", "specs", "staging", "stat_summarizer", "tensor_forest"),
    *("text", "timeseries"),
)

ROWS: dict[str, dict[str, str]] = {
    # tf.nn.rnn_cell without Keras: see KERAS_FREE
    "tensorflow.nn.rnn_cell": {
        **_rows(
            "tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl:",
            *_RNN_CELLS,
        ),
    },
    # tf.estimator
    "tensorflow.estimator": {
        **_HOOKS,
        **_SPECS,
        **_TRAINING,
        **_EXPORTERS,
        "Estimator": "tpuest.estimator:Estimator",
        "RunConfig": "tpuest.run_config:RunConfig",
        "VocabInfo": f"{V1}:train.VocabInfo",
        "WarmStartSettings": "tpuest.spec:WarmStartSettings",
        **_rows("tpuest.extenders:", "add_metrics"),
    },
    "tensorflow.estimator.experimental": {
        **_TRAINING_HOOKS,
        **_rows("tpuest.extenders:", "call_logit_fn"),
        "build_raw_supervised_input_receiver_fn": (
            "tpuest.receivers:build_raw_supervised_input_receiver_fn"
        ),
    },
    "tensorflow.estimator.export": {**_EXPORT_OUTPUTS, **_RECEIVERS},
    "tensorflow.estimator.inputs": _INPUTS,
    "tensorflow.estimator.tpu": {
        **_TPU_CONFIG,
        **_rows("tpuest.tpu_estimator:", "TPUEstimator"),
        **_rows("tpuest.spec:", "TPUEstimatorSpec"),
    },
    "tensorflow.estimator.tpu.experimental": {
        "EmbeddingConfigSpec": _EMBEDDING["EmbeddingConfigSpec"],
    },
    # The package behind tf.estimator
    "tensorflow_estimator": {},
    _ORIGINAL: {},
    **_CANNED_MODULES,
    f"{_ORIGINAL}.early_stopping": {
        **_EARLY_STOPPING,
        "_CheckForStoppingHook": "tpuest.early_stopping:CheckForStopping",
        "_StopOnPredicateHook": "tpuest.early_stopping:StopOnPredicate",
        "_get_or_create_stop_var": "tpuest.early_stopping:get_or_create_stop_variable",
    },
    f"{_ORIGINAL}.estimator": {
        "Estimator": "tpuest.estimator:Estimator",
        "EstimatorV2": "tpuest.estimator:Estimator",
        "WarmStartSettings": "tpuest.spec:WarmStartSettings",
        "_load_global_step_from_checkpoint_dir": "tpuest.checkpoint:global_step_of",
        "_write_dict_to_summary": "tpuest.reports:write_results",
        "_verify_model_fn_args": "tpuest.signatures:verify_model_fn_args",
        "maybe_overwrite_model_dir_and_session_config": "tpuest.arguments:with_model_dir",
    },
    f"{_ORIGINAL}.estimator_export": {
        "estimator_export": "tpuest.compat.private:estimator_export",
    },
    f"{_ORIGINAL}.exporter": {
        **_EXPORTERS,
        "_SavedModelExporter": "tpuest.exporters:SavedModelExporter",
        "_loss_smaller": "tpuest.exporters:loss_smaller",
    },
    f"{_ORIGINAL}.extenders": _EXTENDERS,
    f"{_ORIGINAL}.export.export": {
        **_RECEIVERS,
        "build_all_signature_defs": "tpuest.export:build_all_signature_defs",
    },
    f"{_ORIGINAL}.export.export_lib": {
        **_RECEIVERS,
        **_EXPORT_OUTPUTS,
        **_rows(
            "tpuest.export:", "EXPORT_TAG_MAP", "SIGNATURE_KEY_MAP", "build_all_signature_defs"
        ),
        "get_export_outputs": "tpuest.export_output:resolve_export_outputs",
    },
    f"{_ORIGINAL}.export.export_output": _EXPORT_OUTPUTS,
    f"{_ORIGINAL}.gc": {
        "Path": "tpuest.export_versions:Path",
        **{
            "_" + name: f"tpuest.export_versions:{name}"
            for name in (
                "get_paths",
                "largest_export_versions",
                "mod_export_version",
                "negation",
                "one_of_every_n_export_versions",
                "union",
            )
        },
    },
    f"{_ORIGINAL}.hooks.basic_session_run_hooks": _HOOKS,
    f"{_ORIGINAL}.hooks.fake_summary_writer": _FAKE_SUMMARY_WRITER,
    f"{_ORIGINAL}.hooks.hooks": {
        **_TRAINING_HOOKS,
        "_StopAtCheckpointStepHook": "tpuest.stop_at_checkpoint:StopAtCheckpointStep",
    },
    f"{_ORIGINAL}.hooks.session_run_hook": _HOOKS,
    f"{_ORIGINAL}.inputs.inputs": _INPUTS,
    f"{_ORIGINAL}.inputs.numpy_io": _INPUTS,
    f"{_ORIGINAL}.inputs.pandas_io": _INPUTS,
    f"{_ORIGINAL}.mode_keys": _SPECS,
    f"{_ORIGINAL}.model_fn": {
        **_SPECS,
        **_rows("tpuest.extenders:", "call_logit_fn"),
        "LOSS_METRIC_KEY": "tpuest.replica:LOSS",
        "_TPUEstimatorSpec": "tpuest.spec:TPUEstimatorSpec",
    },
    f"{_ORIGINAL}.run_config": {
        **_rows("tpuest.run_config:", "RunConfig", "TaskType"),
    },
    f"{_ORIGINAL}.util": {
        "tf_keras": "tpuest.compat.keras_v2:",
        "tf_keras_v1": "tpuest.compat.keras_v1:",
        "tf_keras_v2": "tpuest.compat.keras_v2:",
        "fn_args": "tpuest.signatures:declared_arguments",
    },
    f"{_ORIGINAL}.tpu._tpu_estimator_embedding": {
        **_EMBEDDING,
        **_rows("tpuest.embedding_config:", "get_configs_from_feature_columns"),
    },
    f"{_ORIGINAL}.tpu.error_handling": _ERROR_HANDLING,
    f"{_ORIGINAL}.tpu.iteration_count_estimator": {
        "IterationCountEstimator": "tpuest.compat.iteration_count:IterationCountEstimator",
    },
    f"{_ORIGINAL}.tpu.tpu_config": {
        **_TPU_CONFIG,
        "_DEFAULT_JOB_NAME": "tpuest.compat.tpu_util:DEFAULT_JOB_NAME",
        "_DEFAULT_COORDINATOR_JOB_NAME": "tpuest.compat.tpu_util:DEFAULT_COORDINATOR_JOB_NAME",
        "_SERVICE_KEY": "tpuest.compat.tpu_util:SERVICE_KEY",
        "_TPU_WORKER_JOB_NAME": "tpuest.compat.tpu_util:TPU_WORKER_JOB_NAME",
        "_LOCAL_MASTER": "tpuest.compat.tpu_util:LOCAL_MASTER",
    },
    f"{_ORIGINAL}.tpu.tpu_context": {
        "TPUContext": "tpuest.deployment:InputDeployment",
        "_get_tpu_context": Advice(
            "Import TPUEstimator from tf.estimator.tpu: a copy of the original's engine can't run."
        ),
    },
    f"{_ORIGINAL}.tpu.tpu_estimator": {
        **_TPU_ESTIMATOR,
        **_EMBEDDING,
        "_WRAP_INPUT_FN_INTO_WHILE_LOOP": "tpuest.compat.tpu_util:WRAPS_INPUT_INTO_LOOP",
        "_InputsWithStoppingSignals": "tpuest.compat.input_signals:InputsWithStoppingSignals",
        "_PaddingSignals": "tpuest.compat.input_signals:PaddingSignals",
        "_StopSignals": "tpuest.compat.input_signals:StopSignals",
        "_TPUStopAtStepHook": "tpuest.compat.stop_at_step:TPUStopAtStepHook",
        "_INFERENCE_ON_TPU_MODE": "tpuest.tpu_estimator:INFERENCE_ON_TPU",
        "_clone_export_output_with_tensors": "tpuest.tpu_inference:clone_export_output_with_tensors",
        "_export_output_to_tensors": "tpuest.tpu_inference:export_output_to_tensors",
        "export_estimator_savedmodel": "tpuest.tpu_estimator:export_estimator_savedmodel",
        **_rows(
            "tpuest.tpu_inference:",
            "call_computation",
            "inference_on_tpu",
            "model_fn_inference_on_tpu",
        ),
    },
    f"{_ORIGINAL}.tpu.util": _rows(
        "tpuest.compat.tpu_util:",
        "IterationsPerLoopCounter",
        "check_positive_integer",
        "parse_iterations_per_loop",
    ),
    # tf.contrib.tpu
    "tensorflow.contrib.tpu": _CONTRIB_TPU,
    "tensorflow.contrib.tpu.python.ops": {},
    "tensorflow.contrib.tpu.tpu": {**_TPU_FUNCTIONS, **_TPU_ESTIMATOR, **_TPU_CONFIG},
    "tensorflow.contrib.tpu.python.tpu.async_checkpoint": {
        "AsyncCheckpointSaverHook": "tpuest.compat.tpu_hooks:AsyncCheckpointSaverHook",
    },
    "tensorflow.contrib.tpu.python.tpu.bfloat16": {"bfloat16_scope": f"{V1}:tpu.bfloat16_scope"},
    "tensorflow.contrib.tpu.python.tpu.tpu": {
        **_TPU_FUNCTIONS,
        "_TPU_REPLICATE_ATTR": "tpuest.compat.tpu_util:TPU_REPLICATE_ATTRIBUTE",
    },
    "tensorflow.contrib.tpu.python.tpu.tpu_optimizer": _rows(
        "tpuest.compat.tpu:", "CrossShardOptimizer"
    ),
    "tensorflow.contrib.tpu.python.tpu.util": {
        **_rows(
            "tpuest.compat.tpu_util:", "check_positive_integer", "check_positive_integer_or_none"
        ),
        "MultiHostDatasetInitializerHook": "tpuest.compat.tpu_hooks:MultiHostDatasetInitializerHook",
    },
    # Private modules that TensorFlow took away
    "tensorflow.python.tpu.async_checkpoint": {
        "AsyncCheckpointSaverHook": "tpuest.compat.tpu_hooks:AsyncCheckpointSaverHook",
    },
    "tensorflow.python.tpu.error_handling": _ERROR_HANDLING,
    "tensorflow.python.tpu.session_support": _rows(
        f"{_SESSION_SUPPORT}:",
        "GracefulShutdownHook",
        "ResetComputation",
        "RestartComputation",
        "ShutdownAllWorkers",
        "ShutdownLameWorkers",
        "WatchdogManager",
        "WorkerHeartbeatManager",
        "start_worker_watchdog",
    ),
    "tensorflow.python.distribute.estimator_training": {},
    "tensorflow.python.profiler.profile_context": {
        "ProfileContext": "tpuest.compat.profile:ProfileContext",
    },
    "tensorflow.python.tpu.tpu_embedding": {
        **_EMBEDDING,
        **_EMBEDDING_CONFIGS,
        "TPUEmbedding": _EMBEDDING_ENGINE,
    },
    "tensorflow.python.tpu.tpu_embedding_gradient": {
        "create_dummy_table_variables": _EMBEDDING_ENGINE,
        "get_gradients_through_dummy_table_variables": _EMBEDDING_ENGINE,
        "hook_dummy_table_variables_to_activations": _EMBEDDING_ENGINE,
    },
    # The rest of tf.contrib
    "tensorflow.contrib": {},
    "tensorflow.contrib.cloud": {
        **_rows(
            "tpuest.compat.cloud:",
            "BlockCacheParams",
            "ConfigureGcsHook",
            "configure_colab_session",
            "configure_gcs",
        ),
        "BigtableClient": Advice(
            "Read the data from files: tf.data.TFRecordDataset, gs:// paths too."
        ),
        "BigQueryReader": Advice("Use tensorflow_io, or export the table to files."),
    },
    "tensorflow.contrib.cluster_resolver": {
        **_rows(
            "tensorflow:distribute.cluster_resolver",
            "ClusterResolver",
            "GCEClusterResolver",
            "KubernetesClusterResolver",
            "SimpleClusterResolver",
            "SlurmClusterResolver",
            "TFConfigClusterResolver",
        ),
        "UnionClusterResolver": "tensorflow:distribute.cluster_resolver.UnionResolver",
        "TPUClusterResolver": "tpuest.compat.cluster_resolver:TPUClusterResolver",
    },
    "tensorflow.contrib.crf": _rows(
        "tpuest.compat.crf:",
        "crf_binary_score",
        "crf_decode",
        "crf_log_likelihood",
        "crf_log_norm",
        "crf_multitag_sequence_score",
        "crf_sequence_score",
        "crf_unary_score",
        "viterbi_decode",
    ),
    "tensorflow.contrib.compiler": {},
    "tensorflow.contrib.compiler.jit": {
        "experimental_jit_scope": f"{V1}:xla.experimental.jit_scope",
    },
    "tensorflow.contrib.compiler.xla": {"compile": f"{V1}:xla.experimental.compile"},
    "tensorflow.contrib.data": _DATA,
    "tensorflow.contrib.distribute": {
        **_rows(
            f"{V1}:distribute",
            "OneDeviceStrategy",
            "ReplicaContext",
            "get_loss_reduction",
            "get_replica_context",
            "get_strategy",
            "has_strategy",
            "in_cross_replica_context",
        ),
        "AllReduceCrossDeviceOps": (
            "tensorflow.python.distribute.cross_device_ops:AllReduceCrossDeviceOps"
        ),
        "MirroredStrategy": "tpuest.compat.strategies:MirroredStrategy",
        "CollectiveAllReduceStrategy": f"{V1}:distribute.experimental.MultiWorkerMirroredStrategy",
        "CrossDeviceOps": f"{V1}:distribute.CrossDeviceOps",
        "DistributeConfig": "tensorflow.python.distribute.distribute_config:DistributeConfig",
        "DistributionStrategy": f"{V1}:distribute.Strategy",
        "ParameterServerStrategy": f"{V1}:distribute.experimental.ParameterServerStrategy",
        "TPUStrategy": f"{V1}:distribute.experimental.TPUStrategy",
        "get_distribution_strategy": f"{V1}:distribute.get_strategy",
        "has_distribution_strategy": f"{V1}:distribute.has_strategy",
        "initialize_tpu_system": "tpuest.compat.cluster_resolver:initialize_tpu_system",
    },
    "tensorflow.contrib.eager": {
        **_rows(
            f"{V1}:",
            "GradientTape",
            "Variable",
            "enable_eager_execution",
            "executing_eagerly",
            "custom_gradient",
            "TensorSpec",
            "make_template",
            "py_func",
            "function",
        ),
        "defun": f"{V1}:function",
        "metrics": "tensorflow.contrib.eager.python.tfe:metrics",
    },
    "tensorflow.contrib.eager.python.metrics": {},
    "tensorflow.contrib.eager.python.tfe": {
        "metrics": "tensorflow.contrib.eager.python.metrics:",
    },
    "tensorflow.contrib.estimator": {
        **_TRAINING_HOOKS,
        **_rows("tpuest.extenders:", "call_logit_fn"),
        **_EXTENDERS,
        **_rows(
            "tpuest.receivers:",
            "build_raw_supervised_input_receiver_fn",
            "build_supervised_input_receiver_fn_from_input_fn",
        ),
        **_rows(
            "tpuest.compat.contrib_export:",
            "export_all_saved_models",
            "export_saved_model_for_mode",
        ),
        "TowerOptimizer": Advice(
            "Pass the optimizer itself; on cores use tf.tpu.CrossShardOptimizer."
        ),
        "replicate_model_fn": Advice("Pass model_fn itself to TPUEstimator."),
    },
    "tensorflow.contrib.framework": _FRAMEWORK,
    "tensorflow.contrib.framework.nest": {},
    "tensorflow.contrib.framework.python.framework.checkpoint_utils": _rows(
        f"{V1}:train", "init_from_checkpoint", "list_variables", "load_checkpoint", "load_variable"
    ),
    "tensorflow.contrib.framework.python.ops": _FRAMEWORK,
    "tensorflow.contrib.framework.python.ops.arg_scope": _FRAMEWORK,
    "tensorflow.contrib.framework.python.ops.variables": _FRAMEWORK,
    "tensorflow.contrib.image": _rows(
        "tpuest.compat.image:",
        "angles_to_projective_transforms",
        "compose_transforms",
        "flat_transforms_to_matrices",
        "matrices_to_flat_transforms",
        "rotate",
        "transform",
        "translate",
        "translations_to_projective_transforms",
    ),
    "tensorflow.contrib.layers": {
        "OPTIMIZER_CLS_NAMES": "tpuest.compat.optimizers:OPTIMIZER_CLASSES",
        **_rows(
            "tpuest.compat.contrib_layers:",
            "apply_regularization",
            "flatten",
            "l1_l2_regularizer",
            "l1_regularizer",
            "l2_regularizer",
            "layer_norm",
            "one_hot_encoding",
            "sum_regularizer",
            "variance_scaling_initializer",
            "xavier_initializer",
            "xavier_initializer_conv2d",
        ),
    },
    "tensorflow.contrib.learn": {
        "ModeKeys": "tpuest.spec:ModeKeys",
        "RunConfig": "tpuest.run_config:RunConfig",
        "Experiment": _EXPERIMENT,
    },
    "tensorflow.contrib.learn.io": _INPUTS,
    "tensorflow.contrib.learn.python.learn.learn_io.numpy_io": _INPUTS,
    "tensorflow.contrib.learn.python.learn.learn_io.pandas_io": _INPUTS,
    "tensorflow.contrib.learn.monitors": {
        "ValidationMonitor": _EXPERIMENT,
        "replace_monitors_with_hooks": "tpuest.compat.tpu_hooks:replace_monitors_with_hooks",
    },
    "tensorflow.contrib.lookup": {
        **_rows(
            _LOOKUP_V1,
            "KeyValueTensorInitializer",
            "TextFileIndex",
            "TextFileInitializer",
        ),
        **_rows(
            "tensorflow.python.ops.lookup_ops:",
            "FastHashSpec",
            "HasherSpec",
            "IdTableWithHashBuckets",
            "InitializableLookupTableBase",
            "LookupInterface",
            "StrongHashSpec",
            "TableInitializerBase",
            "TextFileIdTableInitializer",
            "TextFileStringTableInitializer",
            "index_table_from_file",
            "index_to_string_table_from_file",
            "index_to_string_table_from_tensor",
        ),
        **_rows(
            "tpuest.compat.lookup:",
            "HashTable",
            "MutableDenseHashTable",
            "MutableHashTable",
            "index_table_from_tensor",
            "string_to_index",
            "string_to_index_table_from_tensor",
        ),
    },
    "tensorflow.contrib.metrics": {
        "accuracy": "tpuest.compat.contrib_metrics:accuracy",
        "confusion_matrix": f"{V1}:math.confusion_matrix",
        **_rows(
            "tpuest.compat.contrib_metrics:",
            "aggregate_metric_map",
            "aggregate_metrics",
            "streaming_accuracy",
            "streaming_concat",
            "streaming_covariance",
            "streaming_mean",
            "streaming_mean_absolute_error",
            "streaming_mean_squared_error",
            "streaming_pearson_correlation",
            "streaming_precision",
            "streaming_recall",
            "streaming_root_mean_squared_error",
        ),
    },
    "tensorflow.contrib.mixed_precision": _rows(
        "tpuest.compat.mixed_precision:",
        "ExponentialUpdateLossScaleManager",
        "FixedLossScaleManager",
        "LossScaleManager",
        "LossScaleOptimizer",
    ),
    "tensorflow.contrib.nn": {
        "alpha_dropout": Advice("Use tf.keras.layers.AlphaDropout."),
        "conv1d_transpose": f"{V1}:nn.conv1d_transpose",
        "nth_element": "tensorflow.python.ops.nn_ops:nth_element",
    },
    "tensorflow.contrib.opt": _rows(
        "tpuest.compat.optimizers:",
        "AdamWOptimizer",
        "DecoupledWeightDecayExtension",
        "LARSOptimizer",
        "LazyAdamOptimizer",
        "MomentumWOptimizer",
        "clip_gradients_by_global_norm",
        "extend_with_decoupled_weight_decay",
    ),
    "tensorflow.contrib.predictor": {
        **_rows("tpuest.compat.predictor:", "from_estimator", "from_saved_model"),
        "from_contrib_estimator": Advice(
            "Write the model as a model_fn and use tf.contrib.predictor.from_estimator."
        ),
    },
    "tensorflow.contrib.predictor.predictor": _rows("tpuest.compat.predictor:", "Predictor"),
    # Programs import them for what only some of their options use.
    **{f"tensorflow.contrib.{name}": {} for name in _IMPORTED_ONLY},
    "tensorflow.contrib.quantize": dict.fromkeys(
        (
            "create_eval_graph",
            "create_training_graph",
            "experimental_create_eval_graph",
            "experimental_create_training_graph",
        ),
        _QUANTIZE,
    ),
    "tensorflow.contrib.rnn": {
        **_RNN_CELLS,
        **_rows(
            "tpuest.compat.rnn_cells:",
            "Conv1DLSTMCell",
            "Conv2DLSTMCell",
            "Conv3DLSTMCell",
            "ConvLSTMCell",
            "LayerNormBasicLSTMCell",
            "NASCell",
            "stack_bidirectional_dynamic_rnn",
        ),
        "LayerRNNCell": "tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl:LayerRNNCell",
        "transpose_batch_time": "tensorflow.python.ops.rnn:_transpose_batch_time",
        **_rows(f"{V1}:nn", "static_bidirectional_rnn", "static_rnn", "static_state_saving_rnn"),
    },
    "tensorflow.contrib.seq2seq": {},
    "tensorflow.contrib.slim": {},
    "tensorflow.contrib.stateless": {
        "stateless_multinomial": f"{V1}:random.stateless_multinomial",
        "stateless_random_normal": f"{V1}:random.stateless_normal",
        "stateless_random_uniform": f"{V1}:random.stateless_uniform",
        "stateless_truncated_normal": f"{V1}:random.stateless_truncated_normal",
    },
    "tensorflow.contrib.summary": _SUMMARY,
    "tensorflow.contrib.summary.summary": _SUMMARY,
    "tensorflow.contrib.tensorrt": {"create_inference_graph": _TENSORRT},
    "tensorflow.contrib.testing": _FAKE_SUMMARY_WRITER,
    "tensorflow.contrib.testing.python.framework.fake_summary_writer": _FAKE_SUMMARY_WRITER,
    "tensorflow.contrib.tfprof": {"ProfileContext": "tpuest.compat.profile:ProfileContext"},
    "tensorflow.contrib.training": {
        "HParams": "tpuest.compat.hparams:HParams",
        "parse_values": "tpuest.compat.hparams:parse_values",
        "checkpoints_iterator": f"{V1}:train.checkpoints_iterator",
        "wait_for_new_checkpoint": (
            "tensorflow.python.training.checkpoint_utils:wait_for_new_checkpoint"
        ),
        "StopAfterNEvalsHook": "tensorflow.python.training.evaluation:_StopAfterNEvalsHook",
        "get_or_create_eval_step": (
            "tensorflow.python.training.evaluation:_get_or_create_eval_step"
        ),
        "SummaryAtEndHook": "tf_slim.training.evaluation:SummaryAtEndHook",
        **_rows(
            "tf_slim.training.evaluation:",
            "evaluate_once",
            "evaluate_repeatedly",
        ),
        **_rows(
            "tf_slim.training.training:",
            "add_gradients_summaries",
            "clip_gradient_norms",
            "clip_gradient_norms_fn",
            "create_train_op",
            "multiply_gradients",
            "train",
        ),
    },
    "tensorflow.python.training.tracking.tracking": {
        "Asset": "tensorflow.python.trackable.asset:Asset",
        "AutoTrackable": "tensorflow.python.trackable.autotrackable:AutoTrackable",
        **_rows(
            "tensorflow.python.trackable.resource:",
            "CapturableResource",
            "TrackableResource",
        ),
    },
    "tensorflow.contrib.util": {
        "constant_value": f"{V1}:get_static_value",
        **_rows(f"{V1}:", "make_ndarray", "make_tensor_proto"),
    },
}

STAND_INS: dict[str, tuple[str, ...]] = {
    "tensorflow.contrib.gan": ("tensorflow_gan",),
    "tensorflow.contrib.layers": ("tf_slim", "tf_slim.layers"),
    "tensorflow.contrib.layers.summaries": ("tf_slim",),
    "tensorflow.contrib.losses": ("tf_slim.losses",),
    "tensorflow.contrib.metrics": ("tf_slim.metrics",),
    "tensorflow.contrib.seq2seq": ("tpuest.compat.seq2seq",),
    "tensorflow.contrib.slim": ("tf_slim",),
    "tensorflow.contrib.eager.python.metrics": ("tensorflow.keras.metrics",),
    "tensorflow.contrib.framework.nest": ("tensorflow.nest", "tensorflow.python.util.nest"),
    "tensorflow.contrib.tpu.python.tpu.tpu": ("tensorflow.python.tpu.tpu",),
    f"{_ORIGINAL}.run_config": ("tpuest.run_config",),
    "tensorflow.python.distribute.estimator_training": (
        "tensorflow.python.distribute.distribute_coordinator",
    ),
}

ALIASES: dict[str, str] = {
    "tensorflow.contrib.autograph": "tensorflow.autograph",
    "tensorflow.contrib.signal": "tensorflow.signal",
    "tensorflow.compat.v1.estimator": "tensorflow.estimator",
    "tensorflow.compat.v2.estimator": "tensorflow.estimator",
    "tensorflow_estimator.estimator": "tensorflow.estimator",
    f"{_ORIGINAL}.estimator_lib": "tensorflow.estimator",
    f"{_ORIGINAL}.api._v1.estimator": "tensorflow.estimator",
    f"{_ORIGINAL}.api._v2.estimator": "tensorflow.estimator",
    f"{_ORIGINAL}.training": "tpuest.training",
    "tensorflow.python.estimator": _ORIGINAL,
    **{
        f"tensorflow.python.training.tracking.{name}": f"tensorflow.python.trackable.{name}"
        for name in ("autotrackable", "base", "data_structures", "python_state")
    },
    "tensorflow.python.training.tracking.graph_view": "tensorflow.python.checkpoint.graph_view",
    "tensorflow.python.training.tracking.util": "tensorflow.python.checkpoint.checkpoint",
    "tensorflow.python.training.training_ops": "tensorflow.python.ops.gen_training_ops",
    "tensorflow.python.tpu.tpu_config": f"{_ORIGINAL}.tpu.tpu_config",
    "tensorflow.python.tpu.tpu_context": f"{_ORIGINAL}.tpu.tpu_context",
    "tensorflow.python.tpu.tpu_estimator": f"{_ORIGINAL}.tpu.tpu_estimator",
    "tensorflow.contrib.estimator.python.estimator.early_stopping": f"{_ORIGINAL}.early_stopping",
    "tensorflow.contrib.estimator.python.estimator.extenders": f"{_ORIGINAL}.extenders",
    "tensorflow.contrib.estimator.python.estimator.hooks": f"{_ORIGINAL}.hooks.hooks",
    "tensorflow.contrib.tpu.proto": "tensorflow.core.protobuf.tpu",
    "tensorflow.contrib.tpu.python.ops.tpu_ops": "tensorflow.python.tpu.ops.tpu_ops",
    "tensorflow.contrib.tpu.python.tpu.device_assignment": "tensorflow.python.tpu.device_assignment",
    "tensorflow.contrib.tpu.python.tpu.error_handling": f"{_ORIGINAL}.tpu.error_handling",
    "tensorflow.contrib.tpu.python.tpu.session_support": "tensorflow.python.tpu.session_support",
    "tensorflow.contrib.tpu.python.tpu.tensor_tracer": "tensorflow.python.tpu.tensor_tracer",
    "tensorflow.contrib.tpu.python.tpu.topology": "tensorflow.python.tpu.topology",
    "tensorflow.contrib.tpu.python.tpu.tpu_config": f"{_ORIGINAL}.tpu.tpu_config",
    "tensorflow.contrib.tpu.python.tpu.tpu_context": f"{_ORIGINAL}.tpu.tpu_context",
    "tensorflow.contrib.tpu.python.tpu.tpu_estimator": f"{_ORIGINAL}.tpu.tpu_estimator",
    "tensorflow.contrib.tpu.python.tpu.tpu_feed": "tensorflow.python.tpu.tpu_feed",
    "tensorflow.contrib.tpu.python.tpu.tpu_function": "tensorflow.python.tpu.tpu_function",
    "tensorflow.contrib.tpu.python.tpu.tpu_sharding": "tensorflow.python.tpu.tpu_sharding",
    "tensorflow.contrib.tpu.python.tpu.tpu_system_metadata": (
        "tensorflow.python.tpu.tpu_system_metadata"
    ),
    "tensorflow.contrib.tpu.python.tpu.training_loop": "tensorflow.python.tpu.training_loop",
    "tensorflow.contrib.cluster_resolver.python.training.tpu_cluster_resolver": (
        "tensorflow.contrib.cluster_resolver"
    ),
    "tensorflow.contrib.cudnn_rnn.python.layers.cudnn_rnn": "tensorflow.contrib.cudnn_rnn",
    "tensorflow.contrib.cudnn_rnn.python.ops.cudnn_rnn_ops": "tensorflow.contrib.cudnn_rnn",
    "tensorflow.contrib.data.python.ops.batching": "tensorflow.contrib.data",
    "tensorflow.contrib.data.python.ops.interleave_ops": "tensorflow.contrib.data",
    "tensorflow.contrib.distribute.python.mirrored_strategy": "tensorflow.contrib.distribute",
    "tensorflow.contrib.distribute.python.cross_device_ops": "tensorflow.contrib.distribute",
    "tensorflow.contrib.eager.python.tfe.metrics": "tensorflow.contrib.eager.python.metrics",
    "tensorflow.contrib.keras": "tensorflow.keras",
    "tensorflow.contrib.layers.python.layers": "tf_slim.layers",
    "tensorflow.contrib.metrics.python.ops.metric_ops": "tensorflow.contrib.metrics",
    "tensorflow.contrib.opt.python.training.lars_optimizer": "tensorflow.contrib.opt",
    "tensorflow.contrib.opt.python.training.lazy_adam_optimizer": "tensorflow.contrib.opt",
    "tensorflow.contrib.opt.python.training.weight_decay_optimizers": "tensorflow.contrib.opt",
    "tensorflow.contrib.rnn.python.ops.core_rnn_cell": "tensorflow.contrib.rnn",
    "tensorflow.contrib.rnn.python.ops.rnn_cell": "tensorflow.contrib.rnn",
    **{
        f"tensorflow.contrib.seq2seq.python.ops.{name}": "tensorflow.contrib.seq2seq"
        for name in (
            "attention_wrapper",
            "basic_decoder",
            "beam_search_decoder",
            "decoder",
            "helper",
            "loss",
        )
    },
    "tensorflow.contrib.rnn.python.ops.rnn": "tensorflow.contrib.rnn",
    "tensorflow.contrib.slim.data": "tf_slim.data",
    "tensorflow.contrib.slim.dataset_data_provider": "tf_slim.data.dataset_data_provider",
    "tensorflow.contrib.slim.evaluation": "tf_slim.evaluation",
    "tensorflow.contrib.slim.learning": "tf_slim.learning",
    "tensorflow.contrib.slim.nets": "tf_slim.nets",
    "tensorflow.contrib.slim.parallel_reader": "tf_slim.data.parallel_reader",
    "tensorflow.contrib.slim.python.slim": "tf_slim",
    "tensorflow.contrib.slim.tfexample_decoder": "tf_slim.data.tfexample_decoder",
    "tensorflow.contrib.tensorboard.plugins": "tensorboard.plugins",
    "tensorflow.contrib.training.python.training.evaluation": "tensorflow.contrib.training",
    "tensorflow.contrib.training.python.training.hparam": "tpuest.compat.hparams",
    "tensorflow.contrib.training.python.training.training": "tensorflow.contrib.training",
    "tensorflow.contrib.util.loader": "tensorflow.python.framework.load_library",
}

ADVICE: dict[str, str] = {
    "tensorflow.estimator": str(_CANNED),
    "tensorflow_estimator": str(_CANNED),
    "tensorflow.python.estimator": str(_CANNED),
    "tensorflow.estimator.tpu": "Its names are those of tpuest: see dir(tf.estimator.tpu).",
    f"{_ORIGINAL}.tpu": (
        "It belonged to the original's engine; tpuest has another: use TPUEstimator's public arguments."
    ),
    "tensorflow.contrib.tpu": (
        "It belonged to the original's engine; tpuest has another: use TPUEstimator's public arguments."
    ),
    "tensorflow.contrib.cudnn_rnn": "Use tf.compat.v1.nn.rnn_cell, or tf.keras.layers.LSTM.",
    "tensorflow.contrib.distributions": "Use tensorflow_probability's tfp.distributions.",
    "tensorflow.contrib.image": "Use tf.image, or tf.raw_ops.ImageProjectiveTransformV3.",
    "tensorflow.contrib.layers": str(_SLIM),
    "tensorflow.contrib.slim": str(_SLIM),
    "tensorflow.contrib.learn": "Use tf.estimator.",
    "tensorflow.contrib.memory_stats": "Use tf.config.experimental.get_memory_info.",
    "tensorflow.contrib.metrics": "Use tf.compat.v1.metrics.",
    "tensorflow.contrib.opt": "Use tf.compat.v1.train's optimizers.",
    "tensorflow.contrib.rnn": "Use tf.compat.v1.nn.rnn_cell.",
    "tensorflow.contrib.rpc": "Call the service from tf.py_function in the input pipeline.",
    "tensorflow.contrib.summary": "Use tf.compat.v1.summary.",
}

# Private modules that some TensorFlow versions still have: theirs come first.
IF_GONE = (
    "tensorflow.python.tpu.async_checkpoint",
    "tensorflow.python.tpu.error_handling",
    "tensorflow.python.tpu.session_support",
    "tensorflow.python.tpu.tpu_config",
    "tensorflow.python.tpu.tpu_context",
    "tensorflow.python.tpu.tpu_embedding",
    "tensorflow.python.tpu.tpu_estimator",
    "tensorflow.python.tpu.tpu_embedding_gradient",
    "tensorflow.python.distribute.estimator_training",
    "tensorflow.python.profiler.profile_context",
    "tensorflow.python.training.tracking",
    "tensorflow.python.training.training_ops",
)
# Modules that no TensorFlow has any more, and a package that no longer imports.
GONE = (
    "tensorflow.nn.rnn_cell",
    "tensorflow.contrib",
    "tensorflow.estimator",
    "tensorflow.compat.v1.estimator",
    "tensorflow.compat.v2.estimator",
    "tensorflow.python.estimator",
    "tensorflow_estimator",
)

# Where Keras 3 is in use, in every copy of the API: (module below the API's root, name) to module.
KERAS_FREE: dict[tuple[str, str], str] = {("nn", "rnn_cell"): "tensorflow.nn.rnn_cell:"}

# Their names can't be loaded from where TensorFlow looks for them: module to where they are.
NORMALIZATION = "tensorflow.python.layers.normalization"
NORMALIZATION_NAMES = {
    "BatchNorm": "BatchNormalization",
    "BatchNormalization": "BatchNormalization",
    "batch_norm": "batch_normalization",
    "batch_normalization": "batch_normalization",
}

# In every copy of the API: (module below the API's root, name) to target.
REPLACED: dict[tuple[str, str], str] = {
    ("train", "Int64List"): "tpuest.compat.messages:Int64List",
    ("tpu", "CrossShardOptimizer"): "tpuest.compat.tpu:CrossShardOptimizer",
    ("tpu", "batch_parallel"): "tpuest.compat.tpu:batch_parallel",
    ("tpu", "cross_replica_sum"): "tpuest.compat.tpu:cross_replica_sum",
    ("tpu", "initialize_system"): "tpuest.compat.tpu:initialize_system",
    ("tpu", "outside_compilation"): "tpuest.compat.tpu:outside_compilation",
    ("tpu", "replicate"): "tpuest.compat.tpu:replicate",
    ("tpu", "rewrite"): "tpuest.compat.tpu:rewrite",
    ("tpu", "shard"): "tpuest.compat.tpu:shard",
    ("tpu", "shutdown_system"): "tpuest.compat.tpu:shutdown_system",
    ("tpu.experimental", "initialize_tpu_system"): (
        "tpuest.compat.cluster_resolver:initialize_tpu_system"
    ),
    ("config", "experimental_connect_to_cluster"): (
        "tpuest.compat.cluster_resolver:connect_to_cluster"
    ),
    ("distribute.cluster_resolver", "TPUClusterResolver"): (
        "tpuest.compat.cluster_resolver:TPUClusterResolver"
    ),
}

# In every copy of TensorFlow 1's API that lacks them: module below the API's root to its names' rows.
ADDED: dict[str, dict[str, str]] = {
    "data.experimental": {
        "CheckpointInputPipelineHook": "tpuest.compat.datasets:CheckpointInputPipelineHook",
    },
    "profiler": {"experimental": "tensorflow:profiler.experimental"},
    # Programs wrote tf.summary for tf.contrib.summary.
    "summary": _SUMMARY,
    "tpu.experimental": _rows(
        "tpuest.embedding_config:",
        "AdagradParameters",
        "AdamParameters",
        "FtrlParameters",
        "StochasticGradientDescentParameters",
    ),
}

# Private names that moved: (module, name) to target.
MOVED: dict[tuple[str, str], str] = {
    ("tensorflow.python.framework.ops", "IndexedSlices"): "tensorflow:IndexedSlices",
    ("tensorflow.python.framework.ops", "Tensor"): "tensorflow:Tensor",
    ("tensorflow.python.framework.ops", "register_dense_tensor_like_type"): (
        "tpuest.compat.private:register_dense_tensor_like_type"
    ),
    ("tensorflow.python.framework.ops", "register_tensor_conversion_function"): (
        "tensorflow:register_tensor_conversion_function"
    ),
    (
        "tensorflow.python.framework.ops",
        "convert_to_tensor",
    ): "tensorflow.compat.v1:convert_to_tensor",
    ("tensorflow.python.ops.array_ops", "stack"): "tensorflow.python.ops.array_ops_stack:stack",
    ("tensorflow.python.ops.array_ops", "unstack"): "tensorflow.python.ops.array_ops_stack:unstack",
    ("tensorflow.python.ops.control_flow_ops", "Assert"): "tensorflow.compat.v1:Assert",
    ("tensorflow.python.ops.control_flow_ops", "case"): "tensorflow.compat.v1:case",
    ("tensorflow.python.ops.control_flow_ops", "cond"): "tensorflow.compat.v1:cond",
    ("tensorflow.python.ops.control_flow_ops", "while_loop"): "tensorflow.compat.v1:while_loop",
    ("tensorflow.python.ops.resource_variable_ops", "_from_proto_fn"): (
        "tpuest.compat.private:variable_from_proto"
    ),
    ("tensorflow.python.ops.resource_variable_ops", "_to_proto_fn"): (
        "tpuest.compat.private:variable_to_proto"
    ),
    ("tensorflow.python.ops.variable_scope", "variable"): "tensorflow.compat.v1:Variable",
    ("tensorflow.python.util.tf_export", "ESTIMATOR_API_NAME"): (
        "tpuest.compat.private:ESTIMATOR_API_NAME"
    ),
}
# Names of a private function that other modules call: (module, name) to target.
REPLACED_PRIVATE: dict[tuple[str, str], str] = {
    ("tensorflow.python.tpu.ops.tpu_ops", "cross_replica_sum"): (
        "tpuest.compat.tpu:cross_replica_sum"
    ),
}
