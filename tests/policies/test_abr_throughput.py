"""FESTIVE and the throughput rule against sums done by hand and slow obvious loops."""

import itertools
import math

import numpy as np
import pytest

from netllm_gym.data.abr.video import PENSIEVE_LADDER_MBPS
from netllm_gym.envs.abr.observation import BITRATE, DOWNLOAD, TENS_S, THROUGHPUT
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.baselines.abr_throughput import Festive, ThroughputRule
from tests.policies.test_abr_baselines import make_env, make_video

LADDER = (1.0, 2.0, 4.0)


def seen(env, rungs, throughput_mbps, download_s=4.0):
    """Return the (1, 6, 6) observation after chunks of these rungs, all with one throughput."""
    observation = np.zeros((1, 6, 6), np.float32)
    newest = rungs[-6:]
    observation[0, BITRATE, 6 - len(newest) :] = env.video.ladder_mbps[newest] / LADDER[-1]
    observation[0, THROUGHPUT, 6 - len(newest) :] = throughput_mbps / 8.0
    observation[0, DOWNLOAD, -1] = download_s / TENS_S
    return observation


def decide(policy, observations):
    """Return the actions of consecutive steps of one episode."""
    policy.reset(np.array([0]), np.array([0]))
    return [int(policy.act(each, np.zeros(1), {})[0]) for each in observations]


@pytest.mark.parametrize(
    ("rungs", "throughput_mbps", "taken"),
    [
        # 0.85 x 2.4 = 2.04 wants rung 1. One vote is more than rung 0 asks for, so the candidate
        # is 2 Mbit/s: stay 2^0 + 12 |1 / 2 - 1| = 7, move 2^1 + 0 = 2.
        ([0], 2.4, 1),
        # 0.85 x 2.3 = 1.955 wants rung 0.
        ([0], 2.3, 0),
        # One vote is not more than rung 1 asks for.
        ([1], 10.0, 1),
        # Down at once, by one rung: 0.85 x 1.2 = 1.02 wants rung 0, the candidate is 2 Mbit/s.
        # Stay 1 + 12 |4 / 1.2 - 1| = 29, move 2 + 12 |2 / 1.2 - 1| = 10.
        ([2], 1.2, 1),
        # Wants rung 1 of 2 Mbit/s (0.85 x 4 = 3.4): both are within the estimate, so efficiency
        # counts from the candidate: stay 1 + 12 |4 / 2 - 1| = 13, move 2 + 0.
        ([2], 4.0, 1),
        # Three switches among the last five chunks: stay 2^3 + 12 |1 / 2 - 1| = 14, move 2^4 = 16.
        ([0, 0, 1, 0, 1, 1, 0], 2.4, 0),
        # The oldest of the six in view, a switch away, is not among the last five: stay
        # 2^2 + 6 = 10, move 2^3 = 8.
        ([1, 0, 0, 1, 1, 0], 2.4, 1),
    ],
)
def test_festive_weighs_efficiency_against_switches(rungs, throughput_mbps, taken):
    env = make_env(LADDER)
    assert decide(Festive(env), [seen(env, rungs, throughput_mbps)]) == [taken]


def test_festive_rises_after_more_votes_the_higher_it_is():
    env = make_env(LADDER)
    wants_more = seen(env, [1], 10.0)
    # Rung 1 asks for two votes; a decision that wants no more makes the count begin anew.
    assert decide(Festive(env), [wants_more] * 2) == [1, 2]
    enough = seen(env, [1], 3.0)  # 0.85 x 3 = 2.55 wants rung 1
    assert decide(Festive(env), [wants_more, enough, wants_more, wants_more]) == [1, 1, 1, 2]
    # The rise itself spends the votes.
    assert decide(Festive(env), [wants_more] * 4) == [1, 2, 1, 2]


