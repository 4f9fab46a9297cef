"""Records what the original writes when it exports, for tests/test_export_goldens.py.

    path/to/tensorflow2.15/bin/python tests/goldens/record_exports.py

writes exports_tf215.json beside this file. The cases are here, because both the original and the test run them:
each is a function of `tf` (TF 1's API with `tf.estimator`) and of a directory that exports a model and gives the path.
"""

import json
import os
import sys
import tempfile

import numpy as np

STEP = 7
W = np.arange(12, dtype=np.float32).reshape([3, 4]) / 10
B = np.array([0.5, -0.5, 0.25, 0.0], np.float32)
X = np.array([[1, 2, 3], [0, 0.5, -1]], np.float32)
WORDS = ["a", "of", "the"]


def variables(tf):
    return tf.get_variable("w", [3, 4]), tf.get_variable("b", [4])


def logits_of(tf, x):
    w, b = variables(tf)
    return tf.nn.xw_plus_b(x, w, b, name="logits")


def write_checkpoint(tf, model_dir, more=None):
    """Writes the model's checkpoint, with more variables by name."""
    values = dict({"w": W, "b": B, "global_step": np.int64(STEP)}, **(more or {}))
    with tf.Graph().as_default(), tf.Session() as session:
        made = [tf.get_variable(name, initializer=value) for name, value in sorted(values.items())]
        session.run(tf.global_variables_initializer())
        tf.train.Saver(made).save(session, os.path.join(model_dir, "model.ckpt"), STEP)


def supervised_spec(tf, spec_class, mode, loss, more):
    step = tf.train.GradientDescentOptimizer(0.1).minimize(loss, tf.train.get_global_step())
    return spec_class(mode, loss=loss, train_op=step, **more)


def tpu_model(tf, outputs=None, scaffold_fn=None):
    """Gives a `model_fn` for TPUEstimator; `outputs` makes export outputs of the logits."""

    def model_fn(features, labels, mode, params):
        x = features["x"] if isinstance(features, dict) else features
        logits = logits_of(tf, x)
        spec = tf.estimator.tpu.TPUEstimatorSpec
        if mode == tf.estimator.ModeKeys.PREDICT:
            made = outputs(logits) if outputs else None
            predictions = {"logits": logits, "best": tf.argmax(logits, 1, name="best")}
            return spec(mode, predictions=predictions, export_outputs=made, scaffold_fn=scaffold_fn)
        loss = tf.reduce_mean(tf.square(logits - labels), name="model_loss")

        def metric_fn(labels, logits):
            return {"error": tf.metrics.mean_absolute_error(labels, logits)}

        more = {"eval_metrics": (metric_fn, [labels, logits]), "scaffold_fn": scaffold_fn}
        return supervised_spec(tf, spec, mode, loss, more)

    return model_fn


def plain_model(tf, local_init_op=False):
    """Gives a `model_fn` for Estimator."""

    def model_fn(features, labels, mode):
        logits = logits_of(tf, features["x"])
        spec = tf.estimator.EstimatorSpec
        more = {"predictions": {"logits": logits}}
        if local_init_op:
            more["scaffold"] = tf.train.Scaffold(local_init_op=tf.no_op(name="my_local_init"))
        if mode == tf.estimator.ModeKeys.PREDICT:
            return spec(mode, **more)
        loss = tf.reduce_mean(tf.square(logits - labels), name="model_loss")
        more["eval_metric_ops"] = {
            "error": tf.metrics.mean_absolute_error(labels, logits),
            "grouped": (tf.identity(loss), tf.group(loss, name="grouped_update")),
        }
        return supervised_spec(tf, spec, mode, loss, more)

    return model_fn


def make_tpu_estimator(tf, model_dir, model_fn, checkpoint=None, **options):
    write_checkpoint(tf, model_dir, checkpoint)
    return tf.estimator.tpu.TPUEstimator(
        model_fn,
        config=tf.estimator.tpu.RunConfig(model_dir=model_dir),
        use_tpu=False,
        train_batch_size=8,
        **options,
    )


def make_estimator(tf, model_dir, model_fn):
    write_checkpoint(tf, model_dir)
    return tf.estimator.Estimator(model_fn, model_dir)


def raw_receiver(tf):
    def receiver_fn():
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        return tf.estimator.export.ServingInputReceiver({"x": x}, x)

    return receiver_fn


def parsing_receiver(tf):
    return tf.estimator.export.build_parsing_serving_input_receiver_fn(
        {"x": tf.FixedLenFeature([3], tf.float32)}
    )


def supervised_receiver(tf):
    x = tf.placeholder(tf.float32, [2, 3], name="given_x")
    y = tf.placeholder(tf.float32, [2, 4], name="given_y")
    return tf.estimator.experimental.build_raw_supervised_input_receiver_fn({"x": x}, y)


