"""A `TPUClusterResolver` that takes what old programs pass: '', a dead name, an old notebook's address.

Takes a TPU's name; gives TensorFlow's resolver for the TPU that is there, or one that says that there is none.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import tensorflow as tf

from tpuest import topology
from tpuest.compat import colab

_Resolver = tf.distribute.cluster_resolver.TPUClusterResolver
_connect = tf.config.experimental_connect_to_cluster
_initialize = tf.tpu.experimental.initialize_tpu_system
# Of a resolver without a TPU: what TF 1 said for tpu=''.
_NO_MASTER = ""
_CONNECT_SECONDS = 3
LOCAL = "local"


class TPUClusterResolver(_Resolver):
    """Finds the TPU: `tf.distribute.cluster_resolver.TPUClusterResolver`.

    Differs from the original: `None`, '', and a name or address that leads nowhere mean this machine's
    TPU. Without one, the resolver knows no master and no hosts, so that a program that makes a resolver
    for `use_tpu=False` goes on.
    """

    def __init__(
        self, tpu: Any = None, zone: Any = None, project: Any = None, *args: Any, **kwargs: Any
    ):
        """Looks for the TPU.

        Args:
          tpu: its name, 'local', 'grpc://address:port', a list with one of these, '' or `None`.
          zone: of the cloud project.
          project: the cloud project.
          *args: see the original.
          **kwargs: see the original.
        """
        asked = _asked_for(tpu)
        self._asked = asked
        chosen = _choose(asked)
        self._is_nothing = chosen is None
        if chosen is None:
            self.task_type, self.task_id = None, None
            return
        super().__init__(chosen, zone, project, *args, **kwargs)

    @property
    def is_nothing(self) -> bool:
        """Whether there is no TPU to connect to."""
        return self._is_nothing

    @property
    def looked_for(self) -> str:
        """What was asked for, in words."""
        return f"TPU {self._asked!r}" if self._asked else "a TPU on this machine (tpu='local')"

    def master(self, task_type: Any = None, task_id: Any = None, rpc_layer: Any = None) -> str:
        if self._is_nothing:
            return _NO_MASTER
        return super().master(task_type, task_id, rpc_layer)

    def get_master(self) -> str:
        return self.master()

    def cluster_spec(self) -> Any:
        return None if self._is_nothing else super().cluster_spec()

    def get_job_name(self) -> str | None:
        return None if self._is_nothing else super().get_job_name()

    @property
    def environment(self) -> str:
        return "" if self._is_nothing else super().environment

    def num_accelerators(self, *args: Any, **kwargs: Any) -> dict[str, int]:
        return {"TPU": 0} if self._is_nothing else super().num_accelerators(*args, **kwargs)

    def get_tpu_system_metadata(self) -> Any:
        if self._is_nothing:
            raise RuntimeError(f"{self.looked_for} isn't there: tpuest --doctor tells why.")
        return super().get_tpu_system_metadata()

    def __deepcopy__(self, memo: dict) -> TPUClusterResolver:
        return self  # A connection isn't copied with the RunConfig that holds it.


def connect_to_cluster(cluster_spec_or_resolver: Any, *args: Any, **kwargs: Any) -> None:
    """Connects as `tf.config.experimental_connect_to_cluster`, unless the engine will or there's no TPU.

    Differs from the original: TensorFlow 2 refuses outside eager execution, where TensorFlow 1 didn't.
    """
    if not _is_left_to_the_engine(cluster_spec_or_resolver):
        _connect(cluster_spec_or_resolver, *args, **kwargs)


def initialize_tpu_system(
    cluster_resolver: Any = None,
) -> tf.tpu.experimental.Topology | None:
    """Gives the TPU's mesh; `None` where the engine will initialise it, or there is no TPU."""
    if _is_left_to_the_engine(cluster_resolver):
        return None
    return _initialize(cluster_resolver)


def _is_left_to_the_engine(resolver: Any) -> bool:
    return getattr(resolver, "is_nothing", False) or not tf.executing_eagerly()


def _asked_for(tpu: Any) -> str:
    """Gives the name or address that the program means."""
    if isinstance(tpu, (list, tuple)):
        tpu = tpu[0] if tpu else None
    if isinstance(tpu, bytes):
        tpu = tpu.decode()
    if tpu is None:
        tpu = os.environ.get("TPU_NAME") or os.environ.get(colab.VARIABLE) or ""
    return "" if colab.is_this_machine(tpu) else tpu


def _choose(asked: str) -> str | None:
    """Gives what TensorFlow's resolver is told, or `None` where there is nothing to connect to."""
    if asked == LOCAL:
        return LOCAL if _has_local_tpu() else None
    if topology.simulated_cores():
        return None
    address = asked.partition("://")[2] or asked
    if ":" in address and _answers(address):
        return asked
    if _has_local_tpu():
        if asked:
            tf.compat.v1.logging.info("TPU %r doesn't answer; using this machine's TPU.", asked)
        return LOCAL
    if ":" in address or not asked or not _in_google_cloud():
        return None
    return asked


def _has_local_tpu() -> bool:
    return bool(tf.config.list_physical_devices("TPU"))


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def _in_google_cloud() -> bool:
    """Says whether this is a Google Cloud machine, without asking the network."""
    try:
        with open("/sys/class/dmi/id/product_name") as file:
            return "Google" in file.read()
    except OSError:
        return False
