"""Measures what `tpuest script.py` costs over `python script.py` before the program's first line.

    python -m benchmarks.start_up --rounds 20

The program imports a package of modules, as real ones do: they are read to tell which TensorFlow it was written for.
Contenders take turns; the best and the median of each are printed, and only differences within one run mean anything.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_MODULES = 40
_LINES = 200


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        script = _write_program(pathlib.Path(directory))
        commands = {"python": [], "tpuest": ["-m", "tpuest"]}
        seconds = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                seconds[name].append(_seconds_to_first_line([*command, script]))
    _print_table(seconds)


def _write_program(directory):
    """Writes a program whose modules tell nothing of TensorFlow, so that all are read."""
    package = directory / "package"
    package.mkdir()
    imports = "".join(f"    from package import module_{i}\n" for i in range(_MODULES))
    (package / "__init__.py").write_text("")
    body = "".join(
        f"def f_{i}(x):\n    return [x.y(z, w={i}) for z in x]\n" for i in range(_LINES // 2)
    )
    for i in range(_MODULES):
        (package / f"module_{i}.py").write_text(body)
    script = directory / "main.py"
    script.write_text(f"import time\nprint(time.time())\n\ndef main():\n{imports}")
    return str(script)


def _seconds_to_first_line(arguments):
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    started = time.time()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout) - started


def _print_table(seconds):
    plain = seconds["python"]
    for name, values in seconds.items():
        best, median = min(values), statistics.median(values)
        over = f"over python: {best - min(plain):.3f}, {median - statistics.median(plain):.3f}"
        print(f"{name:8}best {best:.3f} s, median {median:.3f} s; {over}")


if __name__ == "__main__":
    main()
