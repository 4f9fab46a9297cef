"""The TPU's own compiler takes the training step of the digits example, no TPU present; needs the `check` extra."""

import pytest

pytest.importorskip("libtpu", reason="needs the `check` extra: jaxlib==0.10.2 libtpu==0.0.42.1")
pytest.importorskip("jaxlib")
pytest.importorskip("sklearn")

import tensorflow as tf
import traced as tracing
from programs import PROGRAMS

import tpuest
from tpuest import aot, planned_tpu
from tpuest.examples import digits
from tpuest.spec import ModeKeys

TPU = planned_tpu.parse_tpu("v5e:2x4")
NUM_CORES = 8
HBM_OF_V5E = 15.75 * 2**30
# 2^16 such examples of float32 are 17 GiB.
NUM_FEATURES = 70_000


@pytest.fixture(scope="module")
def estimator():
    digits.FLAGS(["digits"])
    return tracing.make_estimator_class(tracing.fake_topology(NUM_CORES))(
        digits.model_fn,
        config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY),
        params={"learning_rate": 5e-3, "summary_dir": tracing.NO_DIRECTORY},
        train_batch_size=digits.TRAIN_BATCH_SIZE,
        eval_batch_size=digits.TEST_BATCH_SIZE,
        predict_batch_size=digits.TEST_BATCH_SIZE,
    )


def compile_mode(estimator, mode, input_fn):
    program, step = tracing.lower(estimator, mode, input_fn)
    return program, aot.compile_step(step, TPU)


def bytes_of(graph):
    variables = graph.get_collection(tf.compat.v1.GraphKeys.GLOBAL_VARIABLES)
    return sum(v.shape.num_elements() * v.dtype.base_dtype.size for v in variables)


@pytest.fixture(scope="module")
def training(estimator):
    return compile_mode(estimator, ModeKeys.TRAIN, digits.make_input_fns()[0])


def test_training_compiles_for_eight_cores(training, record_property):
    program, compiled = training
    record_property("hbm_bytes", compiled.hbm_bytes)
    assert bytes_of(program.graph) < compiled.hbm_bytes < HBM_OF_V5E


def test_gradients_are_summed_over_the_cores(training):
    _, compiled = training
    assert compiled.num_all_reduces >= 1


def test_variables_are_updated_in_place(training):
    program, compiled = training
    assert compiled.alias_bytes >= bytes_of(program.graph)


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_of_every_conformance_program_compiles(name):
    there = tracing.conformance_estimator(name, tracing.fake_topology(NUM_CORES))
    _, compiled = compile_mode(there, ModeKeys.TRAIN, PROGRAMS[name].train_input_fn)
    assert compiled.num_all_reduces >= 1


@pytest.mark.parametrize("mode", [ModeKeys.EVAL, ModeKeys.PREDICT])
def test_evaluation_and_prediction_compile_without_a_sum(estimator, mode):
    _, compiled = compile_mode(estimator, mode, digits.make_input_fns()[1])
    assert compiled.num_all_reduces == 0


def test_a_model_too_large_is_refused_with_the_compilers_words():
    def model_fn(features, labels, mode, params):
        weights = tf.compat.v1.get_variable("weights", [NUM_FEATURES, 1], tf.float32)
        loss = tf.reduce_mean(tf.square(tf.matmul(features, weights)))
        optimizer = tpuest.CrossShardOptimizer(tf.compat.v1.train.GradientDescentOptimizer(0.1))
        train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
        return tpuest.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)

    def input_fn(params):
        batch = tf.zeros([params["batch_size"], NUM_FEATURES])
        return tf.data.Dataset.from_tensors(batch).repeat()

    large = tracing.make_estimator_class(tracing.fake_topology(NUM_CORES))(
        model_fn,
        config=tpuest.RunConfig(model_dir=tracing.NO_DIRECTORY),
        train_batch_size=2**16 * NUM_CORES,
    )
    with pytest.raises(aot.CompilerRefusedError, match="(?i)memory|HBM"):
        compile_mode(large, ModeKeys.TRAIN, input_fn)
