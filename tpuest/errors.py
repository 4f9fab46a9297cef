"""The exceptions tpuest raises by name, and the long messages of the common mistakes.

Stands beside the chain: every stage takes its messages here. Each function gives an exception
ready to raise, so that one mistake has one type and one text wherever it is found:

    raise errors.batch_not_divisible("train", batch_size=30, num_replicas=8)

Words people search for are those of `tpu_estimator.py` and `tpu_context.py` of
tensorflow-estimator; what to do about it is added.
"""

from __future__ import annotations

from collections.abc import Iterable


class UnsupportedError(NotImplementedError):
    """Says that something of the old API isn't carried, and what to use instead.

    Args:
      what: the thing asked for, as the user wrote it.
      instead: the alternative, as a sentence in the imperative.
    """

    def __init__(self, what: str, instead: str):
        super().__init__(what, instead)  # Both stay in `args`, so that the error can be pickled.
        self.what = what
        self.instead = instead

    def __str__(self) -> str:
        return f"{self.what} is not supported by tpuest. {self.instead}"


class UnfitInputError(ValueError):
    """Says which tensor of `input_fn` cannot go to the cores.

    Attributes:
      argument: 'features' or 'labels'.
      key: the tensor's place in a nested argument ('ids', 'image/raw'); None for a lone tensor.
      tensor: the tensor, or its spec.
      others: the errors of the other tensors that cannot.
    """

    def __init__(
        self,
        message: str,
        argument: str | None = None,
        key: str | None = None,
        tensor: object = None,
    ):
        super().__init__(message)
        self.argument = argument
        self.key = key
        self.tensor = tensor
        self.others: tuple[UnfitInputError, ...] = ()

    @property
    def name(self) -> str:
        return _input_name(self.argument, self.key)


class UnfitModelError(ValueError):
    """Says which tensor or operation of `model_fn` breaks a rule of the cores.

    Attributes:
      name: "predictions['y']", or the operation's.
      culprit: the tensor or operation.
    """

    def __init__(self, message: str, name: str | None = None, culprit: object = None):
        super().__init__(message)
        self.name = name
        self.culprit = culprit


def _input_name(argument: str, key: str | None) -> str:
    return argument if key is None else f"{argument}[{key!r}]"


def missing_cross_shard_optimizer(num_replicas: int) -> ValueError:
    """Says that several cores train and nothing sums their gradients.

    Args:
      num_replicas: cores (or core groups) that train, at least 2.
    """
    return ValueError(
        "CrossShardOptimizer must be used for model training on TPUs. "
        f"The {num_replicas} replicas of this run would each train a model of their own, since no "
        "gradient is summed across them. Wrap the optimizer in model_fn:\n"
        "\n"
        "    optimizer = tf.compat.v1.train.AdamOptimizer(learning_rate)\n"
        "    if params['use_tpu']:\n"
        "        optimizer = tf.compat.v1.tpu.CrossShardOptimizer(optimizer)\n"
        "    train_op = optimizer.minimize(\n"
        "        loss, global_step=tf.compat.v1.train.get_global_step())\n"
    )


def unsummed_gradients() -> ValueError:
    """Says that a model trains under a `tf.distribute` strategy and nothing sums its gradients."""
    return ValueError(
        "RunConfig(train_distribute=...) sums gradients where an optimizer of tf.compat.v1.train applies them, "
        "and this model_fn has none: each replica would train a model of its own. Let your optimizer "
        "call `super().apply_gradients(...)`, or leave train_distribute out."
    )


def smaller_batch_refused(name: str, num_examples: int, batch_size: int) -> ValueError:
    """Says that an evaluation's last batch is smaller than a function of the host can take.

    Args:
      name: 'eval_metrics' or 'host_call'.
      num_examples: of the last batch.
      batch_size: global, of the others.
    """
    return ValueError(
        f"The last batch of the evaluation has {num_examples} examples, and the function of {name} works only where "
        f"it knows how many it gets: {batch_size}. Give `steps`, so that the evaluation ends before that batch, or a "
        f"multiple of {batch_size} examples, or have the function take the size from tf.shape(tensor)[0]."
    )


def dynamic_input_shape(argument: str, key: str | None, tensor: object) -> UnfitInputError:
    """Says which tensor of `input_fn` has a shape only known at run time.

    Args:
      argument: 'features' or 'labels'.
      key: the tensor's place in a nested argument ('ids', 'image/raw'); None for a lone tensor.
      tensor: the tensor, or its spec.
    """
    name = _input_name(argument, key)
    return UnfitInputError(
        f"The {argument} to the model returned by input_fn must have static shape. "
        f"Tensor: {name} is {tensor}. A TPU program is compiled for fixed shapes. "
        "If the batch dimension is unknown, drop the partial batch:\n"
        "\n"
        "    dataset = dataset.batch(params['batch_size'], drop_remainder=True)\n"
        "\n"
        "If another dimension is unknown, pad the examples to one length before batching "
        "(`padded_batch` with `padded_shapes`), or give a parsed feature its length "
        "(`tf.io.FixedLenFeature([max_length], tf.int64)`).\n",
        argument,
        key,
        tensor,
    )


def unfit_for_cores(argument: str, key: str | None, tensor: object) -> UnfitInputError:
    """Says which tensor of `input_fn` a TPU core cannot hold.

    Args:
      argument: 'features' or 'labels'.
      key: the tensor's place in a nested argument; None for a lone tensor.
      tensor: the tensor: a string, sparse or ragged one.
    """
    name = _input_name(argument, key)
    return UnfitInputError(
        f"{name} is {tensor}: TPU cores hold dense tensors of numbers only. Encode it in input_fn "
        "(strings to ids with a lookup table or tensorflow_text, sparse or ragged tensors with "
        "to_dense and to_tensor), or run with `use_tpu=False`.",
        argument,
        key,
        tensor,
    )


