"""The `tpuest` command: where one typed `python`, one types `tpuest`.

Takes the command line; gives a `launch.Command`, or the doctor's report.

    tpuest [--simulate-tpu N] [--tf1|--tf2] SCRIPT [ARGS...]
    tpuest --check[=TOPOLOGY] [--exact] SCRIPT [ARGS...]
    tpuest --doctor
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tpuest import chips, launch
from tpuest.compat.dialect import Dialect
from tpuest.planned_tpu import DEFAULT_TPU, parse_tpu

_DESCRIPTION = "Runs a TPUEstimator program, unchanged, on TensorFlow 2.16 to 2.21."
_EPILOG = (
    "Options stand before the script. Whether a program was written for TensorFlow 1 is read from its "
    "source; --tf1 and --tf2 settle it where that fails."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command.

    Args:
      arguments: of the command line, without the command; `None` takes the process's.

    Raises:
      SystemExit: with the program's or the doctor's exit code.
    """
    options = _parse(sys.argv[1:] if arguments is None else list(arguments))
    if options.simulate_tpu is not None:
        os.environ[chips.SIMULATION_VARIABLE] = str(options.simulate_tpu)
    if options.doctor:
        from tpuest import doctor

        raise SystemExit(doctor.main())
    command = launch.Command(
        options.program[0],
        options.is_module,
        tuple(options.program[1:]),
        options.dialect,
    )
    if options.check:
        from tpuest import check_command

        check_command.run(command, options.check, options.exact)
    launch.run(command)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tpuest",
        usage="tpuest [--simulate-tpu N] [--tf1|--tf2] (SCRIPT | -m MODULE) [ARGS...]\n"
        "       tpuest --check[=TOPOLOGY] [--exact] (SCRIPT | -m MODULE) [ARGS...]\n"
        "       tpuest --doctor",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--simulate-tpu",
        type=_count,
        metavar="N",
        help="run use_tpu=True on N simulated cores of this machine's CPU",
    )
    parser.add_argument(
        "--check",
        nargs="?",
        type=_tpu_name,
        const=DEFAULT_TPU,
        metavar="TOPOLOGY",
        help="tell whether the program's first step compiles for a TPU and fits (v5e, v5e:2x4, v4, v6e, ...)",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="with --check: let the TPU's compiler take its time, as on a TPU",
    )
    parser.add_argument(
        "--doctor", action="store_true", help="tell what this environment lacks, and the repair"
    )
    version = parser.add_mutually_exclusive_group()
    version.add_argument(
        "--tf1",
        dest="dialect",
        action="store_const",
        const=Dialect.TF1,
        help="the program was written for TensorFlow 1",
    )
    version.add_argument(
        "--tf2",
        dest="dialect",
        action="store_const",
        const=Dialect.TF2,
        help="the program was written for TensorFlow 2",
    )
    own, program, is_module = _split(arguments)
    options = parser.parse_args(own)
    if options.exact and not options.check:
        parser.error("--exact goes with --check")
    if not program and not options.doctor:
        parser.error("a script or -m MODULE is needed")
    options.program, options.is_module = program, is_module
    return options


def _split(arguments: list[str]) -> tuple[list[str], list[str], bool]:
    """Parts the command's own options from the program and its arguments, as python does."""
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        if argument == "-m":
            return arguments[:index], arguments[index + 1 :], True
        if not argument.startswith("-"):
            return arguments[:index], arguments[index:], False
        index += 2 if argument == "--simulate-tpu" else 1
    return arguments, [], False


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number of cores, got {text!r}")
    return int(text)


def _tpu_name(text: str) -> str:
    try:
        return parse_tpu(text).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
