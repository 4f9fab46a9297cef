"""A decoder that runs a cell, and lets a helper choose what comes next."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tpuest.compat.seq2seq import shapes
from tpuest.compat.seq2seq.decoding import Decoder
from tpuest.compat.seq2seq.helpers import Helper

_v1 = tf.compat.v1


class BasicDecoderOutput(NamedTuple):
    """What a step gives.

    Attributes:
      rnn_output: float `[batch_size, output_size]`, of the cell or the output layer.
      sample_id: what the helper chose, int32 `[batch_size]` in most helpers.
    """

    rnn_output: Any
    sample_id: Any


class BasicDecoder(Decoder):
    """Runs a cell step by step; the helper gives each step its inputs."""

    def __init__(self, cell: Any, helper: Helper, initial_state: Any, output_layer: Any = None):
        """Makes a decoder.

        Args:
          cell: a recurrent cell.
          helper: chooses the inputs.
          initial_state: of the cell, `[batch_size, ...]` each.
          output_layer: applied to the cell's output before the helper sees it.

        Raises:
          TypeError: an argument isn't of its kind.
        """
        shapes.check_cell("cell", cell)
        if not isinstance(helper, Helper):
            raise TypeError(f"helper must be a Helper, received: {type(helper)}")
        if output_layer is not None and not shapes.is_layer(output_layer):
            raise TypeError(f"output_layer must be a Layer, received: {type(output_layer)}")
        self._cell = cell
        self._helper = helper
        self._initial_state = initial_state
        self._output_layer = output_layer

    @property
    def batch_size(self) -> Any:
        return self._helper.batch_size

    @property
    def output_size(self) -> BasicDecoderOutput:
        size = shapes.output_size_after(self._output_layer, self._cell.output_size)
        return BasicDecoderOutput(size, self._helper.sample_ids_shape)

    @property
    def output_dtype(self) -> BasicDecoderOutput:
        dtype = tf.nest.flatten(self._initial_state)[0].dtype
        size = self.output_size.rnn_output
        return BasicDecoderOutput(
            tf.nest.map_structure(lambda _: dtype, size), self._helper.sample_ids_dtype
        )

    def initialize(self, name: str | None = None) -> tuple:
        return (*self._helper.initialize(), self._initial_state)

    def step(self, time: tf.Tensor, inputs: Any, state: Any, name: str | None = None) -> tuple:
        with _v1.name_scope(name, "BasicDecoderStep", (time, inputs, state)):
            outputs, state = self._cell(inputs, state)
            if self._output_layer is not None:
                outputs = self._output_layer(outputs)
            sample_ids = self._helper.sample(time=time, outputs=outputs, state=state)
            finished, inputs, state = self._helper.next_inputs(
                time=time, outputs=outputs, state=state, sample_ids=sample_ids
            )
        return BasicDecoderOutput(outputs, sample_ids), state, inputs, finished
