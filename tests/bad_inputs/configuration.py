"""Arguments of `TPUEstimator`, `TPUConfig` and `RunConfig`."""

import models
import tensorflow.compat.v1 as tf

import tpuest
from tpuest import InputPipelineConfig, TPUConfig, TPUEstimatorSpec


def making(**arguments):
    """Makes an estimator of these arguments, everything else right."""
    right = {"model_fn": models.linear_model(), "train_batch_size": 8}

    def program(room):
        config = {"config": tpuest.RunConfig(model_dir=str(room.model_dir))}
        tpuest.TPUEstimator(**{**right, **config, **arguments})

    return program


def settings(**arguments):
    return lambda room: TPUConfig(**arguments)


def run_config(**arguments):
    return lambda room: tpuest.RunConfig(**arguments)


_CONSTRUCTOR = {
    "no train_batch_size": (
        making(train_batch_size=None),
        ValueError,
        "`train_batch_size` cannot be `None`",
    ),
    "a batch size in a string": (
        making(train_batch_size="8"),
        TypeError,
        "train_batch_size must be int, got .*str",
    ),
    "a float batch size": (
        making(train_batch_size=8.0),
        TypeError,
        "train_batch_size must be int, got .*float",
    ),
    "a bool as batch size": (
        making(train_batch_size=True),
        TypeError,
        "train_batch_size must be int, got .*bool",
    ),
    "a negative batch size": (
        making(train_batch_size=-8),
        ValueError,
        "train_batch_size must be positive, got -8",
    ),
    "no examples to evaluate": (
        making(eval_batch_size=0),
        ValueError,
        "eval_batch_size must be positive, got 0",
    ),
    "half an example to predict": (
        making(predict_batch_size=0.5),
        TypeError,
        "predict_batch_size must be int, got .*float",
    ),
    "a reserved parameter": (
        making(params={"batch_size": 8}),
        ValueError,
        "are reserved keys but existed in params .*batch_size",
    ),
    "another reserved parameter": (
        making(params={"context": None}),
        ValueError,
        "are reserved keys but existed in params .*context",
    ),
    "a plain RunConfig for cores": (
        making(config=tpuest.run_config.RunConfig()),
        ValueError,
        "`config` must be provided with type `tpu_config.RunConfig`",
    ),
    "a dict as config": (
        making(config={"model_dir": "/tmp"}, use_tpu=False),
        ValueError,
        "`config` must be provided with type `tpu_config.RunConfig`",
    ),
    "no model_fn": (making(model_fn=None), ValueError, "model_fn must be provided to Estimator"),
    "a model_fn that isn't callable": (
        making(model_fn="model"),
        TypeError,
        "'model' is not a callable object",
    ),
    "a spec in place of model_fn": (
        making(model_fn=TPUEstimatorSpec("infer", predictions={})),
        TypeError,
        "TPUEstimatorSpec.* is not a callable object",
    ),
    "a model_fn without features": (
        making(model_fn=lambda x, y: None),
        ValueError,
        r"model_fn \(.*configuration.py:\d+\) must include features argument",
    ),
    "a model_fn of unknown arguments": (
        making(model_fn=lambda features, labels, is_training: None),
        ValueError,
        r"has following not expected args: \['is_training'\].*`params`",
    ),
    "params for a model_fn without": (
        making(model_fn=lambda features, labels: None, params={"a": 1}),
        ValueError,
        "does not include params argument, but params .*'a': 1.* is passed",
    ),
    "a list as params": (
        making(params=[1]),
        TypeError,
        r"`params` is expected to be a dict. Got \[1\]",
    ),
    "two directories": (
        making(model_dir="/elsewhere"),
        ValueError,
        "`model_dir` are set both in constructor and `RunConfig`.*'/elsewhere'",
    ),
    "a number as model_dir": (
        making(config=tpuest.RunConfig(), model_dir=7),
        TypeError,
        "model_dir must be a string or a path, got 7",
    ),
    "export version 3": (
        making(export_saved_model_api_version=3),
        ValueError,
        "export_saved_model_api_version should be 1 or 2; got 3",
    ),
    "a dict as embedding_config_spec": (
        making(embedding_config_spec={}),
        TypeError,
        "embedding_config_spec must be an EmbeddingConfigSpec, got .*dict",
    ),
    "a number to warm-start from": (
        making(warm_start_from=7),
        ValueError,
        "warm_start_from must be a string or a WarmStartSettings, instead got .*int",
    ),
    "an unknown argument": (
        making(nonsense=1),
        TypeError,
        "unexpected keyword argument 'nonsense'",
    ),
    "model parallelism for each shard": (
        making(
            config=tpuest.RunConfig(
                tpu_config=TPUConfig(num_cores_per_replica=2, per_host_input_for_training=False)
            )
        ),
        ValueError,
        "Model parallelism only supports per host input for training",
    ),
}


