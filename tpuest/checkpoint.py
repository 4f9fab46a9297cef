"""Gives a session's variables their first values, and keeps track of which checkpoint they hold.

Takes a session whose variables may be empty; gives one that is ready: from a checkpoint by TF 1 name, or from the
program's own initialisers, exactly as `tf.compat.v1.train.SessionManager` does.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tpuest.variables import ReplicaVariables


def initialize(
    session: Any,
    program: Any,
    variables: ReplicaVariables,
    checkpoint_path: str | None,
    live_variables: ReplicaVariables | None = None,
) -> None:
    """Makes the session ready.

    Args:
      session: of the program.
      program: a `Program` whose scaffold is finalized.
      variables: the session's.
      checkpoint_path: what to restore; `None` runs the initialisers. Nothing is read if the variables hold the
        checkpoint's values already.
      live_variables: what to copy into the variables of the same names, without a checkpoint.

    Raises:
      RuntimeError: a variable is left without a value.
    """
    scaffold = program.scaffold
    wanted = identity(checkpoint_path)
    if checkpoint_path is None:
        _run_initializers(session, scaffold)
    elif not program.restores_plainly or variables.checkpoint != wanted:
        scaffold.saver.restore(session, checkpoint_path)
    if live_variables is not None:
        variables.copy_from(live_variables)
    session.run(scaffold.local_init_op)
    _check_ready(session, scaffold)
    if program.restores_plainly:
        variables.checkpoint = wanted


def identity(checkpoint_path: str | None) -> tuple[str, int] | None:
    """Tells a checkpoint from another one written to the same path."""
    if checkpoint_path is None:
        return None
    index = checkpoint_path + ".index"
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
    missing = session.run(scaffold.ready_op)
    if len(missing):
        names = ", ".join(sorted(name.decode() for name in missing))
        raise RuntimeError(
            "Init operations did not make model ready.  "
            f"Init op: {getattr(scaffold.init_op, 'name', None)}, init fn: {scaffold.init_fn}, "
            f"local_init_op: {getattr(scaffold.local_init_op, 'name', None)}, "
            f"error: Variables not initialized: {names}"
        )


def latest_checkpoint(model_dir: str) -> str | None:
    """Finds the newest checkpoint of a directory."""
    return tf.train.latest_checkpoint(model_dir)


def recover_history(saver: tf.compat.v1.train.Saver, model_dir: str) -> None:
    """Tells the saver which checkpoints are there already, so that it deletes the oldest in time."""
    state = tf.train.get_checkpoint_state(model_dir)
    if state is not None:
        saver.recover_last_checkpoints(state.all_model_checkpoint_paths)


def global_step_of(model_dir: str) -> int:
    """Reads the global step of the newest checkpoint, 0 if there is none."""
    path = latest_checkpoint(model_dir)
    if path is None:
        return 0
    reader = tf.train.load_checkpoint(path)
    return int(reader.get_tensor(tf.compat.v1.GraphKeys.GLOBAL_STEP))
