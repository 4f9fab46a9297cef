"""What an `input_fn` may give, and how it is called: every example reaches the model once and in order."""

import collections
import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from input_models import (
    BATCH_SIZE,
    IDS,
    NUM_EXAMPLES,
    Recorder,
    batches_of_ids,
    echo_model,
    live_threads,
    make_estimator,
)
from models import CPU, EIGHT_CORES, ONE_CORE, TWO_CORES, simulation

import tpuest
from tpuest import InputPipelineConfig, ModeKeys, _tf, pipeline

Point = collections.namedtuple("Point", ["x", "id"])

on_cpu_and_cores = pytest.mark.parametrize("num_cores", [CPU, TWO_CORES])
on_cpu_and_one_and_two_cores = pytest.mark.parametrize("num_cores", [CPU, ONE_CORE, TWO_CORES])


def ids_in_batches(batch_size=BATCH_SIZE, num_epochs=1):
    return [IDS[i : i + batch_size].tolist() for i in range(0, NUM_EXAMPLES, batch_size)] * (
        num_epochs
    )


def v1_dataset(params):
    dataset = tf.data.Dataset.from_tensor_slices((IDS, IDS))
    assert isinstance(dataset, tf.compat.v1.data.Dataset)
    return dataset.batch(params["batch_size"], drop_remainder=True)


def v2_dataset(params):
    dataset = tf2.data.Dataset.from_tensor_slices((IDS, IDS))
    return dataset.batch(params["batch_size"], drop_remainder=True)


def tables(params):
    """Looks ids up in a static table inside a map function, and in one outside of it."""
    names = tf.constant([f"id {i}" for i in IDS])
    lookup = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(names, tf.constant(IDS)), -1
    )
    dataset = tf.data.Dataset.from_tensor_slices([f"id {i}" for i in IDS])
    dataset = dataset.map(lambda name: (lookup.lookup(name), lookup.lookup(name)))
    return dataset.batch(params["batch_size"], drop_remainder=True)


def old_table(params):
    """Looks ids up as TF 1 did, in a table that the session initialises."""
    table = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant([f"id {i}" for i in IDS]), tf.constant(IDS, tf.int64), tf.string, tf.int64
        ),
        num_oov_buckets=1,
    )
    dataset = tf.data.Dataset.from_tensor_slices([f"id {i}" for i in IDS])
    dataset = dataset.map(table.lookup).batch(params["batch_size"], drop_remainder=True)
    return dataset.map(lambda ids: (ids, ids))


def generator(params):
    def examples():
        for i in IDS:
            yield {"id": i}, i

    dataset = tf.data.Dataset.from_generator(
        examples, output_types=({"id": tf.int32}, tf.int32), output_shapes=({"id": []}, [])
    )
    return dataset.batch(params["batch_size"], drop_remainder=True)


def py_function(params):
    def load(i):
        loaded = tf.py_function(lambda i: i.numpy() * 1, [i], tf.int32)
        loaded.set_shape([])
        return {"id": loaded}, i

    dataset = tf.data.Dataset.from_tensor_slices(IDS).map(load)
    return dataset.batch(params["batch_size"], drop_remainder=True)


def py_func(params):
    def load(i):
        loaded = tf.py_func(lambda i: i, [i], tf.int32)
        loaded.set_shape([])
        return {"id": loaded}, i

    dataset = tf.data.Dataset.from_tensor_slices(IDS).map(load)
    return dataset.batch(params["batch_size"], drop_remainder=True)


