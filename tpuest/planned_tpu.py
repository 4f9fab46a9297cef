"""A TPU that need not be there: what is known of it by its name.

Takes a name such as 'v5e:2x4'; gives its cores, hosts, memory and speed. Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
import re

DEFAULT_TPU = "v5e"

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Generation:
    """What is known of a kind of TPU.

    Attributes:
      cores_per_chip: devices that the compiler counts.
      num_dimensions: of a slice.
      host_chips: the most chips that one machine feeds, where it feeds the whole slice.
      hbm_bytes: of a core, as the compiler's own message has it.
      flops_per_second: of a core in bfloat16, by the public specification.
      hbm_bytes_per_second: of a core, by the public specification.
      embedding_feature: its hardware for embeddings in TensorFlow's words, 'V1', 'V2' (SparseCores) or 'UNSUPPORTED'. No
        TPU was asked; libtpu's compiler takes programs for SparseCores of 'V2' alone.
    """

    cores_per_chip: int
    num_dimensions: int
    host_chips: int
    hbm_bytes: float
    flops_per_second: float
    hbm_bytes_per_second: float
    embedding_feature: str


GENERATIONS = {
    "v2": Generation(2, 2, 4, 7.48 * _GIB, 23e12, 350e9, "V1"),
    "v3": Generation(2, 2, 4, 15.48 * _GIB, 61.5e12, 450e9, "V1"),
    "v4": Generation(2, 3, 4, 15.25 * _GIB, 137.5e12, 614e9, "V1"),
    "v5e": Generation(1, 2, 8, 15.75 * _GIB, 197e12, 819e9, "UNSUPPORTED"),
    "v5p": Generation(1, 3, 4, 95.74 * _GIB, 459e12, 2765e9, "V2"),
    "v6e": Generation(1, 2, 8, 31.25 * _GIB, 918e12, 1640e9, "V2"),
}
_ALIASES = {"v5litepod": "v5e", "v5lite": "v5e"}
# Of an accelerator type such as 'v5litepod-8' or 'v3-32': the slice's shape by its number of chips.
_FLAT_SLICES = {
    1: (1, 1),
    4: (2, 2),
    8: (2, 4),
    16: (4, 4),
    32: (4, 8),
    64: (8, 8),
    128: (8, 16),
    256: (16, 16),
}
_CUBIC_SLICES = {
    1: (1, 1, 1),
    4: (2, 2, 1),
    8: (2, 2, 2),
    16: (2, 2, 4),
    32: (2, 4, 4),
    64: (4, 4, 4),
    128: (4, 4, 8),
    256: (4, 8, 8),
    512: (8, 8, 8),
}


@dataclasses.dataclass(frozen=True)
class PlannedTPU:
    """A slice of chips.

    Attributes:
      generation_name: a key of `GENERATIONS`.
      shape: chips along each dimension.
    """

    generation_name: str
    shape: tuple[int, ...]

    @property
    def generation(self) -> Generation:
        return GENERATIONS[self.generation_name]

    @property
    def name(self) -> str:
        """As the compiler reads it: 'v5e:2x4'."""
        return f"{self.generation_name}:{'x'.join(map(str, self.shape))}"

    @property
    def num_cores(self) -> int:
        return math.prod(self.shape) * self.generation.cores_per_chip

    @property
    def chips_per_host(self) -> tuple[int, int, int]:
        """The part of the slice that one machine feeds, along three dimensions."""
        if math.prod(self.shape) > self.generation.host_chips:
            return (2, 2, 1)
        return (*self.shape, 1)[:3]

    @property
    def num_hosts(self) -> int:
        return math.prod(self.shape) // math.prod(self.chips_per_host)


def parse_tpu(text: str) -> PlannedTPU:
    """Reads the name of a TPU.

    Args:
      text: a generation, which means one chip ('v5e'); a slice ('v5e:2x4'); or an accelerator type ('v5litepod-8').

    Raises:
      ValueError: there is no such TPU.
    """
    match = re.fullmatch(r"([a-z0-9]+?)(?::(\d+(?:x\d+)*)|-(\d+))?", text.strip().lower())
    name = match and _ALIASES.get(match[1], match[1])
    if not match or name not in GENERATIONS:
        raise ValueError(_message(text))
    generation = GENERATIONS[name]
    shape = (1,) * generation.num_dimensions
    if match[2]:
        shape = tuple(int(size) for size in match[2].split("x"))
    elif match[3]:
        # The number counts cores; of v5p two on a chip, which the compiler joins.
        cores_per_chip = 2 if generation.num_dimensions == 3 else generation.cores_per_chip
        slices = _CUBIC_SLICES if generation.num_dimensions == 3 else _FLAT_SLICES
        shape = slices.get(int(match[3]) // cores_per_chip, ())
    tpu = PlannedTPU(name, shape)
    if len(shape) != generation.num_dimensions or not _is_whole(tpu):
        raise ValueError(_message(text))
    return tpu


def _is_whole(tpu: PlannedTPU) -> bool:
    parts = (*tpu.shape, 1)[:3]
    return all(size and size % part == 0 for size, part in zip(parts, tpu.chips_per_host))


def _message(text: str) -> str:
    return (
        f"There is no TPU {text!r} to compile for. Give a kind, which means one chip "
        f"({', '.join(GENERATIONS)}), a slice of chips (v5e:2x4, v4:2x2x1, v6e:4x4), or an accelerator type "
        "(v5litepod-8, v4-8)."
    )
