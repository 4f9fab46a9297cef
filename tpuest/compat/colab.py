"""What notebooks of the old Colab TPU runtimes look for: COLAB_TPU_ADDR, and a session at that address.

    assert "COLAB_TPU_ADDR" in os.environ                    passes where use_tpu=True would run
    with tf.Session("grpc://" + os.environ[...]) as session  is a session in this process

Takes whether cores are simulated; changes the environment. Loads no TensorFlow.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from tpuest import chips

VARIABLE = "COLAB_TPU_ADDR"
# Where the TPU's own host used to listen; nobody is called there.
_ADDRESS = "localhost:8470"


def show_tpu(is_simulated: bool) -> bool:
    """Sets COLAB_TPU_ADDR if this machine has a TPU, or simulates one; says whether it did."""
    if VARIABLE in os.environ or not (is_simulated or chips.find_chips()):
        return False
    os.environ[VARIABLE] = _ADDRESS
    return True


def hide_tpu() -> None:
    """Takes back what `show_tpu` set."""
    os.environ.pop(VARIABLE, None)


def is_this_machine(address: str) -> bool:
    """Says whether an address, such as a session's target, is the one that stands for this machine's TPU."""
    return (address.partition("://")[2] or address) == _ADDRESS


def with_local_target(make_session: Callable) -> Callable:
    """Wraps `Session.__init__`: a session at this machine's TPU is one in this process."""

    @functools.wraps(make_session)
    def make_local_session(self: Any, target: str = "", *args: Any, **kwargs: Any) -> None:
        local = isinstance(target, str) and is_this_machine(target)
        make_session(self, "" if local else target, *args, **kwargs)

    return make_local_session