def interleave_prefetch_options(params):
    dataset = tf.data.Dataset.range(3).interleave(
        lambda block: tf.data.Dataset.range(block * 4, block * 4 + 4),
        cycle_length=1,
        block_length=4,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    dataset = dataset.map(lambda i: (i, i), num_parallel_calls=2)
    dataset = dataset.batch(params["batch_size"], drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = 1
    return dataset.with_options(options)


def map_and_batch(params):
    dataset = tf.data.Dataset.from_tensor_slices(IDS)
    return dataset.apply(
        tf.data.experimental.map_and_batch(
            lambda i: ({"id": i}, i), params["batch_size"], drop_remainder=True
        )
    )


def function_of_tf(params):
    @tf.function
    def example(i):
        return tf.cond(i % 2 > 0, lambda: (i + 0, i), lambda: (i * 1, i))

    dataset = tf.data.Dataset.from_tensor_slices(IDS).map(example)
    return dataset.batch(params["batch_size"], drop_remainder=True)


def tensors_of_a_dataset(params):
    return v1_dataset(params).make_one_shot_iterator().get_next()


def dict_of_a_dataset(params):
    features, labels = batches_of_ids(params).make_one_shot_iterator().get_next()
    return features, labels


def computed_tensors(params):
    """Goes on computing after `get_next`, with ops of the graph."""
    ids, labels = v1_dataset(params).make_one_shot_iterator().get_next()
    doubled = ids + tf.constant(1) - tf.ones_like(ids)
    return {"id": doubled}, labels


def initializable_iterator_in_tables(params):
    """Has the session initialise the iterator, as tensor2tensor and others do."""
    iterator = tf.data.make_initializable_iterator(v1_dataset(params))
    tf.add_to_collection(tf.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    return iterator.get_next()


def features_only(params):
    return v1_dataset(params).map(lambda features, labels: features)


def dict_only(params):
    return batches_of_ids(params).map(lambda features, labels: features)


def nested(params):
    return v1_dataset(params).map(
        lambda ids, labels: ({"a": {"id": ids, "x": tf.cast(ids, tf.float32)}}, {"b": labels})
    )


def tuples(params):
    return v1_dataset(params).map(lambda ids, labels: ((tf.zeros_like(ids), ids), (labels, labels)))


def namedtuples(params):
    return v1_dataset(params).map(
        lambda ids, labels: (Point(tf.cast(ids, tf.float32), ids), labels)
    )


def no_labels(params):
    ids, _ = tensors_of_a_dataset(params)
    return {"id": ids}, None


def of(*path):
    """Finds the ids at a path in the features."""

    def find_ids(features, labels):
        for key in path:
            features = (
                getattr(features, key)
                if isinstance(key, str) and hasattr(features, key)
                else features[key]
            )
        return features

    return find_ids


# Name to input_fn, and where the ids are.
INPUTS = {
    "a version 1 dataset": (v1_dataset, of()),
    "a version 2 dataset": (v2_dataset, of()),
    "a dataset of dicts": (batches_of_ids, of("id")),
    "lookup tables": (tables, of()),
    "a vocabulary table": (old_table, of()),
    "a generator": (generator, of("id")),
    "py_function": (py_function, of("id")),
    "py_func": (py_func, of("id")),
    "interleave, prefetch, options": (interleave_prefetch_options, of()),
    "map_and_batch": (map_and_batch, of("id")),
    "a tf.function with tf.cond": (function_of_tf, of()),
    "tensors": (tensors_of_a_dataset, of()),
    "a dict of tensors": (dict_of_a_dataset, of("id")),
    "computed tensors": (computed_tensors, of("id")),
    "an initialisable iterator": (initializable_iterator_in_tables, of()),
    "features only": (features_only, of()),
    "a dict of features only": (dict_only, of("id")),
    "nested dicts": (nested, of("a", "id")),
    "tuples": (tuples, of(1)),
    "namedtuples": (namedtuples, of("id")),
    "labels that are None": (no_labels, of("id")),
}
# Those that the cores' pipelines treat differently; the others differ before that, in what CPU tests show.
KINDS = ["a version 1 dataset", "computed tensors", "a dict of features only", "nested dicts"]
KINDS += ["namedtuples", "labels that are None"]

every_input = pytest.mark.parametrize("name", INPUTS)


@on_cpu_and_cores
@every_input
def test_training_ends_with_the_data_after_every_example(tmp_path, name, num_cores):
    input_fn, find_ids = INPUTS[name]
    recorder = Recorder()
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(recorder, find_ids), num_cores)
        estimator.train(input_fn)
    assert recorder.batches == ids_in_batches()
    assert estimator.get_variable_value("global_step") == NUM_EXAMPLES // BATCH_SIZE


@pytest.mark.parametrize(
    ("name", "num_cores"),
    [*((name, CPU) for name in INPUTS), *((name, TWO_CORES) for name in KINDS)],
)
def test_evaluation_and_prediction_see_every_example(tmp_path, name, num_cores):
    input_fn, find_ids = INPUTS[name]
    recorder = Recorder()
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(recorder, find_ids), num_cores)
        estimator.evaluate(input_fn)
        predictions = list(estimator.predict(input_fn))
    assert recorder.batches == ids_in_batches()
    assert [one["id"] for one in predictions] == IDS.tolist()


@on_cpu_and_cores
def test_every_call_of_train_calls_input_fn_anew(tmp_path, num_cores):
    recorder, calls = Recorder(), []

    def input_fn(params):
        calls.append(params["batch_size"])
        return batches_of_ids(params)

    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(recorder), num_cores)
        estimator.train(input_fn, steps=2)
        estimator.train(input_fn, steps=2)
    assert calls == [BATCH_SIZE] * 2
    assert recorder.batches == ids_in_batches()[:2] * 2


