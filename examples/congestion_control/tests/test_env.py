import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from netllm_gym.errors import InputError

import congestion_control
from congestion_control.links import NUM_INTERVALS, make_link
from congestion_control.observation import history_of

ID = congestion_control.ENV_ID


def make_vec(num_envs, **arguments):
    return gym.make_vec(ID, num_envs=num_envs, **arguments).unwrapped


def test_gymnasiums_checker_has_nothing_to_say():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ID).unwrapped)


def test_stable_baselines3s_checker_has_nothing_to_say():
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checker.check_env(gym.make(ID).unwrapped)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_rows_play_what_scalar_environments_play_bit_for_bit(mode):
    rows = make_vec(3, autoreset_mode=mode)
    singles = [gym.make(ID).unwrapped for _ in range(3)]
    observations, _ = rows.reset(seed=7)
    for row, single in enumerate(singles):
        np.testing.assert_array_equal(single.reset(seed=7 + row)[0], observations[row])
    rng = np.random.default_rng(0)
    for step in range(2 * NUM_INTERVALS + 1):
        actions = rng.integers(0, 7, 3)
        observations, rewards, terminated, truncated, infos = rows.step(actions)
        assert not terminated.any()
        for row, single in enumerate(singles):
            if mode == "NextStep" and step == NUM_INTERVALS:
                np.testing.assert_array_equal(single.reset()[0], observations[row])
                continue
            if mode == "Disabled" and step >= NUM_INTERVALS:
                assert rewards[row] == 0.0
                continue
            seen, reward, _, ended, info = single.step(int(actions[row]))
            assert (reward, ended) == (rewards[row], truncated[row])
            if mode == "SameStep" and ended:
                np.testing.assert_array_equal(infos["final_obs"][row], seen)
                assert infos["final_info"]["utility"][row] == info["utility"]
                seen, info = single.reset()
            np.testing.assert_array_equal(seen, observations[row])
            assert all(infos[name][row] == value for name, value in info.items())


def test_equal_seeds_give_equal_episodes_in_any_batch():
    small, large = make_vec(1), make_vec(9)
    small.reset(seed=4)
    large.reset(seed=0)
    for _ in range(30):
        one, many = small.step(np.array([4])), large.step(np.full(9, 4))
        np.testing.assert_array_equal(one[0][0], many[0][4])
        assert one[1][0] == many[1][4]


def test_episode_ends_after_all_intervals_and_stays_in_its_space():
    env = gym.make(ID, disable_env_checker=True)
    env.action_space.seed(0)
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        assert info == {}
        for step in range(NUM_INTERVALS):
            assert observation in env.observation_space
            observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert reward == info["utility"] <= 1.0
            assert (terminated, truncated) == (False, step == NUM_INTERVALS - 1)
    with pytest.raises(InputError, match="step must follow reset"):
        env.unwrapped.step(0)


def test_observation_says_what_info_says():
    env = gym.make(ID).unwrapped
    observation, _ = env.reset(seed=3)
    first = history_of(observation[None])
    assert first.rate_mbps[0, -1] == pytest.approx(1.0)
    assert first.delay_ratio[0].tolist() == [0.0] * 7 + [1.0]
    for action in (6, 6, 6, 6, 6, 6, 6, 0):
        observation, _, _, _, info = env.step(action)
        seen = history_of(observation[None])
        assert seen.throughput_mbps[0, -1] == pytest.approx(info["throughput_mbps"], rel=1e-6)
        assert seen.rate_mbps[0, -1] == pytest.approx(info["rate_mbps"], rel=1e-6)
        assert seen.delay_s[0, -1] == pytest.approx(info["delay_ms"] / 1000.0, rel=1e-6)
        assert seen.loss_share[0, -1] == pytest.approx(info["loss_share"], rel=1e-6)


def test_link_can_be_named():
    env = make_vec(2, links="synthetic-test")
    env.reset(seed=0, options={"link_seed": np.array([11, 12])})
    assert env.case(1) == {"link": "synthetic-test 12", "content": "synthetic-test"}
    infos = env.step(np.array([3, 3]))[4]
    assert infos["capacity_mbps"][1] == make_link(12).capacity_mbps[0]
    with pytest.raises(InputError, match=r"link_seed must be in 0\.\.9999, got 10000"):
        env.reset(options={"link_seed": 10_000})
    with pytest.raises(InputError, match="options must be link_seed or reset_mask, got trace"):
        env.reset(options={"trace": 1})


def test_wrong_actions_are_refused():
    env = make_vec(2)
    env.reset(seed=0)
    for wrong in ([0, 7], [-1, 0], [0], [0.5, 1.0]):
        with pytest.raises(InputError, match="actions must be"):
            env.step(np.array(wrong))


def test_plans():
    env = make_vec(2, links="synthetic-valid")
    plan = env.evaluation_plan()
    assert [planned.options["link_seed"] for planned in plan] == list(range(10_000, 10_100))
    assert len(env.evaluation_plan(150)) == 150
    with pytest.raises(InputError, match="episodes must be at most 10000"):
        env.evaluation_plan(10_001)
    assert [planned.seed for planned in env.training_plan([5, 6])] == [5, 6]
    assert env.provenance(plan)["recordings"] == ["synthetic-valid"]


def test_pickled_midway_it_goes_on_alike():
    env = make_vec(2)
    env.reset(seed=0)
    env.step(np.array([6, 6]))
    copy = pickle.loads(pickle.dumps(env))
    np.testing.assert_equal(copy.step(np.array([4, 0])), env.step(np.array([4, 0])))
