"""The two `RunConfig`s and `TPUConfig`, against facts recorded from TF 2.15.1's originals."""

import copy
import json
import pickle

import pytest
import tensorflow as tf

from tpuest import config, run_config
from tpuest.config import InputPipelineConfig, TPUConfig, parse_iterations_per_loop
from tpuest.errors import UnsupportedError

BOTH = [run_config.RunConfig, config.RunConfig]

CHIEF_CLUSTER = {
    "chief": ["host0:2222"],
    "ps": ["host1:2222", "host2:2222"],
    "worker": ["host3:2222", "host4:2222", "host5:2222"],
}
MASTER_CLUSTER = {
    "master": ["host0:2222"],
    "ps": ["host1:2222"],
    "worker": ["host3:2222"],
    "other": ["host6:2222", "host7:2222"],
}
WORKER_CLUSTER = {"worker": ["host3:2222", "host4:2222"]}


@pytest.fixture(autouse=True)
def no_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.fixture
def set_tf_config(monkeypatch):
    return lambda tf_config: monkeypatch.setenv("TF_CONFIG", json.dumps(tf_config))


@pytest.fixture
def strategy():
    return tf.distribute.OneDeviceStrategy("/cpu:0")


def in_cluster(cluster, task_type, task_id, **more):
    return {"cluster": cluster, "task": {"type": task_type, "index": task_id}, **more}


def simple_resolver(master="grpc://resolved"):
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(WORKER_CLUSTER), master=master
    )


DEFAULTS = {
    "model_dir": None,
    "tf_random_seed": None,
    "save_summary_steps": 100,
    "save_checkpoints_steps": None,
    "save_checkpoints_secs": 600,
    "session_config": None,
    "keep_checkpoint_max": 5,
    "keep_checkpoint_every_n_hours": 10000,
    "log_step_count_steps": 100,
    "train_distribute": None,
    "device_fn": None,
    "protocol": None,
    "eval_distribute": None,
    "experimental_max_worker_delay_secs": None,
    "session_creation_timeout_secs": 7200,
    "checkpoint_save_graph_def": True,
    "cluster_spec": tf.train.ClusterSpec({}),
    "task_type": "worker",
    "task_id": 0,
    "global_id_in_cluster": 0,
    "master": "",
    "evaluation_master": "",
    "is_chief": True,
    "num_ps_replicas": 0,
    "num_worker_replicas": 1,
    "service": None,
}


@pytest.mark.parametrize("run_config_class", BOTH)
@pytest.mark.parametrize("name", DEFAULTS)
def test_every_property_has_the_originals_default(run_config_class, name):
    assert getattr(run_config_class(), name) == DEFAULTS[name]


def test_the_plain_arguments_keep_their_order():
    made = run_config.RunConfig("/model", 7, 1, 2, None, None, 3)
    assert (made.model_dir, made.tf_random_seed, made.save_summary_steps) == ("/model", 7, 1)
    assert (made.save_checkpoints_steps, made.keep_checkpoint_max) == (2, 3)


