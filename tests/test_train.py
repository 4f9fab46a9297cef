"""Training: how many steps, in which order, with which values, and what the log says."""

import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
import tpuest

import models
from models import CPU, EIGHT_CORES, ONE_CORE, TWO_CORES

# float32 sums in another order.
RTOL = 1e-5

everywhere = pytest.mark.parametrize("num_cores", [CPU, ONE_CORE, TWO_CORES, EIGHT_CORES])
on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])


def global_step_of(estimator):
    return int(estimator.get_variable_value("global_step"))


def assert_trained(estimator, num_steps):
    _, w, b = models.trained(num_steps)
    np.testing.assert_allclose(estimator.get_variable_value("w"), w, RTOL)
    np.testing.assert_allclose(estimator.get_variable_value("b"), b, RTOL)


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


@everywhere
def test_training_gives_what_gradient_descent_gives(tmp_path, num_cores):
    with models.simulation(num_cores):
        estimator = models.make_estimator(tmp_path, num_cores, iterations_per_loop=3)
        assert estimator.train(models.train_input_fn, steps=7) is estimator
    assert global_step_of(estimator) == 7
    assert_trained(estimator, 7)
