"""Runs every contender in turn, several rounds, and prints tpuest's ratio to each: `make bench`.

    python -m benchmarks.run --original PYTHON --rounds 3

PYTHON has TensorFlow 2.15.1 and tensorflow-estimator 2.15.0. Machines are noisy: contenders take turns, the best round
of each counts, and only ratios within one run mean anything.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

from benchmarks import workloads

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", help="Python of the original's environment")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for key, workload in workloads.WORKLOADS.items():
        figures = _best_of(options.rounds, _commands(key, options.original))
        _print_table(workload.name, figures)


def _commands(workload, original):
    """Gives each contender's command."""
    commands = {"tpuest": [sys.executable, "-m", "benchmarks.estimators", "tpuest", workload]}
    if original:
        commands["original"] = [original, "-m", "benchmarks.estimators", "original", workload]
    for contender in ("handwritten", "keras"):
        commands[contender] = [sys.executable, "-m", "benchmarks.loops", contender, workload]
    return commands


def _best_of(rounds, commands):
    """Runs the commands in turn and keeps each figure's best round."""
    best = {name: {} for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            for figure, value in _run(command).items():
                choose = max if figure.endswith("/s") else min
                best[name][figure] = choose(value, best[name].get(figure, value))
    return best


def _run(command):
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TPUEST_SIMULATE_TPU", None)
    done = subprocess.run(
        command, cwd=_ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def _print_table(title, figures):
    """Prints each figure of tpuest and its ratio to the others': above 1 is better."""
    others = [name for name in figures if name != "tpuest"]
    print(f"\n{title:34}{'tpuest':>10}" + "".join(f"{'x ' + name:>16}" for name in others))
    for figure, own in figures["tpuest"].items():
        cells = []
        for name in others:
            other = figures[name].get(figure)
            ratio = None if other is None else own / other if figure.endswith("/s") else other / own
            cells.append(f"{'' if ratio is None else format(ratio, '.2f'):>16}")
        print(f"{figure:34}{own:10.3g}{''.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
