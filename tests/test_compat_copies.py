"""A program that brings its own copy of TPUEstimator gets this package's."""

import pytest

import tpuest


@pytest.fixture
def copied():
    class TPUEstimator(tpuest.Estimator):
        def __init__(self, model_fn, train_cache_fn=None, **kwargs):
            raise AssertionError("the copy's own engine starts")

        def _augment_model_fn(self):
            """As the original's engine has it."""

    return TPUEstimator


def model_fn(features, labels, mode, params):
    """Isn't called."""


def test_copy_makes_an_estimator_of_this_package(copied):
    made = copied(
        model_fn, train_cache_fn=None, config=tpuest.RunConfig(), use_tpu=False, train_batch_size=8
    )
    assert type(made) is tpuest.TPUEstimator


def test_copy_refuses_its_own_arguments(copied):
    with pytest.raises(tpuest.UnsupportedError, match="train_cache_fn.*local variables"):
        copied(
            model_fn,
            train_cache_fn=len,
            config=tpuest.RunConfig(),
            use_tpu=False,
            train_batch_size=8,
        )


def test_other_subclasses_stay_themselves():
    class TPUEstimator(tpuest.TPUEstimator):
        """Adds nothing."""

    made = TPUEstimator(model_fn, config=tpuest.RunConfig(), use_tpu=False, train_batch_size=8)
    assert type(made) is TPUEstimator