def test_the_tpu_arguments_keep_their_order():
    made = config.RunConfig(TPUConfig(5), "evaluation", "training")
    assert made.tpu_config.iterations_per_loop == 5
    assert (made.master, made.evaluation_master) == ("training", "evaluation")


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        config.RunConfig(nonsense=1)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"model_dir": ""}, "model_dir should be non-empty"),
        ({"save_summary_steps": -1}, "save_summary_steps should be >= 0, got -1"),
        ({"save_checkpoints_steps": -1}, "save_checkpoints_steps should be >= 0"),
        ({"save_checkpoints_secs": -1}, "save_checkpoints_secs should be >= 0"),
        ({"session_config": {}}, "session_config must be instance of ConfigProto"),
        ({"keep_checkpoint_max": -1}, "keep_checkpoint_max should be >= 0"),
        ({"keep_checkpoint_every_n_hours": 0}, "keep_checkpoint_every_n_hours should be > 0"),
        ({"log_step_count_steps": 0}, "log_step_count_steps should be > 0"),
        ({"tf_random_seed": 1.0}, "tf_random_seed must be integer"),
        (
            {"experimental_max_worker_delay_secs": 1.5},
            "experimental_max_worker_delay_secs must be an integer if set",
        ),
        ({"session_creation_timeout_secs": 0}, "session_creation_timeout_secs should be > 0"),
        (
            {"device_fn": lambda node: node},
            'device_fn must be callable with exactly one argument "op"',
        ),
        ({"device_fn": "/cpu:0"}, 'device_fn must be callable with exactly one argument "op"'),
        ({"protocol": "http"}, r"protocol should be grpc or grpc\+verbs"),
        (
            {"save_checkpoints_steps": 1, "save_checkpoints_secs": 2},
            "`save_checkpoints_steps` and `save_checkpoints_secs` cannot be both set",
        ),
    ],
)
def test_a_broken_rule_is_named_by_constructor_and_replace(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        run_config.RunConfig(**arguments)
    with pytest.raises(ValueError, match=rule):
        run_config.RunConfig().replace(**arguments)


def test_a_device_fn_of_one_argument_op_is_accepted():
    def place(op):
        return "/cpu:0"

    assert run_config.RunConfig(device_fn=place).device_fn is place


@pytest.mark.parametrize(
    ("arguments", "steps", "secs"),
    [
        ({}, None, 600),
        ({"save_checkpoints_steps": 1}, 1, None),
        ({"save_checkpoints_secs": 1}, None, 1),
        ({"save_checkpoints_steps": None}, None, None),
        ({"save_checkpoints_secs": None}, None, None),
        ({"save_checkpoints_steps": None, "save_checkpoints_secs": None}, None, None),
        ({"save_checkpoints_steps": 5, "save_checkpoints_secs": None}, 5, None),
    ],
)
def test_one_of_the_save_intervals_is_set(arguments, steps, secs):
    made = run_config.RunConfig(**arguments)
    assert (made.save_checkpoints_steps, made.save_checkpoints_secs) == (steps, secs)


@pytest.mark.parametrize(
    ("changes", "steps", "secs"),
    [
        ({"save_checkpoints_secs": 9}, None, 9),
        ({"save_checkpoints_steps": 9}, 9, None),
        ({"save_checkpoints_secs": None}, 7, None),
        ({"save_checkpoints_steps": None}, None, None),
    ],
)
def test_replacing_one_save_interval_resets_the_other(changes, steps, secs):
    replaced = run_config.RunConfig(save_checkpoints_steps=7).replace(**changes)
    assert (replaced.save_checkpoints_steps, replaced.save_checkpoints_secs) == (steps, secs)


def test_replacing_the_steps_resets_the_default_secs():
    replaced = run_config.RunConfig().replace(save_checkpoints_steps=9)
    assert (replaced.save_checkpoints_steps, replaced.save_checkpoints_secs) == (9, None)


def test_replace_leaves_the_first_config_alone():
    first = run_config.RunConfig(model_dir="/first")
    assert first.replace(model_dir="/second").model_dir == "/second"
    assert first.model_dir == "/first"


@pytest.mark.parametrize("run_config_class", BOTH)
def test_replace_refuses_what_comes_from_the_cluster(run_config_class):
    with pytest.raises(ValueError, match="Replacing master is not supported. Allowed properties"):
        run_config_class().replace(master="elsewhere")


@pytest.mark.parametrize("run_config_class", BOTH)
def test_attributes_of_the_program_stay_in_copies(run_config_class):
    made = run_config_class()
    made.data_parallelism = ["gpu:0"]
    assert made.replace(model_dir="/model").data_parallelism == ["gpu:0"]


@pytest.mark.parametrize("run_config_class", BOTH)
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda value: pickle.loads(pickle.dumps(value))]
)
def test_a_config_survives_copying_and_pickling(run_config_class, copied):
    made = run_config_class(model_dir="/model", session_config=tf.compat.v1.ConfigProto())
    assert type(copied(made)) is run_config_class
    assert vars(copied(made)) == vars(made)


def test_a_deep_copy_shares_strategy_and_resolver(strategy):
    resolver = simple_resolver()
    made = config.RunConfig(train_distribute=strategy, cluster=resolver)
    copied = copy.deepcopy(made)
    assert copied.train_distribute is strategy
    assert copied.cluster is resolver


def test_a_path_like_model_dir_becomes_a_string(tmp_path):
    assert run_config.RunConfig(model_dir=tmp_path).model_dir == str(tmp_path)
    assert run_config.RunConfig().replace(model_dir=tmp_path).model_dir == str(tmp_path)


