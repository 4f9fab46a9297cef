"""How a TPU is found again after a worker was lost: everything but the TPU itself is TensorFlow's own."""

import pytest
import tensorflow as tf

import tpuest
from tpuest import _tf, planned_strategy, topology, tpu_system


class Resolver(planned_strategy._Resolver):
    """Stands for a `TPUClusterResolver` of two hosts of eight cores."""

    def __init__(self):
        super().__init__(num_cores=16, num_hosts=2, embedding_feature="UNSUPPORTED")


@pytest.fixture
def initialised(monkeypatch):
    """Gives, for each time that a TPU was initialised, whether TensorFlow could have connected to it there."""
    done = []

    def initialize(resolver):
        done.append(tf.executing_eagerly())
        return tpu_system.simulated_mesh(16)

    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", initialize)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda resolver: None)
    return done


def test_a_lost_tpu_is_initialised_once_for_all_who_lost_it(initialised):
    config = tpuest.RunConfig(cluster=Resolver(), model_dir="/nonexistent")
    with tf.Graph().as_default():  # in which a call is when it loses a worker
        first = topology.find_topology(config, use_tpu=True)
        assert topology.find_topology(config, use_tpu=True) is first
        first.check_connected()
        second = first.reconnected()
        assert first.reconnected() is second
        assert topology.find_topology(config, use_tpu=True) is second
    assert initialised == [True, True]
    assert second.strategy is not first.strategy
    assert (second.num_hosts, second.num_cores, second.is_tpu) == (2, 16, True)
    second.check_connected()
    with pytest.raises(tf.errors.AbortedError, match="initialised anew meanwhile"):
        first.check_connected()


def test_a_tpu_that_does_not_come_back_is_looked_for_again(initialised, monkeypatch):
    config = tpuest.RunConfig(cluster=Resolver(), model_dir="/nonexistent")
    first = topology.find_topology(config, use_tpu=True)
    gone = tf.errors.UnavailableError(None, None, "still gone")
    with monkeypatch.context() as patched:
        patched.setattr(tpu_system, "wait_for_hosts", lambda hosts: _raise(gone))
        for _ in range(2):
            with pytest.raises(tf.errors.UnavailableError, match="still gone"):
                first.reconnected()
    assert first.reconnected().is_connected
    assert initialised == [True, True]


def _raise(error):
    raise error


def test_a_tpu_is_connected_to_where_eager_execution_is_disabled(initialised):
    with _tf.graph_mode():
        topology.find_topology(tpuest.RunConfig(cluster=Resolver()), use_tpu=True)
    assert initialised == [True]
