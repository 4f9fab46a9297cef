"""Where in the user's program an operation was made.

Takes an operation, or the name by which an error calls it; gives the user's file and line.

    "model/cond/MatrixDeterminant"  ->  the operation of model_fn's graph, or of a branch  ->  model.py:31
"""

from __future__ import annotations

import dataclasses
import functools
import linecache
import os
import site
import sysconfig
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from tpuest import _tf


@dataclasses.dataclass(frozen=True)
class Origin:
    """A line of the user's program.

    Attributes:
      file: its path.
      line: from 1.
      function: that the line is in.
    """

    file: str
    line: int
    function: str

    @property
    def source(self) -> str:
        """The line's text, '' if the file can't be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def user_frames(operation: tf.Operation) -> list:
    """Lists the frames that made an operation, the outermost first, without those of TensorFlow and tpuest."""
    own = os.path.dirname(__file__)
    inside = (os.path.dirname(tf.__file__), own)
    examples = os.path.join(own, "examples")
    return [
        tuple(frame)
        for frame in operation.traceback
        if not frame.filename.startswith(inside) or frame.filename.startswith(examples)
    ]


def origin_of(operation: tf.Operation) -> Origin | None:
    """Finds the line that made an operation: of a gradient, the line whose gradient it is.

    Where a library made it for the user, that is the user's line; the library's if nobody else had a part.
    """
    frames = user_frames(_tf.differentiated(operation))
    own = [frame for frame in frames if not frame[0].startswith(_library_directories())]
    for file, line, function, *_ in reversed(own or frames):
        return Origin(file, line, function)
    return None


def find_operation(graph: tf.Graph, name: str) -> tf.Operation | None:
    """Finds the operation that an error names: in a function its name has the function's scopes before it.

    Args:
      graph: that `model_fn` was called in; its branches and loop bodies are searched too.
      name: by the error.
    """
    parts = name.split("/")
    for start in range(len(parts)):
        wanted = "/".join(parts[start:])
        for place in (graph, *functions_of(graph).values()):
            try:
                return place.get_operation_by_name(wanted)
            except KeyError:
                continue
    return None


def functions_of(graph: tf.Graph) -> dict[str, tf.Graph]:
    """Gives the graphs of a graph's functions by name: branches, loop bodies, and those inside of them."""
    found: dict[str, tf.Graph] = {}
    pending = [graph]
    while pending:
        for name in _called(pending.pop()):
            if name not in found:
                inner = _tf.function_graph(graph, name)
                if inner is not None:
                    found[name] = inner
                    pending.append(inner)
    return found


def functions_called(node: Any) -> Iterator[str]:
    """Names the library functions that a node calls; of a `Defun` the node's type is the name."""
    yield node.op
    for attr in node.attr.values():
        if attr.HasField("func"):
            yield attr.func.name
        elif attr.HasField("list"):
            yield from (function.name for function in attr.list.func)


def _called(graph: tf.Graph) -> Iterator[str]:
    for operation in graph.get_operations():
        yield from functions_called(operation.node_def)


@functools.cache
def _library_directories() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    places: Sequence[str] = [
        *(paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")),
        *getattr(site, "getsitepackages", list)(),
        "<frozen ",
    ]
    return tuple(
        dict.fromkeys(place if place.startswith("<") else place + os.sep for place in places)
    )