class TestTFConfig:
    """What the environment variable TF_CONFIG sets."""

    @pytest.mark.parametrize("run_config_class", BOTH)
    @pytest.mark.parametrize(
        ("tf_config", "global_id", "master", "is_chief", "num_ps", "num_workers"),
        [
            (in_cluster(CHIEF_CLUSTER, "chief", 0), 0, "grpc://host0:2222", True, 2, 4),
            (in_cluster(CHIEF_CLUSTER, "worker", 1), 2, "grpc://host4:2222", False, 2, 4),
            (in_cluster(CHIEF_CLUSTER, "worker", "2"), 3, "grpc://host5:2222", False, 2, 4),
            (in_cluster(CHIEF_CLUSTER, "ps", 1), 5, "grpc://host2:2222", False, 2, 4),
            (in_cluster(CHIEF_CLUSTER, "ps", 0, session_master="m"), 4, "m", False, 2, 4),
            (in_cluster(CHIEF_CLUSTER, "evaluator", 3), None, "", False, 0, 0),
            (in_cluster(MASTER_CLUSTER, "master", 0), 0, "grpc://host0:2222", True, 1, 2),
            (in_cluster(MASTER_CLUSTER, "other", 1), 2, "grpc://host7:2222", False, 1, 2),
            (in_cluster(MASTER_CLUSTER, "worker", 0), 3, "grpc://host3:2222", False, 1, 2),
            (in_cluster(MASTER_CLUSTER, "ps", 0), 4, "grpc://host1:2222", False, 1, 2),
            (in_cluster({"chief": ["host0:2222"]}, "chief", 0), 0, "", True, 0, 1),
        ],
    )
    def test_a_task_knows_its_place(
        self,
        set_tf_config,
        run_config_class,
        tf_config,
        global_id,
        master,
        is_chief,
        num_ps,
        num_workers,
    ):
        set_tf_config(tf_config)
        made = run_config_class()
        assert made.task_type == tf_config["task"]["type"]
        assert made.task_id == int(tf_config["task"]["index"])
        assert made.global_id_in_cluster == global_id
        assert made.master == master
        assert made.is_chief is is_chief
        assert (made.num_ps_replicas, made.num_worker_replicas) == (num_ps, num_workers)

    def test_the_cluster_spec_is_the_cluster(self, set_tf_config):
        set_tf_config(in_cluster(CHIEF_CLUSTER, "ps", 0))
        assert run_config.RunConfig().cluster_spec.as_dict() == CHIEF_CLUSTER

    def test_an_evaluator_sees_no_cluster(self, set_tf_config):
        set_tf_config(in_cluster(CHIEF_CLUSTER, "evaluator", 0, eval_session_master="evaluation"))
        made = run_config.RunConfig()
        assert made.cluster_spec.as_dict() == {}
        assert made.evaluation_master == "evaluation"

    def test_without_cluster_masters_and_service_are_taken(self, set_tf_config):
        set_tf_config({"session_master": "m", "eval_session_master": "e", "service": {"key": 1}})
        made = run_config.RunConfig()
        assert (made.master, made.evaluation_master, made.service) == ("m", "e", {"key": 1})

    @pytest.mark.parametrize(
        ("tf_config", "rule"),
        [
            (
                in_cluster(WORKER_CLUSTER, "worker", 0),
                'If "cluster" is set in TF_CONFIG, it must have one "chief" node',
            ),
            (
                in_cluster({"chief": ["a:1", "b:1"]}, "chief", 0),
                'The "cluster" in TF_CONFIG must have only one "chief" node',
            ),
            (
                in_cluster({"chief": ["a:1"], "master": ["b:1"]}, "chief", 0),
                "If `master` node exists in `cluster`, job `chief` is not supported",
            ),
            (
                in_cluster(MASTER_CLUSTER, "evaluator", 0),
                "If `master` node exists in `cluster`, task_type `evaluator` is not supported",
            ),
            ({"cluster": CHIEF_CLUSTER}, "task type must be set"),
            ({"cluster": CHIEF_CLUSTER, "task": {"type": "ps"}}, "task index must be set"),
            (in_cluster(CHIEF_CLUSTER, "ps", -1), "Task index must be non-negative number"),
            (in_cluster(CHIEF_CLUSTER, "x", 0), "x is not a valid task_type in the cluster_spec"),
            (in_cluster(CHIEF_CLUSTER, "ps", 2), "2 is not a valid task_id for task_type ps"),
            (
                {"task": {"type": "ps", "index": 0}},
                'If "cluster" is not set in TF_CONFIG, task type must be WORKER',
            ),
            (
                {"task": {"type": "worker", "index": 1}},
                'If "cluster" is not set in TF_CONFIG, task index must be 0',
            ),
            ({"model_dir": ""}, "model_dir in TF_CONFIG should be non-empty"),
            ([], "TF_CONFIG must be a JSON object"),
        ],
    )
    @pytest.mark.parametrize("run_config_class", BOTH)
    def test_a_broken_rule_is_named(self, set_tf_config, run_config_class, tf_config, rule):
        set_tf_config(tf_config)
        with pytest.raises(ValueError, match=rule):
            run_config_class()

    def test_text_that_is_no_json_is_quoted(self, monkeypatch):
        monkeypatch.setenv("TF_CONFIG", "{cluster")
        with pytest.raises(ValueError, match="TF_CONFIG must be JSON, got '{cluster'"):
            run_config.RunConfig()

    def test_an_empty_variable_is_no_variable(self, monkeypatch):
        monkeypatch.setenv("TF_CONFIG", "")
        assert run_config.RunConfig().is_chief

    def test_a_service_must_be_an_object(self, set_tf_config):
        set_tf_config({"service": [1]})
        with pytest.raises(TypeError, match='If "service" is set in TF_CONFIG, it must be a dict'):
            run_config.RunConfig()

    def test_it_gives_the_model_dir(self, set_tf_config):
        set_tf_config({"model_dir": "/model"})
        assert run_config.RunConfig().model_dir == "/model"
        assert run_config.RunConfig(model_dir="/model").model_dir == "/model"

    def test_another_model_dir_is_refused(self, set_tf_config):
        set_tf_config({"model_dir": "/model"})
        with pytest.raises(ValueError, match="must have the same value as the model_dir in"):
            run_config.RunConfig(model_dir="/other")

    @pytest.mark.parametrize(
        ("tf_config", "device_filters"),
        [
            (in_cluster(CHIEF_CLUSTER, "chief", 0), ["/job:ps", "/job:chief"]),
            (in_cluster(CHIEF_CLUSTER, "worker", 1), ["/job:ps", "/job:worker/task:1"]),
            (
                in_cluster(CHIEF_CLUSTER, "ps", 0),
                ["/job:ps", "/job:worker", "/job:chief", "/job:master"],
            ),
            (in_cluster(MASTER_CLUSTER, "master", 0), ["/job:ps", "/job:master"]),
        ],
    )
    def test_a_task_sees_itself_and_the_parameter_servers(
        self, set_tf_config, tf_config, device_filters
    ):
        set_tf_config(tf_config)
        session_config = run_config.RunConfig().session_config
        rewrite_options = session_config.graph_options.rewrite_options
        assert list(session_config.device_filters) == device_filters
        assert session_config.allow_soft_placement
        assert rewrite_options.meta_optimizer_iterations == rewrite_options.ONE

    @pytest.mark.parametrize("task_type", ["evaluator", "other"])
    def test_other_tasks_have_no_session_config(self, set_tf_config, task_type):
        set_tf_config(in_cluster({**CHIEF_CLUSTER, "other": ["host6:2222"]}, task_type, 0))
        assert run_config.RunConfig().session_config is None

    def test_a_session_config_of_the_user_stays(self, set_tf_config):
        set_tf_config(in_cluster(CHIEF_CLUSTER, "chief", 0))
        session_config = tf.compat.v1.ConfigProto(log_device_placement=True)
        assert run_config.RunConfig(session_config=session_config).session_config == session_config

    def test_a_tpu_program_has_no_device_filters(self, set_tf_config):
        set_tf_config(in_cluster(CHIEF_CLUSTER, "chief", 0))
        assert config.RunConfig().session_config is None


