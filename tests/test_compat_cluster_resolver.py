"""A resolver takes what old programs pass, whether or not there is a TPU."""

import copy

import pytest
import tensorflow as tf

import tpuest
from tpuest import RunConfig
from tpuest.compat.cluster_resolver import TPUClusterResolver


@pytest.mark.parametrize("tpu", ["", None, "local", [""], "my-tpu", "grpc://10.0.0.1.invalid:8470"])
def test_resolver_without_a_tpu_knows_no_master(tpu, monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    resolver = TPUClusterResolver(tpu)
    assert resolver.master() == resolver.get_master() == ""
    assert resolver.cluster_spec() is None
    assert resolver.is_nothing


def test_resolver_is_still_tensorflows():
    assert isinstance(TPUClusterResolver(""), tf.distribute.cluster_resolver.TPUClusterResolver)


def test_run_config_takes_an_empty_resolver():
    config = RunConfig(cluster=TPUClusterResolver(""))
    assert config.master == ""
    assert copy.deepcopy(config).cluster is config.cluster


def test_resolver_reads_the_address_of_an_old_notebook(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    monkeypatch.setenv("COLAB_TPU_ADDR", "localhost:1")
    assert TPUClusterResolver().looked_for == "TPU 'localhost:1'"


def test_program_may_connect_where_there_is_no_tpu_or_no_eager_execution(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    with tpuest.installed():
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        assert tf.tpu.experimental.initialize_tpu_system(resolver) is None
        with tf.Graph().as_default():
            tf.config.experimental_connect_to_cluster(
                tf.train.ClusterSpec({"worker": ["nobody:1"]})
            )


def test_other_clusters_are_connected_to_as_ever():
    with (
        tpuest.installed(),
        pytest.raises(ValueError, match="must be a `ClusterSpec`"),
    ):
        tf.config.experimental_connect_to_cluster("no cluster")
