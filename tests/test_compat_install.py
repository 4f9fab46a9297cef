"""Old names resolve while they are installed, and leave nothing behind."""

import importlib
import importlib.util
import sys
import types

import pytest
import tensorflow as tf

import tpuest
from tpuest.compat import api, installation, table
from tpuest.compat.modules import Advice, UnsupportedAttributeError

HAS_SLIM = importlib.util.find_spec("tf_slim") is not None
ROWS = [
    (path, name)
    for path, rows in table.ROWS.items()
    for name, target in rows.items()
    if HAS_SLIM or not target.startswith("tf_slim")
]
IMPORTS = """
from tensorflow.compat.v1 import estimator
from tensorflow.contrib import layers
from tensorflow.contrib import tpu
from tensorflow.contrib import cluster_resolver
from tensorflow.contrib import summary
from tensorflow.contrib.tpu.python.tpu import tpu_config
from tensorflow.contrib import training
from tensorflow.contrib.tpu.python.tpu import tpu_estimator
from tensorflow.contrib import distribute
from tensorflow.contrib import framework
from tensorflow.contrib import image
from tensorflow.contrib import metrics
from tensorflow.contrib import quantize
from tensorflow.contrib import rnn
from tensorflow.contrib import slim
from tensorflow.contrib.tpu.python.ops import tpu_ops
from tensorflow.contrib.tpu.python.tpu import tpu_optimizer
from tensorflow.python.estimator import estimator
from tensorflow import estimator
from tensorflow.contrib import cloud
from tensorflow.contrib import data
from tensorflow.contrib import estimator
from tensorflow.contrib import keras
from tensorflow.contrib import learn
from tensorflow.contrib import mixed_precision
from tensorflow.contrib import nn
from tensorflow.contrib import opt
from tensorflow.contrib import stateless
from tensorflow.contrib import tfprof
from tensorflow.contrib import util
from tensorflow.contrib.cloud import BigtableClient
from tensorflow.contrib.eager.python import tfe
from tensorflow.contrib.opt import LARSOptimizer
from tensorflow.contrib.tpu.proto import compilation_result_pb2
from tensorflow.contrib.tpu.python.tpu import async_checkpoint
from tensorflow.contrib.tpu.python.tpu import bfloat16
from tensorflow.contrib.tpu.python.tpu import error_handling
from tensorflow.contrib.tpu.python.tpu import session_support
from tensorflow.contrib.tpu.python.tpu import tensor_tracer
from tensorflow.contrib.tpu.python.tpu import tpu
from tensorflow.contrib.tpu.python.tpu import tpu_context
from tensorflow.contrib.tpu.python.tpu import tpu_feed
from tensorflow.contrib.tpu.python.tpu import tpu_function
from tensorflow.contrib.tpu.python.tpu import training_loop
from tensorflow.contrib.tpu.python.tpu import util
from tensorflow.contrib.training.python.training import evaluation
from tensorflow.contrib.training.python.training import hparam
from tensorflow.python.estimator import model_fn
from tensorflow.python.estimator.export import export_output
from tensorflow.python.tpu import tpu_config
from tensorflow.python.tpu import tpu_estimator
from tensorflow_estimator.python.estimator import estimator
from tensorflow_estimator.python.estimator.tpu import tpu_config
import tensorflow.contrib.tensorrt
""".strip().splitlines()
SLIM_IMPORTS = """
from tensorflow.contrib.framework.python.ops import arg_scope
from tensorflow.contrib.framework.python.ops import add_arg_scope
from tensorflow.contrib.layers.python.layers import initializers
from tensorflow.contrib.layers.python.layers import layers
from tensorflow.contrib.layers.python.layers import regularizers
from tensorflow.contrib.layers.python.layers import utils
from tensorflow.contrib.slim.nets import inception
from tensorflow.contrib.slim.python.slim.nets import vgg
from tensorflow.contrib.slim.python.slim.nets.resnet_v1 import resnet_v1_152
""".strip().splitlines()


@pytest.fixture
def old_names():
    with tpuest.installed():
        yield


@pytest.mark.parametrize(("path", "name"), ROWS)
def test_row_resolves(old_names, path, name):
    assert getattr(importlib.import_module(path), name) is not None


@pytest.mark.parametrize("path", table.ROWS)
def test_dir_lists_what_works_and_only_that(old_names, path):
    module = importlib.import_module(path)
    for name in dir(module):
        getattr(module, name)
    advised = {name for name, target in table.ROWS[path].items() if isinstance(target, Advice)}
    assert not advised & set(dir(module))


@pytest.mark.parametrize("statement", IMPORTS)
def test_import_statement_works(old_names, statement):
    exec(statement, {})  # noqa: S102


@pytest.mark.skipif(not HAS_SLIM, reason="tf-slim isn't installed")
@pytest.mark.parametrize("statement", SLIM_IMPORTS)
def test_import_statement_works_with_slim(old_names, statement):
    exec(statement, {})  # noqa: S102


@pytest.mark.skipif(HAS_SLIM, reason="tf-slim is installed")
@pytest.mark.parametrize("statement", SLIM_IMPORTS[2:])
def test_import_statement_names_the_missing_package(old_names, statement):
    with pytest.raises(ImportError, match="pip install tf-slim"):
        exec(statement, {})  # noqa: S102


def test_every_root_has_the_old_names(old_names):
    roots = api.roots()
    assert len(roots) >= 7
    assert {root.contrib.tpu.TPUConfig for root in roots} == {tpuest.TPUConfig}
    assert {root.estimator.tpu.TPUEstimator for root in roots} == {tpuest.TPUEstimator}