class TestStrategies:
    """Training and evaluation under a `tf.distribute.Strategy`."""

    def test_workers_under_a_strategy_need_no_chief(self, set_tf_config, strategy):
        set_tf_config(in_cluster(WORKER_CLUSTER, "worker", 1))
        made = run_config.RunConfig(train_distribute=strategy)
        assert (made.task_id, made.is_chief, made.num_worker_replicas) == (1, False, 2)
        assert made.session_config is None

    def test_the_first_worker_leads_where_there_is_no_chief(self, set_tf_config, strategy):
        set_tf_config(in_cluster(WORKER_CLUSTER, "worker", 0))
        assert run_config.RunConfig(train_distribute=strategy).is_chief

    def test_a_chief_leads_where_there_is_one(self, set_tf_config, strategy):
        set_tf_config(in_cluster(CHIEF_CLUSTER, "worker", 0))
        assert not run_config.RunConfig(train_distribute=strategy).is_chief

    def test_experimental_distribute_sets_both_strategies(self, strategy):
        both = {"train_distribute": strategy, "eval_distribute": strategy}
        distribute = type("Distribute", (), both)()
        made = run_config.RunConfig(experimental_distribute=distribute)
        assert made.train_distribute is made.eval_distribute is strategy

    @pytest.mark.parametrize("name", ["train_distribute", "eval_distribute"])
    def test_a_strategy_given_twice_is_refused(self, strategy, name):
        distribute = type("Distribute", (), {name: strategy})()
        with pytest.raises(ValueError, match=f"Either `{name}` or"):
            run_config.RunConfig(**{name: strategy}, experimental_distribute=distribute)

    def test_a_remote_cluster_is_refused_with_the_alternative(self):
        distribute = type("Distribute", (), {"remote_cluster": tf.train.ClusterSpec({})})()
        assert run_config.RunConfig(experimental_distribute=distribute)
        distribute.remote_cluster = tf.train.ClusterSpec(WORKER_CLUSTER)
        with pytest.raises(UnsupportedError, match="TF_CONFIG naming the cluster"):
            run_config.RunConfig(experimental_distribute=distribute)

    def test_the_second_parameter_server_strategy_is_refused(self):
        strategy_class = tf.distribute.experimental.ParameterServerStrategy
        strategy = strategy_class.__new__(strategy_class)  # Making one connects to a cluster.
        with pytest.raises(ValueError, match="Please use `tf.compat.v1.distribute.experimental"):
            run_config.RunConfig(train_distribute=strategy)


