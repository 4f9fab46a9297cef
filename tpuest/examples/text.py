"""Tells which project's documentation a sentence is from; tensorflow-text makes its tokens in input_fn.

    python -m tpuest.examples.text --model_dir=/tmp/text

The sentences are from the documentation of Python, NumPy and TensorFlow on this machine. Cores hold
numbers of static shapes only: so `input_fn` makes each sentence MAX_TOKENS ids, of hashed words.
The trained model is exported with its tokenizer: clients send text as it is.
"""

import os
import tempfile

import numpy as np
import tensorflow.compat.v1 as tf
import tensorflow_text
from absl import app, flags

import tpuest
from tpuest.examples.sentences import SOURCES, load_sentences

FLAGS = flags.FLAGS
flags.DEFINE_string("model_dir", None, "Where checkpoints and events go; a new directory if empty.")
flags.DEFINE_bool("use_tpu", True, "Whether to run on TPU cores.")
flags.DEFINE_integer("simulated_cores", 8, "How many TPU cores to simulate; 0 takes a real TPU.")
flags.DEFINE_integer("train_steps", 100, "The global step to train to.")

NUM_TEST_SENTENCES = 900
MAX_TOKENS = 40
NUM_IDS = 8192
PADDING_ID = 0
EMBEDDING_SIZE = 32


def tokenize(sentences):
    """Gives int32 `[batch_size, MAX_TOKENS]` ids of `sentences`, strings `[batch_size]`."""
    folded = tensorflow_text.case_fold_utf8(sentences)
    tokens = tensorflow_text.UnicodeScriptTokenizer().tokenize(folded)
    ids = 1 + tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, tokens, NUM_IDS - 1)
    padded, _ = tensorflow_text.pad_model_inputs(ids, MAX_TOKENS, pad_value=PADDING_ID)
    return tf.cast(padded, tf.int32)


def make_input_fn(sentences, labels, is_training):
    def input_fn(params):
        dataset = tf.data.Dataset.from_tensor_slices((np.array(sentences), np.int32(labels)))
        dataset = dataset.map(lambda sentence, label: ({"ids": tokenize([sentence])[0]}, label))
        if is_training:
            dataset = dataset.cache().shuffle(len(sentences), seed=1).repeat()
        return dataset.batch(params["batch_size"], drop_remainder=is_training)

    return input_fn


def model_fn(features, labels, mode, params):
    ids = features["ids"]
    embeddings = tf.get_variable(
        "embeddings",
        [NUM_IDS, EMBEDDING_SIZE],
        initializer=tf.random_normal_initializer(stddev=0.1),
    )
    is_token = tf.cast(tf.not_equal(ids, PADDING_ID), tf.float32)[..., tf.newaxis]
    summed = tf.reduce_sum(tf.nn.embedding_lookup(embeddings, ids) * is_token, axis=1)
    mean = summed / tf.maximum(tf.reduce_sum(is_token, axis=1), 1.0)
    hidden = tf.layers.dense(mean, 32, tf.nn.relu)
    hidden = tf.layers.dropout(hidden, 0.3, training=mode == tpuest.ModeKeys.TRAIN)
    logits = tf.layers.dense(hidden, len(SOURCES))
    if mode == tpuest.ModeKeys.PREDICT:
        return tpuest.TPUEstimatorSpec(mode, predictions={"probabilities": tf.nn.softmax(logits)})

    loss = tf.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == tpuest.ModeKeys.EVAL:
        return tpuest.TPUEstimatorSpec(mode, loss=loss, eval_metrics=(metric_fn, [labels, logits]))

    optimizer = tf.train.AdamOptimizer(0.01)
    if params["use_tpu"]:
        optimizer = tpuest.CrossShardOptimizer(optimizer)
    train_op = optimizer.minimize(loss, tf.train.get_global_step())
    return tpuest.TPUEstimatorSpec(mode, loss=loss, train_op=train_op)


def metric_fn(labels, logits):
    return {"accuracy": tf.metrics.accuracy(labels, tf.argmax(logits, axis=1))}


def serving_input_receiver_fn():
    sentences = tf.placeholder(tf.string, [None], name="sentences")
    features = {"ids": tokenize(sentences)}
    return tpuest.ServingInputReceiver(features, {"sentences": sentences})


def make_estimator(model_dir):
    config = tpuest.RunConfig(
        model_dir=model_dir,
        tf_random_seed=1,
        save_checkpoints_steps=50,
        tpu_config=tpuest.TPUConfig(iterations_per_loop=50),
    )
    return tpuest.TPUEstimator(
        model_fn,
        config=config,
        use_tpu=FLAGS.use_tpu,
        train_batch_size=256,
        eval_batch_size=256,
        predict_batch_size=256,
    )


def main(_):
    tf.logging.set_verbosity(tf.logging.INFO)
    tf.get_logger().propagate = False  # absl would print each line again.
    if FLAGS.use_tpu and FLAGS.simulated_cores:
        tpuest.simulate_tpu(FLAGS.simulated_cores)
    sentences, labels = load_sentences()
    test_sentences, test_labels = sentences[:NUM_TEST_SENTENCES], labels[:NUM_TEST_SENTENCES]
    train_input_fn = make_input_fn(
        sentences[NUM_TEST_SENTENCES:], labels[NUM_TEST_SENTENCES:], is_training=True
    )
    test_input_fn = make_input_fn(test_sentences, test_labels, is_training=False)

    estimator = make_estimator(FLAGS.model_dir or tempfile.mkdtemp())
    estimator.train(train_input_fn, max_steps=FLAGS.train_steps)
    metrics = estimator.evaluate(test_input_fn)
    predictions = list(estimator.predict(test_input_fn))

    print(f"Trained to step {metrics['global_step']}.")
    print(f"Test accuracy: {metrics['accuracy']:.4f}, loss {metrics['loss']:.4f}.")
    print(f"Predicted {len(predictions)} sentences of {len(test_sentences)}; the first three:")
    for sentence, prediction in zip(test_sentences[:3], predictions):
        print(f"  {SOURCES[np.argmax(prediction['probabilities'])]}: {sentence}")

    export_dir = os.path.join(estimator.model_dir, "export")
    path = estimator.export_saved_model(export_dir, serving_input_receiver_fn).decode()
    served = tf.compat.v2.saved_model.load(path, tags=["serve"]).signatures["serving_default"]
    answers = served(sentences=tf.constant(test_sentences[:3]))["probabilities"].numpy()
    print(f"Exported to {path}, which takes the text itself and says:")
    for sentence, probabilities in zip(test_sentences[:3], answers):
        print(f"  {SOURCES[np.argmax(probabilities)]}: {sentence}")


if __name__ == "__main__":
    app.run(main)