def all_outputs(tf):
    def outputs(logits):
        export = tf.estimator.export
        text = tf.as_string(logits, name="text")
        return {
            "serving_default": export.PredictOutput(logits),
            "several": export.PredictOutput({"z": logits, "a": logits[:, 0]}),
            "scores": export.ClassificationOutput(scores=logits),
            "classes": export.ClassificationOutput(classes=text),
            "both": export.ClassificationOutput(logits, text),
            "value": export.RegressionOutput(logits[:, :1]),
        }

    return outputs


# --- the cases


def predictions_alone(tf, directory):
    estimator = make_tpu_estimator(tf, directory, tpu_model(tf))
    return estimator.export_saved_model(directory + "/export", raw_receiver(tf))


def every_output_of_examples(tf, directory):
    estimator = make_tpu_estimator(
        tf, directory, tpu_model(tf, all_outputs(tf)), export_to_tpu=False
    )
    return estimator.export_saved_model(directory + "/export", parsing_receiver(tf))


def every_output_of_numbers(tf, directory):
    """Classifications and regressions can't be served: there is no string."""
    estimator = make_tpu_estimator(
        tf, directory, tpu_model(tf, all_outputs(tf)), export_to_tpu=False
    )
    return estimator.export_saved_model(directory + "/export", raw_receiver(tf))


def every_output_for_tpu(tf, directory):
    """Outputs in any order; a string comes from outside the cores."""

    def outputs(logits):
        export = tf.estimator.export
        text = tf.tpu.outside_compilation(lambda t: tf.as_string(t, name="text"), logits)
        return {
            "value": export.RegressionOutput(logits[:, :1]),
            "classes": export.ClassificationOutput(classes=text),
            "serving_default": export.PredictOutput({"z": logits, "a": logits[:, 0]}),
        }

    estimator = make_tpu_estimator(tf, directory, tpu_model(tf, outputs))
    return estimator.export_saved_model(directory + "/export", parsing_receiver(tf))


def alternative_feeds(tf, directory):
    def receiver_fn():
        examples = tf.placeholder(tf.string, [None], name="examples")
        lengths = tf.strings.length(examples)
        numbers = tf.stack([tf.cast(lengths, tf.float32)] * 3, axis=1, name="numbers")
        return tf.estimator.export.ServingInputReceiver(
            {"x": numbers}, {"text": examples}, {"numbers": {"n": numbers}, "lengths": lengths}
        )

    estimator = make_tpu_estimator(
        tf, directory, tpu_model(tf, all_outputs(tf)), export_to_tpu=False
    )
    return estimator.export_saved_model(directory + "/export", receiver_fn)


def tensor_features(tf, directory):
    def receiver_fn():
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        return tf.estimator.export.TensorServingInputReceiver(x, {"image": x})

    estimator = make_tpu_estimator(tf, directory, tpu_model(tf))
    return estimator.export_saved_model(directory + "/export", receiver_fn)


def sparse_features(tf, directory):
    def model_fn(features, labels, mode, params):
        logits = logits_of(tf, tf.sparse.to_dense(features["x"]))
        return tf.estimator.tpu.TPUEstimatorSpec(mode, predictions={"logits": logits})

    def receiver_fn():
        x = tf.sparse_placeholder(tf.float32, [None, 3], name="x")
        return tf.estimator.export.ServingInputReceiver({"x": x}, {"x": x})

    estimator = make_tpu_estimator(tf, directory, model_fn, export_to_tpu=False)
    return estimator.export_saved_model(directory + "/export", receiver_fn)


def unreachable_placeholder(tf, directory):
    """The second output needs what no client feeds."""

    def outputs(logits):
        export = tf.estimator.export
        unfed = tf.placeholder(tf.float32, [], name="unfed")
        return {
            "serving_default": export.PredictOutput({"logits": logits}),
            "unreachable": export.PredictOutput({"logits": logits * unfed}),
        }

    estimator = make_tpu_estimator(tf, directory, tpu_model(tf, outputs), export_to_tpu=False)
    return estimator.export_saved_model(directory + "/export", raw_receiver(tf))


def all_modes_of_a_tpu_estimator(tf, directory):
    supervised = supervised_receiver(tf)
    estimator = make_tpu_estimator(tf, directory, tpu_model(tf))
    return estimator.experimental_export_all_saved_models(
        directory + "/export",
        {
            tf.estimator.ModeKeys.PREDICT: raw_receiver(tf),
            tf.estimator.ModeKeys.EVAL: supervised,
            tf.estimator.ModeKeys.TRAIN: supervised,
        },
    )


