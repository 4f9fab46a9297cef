"""A host call with summaries, many eval metrics, regularisation losses and initialisers of every kind."""

import tensorflow.compat.v1 as tf

from programs.program import Program, make_blobs, name_loss, wrap_for_cores

NUM_CLASSES = 3
INITIALIZERS = (
    ("truncated_normal", tf.truncated_normal_initializer(stddev=0.2)),
    ("random_normal", tf.random_normal_initializer(mean=0.05, stddev=0.2)),
    ("random_uniform", tf.random_uniform_initializer(-0.3, 0.3)),
    ("variance_scaling", tf.variance_scaling_initializer(2.0, "fan_in", "truncated_normal")),
    ("orthogonal", tf.orthogonal_initializer(gain=0.9)),
    ("identity", tf.initializers.identity(gain=0.5)),
    ("he_uniform", tf.initializers.he_uniform()),
    ("lecun_normal", tf.initializers.lecun_normal()),
    ("seeded", tf.glorot_normal_initializer(seed=17)),
)


def make_examples(num_examples, seed):
    return make_blobs(num_examples, seed, num_features=6, num_classes=NUM_CLASSES)


def l2_regularizer(weights):
    return 0.01 * tf.nn.l2_loss(weights)


def build_logits(features):
    net = features
    with tf.variable_scope("trunk", regularizer=l2_regularizer):
        for name, initializer in INITIALIZERS:
            net = net + 0.3 * tf.tanh(
                tf.matmul(net, tf.get_variable(name, [6, 6], initializer=initializer))
            )
    with tf.variable_scope("logits"):
        return tf.matmul(net, tf.get_variable("kernel", [6, NUM_CLASSES]))


def metric_fn(labels, logits):
    classes = tf.argmax(logits, axis=1)
    is_first, says_first = tf.equal(labels, 0), tf.equal(classes, 0)
    return {
        "accuracy": tf.metrics.accuracy(labels, classes),
        "mean_probability": tf.metrics.mean(tf.reduce_max(tf.nn.softmax(logits), axis=1)),
        "precision": tf.metrics.precision(is_first, says_first),
        "recall": tf.metrics.recall(is_first, says_first),
        "auc": tf.metrics.auc(is_first, tf.nn.softmax(logits)[:, 0]),
        "mean_per_class_accuracy": tf.metrics.mean_per_class_accuracy(labels, classes, NUM_CLASSES),
        "top_2": tf.metrics.mean(tf.nn.in_top_k(logits, labels, 2)),
        "mean_per_logit": tf.metrics.mean_tensor(tf.reduce_mean(logits, axis=0)),
    }


def build_host_call(global_step, loss, params):
    """Gives the host call that writes the loss of every step to model_dir/host_call."""

    def host_call_fn(steps, losses):
        writer = tf.compat.v2.summary.create_file_writer(params["host_call_dir"])
        with writer.as_default(), tf.compat.v2.summary.record_if(True):
            tf.compat.v2.summary.scalar("host_loss", losses[0], step=steps[0])
            return tf.summary.all_v2_summary_ops()

    return host_call_fn, [tf.reshape(global_step, [1]), tf.reshape(loss, [1])]


def build_model_fn(api):
    def model_fn(features, labels, mode, params):
        logits = build_logits(features)
        if mode == api.ModeKeys.PREDICT:
            return api.TPUEstimatorSpec(mode=mode, predictions={"logits": logits})
        loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
        loss = name_loss(loss + tf.losses.get_regularization_loss())
        if mode == api.ModeKeys.EVAL:
            return api.TPUEstimatorSpec(
                mode=mode, loss=loss, eval_metrics=(metric_fn, [labels, logits])
            )
        global_step = tf.train.get_global_step()
        optimizer = wrap_for_cores(tf.train.GradientDescentOptimizer(0.1), api, params)
        train_op = optimizer.minimize(loss, global_step=global_step)
        host_call = (
            build_host_call(global_step, loss, params) if params.get("host_call_dir") else None
        )
        return api.TPUEstimatorSpec(mode=mode, loss=loss, train_op=train_op, host_call=host_call)

    return model_fn


PROGRAM = Program(
    "host_call",
    build_model_fn,
    make_examples,
    params={"host_call_dir": "{model_dir}/host_call"},
)