def slow_festive(observations, ladder):
    """Decide one episode with plain numbers."""
    actions, votes, rungs = [], 0, []
    for each in observations:
        rungs.append(int(np.argmin(np.abs(each[BITRATE, -1] * ladder[-1] - ladder))))
        speeds = [float(mb) * 8.0 for mb in each[THROUGHPUT, -5:] if mb > 0]
        estimate = len(speeds) / sum(1.0 / mbps for mbps in speeds)
        now = rungs[-1]
        wanted = max([r for r in range(len(ladder)) if ladder[r] <= 0.85 * estimate], default=0)
        votes = votes + 1 if wanted > now else 0
        candidate = now + 1 if votes > now else now - 1 if wanted < now else now
        action = now
        if candidate != now:
            last = rungs[-5:]
            switches = sum(a != b for a, b in itertools.pairwise(last))
            reach = min(estimate, ladder[candidate])
            stay = 2**switches + 12 * abs(ladder[now] / reach - 1)
            move = 2 ** (switches + 1) + 12 * abs(ladder[candidate] / reach - 1)
            if move < stay:
                action = candidate
                votes = 0 if candidate > now else votes
        actions.append(action)
    return actions


def slow_throughput_rule(observations, ladder):
    """Decide one episode with plain numbers: weights of each sample in both averages."""
    actions = []
    for step in range(len(observations)):
        estimates = []
        for half_life_s in (3.0, 8.0):
            total = weights = behind_s = 0.0
            for each in reversed(observations[: step + 1]):
                spent_s = float(each[DOWNLOAD, -1]) * 10.0
                weight = 0.5 ** (behind_s / half_life_s) * (1 - 0.5 ** (spent_s / half_life_s))
                total += weight * float(each[THROUGHPUT, -1]) * 8.0
                weights += weight
                behind_s += spent_s
            estimates.append(total / weights)
        limit = 0.9 * min(estimates)
        actions.append(max([r for r in range(len(ladder)) if ladder[r] <= limit], default=0))
    return actions


@pytest.mark.parametrize(
    ("kind", "slow"), [(Festive, slow_festive), (ThroughputRule, slow_throughput_rule)]
)
def test_rules_equal_the_slow_loop_over_whole_episodes(kind, slow):
    env = make_env(num_envs=6, video=make_video(PENSIEVE_LADDER_MBPS, num_chunks=30))
    for episode in rollout(kind(env), env, env.evaluation_plan()).episodes:
        expected = slow(list(episode.observations), env.video.ladder_mbps)
        assert episode.actions.tolist() == expected
        assert len(set(expected)) > 1


def test_throughput_rule_believes_the_slower_average():
    env = make_env(LADDER)
    # 5 Mbit/s for 24 s, then 1 Mbit/s for 3 s. Half life 3 s: weights (1 - 2^-8) / 2 = 0.498 and
    # 0.5, estimate (0.498 x 5 + 0.5) / 0.998 = 2.996. Half life 8 s: (1 - 2^-3) 2^-3/8 = 0.6747 and
    # 1 - 2^-3/8 = 0.2289, estimate (3.373 + 0.229) / 0.9036 = 3.99. 0.9 x 2.996 = 2.7: rung 1.
    first, second = seen(env, [0], 5.0, 24.0), seen(env, [0, 0], 1.0, 3.0)
    assert decide(ThroughputRule(env), [first, second]) == [2, 1]
    # 1 for 24 s, then 5 for 3 s: 3.0 and (0.6747 + 1.1445) / 0.9036 = 2.01, so 1.81: rung 0.
    first, second = seen(env, [0], 1.0, 24.0), seen(env, [0, 0], 5.0, 3.0)
    assert decide(ThroughputRule(env), [first, second]) == [0, 0]
    assert math.isclose(0.9 * 0.6747 / 0.9036 + 0.9 * 5 * 0.2289 / 0.9036, 1.81, abs_tol=0.01)


@pytest.mark.parametrize("kind", [Festive, ThroughputRule])
def test_a_reset_row_begins_anew_and_the_others_go_on(kind):
    env, alone = make_env(LADDER, num_envs=2), make_env(LADDER)
    batch, single = kind(env), kind(alone)
    steps = [seen(alone, [1], mbps, spent) for mbps, spent in ((10.0, 2.0), (3.0, 9.0), (9.0, 2.0))]
    both = [np.repeat(step, 2, axis=0) for step in steps]
    batch.reset(np.arange(2), np.arange(2))
    for step in both[:2]:
        batch.act(step, np.zeros(2), {})
    batch.reset(np.array([1]), np.array([7]))
    after = [batch.act(step, np.zeros(2), {}).tolist() for step in both]
    assert [row for row, _ in after] == decide(single, steps[:2] + steps)[2:]
    assert [row for _, row in after] == decide(single, steps)
