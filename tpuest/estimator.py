"""The estimators: compose the stages for train, evaluate and predict.

topology, batch_sizes = where the call runs
with a fresh TF 1 graph:
  pipeline = input_fn, called
  program  = model_fn, called; or the one of an earlier call with equal batches
run the program on the estimator's variables
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from tpuest import (
    arguments,
    calls,
    checkpoint,
    predicting,
    reports,
    run_config,
    signatures,
    storage,
)
from tpuest import hooks as own_hooks
from tpuest.compat import copies, trace
from tpuest.config import TPUConfig
from tpuest.embeddings import Embeddings
from tpuest.exporting import SavedModelExports
from tpuest.loop import CompiledProgram
from tpuest.partial import PartialStep
from tpuest.pipeline import InputCall, InputPipeline, build_pipeline
from tpuest.replica import LOSS, ModelCall, Program, build_program
from tpuest.spec import ModeKeys, WarmStartSettings
from tpuest.topology import BatchSizes, Topology, find_batch_sizes, find_topology
from tpuest.transplant import TransplantSource
from tpuest.variables import ReplicaVariables
from tpuest.workers import config_for_writing
from tpuest.workspace import Workspace, Workspaces


class Estimator(SavedModelExports):
    """Trains and evaluates a model given by a `model_fn`, on CPU or GPU.

    See `tf.estimator.Estimator`.
    """

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        copies.adopt(cls)

    def __init__(
        self,
        model_fn: Callable,
        model_dir: str | None = None,
        config: run_config.RunConfig | None = None,
        params: dict | None = None,
        warm_start_from: str | WarmStartSettings | None = None,
    ):
        """Makes an estimator; nothing runs yet.

        Args:
          model_fn: `model_fn(features, labels, mode, params, config)`, or the subset it declares; returns an
            `EstimatorSpec`.
          model_dir: where checkpoints and events go; `None` takes the config's, or a temporary directory.
          config: a `RunConfig`.
          params: hyper-parameters for `model_fn`.
          warm_start_from: a checkpoint, a SavedModel's directory or `WarmStartSettings` to take first values from.

        Raises:
          ValueError: `model_fn` is missing or doesn't take features, `config` is no `RunConfig`, or `model_dir`
            disagrees with the config's.
          TypeError: `params` is neither a dict nor `HParams`.
        """
        if model_fn is None:
            raise ValueError("model_fn must be provided to Estimator.")
        signatures.verify_model_fn_args(model_fn, params)
        if not (params is None or isinstance(params, dict) or signatures.is_hparams(params)):
            raise TypeError(f"`params` is expected to be a dict. Got {params!r}")
        self._config = arguments.with_model_dir(config, model_dir)
        self._model_fn = model_fn
        self._params = copy.deepcopy(params or {})
        self._warm_start = arguments.warm_start_settings(warm_start_from)
        self._workspaces = Workspaces()
        tf.compat.v1.logging.info("Using config: %s", str(vars(self._config)))

    @property
    def model_dir(self) -> str:
        return self._config.model_dir

    @property
    def config(self) -> Any:
        return copy.deepcopy(self._config)

    @property
    def params(self) -> dict:
        return copy.deepcopy(self._params)

    @property
    def warm_start_settings(self) -> WarmStartSettings | None:
        return self._warm_start

    @property
    def model_fn(self) -> Callable:
        """The `model_fn` bound to `params`: `model_fn(features, labels, mode, config)`."""

        def public_model_fn(features, labels, mode, config):
            return signatures.call_model_fn(
                self._model_fn,
                features=features,
                labels=labels,
                mode=mode,
                config=config,
                params=self.params,
            )

        return public_model_fn

    def get_variable_names(self) -> list[str]:
        """Lists the variables of the newest checkpoint.

        Raises:
          ValueError: there is no checkpoint.
        """
        return [name for name, _ in tf.train.list_variables(self._existing_checkpoint())]

    def get_variable_value(self, name: str | Sequence[str]) -> Any:
        """Reads a variable, or a list of them, from the newest checkpoint.

        Raises:
          ValueError: there is no checkpoint.
        """
        path = self._existing_checkpoint()
        if isinstance(name, str):
            return tf.train.load_variable(path, name)
        return [tf.train.load_variable(path, one) for one in name]

    def _existing_checkpoint(self) -> str:
        path = self.latest_checkpoint()
        if path is None:
            raise ValueError(
                f"Could not find trained model in model_dir: {self.model_dir}. Train the estimator first."
            )
        return path

    def latest_checkpoint(self) -> str | None:
        """Finds the newest checkpoint in `model_dir`, `None` if there is none."""
        return checkpoint.latest_checkpoint(self.model_dir)

    def eval_dir(self, name: str | None = None) -> str:
        """Names the directory where an evaluation's results go."""
        return os.path.join(self.model_dir, "eval" if not name else "eval_" + name)

    def train(
        self,
        input_fn: Callable,
        hooks: Sequence | None = None,
        steps: int | None = None,
        max_steps: int | None = None,
        saving_listeners: Sequence | None = None,
    ) -> Estimator:
        """Trains on the batches of `input_fn`, from the newest checkpoint on.

        Args:
          input_fn: gives a `tf.data.Dataset` of `(features, labels)`, or these as tensors.
          hooks: `SessionRunHook`s; called at every step on CPU and GPU, once a loop on cores.
          steps: how many steps to train; `None` trains to the end of data.
          max_steps: the global step to train to.
          saving_listeners: `CheckpointSaverListener`s.

        Returns:
          self.

        Raises:
          ValueError: both `steps` and `max_steps` are given, or one isn't positive.
          TypeError: a hook or listener is of another class.
        """
        arguments.check_steps(steps, max_steps)
        arguments.check_role(self._config)
        if max_steps is not None and max_steps <= checkpoint.global_step_of(self.model_dir):
            tf.compat.v1.logging.info("Skipping training since max_steps has already saved.")
            return self
        hooks, listeners = (
            arguments.checked_hooks(hooks),
            arguments.checked_listeners(saving_listeners),
        )
        storage.check_is_writable(self.model_dir)
        advice = "Training then goes on from the last complete checkpoint."
        with storage.explained(self.model_dir, advice):
            loss = self._train(input_fn, hooks, steps, max_steps, listeners)
        tf.compat.v1.logging.info("Loss for final step: %s.", loss)
        return self

    def evaluate(
        self,
        input_fn: Callable,
        steps: int | None = None,
        hooks: Sequence | None = None,
        checkpoint_path: str | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """Evaluates the model on the batches of `input_fn`.

        Args:
          input_fn: see `train`.
          steps: how many batches; `None` is all of them.
          hooks: `SessionRunHook`s.
          checkpoint_path: what to evaluate; `None` is the newest checkpoint.
          name: of this evaluation, in `eval_dir`.

        Returns:
          Metric name to value, with `loss` and `global_step`.

        Raises:
          ValueError: `steps` isn't positive.
        """
        arguments.check_count("steps", steps, "Eval steps")
        hooks = arguments.checked_hooks(hooks)
        path = self._checkpoint_to_use(checkpoint_path, "evaluate")
        program, pipeline = self._build(ModeKeys.EVAL, input_fn, path)
        return self._evaluate(
            program, pipeline, steps, hooks, path, name, may_use_older=not checkpoint_path
        )

    def evaluation_of_variables(
        self, input_fn: Callable, steps: int | None, hooks: Sequence | None, name: str | None
    ) -> Callable[[ReplicaVariables], dict[str, Any]]:
        """Prepares what `evaluate` does, for variables in memory instead of a checkpoint.

        Args:
          input_fn: see `evaluate`.
          steps: see there.
          hooks: see there.
          name: see there.

        Returns:
          A function that evaluates the values of variables that have the model's names.

        Raises:
          ValueError: `steps` isn't positive, or the model has a saver or an initialisation of its own.
        """
        arguments.check_count("steps", steps, "Eval steps")
        hooks = arguments.checked_hooks(hooks)
        program, pipeline = self._build(ModeKeys.EVAL, input_fn, None)
        if program.scaffold.init_fn is not None:
            raise ValueError("InMemoryEvaluator does not support custom init_fn")
        if not program.restores_plainly:
            raise ValueError("InMemoryEvaluator does not support custom saver")
        return lambda live: self._evaluate(program, pipeline, steps, hooks, None, name, live)

    def predict(
        self,
        input_fn: Callable,
        predict_keys: Sequence[str] | None = None,
        hooks: Sequence | None = None,
        checkpoint_path: str | None = None,
        yield_single_examples: bool = True,
    ) -> Iterator[Any]:
        """Yields the model's predictions, one for each example in order.

        Args:
          input_fn: gives features; of a tuple, the first item.
          predict_keys: which of the predictions to give; `None` gives all.
          hooks: `SessionRunHook`s.
          checkpoint_path: what to predict with; `None` is the newest checkpoint.
          yield_single_examples: whether to take batches apart.

        Raises:
          ValueError: `predict_keys` don't fit the predictions, or predictions differ in batch length.
        """
        hooks = arguments.checked_hooks(hooks)
        path = self._checkpoint_to_use(checkpoint_path, "predict")
        program, pipeline = self._build(ModeKeys.PREDICT, input_fn, path)
        predictions = predicting.choose(program.predictions, predict_keys)
        with self._workspaces.lease(program, checkpoint.identity(path)) as space:
            run = self._run(
                space,
                program,
                pipeline,
                path,
                _in_session(program, hooks),
                may_use_older=not checkpoint_path,
            )
            for batch in calls.predict(run, predictions):
                if yield_single_examples:
                    yield from predicting.examples(batch)
                else:
                    yield batch

    def _evaluate(
        self, program, pipeline, steps, hooks, path, name, live=None, may_use_older=False
    ) -> dict[str, Any]:
        """Evaluates a checkpoint, or live variables, and writes the results."""
        with self._workspaces.lease(program, checkpoint.identity(path)) as space:
            run = self._run(
                space,
                program,
                pipeline,
                path,
                _in_session(program, hooks),
                live_variables=live,
                may_use_older=may_use_older,
            )
            with trace.graph_scope(program.graph):
                results = calls.evaluate(run, steps)
        workers = program.topology.workers
        if workers is None or workers.is_chief:
            with storage.optional(self.eval_dir(name), "The results of the evaluation"):
                reports.write_evaluation(self.eval_dir(name), results, path)
        return results

    def _train(self, input_fn, hooks, steps, max_steps, listeners) -> Any:
        """Trains, and gives the last loss."""
        path = self.latest_checkpoint()
        program, pipeline = self._build(ModeKeys.TRAIN, input_fn, path)
        stop = own_hooks.StopAtStep(steps, max_steps) if steps or max_steps else None
        wanted = [*hooks, *([stop] if stop else [])]
        all_hooks = training_hooks(program, self._config, self._log_period(), wanted, listeners)
        with self._workspaces.lease(program, checkpoint.identity(path)) as space:
            run = self._run(
                space,
                program,
                pipeline,
                path,
                all_hooks,
                model_dir=self.model_dir,
                may_use_older=True,
            )
            with trace.graph_scope(program.graph):
                return calls.train(
                    run, stop, self._iterations(program.topology), self._host_every(program)
                )

    def _run(
        self,
        space: Workspace,
        program: Program,
        pipeline: InputPipeline,
        path: str | None,
        hooks: tuple,
        **options: Any,
    ) -> calls.Run:
        """Says what a call runs, and how it goes on on another topology."""

        def on_topology(topology: Topology) -> calls.Run:
            return self._run(
                Workspace(topology),
                dataclasses.replace(program, topology=topology),
                dataclasses.replace(pipeline, topology=topology),
                path,
                hooks,
                **options,
            )

        compiled = space.compile(program)
        is_evaluation = program.mode == ModeKeys.EVAL
        partial = self._partial_step(compiled, pipeline, space) if is_evaluation else None
        return calls.Run(
            compiled, pipeline, path, hooks, partial, on_topology=on_topology, **options
        )

    def _build(
        self, mode: str, input_fn: Callable, path: str | None
    ) -> tuple[Program, InputPipeline]:
        """Calls `input_fn`, and `model_fn` unless an earlier call had such batches."""
        return self._build_on(self._topology(mode), mode, input_fn, path)

    def _embeddings_on(self, topology: Topology) -> Embeddings | None:
        """Gives the tables that stand beside the model on a topology."""
        return None

    def wants_cores(self, mode: str) -> bool:
        """Says whether the mode runs on TPU cores."""
        return False

    def build_for(
        self, topology: Topology, mode: str, input_fn: Callable
    ) -> tuple[Program, InputPipeline]:
        """Builds what a call of this mode would run there, and runs nothing; for `tpuest.check`."""
        return self._build_on(topology, mode, input_fn, self.latest_checkpoint())

    def _build_on(
        self, topology: Topology, mode: str, input_fn: Callable, path: str | None
    ) -> tuple[Program, InputPipeline]:
        batch_sizes = self._batch_sizes(mode, topology)
        with self._new_graph() as graph:
            source = TransplantSource(graph)
            call = InputCall(
                input_fn,
                mode,
                self._config,
                self._params,
                topology,
                batch_sizes,
                self._batch_axis(),
                self._embeddings_on(topology),
            )
            pipeline = build_pipeline(call, source)

            def build() -> Program:
                model_call = self._model_call(mode, topology, batch_sizes)
                return self._finish(build_program(model_call, pipeline, source), path)

            key = (mode, topology, pipeline.element_spec) if pipeline.is_reusable else None
            return self._workspaces.program(key, build), pipeline

    @contextlib.contextmanager
    def _new_graph(self) -> Iterator[tf.Graph]:
        """Opens a TF 1 graph with its seed and global step, as the original's."""
        graph = tf.Graph()
        with trace.graph_scope(graph):
            tf.compat.v1.set_random_seed(self._config.tf_random_seed)
            tf.compat.v1.train.create_global_step()
            yield graph

    def _partial_step(
        self, compiled: CompiledProgram, pipeline: InputPipeline, space: Workspace
    ) -> PartialStep | None:
        """Gives what evaluates the examples left over; needed where batches have one size only."""
        if not pipeline.topology.on_cores:
            return None

        def compile_for(core_batch_size: int) -> CompiledProgram:
            sizes = self._batch_sizes(ModeKeys.EVAL, pipeline.topology)
            sizes = dataclasses.replace(sizes, model_batch_size=core_batch_size)

            def build() -> Program:
                with self._new_graph() as graph:
                    smaller = pipeline.with_core_batch_size(core_batch_size)
                    call = self._model_call(ModeKeys.EVAL, pipeline.topology, sizes)
                    return build_program(call, smaller, TransplantSource(graph))

            reusable = (core_batch_size, pipeline.topology, pipeline.element_spec)
            small = space.compile(self._workspaces.program(reusable, build))
            small.ensure_variables()
            return small

        return PartialStep(compiled, pipeline.core_batches, compile_for)

    def _finish(self, program: Program, path: str | None) -> Program:
        """Adds to a new program's graph what its first session needs."""
        if self._warm_start and path is None:
            tf.compat.v1.logging.info("Warm-starting with WarmStartSettings: %s", self._warm_start)
            arguments.tell_of_useless_patterns(self._warm_start)
            tf.compat.v1.train.warm_start(*self._warm_start)
        if program.mode == ModeKeys.TRAIN:
            summaries = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.SUMMARIES)
            if all(summary.op.name != LOSS for summary in summaries):
                tf.compat.v1.summary.scalar(LOSS, program.loss)
            tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.LOSSES, program.loss)
            if program.restores_plainly:
                _add_saver(self._config)
        return program

    def _checkpoint_to_use(self, checkpoint_path: str | None, purpose: str) -> str | None:
        path = checkpoint_path or self.latest_checkpoint()
        if path is None:
            tf.compat.v1.logging.info(
                "Could not find trained model in model_dir: %s, running initialization to %s.",
                self.model_dir,
                purpose,
            )
        return path

    def _topology(self, mode: str) -> Topology:
        return find_topology(self._config, False, mode)

    def _batch_sizes(self, mode: str, topology: Topology) -> BatchSizes:
        return find_batch_sizes(mode, TPUConfig(), topology, None)

    def _batch_axis(self) -> Any:
        return None

    def _model_call(self, mode: str, topology: Topology, batch_sizes: BatchSizes) -> ModelCall:
        return ModelCall(
            self._model_fn,
            mode,
            self._config,
            self._params,
            topology,
            batch_sizes,
            passes_batch_size=False,
        )

    def _iterations(self, topology: Topology) -> own_hooks.IterationsPerLoop | None:
        return None

    def _host_every(self, program: Program) -> int:
        return 1

    def _log_period(self) -> own_hooks.LogPeriod:
        return own_hooks.LogPeriod(self._config.log_step_count_steps, None, None)


