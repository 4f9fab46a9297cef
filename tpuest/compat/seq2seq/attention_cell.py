"""`AttentionWrapper`: a recurrent cell that looks at a memory at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tpuest.compat.seq2seq import attention, shapes

_v1 = tf.compat.v1
_TILE = "You may need to tile {} via the tf.contrib.seq2seq.tile_batch function"


class AttentionWrapperState(NamedTuple):
    """The state of an `AttentionWrapper`.

    With several mechanisms, `alignments`, `alignment_history` and `attention_state` are tuples.

    Attributes:
      cell_state: of the wrapped cell.
      attention: float `[batch_size, attention_size]`, what the previous step saw.
      time: int32 scalar.
      alignments: float `[batch_size, memory_time]`, where the previous step looked.
      alignment_history: array of all alignments, or `()`.
      attention_state: the mechanism's own.
    """

    cell_state: Any
    attention: Any
    time: Any
    alignments: Any
    alignment_history: Any
    attention_state: Any

    def clone(self, **kwargs: Any) -> AttentionWrapperState:
        """Gives the state with other parts of the same shapes.

        Raises:
          ValueError: a shape is another.
        """

        def with_shape(old: Any, new: Any) -> Any:
            if isinstance(old, tf.Tensor) and isinstance(new, tf.Tensor):
                new = tf.identity(new)
                new.set_shape(old.shape)
            return new

        return tf.nest.map_structure(with_shape, self, self._replace(**kwargs))


class AttentionWrapper(_v1.nn.rnn_cell.RNNCell):
    """Feeds a cell what it looked at, and looks at the memory by what the cell gives.

    output, cell_state = cell([inputs, previous attention], cell_state)
    alignments = mechanism(output)
    attention = attention_layer([output, alignments x memory])      or the latter alone
    """

    def __init__(
        self,
        cell: Any,
        attention_mechanism: Any,
        attention_layer_size: Any = None,
        alignment_history: bool = False,
        cell_input_fn: Callable | None = None,
        output_attention: bool = True,
        initial_cell_state: Any = None,
        name: str | None = None,
        attention_layer: Any = None,
        attention_fn: Callable | None = None,
        dtype: Any = None,
    ):
        """Makes a cell.

        Args:
          cell: the recurrent cell that is wrapped.
          attention_mechanism: one, or a list.
          attention_layer_size: units of a layer over output and context: a number, or one for each
            mechanism; no layer by default.
          alignment_history: whether the state keeps all alignments.
          cell_input_fn: takes inputs and attention, gives the cell's inputs; joins them by default.
          output_attention: whether the attention is the output, rather than the cell's output.
          initial_cell_state: what `zero_state` gives for the cell.
          name: of the cell.
          attention_layer: a layer, or one for each mechanism, in place of `attention_layer_size`.
          attention_fn: takes mechanism, output, state and layer; gives attention, alignments and state.
          dtype: of the cell.

        Raises:
          TypeError: an argument isn't of its kind.
          ValueError: numbers of layers and mechanisms differ, or both ways to give layers are used.
        """
        super().__init__(name=name, dtype=dtype)
        shapes.check_cell("cell", cell)
        mechanisms = _checked_mechanisms(attention_mechanism)
        if cell_input_fn is None:
            cell_input_fn = _joined
        elif not callable(cell_input_fn):
            raise TypeError(
                f"cell_input_fn must be callable, saw type: {type(cell_input_fn).__name__}"
            )
        layers = _layers(attention_layer_size, attention_layer, mechanisms)
        self._is_multi = isinstance(attention_mechanism, (list, tuple))
        self._attention_layers = layers
        self._attention_layer_size = sum(
            _attention_size(cell, mechanism, layer)
            for mechanism, layer in zip(mechanisms, layers or [None] * len(mechanisms), strict=True)
        )
        self._attention_fn = attention_fn or _look
        self._cell = cell
        self._attention_mechanisms = mechanisms
        self._cell_input_fn = cell_input_fn
        self._output_attention = output_attention
        self._alignment_history = alignment_history
        with _v1.name_scope(name, "AttentionWrapperInit"):
            self._initial_cell_state = self._checked_initial_state(initial_cell_state)

    def _checked_initial_state(self, state: Any) -> Any:
        if state is None:
            return None
        batch_size = shapes.static_or_dynamic_size(tf.nest.flatten(state)[-1], 0)
        what = (
            "When constructing AttentionWrapper: Non-matching batch sizes between the memory "
            "(encoder output) and initial_cell_state.  Are you using the BeamSearchDecoder?  "
            + _TILE.format("your initial state")
        )
        return self._checked(state, batch_size, what, "check_initial_cell_state")

    def _checked(self, tensors: Any, batch_size: Any, message: str, name: str) -> Any:
        """Gives tensors that fail to be computed when the memory has another batch size."""
        checks = [
            _v1.assert_equal(batch_size, mechanism.batch_size, message=message)
            for mechanism in self._attention_mechanisms
        ]
        with tf.control_dependencies([check for check in checks if check is not None]):
            return tf.nest.map_structure(lambda t: tf.identity(t, name=name), tensors)

    def _one_or_tuple(self, parts: Iterable) -> Any:
        parts = tuple(parts)
        return parts if self._is_multi else parts[0]

    @property
    def output_size(self) -> Any:
        return self._attention_layer_size if self._output_attention else self._cell.output_size

    @property
    def state_size(self) -> AttentionWrapperState:
        mechanisms = self._attention_mechanisms
        return AttentionWrapperState(
            cell_state=self._cell.state_size,
            time=tf.TensorShape([]),
            attention=self._attention_layer_size,
            alignments=self._one_or_tuple(m.alignments_size for m in mechanisms),
            attention_state=self._one_or_tuple(m.state_size for m in mechanisms),
            alignment_history=self._one_or_tuple(
                m.alignments_size if self._alignment_history else () for m in mechanisms
            ),
        )

    def zero_state(self, batch_size: Any, dtype: Any) -> AttentionWrapperState:
        """Gives the state before the first step."""
        with _v1.name_scope(None, f"{type(self).__name__}ZeroState", [batch_size]):
            cell_state = self._initial_cell_state
            if cell_state is None:
                cell_state = self._cell.zero_state(batch_size, dtype)
            what = (
                "When calling zero_state of AttentionWrapper: Non-matching batch sizes between the "
                "memory (encoder output) and the requested batch size.  Are you using the "
                "BeamSearchDecoder?  "
                + _TILE.format("your encoder output")
                + ", and pass zero_state a batch_size of batch_size * beam_width."
            )
            mechanisms = self._attention_mechanisms
            alignments = [m.initial_alignments(batch_size, dtype) for m in mechanisms]
            return AttentionWrapperState(
                cell_state=self._checked(cell_state, batch_size, what, "checked_cell_state"),
                time=tf.zeros([], tf.int32),
                attention=shapes.zero_state(self._attention_layer_size, batch_size, dtype),
                alignments=self._one_or_tuple(alignments),
                attention_state=self._one_or_tuple(
                    m.initial_state(batch_size, dtype) for m in mechanisms
                ),
                alignment_history=self._one_or_tuple(self._history(a) for a in alignments),
            )

    def _history(self, alignments: tf.Tensor) -> Any:
        if not self._alignment_history:
            return ()
        return _v1.TensorArray(
            alignments.dtype, size=0, dynamic_size=True, element_shape=alignments.shape
        )

    def call(self, inputs: Any, state: AttentionWrapperState) -> tuple:
        """Makes a step.

        Raises:
          TypeError: the state isn't an `AttentionWrapperState`.
        """
        if not isinstance(state, AttentionWrapperState):
            raise TypeError(
                "Expected state to be instance of AttentionWrapperState. "
                f"Received type {type(state)} instead."
            )
        cell_inputs = self._cell_input_fn(inputs, state.attention)
        output, cell_state = self._cell(cell_inputs, state.cell_state)
        what = (
            f"When applying AttentionWrapper {self.name}: Non-matching batch sizes between the "
            "memory (encoder output) and the query (decoder output).  Are you using the "
            "BeamSearchDecoder?  " + _TILE.format("your memory input")
        )
        batch_size = shapes.static_or_dynamic_size(output, 0)
        output = self._checked(output, batch_size, what, "checked_cell_output")
        seen, alignments, states, histories = self._look_at_all(output, state)
        seen = tf.concat(seen, 1)
        next_state = AttentionWrapperState(
            cell_state=cell_state,
            attention=seen,
            time=state.time + 1,
            alignments=self._one_or_tuple(alignments),
            alignment_history=self._one_or_tuple(histories),
            attention_state=self._one_or_tuple(states),
        )
        return (seen if self._output_attention else output), next_state

    def _look_at_all(self, output: tf.Tensor, state: AttentionWrapperState) -> Iterable:
        """Gives lists, one for each mechanism, of attentions, alignments, states and histories."""
        states, histories = state.attention_state, state.alignment_history
        if not self._is_multi:
            states, histories = [states], [histories]
        found = []
        for i, mechanism in enumerate(self._attention_mechanisms):
            layer = self._attention_layers[i] if self._attention_layers else None
            seen, alignments, after = self._attention_fn(mechanism, output, states[i], layer)
            history = histories[i].write(state.time, alignments) if self._alignment_history else ()
            found.append((seen, alignments, after, history))
        return zip(*found, strict=True)


def _look(mechanism: Any, output: tf.Tensor, state: Any, layer: Any) -> tuple:
    """Gives attention, alignments and the mechanism's next state."""
    alignments, state = mechanism(output, state=state)
    context = tf.squeeze(tf.matmul(tf.expand_dims(alignments, 1), mechanism.values), [1])
    seen = context if layer is None else layer(tf.concat([output, context], 1))
    return seen, alignments, state


