import gymnasium as gym
import numpy as np
import pytest
from netllm_gym.evaluation.rollout import rollout

import congestion_control
from congestion_control.rules import AIMD, Bound, CopaLike, Random
from congestion_control.simulator import FACTORS

RULES = (Random, AIMD, CopaLike)


class Fastest(Random):
    name = "fastest"

    def choose(self, observations):
        return np.full(len(observations), FACTORS.argmax())


@pytest.fixture(scope="module")
def env():
    return gym.make_vec(
        congestion_control.ENV_ID,
        num_envs=50,
        links="synthetic-valid",
        autoreset_mode="Disabled",
    ).unwrapped


@pytest.fixture(scope="module")
def episodes(env):
    """Name of a rule -> 50 episodes of it."""
    plan = env.evaluation_plan()[:50]
    return {rule.name: rollout(rule(env), env, plan).episodes for rule in (*RULES, Fastest)}


def means(episodes, name):
    return np.array([episode.infos[name].mean() for episode in episodes])


def test_no_rule_beats_the_bound(env, episodes):
    bound = Bound(env).limits(env.evaluation_plan()[:50])
    assert (bound <= 1.0).all()
    for played in episodes.values():
        assert (means(played, "utility") <= bound).all()


def test_bound_is_the_share_that_the_fastest_sender_delivers(env, episodes):
    infos = [episode.infos for episode in episodes["fastest"]]
    share = [np.mean(each["throughput_mbps"] / each["capacity_mbps"]) for each in infos]
    assert Bound(env).limits(env.evaluation_plan()[:50]) == pytest.approx(share)


def test_sensible_rules_are_clearly_ahead_of_random_and_of_each_other(episodes):
    found = {name: means(played, "utility").mean() for name, played in episodes.items()}
    assert found["random"] + 0.5 < found["aimd"]
    assert found["aimd"] + 0.03 < found["copa_like"]


def test_aimd_fills_the_queue_and_copa_like_keeps_it_short(episodes):
    throughput, delay, loss = (
        {name: means(played, key).mean() for name, played in episodes.items()}
        for key in ("throughput_mbps", "delay_ms", "loss_share")
    )
    assert throughput["aimd"] > 0.9 * throughput["fastest"]
    assert delay["copa_like"] < delay["aimd"] < delay["fastest"]
    assert loss["copa_like"] < loss["aimd"] < loss["fastest"]


@pytest.mark.parametrize("rule", RULES)
def test_an_episode_does_not_depend_on_its_neighbours(rule, env, episodes):
    plan = env.evaluation_plan()[:50]
    (alone,) = rollout(rule(env), env, [plan[17]]).episodes
    np.testing.assert_array_equal(alone.actions, episodes[rule.name][17].actions)


def test_aimd_halves_on_a_loss_once_it_started(episodes):
    halved = 0
    for episode in episodes["aimd"]:
        lost = np.flatnonzero(episode.infos["loss_share"][:-1] > 0)
        rate = episode.infos["rate_mbps"]
        halved += np.count_nonzero(rate[lost + 1] < rate[lost])
        assert (rate[lost + 1] <= rate[lost]).all()
    assert halved > 50
