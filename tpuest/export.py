"""Writes SavedModels.

Takes receivers, the specs that `model_fn` answers for them and a checkpoint; gives a directory that is there whole or
not at all:

    with new_version(export_dir_base) as version:            export_dir_base/temp-1700000000
      builder = tf.compat.v1.saved_model.Builder(version.directory)
      for each mode:
        receiver, spec = receiver_fn(), model_fn(receiver.features, ...)
        add_meta_graph(builder, ...)                         its variables from the checkpoint
    version.path                                             export_dir_base/1700000000

What goes into it is what `estimator.py` of tensorflow-estimator and `saved_model/model_utils` of TensorFlow write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from tpuest import metrics, storage
from tpuest.export_output import (
    DEFAULT_SERVING_KEY,
    EvalOutput,
    TrainOutput,
    resolve_export_outputs,
)
from tpuest.receivers import SINGLE_RECEIVER
from tpuest.spec import EstimatorSpec, ModeKeys

_saved_model = tf.compat.v1.saved_model
_logging = tf.compat.v1.logging

# The keys are also Keras's names of the modes, as in TensorFlow's own map.
EXPORT_TAG_MAP = {
    ModeKeys.TRAIN: ["train"],
    ModeKeys.EVAL: ["eval"],
    "test": ["eval"],
    ModeKeys.PREDICT: [tf.saved_model.SERVING],
    "predict": [tf.saved_model.SERVING],
}
SIGNATURE_KEY_MAP = {
    ModeKeys.TRAIN: "train",
    ModeKeys.EVAL: "eval",
    "test": "eval",
    ModeKeys.PREDICT: DEFAULT_SERVING_KEY,
    "predict": DEFAULT_SERVING_KEY,
}

# Where `tf.saved_model` and its loaders look for the training step; the name is part of the format.
_TRAIN_OP_COLLECTION = "saved_model_train_op"
_MOST_ATTEMPTS = 10
_FRIENDLY_METHODS = {
    "tensorflow/serving/classify": "Classify",
    "tensorflow/serving/regress": "Regress",
    "tensorflow/serving/predict": "Predict",
    "tensorflow/supervised/training": "Train",
    "tensorflow/supervised/eval": "Eval",
}


@dataclasses.dataclass(frozen=True)
class Version:
    """An export under way.

    Attributes:
      directory: where it is written now; loaders pass over it, since its name is no number.
      path: where it will be.
    """

    directory: bytes
    path: bytes


@contextlib.contextmanager
def new_version(export_dir_base: str | bytes | os.PathLike) -> Iterator[Version]:
    """Gives a directory of this second; it gets its name once it is whole, and is deleted if an error ends it.

    Raises:
      RuntimeError: every second that was tried is taken.
    """
    with storage.explained(os.fsdecode(export_dir_base), "Then export again."):
        version = _claim(tf.compat.as_bytes(os.fspath(export_dir_base)))
        try:
            yield version
            tf.io.gfile.rename(version.directory, version.path)
        except BaseException:
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.rmtree(version.directory)
            raise


def _claim(base: bytes) -> Version:
    tf.io.gfile.makedirs(base)
    for attempt in range(1, _MOST_ATTEMPTS + 1):
        name = str(int(time.time())).encode()
        version = Version(os.path.join(base, b"temp-" + name), os.path.join(base, name))
        # In this order: who finishes an export frees `directory` after `path` is there.
        if _make_new(version.directory):
            if not tf.io.gfile.exists(version.path):
                return version
            tf.io.gfile.rmtree(version.directory)
        _logging.warning(
            "Directory %s already exists; retrying (attempt %d/%d)",
            version.path.decode(),
            attempt,
            _MOST_ATTEMPTS,
        )
        time.sleep(1)
    raise RuntimeError(
        f"Failed to obtain a unique export directory name after {_MOST_ATTEMPTS} attempts."
    )


def _make_new(directory: bytes) -> bool:
    """Makes a directory; says whether it wasn't there. Two processes can't both make a local one."""
    if b"://" in directory:
        is_new = not tf.io.gfile.exists(directory)
        tf.io.gfile.mkdir(directory)
        return is_new
    try:
        os.mkdir(directory)  # gfile's doesn't tell.
    except FileExistsError:
        return False
    return True


def without_tpu_devices(operation: Any) -> str:
    """Is a device function: a graph for CPU and GPU names no TPU, whatever `model_fn` asks for."""
    return "" if "TPU" in operation.device.upper() else operation.device


def copy_extra_assets(directory: bytes, assets_extra: Mapping[str, str] | None) -> None:
    """Copies files into `assets.extra`.

    Args:
      directory: of the SavedModel.
      assets_extra: path below assets.extra to the file that is copied there.
    """
    for relative, source in (assets_extra or {}).items():
        target = os.path.join(directory, b"assets.extra", tf.compat.as_bytes(relative))
        tf.io.gfile.makedirs(os.path.dirname(target))
        tf.io.gfile.copy(source, target)


def export_outputs_of(spec: EstimatorSpec) -> dict[str, Any]:
    """Gives a spec's outputs by the name of their signature."""
    key = SIGNATURE_KEY_MAP[spec.mode]
    if spec.mode == ModeKeys.PREDICT:
        return resolve_export_outputs(spec.export_outputs, spec.predictions)
    output_class = TrainOutput if spec.mode == ModeKeys.TRAIN else EvalOutput
    pairs = metrics.trace_metrics(lambda: spec.eval_metric_ops)
    return {key: output_class(spec.loss, spec.predictions, pairs)}