def _joined(inputs: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
    return tf.concat([inputs, seen], -1)


def _checked_mechanisms(given: Any) -> tuple:
    if isinstance(given, (list, tuple)):
        for mechanism in given:
            if not isinstance(mechanism, attention.AttentionMechanism):
                raise TypeError(
                    "attention_mechanism must contain only instances of AttentionMechanism, "
                    f"saw type: {type(mechanism).__name__}"
                )
        return tuple(given)
    if not isinstance(given, attention.AttentionMechanism):
        raise TypeError(
            "attention_mechanism must be an AttentionMechanism or list of multiple "
            f"AttentionMechanism instances, saw type: {type(given).__name__}"
        )
    return (given,)


def _layers(sizes: Any, layers: Any, mechanisms: Sequence) -> tuple | None:
    """Gives a layer for each mechanism, or `None`."""
    if sizes is not None and layers is not None:
        raise ValueError("Only one of attention_layer_size and attention_layer should be set")
    given, name = (sizes, "attention_layer_size") if layers is None else (layers, "attention_layer")
    if given is None:
        return None
    given = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if len(given) != len(mechanisms):
        kind = "integer" if layers is None else "layer"
        raise ValueError(
            f"If provided, {name} must contain exactly one {kind} per attention_mechanism, "
            f"saw: {len(given)} vs {len(mechanisms)}"
        )
    if layers is not None:
        return given
    return tuple(
        attention.dense(size, "attention_layer", mechanism.dtype)
        for size, mechanism in zip(given, mechanisms, strict=True)
    )


def _attention_size(cell: Any, mechanism: Any, layer: Any) -> int:
    depth = mechanism.values.shape.as_list()[-1]
    if layer is None:
        return depth
    shape = layer.compute_output_shape(tf.TensorShape([None, cell.output_size + depth]))
    return tf.TensorShape(shape).as_list()[-1]
