"""`tf.contrib.predictor`: a function around an exported model, or around an estimator's newest checkpoint.

Takes a SavedModel's directory or an estimator; gives a callable from arrays by name to arrays by name:

    predict = tf.contrib.predictor.from_saved_model("export/1700000000")
    predict({"x": np.ones([1, 3])})["outputs"]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tpuest.compat import trace
from tpuest.export_output import DEFAULT_SERVING_KEY
from tpuest.spec import ModeKeys

_v1 = tf.compat.v1
# The name that exports of tf.contrib.learn gave to what others name by its key alone.
_OLD_KEY = "default_input_alternative:{}"


class Predictor:
    """Runs one signature in a session.

    Attributes:
      graph: of the session.
      session: runs it.
      feed_tensors: input name to tensor.
      fetch_tensors: output name to tensor.
    """

    def __init__(
        self, graph: tf.Graph, session: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]
    ):
        """Makes a predictor.

        Args:
          graph: of the session.
          session: a `tf.compat.v1.Session`, or one like it.
          inputs: input name to the tensor's name.
          outputs: output name to the tensor's name.
        """
        self.graph = graph
        self.session = session
        self.feed_tensors = {name: graph.get_tensor_by_name(t) for name, t in inputs.items()}
        self.fetch_tensors = {name: graph.get_tensor_by_name(t) for name, t in outputs.items()}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__} with feed tensors {self.feed_tensors} and "
            f"fetch_tensors {self.fetch_tensors}"
        )

    def __call__(self, input_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Gives the outputs for arrays by input name; an input may be left out if no output needs it.

        Raises:
          ValueError: there is no input of a name.
        """
        unexpected = set(input_dict) - set(self.feed_tensors)
        if unexpected:
            raise ValueError(
                f"Got unexpected keys in input_dict: {unexpected}\n"
                f"expected: {set(self.feed_tensors)}"
            )
        feeds = {
            self.feed_tensors[name]: value
            for name, value in input_dict.items()
            if value is not None
        }
        return self.session.run(self.fetch_tensors, feeds)


def from_saved_model(
    export_dir: str,
    signature_def_key: str | None = None,
    signature_def: Any = None,
    input_names: Mapping[str, str] | None = None,
    output_names: Mapping[str, str] | None = None,
    tags: str | None = None,
    graph: tf.Graph | None = None,
    config: Any = None,
) -> Predictor:
    """Loads a SavedModel.

    Args:
      export_dir: its directory.
      signature_def_key: which signature; `None` for the default one.
      signature_def: a SignatureDef in its place.
      input_names: in place of a signature, any name to the name of a tensor.
      output_names: the same of what to compute.
      tags: of the graph, with commas between them; `None` for 'serve'.
      graph: to load it into; `None` for a new one.
      config: of the session, a `ConfigProto`.

    Raises:
      ValueError: more than one of signature key, signature and names are given, or names of one side only; or there
        is no such signature.
    """
    if (input_names is None) != (output_names is None):
        raise ValueError(
            "input_names and output_names must both be specified or both be unspecified."
        )
    ways = (signature_def_key, signature_def, input_names)
    if sum(way is not None for way in ways) > 1:
        raise ValueError(
            "You must specify at most one of signature_def_key OR signature_def OR"
            "(input_names AND output_names)."
        )
    graph = graph or tf.Graph()
    with graph.as_default():
        session = _v1.Session(config=config)
        wanted = [tag.strip() for tag in (tags or tf.saved_model.SERVING).split(",")]
        loaded = _v1.saved_model.loader.load(session, wanted, export_dir)
    if input_names is not None:
        return Predictor(graph, session, input_names, output_names)
    signature = signature_def or _find_signature(loaded, signature_def_key or DEFAULT_SERVING_KEY)
    return Predictor(graph, session, _names(signature.inputs), _names(signature.outputs))


def from_estimator(
    estimator: Any,
    serving_input_receiver_fn: Callable,
    output_key: str | None = None,
    graph: tf.Graph | None = None,
    config: Any = None,
) -> Predictor:
    """Builds an estimator's model for prediction, on its newest checkpoint.

    Args:
      estimator: an `Estimator`.
      serving_input_receiver_fn: gives a `ServingInputReceiver`.
      output_key: which of the `export_outputs`; `None` for the default one.
      graph: to build it in; `None` for a new one.
      config: of the session, a `ConfigProto`.

    Raises:
      KeyError: there is no such output.
    """
    graph = graph or tf.Graph()
    key = output_key or DEFAULT_SERVING_KEY
    with trace.graph_scope(graph):
        _v1.train.get_or_create_global_step()
        receiver = serving_input_receiver_fn()
        with trace.model_fn_scope(None):
            spec = estimator._call_model_fn(
                receiver.features, None, ModeKeys.PREDICT, estimator.config
            )
        if key not in spec.export_outputs:
            raise KeyError(f"output_key must be one of {spec.export_outputs.keys()}; got {key}")
        signature = spec.export_outputs[key].as_signature_def(receiver.receiver_tensors)
        creator = _v1.train.ChiefSessionCreator(
            spec.scaffold,
            config=config,
            checkpoint_filename_with_path=estimator.latest_checkpoint(),
        )
        session = _v1.train.MonitoredSession(creator)
    return Predictor(graph, session, _names(signature.inputs), _names(signature.outputs))


def _find_signature(meta_graph: Any, key: str) -> Any:
    signatures = meta_graph.signature_def
    for name in (key, _OLD_KEY.format(key)):
        if name in signatures:
            return signatures[name]
    raise ValueError(
        f'Got signature_def_key "{key}". Available signatures are {sorted(signatures)}.'
    )


def _names(infos: Mapping[str, Any]) -> dict[str, str]:
    return {name: info.name for name, info in infos.items()}
