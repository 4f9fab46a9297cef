"""Gives a session's variables their first values, and keeps track of which checkpoint they hold.

Takes a session whose variables may be empty; gives one that is ready: from a checkpoint by TF 1 name, or from the
program's own initialisers, exactly as `tf.compat.v1.train.SessionManager` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tpuest.variables import ReplicaVariables

# A flipped bit, a file that ends early. Not NotFoundError, which also means a model with other variables.
_DAMAGED = (tf.errors.DataLossError, tf.errors.OutOfRangeError)
_READY = "tpuest_ready"
# As TensorFlow calls the directory of the parts of an unfinished checkpoint: `storage.release` deletes it.
_UNFINISHED = "_temp"


def finalize(scaffold: tf.compat.v1.train.Scaffold, graph: tf.Graph) -> None:
    """Completes a scaffold, without the operations by which TensorFlow asks whether variables have values.

    The variables know that; compiling the question takes longer than giving a small model its first values.
    """
    keys = tf.compat.v1.GraphKeys
    asked = graph.get_collection_ref(keys.READY_OP)
    resources = [*graph.get_collection(keys.RESOURCES), *graph.get_collection(keys.LOCAL_RESOURCES)]
    if scaffold.ready_op is None and not asked and not resources:
        nothing = tf.constant([], tf.string, name=_READY)
        asked.append(nothing)
        # Nobody asks before the local initialisers run: `initialize` runs them when the variables have values.
        asked_before = graph.get_collection_ref(keys.READY_FOR_LOCAL_INIT_OP)
        if scaffold.ready_for_local_init_op is None and not asked_before:
            asked_before.append(nothing)
    scaffold.finalize()


def initialize(
    session: Any,
    program: Any,
    variables: ReplicaVariables,
    checkpoint_path: str | None,
    live_variables: ReplicaVariables | None = None,
    older_checkpoints: Sequence[str] = (),
) -> None:
    """Makes the session ready.

    Args:
      session: of the program.
      program: a `Program` whose scaffold is finalized.
      variables: the session's.
      checkpoint_path: what to restore; `None` runs the initialisers. Nothing is read if the variables hold the
        checkpoint's values already.
      live_variables: what to copy into the variables of the same names, without a checkpoint.
      older_checkpoints: what to restore instead if it is damaged, the newest last.

    Raises:
      DataLossError: the checkpoint is damaged, and all the older ones too.
      RuntimeError: a variable is left without a value.
    """
    scaffold = program.scaffold
    if checkpoint_path is None:
        _run_initializers(session, scaffold)
    elif not program.restores_plainly or variables.checkpoint != identity(checkpoint_path):
        variables.checkpoint = None
        checkpoint_path = _restore(session, scaffold.saver, [*older_checkpoints, checkpoint_path])
        if program.restores_plainly:
            _check_shapes(program.graph, checkpoint_path)
    if program.restores_plainly:
        variables.checkpoint = identity(checkpoint_path)
    if live_variables is not None:
        variables.copy_from(live_variables)
    session.run(scaffold.local_init_op)
    _check_ready(session, scaffold)


def _restore(session: Any, saver: tf.compat.v1.train.Saver, paths: list[str]) -> str:
    """Restores the last of the checkpoints that isn't damaged, and gives its path."""
    *older, path = paths
    try:
        saver.restore(session, path)
    except (*_DAMAGED, tf.errors.NotFoundError) as error:
        if not older or (isinstance(error, tf.errors.NotFoundError) and _is_whole(path)):
            raise
        _warn_of_damage(path, error)
        return _restore(session, saver, older)
    return path


def _check_shapes(graph: tf.Graph, path: str) -> None:
    """Refuses values of other shapes than the model's, which a resource variable takes without a word.

    Raises:
      InvalidArgumentError: a variable has another shape in the checkpoint.
    """
    saved = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    variables = graph.get_collection(tf.compat.v1.GraphKeys.GLOBAL_VARIABLES)
    different = [
        f"{variable.op.name}: {variable.shape} in the model, {tf.TensorShape(saved[variable.op.name])} saved"
        for variable in variables
        if not variable.shape.is_compatible_with(saved.get(variable.op.name, variable.shape))
    ]
    if different:
        raise tf.errors.InvalidArgumentError(
            None,
            None,
            "Restoring from checkpoint failed. Assign requires shapes of both tensors to match. "
            f"{'; '.join(different)} in {path}. Build the model that was trained there, or give this one a "
            "model_dir of its own.",
        )


def _is_whole(path: str) -> bool:
    """Says whether all files of a checkpoint are there."""
    shards = tf.io.gfile.glob(path + ".data-*-of-*")
    return tf.io.gfile.exists(path + ".index") and any(
        len(shards) == int(shard.rpartition("-of-")[2]) for shard in shards
    )


def _warn_of_damage(path: str, error: Exception) -> None:
    tf.compat.v1.logging.warning(
        "Checkpoint %s is damaged, taking the one before. (%s)", path, type(error).__name__
    )