def all_modes_of_an_estimator(tf, directory):
    supervised = supervised_receiver(tf)
    estimator = make_estimator(tf, directory, plain_model(tf))
    return estimator.experimental_export_all_saved_models(
        directory + "/export",
        {
            tf.estimator.ModeKeys.TRAIN: supervised,
            tf.estimator.ModeKeys.EVAL: supervised,
            tf.estimator.ModeKeys.PREDICT: raw_receiver(tf),
        },
    )


def evaluation_alone(tf, directory):
    estimator = make_tpu_estimator(tf, directory, tpu_model(tf))
    return estimator.export_saved_model(
        directory + "/export",
        supervised_receiver(tf),
        experimental_mode=tf.estimator.ModeKeys.EVAL,
    )


def own_local_init_op(tf, directory):
    estimator = make_estimator(tf, directory, plain_model(tf, local_init_op=True))
    return estimator.export_saved_model(directory + "/export", raw_receiver(tf))


def averages_in_place_of_variables(tf, directory):
    """A scaffold's saver restores the moving averages, and is saved along."""

    def scaffold_fn():
        averages = tf.train.ExponentialMovingAverage(0.9)
        return tf.train.Scaffold(saver=tf.train.Saver(averages.variables_to_restore()))

    more = {
        "w/ExponentialMovingAverage": 2 * W,
        "b/ExponentialMovingAverage": 2 * B,
    }
    estimator = make_tpu_estimator(
        tf, directory, tpu_model(tf, scaffold_fn=scaffold_fn), more, export_to_tpu=False
    )
    return estimator.export_saved_model(directory + "/export", raw_receiver(tf))


