"""`tf.contrib.seq2seq`: decoders around recurrent cells, with attention and beam search.

Takes and gives what TensorFlow 1.15's do: variable names, shapes and numbers are theirs.

    helper = TrainingHelper(inputs, lengths)                          what a cell reads next
    cell = AttentionWrapper(cell, LuongAttention(depth, memory))      a cell that looks at a memory
    outputs, state, lengths = dynamic_decode(BasicDecoder(cell, helper, cell.zero_state(...)))
    loss = sequence_loss(outputs.rnn_output, targets, weights)
"""

from tpuest.compat.seq2seq.attention import (
    AttentionMechanism,
    BahdanauAttention,
    LuongAttention,
    hardmax,
)
from tpuest.compat.seq2seq.attention_cell import AttentionWrapper, AttentionWrapperState
from tpuest.compat.seq2seq.basic_decoder import BasicDecoder, BasicDecoderOutput
from tpuest.compat.seq2seq.beam_search import (
    BeamSearchDecoder,
    BeamSearchDecoderOutput,
    BeamSearchDecoderState,
    FinalBeamSearchDecoderOutput,
    tile_batch,
)
from tpuest.compat.seq2seq.beam_trees import gather_tree, gather_tree_from_array
from tpuest.compat.seq2seq.decoding import Decoder, dynamic_decode
from tpuest.compat.seq2seq.helpers import (
    CustomHelper,
    GreedyEmbeddingHelper,
    Helper,
    InferenceHelper,
    SampleEmbeddingHelper,
    TrainingHelper,
)
from tpuest.compat.seq2seq.losses import SequenceLoss, sequence_loss
from tpuest.compat.seq2seq.monotonic import (
    BahdanauMonotonicAttention,
    LuongMonotonicAttention,
    monotonic_attention,
    safe_cumprod,
)
from tpuest.compat.seq2seq.scheduled import (
    ScheduledEmbeddingTrainingHelper,
    ScheduledOutputTrainingHelper,
)

__all__ = [
    "AttentionMechanism",
    "AttentionWrapper",
    "AttentionWrapperState",
    "BahdanauAttention",
    "BahdanauMonotonicAttention",
    "BasicDecoder",
    "BasicDecoderOutput",
    "BeamSearchDecoder",
    "BeamSearchDecoderOutput",
    "BeamSearchDecoderState",
    "CustomHelper",
    "Decoder",
    "FinalBeamSearchDecoderOutput",
    "GreedyEmbeddingHelper",
    "Helper",
    "InferenceHelper",
    "LuongAttention",
    "LuongMonotonicAttention",
    "SampleEmbeddingHelper",
    "ScheduledEmbeddingTrainingHelper",
    "ScheduledOutputTrainingHelper",
    "SequenceLoss",
    "TrainingHelper",
    "dynamic_decode",
    "gather_tree",
    "gather_tree_from_array",
    "hardmax",
    "monotonic_attention",
    "safe_cumprod",
    "sequence_loss",
    "tile_batch",
]