# --- datasets made outside of input_fn


@on_cpu_and_cores
def test_a_dataset_made_eagerly_outside_of_input_fn_is_read(tmp_path, num_cores):
    dataset = tf2.data.Dataset.from_tensor_slices(({"id": IDS}, IDS)).batch(4, drop_remainder=True)
    recorder = Recorder()
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(recorder), num_cores)
        estimator.train(lambda params: dataset)
        predictions = list(estimator.predict(lambda params: dataset))
    assert recorder.batches == ids_in_batches()
    assert [one["id"] for one in predictions] == IDS.tolist()


# --- random numbers

# What tensorflow-estimator 2.15.0 under TF 2.15.1 gives, with tf_random_seed=1.
SHUFFLED_BY_THE_ORIGINAL = [
    9,
    5,
    7,
    8,
    1,
    3,
    10,
    6,
    4,
    11,
    2,
    0,
    4,
    8,
    7,
    6,
    3,
    1,
    11,
    10,
    5,
    0,
    9,
    2,
]
RANDOM_BY_THE_ORIGINAL = [32, 503, 326, 276, 910, 763, 347, 584, 304, 493, 414, 943]


def shuffled(params):
    dataset = tf.data.Dataset.from_tensor_slices((IDS, IDS)).shuffle(NUM_EXAMPLES, seed=5).repeat(2)
    return dataset.batch(params["batch_size"], drop_remainder=True)


@pytest.mark.parametrize("num_cores", [CPU, ONE_CORE, TWO_CORES])
def test_a_seeded_shuffle_gives_the_originals_order(tmp_path, num_cores):
    with simulation(num_cores):
        assert trained_ids(tmp_path, shuffled, 1, num_cores) == SHUFFLED_BY_THE_ORIGINAL


def random_by_graph_seed(params):
    dataset = tf.data.Dataset.from_tensor_slices(IDS)
    dataset = dataset.map(lambda i: tf.random.uniform([], 0, 1000, tf.int32))
    return dataset.batch(params["batch_size"], drop_remainder=True)


def trained_ids(model_dir, input_fn, seed, num_cores=CPU):
    recorder = Recorder()
    config = tpuest.RunConfig(model_dir=str(model_dir), tf_random_seed=seed)
    estimator = tpuest.TPUEstimator(
        echo_model(recorder),
        config=config,
        use_tpu=num_cores is not CPU,
        train_batch_size=BATCH_SIZE,
    )
    estimator.train(input_fn)
    return recorder.ids


@pytest.mark.filterwarnings("ignore:Seed .* from outer graph:UserWarning")
def test_random_numbers_in_a_dataset_follow_the_seed_of_the_config(tmp_path):
    first = trained_ids(tmp_path / "first", random_by_graph_seed, seed=1)
    again = trained_ids(tmp_path / "again", random_by_graph_seed, seed=1)
    other = trained_ids(tmp_path / "other", random_by_graph_seed, seed=2)
    assert first == again == RANDOM_BY_THE_ORIGINAL
    assert first != other


# --- files


def write_records(path):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in IDS:
            feature = {
                "id": tf.train.Feature(int64_list=tf.train.Int64List(value=[i])),
                "word": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"word %d" % i])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


@on_cpu_and_cores
def test_examples_are_parsed_from_tfrecords(tmp_path, num_cores):
    write_records(tmp_path / "examples.tfrecord")

    def input_fn(params):
        dataset = tf.data.TFRecordDataset([str(tmp_path / "examples.tfrecord")])
        dataset = dataset.batch(params["batch_size"], drop_remainder=True)
        return dataset.map(
            lambda batch: tf.io.parse_example(batch, {"id": tf.io.FixedLenFeature([], tf.int64)})
        )

    recorder = Recorder()
    with simulation(num_cores):
        make_estimator(tmp_path / "model", echo_model(recorder), num_cores).train(input_fn)
    assert recorder.batches == ids_in_batches()


# --- tensors that a session must start