def vocabulary_and_extra_assets(tf, directory):
    with open(os.path.join(directory, "vocabulary.txt"), "w") as file:
        file.write("\n".join(WORDS))

    def receiver_fn():
        table = tf.lookup.StaticVocabularyTable(
            tf.lookup.TextFileInitializer(
                os.path.join(directory, "vocabulary.txt"),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            1,
        )
        words = tf.placeholder(tf.string, [None], name="words")
        x = tf.one_hot(table.lookup(words), 3)
        return tf.estimator.export.ServingInputReceiver({"x": x}, {"words": words})

    estimator = make_estimator(tf, directory, plain_model(tf))
    return estimator.export_saved_model(
        directory + "/export",
        receiver_fn,
        assets_extra={"deep/er/name.txt": os.path.join(directory, "vocabulary.txt")},
        as_text=True,
    )


def old_name(tf, directory):
    estimator = make_estimator(tf, directory, plain_model(tf))
    return estimator.export_savedmodel(directory + "/export", raw_receiver(tf))


def given_checkpoint(tf, directory):
    other = os.path.join(directory, "other")
    os.makedirs(other)
    write_checkpoint(tf, other, {"w": -W})
    estimator = make_estimator(tf, directory, plain_model(tf))
    return estimator.export_saved_model(
        directory + "/export",
        raw_receiver(tf),
        checkpoint_path=os.path.join(other, "model.ckpt-%d" % STEP),
    )


def estimator_for_tpu(tf, directory):
    from tensorflow_estimator.python.estimator.tpu import tpu_estimator

    def model_fn(features, labels, mode, params):
        return plain_model(tf)(features, labels, mode)

    write_checkpoint(tf, directory)
    estimator = tf.estimator.Estimator(model_fn, directory, params={})
    return tpu_estimator.export_estimator_savedmodel(
        estimator, directory + "/export", raw_receiver(tf)
    )


def version_2_by_model_fn(tf, directory):
    from tensorflow_estimator.python.estimator.tpu import tpu_estimator

    batch = tpu_estimator.BatchConfig(
        num_batch_threads=2,
        max_batch_size=4,
        batch_timeout_micros=100,
        allowed_batch_sizes=[2, 4],
        max_enqueued_batches=10,
    )
    inner = tpu_model(tf)

    def model_fn(features, labels, mode, params):
        if not params["use_tpu"]:
            return inner(features, labels, mode, params)
        return tpu_estimator.model_fn_inference_on_tpu(inner, features, labels, mode, params, batch)

    estimator = make_tpu_estimator(tf, directory, model_fn, export_saved_model_api_version=2)
    return estimator.export_saved_model(directory + "/export", raw_receiver(tf))


def version_2_by_computation(tf, directory):
    """One part on the cores, unbatched; another around it on the host."""
    from tensorflow_estimator.python.estimator.tpu import tpu_estimator

    def model_fn(features, labels, mode, params):
        def computation(x):
            return logits_of(tf, x)

        doubled = features["x"] * 2
        if params["use_tpu"]:
            (logits,) = tpu_estimator.inference_on_tpu(
                computation,
                [doubled],
                num_batch_threads=1,
                max_batch_size=None,
                batch_timeout_micros=100,
            )
        else:
            logits = computation(doubled)
        logits = tf.identity(logits, name="outer")
        return tf.estimator.tpu.TPUEstimatorSpec(mode, predictions={"logits": logits})

    estimator = make_tpu_estimator(
        tf,
        directory,
        model_fn,
        export_saved_model_api_version=tpu_estimator.ExportSavedModelApiVersion.V2,
    )
    return estimator.export_saved_model(directory + "/export", raw_receiver(tf))


CASES = [
    predictions_alone,
    every_output_of_examples,
    every_output_of_numbers,
    every_output_for_tpu,
    alternative_feeds,
    tensor_features,
    sparse_features,
    unreachable_placeholder,
    all_modes_of_a_tpu_estimator,
    all_modes_of_an_estimator,
    evaluation_alone,
    own_local_init_op,
    averages_in_place_of_variables,
    vocabulary_and_extra_assets,
    old_name,
    given_checkpoint,
    estimator_for_tpu,
    version_2_by_model_fn,
    version_2_by_computation,
]


# --- what an export holds


def read_saved_model(path):
    from google.protobuf import text_format
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = saved_model_pb2.SavedModel()
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        with open(os.path.join(path, "saved_model.pb"), "rb") as file:
            saved_model.ParseFromString(file.read())
    else:
        with open(os.path.join(path, "saved_model.pbtxt")) as file:
            text_format.Parse(file.read(), saved_model)
    return saved_model


def describe(tf, path):
    """Gives what is in a SavedModel as plain values: all that two TensorFlows would write alike."""
    path = path.decode() if isinstance(path, bytes) else path
    reader = tf.train.load_checkpoint(os.path.join(path, "variables", "variables"))
    found = [
        os.path.relpath(os.path.join(directory, name), path)
        for directory, _, names in os.walk(path)
        for name in names
    ]
    graphs = read_saved_model(path).meta_graphs
    return {
        "parent": os.path.basename(os.path.dirname(path)),
        "files": sorted(found),
        "variables": {
            name: np.asarray(reader.get_tensor(name)).tolist()
            for name in sorted(reader.get_variable_to_shape_map())
        },
        "graphs": [_describe_graph(tf, graph) for graph in graphs],
    }


def _describe_graph(tf, graph):
    nodes = [
        *graph.graph_def.node,
        *(node for function in graph.graph_def.library.function for node in function.node_def),
    ]
    return {
        "tags": sorted(graph.meta_info_def.tags),
        "strips_defaults": graph.meta_info_def.stripped_default_attrs,
        "signatures": {
            name: {
                "method": signature.method_name,
                "inputs": _describe_tensors(tf, signature.inputs),
                "outputs": _describe_tensors(tf, signature.outputs),
            }
            for name, signature in graph.signature_def.items()
        },
        "collections": {
            name: len(collection.node_list.value) + len(collection.bytes_list.value)
            for name, collection in graph.collection_def.items()
        },
        "train_op": list(graph.collection_def["saved_model_train_op"].node_list.value),
        "main_op": list(graph.collection_def["saved_model_main_op"].node_list.value),
        "assets": [[a.filename, a.tensor_info.name] for a in graph.asset_file_def],
        "restore": [graph.saver_def.restore_op_name, graph.saver_def.filename_tensor_name],
        "of_tpus": sorted({n.op for n in nodes if "TPU" in n.op or "Batch" in n.op}),
        "devices": sorted({n.device for n in nodes if n.device}),
    }


def _describe_tensors(tf, infos):
    described = {}
    for name, info in infos.items():
        shape = None
        if not info.tensor_shape.unknown_rank:
            shape = [dim.size for dim in info.tensor_shape.dim]
        tensors = info.name or [
            info.coo_sparse.indices_tensor_name,
            info.coo_sparse.values_tensor_name,
            info.coo_sparse.dense_shape_tensor_name,
        ]
        described[name] = [tensors, tf.as_dtype(info.dtype).name, shape]
    return described


def main():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow

    tf = tensorflow.compat.v1
    tf.logging.set_verbosity(tf.logging.ERROR)
    recorded = {}
    for case in sys.argv[1:] and [c for c in CASES if c.__name__ in sys.argv] or CASES:
        with tempfile.TemporaryDirectory() as directory, tf.Graph().as_default():
            recorded[case.__name__] = describe(tf, case(tf, directory))
    version = "tf" + "".join(tensorflow.__version__.split(".")[:2])
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "exports_%s.json" % version), "w") as file:
        json.dump(recorded, file, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
