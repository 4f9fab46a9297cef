"""TPU embeddings on simulated cores: tables beside the model, with an optimizer of their own."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from models import simulation

import tpuest
from tpuest import InputPipelineConfig, ModeKeys, TPUConfig, TPUEstimatorSpec, embedding_updates
from tpuest import embedding_config as config
from tpuest.compat.feature_layers import DenseFeatures, SequenceFeatures

TOLERANCE = 1e-6  # float32, summed in another order
NUM_ROWS, DIMENSION, RATE = 6, 2, 0.5
# Of each example the ids; the last has none.
IDS = [[0], [1, 2], [2], [2, 3, 4], [5, 1], [0], [4], []]
LABELS = np.arange(8, dtype=np.float32)[:, None]
WEIGHTS = [[1.0], [2.0, 0.5], [1.0], [1.0, 1.0, 3.0], [1.0, 1.0], [2.0], [1.0], []]


def sparse(rows, dtype):
    indices = [[i, j] for i, row in enumerate(rows) for j in range(len(row))]
    values = np.array([value for row in rows for value in row], dtype)
    return tf.SparseTensor(indices, values, [len(rows), max(map(len, rows))])


def input_fn(params, **more_features):
    """Gives the examples in order, again and again."""
    features = {"x": sparse(IDS, np.int64), **more_features}
    dataset = tf.data.Dataset.from_tensor_slices((features, LABELS)).repeat()
    return dataset.batch(params["batch_size"], drop_remainder=True)


def columns(**settings):
    column = tf.feature_column.categorical_column_with_identity("x", NUM_ROWS)
    ones = tf.ones_initializer()
    return [tf.tpu.experimental.embedding_column(column, DIMENSION, initializer=ones, **settings)]


def spec_of(parameters=None, feature_columns=None, **settings):
    parameters = parameters or config.StochasticGradientDescentParameters(RATE)
    return config.EmbeddingConfigSpec(
        feature_columns or columns(), optimization_parameters=parameters, **settings
    )


def loss_of(embedded, labels):
    """Weighs the columns by 1 and 2, so that gradients differ."""
    outputs = tf.reduce_sum(embedded * [[1.0, 2.0]], axis=1, keepdims=True)
    return outputs, tf.reduce_mean(tf.square(outputs - labels))


def model_of(embed):
    """Gives a `model_fn` whose outputs are made of the embedding alone; the model's optimizer leaves it alone."""

    def model_fn(features, labels, mode, params):
        outputs, loss = loss_of(embed(features), 0.0 if labels is None else labels)
        if mode == ModeKeys.PREDICT:
            return TPUEstimatorSpec(mode, predictions={"outputs": outputs})
        optimizer = tf.train.GradientDescentOptimizer(RATE)
        if params["use_tpu"]:
            optimizer = tf.tpu.CrossShardOptimizer(optimizer)
        train_op = optimizer.minimize(loss, tf.train.get_global_step())
        return TPUEstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def make_estimator(model_dir, spec, use_tpu=True, embed=None, deployment=None, **run_config):
    feature_columns = spec.feature_columns
    deployment = deployment or InputPipelineConfig.PER_HOST_V1
    config_of_run = tpuest.RunConfig(
        model_dir=str(model_dir),
        save_summary_steps=0,
        tpu_config=TPUConfig(2, per_host_input_for_training=deployment),
        **run_config,
    )
    return tpuest.TPUEstimator(
        model_of(embed or (lambda features: DenseFeatures(feature_columns)(features))),
        config=config_of_run,
        use_tpu=use_tpu,
        train_batch_size=4,
        eval_batch_size=4,
        predict_batch_size=4,
        embedding_config_spec=spec,
    )


TABLE = "dense_features/x_embedding/embedding_weights"


def trained_in_numpy(num_steps, rate=RATE, combine=np.mean, multiply=1.0):
    """Computes gradient descent on the table alone."""
    table = np.ones([NUM_ROWS, DIMENSION])
    columns_weights = np.array([1.0, 2.0])
    for step in range(num_steps):
        gradient = np.zeros_like(table)
        for i in [(4 * step + k) % 8 for k in range(4)]:
            if not IDS[i]:
                continue
            share = combine(np.eye(NUM_ROWS)[IDS[i]], axis=0)
            error = share @ table @ columns_weights - LABELS[i, 0]
            gradient += 2 * error / 4 * np.outer(share, columns_weights)
        table = table - rate * multiply * gradient
    return table