def scalar_input(argument: str, key: str | None, tensor: object) -> UnfitInputError:
    """Says which tensor of `input_fn` has no batch dimension to split over the cores."""
    name = _input_name(argument, key)
    return UnfitInputError(
        f"{name} is {tensor}, without a batch dimension: it cannot be split over the cores. Batch "
        "the dataset, or repeat the value for each example.",
        argument,
        key,
        tensor,
    )


def endless_input() -> ValueError:
    """Says that an evaluation of all the data would never end."""
    return ValueError(
        "input_fn gives data without end, and evaluate has no steps: it would never end. Pass evaluate(steps=...), or "
        "repeat the dataset in training only."
    )


def dynamic_prediction_shape(key: str, tensor: object) -> UnfitModelError:
    """Says which prediction has a batch dimension only known at run time.

    Args:
      key: the tensor's key in `TPUEstimatorSpec.predictions`.
      tensor: the tensor.
    """
    return UnfitModelError(
        f"The tensor with key ({key}) in TPUEstimatorSpec.predictions has dynamic shape (should "
        f"be static). Tensor: {tensor}. Keep the batch dimension of the features: reshape with "
        "`params['batch_size']` rather than -1, and avoid `tf.boolean_mask` and `tf.unique`.",
        f"predictions[{key!r}]",
        tensor,
    )


def captured_core_tensor(function: str, operation: object) -> UnfitModelError:
    """Says that a function of the host uses a tensor of `model_fn` that it wasn't given.

    Args:
      function: 'scaffold_fn', 'eval_metrics' or 'host_call'.
      operation: the `tf.Operation` that does.
    """
    return UnfitModelError(
        f"Inside {function}: Op {operation.name} ({operation.type}) depends on TPU computation, "
        "which is not allowed: it runs on the host, where tensors of model_fn have no value. "
        "Pass the tensor along with the function: `eval_metrics=(metric_fn, [labels, logits])`, "
        "`host_call=(function, [tensor])`; a scaffold_fn can use none.",
        operation.name,
        operation,
    )


def no_tpu(looked_for: str, found: Iterable[object]) -> RuntimeError:
    """Says that `use_tpu=True` met neither a TPU nor a simulation.

    Args:
      looked_for: the TPU asked for, such as "a TPU on this machine (tpu='local')".
      found: the devices there are, or their names.
    """
    devices = ", ".join(str(device) for device in found) or "none"
    return RuntimeError(
        "Cannot find any TPU cores in the system. "
        f"Looked for: {looked_for}. Available devices are: {devices}.\n"
        "To see why and get the line that repairs it:\n"
        "\n"
        "    tpuest --doctor\n"
        "\n"
        "To try the program without a TPU, on 8 simulated cores:\n"
        "\n"
        "    tpuest --simulate-tpu 8 script.py\n"
        "\n"
        "To train on CPU or GPU, pass `use_tpu=False` to TPUEstimator.\n"
    )


def wrong_num_shards(system: str, num_replicas: int, num_shards: int) -> ValueError:
    """Says that `TPUConfig.num_shards` isn't the number of replicas.

    Args:
      system: what counts the replicas.
      num_replicas: how many there are.
      num_shards: what the user said.
    """
    return ValueError(
        f"TPUConfig.num_shards is not set correctly. According to {system} num_replicas should be "
        f"({num_replicas}), got ({num_shards}). For non-model-parallelism, num_replicas should be "
        "the total num of TPU cores in the system. For model-parallelism, the total number of TPU cores "
        "should be num_cores_per_replica * num_replicas. Please set it accordingly or leave it as `None`"
    )


def no_such_core(operation: str, core: int, cores_per_replica: int) -> ValueError:
    """Says that `model_fn` places an operation on a core that its replica hasn't got.

    Args:
      operation: its name.
      core: what `tpu.core` was given.
      cores_per_replica: how many cores a replica has.
    """
    return ValueError(
        f"{operation} is placed on tpu.core({core}), but a replica has {cores_per_replica} core(s), counted from 0. "
        "Set TPUConfig(num_cores_per_replica=...) to as many as model_fn uses."
    )


def batch_not_divisible(mode: str, batch_size: int, num_replicas: int) -> ValueError:
    """Says that a global batch can't be split evenly, and which sizes can.

    Args:
      mode: 'train', 'eval' or 'predict', as in the constructor's `{mode}_batch_size`.
      batch_size: the global batch size, in examples.
      num_replicas: cores (or core groups) that share the batch.
    """
    smaller = batch_size // num_replicas * num_replicas
    larger = smaller + num_replicas
    nearest = f"{smaller} or {larger}" if smaller else str(larger)
    return ValueError(
        f"{mode} batch size {batch_size} must be divisible by number of replicas {num_replicas}. "
        "It is the global batch size, of which each replica gets an equal part: pass "
        f"{nearest} as {mode}_batch_size to TPUEstimator."
    )


def missing_tensorflow() -> ModuleNotFoundError:
    """Says which TensorFlow to install; tpuest itself never pulls one in."""
    return ModuleNotFoundError(
        "tpuest needs TensorFlow 2.16 to 2.21, and none is installed. Install the one for this "
        "machine (tpuest doesn't depend on either: the two would overwrite each other):\n"
        "\n"
        "    pip install 'tpuest[tpu]'         # a TPU VM, Colab with a TPU\n"
        "    pip install 'tpuest[tensorflow]'  # GPU\n"
        "    pip install 'tpuest[cpu]'         # CPU only\n",
        name="tensorflow",
    )