def build_all_signature_defs(
    receiver_tensors: Any,
    export_outputs: Mapping[str, Any],
    receiver_tensors_alternatives: Mapping[str, Any] | None = None,
    serving_only: bool = True,
) -> dict[str, Any]:
    """Gives a SignatureDef for each way to feed the model and each of its outputs.

    One that can't be made (a classification without a string to classify), or needs a placeholder that clients
    don't feed, is left out and logged.

    Args:
      receiver_tensors: a tensor, or a dict of name to tensor.
      export_outputs: name of the signature to `ExportOutput`.
      receiver_tensors_alternatives: name to further `receiver_tensors`; their signatures are 'NAME:OUTPUT'.
      serving_only: whether to leave out what TensorFlow Serving doesn't know.

    Raises:
      ValueError: `export_outputs` is no dict.
    """
    if not isinstance(export_outputs, dict):
        raise ValueError(
            f"`export_outputs` must be a dict. Received {export_outputs} with type "
            f"{type(export_outputs).__name__}."
        )
    feeds = {None: receiver_tensors, **(receiver_tensors_alternatives or {})}
    included, excluded = {}, {}
    for feed_name, receivers in feeds.items():
        if not isinstance(receivers, dict):
            receivers = {SINGLE_RECEIVER: receivers}
        for output_name, output in export_outputs.items():
            name = output_name or "None"
            if feed_name is not None:
                name = f"{feed_name or 'None'}:{name}"
            try:
                signature = output.as_signature_def(receivers)
                _check_servable(receivers.values(), signature)
                included[name] = signature
            except ValueError as error:
                excluded[name] = str(error)
    _log_signatures(included, excluded)
    if not serving_only:
        return included
    return {
        name: signature
        for name, signature in included.items()
        if _saved_model.is_valid_signature(signature)
    }


def _check_servable(receivers: Iterable[Any], signature: Any) -> None:
    """Refuses a signature with outputs that nobody could compute.

    Raises:
      ValueError: an output depends on a placeholder that isn't among the inputs.
    """
    graph = tf.compat.v1.get_default_graph()
    fed = {tensor.name for tensor in tf.nest.flatten(list(receivers), expand_composites=True)}
    outputs = [name for info in signature.outputs.values() for name in _tensor_names(info)]
    pending = [graph.get_tensor_by_name(name) for name in outputs]
    seen = set()
    while pending:
        tensor = pending.pop()
        if tensor.name in fed or tensor.op.name in seen:
            continue
        seen.add(tensor.op.name)
        if tensor.op.type == "Placeholder":
            raise ValueError(
                f"The signature's input tensors {sorted(fed)} are insufficient to compute its output keys "
                f"{sorted(signature.outputs)} because of the dependency on `{tensor.op.name}` which is not given "
                "as a signature input."
            )
        pending.extend(tensor.op.inputs)


def _tensor_names(info: Any) -> list[str]:
    """Names the tensors of a TensorInfo, whose tensor may be sparse or ragged."""
    if info.HasField("coo_sparse"):
        sparse = info.coo_sparse
        return [
            sparse.indices_tensor_name,
            sparse.values_tensor_name,
            sparse.dense_shape_tensor_name,
        ]
    if info.HasField("composite_tensor"):
        parts = info.composite_tensor.components
        return [name for part in parts for name in _tensor_names(part)]
    return [info.name]


def _log_signatures(included: dict[str, Any], excluded: dict[str, str]) -> None:
    by_method = defaultdict(list, {method: [] for method in _FRIENDLY_METHODS})
    for name, signature in included.items():
        by_method[signature.method_name].append(name)
    for method, names in by_method.items():
        _logging.info(
            "Signatures INCLUDED in export for %s: %s",
            _FRIENDLY_METHODS.get(method, method),
            names or "None",
        )
    if excluded:
        _logging.info(
            "Signatures EXCLUDED from export because they cannot be served via TensorFlow Serving APIs:"
        )
        for name, reason in excluded.items():
            _logging.info("'%s' : %s", name, reason)
    if not included:
        _logging.warning("Export includes no signatures!")
    elif DEFAULT_SERVING_KEY not in included:
        _logging.warning("Export includes no default signature!")