@pytest.mark.parametrize("deployment", ["PER_HOST_V1", "PER_HOST_V2"])
@pytest.mark.parametrize("num_cores", [1, 2])
def test_tables_are_trained_by_their_own_optimizer(tmp_path, num_cores, deployment):
    with simulation(num_cores):
        estimator = make_estimator(
            tmp_path, spec_of(), deployment=getattr(InputPipelineConfig, deployment)
        )
        estimator.train(input_fn, steps=3)
    np.testing.assert_allclose(
        estimator.get_variable_value(TABLE), trained_in_numpy(3), atol=10 * TOLERANCE
    )


def test_without_a_tpu_the_models_optimizer_trains_the_columns(tmp_path):
    estimator = make_estimator(tmp_path, spec_of(), use_tpu=False)
    estimator.train(input_fn, steps=3)
    np.testing.assert_allclose(
        estimator.get_variable_value(TABLE), trained_in_numpy(3), atol=10 * TOLERANCE
    )


def test_gradients_may_be_multiplied_and_the_rate_be_learnt_from_the_step(tmp_path):
    def rate(global_step):
        return 0.1 / tf.cast(global_step + 1, tf.float32)

    spec = spec_of(
        feature_columns=columns(learning_rate_fn=rate),
        experimental_gradient_multiplier_fn=lambda step: 3.0,
    )
    with simulation(2):
        estimator = make_estimator(tmp_path, spec)
        estimator.train(input_fn, steps=1)
    expected = trained_in_numpy(1, rate=0.1, multiply=3.0)
    np.testing.assert_allclose(estimator.get_variable_value(TABLE), expected, atol=TOLERANCE)


def test_evaluation_and_prediction_look_up_what_was_trained(tmp_path):
    with simulation(2):
        estimator = make_estimator(tmp_path, spec_of(config.AdagradParameters(0.1)))
        estimator.train(input_fn, steps=2)
        table = estimator.get_variable_value(TABLE)
        expected = [np.mean(table[ids], 0) @ [1, 2] if ids else 0.0 for ids in IDS]

        def examples(params):
            return input_fn(params).take(2)

        outputs = [p["outputs"][0] for p in estimator.predict(examples)]
        np.testing.assert_allclose(outputs, expected, atol=TOLERANCE)
        results = estimator.evaluate(examples)
    loss = np.mean(np.square(np.array(expected) - LABELS[:, 0]))
    assert results["loss"] == pytest.approx(loss, rel=1e-5)
    assert f"{TABLE}/Adagrad" in estimator.get_variable_names()


def first_seven(params):
    """Gives seven examples: the last batch is smaller than that of the cores, and than that of one core."""
    dataset = tf.data.Dataset.from_tensor_slices(({"x": sparse(IDS[:7], np.int64)}, LABELS[:7]))
    return dataset.batch(params["batch_size"])


def test_a_last_smaller_batch_counts_exactly(tmp_path):
    with simulation(2):
        estimator = make_estimator(tmp_path, spec_of())
        outputs = [p["outputs"][0] for p in estimator.predict(first_seven)]
        results = estimator.evaluate(first_seven)
    np.testing.assert_allclose(outputs, [3.0] * 7)
    of_batches = [np.mean(np.square(3.0 - LABELS[rows])) for rows in (slice(4), slice(4, 7))]
    assert results["loss"] == pytest.approx(np.mean(of_batches), rel=1e-5)


def test_without_accumulation_cores_update_one_after_the_other(tmp_path):
    parameters = config.AdagradParameters(0.1, 0.5, use_gradient_accumulation=False)

    def ids_of_two_examples(params):
        # Each of two cores has one example: both of row 1.
        features = {"x": sparse([[1], [1]], np.int64)}
        labels = np.array([[1.0], [2.0]], np.float32)
        dataset = tf.data.Dataset.from_tensor_slices((features, labels)).repeat()
        return dataset.batch(params["batch_size"], drop_remainder=True)

    with simulation(2):
        estimator = make_estimator(tmp_path, spec_of(parameters))
        estimator._sizes[ModeKeys.TRAIN] = 2
        estimator.train(ids_of_two_examples, steps=1)
    # The row's home is core 1, whose gradient comes first; outputs are 3, gradients 2 (3 - label) (1, 2) / 2.
    w, accumulator = np.ones(2), np.full(2, 0.5)
    for label in (2.0, 1.0):
        gradient = (3 - label) * np.array([1.0, 2.0])
        accumulator += gradient**2
        w -= 0.1 * gradient / np.sqrt(accumulator)
    np.testing.assert_allclose(estimator.get_variable_value(TABLE)[1], w, atol=TOLERANCE)
    np.testing.assert_allclose(
        estimator.get_variable_value(f"{TABLE}/Adagrad")[1], accumulator, rtol=1e-5
    )


