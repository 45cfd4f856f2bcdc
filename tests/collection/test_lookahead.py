"""What an action is worth is what really follows when it is taken and the policy plays on."""

import numpy as np
import pytest
import torch

from netllm_gym.collection.collect import collect
from netllm_gym.collection.lookahead import action_values
from netllm_gym.envs.abr.env import ABREnv
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.baselines.abr import BBA
from netllm_gym.policies.llm.abr import MOST_REGRET, expected_regret
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.loading import load_policy
from netllm_gym.pools.windows import PaddedEpisodes, Windows
from netllm_gym.problems.index import find_problem
from netllm_gym.training.llm import fit_llm
from netllm_gym.training.llm_config import TrainConfig
from netllm_gym.training.run import TrainingRun
from tests.policies.llm.made import ABR_SIZES

CASE = {"traces": "synthetic", "video": "synthetic", "noise": True}
SHORT = {**CASE, "noise": False}


def make_env(rows):
    return find_problem("abr").make_env(rows, **CASE)


# bba has no memory, robust_mpc remembers its errors, random where it stands in its draws.
@pytest.mark.parametrize("plays_on", ["bba", "robust_mpc", "random"])
def test_values_equal_episodes_played_from_the_beginning(plays_on):
    env, factory = make_env(2), load_policy(plays_on).factory
    plan = env.training_plan([5, 6])
    episodes = rollout(load_policy("rate_based").factory(env), env, plan).episodes
    values = action_values(make_env, factory, plan, episodes)
    scalar = ABREnv(**CASE)
    policy = factory(make_env(1))
    for index, step, action in [(0, 0, 5), (1, 20, 0), (1, 46, 3)]:
        seed = plan[index].seed
        observation, _ = scalar.reset(seed=seed)
        total, done, t, reward = 0.0, False, 0, 0.0
        policy.reset(np.zeros(1, np.int64), np.array([seed]))
        while not done:
            answer = int(policy.act(observation[None], np.array([reward]), {})[0])
            chosen = (
                int(episodes[index].actions[t]) if t < step else action if t == step else answer
            )
            observation, reward, done, _, _ = scalar.step(chosen)
            total += reward if t >= step else 0.0
            t += 1
        assert values[index][f"value_{action}"][step] == pytest.approx(total, rel=1e-12)


def test_the_value_of_what_the_policy_does_itself_is_its_return_to_go():
    env = make_env(3)
    plan = env.training_plan([1, 2, 3])
    episodes = rollout(BBA(env), env, plan).episodes
    for episode, values in zip(episodes, action_values(make_env, BBA, plan, episodes), strict=True):
        table = np.stack([values[f"value_{action}"] for action in range(6)], axis=1)
        own = table[np.arange(len(episode.actions)), episode.actions]
        assert own == pytest.approx(np.cumsum(episode.rewards[::-1])[::-1], rel=1e-9)


def test_regret_is_worked_out_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [1.0, 1e-9, 1e-9]]))
    values = torch.tensor([[1.0, 3.0, -99.0], [2.0, 1.0, 0.0]])
    by_hand = [0.5 * 2.0 + 0.25 * 0.0 + 0.25 * MOST_REGRET, 0.0]
    assert expected_regret(logits, values).tolist() == pytest.approx(by_hand, abs=1e-6)


def test_a_pool_keeps_values_and_a_model_learns_to_prefer_them(tmp_path):
    pool = collect("abr", ["bba"], 4, tmp_path / "pool", SHORT, lookahead="rate_based")
    episodes = PaddedEpisodes.from_pools([pool])
    assert episodes.values.shape == (4, 47, 6)
    batch = Windows(episodes, np.zeros(episodes.mask.shape), 47).batch(np.array([2, 0]))
    assert (batch["values"] == episodes.values[[2, 0]].astype(np.float32)).all()
    losses = []
    config = TrainConfig(updates=12, objective="value", threads=1)
    run = TrainingRun(tmp_path / "run", progress=lambda told: losses.append(told["loss"]))
    fit_llm(episodes, LLMConfig(**ABR_SIZES), config, run)
    assert losses[-1] < 0.8 * losses[0]


def test_who_reads_its_own_last_action_cannot_go_on_where_another_was(tmp_path):
    pool = collect("abr", ["bba"], 2, tmp_path / "pool", SHORT)
    run, config = TrainingRun(tmp_path / "run"), LLMConfig(**ABR_SIZES, layout="netllm")
    fit_llm(PaddedEpisodes.from_pools([pool]), config, TrainConfig(updates=1, threads=1), run)
    for role in ("lookahead", "expert"):
        with pytest.raises(InputError, match=f"{role} must be a policy that can go on where"):
            collect("abr", ["bba"], 1, tmp_path / "other", SHORT, **{role: str(run.last)})
    # One that does not reads what the observation shows.
    assert len(collect("abr", ["bba"], 1, tmp_path / "other", SHORT, expert="netllm")) == 1


def test_lookahead_is_refused_where_it_cannot_be(tmp_path):
    with pytest.raises(InputError, match="lookahead must be left out for cjs, got 'fair'"):
        collect("cjs", ["fair"], 1, tmp_path / "pool", {"num_jobs": 2}, lookahead="fair")
    for planner in ("optimum", "netllm_mpc"):  # one plans whole episodes, one needs them in a row
        with pytest.raises(InputError, match="must be a policy that can go on where another was"):
            collect("abr", ["bba"], 1, tmp_path / "pool", SHORT, lookahead=planner)
    pool = collect("abr", ["bba"], 2, tmp_path / "plain", SHORT)
    config, run = (
        TrainConfig(updates=1, objective="value", threads=1),
        TrainingRun(tmp_path / "run"),
    )
    with pytest.raises(InputError, match="objective must be imitate for a pool without values"):
        fit_llm(PaddedEpisodes.from_pools([pool]), LLMConfig(**ABR_SIZES), config, run)
    assert not (tmp_path / "run").exists()
