"""The models and data that every contender runs: the same numbers, in TF 1 and in Keras words.

Runs under the original's TensorFlow 2.15 as well as tpuest's: imports neither.
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Workload:
    """What to run.

    Attributes:
      name: in the table.
      batch_size: examples in a step.
      train_steps: measured training steps.
      eval_steps: measured evaluation and prediction steps.
      image_shape: of one example, `[height, width, channels]` or `[features]`.
      filters: of the convolutions; empty for none.
      units: of the hidden dense layers.
      num_classes: of the labels.
    """

    name: str
    batch_size: int
    train_steps: int
    eval_steps: int
    image_shape: tuple
    filters: tuple
    units: tuple
    num_classes: int = 10

    def data(self):
        """Makes features float32 `[examples, *image_shape]` and labels int32 `[examples]`."""
        random = np.random.RandomState(0)
        size = self.batch_size * 16
        features = random.uniform(size=(size, *self.image_shape)).astype(np.float32)
        return features, random.randint(0, self.num_classes, size).astype(np.int32)


TINY_MLP = Workload("tiny MLP", 32, 20_000, 3000, (16,), (), (32, 32))
SMALL_CNN = Workload("small CNN", 32, 2000, 1000, (16, 16, 1), (8, 16), (32,))
WORKLOADS = {"tiny_mlp": TINY_MLP, "small_cnn": SMALL_CNN}


def logits_of(tf, workload, features):
    """Builds the model with `tf.get_variable`, so that both estimators build the very same ops."""
    hidden = features
    for index, filters in enumerate(workload.filters):
        shape = [3, 3, hidden.shape[-1], filters]
        kernel = tf.get_variable(f"conv{index}/kernel", shape)
        bias = tf.get_variable(f"conv{index}/bias", [filters], initializer=tf.zeros_initializer())
        hidden = tf.nn.relu(tf.nn.conv2d(hidden, kernel, strides=2, padding="SAME") + bias)
    hidden = tf.reshape(hidden, [-1, int(np.prod(hidden.shape[1:]))])
    for index, units in enumerate(workload.units):
        hidden = tf.nn.relu(_dense(tf, hidden, units, f"dense{index}"))
    return _dense(tf, hidden, workload.num_classes, "logits")


def _dense(tf, inputs, units, name):
    kernel = tf.get_variable(f"{name}/kernel", [inputs.shape[-1], units])
    bias = tf.get_variable(f"{name}/bias", [units], initializer=tf.zeros_initializer())
    return tf.matmul(inputs, kernel) + bias


def make_model_fn(tf, spec_class, workload, sums_over_cores=False):
    """Makes the estimators' `model_fn`; for cores with an optimizer that sums their gradients."""

    def model_fn(features, labels, mode, params):
        logits = logits_of(tf, workload, features)
        if mode == "infer":
            return spec_class(mode, predictions={"classes": tf.argmax(logits, 1)})
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        loss = tf.reduce_mean(losses)
        if mode == "eval":

            def metric_fn(labels, logits):
                return {"accuracy": tf.metrics.accuracy(labels, tf.argmax(logits, 1))}

            return spec_class(mode, loss=loss, eval_metrics=(metric_fn, [labels, logits]))
        step = tf.train.get_global_step()
        optimizer = tf.train.AdamOptimizer(1e-3)
        if sums_over_cores:
            optimizer = tf.tpu.CrossShardOptimizer(optimizer)
        train_op = optimizer.minimize(loss, global_step=step)
        return spec_class(mode, loss=loss, train_op=train_op)

    return model_fn


def make_input_fn(tf, workload, num_batches=None):
    """Makes an `input_fn` of `num_batches` batches, endless if `None`."""
    features, labels = workload.data()

    def input_fn(params):
        dataset = tf.data.Dataset.from_tensor_slices((features, labels)).repeat()
        dataset = dataset.batch(params["batch_size"], drop_remainder=True)
        dataset = dataset if num_batches is None else dataset.take(num_batches)
        return dataset.prefetch(4)

    return input_fn