def seen_by_model(tmp_path, spec, names, **more_features):
    """Predicts with the features that `model_fn` is given."""
    estimator = make_estimator(tmp_path, spec)
    model_fn = lambda features, mode, params: TPUEstimatorSpec(
        mode, predictions={name: features[name] for name in names}
    )
    estimator._model_fn = model_fn
    with simulation(2):

        def examples(params):
            given = {name: sparse(rows, np.float32) for name, rows in more_features.items()}
            return input_fn(params, **given).take(2)

        seen = list(estimator.predict(examples))
    return {name: np.array([one[name] for one in seen]) for name in names}


def from_tables(combiner="sum", **feature):
    def count_up(shape, dtype=None, partition_info=None):
        return tf.reshape(tf.range(NUM_ROWS * DIMENSION, dtype=tf.float32), shape)

    return config.EmbeddingConfigSpec(
        optimization_parameters=config.StochasticGradientDescentParameters(RATE),
        feature_to_config_dict={"x": config.FeatureConfig("table", **feature)},
        table_to_config_dict={"table": config.TableConfig(NUM_ROWS, DIMENSION, count_up, combiner)},
    )


ROWS = np.arange(NUM_ROWS * DIMENSION, dtype=np.float32).reshape(NUM_ROWS, DIMENSION)


def test_weights_weigh_the_rows(tmp_path):
    seen = seen_by_model(tmp_path, from_tables(weight_key="w"), ["x"], w=WEIGHTS)["x"]
    expected = [
        sum((w * ROWS[i] for i, w in zip(ids, ws)), np.zeros(DIMENSION))
        for ids, ws in zip(IDS, WEIGHTS)
    ]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)


def test_sequences_keep_their_places_and_are_cut(tmp_path):
    seen = seen_by_model(tmp_path, from_tables(max_sequence_length=2), ["x", "x_seq_length_"])
    expected = np.zeros([8, 2, DIMENSION])
    for example, ids in enumerate(IDS):
        for place, i in enumerate(ids[:2]):
            expected[example, place] = ROWS[i]
    np.testing.assert_allclose(seen["x"], expected)
    assert seen["x_seq_length_"].tolist() == [min(2, len(ids)) for ids in IDS]


def test_sequence_features_give_values_and_lengths(tmp_path):
    column = tf.feature_column.sequence_categorical_column_with_identity("x", NUM_ROWS)
    ones = tf.ones_initializer()
    sequence = tf.tpu.experimental.embedding_column(
        column, DIMENSION, initializer=ones, max_sequence_length=2
    )

    def embed(features):
        values, lengths = SequenceFeatures([sequence])(features)
        return tf.reduce_sum(values, 1) * tf.cast(lengths, tf.float32)[:, None]

    with simulation(2):
        estimator = make_estimator(tmp_path, spec_of(feature_columns=[sequence]), embed=embed)
        examples = lambda params: input_fn(params).take(2)
        outputs = [p["outputs"][0] for p in estimator.predict(examples)]
    np.testing.assert_allclose(outputs, [3.0 * min(2, len(ids)) ** 2 for ids in IDS])


UPDATES = [
    (config.StochasticGradientDescentParameters(0.1), tf.train.GradientDescentOptimizer(0.1)),
    (config.AdagradParameters(0.1, 0.3), tf.train.AdagradOptimizer(0.1, 0.3)),
    (
        config.ProximalAdagradParameters(0.1, 0.3, 0.01, 0.02),
        tf.train.ProximalAdagradOptimizer(0.1, 0.3, 0.01, 0.02),
    ),
    (config.MomentumParameters(0.1, 0.9), tf.train.MomentumOptimizer(0.1, 0.9)),
    (
        config.MomentumParameters(0.1, 0.9, use_nesterov=True),
        tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    ),
    (
        config.FtrlParameters(0.1, -0.5, 0.2, 0.01, 0.02),
        tf.train.FtrlOptimizer(0.1, -0.5, 0.2, 0.01, 0.02),
    ),
]


