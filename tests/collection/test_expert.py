"""An expert's answers are what it would have done there, and what is imitated."""

from dataclasses import replace

import numpy as np
import pytest

from netllm_gym import train
from netllm_gym.collection.collect import collect
from netllm_gym.errors import InputError
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.loading import load_policy
from netllm_gym.policies.offline.config import OfflineConfig
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.pools.windows import PaddedEpisodes, Windows
from netllm_gym.problems.index import PROBLEMS, find_problem
from netllm_gym.training.from_pools import default_returns, default_teachers
from netllm_gym.training.llm import fit_llm
from netllm_gym.training.llm_config import TrainConfig
from netllm_gym.training.offline_examples import Examples
from netllm_gym.training.run import TrainingRun
from tests.commands import files_of
from tests.policies.llm.made import ABR_SIZES

CASE = {"traces": "synthetic", "video": "synthetic"}
CLUSTER = {"workload": "synthetic", "num_executors": 4, "num_jobs": 3}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setitem(PROBLEMS, "abr", replace(PROBLEMS["abr"], shard_episodes=3))


def answers_of(name, problem, episode, case):
    """Ask a policy again, alone, in one episode that somebody played."""
    env = find_problem(problem).make_env(1, **case)
    policy = load_policy(name, problem).factory(env)
    plan = env.training_plan([episode.seed])
    options = {key: np.array([value]) for key, value in plan[0].options.items()}
    observations, infos = env.reset(seed=[episode.seed], options=options or None)
    policy.reset(np.zeros(1, np.int64), np.array([episode.seed]))
    rewards, answers = np.zeros(1), []
    for action in episode.actions:
        answers.append(policy.act(observations, rewards, infos)[0])
        observations, rewards, _, _, infos = env.step(action[None])
    return np.stack(answers)


# robust_mpc remembers its errors, :sampled draws, and clusters' episodes have different lengths.
@pytest.mark.parametrize(
    ("problem", "players", "expert", "case"),
    [
        ("abr", ["bba", "robust_mpc"], "robust_mpc", CASE),
        ("abr", ["bba"], "random", CASE),
        ("cjs", ["random", "fair"], "srpt", CLUSTER),
    ],
)
def test_answers_are_those_of_the_expert_asked_alone(tmp_path, problem, players, expert, case):
    pool = collect(problem, players, 4, tmp_path / "pool", case, expert=expert)
    for episode in pool.episodes:
        again = answers_of(expert, problem, episode, case)
        assert (episode.expert_actions == again).all()
        if episode.policy == expert:
            assert (again == episode.actions).all()
    plain = collect(problem, players, 4, tmp_path / "plain", case)
    for asked, alone in zip(pool.episodes, plain.episodes, strict=True):
        assert (asked.actions == alone.actions).all()
        assert alone.expert_actions is None


def test_any_number_of_processes_gives_the_same_bytes(tmp_path):
    for workers in (1, 2):
        collect(
            *("abr", ["bba"], 7, tmp_path / str(workers), CASE),
            workers=workers,
            expert="rate_based",
        )
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    pool = ExperiencePool.load(tmp_path / "1")
    assert pool.plan["expert"] == "rate_based"
    assert pool.columns("expert_actions")["expert_actions"].shape == (pool.num_steps,)


def test_a_player_that_needs_its_episodes_in_a_row_may_have_an_expert(tmp_path):
    pool = collect("abr", ["netllm_mpc"], 3, tmp_path / "pool", CASE, expert="robust_mpc")
    for episode in pool.episodes:
        assert (episode.expert_actions == answers_of("robust_mpc", "abr", episode, CASE)).all()
    plain = collect("abr", ["netllm_mpc"], 3, tmp_path / "plain", CASE)  # hears of each end
    for asked, alone in zip(pool.episodes, plain.episodes, strict=True):
        assert (asked.actions == alone.actions).all()


def test_a_batch_shows_what_was_done_and_what_is_imitated(tmp_path):
    pool = collect("abr", ["bba"], 3, tmp_path / "pool", CASE, expert="lowest")
    episodes = PaddedEpisodes.from_pools([pool])
    batch = Windows(episodes, np.zeros(episodes.mask.shape), 47).batch(np.arange(3))
    assert batch["actions"].any()
    assert not batch["targets"].any()
    without = replace(episodes, expert_actions=None)
    batch = Windows(without, np.zeros(episodes.mask.shape), 47).batch(np.arange(3))
    assert (batch["targets"] == batch["actions"]).all()


