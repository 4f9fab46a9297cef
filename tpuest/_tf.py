"""The only file that imports `tensorflow.python.*`; each line says why."""

import contextlib
import functools
import itertools

import numpy as np
import tensorflow as tf

# Which kind of distributed iterator is made: see `distributed_iterators_of_v2`.
from tensorflow.python import tf2

# Programs call tf.disable_v2_behavior() at import; the engine still runs eagerly.
# Saver, QueueRunner and hooks accept a session only if it is one of these.
from tensorflow.python.client.session import SessionInterface  # noqa: F401

# Nested fetches (dicts, variables, SparseTensors) flatten and rebuild as in a tf.compat.v1.Session.
from tensorflow.python.client.session import _FetchHandler as FetchHandler  # noqa: F401

# Where a one-shot iterator of a graph takes its dataset: see `one_shot_iterators_without_autotuning`.
# Where a distributed iterator makes the iterators of its devices, whose options nobody else can set.
from tensorflow.python.data.ops import dataset_ops, multi_device_iterator_ops

# What an element's flat tensors are made of again.
from tensorflow.python.data.util import structure
from tensorflow.python.eager.context import (
    FunctionCallOptions,
    LogicalDevice,  # noqa: F401  planned_tpu: a core that isn't there
    context,
    eager_mode,  # noqa: F401
    get_server_def,  # noqa: F401  tpu_system: what this process has connected to
    graph_mode,  # noqa: F401
)

# tpu_inference: what a TPU serves is a function that may make variables and takes the model's by handle; the newer
# kinds of functions do neither in a TF 1 graph.
from tensorflow.python.framework.function import Defun  # noqa: F401

# A branch with a cross-replica sum is built for all replicas at once, from its function.
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph  # noqa: F401

# layers: `training` may be a tensor that folds to a constant; the public
# `tf.get_static_value` doesn't fold, and then the graph gets a needless cond.
from tensorflow.python.framework.smart_cond import (
    smart_cond,  # noqa: F401
    smart_constant_value,  # noqa: F401
)

# A file is whole or not there: what a failed write leaves has a name that `storage` knows.
from tensorflow.python.lib.io.file_io import (
    atomic_write_string_to_file as write_whole,  # noqa: F401
)

# On cores model_fn is built as XLA needs it: see `compiled_by_xla`.
from tensorflow.python.ops.control_flow_ops import XLAControlFlowContext

# A fresh variable on a device has no value until restored.
from tensorflow.python.ops.gen_resource_variable_ops import var_is_initialized_op as is_initialized  # noqa: F401

# A variable whose value arrives later, from the TF 1 initialiser or a checkpoint.
from tensorflow.python.ops.resource_variable_ops import UninitializedVariable  # noqa: F401

# spec.HostCallHook: a session must initialise the summary writers of a host call; no public list of them.
from tensorflow.python.ops.summary_ops_v2 import summary_writer_initializer_op  # noqa: F401

# export_versions, pipeline: read from their modules at each call, as the original does: its tests put other functions there.
from tensorflow.python.platform import (
    gfile,  # noqa: F401
    tf_logging,  # noqa: F401
)

# tpu_system: who fabricates a TPU system replaces this module's query; the job's name is inferred here too.
from tensorflow.python.tpu import tpu_system_metadata

# params['batch_size'] rules apart, CrossShardOptimizer asks this context how many shards there are.
from tensorflow.python.tpu.tpu_function import tpu_shard_context  # noqa: F401

# training: the timer is read from its module when a run begins, as the original does: its tests put another one there.
from tensorflow.python.training import basic_session_run_hooks  # noqa: F401

# The counter of evaluated batches, by which evaluation hooks (their own too) know when to stop.
from tensorflow.python.training.evaluation import (
    _get_or_create_eval_step as get_or_create_eval_step,  # noqa: F401
)

# calls: the class behind `MonitoredSession`, which lets its owner decide when a session is made anew; since 1.4.
from tensorflow.python.training.monitored_session import _PREEMPTION_ERRORS, _MonitoredSession

# model_parallelism: `input_partition_dims` has lists where a batch has tensors, which `tf.nest` would flatten too.
from tensorflow.python.util.nest import flatten_up_to  # noqa: F401