class InitializeIterator(tf.train.SessionRunHook):
    """Initialises an iterator over placeholders, as canned NumPy pipelines do."""

    def __init__(self):
        self.iterator = None
        self.placeholder = None

    def input_fn(self, params):
        self.placeholder = tf.placeholder(tf.int32, [None])
        dataset = tf.data.Dataset.from_tensor_slices((self.placeholder, self.placeholder))
        dataset = dataset.batch(params["batch_size"], drop_remainder=True)
        self.iterator = tf.data.make_initializable_iterator(dataset)
        return self.iterator.get_next()

    def after_create_session(self, session, coord):
        session.run(self.iterator.initializer, feed_dict={self.placeholder: IDS})


@on_cpu_and_one_and_two_cores
def test_a_hook_initialises_an_iterator_with_fed_data(tmp_path, num_cores):
    recorder, hook = Recorder(), InitializeIterator()
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(recorder), num_cores)
        estimator.train(hook.input_fn, hooks=[hook])
    assert recorder.batches == ids_in_batches()


@on_cpu_and_cores
def test_evaluation_and_prediction_run_the_hook_too(tmp_path, num_cores):
    recorder, hook = Recorder(), InitializeIterator()
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(recorder), num_cores)
        estimator.evaluate(hook.input_fn, hooks=[hook])
        predictions = list(estimator.predict(hook.input_fn, hooks=[hook]))
    assert recorder.batches == ids_in_batches()
    assert [one["id"] for one in predictions] == IDS.tolist()


