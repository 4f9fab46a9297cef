"""Reads handwritten digits: a whole TPUEstimator program, as people wrote them for TensorFlow 1.

    python -m tpuest.examples.digits --model_dir=/tmp/digits

The data are scikit-learn's 1,797 images of 8x8 pixels, a fifth of them kept for the test. The program
trains a small convolutional network on 8 simulated TPU cores, evaluates moving averages of its
weights and predicts every image of the test. It leaves checkpoints, and events for TensorBoard.
"""

import tempfile

import numpy as np
import tensorflow.compat.v1 as tf
import tensorflow.compat.v2 as tf2
from absl import app, flags
from sklearn import datasets

import tpuest

FLAGS = flags.FLAGS
flags.DEFINE_string("model_dir", None, "Where checkpoints and events go; a new directory if empty.")
flags.DEFINE_bool("use_tpu", True, "Whether to run on TPU cores.")
flags.DEFINE_integer("simulated_cores", 8, "How many TPU cores to simulate; 0 takes a real TPU.")
flags.DEFINE_integer("train_steps", 150, "The global step to train to.")

NUM_CLASSES = 10
NUM_TEST_IMAGES = 360
TRAIN_BATCH_SIZE = 128
TEST_BATCH_SIZE = 128
ITERATIONS_PER_LOOP = 50


def load_digits():
    """Gives `(train, test)`, each `(images float32 [n, 8, 8, 1] in 0..1, labels int32 [n])`."""
    digits = datasets.load_digits()
    order = np.random.RandomState(1).permutation(len(digits.target))
    images = (digits.images[order] / 16.0).astype(np.float32)[..., np.newaxis]
    labels = digits.target[order].astype(np.int32)
    train, test = slice(None, -NUM_TEST_IMAGES), slice(-NUM_TEST_IMAGES, None)
    return (images[train], labels[train]), (images[test], labels[test])


def make_input_fns():
    """Gives the `input_fn`s of training and of testing."""
    train, test = load_digits()

    def dataset_of(images, labels):
        features = {"image": images, "index": np.arange(len(images), dtype=np.int32)}
        return tf.data.Dataset.from_tensor_slices((features, labels))

    def train_input_fn(params):
        dataset = dataset_of(*train).shuffle(len(train[0]), seed=1).repeat()
        return dataset.batch(params["batch_size"], drop_remainder=True)

    def test_input_fn(params):
        return dataset_of(*test).batch(params["batch_size"])

    return train_input_fn, test_input_fn


def build_logits(images, is_training):
    """Gives float32 `[batch_size, NUM_CLASSES]`."""
    net = images
    for filters in (32, 64):
        net = tf.layers.conv2d(net, filters, 3, padding="same", use_bias=False)
        net = tf.layers.batch_normalization(net, momentum=0.9, training=is_training)
        net = tf.nn.relu(net)
        net = tf.layers.max_pooling2d(net, 2, 2)
    net = tf.layers.dense(tf.layers.flatten(net), 64, tf.nn.relu)
    net = tf.layers.dropout(net, rate=0.3, training=is_training)
    weights = tf.get_variable("logits/weights", [64, NUM_CLASSES], tf.float32)
    bias = tf.get_variable("logits/bias", [NUM_CLASSES], initializer=tf.zeros_initializer())
    return tf.matmul(net, weights) + bias


