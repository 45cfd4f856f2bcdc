"""What the critic is shown of the future is what the link carries, and the actor never reads it.

What both are shown of the past is what the episode showed so far.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import load_video
from netllm_gym.envs.abr.observation import THROUGHPUT
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.neural.abr_mlp import (
    ABRNetwork,
    ABRNetworkConfig,
    LinkMemory,
    foresight_of,
    with_rows,
)
from netllm_gym.policies.neural.networks import NetworkPolicy, remembered
from netllm_gym.training.abr_foresight import WINDOW_EDGES_S, ForesightEnv, Outlook
from netllm_gym.training.advantages import compressed
from netllm_gym.training.online import TrainingEpisodes

WINDOWS = len(WINDOW_EDGES_S) - 1


def test_the_outlook_of_two_levels_is_worked_out_by_hand():
    steps = Trace("steps", np.array([0.0, 10.0, 20.0]), np.array([9.0, 1.0, 3.0]))
    steady = Trace("steady", np.array([0.0, 7.0]), np.array([9.0, 2.0]))
    ahead = Outlook([steps, steady]).capacity_mbps(np.array([0, 1]), np.array([7.0, 3.0]))
    # 7 s in: 1 Mbit/s until 10, 3 until 20, then again 1 until 30: the trace starts anew.
    assert ahead[0, :4] == pytest.approx([1.0, 2.0, 3.0, 3.0])
    assert ahead[0, 5] == pytest.approx((1 * 3.0 + 3 * 1.0) / 4)  # seconds 19 to 23
    assert ahead[1] == pytest.approx(np.full(WINDOWS, 2.0))


@pytest.mark.parametrize("width", [6, 9])
def test_foresight_comes_back_from_below_the_observation(width):
    rng = np.random.default_rng(0)
    observations = rng.uniform(0, 2, (4, 6, width)).astype(np.float32)
    ahead = rng.uniform(0.1, 5, (4, WINDOWS))
    seen = with_rows(observations, ahead)
    assert (seen[:, :6] == observations).all()
    assert np.exp(foresight_of(seen, WINDOWS).numpy()) == pytest.approx(ahead, rel=1e-5)


def test_foresight_moves_the_critic_and_never_the_actor():
    network = ABRNetwork(ABRNetworkConfig(width=8, foresight=WINDOWS))
    torch.nn.init.normal_(network.actor[-1].weight, generator=torch.Generator().manual_seed(1))
    observations = np.random.default_rng(0).uniform(0, 2, (5, 6, 6)).astype(np.float32)
    poor, rich = (
        LinkMemory(5).see(with_rows(observations, np.full((5, WINDOWS), mbps)))
        for mbps in (0.1, 4.0)
    )
    rungs = np.arange(5)
    before, after = network.evaluate_actions(poor, rungs), network.evaluate_actions(rich, rungs)
    assert torch.equal(before.log_probs, after.log_probs)
    assert (before.values != after.values).all()
    without = LinkMemory(5).see(observations)
    assert (network.decide(rich, None) == network.decide(without, None)).all()


@pytest.mark.parametrize("width", [6, 9])
def test_the_memory_equals_sums_over_the_whole_episode(width):
    rng, memory = np.random.default_rng(0), LinkMemory(3)
    past = [[], [], []]  # logarithms of throughputs, 0 at 0.01 MB/s and 1 at 1 MB/s
    for step in range(30):
        if step == 11:
            memory.reset(np.array([1]))
            past[1].clear()
        observations = np.zeros((3, 6, width), np.float32)
        observations[:, THROUGHPUT, -1] = rng.uniform(0.0, 2.0, 3)
        read = memory.see(observations)
        assert (read[:, :6] == observations).all()
        for row, seen in enumerate(past):
            seen.append(math.log(max(float(observations[row, THROUGHPUT, -1]), 0.01) / 0.01))
            seen[-1] /= math.log(100)
            wanted = [weighted(seen, decay) for decay in (0.6, 0.85, 0.95, 1.0)]
            changes = [abs(b - a) for a, b in pairwise(seen)] or [0.0]
            weight = sum(0.9**age for age in range(len(changes)))
            total = sum(0.9**age * change for age, change in enumerate(reversed(changes)))
            assert read[row, 6:].ravel()[:12] == pytest.approx(
                [mean for mean, _ in wanted]
                + [4 * deviation for _, deviation in wanted]
                + [min(seen), max(seen), 4 * total / weight, math.log(len(seen)) / 4],
                abs=1e-5,
            )


def weighted(seen, decay):
    """Return mean and standard deviation, the newest weighing most."""
    weights = [decay**age for age in range(len(seen))][::-1]
    mean = np.average(seen, weights=weights)
    return mean, math.sqrt(np.average((np.array(seen) - mean) ** 2, weights=weights))


def test_what_is_learned_from_is_what_was_read_while_playing():
    network = ABRNetwork(ABRNetworkConfig(width=8))
    rng = np.random.default_rng(0)
    episodes = [rng.uniform(0, 2, (steps, 6, 6)).astype(np.float32) for steps in (7, 3)]
    for episode, got in zip(episodes, remembered(network, episodes), strict=True):
        memory = network.new_memory(1)
        wanted = [memory.see(observation[None])[0] for observation in episode]
        assert got.shape == (len(episode), 8, 6)
        assert (got == np.stack(wanted)).all()


def test_observations_that_went_past_the_memory_are_refused():
    network, seen = ABRNetwork(ABRNetworkConfig(width=8)), np.ones((2, 6, 6), np.float32)
    with pytest.raises(InputError, match="must have gone through the memory, got 6 rows"):
        network.decide(seen, None)
    foresees = ABRNetwork(ABRNetworkConfig(width=8, foresight=WINDOWS))
    with pytest.raises(InputError, match=f"must hold {WINDOWS} numbers of foresight, got 0"):
        foresees.evaluate_actions(LinkMemory(2).see(seen), np.zeros(2, np.int64))
    with pytest.raises(InputError, match="must have gone through the memory, got 10 rows"):
        network.decide(LinkMemory(2).see(with_rows(seen, np.ones((2, WINDOWS)))), None)


def test_rows_that_play_several_episodes_forget_the_last_one():
    network = ABRNetwork(ABRNetworkConfig(width=8, seed=1))
    torch.nn.init.normal_(network.actor[-1].weight, generator=torch.Generator().manual_seed(1))
    traces = load_trace_set("synthetic").traces[:5]
    together, alone = (
        ABRVectorEnv(num_envs=rows, traces=traces, video="synthetic", autoreset_mode="Disabled")
        for rows in (2, 1)
    )
    plan = together.evaluation_plan()

    def played(env, part):
        policy = NetworkPolicy(network, env.num_envs, sampled=False, name="ppo")
        return rollout(policy, env, part).episodes

    for episode, planned in zip(played(together, plan), plan, strict=True):
        [other] = played(alone, [planned])
        assert episode.actions.tolist() == other.actions.tolist()
        [read] = remembered(network, [episode.observations])
        assert network.decide(read, None).tolist() == episode.actions.tolist()


def test_what_updates_play_over_shows_the_future_of_each_row():
    trace = Trace("steady", np.array([0.0, 500.0]), np.array([1.5, 1.5]))
    made = ForesightEnv(3, [trace], load_video("synthetic"), autoreset_mode="Disabled")
    env, plan = TrainingEpisodes(made, seed=0).episodes(0, None)
    observations, _ = env.reset(seed=[each.seed for each in plan])
    assert observations.shape == (3, 8, 6)
    assert np.exp(foresight_of(observations, WINDOWS).numpy()) == pytest.approx(1.5, rel=1e-5)
    later, *_ = env.step(np.zeros(3, np.int64))
    assert later.shape == (3, 8, 6)


def test_what_lies_below_the_floor_counts_a_tenth():
    assert compressed(np.array([2.0, -10.0, -30.0]), -10.0) == pytest.approx([2.0, -10.0, -12.0])
