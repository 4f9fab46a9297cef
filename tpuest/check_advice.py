"""What to use instead of an operation that a TPU does not have.

Takes an operation's type; gives a sentence. Rows, the first that matches counts.
"""

from __future__ import annotations

import dataclasses
import re

_IN_INPUT_FN = "Do it in input_fn (dataset.map)"
_TO_HOST = "give the tensors to host_call or eval_metrics"


@dataclasses.dataclass(frozen=True)
class Advice:
    """About a kind of operation.

    Attributes:
      pattern: of the operations' types, a regular expression.
      use: what to use instead.
      is_host_only: whether only a host could have it: it reads files, makes strings, calls Python.
    """

    pattern: str
    use: str
    is_host_only: bool = True


ADVICE = (
    Advice(
        "EagerPyFunc|PyFunc|PyFuncStateless",
        f"Python runs on the host: {_IN_INPUT_FN[0].lower()}{_IN_INPUT_FN[1:]}, write it with TensorFlow ops, or "
        f"{_TO_HOST}.",
    ),
    Advice(
        "PrintV2|Print|StringFormat",
        f"A core cannot print: leave tf.print out, or {_TO_HOST} and print there.",
    ),
    Advice(
        r".*Summary(V2)?|SummaryWriter|Write.*Summary|Flush.*",
        "Let nothing of the step wait for a summary (no control dependency on it), or write it in host_call.",
    ),
    Advice(
        "HashTable.*|MutableHashTable.*|MutableDenseHashTable.*|LookupTable.*|AnonymousHashTable",
        f"{_IN_INPUT_FN}, or keep the table as a constant and take from it with tf.gather.",
    ),
    Advice(
        r"(Parse|Decode|Encode|String|Regex|Unicode|Substr|AsString|ReduceJoin|StaticRegex).*",
        f"A core holds no strings: {_IN_INPUT_FN[0].lower()}{_IN_INPUT_FN[1:]}, and give numbers to the model.",
    ),
    Advice(
        r"(Iterator|.*Iterator|.*Dataset.*|Queue|FIFOQueue|RandomShuffleQueue|PaddingFIFOQueue|.*Reader.*|.*File.*)(V\d)?"
        r"|Queue.*|Iterator.*|OptionalGetValue|OptionalHasValue",
        "Data come by input_fn: return them from there as features.",
    ),
    Advice("Timestamp", "A core has no clock: read it in host_call."),
    Advice(
        "MatrixDeterminant|LogMatrixDeterminant",
        "Take the product of a factor's diagonal: tf.linalg.diag_part of tf.linalg.cholesky, or of tf.linalg.qr's r.",
        is_host_only=False,
    ),
    Advice(
        "Lu|Eig|MatrixSquareRoot|MatrixExponential|Schur",
        "A TPU has tf.linalg.cholesky, qr, svd, eigh and inv.",
        is_host_only=False,
    ),
    Advice(
        "ResizeBicubic.*|ResizeArea|ScaleAndTranslate.*",
        "Use bilinear or nearest-neighbour resizing, or resize in input_fn.",
        is_host_only=False,
    ),
    Advice(
        "CropAndResize.*|ExtractGlimpse.*|DrawBoundingBoxes.*|SampleDistortedBoundingBox.*",
        f"{_IN_INPUT_FN}, or cut with tf.gather and tf.slice and resize with tf.image.resize.",
        is_host_only=False,
    ),
    Advice(
        "MaxPoolWithArgmax.*|FractionalMaxPool.*|FractionalAvgPool.*",
        "Use tf.nn.max_pool; for positions, tf.argmax over patches of tf.image.extract_patches.",
        is_host_only=False,
    ),
    Advice(
        r"Sparse.*|SegmentSum|SegmentMean|SegmentMax|SegmentMin|SegmentProd|DenseToSparse.*|AddManySparse.*",
        "A core holds dense tensors: use tf.gather and matmul, tf.math.unsorted_segment_sum, or ids padded to one "
        "length with weights.",
        is_host_only=False,
    ),
    Advice(
        "Ragged.*|DenseToDenseSetOperation|SetSize|EditDistance",
        f"{_IN_INPUT_FN}, and pad to one length there.",
        is_host_only=False,
    ),
    Advice(
        "RandomGamma.*|RandomPoisson.*|ParameterizedTruncatedNormal|RandomBinomial|StatefulRandomBinomial",
        "A TPU has uniform, normal and truncated normal: transform these.",
        is_host_only=False,
    ),
    Advice(
        ".*CandidateSampler",
        "Draw the candidates with tf.random.uniform, or in input_fn.",
        is_host_only=False,
    ),
    Advice("HistogramFixedWidth", "Use tf.math.bincount of scaled values.", is_host_only=False),
)
_OTHERWISE = Advice(
    ".*",
    f"{_IN_INPUT_FN}, {_TO_HOST}, or write it with ops that XLA has.",
    is_host_only=False,
)
COMPLEX128 = "A TPU has complex64: cast to it."
INT64_MATMUL = "A TPU multiplies no matrices of int64: cast to int32, float32 or bfloat16."
FLOAT64_POOL = "A TPU has no gradient of a float64 max-pool: cast to float32."
CONSTANT_NEEDED = (
    "Shapes, axes and lengths must be known when the step is compiled: take them from params or a static shape "
    "(x.shape), not from a tensor; for lengths that vary, work on the full length with a mask."
)
SMALLER = "Use a smaller batch for each core, more cores, bfloat16 activations, or tf.recompute_grad around layers."
FEWER_PARAMETERS = "Variables and the optimizer's slots must fit on every core: a smaller model, or an optimizer with fewer slots."
STATIC_BATCH = "dataset.batch(params['batch_size'], drop_remainder=True)"
STATIC_LENGTH = "Pad to one length before batching: padded_batch(padded_shapes=...), or FixedLenFeature([max_length], ...)."
STATIC_PREDICTION = (
    "Keep the batch dimension of the features: reshape with params['batch_size'] rather than -1, and avoid "
    "tf.boolean_mask and tf.unique."
)
GIVEN_TO_HOST = (
    "Pass the tensor along with the function: eval_metrics=(metric_fn, [labels, logits]), "
    "host_call=(function, [tensor])."
)
ENCODE = "Turn strings into numbers, and sparse or ragged tensors into dense ones, in input_fn."


def advice_for(op_type: str) -> Advice:
    """Finds what to use instead of an operation that is not compiled for a TPU."""
    for advice in ADVICE:
        if re.fullmatch(advice.pattern, op_type):
            return advice
    return _OTHERWISE
