"""The `tpuest` command's line."""

import contextlib
import io

from tpuest import cli


def command(*arguments):
    """Gives the `tpuest` command arguments that it refuses before it changes the process; stderr is the message."""

    def program(room):
        errors = io.StringIO()
        try:
            with contextlib.redirect_stderr(errors):
                cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            raise SystemExit(f"{end.code}: {errors.getvalue()}") from None

    return program


CASES = {
    "no script": (command(), SystemExit, "a script or -m MODULE is needed"),
    "a script that isn't there": (
        command("/none/script.py"),
        SystemExit,
        "can't open file '/none/script.py'",
    ),
    "no simulated cores": (
        command("--simulate-tpu", "0", "script.py"),
        SystemExit,
        "--simulate-tpu: must be a positive number of cores, got '0'",
    ),
    "simulated cores in words": (
        command("--simulate-tpu", "two", "script.py"),
        SystemExit,
        "--simulate-tpu: must be a positive number of cores, got 'two'",
    ),
    "simulated cores left out": (
        command("--simulate-tpu"),
        SystemExit,
        "--simulate-tpu: expected one argument",
    ),
    "an unknown TPU": (
        command("--check=v9", "script.py"),
        SystemExit,
        "There is no TPU 'v9' to compile for. Give a kind",
    ),
    "an unknown topology": (
        command("--check=v5e:3x5", "script.py"),
        SystemExit,
        "There is no TPU 'v5e:3x5' to compile for. Give a kind",
    ),
    "exactness of no check": (
        command("--exact", "script.py"),
        SystemExit,
        "--exact goes with --check",
    ),
    "both dialects": (
        command("--tf1", "--tf2", "script.py"),
        SystemExit,
        "--tf2: not allowed with argument --tf1",
    ),
    "an unknown option": (
        command("--nonsense", "script.py"),
        SystemExit,
        "unrecognized arguments: --nonsense",
    ),
}
