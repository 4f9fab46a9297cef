"""Which TensorFlow a program was written for is read from its source."""

import zipfile

import pytest

from tpuest import launch
from tpuest.compat import dialect
from tpuest.compat.dialect import Dialect

SOURCES = [
    ("import tensorflow as tf\ntf.Session()", Dialect.TF1),
    ("import tensorflow as tf\nflags = tf.flags\n", Dialect.TF1),
    ("import tensorflow as tf\ntf.train.AdamOptimizer(0.1)", Dialect.TF1),
    ("import tensorflow as tf\ntf.contrib.tpu.TPUConfig()", Dialect.TF1),
    ("from tensorflow.contrib import tpu", Dialect.TF1),
    ("import tensorflow.contrib.slim as slim", Dialect.TF1),
    ("from tensorflow import gfile", Dialect.TF1),
    ("import tensorflow.compat.v1 as tf\ntf.Session()", Dialect.COMPAT_V1),
    ("from tensorflow.compat import v1 as tf", Dialect.COMPAT_V1),
    ("import tensorflow as tf\ntf.compat.v1.placeholder(tf.float32)", Dialect.COMPAT_V1),
    ("import tensorflow as tf\ntf.compat.v1.disable_v2_behavior()", Dialect.COMPAT_V1),
    ("import tensorflow as tf\nwith tf.GradientTape(): pass", Dialect.TF2),
    ("import tensorflow as tf\n@tf.function\ndef f(): pass", Dialect.TF2),
    ("import tensorflow as tf\ntf.optimizers.Adam()", Dialect.TF2),
    ("import tensorflow.compat.v1 as tf\ntf.enable_v2_behavior()", Dialect.TF2),
    ("import tensorflow as tf\ntf.constant(1)", Dialect.UNKNOWN),
    ("import numpy as np\nnp.zeros(3)", Dialect.UNKNOWN),
    ("class tf:\n    Session = 1\ntf.Session", Dialect.UNKNOWN),
    ("print 'Python 2'", Dialect.UNKNOWN),
]


@pytest.mark.parametrize(("source", "expected"), SOURCES)
def test_source_tells_its_dialect(source, expected):
    assert dialect.of_source(source) is expected


def test_tf1_behavior_goes_with_tf1_names_under_either_root():
    assert [d.has_tf1_behavior for d in Dialect] == [True, True, False, False]


def test_program_is_judged_by_the_modules_it_imports(tmp_path):
    package = tmp_path / "models"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "net.py").write_text("import tensorflow as tf\nfrom . import old\n")
    (package / "old.py").write_text("import tensorflow as tf\ntf.get_variable('w', [])\n")
    script = tmp_path / "train.py"
    script.write_text("from models import net\nnet.main()\n")
    assert dialect.of_program(str(script), [str(tmp_path)]) is Dialect.TF1


def test_program_that_imports_itself_ends(tmp_path):
    script = tmp_path / "loop.py"
    script.write_text("import loop\n")
    assert dialect.of_program(str(script), [str(tmp_path)]) is Dialect.UNKNOWN


def test_file_of_a_module_is_found_without_running_its_package(tmp_path):
    package = tmp_path / "explosive"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('ran')\n")
    (package / "main.py").write_text("")
    found = dialect.find_module_file("explosive.main", [str(tmp_path)])
    assert found == str(package / "main.py")


def test_program_is_judged_by_packages_of_the_directory_where_it_starts(tmp_path, monkeypatch):
    scripts, package = tmp_path / "scripts", tmp_path / "package"
    scripts.mkdir()
    package.mkdir()
    (package / "old.py").write_text("import tensorflow as tf\ntf.placeholder(tf.int32)\n")
    script = scripts / "main.py"
    script.write_text("import sys\nsys.path.insert(0, '.')\nfrom package import old\n")
    monkeypatch.chdir(tmp_path)
    assert launch.judge(str(script), [str(scripts)]) is Dialect.TF1


def test_program_in_an_archive_is_judged_by_its_source(tmp_path):
    archive = tmp_path / "program.pyz"
    with zipfile.ZipFile(archive, "w") as contents:
        contents.writestr("__main__.py", "import model\n")
        contents.writestr("model.py", "import tensorflow as tf\ntf.placeholder(tf.int32)\n")
    assert dialect.of_program(str(archive / "__main__.py"), [str(archive)]) is Dialect.TF1