# The attribute by which a TPU's compiler leaves an operation to the host, and numbers for its values.
OUTSIDE_COMPILATION = "_xla_outside_compilation"
_outside_compilations = itertools.count()


def saving_listeners(saver_hook):
    """Gives the list of a CheckpointSaverHook's listeners, which grows after the hook is made and has no public name."""
    return saver_hook._listeners


def replaced_tpu_system_query():
    """Gives what a program put in place of TensorFlow's query of the TPU system, `None` if nothing."""
    query = tpu_system_metadata._query_tpu_system_metadata
    is_own = getattr(query, "__module__", None) == tpu_system_metadata.__name__
    return None if is_own else query


def tpu_job(master, cluster_def):
    """Infers the name of the job of a TPU's hosts; see `tpu_system.find_job`."""
    return tpu_system_metadata.master_job(master, cluster_def)


def split_over_cores(tensor, partition_dims):
    """Splits a replica's tensor over its cores.

    What `TPUStrategy.experimental_split_to_logical_devices` does, which refuses axes that don't divide evenly; XLA pads them.
    """
    from tensorflow.python.compiler.xla.experimental import (
        xla_sharding,  # only replicas of several cores need it
    )

    cores = np.arange(np.prod(partition_dims)).reshape(partition_dims)
    return xla_sharding.tile(tensor, cores, use_sharding_op=True)


@contextlib.contextmanager
def compiled_by_xla():
    """Lets gradients of tf.cond, tf.while_loop and slices be made of ops that a TPU has, as in `tpu.replicate` of TF 1.

    Elsewhere a gradient of tf.cond keeps its intermediates in optionals, which XLA refuses.
    """
    context = _Computation()
    context.Enter()
    try:
        yield
    finally:
        context.Exit()


class _Computation(XLAControlFlowContext):
    """What `model_fn` is built in, for cores: programs of TF 1 ask the context for a variable of which each has a part."""

    def __init__(self):
        super().__init__()
        self._handles = {}

    def get_replicated_var_handle(self, name, variables, is_mirrored=False):
        """Gives the handle of the core's own one among as many variables as there are cores."""
        if name not in self._handles:
            with no_control_dependencies():
                handles = [variable.handle for variable in variables]
                self._handles[name] = tf.raw_ops.TPUReplicatedInput(
                    inputs=handles, name=name + "/handle"
                )
        return self._handles[name]


@contextlib.contextmanager
def no_control_dependencies():
    """Drops the control dependencies in force and stays in the TPU computation under way, if there is one.

    `import_graph_def` fails under control dependencies: it compares their operations with tensors (TF 2.21). The public
    `tf.control_dependencies(None)` would leave the TPU computation too.
    """
    graph = tf.compat.v1.get_default_graph()
    computation = graph._get_control_flow_context()
    with graph.control_dependencies(None):
        graph._set_control_flow_context(computation)
        yield


@contextlib.contextmanager
def device_iterators_without_autotuning():
    """Makes iterators of devices without a thread that tunes them: they only hand over batches.

    Closing an iterator cancels that thread, which may miss it and sleep on: up to a minute for each device.
    To remove when `Model::OptimizeLoop` wakes from a cancellation under way (seen in TF 2.21).
    """
    make_dataset = multi_device_iterator_ops._create_device_dataset

    def make_untuned_dataset(*args, **kwargs):
        return without_autotuning(make_dataset(*args, **kwargs))

    multi_device_iterator_ops._create_device_dataset = make_untuned_dataset
    try:
        yield
    finally:
        multi_device_iterator_ops._create_device_dataset = make_dataset


@contextlib.contextmanager
def one_shot_iterators_without_autotuning():
    """Makes a graph's one-shot iterators without a thread that tunes them; see `device_iterators_without_autotuning`.

    The option goes where the iterator's own function builds the dataset: one more op in the graph would change the op
    seeds of all that follow, and with them the initial values.
    """
    finish = dataset_ops.DatasetV2._apply_debug_options

    def finish_untuned(dataset):
        finished = finish(dataset)
        is_in_function = tf.compat.v1.get_default_graph() is not dataset._variant_tensor.graph
        return without_autotuning(finished) if is_in_function else finished

    dataset_ops.DatasetV2._apply_debug_options = finish_untuned
    try:
        yield
    finally:
        dataset_ops.DatasetV2._apply_debug_options = finish


