"""N players at once are N scalar environments, bit for bit, in every autoreset mode."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import netllm_gym  # noqa: F401
from netllm_gym.envs.abr.player import DownloadNoise, PlayerConfig
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.errors import InputError

ROWS, EPISODES = 150, 7  # 1,050 episodes in each mode
KEYS = ("qoe", "download_s", "rebuffer_s", "buffer_s", "pause_s", "clock_s", "chunk", "size_bytes")


def players_and_noises():
    """Rows that differ in link and player, as domain randomisation needs them."""
    rng = np.random.default_rng(5)
    players = [
        PlayerConfig(rng.uniform(0, 0.3), rng.uniform(8, 60), rng.choice([0.0, 0.5]))
        for _ in range(ROWS)
    ]
    return players, [DownloadNoise(1 - spread, 1 + spread) for spread in rng.uniform(0, 0.2, ROWS)]


class Scalars:
    """The slow obvious loop over scalar environments."""

    def __init__(self, seed):
        players, noises = players_and_noises()
        self.envs = [
            gym.make(
                "NetLLM-ABR-v0", player=player, noise=noise, disable_env_checker=True
            ).unwrapped
            for player, noise in zip(players, noises, strict=True)
        ]
        self.first = [env.reset(seed=seed + row) for row, env in enumerate(self.envs)]

    def step(self, row, action):
        return self.envs[row].step(action)

    def reset(self, row):
        return self.envs[row].reset()


def make(mode):
    players, noises = players_and_noises()
    return gym.make_vec(
        "NetLLM-ABR-v0", num_envs=ROWS, player=players, noise=noises, autoreset_mode=mode
    )


def assert_row(row, observations, infos, observation, info):
    np.testing.assert_array_equal(observations[row], observation)
    for key in KEYS:
        assert infos[key][row] == info[key], key
        assert infos[f"_{key}"][row]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_vector_equals_scalar_bit_for_bit(mode):
    vector, scalars = make(mode), Scalars(seed=11)
    assert vector.metadata["autoreset_mode"] is mode
    observations, infos = vector.reset(seed=11)
    for row, (observation, info) in enumerate(scalars.first):
        assert_row(row, observations, infos, observation, info)
        assert infos["startup_s"][row] == info["startup_s"]
    rng, ended = np.random.default_rng(3), np.zeros(ROWS, bool)
    for _ in range(48 * EPISODES):
        actions = rng.integers(0, 6, ROWS)
        if mode is AutoresetMode.DISABLED and ended.any():
            observations, infos = vector.reset(options={"reset_mask": ended.copy()})
            for row in np.flatnonzero(ended):
                assert_row(row, observations, infos, *scalars.reset(row))
            ended[:] = False
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        assert not truncated.any()
        for row, action in enumerate(actions):
            if mode is AutoresetMode.NEXT_STEP and ended[row]:
                assert_row(row, observations, infos, *scalars.reset(row))
                assert (rewards[row], terminated[row]) == (0.0, False)
                assert infos["_startup_s"][row]
                ended[row] = False
                continue
            observation, reward, end, _, info = scalars.step(row, int(action))
            assert (rewards[row], terminated[row]) == (reward, end)
            if mode is AutoresetMode.SAME_STEP and end:
                np.testing.assert_array_equal(infos["final_obs"][row], observation)
                assert all(infos["final_info"][key][row] == info[key] for key in KEYS)
                assert_row(row, observations, infos, *scalars.reset(row))
            else:
                assert_row(row, observations, infos, observation, info)
                ended[row] = end


def test_finished_rows_stand_still_when_autoreset_is_disabled():
    vector = make("Disabled")
    vector.reset(seed=0)
    for _ in range(47):
        observations, _, terminated, _, _ = vector.step(np.ones(ROWS, int))
    assert terminated.all()
    again, rewards, terminated, _, _ = vector.step(np.full(ROWS, 5))
    np.testing.assert_array_equal(again, observations)
    assert terminated.all()
    assert not rewards.any()


def test_same_seed_same_episode_in_any_batch_and_row():
    small, large = (ABRVectorEnv(rows, autoreset_mode="Disabled") for rows in (1, 9))
    alone, _ = small.reset(seed=[77])
    seeds = [None] * 9
    seeds[6] = 77
    among, _ = large.reset(seed=seeds)
    np.testing.assert_array_equal(alone[0], among[6])


def test_seeds_give_different_traces_and_starts():
    vector = ABRVectorEnv(400)
    vector.reset(seed=0)
    assert len(set(vector.trace_index)) > 80  # of 100; the same one every time would be 1
    assert len(set(vector.start_pointer)) > 40  # of 64
    assert vector.start_pointer.min() >= 1


def test_unseeded_resets_differ():
    first, second = (ABRVectorEnv(4).reset()[0] for _ in range(2))
    assert not np.array_equal(first, second)


def test_returned_arrays_are_never_reused():
    vector = ABRVectorEnv(3)
    first, infos = vector.reset(seed=0)
    kept, kept_qoe = first.copy(), infos["qoe"].copy()
    vector.step(np.array([1, 2, 3]))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(infos["qoe"], kept_qoe)
    first[:] = -1.0
    assert (vector.step(np.array([1, 2, 3]))[0] >= 0).all()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda env: env.reset(seed=[1, 2]), "seed must be one number or 3, got 2"),
        (lambda env: env.reset(options={"reset_mask": np.ones(2, bool)}), "reset_mask must be 3"),
        (lambda env: env.step(np.array([0, 6, 0])), r"action must be a rung in 0..5, got 6"),
        (lambda env: env.step(np.zeros(3)), "actions must be 3 whole numbers"),
        (
            lambda env: env.step(np.zeros(2, int)),
            r"actions must be 3 whole numbers, got shape \(2,\)",
        ),
    ],
)
def test_nonsense_is_refused(call, sentence):
    env = ABRVectorEnv(3)
    env.reset(seed=0)
    with pytest.raises(InputError, match=sentence):
        call(env)
