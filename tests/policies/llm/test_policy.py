"""The policy in a real environment: train as you serve, forget at reset."""

import numpy as np
import pytest
import torch

from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import PENSIEVE_LADDER_MBPS, Video
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.policies.llm.model import inputs_of
from netllm_gym.policies.llm.policy import LLMPolicy, LLMPolicyFactory
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.pools.windows import PaddedEpisodes
from tests.policies.llm.made import MAX_STEPS, make_batch, make_model, shape_folder

RETURNS = ReturnSpec("return_to_go", gamma=0.9, center=2.0, scale=3.0, target=1.0)
TRACES = [
    Trace(f"made {i}", np.arange(200.0), np.random.default_rng(i).gamma(1.5, 1.5, 200))
    for i in range(4)
]
SIZES = np.rint(
    np.random.default_rng(0).uniform(0.7, 1.3, (MAX_STEPS + 1, 1)) * PENSIEVE_LADDER_MBPS * 5e5
).astype(np.int64)
VIDEO = Video("made", SIZES, np.array(PENSIEVE_LADDER_MBPS), MAX_STEPS + 1)


def make_env(num_envs):
    return ABRVectorEnv(num_envs, TRACES, VIDEO, autoreset_mode="Disabled")


@pytest.fixture(params=["compact", "netllm"])
def model(request, tmp_path):
    model = make_model(shape_folder(tmp_path, "llama"), request.param, returns=RETURNS)
    # Untrained, one rung wins everywhere: take the means off, so that the observation decides.
    first, _ = make_env(64).reset(seed=0)
    model.encoders.fit(torch.from_numpy(first))
    policy = LLMPolicy(model, 64)
    model.head.bias.data -= torch.from_numpy(policy.logits(first, np.zeros(64)).mean(0)).float()
    return model


def play(policy, seed, num_envs):
    """Play an episode in each row; return what was seen, done and paid, (N, T, ...)."""
    env = make_env(num_envs)
    observations, infos = env.reset(seed=seed)
    policy.reset(np.arange(num_envs), np.arange(seed, seed + num_envs))
    rewards = np.zeros(num_envs)
    seen, done, paid = [], [], []
    for _ in range(MAX_STEPS):
        actions = policy.act(observations, rewards, infos)
        seen.append(observations.copy())
        done.append(actions)
        observations, rewards, *_, infos = env.step(actions)
        paid.append(rewards.copy())
    return np.stack(seen, 1), np.stack(done, 1), np.stack(paid, 1)


def test_greedy_actions_are_the_training_forwards_argmax_on_the_same_episode(model):
    policy = LLMPolicyFactory(model)(make_env(3))
    seen, done, paid = play(policy, seed=0, num_envs=3)
    assert len(np.unique(done)) > 1
    # The target is 1 * 3 + 2 = 5; each reward comes off, and the discount is undone.
    wanted = np.full((3, MAX_STEPS), 5.0)
    for step in range(1, MAX_STEPS):
        wanted[:, step] = (wanted[:, step - 1] - paid[:, step - 1]) / 0.9
    episodes = PaddedEpisodes(
        *(seen, done, paid, np.ones(done.shape, bool), ("netllm",)),
        *(np.zeros(3, np.int64), np.arange(3), ({},) * 3),
    )
    batch = make_batch(episodes, returns=(wanted - 2.0) / 3.0)
    with torch.inference_mode():
        logits = model(inputs_of(batch))
    assert np.array_equal(logits.argmax(-1).numpy(), done)


def test_the_policy_forgets_at_reset(model):
    policy = LLMPolicy(model, 3)
    first = play(policy, seed=0, num_envs=3)[1]
    play(policy, seed=50, num_envs=3)
    again = play(policy, seed=0, num_envs=3)[1]
    assert np.array_equal(first, again)


def test_a_row_that_is_reset_alone_plays_as_if_new_and_disturbs_nobody(model):
    seen, done, paid = play(LLMPolicy(model, 3), seed=0, num_envs=3)
    policy = LLMPolicy(model, 3)
    policy.reset(np.arange(3), np.arange(3))
    late = 4  # row 1 begins again here, with the same episode
    for tick in range(MAX_STEPS):
        if tick == late:
            policy.reset(np.array([1]), np.array([1]))
        at = [tick, tick - late if tick >= late else tick, tick]
        rows = np.arange(3)
        rewards = np.where(np.array(at) > 0, paid[rows, np.array(at) - 1], 0.0)
        actions = policy.act(seen[rows, at], rewards, {})
        assert np.array_equal(actions, done[rows, at])


def test_sampled_actions_go_by_episode_seed_whatever_the_batch(model):
    three = play(LLMPolicy(model, 3, sampled=True), seed=7, num_envs=3)[1]
    one = play(LLMPolicy(model, 1, sampled=True), seed=8, num_envs=1)[1]
    assert np.array_equal(three[1], one[0])
    greedy = play(LLMPolicy(model, 3), seed=7, num_envs=3)[1]
    assert not np.array_equal(three, greedy)


def test_sampled_actions_follow_the_softmax(model):
    policy = LLMPolicy(model, 4000, sampled=True)
    policy.reset(np.arange(4000), np.arange(4000))
    observation = np.random.default_rng(0).random((6, 6), np.float32)
    observations = np.broadcast_to(observation, (4000, 6, 6))
    actions = policy.act(observations, np.zeros(4000), {})
    policy.reset(np.arange(4000), np.arange(4000))
    logits = policy.logits(observations, np.zeros(4000))[0]
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    # 4,000 draws: a share's standard error is at most 0.5 / sqrt(4000) = 0.008.
    assert np.bincount(actions, minlength=6) / 4000 == pytest.approx(shares, abs=0.03)


def test_a_finished_row_may_be_shown_more(model):
    policy = LLMPolicy(model, 2)
    seen, _, _ = play(policy, seed=0, num_envs=2)
    for _ in range(3):
        assert policy.act(seen[:, 0], np.zeros(2), {}).shape == (2,)