@contextlib.contextmanager
def distributed_iterators_of_v2():
    """Makes distributed iterators that a traced function takes anew at each call.

    After tf.disable_v2_behavior() they would be `DistributedIteratorV1`, which a function holds on to: a second call of
    the same program would find the first one's iterator, dead.
    """
    was_enabled = tf2.enabled()
    tf2.enable()
    try:
        yield
    finally:
        if not was_enabled:
            tf2.disable()


def without_autotuning(dataset):
    """Leaves a dataset's parallelism as it starts; see `device_iterators_without_autotuning`."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def begin_saving(saver_hook, global_step):
    """Does what a CheckpointSaverHook's `begin` does, with another tensor to read the global step by."""
    saver_hook._summary_writer = tf.compat.v1.summary.FileWriterCache.get(
        saver_hook._checkpoint_dir
    )
    saver_hook._global_step_tensor = global_step
    for listener in saver_hook._listeners:
        listener.begin()


def add_graph_events(saver_hook, graph, graph_def):
    """Writes the graph to the event file, as a CheckpointSaverHook does when a session begins."""
    saver = saver_hook._get_saver()
    meta_graph = tf.compat.v1.train.export_meta_graph(
        graph_def=graph_def, saver_def=saver and saver.saver_def, graph=graph
    )
    saver_hook._summary_writer.add_graph(graph)
    saver_hook._summary_writer.add_meta_graph(meta_graph)


def save_checkpoint(saver_hook, session, global_step):
    """Makes a CheckpointSaverHook save now, without writing the graph; says whether a listener wants to stop."""
    saver_hook._timer.update_last_triggered_step(global_step)
    return saver_hook._save(session, global_step)


def forget_summary_writers(directory):
    """Drops the writers of event files in a directory and below, whose threads have ended by an error."""
    cache = tf.compat.v1.summary.FileWriterCache
    with cache._lock:
        inside = [
            key for key in cache._cache if key == directory or key.startswith(directory + "/")
        ]
        for key in inside:
            del cache._cache[key]


def checkpoint_is_due(saver_hook, global_step):
    """Says whether a CheckpointSaverHook's steps or seconds are over; they are counted in it."""
    return saver_hook._timer.should_trigger_for_step(global_step)


def last_checkpoint_step(saver_hook):
    """Tells the global step of the last checkpoint that a CheckpointSaverHook wrote, `None` for none."""
    return saver_hook._timer.last_triggered_step()


class RenewableSession(_MonitoredSession):
    """A `MonitoredSession` whose session is made anew when told; the public one does it at every lost worker, forever."""

    _sess = None

    def __init__(self, session_creator, hooks):
        super().__init__(session_creator, hooks, should_recover=False)

    @property
    def has_begun(self):
        """Whether every hook has: the first session may have failed after that."""
        return hasattr(self, "_coordinated_creator")

    def renew(self):
        """Closes the session and makes another one; hooks hear of it as of the first."""
        if self._sess is not None:
            # Its threads may have lost the same worker.
            with contextlib.suppress(_PREEMPTION_ERRORS):
                self._sess.close()
        self._sess = self._coordinated_creator.create_session()

    def should_stop(self):
        """Says, as `MonitoredSession`, that a session stops one of whose threads failed: closing it raises the error."""
        try:
            return super().should_stop()
        except _PREEMPTION_ERRORS:
            raise
        except Exception:  # noqa: BLE001
            return True


def call_flat(function, *arguments, rewrites=1):
    """Calls a concrete function without binding its arguments to names: that takes longer than a small step.

    Args:
      function: of positional tensors and iterators only.
      arguments: of the types that it was traced with.
      rewrites: how often TensorFlow's graph optimizers go over it before it runs first: 0 or 1.
    """
    tensors = tf.nest.flatten(arguments, expand_composites=True)
    with _rewritten(rewrites):
        return function._call_flat(tensors, function.captured_inputs)


