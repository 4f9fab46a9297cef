"""Lets the tests of this room import its modules and those of the conformance room."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "conformance")]