def queue_of_slices(params):
    """Feeds by queue runners, as programs did before tf.data."""
    ids, labels = tf.train.slice_input_producer(
        [tf.constant(IDS), tf.constant(IDS)], num_epochs=1, shuffle=False
    )
    return tf.train.batch([ids, labels], params["batch_size"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@on_cpu_and_one_and_two_cores
def test_queue_runners_feed_until_their_last_epoch(tmp_path, num_cores):
    recorder = Recorder()
    before = live_threads()
    with simulation(num_cores):
        make_estimator(tmp_path, echo_model(recorder), num_cores).train(queue_of_slices)
    assert recorder.batches == ids_in_batches()
    assert live_threads() == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_queues_that_feed_cores_are_told_of_and_refused_in_a_loop_of_the_graph(tmp_path, caplog):
    with simulation(TWO_CORES), tpuest.installed():
        from tensorflow_estimator.python.estimator.tpu import tpu_estimator

        make_estimator(tmp_path, echo_model(), TWO_CORES).train(queue_of_slices)
        assert "Input pipeline contains one or more QueueRunners" in caplog.text
        tpu_estimator._WRAP_INPUT_FN_INTO_WHILE_LOOP = True
        with pytest.raises(RuntimeError, match="contains one or more QueueRunners"):
            make_estimator(tmp_path, echo_model(), TWO_CORES).train(queue_of_slices)


def test_one_shot_iterators_tune_nothing_and_shift_no_seeds():
    def make_graph(scope):
        graph = tf.Graph()
        with graph.as_default(), scope:
            tf.data.make_one_shot_iterator(tf.data.Dataset.range(3).map(lambda i: i)).get_next()
        functions = graph.as_graph_def().library.function
        options = [n for f in functions for n in f.node_def if n.op == "OptionsDataset"]
        return len(graph.get_operations()), len(options)

    untuned = make_graph(_tf.one_shot_iterators_without_autotuning())
    plain = make_graph(contextlib.nullcontext())
    assert (untuned[0], untuned[1]) == (plain[0], plain[1] + 1)


@pytest.mark.parametrize("host_id, expected", [(0, [0, 1, 4, 5]), (1, [2, 3, 6, 7])])
def test_a_host_of_two_takes_its_cores_part_of_a_stream_for_all(host_id, expected):
    stream = tf2.data.Dataset.range(8).map(lambda i: (i,))
    part = pipeline.stream_of_host(stream, host_id, num_hosts=2, per_host=2)
    assert [int(batch[0]) for batch in part] == expected


@on_cpu_and_cores
def test_constant_tensors_are_the_same_batch_at_every_step(tmp_path, num_cores):
    recorder = Recorder()

    def input_fn(params):
        return {"id": tf.constant(IDS[: params["batch_size"]])}, tf.constant(IDS[:4])

    with simulation(num_cores):
        make_estimator(tmp_path, echo_model(recorder), num_cores).train(input_fn, steps=3)
    assert recorder.batches == [IDS[:4].tolist()] * 3


@on_cpu_and_cores
def test_arrays_are_constant_tensors(tmp_path, num_cores):
    recorder = Recorder()
    with simulation(num_cores):
        estimator = make_estimator(tmp_path, echo_model(recorder), num_cores)
        estimator.train(lambda params: ({"id": IDS[:4], "x": np.zeros([4])}, IDS[:4]), steps=2)
    assert recorder.batches == [IDS[:4].tolist()] * 2


def flat_images(params):
    """Gives images with the examples innermost and all in one dimension, as programs do to spare a TPU the work."""

    def flatten(ids):
        images = tf.tile(ids[:, tf.newaxis], [1, 3])
        return tf.reshape(tf.transpose(images), [3 * params["batch_size"]]), ids

    dataset = tf.data.Dataset.from_tensor_slices(IDS)
    return dataset.batch(params["batch_size"], drop_remainder=True).map(flatten)


def ids_of_flat_images(images, labels):
    ids = tf.reshape(images, [3, -1])[2]
    return ids if labels is None else tf.where(tf.equal(ids, labels), ids, -tf.ones_like(ids))


@pytest.mark.parametrize("mode", [ModeKeys.TRAIN, ModeKeys.EVAL])
def test_tensors_of_a_core_batch_may_have_their_own_first_dimensions(tmp_path, mode):
    recorder = Recorder()
    tpu = {"per_host_input_for_training": InputPipelineConfig.PER_HOST_V2}
    with simulation(TWO_CORES):
        estimator = make_estimator(
            tmp_path, echo_model(recorder, ids_of_flat_images), TWO_CORES, tpu=tpu
        )
        if mode == ModeKeys.TRAIN:
            estimator.train(flat_images)
        else:
            estimator.evaluate(flat_images)
    assert recorder.batches == ids_in_batches()


@pytest.mark.parametrize("num_cores", [TWO_CORES, EIGHT_CORES])
def test_each_core_may_have_an_iterator_of_its_own(tmp_path, num_cores):
    """PER_SHARD_V1, where the original takes tensors only."""
    recorder = Recorder()

    def input_fn(params):
        _, index, num_calls, _ = params["context"].current_input_fn_deployment()
        dataset = tf.data.Dataset.from_tensor_slices(np.arange(4, dtype=np.int32))
        dataset = dataset.map(lambda i: i * num_calls + index).batch(
            params["batch_size"], drop_remainder=True
        )
        return dataset.make_one_shot_iterator().get_next(), tf.zeros([params["batch_size"]])

    with simulation(num_cores):
        estimator = make_estimator(
            tmp_path,
            echo_model(recorder),
            num_cores,
            num_cores,
            {"per_host_input_for_training": InputPipelineConfig.PER_SHARD_V1},
        )
        estimator.train(input_fn)
    assert recorder.batches == np.arange(4 * num_cores).reshape([4, num_cores]).tolist()


# --- off the cores: any type and any shape


def strings(params):
    dataset = tf.data.Dataset.from_tensor_slices(({"word": [f"{i}" for i in IDS]}, IDS))
    return dataset.batch(params["batch_size"])


def sparse(params):
    def example(i):
        return tf.SparseTensor([[tf.cast(i, tf.int64)]], [i + 1], [NUM_EXAMPLES]), i

    return tf.data.Dataset.from_tensor_slices(IDS).map(example).batch(params["batch_size"])


def sparse_tensors(params):
    return tf.data.make_one_shot_iterator(sparse(params)).get_next()


def ragged(params):
    dataset = tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[i] * (i + 1) for i in IDS]))
    return dataset.batch(params["batch_size"]).map(lambda rows: (rows, tf.zeros([])))


def scalars(params):
    return tf.data.Dataset.from_tensor_slices(({"id": IDS}, IDS))


def eager_sparse(params):
    with tf2.init_scope():
        dataset = sparse({"batch_size": params["batch_size"]})
    return dataset


HOST_INPUTS = {
    "strings": (strings, lambda f, _: tf.strings.to_number(f["word"], tf.int32)),
    "sparse tensors of a dataset": (sparse, lambda f, _: f.values - 1),
    "sparse tensors": (sparse_tensors, lambda f, _: f.values - 1),
    "sparse tensors of an eager dataset": (eager_sparse, lambda f, _: f.values - 1),
    "ragged tensors": (ragged, lambda f, _: tf.cast(tf.reduce_max(f, axis=1), tf.int32)),
    "examples without batch": (scalars, lambda f, _: tf.reshape(f["id"], [1])),
}


