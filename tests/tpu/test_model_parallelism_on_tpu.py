"""Replicas of several cores under the true `TPUStrategy`, on cores that aren't there."""

import pytest
import tensorflow as tf
import traced as tracing
from traced import count

import tpuest
from tpuest import InputPipelineConfig, TPUConfig
from tpuest.spec import ModeKeys

CORES_PER_REPLICA = 2


def model_fn(features, labels, mode, params):
    """Computes one layer on each core of the replica."""
    v1 = tf.compat.v1
    hidden = v1.layers.dense(tf.reshape(features, [-1, 15]), 4, name="first")
    with v1.device(v1.tpu.core(1)):
        logits = v1.layers.dense(hidden, 3, name="second")
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tpuest.CrossShardOptimizer(v1.train.GradientDescentOptimizer(0.1))
    train_op = optimizer.minimize(loss, v1.train.get_global_step())
    return tpuest.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)


def input_fn(params):
    """Gives images 5 high, which two cores can't share evenly."""
    size = params["batch_size"]
    batch = (tf.ones([size, 5, 3]), tf.zeros([size], tf.int32))
    return tf.data.Dataset.from_tensors(batch).repeat()


@pytest.fixture(scope="module")
def traced():
    there = tracing.fake_topology(8, 1, CORES_PER_REPLICA)
    estimator = tracing.make_estimator_class(there)(
        model_fn,
        config=tpuest.RunConfig(
            model_dir=tracing.NO_DIRECTORY,
            tpu_config=TPUConfig(
                num_cores_per_replica=CORES_PER_REPLICA,
                per_host_input_for_training=InputPipelineConfig.PER_HOST_V2,
                input_partition_dims=[[1, 2, 1], None],
            ),
        ),
        params={},
        train_batch_size=16,
    )
    return tracing.trace(estimator, ModeKeys.TRAIN, input_fn)["loop"]


def test_the_computation_has_replicas_of_two_cores(traced):
    assert count(traced.all_nodes, "TPUReplicateMetadata") == 1
    (metadata,) = [op for op in traced.inside if op.type == "TPUReplicateMetadata"]
    assert metadata.get_attr("num_replicas") == 4
    assert metadata.get_attr("num_cores_per_replica") == CORES_PER_REPLICA
    assert len(metadata.get_attr("device_assignment")) == 8 * 4


def test_operations_stay_on_their_core_of_the_replica(traced):
    on_core = [op for op in traced.inside if op.device.endswith("TPU_REPLICATED_CORE:1")]
    assert {op.type for op in on_core} >= {"MatMul", "BiasAdd"}
    assert all("second" in op.name for op in on_core if op.type == "MatMul")
    assert not [op for op in traced.around if "TPU_REPLICATED_CORE" in op.device]


def test_the_images_are_split_over_the_replicas_cores(traced):
    shardings = [op for op in traced.inside if op.type == "XlaSharding"]
    assert [op.outputs[0].shape.as_list() for op in shardings] == [[4, 5, 3]]