def repeated_call(function, *arguments):
    """Gives a function that does what `call_flat` does, for the same arguments every time; its outputs are flat."""
    tensors = tf.nest.flatten(arguments, expand_composites=True) + list(function.captured_inputs)

    def call():
        with _rewritten(1):
            return function._inference_function.call_flat(*tensors)

    return call


def take_batch(iterator):
    """Takes the next element of one device's iterator, as flat tensors; `None` if the data has ended."""
    try:
        return tf.raw_ops.IteratorGetNext(
            iterator=iterator._iterator_resource,
            output_types=iterator._flat_output_types,
            output_shapes=iterator._flat_output_shapes,
        )
    except tf.errors.OutOfRangeError:
        return None


def specs_of_batch(iterator):
    """Describes the tensors that `take_batch` gives."""
    return list(map(tf.TensorSpec, iterator._flat_output_shapes, iterator._flat_output_types))


def structured_batch(element_spec, tensors):
    """Gives the element whose flat tensors `take_batch` gave."""
    return structure.from_compatible_tensor_list(element_spec, list(tensors))


@contextlib.contextmanager
def _rewritten(times):
    """Sets how often graph optimizers go over the functions called within.

    What runs once is done sooner as it was traced. A second time over, TensorFlow's default, took 10 of the 36 ms of a
    small loop's first call, and made none of the models in `benchmarks` faster.
    """
    options = context().function_call_options
    context().function_call_options = _call_options(
        options.executor_type, options.config_proto_serialized, times
    )
    try:
        yield
    finally:
        context().function_call_options = options


@functools.cache
def _call_options(executor_type, config_serialized, times):
    config = tf.compat.v1.ConfigProto.FromString(config_serialized)
    rewrite_options = config.graph_options.rewrite_options
    if times == 0:
        rewrite_options.disable_meta_optimizer = True
    else:
        rewrite_options.meta_optimizer_iterations = rewrite_options.ONE
    return FunctionCallOptions(executor_type, config)


def register_functions(library):
    """Makes the functions of a TF 1 graph known to the eager runtime, which doesn't know those of `Defun`.

    `import_graph_def` adds them to the function under way only, from where no call of it finds them (TF 2.21).
    """
    for function in library.function:
        if not context().has_function(function.signature.name):
            context().add_function_def(function)


@contextlib.contextmanager
def outside_compilation(graph):
    """Marks the operations made inside it as the host's, as a `TPUReplicateContext` marks them, which isn't there yet."""
    number = str(next(_outside_compilations)).encode()
    with graph._attr_scope({OUTSIDE_COMPILATION: tf.compat.v1.AttrValue(s=number)}):
        yield


def function_graph(graph, name):
    """Gives the Python graph of a graph's function, whose operations know who made them; `None` if there is none."""
    function = graph._get_function(name)
    return getattr(function, "graph", None)


def is_function_call(operation):
    """Says whether an operation's type is the name of a function, as those of `Defun` are called."""
    return operation.graph._get_function(operation.type) is not None


def differentiated(operation):
    """Gives the operation that a gradient's operation is the gradient of; others as they are."""
    while operation._original_op is not None:
        operation = operation._original_op
    return operation


def xla_kernels():
    """Names the operations that XLA has on the CPU, nearly those that it has on a TPU; none if this cannot be told."""
    try:
        from tensorflow.python.util import pywrap_xla_ops  # only `tpuest --check` asks for it
    except ImportError:
        return frozenset()
    return frozenset(pywrap_xla_ops.get_cpu_kernel_names())


def dataset_inputs(dataset):
    """Gives the datasets that a dataset was made of, to find the one that spoiled a shape."""
    return list(dataset._inputs())


def xla_all_reduce(tensor, groups):
    """Sums over replicas by the HLO that a TPU's CrossReplicaSum becomes; the CPU's XLA cannot lower that op itself."""
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops  # slow to load, and only aot asks for it

    return gen_xla_ops.xla_all_reduce(tensor, groups, reduce_op="Add", mode="CrossReplica")