class TestTPURunConfig:
    """`master`, `evaluation_master`, `cluster` and `tpu_config`."""

    @pytest.mark.parametrize(
        ("tf_config", "arguments", "master", "evaluation_master"),
        [
            ({}, {}, "", ""),
            ({}, {"master": "m"}, "m", "m"),
            ({}, {"master": "m", "evaluation_master": "e"}, "m", "e"),
            ({}, {"evaluation_master": "e"}, "", "e"),
            ({"session_master": "s"}, {}, "s", "s"),
            ({"session_master": "s"}, {"master": ""}, "", ""),
            ({"session_master": "s", "eval_session_master": "t"}, {}, "s", "t"),
            ({"session_master": "s", "eval_session_master": "t"}, {"master": "m"}, "m", "t"),
            (in_cluster({"chief": ["a:1"]}, "evaluator", 0), {"master": "m"}, "m", ""),
        ],
    )
    def test_the_masters_come_from_user_then_tf_config(
        self, set_tf_config, tf_config, arguments, master, evaluation_master
    ):
        set_tf_config(tf_config)
        made = config.RunConfig(**arguments)
        assert (made.master, made.evaluation_master) == (master, evaluation_master)

    def test_a_resolver_gives_master_and_cluster(self):
        resolver = simple_resolver("grpc://resolved")
        made = config.RunConfig(cluster=resolver)
        assert made.cluster is resolver
        assert (made.master, made.evaluation_master) == ("grpc://resolved", "grpc://resolved")
        assert made.cluster_spec.as_dict() == WORKER_CLUSTER

    def test_the_resolvers_cluster_joins_a_default_session_config(self):
        session_config = config.RunConfig(cluster=simple_resolver()).session_config
        assert session_config.allow_soft_placement
        assert session_config.isolate_session_state
        assert [job.name for job in session_config.cluster_def.job] == ["worker"]

    def test_the_users_session_config_is_copied_not_changed(self):
        session_config = tf.compat.v1.ConfigProto(log_device_placement=True)
        for _ in range(2):  # The original wrote into it, and refused it the second time.
            made = config.RunConfig(cluster=simple_resolver(), session_config=session_config)
            assert made.session_config.HasField("cluster_def")
            assert made.session_config.log_device_placement
        assert not session_config.HasField("cluster_def")

    def test_a_second_cluster_in_the_session_config_is_refused(self):
        session_config = tf.compat.v1.ConfigProto()
        session_config.cluster_def.job.add(name="worker")
        with pytest.raises(ValueError, match="You cannot provide a ClusterResolver and"):
            config.RunConfig(cluster=simple_resolver(), session_config=session_config)

    def test_master_and_cluster_exclude_each_other(self):
        with pytest.raises(ValueError, match="Both master and cluster are set"):
            config.RunConfig(master="", cluster=simple_resolver())

    def test_replace_takes_a_tpu_config_too(self):
        made = config.RunConfig(tpu_config=TPUConfig(5), save_checkpoints_steps=7)
        replaced = made.replace(tpu_config=TPUConfig(9), model_dir="/model")
        assert replaced.tpu_config.iterations_per_loop == 9
        assert (replaced.model_dir, replaced.save_checkpoints_steps) == ("/model", 7)
        assert made.tpu_config.iterations_per_loop == 5

    def test_replace_keeps_the_tpu_part(self):
        made = config.RunConfig(master="m", tpu_config=TPUConfig(5))
        replaced = made.replace(model_dir="/model")
        assert (replaced.master, replaced.tpu_config.iterations_per_loop) == ("m", 5)