@pytest.mark.parametrize("parameters, optimizer", UPDATES, ids=lambda v: type(v).__name__)
def test_two_updates_are_those_of_the_optimizer_of_tf_1(parameters, optimizer):
    generator = np.random.RandomState(0)
    start = generator.rand(3, 2).astype(np.float32)
    gradients = generator.randn(2, 3, 2).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("w", initializer=start, use_resource=True)
        given = tf.placeholder(tf.float32, [3, 2])
        step = optimizer.apply_gradients([(given, variable)])
        session.run(tf.global_variables_initializer())
        for gradient in gradients:
            session.run(step, {given: gradient})
        expected = session.run(variable)
    weights = tf.constant(start)
    slots = tuple(
        tf.fill([3, 2], slot.initial_value) for slot in embedding_updates.slots_of(parameters)
    )
    for gradient in gradients:
        weights, slots = embedding_updates.update(
            parameters, tf.constant(0.1), weights, slots, tf.constant(gradient), tf.fill([3], True)
        )
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "parameters",
    [config.AdamParameters(0.1), config.RMSPropParameters(0.1, 0.9, 0.9, 1e-7)],
    ids=lambda v: type(v).__name__,
)
def test_rows_without_a_gradient_stay_as_they_are(parameters):
    slots = tuple(tf.fill([2, 2], 0.5) for _ in embedding_updates.slots_of(parameters))
    gradient = tf.constant([[1.0, 2.0], [0.0, 0.0]])
    weights, new_slots = embedding_updates.update(
        parameters, tf.constant(0.1), tf.ones([2, 2]), slots, gradient, tf.constant([True, False])
    )
    assert np.all(weights.numpy()[0] < 1) and np.all(weights.numpy()[1] == 1)
    assert all(np.all(slot.numpy()[1] == 0.5) for slot in new_slots)


FEATURE = {"x": config.FeatureConfig("table")}
TABLES = {"table": config.TableConfig(3, 2)}
SGD = config.StochasticGradientDescentParameters(0.1)


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: config.EmbeddingConfigSpec(), ValueError, "Exactly one of `feature_columns`"),
        (
            lambda: config.EmbeddingConfigSpec(["x"], SGD),
            TypeError,
            "All feature columns must be supported types",
        ),
        (
            lambda: config.EmbeddingConfigSpec(columns()),
            ValueError,
            "optimization_parameters must be an instance",
        ),
        (lambda: spec_of(partition_strategy="by"), ValueError, "Invalid partition_strategy by"),
        (
            lambda: config.EmbeddingConfigSpec(
                feature_to_config_dict=FEATURE, table_to_config_dict={"t": TABLES["table"]}
            ),
            ValueError,
            "refers to table table which is not in",
        ),
        (lambda: config.TableConfig(0, 2), ValueError, "vocabulary_size must >= 1"),
        (lambda: config.TableConfig(3, 2, combiner="max"), ValueError, "combiner must be"),
        (lambda: config.FeatureConfig("t", -1), ValueError, "max_sequence_length must be zero"),
        (lambda: config.AdagradParameters(0.1, 0.0), ValueError, "must be greater than zero"),
        (lambda: config.AdamParameters(0.1, beta1=1.0), ValueError, "beta1 must be between"),
        (
            lambda: config.AdagradParameters(
                0.1, use_gradient_accumulation=False, clip_gradient_max=1.0
            ),
            ValueError,
            "gradient accumulation must be enabled",
        ),
        (
            lambda: config.get_configs_from_feature_columns(columns() * 2),
            ValueError,
            "used with multiple embeddings",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_columns_that_the_model_does_not_use_are_refused(tmp_path):
    with simulation(2):
        estimator = make_estimator(tmp_path, spec_of(), embed=lambda features: features["x"])
        with pytest.raises(RuntimeError, match="did not capture any thing"):
            estimator.train(input_fn, steps=1)


def test_a_spec_of_another_class_is_refused(tmp_path):
    with pytest.raises(TypeError, match="embedding_config_spec must be an EmbeddingConfigSpec"):
        tpuest.TPUEstimator(
            model_of(None), config=tpuest.RunConfig(), train_batch_size=4, embedding_config_spec=1
        )