def xla_call(name, settings, tensor, shape):
    """Calls by name what the CPU's XLA doesn't know: a tensor of the same type and another shape; nothing runs it."""
    from tensorflow.compiler.tf2xla.ops import gen_xla_ops

    (result,) = gen_xla_ops.xla_custom_call_v2(
        [tensor],
        call_target_name=name,
        backend_config=settings,
        has_side_effect=False,
        result_dtypes=[tensor.dtype],
        result_shapes=[tf.TensorShape(shape)],
    )
    return result


def tpu_embedding_ops():
    """Gives TensorFlow's operations of a TPU's memory for embeddings: `tf.tpu.experimental.embedding` is built on these."""
    from tensorflow.python.tpu.ops import tpu_ops  # only programs with embeddings ask

    return tpu_ops


def tpu_embedding_configuration():
    """Makes the message that describes tables and features to a TPU."""
    from tensorflow.core.protobuf.tpu import tpu_embedding_configuration_pb2

    return tpu_embedding_configuration_pb2.TPUEmbeddingConfiguration()


def configure_tpu_embedding(configuration):
    """Builds what tells a TPU of its tables; see `tf.tpu.experimental.embedding.TPUEmbedding.build`."""
    message = tpu_embedding_configuration()
    message.ParseFromString(configuration)
    return tpu.initialize_system_for_tpu_embedding(message)


def tpu_hardware_feature(kind):
    """Makes what a resolver tells of a TPU with such hardware for embeddings; see `embedding_feature`."""
    from tensorflow.core.protobuf.tpu import topology_pb2

    feature = topology_pb2.TPUHardwareFeature
    return feature(embedding_feature=feature.EmbeddingFeature.Value(kind))


def embedding_feature(strategy):
    """Tells what hardware for embeddings a TPU has: 'V1', 'V2' (SparseCores) or 'UNSUPPORTED'."""
    resolver = strategy.extended._tpu_cluster_resolver
    if resolver.tpu_hardware_feature is None:
        return "UNSUPPORTED"
    return strategy.extended.tpu_hardware_feature.embedding_feature.value


def host_of(device):
    """Names the CPU of the host that a core belongs to."""
    from tensorflow.python.distribute import device_util

    return device_util.get_host_for_device(device)


def per_replica(values):
    """Gives the values of all replicas as one, in a function being traced too."""
    from tensorflow.python.distribute import distribute_utils

    return distribute_utils.regroup(values, always_wrap=True)


# compat.lookup: index_table_from_tensor, and the hash of words out of the vocabulary, have no public name.
from tensorflow.python.ops import lookup_ops  # noqa: F401

# compat.contrib_metrics: variables of a metric, as those of tf.metrics.
from tensorflow.python.ops.metrics_impl import metric_variable  # noqa: F401

# compat.simulated_serving: the one place where all loaders choose a graph of a SavedModel.
from tensorflow.python.saved_model.loader_impl import SavedModelLoader  # noqa: F401

# tpu_inference: the real rewrite and its like, whatever is installed under the public names.
from tensorflow.python.tpu import tpu, tpu_replication  # noqa: F401

# compat.tpu: the sum over cores as TensorFlow builds it, and whether model_fn is being built for cores.
from tensorflow.python.tpu.ops.tpu_ops import cross_replica_sum  # noqa: F401
from tensorflow.python.tpu.tpu_function import get_tpu_context

# compat.tpu: the class that ours extends, whatever is installed under its public name.
from tensorflow.python.tpu.tpu_optimizer import CrossShardOptimizer  # noqa: F401

# planned_tpu: what a TPUClusterResolver tells a TPUStrategy of the cores, here of cores that aren't there.
from tensorflow.python.tpu.tpu_system_metadata import TPUSystemMetadata  # noqa: F401


def number_of_shards():
    """Tells over how many cores `model_fn` is being built; `None` outside."""
    return get_tpu_context().number_of_shards


@contextlib.contextmanager
def tpu_inference_context():
    """Builds what stands around a served TPU computation; `tpu.under_tpu_inference_context` tells."""
    context = tpu._TPUInferenceContext("tpu_inference", check_ops=False)
    context.Enter()
    try:
        yield
    finally:
        context.Exit()


