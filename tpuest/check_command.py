"""`tpuest --check`: runs a program up to its first train, evaluate or predict call, and checks that one's step.

Takes a `launch.Command` and the name of a TPU; gives a report on standard output and an exit code: 0 only if the step
compiles and fits.

    the program runs as ever
    estimator.train(input_fn)  ->  report; the program ends there, by SystemExit
"""

from __future__ import annotations

import dataclasses
import functools
import sys

from tpuest import launch

_OK, _NOT_OK, _MISUSED = 0, 1, 2


@dataclasses.dataclass
class _Session:
    """One run of the command.

    Attributes:
      topology: name of the TPU.
      is_exact: whether its compiler takes its time.
      exit_code: the check's; `None` before there was one.
    """

    topology: str
    is_exact: bool
    exit_code: int | None = None

    def intercept(self) -> None:
        """Makes the estimators' calls end in a check; for this process, which ends with it."""
        from tpuest.estimator import Estimator
        from tpuest.spec import ModeKeys

        for name, mode in (
            ("train", ModeKeys.TRAIN),
            ("evaluate", ModeKeys.EVAL),
            ("predict", ModeKeys.PREDICT),
        ):
            setattr(Estimator, name, self._checking(getattr(Estimator, name), mode))

    def _checking(self, method, mode):
        @functools.wraps(method)
        def check_instead(estimator, input_fn, *unused, **also_unused):
            if self.exit_code is None:
                self.exit_code = self._check(estimator, input_fn, mode)
            # Again where a program caught the first one.
            raise SystemExit(self.exit_code)

        return check_instead

    def _check(self, estimator, input_fn, mode) -> int:
        from tpuest.checking import check
        from tpuest.errors import UnsupportedError

        try:
            report = check(estimator, input_fn, mode, self.topology, self.is_exact)
        except UnsupportedError as error:
            print(f"tpuest --check: nothing was checked: {error}", file=sys.stderr)
            return _MISUSED
        print(report, flush=True)
        return _OK if report.ok else _NOT_OK


def run(command: launch.Command, topology: str, is_exact: bool) -> None:
    """Runs the program until it has been checked.

    Args:
      command: the program.
      topology: name of the TPU to check for.
      is_exact: whether its compiler takes its time, as on a TPU.

    Raises:
      SystemExit: always, unless the program itself fails: 0 if the step compiles and fits, 1 if not, 2 if nothing was
        checked: the program made no call, or uses what a check doesn't know.
    """
    session = _Session(topology, is_exact)
    try:
        launch.run(command, session.intercept)
    except SystemExit as end:
        if session.exit_code is None and end.code not in (None, _OK):
            raise
    if session.exit_code is None:
        print(
            "tpuest --check: the program ended without a call of train, evaluate or predict: nothing was checked.",
            file=sys.stderr,
        )
        raise SystemExit(_MISUSED)
    raise SystemExit(session.exit_code)
