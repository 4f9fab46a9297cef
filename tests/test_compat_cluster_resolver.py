"""A resolver takes what old programs pass, whether or not there is a TPU."""

import copy

import pytest
import tensorflow as tf

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
