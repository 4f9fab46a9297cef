"""Every name of tests/old_names.txt means something to a program that the command runs."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

FILE = os.path.join(os.path.dirname(__file__), "old_names.txt")
HAS_SLIM = importlib.util.find_spec("tf_slim") is not None
with open(FILE) as lines:
    NAMES = [line.rstrip("\n").split(" ", 1) for line in lines if not line.startswith("#")]

# A TensorFlow 1 program, as the command tells by tf.Session.
PROGRAM = """
import importlib, json, sys
import tensorflow as tf
import tensorflow.compat.v2 as tf2

tf.Session


def member(path):
    root, *names = path.split(".")
    value = {"tf": tf, "tf2": tf2}.get(root) or importlib.import_module(root)
    for i, name in enumerate(names):
        if hasattr(value, name):
            value = getattr(value, name)
        else:
            value = importlib.import_module(f"{value.__name__}.{name}")
    return value


def use(name):
    value = member(name)
    return value() if callable(value) else value


def outcome(kind, name):
    try:
        if "import " in name:
            exec(name, {"__name__": "__main__"})
        elif kind == "refused":
            use(name)
        else:
            value = member(name)
            if type(value).__name__ == "_NotCarried":
                value()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


names = json.load(sys.stdin)
print(json.dumps({name: outcome(kind, name) for kind, name in names}))
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    script = tmp_path_factory.mktemp("old_names") / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "tpuest", str(script)],
        input=json.dumps(NAMES),
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def _names(*kinds):
    return [name for kind, name in NAMES if kind in kinds]


@pytest.mark.parametrize("name", _names("carried"))
def test_old_name_resolves(outcomes, name):
    assert outcomes[name] == ""


@pytest.mark.parametrize("name", _names("slim"))
def test_old_name_resolves_with_slim_or_asks_for_it(outcomes, name):
    if HAS_SLIM:
        assert outcomes[name] == ""
    else:
        assert outcomes[name] == "" or "pip install tf-slim" in outcomes[name]


@pytest.mark.parametrize("name", _names("refused"))
def test_old_name_that_is_not_carried_says_what_to_use(outcomes, name):
    kind, _, sentence = outcomes[name].partition(": ")
    assert kind == "UnsupportedError"
    assert "is not supported by tpuest. " in sentence
