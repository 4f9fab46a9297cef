"""Lets the tests of this room import its modules and those of the conformance room."""

import sys
from pathlib import Path

from tpuest import wheels

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "conformance")]

# It has no XLA for the host, by which steps are lowered where there is no TPU.
if wheels.find_versions("tensorflow-tpu"):
    collect_ignore = [
        "test_aot_compile.py",
        "test_check_compiles.py",
        "test_checking.py",
        "test_checking_embeddings.py",
        "test_embeddings_compile.py",
        "test_lowering.py",
    ]
