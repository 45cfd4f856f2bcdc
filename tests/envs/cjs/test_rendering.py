"""`render`: text of an episode made by hand, frames that change, and nothing kept without it."""

import copy
import re
import warnings

import gymnasium as gym
import numpy as np
import pytest

from netllm_gym.envs import drawing
from netllm_gym.envs.cjs.env import CJSEnv
from netllm_gym.envs.cjs.rendering import JOB_COLOURS, LISTED
from netllm_gym.errors import InputError, MissingDataError
from tests.envs.cjs.made_episode import ACTIONS, MADE


def made_env(render_mode):
    env = gym.make(
        "NetLLM-CJS-v0", workload=MADE, num_executors=2, max_stages=8, render_mode=render_mode
    )
    env.reset(seed=0)
    return env


def has_colour(picture, colour):
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return bool((picture == wanted).all(axis=-1).any())


def test_text_of_the_made_episode():
    env = made_env("ansi")
    assert env.render().splitlines() == [
        "workload made, 0.0 s: 1 jobs in the system, 0 of 2 complete",
        "executors: 0 busy, 0 moving, 2 idle; 2 to commit",
        " job  template   age, s  stages done  tasks left  executors",
        "   0  pair          0.0       0 of 2           4          0",
    ]
    env.step(np.array(ACTIONS[0]))
    assert env.render().splitlines() == [
        "workload made, 5.0 s: 2 jobs in the system, 0 of 2 complete",
        "executors: 1 busy, 0 moving, 1 idle; 2 to commit",
        " job  template   age, s  stages done  tasks left  executors",
        "   0  pair          5.0       0 of 2           2          2",
        "   1  lone          0.0       0 of 1           1          0",
    ]
    for action in ACTIONS[1:]:
        env.step(np.array(action))
    assert env.render().splitlines() == [
        "workload made, 10.0 s: 0 jobs in the system, 2 of 2 complete",
        "executors: 0 busy, 0 moving, 2 idle; 0 to commit",
    ]


def numbers(line):
    return [int(word) for word in re.findall(r"\d+", line)]


def test_an_executor_on_its_way_is_counted_to_the_job_it_goes_to():
    env = CJSEnv(num_executors=4, render_mode="ansi")
    observation, _ = env.reset(seed=0)
    for _ in range(400):
        _, executors, *jobs = env.render().splitlines()
        busy, moving, idle, _ = numbers(executors)
        assert busy + moving + idle == 4
        if moving:
            break
        slot = np.flatnonzero(observation["stage_mask"])[-1]
        observation, *_ = env.step(np.array([slot, 0]))
    assert sum(numbers(job)[-1] for job in jobs[1:]) >= busy + moving > busy


def test_a_long_list_is_cut():
    env = CJSEnv(num_executors=1, num_jobs=40, render_mode="ansi")
    observation, _ = env.reset(seed=0)
    while numbers(env.render().splitlines()[0].partition(" s: ")[2])[0] != LISTED + 3:
        slot = np.flatnonzero(observation["stage_mask"])[-1]
        observation, *_ = env.step(np.array([slot, 0]))
    lines = env.render().splitlines()
    assert len(lines) == 3 + LISTED + 1
    assert lines[-1] == "and 3 younger jobs"


def test_frames_are_pictures_of_what_the_executors_do():
    env = made_env("rgb_array")
    frames = [env.render()]
    for action in ACTIONS:
        env.step(np.array(action))
        frames.append(env.render())
    for frame in frames:
        assert frame.shape == (480, 800, 3)
        assert frame.dtype == np.uint8
    assert (frames[1] == frames[2]).all()  # the second decision is of the same moment
    assert (frames[0] != frames[1]).any()
    assert (frames[2] != frames[3]).any()
    assert [has_colour(frame, JOB_COLOURS[1]) for frame in frames] == [False, True, True, True]
    twin = copy.deepcopy(env.unwrapped)  # with the painter inside
    assert (twin.render() == frames[-1]).all()
    env.reset(seed=0)
    assert (env.render() == frames[0]).all()  # nothing of the last episode is left


def test_only_the_last_minutes_are_drawn():
    env = gym.make("NetLLM-CJS-v0", num_executors=10, render_mode="rgb_array").unwrapped
    observation, _ = env.reset(seed=0)
    while env.batch.state.rows["now_ms"][0] < 2e6:
        slot = np.flatnonzero(observation["stage_mask"])[0]
        observation, *_ = env.step(np.array([slot, 9]))
    env.render()
    low, high = env._painter._axes[1].get_xlim()
    now_s = env.batch.state.rows["now_ms"][0] / 1000.0
    assert (low, high) == pytest.approx((now_s - 600.0, now_s))


def test_without_a_render_mode_nothing_is_kept_and_render_says_why():
    env = CJSEnv(workload=MADE)
    env.reset(seed=0)
    assert env.batch.state.tasks.size == 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert env.render() is None
    assert "render gives nothing without a render_mode" in str(caught[0].message)


def test_wrong_modes_and_a_missing_library_are_refused(monkeypatch):
    with pytest.raises(InputError, match="render_mode must be None, ansi or rgb_array, got 'tv'"):
        CJSEnv(render_mode="tv")
    with pytest.raises(InputError, match="render must follow reset"):
        CJSEnv(render_mode="ansi").render()
    with pytest.raises(InputError, match="render_mode must be None for many rows in one call"):
        gym.make_vec("NetLLM-CJS-v0", num_envs=2, render_mode="ansi")
    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match="matplotlib"):
        CJSEnv(render_mode="rgb_array")