@dataclasses.dataclass(frozen=True)
class MetaGraph:
    """What `add_meta_graph` adds to a SavedModel.

    Attributes:
      tags: by which loaders choose it.
      checkpoint_path: whose variables it has.
      saves_variables: whether it is the first, whose variables all graphs share.
      checks_variables: whether the checkpoint must have all its variables; true of the first.
      strip_default_attrs: whether attributes with default values are left out, so that older TensorFlow can load it.
      serving_only: see `build_all_signature_defs`.
    """

    tags: list[str]
    checkpoint_path: str
    saves_variables: bool
    checks_variables: bool
    strip_default_attrs: bool
    serving_only: bool

    def __post_init__(self):
        if self.saves_variables and not self.checks_variables:
            raise ValueError("If `save_variables` is `True, `check_variables` must not be `False`.")


def add_meta_graph(builder: Any, meta_graph: MetaGraph, receiver: Any, spec: EstimatorSpec) -> None:
    """Adds the default graph to a SavedModel, with its variables' values from the checkpoint.

    Args:
      builder: a `tf.compat.v1.saved_model.Builder`.
      meta_graph: what and how.
      receiver: what the receiver function gave in this graph.
      spec: what `model_fn` gave in this graph.

    Raises:
      ValueError: the checkpoint lacks a variable of the graph.
    """
    signatures = build_all_signature_defs(
        receiver.receiver_tensors,
        export_outputs_of(spec),
        getattr(receiver, "receiver_tensors_alternatives", None),
        meta_graph.serving_only,
    )
    local_init_op = spec.scaffold.local_init_op
    if local_init_op is None:
        local_init_op = tf.compat.v1.train.Scaffold.default_local_init_op()
    # It restores now, and is saved with the graph to restore when a loader loads it.
    saver = spec.scaffold.saver or tf.compat.v1.train.Saver(sharded=True)
    if saver.saver_def is None:
        saver.build()  # One made with `defer_build` waits for its scaffold to be finalized.
    if spec.train_op is not None:
        tf.compat.v1.add_to_collection(_TRAIN_OP_COLLECTION, spec.train_op)
    options = {
        "tags": meta_graph.tags,
        "signature_def_map": signatures,
        "assets_collection": tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.ASSET_FILEPATHS),
        "main_op": local_init_op,
        "saver": _PortableSaver(saver),
        "strip_default_attrs": meta_graph.strip_default_attrs,
    }
    with tf.compat.v1.Session(config=_session_config()) as session:
        if meta_graph.checks_variables:
            _restore(saver, session, meta_graph.checkpoint_path, spec.mode)
        if meta_graph.saves_variables:
            builder.add_meta_graph_and_variables(session, **options)
        else:
            builder.add_meta_graph(**options)


class _PortableSaver:
    """A saver, as a builder uses it, whose graphs older TensorFlow can load."""

    # Hints that newer TensorFlow leaves on variables' handles and on gradients of MatMul; older TensorFlow refuses
    # attributes that it doesn't know.
    _HINTS = ("debug_name", "grad_a", "grad_b")

    def __init__(self, saver: tf.compat.v1.train.Saver):
        self._saver = saver

    def save(self, *args: Any, **kwargs: Any) -> str:
        return self._saver.save(*args, **kwargs)

    def export_meta_graph(self, **options: Any) -> Any:
        meta_graph = self._saver.export_meta_graph(**options)
        graph = meta_graph.graph_def
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            for node, hint in itertools.product(nodes, self._HINTS):
                node.attr.pop(hint, None)
        return meta_graph


def _session_config() -> tf.compat.v1.ConfigProto:
    """Lets the session copy variables on the host, whatever the graph's devices are and whether they are there."""
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True, device_count={"GPU": 0})
    config.graph_options.place_pruned_graph = True
    return config


def _restore(saver: tf.compat.v1.train.Saver, session: Any, path: str, mode: str) -> None:
    try:
        saver.restore(session, path)
    except tf.errors.NotFoundError as error:
        raise ValueError(
            "Could not load all requested variables from checkpoint. Please make sure your model_fn does not expect "
            "variables that were not saved in the checkpoint.\n\n"
            f"Encountered error with mode `{mode}` while restoring checkpoint from: `{path}`. "
            f"Full Traceback:\n\n{error}"
        ) from error
