"""One of two workers that evaluate and predict; `test_evaluating_workers` starts both.

    evaluating_workers_program.py INDEX PORT PORT DIRECTORY SCENARIO...

Prints one line of JSON for each scenario: what its function, below, gives.
"""

import json
import os
import sys

INDEX = int(sys.argv[1])
CHIEF, WORKER, DIRECTORY = sys.argv[2:5]
TASKS = {"chief": [f"127.0.0.1:{CHIEF}"], "worker": [f"127.0.0.1:{WORKER}"]}
TASK = {"type": ("chief", "worker")[INDEX], "index": 0}
os.environ["TF_CONFIG"] = json.dumps({"cluster": TASKS, "task": TASK})
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import models
import tensorflow as tf

import tpuest

STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()
NUM_STEPS = 4
# Two whole batches and a smaller one, and one whole batch.
EXAMPLES_OF_WORKER = (slice(0, 20), slice(20, 28))


def estimator(eval_distribute=STRATEGY, **model):
    config = tpuest.RunConfig(
        model_dir=DIRECTORY,
        save_checkpoints_steps=NUM_STEPS,
        train_distribute=STRATEGY,
        eval_distribute=eval_distribute,
    )
    return tpuest.TPUEstimator(
        models.linear_model(**model), config=config, use_tpu=False, train_batch_size=8
    )


def input_fn(input_context):
    own = EXAMPLES_OF_WORKER[input_context.input_pipeline_id]
    return tf.data.Dataset.from_tensor_slices(({"x": models.X[own]}, models.Y[own])).batch(8)


def all_input_fn():
    return tf.data.Dataset.from_tensor_slices(({"x": models.X}, models.Y)).batch(8)


def train(**hooks):
    endless = lambda input_context: input_fn(input_context).repeat()
    return estimator().train(endless, steps=NUM_STEPS, **hooks)


def numbers(metrics):
    return {name: float(value) for name, value in metrics.items()}


def evaluated():
    trained = train()
    return [numbers(trained.evaluate(input_fn, name=f"all_{time}")) for time in range(2)]


def evaluated_a_step():
    return numbers(estimator().evaluate(input_fn, steps=1, name="step"))


def evaluated_without_data_on_one():
    few = lambda input_context: input_fn(input_context).take(1 - INDEX)
    return numbers(estimator().evaluate(few, name="few"))


def evaluated_alone():
    return numbers(estimator(eval_distribute=None).evaluate(all_input_fn, name=f"alone_{INDEX}"))


def predicted():
    return [float(one["outputs"][0]) for one in estimator().predict(all_input_fn)]


def a_metric_of_its_own():
    def metric_fn(labels, outputs):
        seen = tf.compat.v1.get_variable(
            "seen",
            [],
            collections=["local_variables"],
            trainable=False,
            initializer=lambda *_, **__: 0.0,
        )
        return {"seen": (seen.read_value(), seen.assign_add(1.0))}

    return error_of(lambda: estimator(metric_fn=metric_fn).evaluate(input_fn))


def evaluated_in_training():
    class Evaluate(tf.compat.v1.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            estimator().evaluate(input_fn)

    return error_of(lambda: train(hooks=[Evaluate()]))


def error_of(act):
    try:
        act()
    except tpuest.UnsupportedError as error:
        return str(error)
    return None


for name in sys.argv[5:]:
    print(json.dumps(globals()[name]()), flush=True)
