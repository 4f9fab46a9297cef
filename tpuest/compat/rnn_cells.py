"""Cells of `tf.contrib.rnn` that `tf.nn.rnn_cell` lacks.

Takes and gives what TensorFlow 1.15's do: variable names and numbers are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tpuest.compat import contrib_layers

_v1 = tf.compat.v1
_cells = _v1.nn.rnn_cell


class LayerNormBasicLSTMCell(_cells.RNNCell):
    """An LSTM cell whose gates and state are normalized, with recurrent dropout."""

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        input_size: Any = None,
        activation: Callable = tf.tanh,
        layer_norm: bool = True,
        norm_gain: float = 1.0,
        norm_shift: float = 0.0,
        dropout_keep_prob: Any = 1.0,
        dropout_prob_seed: int | None = None,
        reuse: bool | None = None,
    ):
        """Makes a cell.

        Args:
          num_units: size of state and output.
          forget_bias: added to the forget gate.
          input_size: ignored.
          activation: of the new input and the output.
          layer_norm: whether to normalize; else the gates have a bias.
          norm_gain: initial value of each `gamma`.
          norm_shift: initial value of each `beta`.
          dropout_keep_prob: probability to keep a unit of the new input.
          dropout_prob_seed: of the dropout.
          reuse: whether the variables are there already.
        """
        super().__init__(_reuse=reuse)
        self._num_units = num_units
        self._activation = activation
        self._forget_bias = forget_bias
        self._keep_prob = dropout_keep_prob
        self._seed = dropout_prob_seed
        self._layer_norm = layer_norm
        self._norm_gain = norm_gain
        self._norm_shift = norm_shift

    @property
    def state_size(self) -> Any:
        return _cells.LSTMStateTuple(self._num_units, self._num_units)

    @property
    def output_size(self) -> int:
        return self._num_units

    def call(self, inputs: tf.Tensor, state: Any) -> tuple:
        """Makes a step: inputs are float `[batch_size, depth]`."""
        cell, hidden = state
        gates = self._gates(tf.concat([inputs, hidden], 1))
        names = ("input", "transform", "forget", "output")
        if self._layer_norm:
            gates = [self._norm(gate, name) for gate, name in zip(gates, names, strict=True)]
        into, transform, forget, output = gates
        new = self._activation(transform)
        if not isinstance(self._keep_prob, float) or self._keep_prob < 1:
            new = _v1.nn.dropout(new, rate=1 - self._keep_prob, seed=self._seed)
        cell = cell * tf.sigmoid(forget + self._forget_bias) + tf.sigmoid(into) * new
        if self._layer_norm:
            cell = self._norm(cell, "state")
        hidden = self._activation(cell) * tf.sigmoid(output)
        return hidden, _cells.LSTMStateTuple(cell, hidden)

    def _gates(self, inputs: tf.Tensor) -> list:
        """Gives four float `[batch_size, num_units]`."""
        size = 4 * self._num_units
        depth = inputs.shape.as_list()[-1]
        gates = tf.matmul(inputs, _v1.get_variable("kernel", [depth, size], dtype=inputs.dtype))
        if not self._layer_norm:
            gates = tf.nn.bias_add(gates, _v1.get_variable("bias", [size], dtype=inputs.dtype))
        return tf.split(gates, 4, axis=1)

    def _norm(self, inputs: tf.Tensor, scope: str) -> tf.Tensor:
        # The variables are made here because layer_norm has no initial values to choose.
        options = {"shape": inputs.shape[-1:], "dtype": inputs.dtype}
        with _v1.variable_scope(scope):
            for name, value in (("gamma", self._norm_gain), ("beta", self._norm_shift)):
                _v1.get_variable(name, initializer=_v1.constant_initializer(value), **options)
        return contrib_layers.layer_norm(inputs, reuse=True, scope=scope)


class NASCell(_cells.RNNCell):
    """The cell that architecture search found (Zoph and Le 2017), with an optional projection."""

    def __init__(
        self,
        num_units: int,
        num_proj: int | None = None,
        use_bias: bool = False,
        reuse: bool | None = None,
        **kwargs: Any,
    ):
        """Makes a cell.

        Args:
          num_units: size of the cell's memory.
          num_proj: size of the output; None for `num_units`, without a projection.
          use_bias: whether the gates have a bias.
          reuse: whether the variables are there already.
          **kwargs: a layer's, as `name` and `dtype`.
        """
        super().__init__(_reuse=reuse, **kwargs)
        self._num_units = num_units
        self._num_proj = num_proj
        self._use_bias = use_bias

    @property
    def state_size(self) -> Any:
        return _cells.LSTMStateTuple(self._num_units, self.output_size)

    @property
    def output_size(self) -> int:
        return self._num_units if self._num_proj is None else self._num_proj

    def call(self, inputs: tf.Tensor, state: Any) -> tuple:
        """Makes a step: inputs are float `[batch_size, depth]`."""
        cell, hidden = state
        size = 8 * self._num_units
        recalled = _product(hidden, "recurrent_kernel", size)
        given = _product(inputs, "kernel", size)
        if self._use_bias:
            zeros = _v1.zeros_initializer()
            bias = _v1.get_variable("bias", [size], dtype=inputs.dtype, initializer=zeros)
            recalled = tf.nn.bias_add(recalled, bias)
        pairs = zip(tf.split(given, 8, axis=1), tf.split(recalled, 8, axis=1), strict=True)
        cell, hidden = _searched_step(cell, list(pairs))
        if self._num_proj is not None:
            hidden = _product(hidden, "projection_weights", self._num_proj)
        return hidden, _cells.LSTMStateTuple(cell, hidden)


def _product(inputs: tf.Tensor, name: str, size: int) -> tf.Tensor:
    """Multiplies float `[batch_size, depth]` by a variable `[depth, size]`."""
    shape = [inputs.shape.as_list()[-1], size]
    return tf.matmul(inputs, _v1.get_variable(name, shape, dtype=inputs.dtype))


def _searched_step(cell: tf.Tensor, pairs: list[tuple]) -> tuple:
    """Gives the memory and the output, as the searched tree of operations computes them.

    Args:
      cell: the memory, float `[batch_size, num_units]`.
      pairs: for each of eight leaves its share of the inputs and of the hidden state, of that shape.
    """
    leaves = [sum(pair) for pair in pairs]
    leaves[3] = pairs[3][0] * pairs[3][1]
    sigmoid, relu, tanh = tf.sigmoid, tf.nn.relu, tf.tanh
    functions = (sigmoid, relu, sigmoid, relu, tanh, sigmoid, tanh, sigmoid)
    a, b, c, d, e, f, g, h = (
        function(leaf) for function, leaf in zip(functions, leaves, strict=True)
    )
    cell = tanh(tanh(a * b) + cell) * tanh(c + d)
    return cell, tanh(cell * tanh(tanh(e * f) + sigmoid(g + h)))


class ConvLSTMCell(_cells.RNNCell):
    """An LSTM cell that convolves (Shi et al. 2015)."""

    def __init__(
        self,
        conv_ndims: int,
        input_shape: Sequence[int],
        output_channels: int,
        kernel_shape: Sequence[int],
        use_bias: bool = True,
        skip_connection: bool = False,
        forget_bias: float = 1.0,
        initializers: Any = None,
        name: str = "conv_lstm_cell",
    ):
        """Makes a cell.

        Args:
          conv_ndims: 1, 2 or 3.
          input_shape: of one example, channels last.
          output_channels: of state and output.
          kernel_shape: one size for each dimension.
          use_bias: whether the convolution has a bias.
          skip_connection: whether the output has the input joined to it.
          forget_bias: added to the forget gate.
          initializers: ignored.
          name: of the cell.

        Raises:
          ValueError: `input_shape` has another number of dimensions.
        """
        super().__init__(name=name)
        if conv_ndims != len(input_shape) - 1:
            raise ValueError(f"Invalid input_shape {input_shape} for conv_ndims={conv_ndims}.")
        self._conv_ndims = conv_ndims
        self._output_channels = output_channels
        self._kernel_shape = list(kernel_shape)
        self._use_bias = use_bias
        self._forget_bias = forget_bias
        self._skip_connection = skip_connection
        *sizes, channels = input_shape
        state_size = tf.TensorShape([*sizes, output_channels])
        self._state_size = _cells.LSTMStateTuple(state_size, state_size)
        joined = output_channels + (channels if skip_connection else 0)
        self._output_size = tf.TensorShape([*sizes, joined])

    @property
    def output_size(self) -> tf.TensorShape:
        return self._output_size

    @property
    def state_size(self) -> Any:
        return self._state_size

    def call(self, inputs: tf.Tensor, state: Any, scope: Any = None) -> tuple:
        """Makes a step: inputs are float `[batch_size, *input_shape]`."""
        cell, hidden = state
        gates = tf.split(self._convolved(tf.concat([inputs, hidden], -1)), 4, axis=-1)
        into, new, forget, output = gates
        cell = tf.sigmoid(forget + self._forget_bias) * cell
        cell += tf.sigmoid(into) * tf.tanh(new)
        outputs = tf.tanh(cell) * tf.sigmoid(output)
        if self._skip_connection:
            outputs = tf.concat([outputs, inputs], axis=-1)
        return outputs, _cells.LSTMStateTuple(cell, outputs)

    def _convolved(self, inputs: tf.Tensor) -> tf.Tensor:
        channels = 4 * self._output_channels
        shape = [*self._kernel_shape, inputs.shape.as_list()[-1], channels]
        kernel = _v1.get_variable("kernel", shape, dtype=inputs.dtype)
        result = tf.nn.convolution(inputs, kernel, padding="SAME")
        if not self._use_bias:
            return result
        return result + _v1.get_variable(
            "biases", [channels], dtype=inputs.dtype, initializer=_v1.constant_initializer(0.0)
        )


class Conv1DLSTMCell(ConvLSTMCell):
    """A `ConvLSTMCell` over one dimension."""

    def __init__(self, name: str = "conv_1d_lstm_cell", **kwargs: Any):
        super().__init__(conv_ndims=1, name=name, **kwargs)


class Conv2DLSTMCell(ConvLSTMCell):
    """A `ConvLSTMCell` over two dimensions."""

    def __init__(self, name: str = "conv_2d_lstm_cell", **kwargs: Any):
        super().__init__(conv_ndims=2, name=name, **kwargs)


class Conv3DLSTMCell(ConvLSTMCell):
    """A `ConvLSTMCell` over three dimensions."""

    def __init__(self, name: str = "conv_3d_lstm_cell", **kwargs: Any):
        super().__init__(conv_ndims=3, name=name, **kwargs)


def stack_bidirectional_dynamic_rnn(
    cells_fw: list,
    cells_bw: list,
    inputs: Any,
    initial_states_fw: list | None = None,
    initial_states_bw: list | None = None,
    dtype: Any = None,
    sequence_length: Any = None,
    parallel_iterations: int | None = None,
    time_major: bool = False,
    scope: Any = None,
    swap_memory: bool = False,
) -> tuple:
    """Runs layers of bidirectional cells, each on the joined outputs of the one before.

    Returns:
      `(outputs, forward states, backward states)`, the states a tuple with one for each layer.

    Raises:
      ValueError: the lists aren't of one length.
    """
    _check_layers(cells_fw, cells_bw, initial_states_fw, initial_states_bw)
    none = [None] * len(cells_fw)
    layers = zip(
        cells_fw, cells_bw, initial_states_fw or none, initial_states_bw or none, strict=True
    )
    states = []
    with _v1.variable_scope(scope or "stack_bidirectional_rnn"):
        for i, (forward, backward, state_forward, state_backward) in enumerate(layers):
            with _v1.variable_scope(f"cell_{i}"):
                outputs, state = _v1.nn.bidirectional_dynamic_rnn(
                    forward,
                    backward,
                    inputs,
                    initial_state_fw=state_forward,
                    initial_state_bw=state_backward,
                    sequence_length=sequence_length,
                    parallel_iterations=parallel_iterations,
                    dtype=dtype,
                    swap_memory=swap_memory,
                    time_major=time_major,
                )
                inputs = tf.concat(outputs, 2)
            states.append(state)
    return (inputs, *(tuple(side) for side in zip(*states, strict=True)))


def _check_layers(forward: Any, backward: Any, states_forward: Any, states_backward: Any) -> None:
    sides = (("fw", forward, states_forward), ("bw", backward, states_backward))
    for side, cells, _ in sides:
        if not cells:
            raise ValueError(f"Must specify at least one {side} cell for BidirectionalRNN.")
        if not isinstance(cells, list):
            raise ValueError(f"cells_{side} must be a list of RNNCells (one per layer).")
    if len(forward) != len(backward):
        raise ValueError("Forward and Backward cells must have the same depth.")
    for side, cells, states in sides:
        if states is not None and (not isinstance(states, list) or len(states) != len(cells)):
            raise ValueError(
                f"initial_states_{side} must be a list of state tensors (one per layer)."
            )