def model_fn(features, labels, mode, params):
    logits = build_logits(features["image"], mode == tpuest.ModeKeys.TRAIN)
    averages = tf.train.ExponentialMovingAverage(0.95, num_updates=tf.train.get_global_step())

    def scaffold_fn():
        """Gives every weight the value of its moving average."""
        return tf.train.Scaffold(saver=tf.train.Saver(averages.variables_to_restore()))

    if mode == tpuest.ModeKeys.PREDICT:
        predictions = {
            "index": features["index"],
            "class": tf.argmax(logits, axis=1, output_type=tf.int32),
            "probabilities": tf.nn.softmax(logits),
        }
        return tpuest.TPUEstimatorSpec(mode, predictions=predictions, scaffold_fn=scaffold_fn)

    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == tpuest.ModeKeys.EVAL:
        return tpuest.TPUEstimatorSpec(
            mode, loss=loss, eval_metrics=(metric_fn, [labels, logits]), scaffold_fn=scaffold_fn
        )

    global_step = tf.train.get_global_step()
    learning_rate = tf.train.cosine_decay(params["learning_rate"], global_step, FLAGS.train_steps)
    optimizer = tf.train.AdamOptimizer(learning_rate)
    if params["use_tpu"]:
        optimizer = tpuest.CrossShardOptimizer(optimizer)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        minimize = optimizer.minimize(loss, global_step)
    with tf.control_dependencies([minimize]):
        train_op = averages.apply(tf.trainable_variables())

    # A core hands the host tensors with a batch dimension.
    tensors = [tf.reshape(t, [1]) for t in (global_step, loss, learning_rate)]
    return tpuest.TPUEstimatorSpec(
        mode, loss=loss, train_op=train_op, host_call=(make_host_call_fn(params), tensors)
    )


def metric_fn(labels, logits):
    classes = tf.argmax(logits, axis=1)
    return {
        "accuracy": tf.metrics.accuracy(labels, classes),
        "mean_class_accuracy": tf.metrics.mean_per_class_accuracy(labels, classes, NUM_CLASSES),
    }


def make_host_call_fn(params):
    """Gives the function that writes summaries on the host."""

    def host_call_fn(global_step, loss, learning_rate):
        writer = tf2.summary.create_file_writer(
            params["summary_dir"], max_queue=ITERATIONS_PER_LOOP
        )
        with writer.as_default(), tf2.summary.record_if(True):
            step = tf.cast(global_step[0], tf.int64)
            tf2.summary.scalar("training/loss", tf.reduce_mean(loss), step=step)
            tf2.summary.scalar("training/learning_rate", learning_rate[0], step=step)
            return tf.summary.all_v2_summary_ops()

    return host_call_fn


def make_estimator(model_dir):
    config = tpuest.RunConfig(
        model_dir=model_dir,
        tf_random_seed=1,
        save_checkpoints_steps=50,
        tpu_config=tpuest.TPUConfig(iterations_per_loop=ITERATIONS_PER_LOOP),
    )
    return tpuest.TPUEstimator(
        model_fn,
        config=config,
        params={"learning_rate": 5e-3, "summary_dir": model_dir},
        use_tpu=FLAGS.use_tpu,
        train_batch_size=TRAIN_BATCH_SIZE,
        eval_batch_size=TEST_BATCH_SIZE,
        predict_batch_size=TEST_BATCH_SIZE,
    )


def main(_):
    tf.logging.set_verbosity(tf.logging.INFO)
    tf.get_logger().propagate = False  # absl would print each line again.
    if FLAGS.use_tpu and FLAGS.simulated_cores:
        tpuest.simulate_tpu(FLAGS.simulated_cores)
    train_input_fn, test_input_fn = make_input_fns()
    estimator = make_estimator(FLAGS.model_dir or tempfile.mkdtemp())

    estimator.train(train_input_fn, max_steps=FLAGS.train_steps)
    metrics = estimator.evaluate(test_input_fn)
    predictions = list(estimator.predict(test_input_fn))

    print(f"Trained to step {metrics['global_step']}.")
    print(f"Test accuracy: {metrics['accuracy']:.4f}, loss {metrics['loss']:.4f}.")
    indices = [int(prediction["index"]) for prediction in predictions]
    in_order = indices == list(range(NUM_TEST_IMAGES))
    print(f"Predicted {len(predictions)} images, each once and in order: {in_order}.")
    print("The first ten:", *(int(prediction["class"]) for prediction in predictions[:10]))
    print(f"Checkpoints and events: tensorboard --logdir={estimator.model_dir}")


if __name__ == "__main__":
    app.run(main)
