"""Evaluates a model while it is trained, without a checkpoint: `InMemoryEvaluatorHook`.

Takes the variables of the training session; gives the results to the estimator's `eval_dir`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tpuest.errors import UnsupportedError
from tpuest.estimator import Estimator
from tpuest.session import ReplicaSession


class InMemoryEvaluatorHook(tf.compat.v1.train.SessionRunHook):
    """Evaluates before training, every `every_n_iter` steps and at the end.

    On cores a hook is called once a loop: there `every_n_iter` counts loops.

        evaluator = InMemoryEvaluatorHook(estimator, eval_input_fn)
        estimator.train(train_input_fn, hooks=[evaluator])
    """

    def __init__(
        self,
        estimator: Estimator,
        input_fn: Callable,
        steps: int | None = None,
        hooks: Sequence | None = None,
        name: str | None = None,
        every_n_iter: int = 100,
    ):
        """Makes the hook.

        Args:
          estimator: whose `model_fn` to evaluate.
          input_fn: see `Estimator.evaluate`.
          steps: see there.
          hooks: see there.
          name: see there.
          every_n_iter: steps from one evaluation to the next.

        Raises:
          ValueError: `every_n_iter` isn't positive, or there are other workers or parameter servers.
        """
        if every_n_iter is None or every_n_iter <= 0:
            raise ValueError(f"invalid every_n_iter={every_n_iter}.")
        if estimator.config.num_ps_replicas > 0 or estimator.config.num_worker_replicas > 1:
            raise ValueError("InMemoryEvaluator supports only single machine (aka Local) setting.")
        self._estimator = estimator
        self._arguments = (input_fn, steps, hooks, name)
        self._every = every_n_iter
        self._evaluate: Callable | None = None
        self._num_iterations = 0
        self._evaluated_at = 0

    def begin(self) -> None:
        self._evaluate = self._estimator.evaluation_of_variables(*self._arguments)

    def after_create_session(self, session: Any, coord: Any) -> None:
        if not isinstance(session, ReplicaSession):
            raise UnsupportedError(
                "InMemoryEvaluatorHook in a session of your own",
                "Pass it to Estimator.train(hooks=[...]).",
            )
        if session.graph.get_collection(tf.compat.v1.GraphKeys.SAVEABLE_OBJECTS):
            raise ValueError(
                "InMemoryEvaluator does not support saveables other than global variables."
            )
        # A session made anew, after a worker was lost, counts its steps anew.
        self._num_iterations = self._evaluated_at = 0
        self._evaluate(session.variables)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        session = run_context.session
        self._num_iterations = self._num_iterations + 1 if session.on_cores else session.steps_done
        if self._num_iterations >= self._evaluated_at + self._every:
            self._evaluated_at = self._num_iterations
            self._evaluate(session.variables)

    def end(self, session: Any) -> None:
        self._evaluate(session.variables)

    def steps_until_due(self, global_step: int) -> int:
        """Tells after how many steps to evaluate; see `hooks.steps_until_due`."""
        return self._evaluated_at + self._every - self._num_iterations
