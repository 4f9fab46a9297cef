"""Hooks and listeners."""

import tensorflow.compat.v1 as tf

from bad_inputs.room import STEPS_AFTER, Raising, UsersError, evaluating, fail, predicting, training


class RaisingListener(tf.train.CheckpointSaverListener):
    def __init__(self, callback):
        setattr(self, callback, fail)


class Fetching(tf.train.SessionRunHook):
    """Asks for a tensor at every step."""

    def __init__(self, name):
        self._name = name

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._name)


CASES = {
    **{
        f"a hook that raises in {callback}": (
            training(call={"max_steps": STEPS_AFTER, "hooks": [Raising(callback)]}),
            UsersError,
            "mine",
        )
        for callback in ("begin", "after_create_session", "before_run", "after_run", "end")
    },
    **{
        f"a listener that raises in {callback}": (
            training(
                call={"max_steps": STEPS_AFTER, "saving_listeners": [RaisingListener(callback)]}
            ),
            UsersError,
            "mine",
        )
        for callback in ("begin", "before_save", "after_save", "end")
    },
    "a hook that raises in evaluation": (
        evaluating(call={"hooks": [Raising("after_run")]}),
        UsersError,
        "mine",
    ),
    "a hook that raises in prediction": (
        predicting(call={"hooks": [Raising("after_run")]}),
        UsersError,
        "mine",
    ),
    "a hook that asks for an unknown tensor": (
        training(call={"steps": 1, "hooks": [Fetching("nonsense:0")]}),
        ValueError,
        "'nonsense:0' refers to a Tensor which does not exist",
    ),
    "a hook that asks for a number": (
        training(call={"steps": 1, "hooks": [Fetching(7)]}),
        TypeError,
        "`fetch` = 7 has invalid type",
    ),
}