def save(path: str, held: tuple[str, int] | None, write: Callable[[str], Any]) -> None:
    """Writes a checkpoint; a whole one that is there stays so until the new one takes its place.

    TensorFlow writes the index over the old one, which is lost if there is no room for all of it.

    Args:
      path: of the checkpoint, without a suffix.
      held: `identity` of the checkpoint whose values are to be written, `None` if they are others.
      write: writes a checkpoint to the path that it is given.
    """
    if not _is_whole(path):
        write(path)
    elif held != identity(path):
        directory, name = path + _UNFINISHED, os.path.basename(path)
        if tf.io.gfile.exists(directory):
            tf.io.gfile.rmtree(directory)  # Of a process that was killed while it wrote.
        tf.io.gfile.makedirs(directory)
        write(os.path.join(directory, name))
        for made in tf.io.gfile.listdir(directory):
            place = os.path.join(os.path.dirname(path), made)
            tf.io.gfile.rename(os.path.join(directory, made), place, overwrite=True)
        tf.io.gfile.rmtree(directory)


def older_than(checkpoint_path: str | None) -> list[str]:
    """Lists the checkpoints of a directory that were written before one of it, the newest last."""
    state = checkpoint_path and tf.train.get_checkpoint_state(os.path.dirname(checkpoint_path))
    paths = list(state.all_model_checkpoint_paths) if state else []
    return paths[: paths.index(checkpoint_path)] if checkpoint_path in paths else []


def identity(checkpoint_path: str | None) -> tuple[str, int] | None:
    """Tells a checkpoint from another one written to the same path."""
    if checkpoint_path is None:
        return None
    index = checkpoint_path + ".index"
    if os.path.exists(index):
        return checkpoint_path, os.stat(index).st_mtime_ns  # tf.io.gfile knows whole seconds.
    if not tf.io.gfile.exists(index):
        return checkpoint_path, 0
    return checkpoint_path, tf.io.gfile.stat(index).mtime_nsec


def _run_initializers(session, scaffold):
    if scaffold.init_op is not None:
        session.run(scaffold.init_op, feed_dict=scaffold.init_feed_dict)
    if scaffold.init_fn:
        scaffold.init_fn(session)


def _check_ready(session, scaffold):
    if scaffold.ready_op is None:
        return
    if scaffold.ready_op.name == f"{_READY}:0":
        missing = session.uninitialized_variables()
    else:
        answer = session.run(scaffold.ready_op)
        missing = [] if answer is None else [name.decode() for name in answer]
    if missing:
        names = ", ".join(sorted(missing))
        raise RuntimeError(
            "Init operations did not make model ready.  "
            f"Init op: {getattr(scaffold.init_op, 'name', None)}, init fn: {scaffold.init_fn}, "
            f"local_init_op: {getattr(scaffold.local_init_op, 'name', None)}, "
            f"error: Variables not initialized: {names}"
        )


def latest_checkpoint(model_dir: str) -> str | None:
    """Finds the newest checkpoint of a directory.

    Differs from TPUEstimator: if the one that the directory's list calls the newest is missing, or the list can't be
    read, the newest that is there is taken, with a warning. The original began from nothing then.
    """
    newest = tf.train.latest_checkpoint(model_dir)
    if newest is not None or not tf.io.gfile.exists(os.path.join(model_dir, "checkpoint")):
        return newest
    there = [path for path in _listed_or_found(model_dir) if _is_whole(path)]
    if not there:
        return None
    tf.compat.v1.logging.warning(
        "The newest checkpoint of %s is missing, or its file 'checkpoint' is damaged: taking %s.",
        model_dir,
        there[-1],
    )
    return there[-1]


def _listed_or_found(model_dir: str) -> list[str]:
    """Lists paths of checkpoints, the newest last: by the directory's own list, or by the steps in their names."""
    state = tf.train.get_checkpoint_state(model_dir)
    if state is not None:
        return list(state.all_model_checkpoint_paths)
    found = tf.io.gfile.glob(os.path.join(model_dir, "model.ckpt-*.index"))
    paths = [path.removesuffix(".index") for path in found]
    steps = {path: path.rpartition("-")[2] for path in paths}
    return sorted((p for p in paths if steps[p].isdigit()), key=lambda path: int(steps[path]))


def recover_history(saver: tf.compat.v1.train.Saver, model_dir: str) -> None:
    """Tells the saver which checkpoints are there already, so that it deletes the oldest in time."""
    state = tf.train.get_checkpoint_state(model_dir)
    if state is not None:
        saver.recover_last_checkpoints(state.all_model_checkpoint_paths)


def global_step_of(model_dir: str) -> int:
    """Reads the global step of the newest checkpoint that isn't damaged, 0 if there is none."""
    newest = latest_checkpoint(model_dir)
    for path in reversed([*older_than(newest), newest] if newest else []):
        try:
            reader = tf.train.load_checkpoint(path)
            return int(reader.get_tensor(tf.compat.v1.GraphKeys.GLOBAL_STEP))
        except tf.errors.OpError as error:
            # The reader says UNKNOWN of a damaged index. What is missing or forbidden is the user's to hear of.
            if not isinstance(error, _DAMAGED) and error.error_code != tf.errors.UNKNOWN:
                raise
            _warn_of_damage(path, error)
    return 0
