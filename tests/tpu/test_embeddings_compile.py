"""The TPU's own compiler takes embeddings whose tables the cores have, no TPU present; needs the `check` extra."""

import pytest

pytest.importorskip("libtpu", reason="needs the `check` extra: jaxlib==0.10.2 libtpu==0.0.42.1")
pytest.importorskip("jaxlib")

import test_embeddings_on_tpu as on_hardware
import traced as tracing

from tpuest import _tf, aot, embedding_config, planned_tpu
from tpuest.spec import ModeKeys

TPUS = ("v5p:2x2x2", "v6e:2x4")
FLOAT = 4


@pytest.fixture(autouse=True)
def sparse_cores(monkeypatch):
    monkeypatch.setattr(_tf, "embedding_feature", lambda strategy: "V2")


def compile_mode(mode, tpu, parameters=None):
    estimator = on_hardware.make_estimator(parameters=parameters)
    _, step = tracing.lower(estimator, mode, on_hardware.input_fn)
    return aot.compile_step(step, planned_tpu.parse_tpu(tpu))


@pytest.mark.parametrize("tpu", TPUS)
def test_training_compiles_and_sums_the_tables_gradients(tpu):
    compiled = compile_mode(ModeKeys.TRAIN, tpu)
    assert compiled.num_all_reduces >= 1
    # The table and its slot are updated in place.
    assert compiled.alias_bytes >= 2 * on_hardware.NUM_ROWS * on_hardware.DIMENSION * FLOAT


@pytest.mark.parametrize(
    "parameters",
    [
        embedding_config.AdagradParameters(0.1, use_gradient_accumulation=False),
        embedding_config.AdamParameters(0.1, lazy_adam=False),
        embedding_config.FtrlParameters(0.1),
        embedding_config.MomentumParameters(0.1, 0.9),
        embedding_config.ProximalAdagradParameters(0.1),
        embedding_config.RMSPropParameters(0.1, 0.9, 0.9, 1e-7),
        embedding_config.StochasticGradientDescentParameters(0.1),
    ],
    ids=lambda v: type(v).__name__,
)
def test_every_optimizer_compiles(parameters):
    assert compile_mode(ModeKeys.TRAIN, "v6e:2x4", parameters).num_all_reduces >= 1


@pytest.mark.parametrize("mode", [ModeKeys.EVAL, ModeKeys.PREDICT])
def test_evaluation_and_prediction_compile_without_a_sum(mode):
    assert compile_mode(mode, "v6e:2x4").num_all_reduces == 0