def training_hooks(
    program: Program,
    config: Any,
    log_period: own_hooks.LogPeriod,
    hooks: Sequence,
    saving_listeners: Sequence,
) -> tuple:
    """Lists the hooks of a training session in the original's order: savers first, then the user's.

    Differs from TPUEstimator: the loss is checked first, so that a model that diverged is never saved.
    """
    workers = program.topology.workers
    is_chief = workers is None or workers.is_chief
    config = config_for_writing(config, workers)
    chief_hooks = program.chief_hooks if is_chief else ()
    spec_hooks = [*program.hooks, *chief_hooks]
    savers = [
        h for h in (*hooks, *spec_hooks) if isinstance(h, tf.compat.v1.train.CheckpointSaverHook)
    ]
    before = [own_hooks.StopOnNan(program.loss)]
    if is_chief and not savers and (config.save_checkpoints_secs or config.save_checkpoints_steps):
        savers = [own_hooks.checkpoint_saver(config, program.scaffold)]
        before.extend(savers)
    if is_chief and saving_listeners:
        own_hooks.add_listeners(savers, saving_listeners)
    before.extend(chief_hooks)
    before.extend(own_hooks.progress_hooks(program, config, log_period))
    return (
        *before,
        *hooks,
        *program.hooks,
        own_hooks.SummaryWriters(),
    )


def _in_session(program: Program, hooks: Sequence) -> tuple:
    return (*hooks, *program.hooks, own_hooks.SummaryWriters())


def _add_saver(config: Any) -> None:
    saver = tf.compat.v1.train.Saver(
        sharded=True,
        max_to_keep=config.keep_checkpoint_max,
        keep_checkpoint_every_n_hours=config.keep_checkpoint_every_n_hours,
        defer_build=True,
        save_relative_paths=True,
    )
    tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.SAVERS, saver)
