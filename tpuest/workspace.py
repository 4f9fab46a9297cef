"""Keeps what an estimator builds, so that a second call builds nothing.

A `Workspace` is one set of variables and the programs compiled on it. It serves one call at a time: a call that starts
while another is under way (a prediction's generator, an evaluation in a hook) gets a workspace of its own, so that
neither sees the other's values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tensorflow as tf

from tpuest.loop import CompiledProgram
from tpuest.replica import Program
from tpuest.topology import Topology
from tpuest.variables import ReplicaVariables

# One for the call under way and one for the call inside it; more would keep copies of the model for nothing.
_MOST_IDLE = 2
# Programs differ by mode and batch; who calls with ever new batch shapes must not fill the memory.
_MOST_PROGRAMS = 16


class Workspace:
    """One set of variables and the programs compiled on it."""

    def __init__(self, topology: Topology):
        self.variables = ReplicaVariables(topology)
        self._compiled: dict[int, CompiledProgram] = {}

    def compile(self, program: Program) -> CompiledProgram:
        """Gives the program's functions on these variables."""
        if id(program) not in self._compiled:
            self._compiled[id(program)] = CompiledProgram(program, self.variables)
        return self._compiled[id(program)]

    def keep_only(self, programs: Iterable[Program]) -> None:
        """Drops the functions and own variables of all other programs."""
        kept = {id(program) for program in programs}
        for key in [key for key in self._compiled if key not in kept]:
            self._compiled.pop(key).release()


class Workspaces:
    """An estimator's workspaces and programs."""

    def __init__(self):
        self._idle: list[Workspace] = []
        self._programs: dict[Any, Program] = {}

    @contextlib.contextmanager
    def lease(self, program: Program, held: Any) -> Iterator[Workspace]:
        """Gives a workspace that nobody else uses, if possible one that holds the checkpoint `held`.

        A hook that makes variables would make them again at the next call: then the program is built anew for it.
        """
        topology, num_variables = program.topology, _num_variables(program)
        fitting = [space for space in self._idle if space.variables.topology is topology]
        fitting.sort(key=lambda space: space.variables.checkpoint == held)
        space = fitting[-1] if fitting else Workspace(topology)
        if fitting:
            self._idle.remove(space)
        try:
            yield space
        finally:
            if _num_variables(program) > num_variables:
                self._programs = {k: p for k, p in self._programs.items() if p is not program}
            space.keep_only(self._programs.values())
            self._idle = [*self._idle[-_MOST_IDLE + 1 :], space]
            self._forget_what_is_lost()

    def _forget_what_is_lost(self) -> None:
        """Drops what was on a TPU that has been initialised anew since."""
        self._idle = [s for s in self._idle if s.variables.topology.is_connected]
        self._programs = {k: p for k, p in self._programs.items() if p.topology.is_connected}

    def program(self, key: Any, build: Callable[[], Program]) -> Program:
        """Gives the program known by `key`, or builds it; `None` is never known."""
        if key is None:
            return build()
        program = self._programs.pop(key, None) or build()
        self._programs[key] = program  # last, as the one used most recently
        for oldest in list(self._programs)[:-_MOST_PROGRAMS]:
            del self._programs[oldest]
        return program


def _num_variables(program: Program) -> int:
    keys = (tf.compat.v1.GraphKeys.GLOBAL_VARIABLES, tf.compat.v1.GraphKeys.LOCAL_VARIABLES)
    return sum(len(program.graph.get_collection_ref(key)) for key in keys)
