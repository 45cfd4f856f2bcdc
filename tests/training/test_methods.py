"""The one `train`: what is refused before anything is written, whatever the method."""

from dataclasses import replace

import pytest

from netllm_gym.collection.collect import collect
from netllm_gym.configs import options_of, with_options
from netllm_gym.errors import InputError
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.loading import load_policy
from netllm_gym.pools.pool import ExperiencePool
from netllm_gym.problems.index import PROBLEMS
from netllm_gym.training.llm_config import LLMTraining
from netllm_gym.training.methods import METHODS, find_method, train
from netllm_gym.training.online_config import PPOConfig, UDRConfig

TINY = {"updates": 1, "episodes": 2, "validate_every": 0}


@pytest.mark.parametrize(
    ("problem", "method", "options", "sentence"),
    [
        ("abr", "ppo", {"config": UDRConfig()}, "config must be a PPOConfig .* got a UDRConfig"),
        ("abr", "ppo", {"config": PPOConfig(seed=True)}, "seed must be a valid integer, got True"),
        ("abr", "ppo", {"config": {"seed": 2.5}}, "seed must be a whole number, got 2.5"),
        (
            "abr",
            "ppo",
            {"config": {"sede": 2}},
            "sede must be an option of PPOConfig; did",
        ),
        ("abr", "ppo", {"case": {"nope": 3}}, "nope must be left out for abr, which has traces,"),
        ("abr", "pppo", {}, "method must be one of .* for abr, got 'pppo'; did you mean ppo?"),
        (
            "abr",
            "ppo",
            {"config": {"pretrain_teacher": "bba"}},
            "pretrain_teacher must be left out without pretrain_updates, which it belongs to, got",
        ),
        ("abr", "ppo", {"validate_on": ""}, "validate_on must name a data set"),
        ("abr", "ppo", {"pool": ""}, "pool must be left out for the method ppo"),
        ("abr", "llm", {}, "pool must be given for the method llm"),
        ("abr", "llm", {"pool": "p", "policies": []}, "policies must name at least one"),
        ("abr", "llm", {"pool": "p", "case": {}}, "case must be left out for the method llm"),
        ("abr", "llm", {"pool": "p", "config": {"returns": "x"}}, "returns must be one of auto"),
        ("abr", "llm", {"pool": "p", "config": {"reward_clip": [3, 1]}}, "reward_clip must be a"),
        ("vp", "llm", {"config": {"layout": "pair"}}, "layout must be left out for the method llm"),
        ("vp", "llm", {"config": {"objective": "value"}}, "objective must be left out for the"),
        ("vp", "llm", {"config": {"target_return": 3.0}}, "target_return must be left out for"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tmp_path, problem, method, options, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        train(problem, method, tmp_path / "run", **options)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["ppo", "optimum", "bba"])
def test_a_run_is_not_called_as_a_policy_that_tables_know(tmp_path, name):
    with pytest.raises(
        InputError, match=f"out must have another name than the policies of abr.*{name}"
    ):
        train("abr", "ppo", tmp_path / name, config=TINY)
    assert not (tmp_path / name).exists()


def test_a_run_that_was_called_so_before_is_resumed(tmp_path):
    train("abr", "ppo", tmp_path / "mine", config=TINY)
    (tmp_path / "mine").rename(tmp_path / "ppo")
    assert train("abr", "ppo", tmp_path / "ppo", config=TINY).updates == 1


@pytest.mark.parametrize("method", ["llm", "dt"])
@pytest.mark.parametrize(
    ("option", "value"), [("target_return", 3.0), ("return_gamma", 0.9), ("target_quantile", 0.5)]
)
def test_options_of_returns_are_refused_where_nothing_is_told(
    tmp_path, pool, valid, method, option, value
):
    config = {"updates": 1, "validate_every": 0, "returns": "none", option: value}
    rule = f"{option} must be left out where a policy is told no return, got {value}"
    with pytest.raises(InputError, match=rule):
        train("abr", method, tmp_path / "run", config=config, pool=pool, validate_on=valid)
    assert not (tmp_path / "run").exists()


def test_a_policy_of_an_offline_method_is_not_trained_further_by_ppo(tmp_path, pool, valid):
    small = {"updates": 1, "hidden_units": (4,)}
    train("abr", "bc", tmp_path / "bc1", config=small, pool=pool, validate_on=valid)
    rule = "init_from must be a network trained by online RL or a language model, got .*bc1"
    with pytest.raises(InputError, match=rule):
        train("abr", "ppo", tmp_path / "run", config={**TINY, "init_from": str(tmp_path / "bc1")})
    assert not (tmp_path / "run").exists()


def test_a_default_that_follows_from_others_follows_them_again():
    config = with_options(LLMTraining(), {"backbone": "minilm"})
    assert (config.policy.backbone.init, config.policy.backbone.adapt) == ("pretrained", "lora")
    config = with_options(config, {"init": "random"})
    assert (config.policy.backbone.init, config.policy.backbone.adapt) == ("random", "full")
    assert LLMConfig().backbone.adapt == "full"


def test_every_field_of_every_config_is_documented():
    for problem in PROBLEMS.values():
        for method in METHODS:
            if method.suits(problem):
                config = find_method(method.name, problem).default_config(problem)
                for name, option in options_of(config).items():
                    assert option.help, (method.name, name)


def test_a_baseline_that_is_named_is_taken(tmp_path, pool, valid):
    small = {
        **{"updates": 1, "batch_episodes": 2, "layers": 1, "threads": 1},
        "return_baseline": "lowest",
    }
    where = {"pool": pool, "policies": ["bba", "lowest"], "validate_on": valid}
    train("abr", "llm", tmp_path / "run", config=small, **where)
    returns = load_policy(str(tmp_path / "run")).factory.config.returns
    assert (returns.kind, returns.baseline) == ("baseline", "lowest")


def test_a_case_that_is_given_in_part_is_completed_with_the_data_of_a_test():
    given = evaluate("abr", "lowest", {"video": "synthetic"})
    assert given.case["traces"] == "synthetic-test"
    assert given.rows[0].per_episode == evaluate("abr", ["lowest"]).rows[0].per_episode


def test_parts_of_a_case_that_nobody_knows_are_one_sentence(tmp_path):
    for problem, policy in (("abr", "bba"), ("vp", "hold_last")):
        with pytest.raises(InputError, match=f"case must have parts that {problem} knows, got 'no"):
            evaluate(problem, [policy], {"nope": 1})
    with pytest.raises(InputError, match="case must have parts that abr knows, got 'nope'"):
        collect("abr", ["bba"], 1, tmp_path / "pool", {"nope": 1})
    with pytest.raises(InputError, match="episodes must be 1 or more, got 0"):
        evaluate("abr", ["bba"], episodes=0)
    with pytest.raises(InputError, match="policy bba must be one of cjs, got one of abr"):
        evaluate("cjs", [load_policy("bba", "abr")])
    assert not (tmp_path / "pool").exists()


def test_one_name_is_a_list_of_one(tmp_path, pool, valid):
    assert len(collect("abr", "bba", 1, tmp_path / "pool", {"traces": valid})) == 1
    train(
        "abr",
        "llm",
        tmp_path / "run",
        config={"updates": 1, "batch_episodes": 2, "layers": 1, "threads": 1},
        pool=ExperiencePool.load(pool).folder,
        policies="bba",
        validate_on=valid,
    )
    assert (tmp_path / "run/last").is_dir()


def test_a_part_of_a_case_has_no_name_of_an_option_of_the_commands():
    row = PROBLEMS["abr"]
    options = {**row.case_options, "seed": row.case_options["video"]}
    with pytest.raises(InputError, match="case_options must not have the names of options"):
        replace(row, case_options=options)