class TestFromPlain:
    """A TPU `RunConfig` made of a plain one, for `TPUEstimator(use_tpu=False)`."""

    def test_it_has_every_setting_of_the_plain_one(self, tmp_path, strategy):
        plain = run_config.RunConfig(
            model_dir=tmp_path,
            tf_random_seed=7,
            save_summary_steps=3,
            save_checkpoints_steps=4,
            session_config=tf.compat.v1.ConfigProto(log_device_placement=True),
            keep_checkpoint_max=2,
            log_step_count_steps=6,
            train_distribute=strategy,
        )
        plain.of_the_program = "stays"
        made = config.RunConfig.from_plain(plain)
        assert {name: vars(made)[name] for name in vars(plain)} == vars(plain)
        assert made.train_distribute is strategy
        assert made.tpu_config == TPUConfig()
        assert made.cluster is None

    def test_it_stays_in_its_cluster_when_tf_config_changes(self, set_tf_config, monkeypatch):
        set_tf_config(in_cluster(CHIEF_CLUSTER, "worker", 1))
        plain = run_config.RunConfig()
        monkeypatch.delenv("TF_CONFIG")
        made = config.RunConfig.from_plain(plain)
        assert (made.task_type, made.task_id, made.is_chief) == ("worker", 1, False)
        assert made.cluster_spec == plain.cluster_spec
        assert (made.master, made.evaluation_master) == (plain.master, plain.evaluation_master)

    def test_changing_it_leaves_the_plain_one_alone(self):
        plain = run_config.RunConfig(session_config=tf.compat.v1.ConfigProto())
        made = config.RunConfig.from_plain(plain)
        made.session_config.log_device_placement = True
        assert not plain.session_config.log_device_placement

    def test_its_copies_are_tpu_configs_too(self):
        made = config.RunConfig.from_plain(run_config.RunConfig()).replace(
            model_dir="/tmp/model", tpu_config=TPUConfig(5)
        )
        assert (made.model_dir, made.tpu_config.iterations_per_loop) == ("/tmp/model", 5)


