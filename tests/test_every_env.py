"""What must hold for every registered environment; a new one is tested by being registered."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import netllm_gym  # noqa: F401
from netllm_gym.problems.index import PROBLEMS
from netllm_gym.problems.problem import ControlProblem

IDS = sorted(env_id for env_id in gym.registry if env_id.startswith("NetLLM-"))
ALLOWED = (  # both come from the published ABR observation: a matrix, without an upper bound
    "A Box observation space maximum value is infinity",
    "Your observation .* has an unconventional shape",
)
every_env = pytest.mark.parametrize("env_id", IDS)


def assert_only_allowed(caught):
    import re

    texts = [str(one.message) for one in caught if not issubclass(one.category, ResourceWarning)]
    strange = [text for text in texts if not any(re.search(rule, text) for rule in ALLOWED)]
    assert not strange, strange


def rollout_of(env_id, seed, steps=60):
    """Return what a fixed sequence of actions sees, with a second episode if there is time."""
    env = gym.make(env_id)
    env.action_space.seed(seed)
    seen = [env.reset(seed=seed)]
    for _ in range(steps):
        seen.append(env.step(env.action_space.sample()))
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
    return seen


def test_each_problem_with_an_environment_is_registered():
    played = {each.env_id for each in PROBLEMS.values() if isinstance(each, ControlProblem)}
    assert set(IDS) <= played <= gym.registry.keys()  # installed packages have further ones


@every_env
def test_gymnasium_checker_has_nothing_to_say(env_id):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(gym.make(env_id).unwrapped)
    assert_only_allowed(caught)


@every_env
def test_stable_baselines3_checker_has_nothing_to_say(env_id):
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checker.check_env(gym.make(env_id).unwrapped)
    assert_only_allowed(caught)


@every_env
def test_ppo_of_stable_baselines3_runs(env_id):
    sb3 = pytest.importorskip("stable_baselines3")
    env = gym.make(env_id)
    kind = "MultiInputPolicy" if isinstance(env.observation_space, gym.spaces.Dict) else "MlpPolicy"
    model = sb3.PPO(kind, env, n_steps=64, batch_size=32, device="cpu")
    model.learn(128)
    assert model.num_timesteps == 128


@every_env
def test_same_seed_same_everything(env_id):
    first, second = (rollout_of(env_id, seed=4) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_equal(one, other)
    with pytest.raises(AssertionError):
        np.testing.assert_equal(first, rollout_of(env_id, seed=5))


@every_env
def test_observations_stay_in_their_space_and_spaces_stay_the_same(env_id):
    env = gym.make(env_id, disable_env_checker=True)
    space = env.observation_space
    observation, _ = env.reset(seed=0)
    for _ in range(200):
        assert observation in space
        observation, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert "episode" not in info  # Gymnasium's wrappers own that key
        if terminated or truncated:
            observation, _ = env.reset()
    assert env.observation_space is space


@every_env
def test_an_env_that_is_pickled_midway_ends_alike(env_id):
    env = gym.make(env_id, disable_env_checker=True)
    env.reset(seed=9)
    env.step(env.action_space.sample())
    copy = pickle.loads(pickle.dumps(env.unwrapped))
    action = env.action_space.sample()
    np.testing.assert_equal(copy.step(action), env.unwrapped.step(action))


@every_env
def test_docstring_has_gymnasiums_headings(env_id):
    text = type(gym.make(env_id).unwrapped).__doc__
    headings = ("Description", "Action Space", "Observation Space", "Rewards", "Starting State")
    for heading in (*headings, "Episode End", "Arguments", "Version History"):
        assert f"## {heading}" in text


@every_env
def test_module_prefix_registers_too(env_id):
    assert gym.make(f"netllm_gym:{env_id}").unwrapped.spec.id == env_id