def test_one_class_under_all_its_names(old_names):
    from tensorflow.python.tpu import tpu_config as private
    from tensorflow_estimator.python.estimator.tpu import tpu_config as original

    assert private is original
    assert original.RunConfig is tf.contrib.tpu.RunConfig is tf.estimator.tpu.RunConfig


def test_what_is_not_carried_can_be_imported_and_says_what_to_use(old_names):
    from tensorflow.contrib.cloud import BigtableClient

    assert not isinstance("anything", BigtableClient)
    with pytest.raises(tpuest.UnsupportedError, match="TFRecordDataset"):
        BigtableClient("project", "instance")


@pytest.mark.parametrize(
    ("statement", "error", "words"),
    [
        ("tf.estimator.DNNClassifier", UnsupportedAttributeError, "model_fn"),
        ("tf.contrib.distributions", UnsupportedAttributeError, "tensorflow_probability"),
        ("import tensorflow.contrib.distributions", ModuleNotFoundError, "tensorflow_probability"),
        ("from tensorflow.contrib import distributions", ImportError, "tensorflow_probability"),
        (
            "from tensorflow.contrib import cudnn_rnn; cudnn_rnn.CudnnLSTM",
            UnsupportedAttributeError,
            "rnn_cell",
        ),
    ],
)
def test_unknown_name_says_what_to_use(old_names, statement, error, words):
    with pytest.raises(error, match=words):
        exec(statement, {"tf": tf})  # noqa: S102


def test_ready_made_head_can_be_derived_from_and_not_used(old_names):
    from tensorflow_estimator.python.estimator.canned import head

    class Head(head._BinaryLogisticHeadWithSigmoidCrossEntropyLoss):
        """As libraries have it, for programs that don't use it."""

    with pytest.raises(tpuest.UnsupportedError, match="as a model_fn"):
        Head()


def test_part_of_contrib_of_which_nothing_is_carried_can_be_imported(old_names):
    from tensorflow.contrib import graph_editor

    assert "grid_rnn" not in dir(tf.contrib)
    with pytest.raises(UnsupportedAttributeError, match=r"tf\.contrib\.graph_editor\.sgv is not"):
        graph_editor.sgv()


def test_unknown_name_is_absent_to_hasattr(old_names):
    assert not hasattr(tf.contrib, "nothing_of_that_name")


def test_uninstall_leaves_nothing():
    before = {root.__name__: dict(vars(root)) for root in api.roots()}
    finders, modules = list(sys.meta_path), set(sys.modules)
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver
    with tpuest.installed():
        from tensorflow.contrib.tpu.python.tpu import tpu_config  # noqa: F401
    assert not installation.is_installed()
    assert sys.meta_path == finders
    left = {name for name in set(sys.modules) - modules if not name.startswith("tpuest")}
    assert not [name for name in left if "contrib" in name or "estimator" in name]
    assert tf.distribute.cluster_resolver.TPUClusterResolver is resolver
    for root in api.roots():
        assert "contrib" not in vars(root)
        assert "estimator" not in vars(root)
        assert "contrib" not in before[root.__name__]


def test_installing_twice_is_installing_once():
    tpuest.install()
    try:
        estimator = tf.estimator
        tpuest.install()
        assert tf.estimator is estimator
        with tpuest.installed():
            pass
        assert tf.estimator is estimator
    finally:
        tpuest.uninstall()
    tpuest.uninstall()
    assert not hasattr(tf, "estimator")


def test_what_others_have_put_there_is_told_of_and_comes_back(monkeypatch, caplog):
    others = types.ModuleType("tensorflow_estimator")
    monkeypatch.setitem(sys.modules, "tensorflow_estimator", others)
    monkeypatch.setattr(tf, "contrib", others, raising=False)
    with tpuest.installed():
        assert tf.contrib.tpu.TPUConfig is tpuest.TPUConfig
        assert importlib.import_module("tensorflow_estimator") is others
    assert tf.contrib is others
    assert caplog.text.count("tensorflow_estimator is imported already, from no file") == 1


def test_notebook_extension_installs_and_uninstalls():
    tpuest.load_ipython_extension(None)
    assert tf.contrib.tpu.TPUConfig is tpuest.TPUConfig
    tpuest.unload_ipython_extension(None)
    assert not hasattr(tf, "contrib")


def test_layers_need_no_keras_outside_a_model_fn(old_names):
    with tf.Graph().as_default():
        tf.compat.v1.layers.dense(tf.zeros([2, 3]), 4, name="hidden")
        names = [v.op.name for v in tf.compat.v1.global_variables()]
    assert names == ["hidden/kernel", "hidden/bias"]


@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_recurrent_cells_need_no_keras(old_names):
    with tf.Graph().as_default():
        cell = tf.contrib.rnn.BasicLSTMCell(4)
        tf.compat.v1.nn.dynamic_rnn(cell, tf.zeros([2, 3, 5]), dtype=tf.float32)
        names = [v.op.name for v in tf.compat.v1.global_variables()]
    assert names == ["rnn/basic_lstm_cell/kernel", "rnn/basic_lstm_cell/bias"]


def test_cross_shard_optimizer_works_in_a_session_of_the_users_own(old_names):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        weight = tf.compat.v1.get_variable("w", initializer=1.0, use_resource=True)
        optimizer = tf.compat.v1.train.GradientDescentOptimizer(0.5)
        step = tf.compat.v1.tpu.CrossShardOptimizer(optimizer).minimize(weight * 1.0)
        session.run(tf.compat.v1.global_variables_initializer())
        session.run(step)
        assert session.run(weight) == 0.5
