"""`tf.contrib.testing.FakeSummaryWriter`: keeps what a test's code would have written to event files."""

from __future__ import annotations

import collections
from typing import Any, ClassVar

import tensorflow as tf

from tpuest import _tf


class FakeSummaryWriter:
    """Stands for `tf.compat.v1.summary.FileWriter` between `install()` and `uninstall()`."""

    _replaced: ClassVar[Any] = None

    @classmethod
    def install(cls) -> None:
        if cls._replaced:
            raise ValueError("FakeSummaryWriter already installed.")
        cls._replaced = _tf.summary_writer.FileWriter
        _put(cls)

    @classmethod
    def uninstall(cls) -> None:
        if not cls._replaced:
            raise ValueError("FakeSummaryWriter not installed.")
        _put(cls._replaced)
        cls._replaced = None

    def __init__(self, logdir: str, graph: Any = None):
        self._logdir = logdir
        self._graph = graph
        self._added: dict[str, list] = collections.defaultdict(list)
        self._added_run_metadata: dict[str, Any] = {}
        self.summaries: dict[int, list] = {}

    def add_summary(self, summ: Any, current_global_step: int) -> None:
        if isinstance(summ, bytes):
            summ = tf.compat.v1.Summary.FromString(summ)
        self.summaries.setdefault(current_global_step, []).append(summ)

    def add_graph(self, graph: Any, global_step: int | None = None, graph_def: Any = None) -> None:
        _check_step(global_step)
        if graph_def is not None:
            raise ValueError(f"Unexpected graph_def {graph_def}.")
        self._added["graph"].append(graph)

    def add_meta_graph(self, meta_graph_def: Any, global_step: int | None = None) -> None:
        _check_step(global_step)
        self._added["meta_graph"].append(meta_graph_def)

    def add_session_log(self, session_log: Any, global_step: int | None = None) -> None:
        self._added["session_log"].append(session_log)

    def add_run_metadata(self, run_metadata: Any, tag: str, global_step: int | None = None) -> None:
        _check_step(global_step)
        self._added_run_metadata[tag] = run_metadata

    def flush(self) -> None:
        """Does nothing."""

    def reopen(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""

    def assert_summaries(
        self,
        test_case: Any,
        expected_logdir: str | None = None,
        expected_graph: Any = None,
        expected_summaries: dict[int, dict[str, float]] | None = None,
        expected_added_graphs: list | None = None,
        expected_added_meta_graphs: list | None = None,
        expected_session_logs: list | None = None,
    ) -> None:
        """Compares what was added, where something is expected, by the assertions of a test case."""
        if expected_logdir is not None:
            test_case.assertEqual(expected_logdir, self._logdir)
        if expected_graph is not None:
            test_case.assertIs(expected_graph, self._graph)
        for step, expected in (expected_summaries or {}).items():
            test_case.assertIn(step, self.summaries)
            test_case.assertEqual(expected, self._scalars(step))
        if expected_added_graphs is not None:
            test_case.assertEqual(expected_added_graphs, self._added["graph"])
        if expected_added_meta_graphs is not None:
            self._assert_meta_graphs(test_case, expected_added_meta_graphs)
        if expected_session_logs is not None:
            test_case.assertEqual(expected_session_logs, self._added["session_log"])

    def _scalars(self, step):
        """Gives a step's scalars, without those that a thread of a Supervisor writes when it likes."""
        values = [value for summary in self.summaries[step] for value in summary.value]
        return {v.tag: v.simple_value for v in values if v.tag != "global_step/sec"}

    def _assert_meta_graphs(self, test_case, expected):
        added = self._added["meta_graph"]
        test_case.assertEqual(len(expected), len(added))
        for one, other in zip(expected, added):
            _tf.assert_meta_graph_protos_equal(test_case, one, other)


def _put(writer: Any) -> None:
    _tf.summary_writer.FileWriter = writer
    _tf.summary_writer_cache.FileWriter = writer


def _check_step(global_step: int | None) -> None:
    if global_step is not None and global_step < 0:
        raise ValueError(f"Invalid global_step {global_step}.")
