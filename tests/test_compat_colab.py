"""Old Colab notebooks find what they look for where use_tpu=True would run."""

import os

import pytest
import tensorflow as tf

import tpuest
from tpuest import RunConfig, chips, topology
from tpuest.compat import colab
from tpuest.compat.cluster_resolver import TPUClusterResolver


@pytest.fixture(autouse=True)
def without_address(monkeypatch):
    """Lets each test begin, and end, without the variables of a Colab runtime."""
    for name in ("TPU_NAME", colab.VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def simulation():
    tpuest.simulate_tpu(2)
    yield
    tpuest.simulate_tpu(0)


def test_address_is_shown_while_cores_are_simulated_and_names_are_installed(simulation):
    with tpuest.installed():
        assert os.environ["COLAB_TPU_ADDR"]
    assert "COLAB_TPU_ADDR" not in os.environ


def test_address_is_shown_where_a_chip_is(monkeypatch):
    monkeypatch.setattr(chips, "find_chips", lambda: ["/dev/accel0"])
    with tpuest.installed():
        assert os.environ["COLAB_TPU_ADDR"]


def test_no_address_is_shown_without_cores():
    with tpuest.installed():
        assert "COLAB_TPU_ADDR" not in os.environ


def test_address_of_a_runtime_stays(simulation, monkeypatch):
    monkeypatch.setenv("COLAB_TPU_ADDR", "10.0.0.1:8470")
    with tpuest.installed():
        assert os.environ["COLAB_TPU_ADDR"] == "10.0.0.1:8470"
    assert os.environ["COLAB_TPU_ADDR"] == "10.0.0.1:8470"


@pytest.mark.parametrize("kind", ["Session", "InteractiveSession"])
def test_session_at_the_address_lists_devices_and_runs(simulation, kind):
    with tpuest.installed(), tf.Graph().as_default():
        session = getattr(tf.compat.v1, kind)("grpc://" + os.environ["COLAB_TPU_ADDR"])
        # The wheel for TPUs lists its TPU_SYSTEM wherever it is.
        assert "CPU" in {device.device_type for device in session.list_devices()}
        tf.contrib.cloud.configure_gcs(session, credentials={"type": "authorized_user"})
        assert session.run(tf.constant(3)) == 3
        session.close()


@pytest.mark.parametrize(
    "configure",
    [
        lambda address: RunConfig(cluster=TPUClusterResolver(address)),
        lambda address: RunConfig(cluster=TPUClusterResolver()),
        lambda address: RunConfig(master=address),
        lambda address: RunConfig(),
    ],
    ids=["address", "environment", "master", "nothing"],
)
def test_address_stands_for_the_simulated_cores(simulation, configure):
    with tpuest.installed():
        config = configure("grpc://" + os.environ["COLAB_TPU_ADDR"])
        assert topology.find_topology(config, use_tpu=True).num_cores == 2


def test_master_that_does_not_answer_is_named():
    config = RunConfig(master="grpc://10.0.0.1.invalid:8470")
    with pytest.raises(RuntimeError, match=r"TPU 'grpc://10\.0\.0\.1\.invalid:8470'"):
        topology.find_topology(config, use_tpu=True)