# compat.fake_summary_writer: where TF 1's writers are looked up, to put another one there in a test.
from tensorflow.python.summary.writer import writer as summary_writer  # noqa: F401
from tensorflow.python.summary.writer import writer_cache as summary_writer_cache  # noqa: F401


def assert_meta_graph_protos_equal(test_case, expected, actual):
    """Compares two MetaGraphDefs as TensorFlow's tests do: without what differs in equal graphs."""
    from tensorflow.python.framework import test_util  # slow to load, and only a test asks for it

    test_util.assert_meta_graph_protos_equal(test_case, expected, actual)


def last_loss_reduction(graph):
    """Tells how the last of TF 1's losses of a graph was reduced: under a strategy its optimizer goes by that."""
    return graph._last_loss_reduction


def has_joined_workers():
    """Tells whether a strategy of several workers has joined the others: in TF 1's graph mode it doesn't."""
    return context()._collective_ops_server_def is not None


def worker_index(strategy):
    """Tells the number of this process among those of a MultiWorkerMirroredStrategy; the chief's is 0."""
    return strategy.extended._id_in_cluster


# embeddings, compat.feature_layers: feature columns know what to do with a cache of features and a keeper of variables;
# those of TPU embeddings leave in a collection where they were used. Slow to load, and only programs with columns ask.
_COLUMN_NAMES = ("FeatureTransformationCache", "StateManager")
# Collection: name of a column's variable to its scope and its name there.
SCOPES_OF_COLUMNS = "_tpu_feature_column_scope"


def __getattr__(name):
    if name in _COLUMN_NAMES:
        from tensorflow.python.feature_column import feature_column_v2

        return getattr(feature_column_v2, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def embedding_columns():
    """Gives the classes of columns: those of TPU embeddings, and all that an `EmbeddingConfigSpec` takes."""
    from tensorflow.python.feature_column import feature_column, feature_column_v2
    from tensorflow.python.tpu import feature_column as of_tpu
    from tensorflow.python.tpu import feature_column_v2 as of_tpu_v2

    embedded = (
        of_tpu_v2._TPUEmbeddingColumnV2,
        of_tpu_v2._TPUSharedEmbeddingColumnV2,
        of_tpu._TPUEmbeddingColumn,
        of_tpu._TPUSharedEmbeddingColumn,
    )
    others = (
        feature_column._NumericColumn,
        feature_column_v2.NumericColumn,
        feature_column._EmbeddingColumn,
        feature_column_v2.EmbeddingColumn,
        feature_column._SharedEmbeddingColumn,
    )
    return embedded, embedded + others


def is_tensor_core_column(column):
    """Says whether a column of TPU embeddings is looked up by the core itself."""
    from tensorflow.python.tpu import feature_column_v2 as of_tpu

    kinds = (
        of_tpu._TPUDeviceSpecificEmbeddingColumnV2,
        of_tpu._TPUSharedDeviceSpecificEmbeddingColumnV2,
    )
    on_core = of_tpu.EmbeddingDevice.TPU_TENSOR_CORE
    return isinstance(column, kinds) and column._embedding_lookup_device == on_core


def sequence_length_key(feature_key):
    """Gives the key under which a sequence column of TPU embeddings looks for its lengths."""
    from tensorflow.python.tpu import feature_column

    return feature_column.get_sequence_length_feature_key_name_from_feature_key_name(feature_key)


def pad_ids_for_core(column, features):
    """Gives the features that a column takes which is looked up by the core itself: padded ids, and which are real."""
    from tensorflow.python.tpu import feature_column_v2

    key, width = column.categorical_column.key, column._tensor_core_shape[1]
    ids, mask = feature_column_v2.pad_sparse_embedding_lookup_indices(features[key], width)
    shape = [features[key].shape.as_list()[0], width]
    mask_key = key + feature_column_v2._TENSOR_CORE_MASK_KEY_SUFFIX
    if mask_key in features:
        raise ValueError(f"Mask key {mask_key} for Tensor Core embedding is already in use.")
    return {key: tf.ensure_shape(ids, shape), mask_key: tf.ensure_shape(mask, shape)}
