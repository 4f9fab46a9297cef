"""A TensorFlow 1 program that asks Keras 3 for a name of Keras 2 is told of tf-keras."""

import subprocess
import sys

PROGRAM = """
import tensorflow as tf

tf.Session
backend = tf.keras.backend if "tf_keras" not in tf.keras.__name__ else None
if backend is None:
    tf.keras.backend.set_learning_phase(True)
    print("Keras 2")
else:
    assert not hasattr(backend, "set_learning_phase")
    assert backend.floatx() == "float32"
    backend.set_learning_phase(True)
"""


def test_name_of_keras_2_is_there_or_names_tf_keras(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "tpuest", str(script)],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )
    if done.returncode == 0:
        assert done.stdout.endswith("Keras 2\n")
    else:
        assert "tf.keras.backend.set_learning_phase" in done.stderr.splitlines()[-1]
        assert "pip install --no-deps tf-keras" in done.stderr.splitlines()[-1]
