"""Runs one conformance program under either implementation and gives its numbers.

Takes a `Program` and an `Api`; gives flat dicts of numpy arrays, keyed `stage/name`, that `record.py`
stores and `test_conformance.py` compares:

    train:    initial/<variable>, step/<tensor> [num_steps], final/<variable>, host_call/loss [num_steps]
    evaluate: evaluate/<metric>, evaluate_2_steps/<metric>
    predict:  predict/<key> [num_predict_examples, ...]
"""

import os

import numpy as np
import tensorflow.compat.v1 as tf
from programs import Api

NUM_STEPS = 20
NUM_RESUMED_STEPS = 5
SEED = 20
LOSS = "training_loss"


class RecordScalars(tf.train.SessionRunHook):
    """Keeps the value of the named scalar tensors at each step; adds no operation to the graph."""

    def __init__(self, names):
        self.values = {name: [] for name in names}

    def begin(self):
        graph = tf.get_default_graph()
        self._tensors = {name: graph.get_tensor_by_name(name + ":0") for name in self.values}

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(self._tensors)

    def after_run(self, run_context, run_values):
        for name, value in run_values.results.items():
            self.values[name].append(value)


def original_api():
    """Gives the names of the original implementation (TF 1.15 to 2.15)."""
    tpu = tf.estimator.tpu
    return Api(
        tpu.TPUEstimator,
        tpu.TPUEstimatorSpec,
        tpu.RunConfig,
        tpu.TPUConfig,
        tpu.InputPipelineConfig,
        tf.tpu.CrossShardOptimizer,
        tf.estimator.ModeKeys,
    )


def tpuest_api():
    """Gives the names of tpuest."""
    import tpuest

    return Api(
        tpuest.TPUEstimator,
        tpuest.TPUEstimatorSpec,
        tpuest.RunConfig,
        tpuest.TPUConfig,
        tpuest.InputPipelineConfig,
        tpuest.CrossShardOptimizer,
        tpuest.ModeKeys,
    )


def make_estimator(program, api, model_dir, num_cores=None, iterations_per_loop=1):
    """Gives the program's estimator: on CPU, or on `num_cores` (simulated) cores."""
    session_config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    run_config = api.RunConfig(
        model_dir=model_dir,
        tf_random_seed=SEED,
        save_checkpoints_steps=NUM_STEPS,
        save_summary_steps=1,
        keep_checkpoint_max=10,
        session_config=session_config,
        tpu_config=api.TPUConfig(iterations_per_loop=iterations_per_loop, num_shards=num_cores),
    )
    params = {
        name: value.format(model_dir=model_dir) if isinstance(value, str) else value
        for name, value in program.params.items()
    }
    return api.TPUEstimator(
        model_fn=program.build_model_fn(api),
        use_tpu=num_cores is not None,
        config=run_config,
        params=params,
        train_batch_size=program.train_batch_size,
        eval_batch_size=program.eval_batch_size,
        predict_batch_size=program.predict_batch_size,
    )


def read_variables(model_dir, global_step):
    """Gives every variable of a checkpoint by name."""
    reader = tf.train.NewCheckpointReader(os.path.join(model_dir, f"model.ckpt-{global_step}"))
    return {name: reader.get_tensor(name) for name in sorted(reader.get_variable_to_shape_map())}


def read_summaries(model_dir, tag):
    """Gives the scalars written under `tag`, ordered by step: float32 [num_written]."""
    values = {}
    for path in tf.gfile.Glob(os.path.join(model_dir, "events.*")):
        for event in tf.train.summary_iterator(path):
            for value in event.summary.value:
                if value.tag == tag:
                    is_tensor = value.HasField("tensor")
                    values[event.step] = (
                        tf.make_ndarray(value.tensor) if is_tensor else value.simple_value
                    )
    return np.asarray([values[step] for step in sorted(values)], np.float32)


def run(program, api, model_dir, num_cores=None):
    """Gives all the numbers of a program: training from its seed, then evaluation and prediction."""
    results = {}
    estimator = make_estimator(program, api, model_dir, num_cores)
    results.update(train(program, estimator, records_steps=num_cores is None))
    results.update(evaluate(program, estimator))
    results.update(predict(program, estimator))
    return results


def train(program, estimator, records_steps):
    """Trains for NUM_STEPS; gives the first and last variables and the scalars of each step.

    Where a hook cannot see each step (`records_steps=False`: on cores), the losses are those of the summaries.
    """
    hook = RecordScalars((LOSS,) + program.fetches)
    estimator.train(program.train_input_fn, steps=NUM_STEPS, hooks=[hook] if records_steps else [])
    results = prefix("initial", read_variables(estimator.model_dir, 0))
    results.update(prefix("final", read_variables(estimator.model_dir, NUM_STEPS)))
    steps = hook.values if records_steps else {LOSS: read_summaries(estimator.model_dir, "loss")}
    results.update(prefix("step", steps))
    if "host_call_dir" in program.params:
        host_losses = read_summaries(estimator.params["host_call_dir"], "host_loss")
        results.update(prefix("host_call", {"loss": host_losses}))
    return results


def resume(program, api, model_dir, num_steps=NUM_RESUMED_STEPS):
    """Goes on from the checkpoint in `model_dir`; gives the loss of each further step."""
    hook = RecordScalars((LOSS,))
    make_estimator(program, api, model_dir).train(
        program.train_input_fn, steps=num_steps, hooks=[hook]
    )
    return [float(loss) for loss in hook.values[LOSS]]


def evaluate(program, estimator):
    """Evaluates all examples (the last batch partial) and the first two batches."""
    results = prefix("evaluate", estimator.evaluate(program.eval_input_fn))
    two_steps = estimator.evaluate(program.full_batches_eval_input_fn, steps=2, name="two_steps")
    results.update(prefix("evaluate_2_steps", two_steps))
    return results


def predict(program, estimator):
    """Predicts every example; gives each key's results stacked in order."""
    results = list(estimator.predict(program.predict_input_fn))
    return prefix("predict", {name: [result[name] for result in results] for name in results[0]})


def prefix(stage, values):
    return {stage + "/" + name: np.asarray(value) for name, value in values.items()}
