"""What other libraries rely on: infos with the same keys, plain seeds, specs that survive JSON."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

import netllm_gym  # noqa: F401
from netllm_gym.envs.cjs.cluster import ClusterConfig
from netllm_gym.errors import InputError

SMALL = {
    "NetLLM-ABR-v0": {},
    "NetLLM-CJS-v0": {"num_jobs": 3, "num_executors": 3, "max_stages": 64, "max_jobs": 4},
}
each_env = pytest.mark.parametrize("env_id", SMALL)


def play(env, steps=400):
    """Return the infos of an episode and of the next reset."""
    infos, over = [env.reset(seed=2)[1]], False
    env.action_space.seed(0)
    while not over and len(infos) <= steps:
        *_, terminated, truncated, info = env.step(env.action_space.sample())
        over = terminated or truncated
        infos.append(info)
    assert over
    return [*infos, env.reset()[1]]


@each_env
def test_every_info_has_the_same_keys_and_shapes_of_floats(env_id):
    infos = play(gym.make(env_id, **SMALL[env_id]).unwrapped)
    for info in infos:
        assert info.keys() == infos[0].keys()
        for key, value in info.items():
            assert value.dtype == np.float64, key
            assert np.shape(value) == np.shape(infos[0][key])


@each_env
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_every_info_of_a_vector_environment_has_the_same_keys(env_id, mode):
    env = gym.make_vec(env_id, num_envs=2, autoreset_mode=mode, **SMALL[env_id])
    keys = set(env.reset(seed=0)[1])
    env.action_space.seed(0)
    for _ in range(60):
        infos = env.step(env.action_space.sample())[-1]
        extra = {key for key in infos if "final_" in key}
        assert infos.keys() - extra == keys
        if "final_info" in infos:
            assert infos["final_info"].keys() == keys


@each_env
def test_a_scalar_environment_has_no_number_of_environments(env_id):
    assert not hasattr(gym.make(env_id, **SMALL[env_id]).unwrapped, "num_envs")


@each_env
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_step_limit_truncates_as_gymnasiums_own_does(env_id, mode):
    """Gymnasium limits a vector of scalar environments by its wrapper `TimeLimit`."""
    asked = {"num_envs": 2, "max_episode_steps": 4}
    ours = gym.make_vec(env_id, autoreset_mode=mode, **asked, **SMALL[env_id])
    others = gym.make_vec(
        env_id,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        **asked,
        **SMALL[env_id],
    )
    ours.reset(seed=5)
    others.reset(seed=5)
    ours.action_space.seed(1)
    for _ in range(10):
        action = ours.action_space.sample()
        mine, theirs = ours.step(action), others.step(action)
        np.testing.assert_equal(mine[:4], theirs[:4])
        over = mine[2] | mine[3]
        if mode is AutoresetMode.DISABLED and over.any():
            if over.all():  # they stay as they are
                again = ours.step(action)
                assert not again[1].any()
                np.testing.assert_equal(again[2:4], mine[2:4])
            for env in (ours, others):
                env.reset(options={"reset_mask": over.copy()})


@each_env
def test_numpy_integers_are_seeds(env_id):
    env = gym.make(env_id, **SMALL[env_id]).unwrapped
    np.testing.assert_equal(env.reset(seed=np.int32(3)), env.reset(seed=3))
    many = gym.make_vec(env_id, num_envs=2, **SMALL[env_id])
    found = [many.reset(seed=seed)[0] for seed in (np.int64(3), [3, 4], np.array([3, 4]))]
    np.testing.assert_equal(found[0], found[1])
    np.testing.assert_equal(found[0], found[2])


@each_env
@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda one, many: one.reset(seed=1.5), "seed must be a whole number, got 1.5"),
        (lambda one, many: one.reset(seed=-1), "seed must be at least 0, got -1"),
        (lambda one, many: many.reset(seed=1.5), "seed must be one number or 2, got 1.5"),
        (lambda one, many: many.reset(seed=[1, 2.5]), "seed must be a whole number, got 2.5"),
        (lambda one, many: many.reset(seed=-3), "seed must be at least 0, got -3"),
        (
            lambda one, many: many.step(many.action_space.sample()),
            "step must follow reset, got a step before any episode",
        ),
    ],
)
def test_what_is_no_seed_or_too_early_is_refused(env_id, call, sentence):
    one = gym.make(env_id, **SMALL[env_id]).unwrapped
    many = gym.make_vec(env_id, num_envs=2, **SMALL[env_id])
    with pytest.raises(InputError, match=sentence):
        call(one, many)


@each_env
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_envs": 1.5}, "num_envs must be a whole number, got 1.5"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"num_envs": 1, "max_episode_steps": 0}, "max_episode_steps must be at least 1, got 0"),
        ({"num_envs": 1, "autoreset_mode": "never"}, "autoreset_mode must be .*, got 'never'"),
    ],
)
def test_vector_arguments_of_a_wrong_kind_are_refused(env_id, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        gym.make_vec(env_id, **arguments, **SMALL[env_id])


@each_env
def test_an_action_that_is_no_whole_number_is_refused(env_id):
    env = gym.make(env_id, **SMALL[env_id]).unwrapped
    env.reset(seed=0)
    for wrong in (1.5, None, "up", True):
        with pytest.raises(InputError, match=r"actions? must be (a )?whole number.* got"):
            env.step(wrong)


def test_a_cluster_survives_json():
    env = gym.make("NetLLM-CJS-v0", cluster=ClusterConfig(moving_delay_s=1.0), num_jobs=2)
    again = gym.make(EnvSpec.from_json(env.spec.to_json())).unwrapped
    assert again.batch.cluster == ClusterConfig(moving_delay_s=1.0)
    with pytest.raises(InputError, match="must have no unknown field, got 'delay'"):
        gym.make("NetLLM-CJS-v0", cluster={"delay": 1})