def test_the_language_model_imitates_the_expert_and_not_the_player(tmp_path):
    pool = collect("abr", ["random"], 6, tmp_path / "pool", CASE, expert="lowest")
    told = []
    run = TrainingRun(tmp_path / "run", progress=told.append)
    schedule = TrainConfig(updates=8, threads=1, warmup_fraction=0.0)
    fit_llm(PaddedEpisodes.from_pools([pool]), LLMConfig(**ABR_SIZES), schedule, run)
    assert told[-1]["accuracy"] == 1.0
    policy = load_policy(str(tmp_path / "run/last"), "abr").factory
    env = find_problem("abr").make_env(2, **CASE)
    observations, infos = env.reset(seed=[0, 1])
    assert not policy(env).act(observations, np.zeros(2), infos).any()


def test_a_language_model_schedules_as_the_expert_does(tmp_path):
    pool = collect("cjs", ["random"], 2, tmp_path / "pool", CLUSTER, expert="fifo")
    told = []
    config = LLMConfig(problem="cjs", max_steps=1, num_actions=0, observation_shape=())
    run = TrainingRun(tmp_path / "run", progress=told.append)
    schedule = TrainConfig(updates=30, threads=1, batch_episodes=64)
    fit_llm(PaddedEpisodes.from_pools([pool]), config, schedule, run)
    # Nobody can foresee what was drawn: told to imitate the player, it is right half the time.
    assert min(told[-1][f"{part}_accuracy"] for part in ("stage", "executor")) > 0.9


def test_of_d3rlpy_only_cloning_learns_the_answers(tmp_path):
    pool = collect("abr", ["random"], 3, tmp_path / "pool", CASE, expert="lowest")
    episodes = PaddedEpisodes.from_pools([pool])
    sizes = {"num_features": 36, "num_actions": 6, "max_steps": 47}
    for method in ("bc", "cql", "dt"):
        config = OfflineConfig(problem="abr", method=method, **sizes)
        config = replace(config, returns=config.returns.fit(episodes))
        examples = Examples.of(episodes, config)
        assert examples.actions.any() == (method != "bc")


def test_who_played_does_not_matter_where_an_expert_was_asked(tmp_path):
    pool = collect("abr", ["lowest", "bba"], 2, tmp_path / "pool", CASE, expert="robust_mpc")
    assert default_teachers([pool], imitates=True) == ["bba", "lowest"]
    assert default_teachers([pool], imitates=False) == ("bba",)  # the answers are not learned
    assert default_returns([pool], ["bba", "lowest"]) == ("none", "")
    once = {"updates": 1, "threads": 1, "validate_every": 0}
    train("abr", "llm", tmp_path / "run", pool=tmp_path / "pool", config=once)
    kept = load_policy(str(tmp_path / "run"), "abr").factory.trained_on
    assert kept["policies"] == ["bba", "lowest"]
    assert kept["plan"]["expert"] == "robust_mpc"


def test_training_that_an_expert_rules_out_is_refused_in_one_sentence(tmp_path):
    pool = collect("abr", ["lowest", "bba"], 2, tmp_path / "pool", CASE, expert="robust_mpc")
    plain = collect("abr", ["bba", "random"], 2, tmp_path / "plain", CASE)
    out = tmp_path / "run"
    with pytest.raises(InputError, match="returns must be none where an expert is imitated"):
        train("abr", "llm", out, pool=pool.folder, config={"returns": "return_to_go"})
    with pytest.raises(
        InputError, match=r"policies must be named .* for pools of which only some have"
    ):
        train("abr", "llm", out, pool=[pool.folder, plain.folder])
    half = PoolWriter(tmp_path / "half", "abr", pool.env_spec, {"num_shards": 2})
    half.write(0, pool.episodes[:2])
    half.write(1, plain.episodes[:2])
    with pytest.raises(InputError, match="half must hold expert_actions in all shards or in none"):
        train("abr", "llm", out, pool=tmp_path / "half")
    assert not out.exists()


@pytest.mark.parametrize("expert", ["optimum", "netllm_mpc"])
def test_who_cannot_answer_in_the_middle_is_refused(tmp_path, expert):
    with pytest.raises(InputError, match="expert must be a policy that can go on where another"):
        collect("abr", ["bba"], 1, tmp_path / "pool", CASE, expert=expert)
    assert not (tmp_path / "pool").exists()