@pytest.mark.parametrize("name", HOST_INPUTS)
def test_off_the_cores_any_tensor_reaches_the_model(tmp_path, name):
    input_fn, find_ids = HOST_INPUTS[name]
    recorder = Recorder()
    estimator = make_estimator(tmp_path, echo_model(recorder, find_ids), batch_size=5)
    estimator.train(input_fn)
    estimator.evaluate(input_fn)
    predictions = list(estimator.predict(input_fn))
    assert recorder.ids == IDS.tolist() * 2
    assert [one["id"] for one in predictions] == IDS.tolist()


@pytest.mark.parametrize("name", ["a version 2 dataset", "tensors", "nested dicts"])
def test_off_the_cores_the_last_batch_may_be_smaller(tmp_path, name):
    input_fn, find_ids = INPUTS[name]
    recorder = Recorder()
    model_fn = echo_model(recorder, find_ids)
    params_of_five = lambda params: input_fn({"batch_size": 5})
    estimator = make_estimator(tmp_path, model_fn)
    estimator.train(params_of_five)
    assert recorder.batches == ids_in_batches(5)[:2]


# --- how input_fn is called


class Callable:
    def __call__(self, params, mode, config):
        assert isinstance(config, tpuest.RunConfig)
        return batches_of_ids(params)

    def method(self, params):
        return batches_of_ids(params)


def with_mode_and_config(params, mode, config):
    assert mode == ModeKeys.TRAIN
    assert config.save_checkpoints_steps == 1000
    return batches_of_ids(params)


def with_keywords(**arguments):
    assert sorted(arguments) == ["params"]
    return batches_of_ids(arguments["params"])


def with_defaults(params, mode=None, shuffle=False):
    assert mode == ModeKeys.TRAIN
    assert shuffle is False
    return batches_of_ids(params)


def with_a_size(size, params):
    assert size == "large"
    return batches_of_ids(params)


def decorated(function):
    @functools.wraps(function)
    def wrapper(*arguments, **keywords):
        return function(*arguments, **keywords)

    return wrapper


SIGNATURES = {
    "params": batches_of_ids,
    "params, mode, config": with_mode_and_config,
    "a callable object": Callable(),
    "a bound method": Callable().method,
    "a partial": functools.partial(with_a_size, "large"),
    "a partial with keywords": functools.partial(with_a_size, size="large"),
    "a lambda": lambda params: batches_of_ids(params),
    "no arguments": lambda: batches_of_ids({"batch_size": BATCH_SIZE}),
    "keyword arguments": with_keywords,
    "defaults": with_defaults,
    "decorated": decorated(with_mode_and_config),
    "keyword only": lambda *, params: batches_of_ids(params),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_input_fn_gets_the_arguments_it_declares(tmp_path, name):
    recorder = Recorder()
    make_estimator(tmp_path, echo_model(recorder)).train(SIGNATURES[name], steps=1)
    assert recorder.batches == ids_in_batches()[:1]


def test_input_fn_changes_only_its_own_params_and_config(tmp_path):
    given = {"list": [1]}
    seen = []

    def input_fn(params, config):
        seen.append((params["list"][:], config.model_dir))
        params["list"].append(2)
        params["batch_size"] = 2
        config._model_dir = "elsewhere"
        return batches_of_ids({"batch_size": BATCH_SIZE})

    estimator = make_estimator(tmp_path, echo_model(), params=given)
    given["list"].append(3)
    estimator.train(input_fn, steps=1)
    estimator.train(input_fn, steps=1)
    assert seen == [([1], str(tmp_path))] * 2
    assert estimator.params == {"list": [1]}
    assert estimator.model_dir == str(tmp_path)
    assert given == {"list": [1, 3]}


def test_input_fn_runs_on_the_host_and_in_the_graph_of_the_model(tmp_path):
    seen = []

    def input_fn(params):
        seen.append((tf.executing_eagerly(), tf.constant(0).device, tf.get_default_graph()))
        return batches_of_ids(params)

    def find_ids(features, labels):
        assert tf.get_default_graph() is seen[-1][2]
        return features["id"]

    make_estimator(tmp_path, echo_model(None, find_ids)).train(input_fn, steps=1)
    ((executes_eagerly, device, _),) = seen
    assert not executes_eagerly
    assert "CPU:0" in device.upper()


def test_input_fn_may_read_the_global_step(tmp_path):
    recorder = Recorder()

    def input_fn(params):
        step = tf.cast(tf.train.get_global_step(), tf.int32)
        return {"id": tf.fill([4], step)}, tf.constant(IDS[:4])

    make_estimator(tmp_path, echo_model(recorder)).train(input_fn, steps=3)
    assert recorder.batches == [[0] * 4, [1] * 4, [2] * 4]