class TestTPUConfig:
    """The eleven settings."""

    def test_the_defaults_are_the_originals(self):
        assert tuple(TPUConfig()) == (2, None, None, 2, None, None, None, 2, 1, False, None)

    def test_iterations_and_shards_go_by_position(self):
        made = TPUConfig(100, 8)
        assert (made.iterations_per_loop, made.num_shards) == (100, 8)

    @pytest.mark.parametrize(
        ("given", "stored"),
        [
            (True, InputPipelineConfig.PER_HOST_V1),
            (False, InputPipelineConfig.PER_SHARD_V1),
            (InputPipelineConfig.PER_SHARD_V1, InputPipelineConfig.PER_SHARD_V1),
            (InputPipelineConfig.PER_HOST_V2, InputPipelineConfig.PER_HOST_V2),
            (InputPipelineConfig.BROADCAST, InputPipelineConfig.BROADCAST),
        ],
    )
    def test_booleans_stand_for_input_pipelines(self, given, stored):
        assert TPUConfig(per_host_input_for_training=given).per_host_input_for_training == stored

    @pytest.mark.parametrize(
        ("settings", "error", "rule"),
        [
            ({"iterations_per_loop": 0}, ValueError, "Value must be positive integer value"),
            ({"num_shards": 0}, ValueError, "TPUConfig num_shards must be positive, got 0"),
            ({"num_shards": 1.0}, TypeError, "TPUConfig num_shards must be int, got <class"),
            (
                {"num_cores_per_replica": 7},
                ValueError,
                "num_cores_per_replica must be 1, 2, 4, 8, 16, 32, 64, 128; got 7",
            ),
            (
                {"eval_training_input_configuration": InputPipelineConfig.BROADCAST},
                ValueError,
                "eval_training_input_configuration must be PER_HOST_V1 or SLICED; got 4",
            ),
            (
                {"input_partition_dims": [[1], [1], [1]]},
                ValueError,
                "input_partition_dims must be a list/tuple with one or two elements",
            ),
            (
                {"input_partition_dims": [[1]]},
                ValueError,
                "input_partition_dims is only supported in PER_HOST_V2 mode",
            ),
            (
                {"input_partition_dims": [[1]], "per_host_input_for_training": 3},
                ValueError,
                "input_partition_dims requires setting num_cores_per_replica",
            ),
            (
                {"initial_infeed_sleep_secs": -1},
                ValueError,
                "TPUConfig initial_infeed_sleep_secs must be positive, got -1",
            ),
            (
                {"experimental_host_call_every_n_steps": 0},
                ValueError,
                "experimental_host_call_every_n_steps must be positive, got 0",
            ),
            (
                {"per_host_input_for_training": InputPipelineConfig.SLICED},
                ValueError,
                "per_host_input_for_training must be a boolean, PER_SHARD_V1, .*; got 5",
            ),
        ],
    )
    def test_a_broken_rule_is_named(self, settings, error, rule):
        with pytest.raises(error, match=rule):
            TPUConfig(**settings)

    def test_partitioned_inputs_are_accepted(self):
        made = TPUConfig(
            input_partition_dims=[[1, 2], None],
            per_host_input_for_training=InputPipelineConfig.PER_HOST_V2,
            num_cores_per_replica=2,
        )
        assert made.input_partition_dims == [[1, 2], None]

    def test_tf_config_gives_the_job_name(self, set_tf_config):
        set_tf_config({"service": {"tpu_worker_job_name": "tpu_worker"}})
        assert TPUConfig().tpu_job_name == "tpu_worker"
        assert TPUConfig(tpu_job_name="mine").tpu_job_name == "mine"

    @pytest.mark.parametrize(
        "copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]
    )
    def test_it_survives_copying_and_pickling(self, copied):
        made = TPUConfig("5m", num_shards=8)
        assert type(copied(made)) is TPUConfig
        assert copied(made) == made


@pytest.mark.parametrize(
    ("given", "value", "unit"),
    [
        (1, 1, "count"),
        ("100", 100, "count"),
        ("300s", 300, "seconds"),
        ("5m", 300, "seconds"),
        ("1h", 3600, "seconds"),
    ],
)
def test_iterations_per_loop_are_steps_or_seconds(given, value, unit):
    parsed = parse_iterations_per_loop(given)
    assert (parsed.value, parsed.unit) == (value, unit)
    assert TPUConfig(iterations_per_loop=given).iterations_per_loop == given


@pytest.mark.parametrize("given", [0, -1, "-1h", "5d", "s", "", 1.5, True, None, "5|"])
def test_other_iterations_per_loop_are_refused(given):
    with pytest.raises(ValueError, match="Invalid TPUConfig `iterations_per_loop` value"):
        parse_iterations_per_loop(given)