_CONFIG = {
    "an unknown unit of iterations": (
        settings(iterations_per_loop="5x"),
        ValueError,
        "Invalid TPUConfig `iterations_per_loop` value.*Got '5x'",
    ),
    "no iterations": (
        settings(iterations_per_loop=0),
        ValueError,
        "Invalid TPUConfig `iterations_per_loop` value.*Got 0",
    ),
    "half an iteration": (
        settings(iterations_per_loop=0.5),
        ValueError,
        "Invalid TPUConfig `iterations_per_loop` value.*Got 0.5",
    ),
    "iterations None": (
        settings(iterations_per_loop=None),
        ValueError,
        "Invalid TPUConfig `iterations_per_loop` value.*Got None",
    ),
    "no shards": (
        settings(num_shards=0),
        ValueError,
        "TPUConfig num_shards must be positive, got 0",
    ),
    "shards in a string": (
        settings(num_shards="8"),
        TypeError,
        "TPUConfig num_shards must be int, got .*str",
    ),
    "three cores a replica": (
        settings(num_cores_per_replica=3),
        ValueError,
        "num_cores_per_replica must be 1, 2, 4, .*; got 3",
    ),
    "a list as cores a replica": (
        settings(num_cores_per_replica=[2]),
        ValueError,
        r"num_cores_per_replica must be 1, 2, 4, .*; got \[2\]",
    ),
    "three partitions": (
        settings(input_partition_dims=[1, 2, 3]),
        ValueError,
        r"input_partition_dims must be a list/tuple with one or two elements, got \[1, 2, 3\]",
    ),
    "a number as partitions": (
        settings(input_partition_dims=3),
        ValueError,
        "input_partition_dims must be a list/tuple with one or two elements, got 3",
    ),
    "partitions of one core": (
        settings(
            input_partition_dims=[[1, 2]],
            per_host_input_for_training=InputPipelineConfig.PER_HOST_V2,
        ),
        ValueError,
        "input_partition_dims requires setting num_cores_per_replica",
    ),
    "partitions of a host's batch": (
        settings(input_partition_dims=[[1, 2]], num_cores_per_replica=2),
        ValueError,
        "input_partition_dims is only supported in PER_HOST_V2 mode",
    ),
    "an unknown way of input": (
        settings(per_host_input_for_training="yes"),
        ValueError,
        "per_host_input_for_training must be a boolean, .*BROADCAST; got yes",
    ),
    "an unknown way of evaluation": (
        settings(eval_training_input_configuration=3),
        ValueError,
        "eval_training_input_configuration must be PER_HOST_V1 or SLICED; got 3",
    ),
    "a host call every 0 steps": (
        settings(experimental_host_call_every_n_steps=0),
        ValueError,
        "experimental_host_call_every_n_steps must be positive, got 0",
    ),
    "an unknown setting": (
        settings(nonsense=1),
        TypeError,
        "unexpected keyword argument 'nonsense'",
    ),
    "checkpoints by two clocks": (
        run_config(save_checkpoints_secs=1, save_checkpoints_steps=1),
        ValueError,
        "`save_checkpoints_steps` and `save_checkpoints_secs` cannot be both set",
    ),
    "a negative period": (
        run_config(save_checkpoints_steps=-1),
        ValueError,
        "save_checkpoints_steps should be >= 0, got -1",
    ),
    "a negative number of checkpoints": (
        run_config(keep_checkpoint_max=-1),
        ValueError,
        "keep_checkpoint_max should be >= 0, got -1",
    ),
    "a seed in a string": (
        run_config(tf_random_seed="1"),
        ValueError,
        "tf_random_seed must be integer, got '1'",
    ),
    "a number as session_config": (
        run_config(session_config=1),
        ValueError,
        "session_config must be instance of ConfigProto, got 1",
    ),
    "a number as model_dir of RunConfig": (
        run_config(model_dir=7),
        TypeError,
        "model_dir must be a string or a path, got 7",
    ),
    "no model_dir but an empty one": (
        run_config(model_dir=""),
        ValueError,
        "model_dir should be non-empty",
    ),
    "an unknown argument of RunConfig": (
        run_config(nonsense=1),
        TypeError,
        "unexpected keyword argument 'nonsense'",
    ),
    "a dict as tpu_config": (
        run_config(tpu_config={"iterations_per_loop": 1}),
        TypeError,
        "tpu_config must be a TPUConfig, got .*iterations_per_loop",
    ),
    "a master and a cluster": (
        run_config(
            master="local",
            cluster=tf.distribute.cluster_resolver.SimpleClusterResolver(tf.train.ClusterSpec({})),
        ),
        ValueError,
        "Both master and cluster are set.*pass `cluster` only",
    ),
}


CASES = {**_CONSTRUCTOR, **_CONFIG}
