"""`render`: text of an episode made by hand, frames that change, and nothing kept without it."""

import copy
import itertools
import warnings

import gymnasium as gym
import numpy as np
import pytest

import netllm_gym
from netllm_gym.data.abr.video import load_video
from netllm_gym.envs import drawing
from netllm_gym.envs.abr import rendering
from netllm_gym.envs.abr.playback import Playback
from netllm_gym.envs.abr.rendering import Scene, episode_text, sparkline
from netllm_gym.errors import InputError, MissingDataError
from tests.envs.abr.test_playback import MADE


def scene(chunks):
    playback = Playback.of({key: column[:chunks] for key, column in MADE.items()})
    return Scene(playback, load_video("synthetic"), 6.0, "home", 3, 4.3, "Mbit/s")


def test_text_of_an_episode_made_by_hand():
    # Bars are eighths: bitrate 0.75 and 1.2 of 4.3 Mbit/s are in the 2nd and 3rd eighth, throughput
    # 0.4 of 4.8 in the 1st, buffer 4 of 6 s in the 6th, QoE 13.8 of 16.9 above -12.6 in the 7th.
    assert episode_text(scene(3)).splitlines() == [
        "trace home from row 3, video synthetic: chunk 2 of 47, 11.0 s",
        "bitrate    ▂▃ 1.20 Mbit/s",
        "throughput ▁█ 4.80 Mbit/s",
        "buffer     ▆█ 6.00 s",
        "stall      █· 3.00 s in all, start-up 2.00 s",
        "QoE        ▁▇ 1.20 Mbit/s, mean -5.700",
    ]


def test_text_before_the_first_decision():
    assert episode_text(scene(1)).splitlines()[1:] == [
        "bitrate    0.30 Mbit/s",
        "throughput 0.60 Mbit/s",
        "buffer     4.00 s",
        "stall      0.00 s in all, start-up 2.00 s",
        "QoE        none yet",
    ]


def test_sparkline_shows_the_newest_and_stays_in_its_levels():
    assert sparkline([0.0, 0.5, 1.0, 2.0, -1.0], 0.0, 1.0) == "▁▅██▁"
    assert sparkline(np.arange(100.0), 40.0, 99.0)[0] == "▁"
    assert len(sparkline(np.arange(100.0), 0.0, 99.0)) == rendering.LONGEST
    assert sparkline([3.0], 3.0, 3.0) == "▁"


def test_frames_are_pictures_that_change_with_every_chunk():
    env = gym.make("NetLLM-ABR-v0", render_mode="rgb_array", noise=True)
    env.reset(seed=0)
    frames = [env.render()]
    for action in (5, 0, 3):
        env.step(action)
        frames.append(env.render())
    for frame in frames:
        assert frame.shape == (480, 800, 3)
        assert frame.dtype == np.uint8
    assert all((one != other).any() for one, other in itertools.pairwise(frames))
    assert (env.render() == frames[-1]).all()
    twin = copy.deepcopy(env.unwrapped)  # with the painter inside
    assert (twin.render() == frames[-1]).all()
    env.reset(seed=0)
    assert (env.render() == frames[0]).all()  # nothing of the last episode is left


def test_gymnasiums_collection_of_frames_works():
    env = gym.make("NetLLM-ABR-v0", render_mode="ansi_list")
    env.reset(seed=0)
    env.step(1)
    env.step(2)
    assert [text.splitlines()[0].split(": ")[1][:7] for text in env.render()] == [
        *("chunk 0", "chunk 1", "chunk 2"),
    ]


def test_a_vector_of_scalar_environments_gives_a_frame_per_row():
    arguments = {"vectorization_mode": "sync", "render_mode": "ansi"}
    envs = gym.make_vec("NetLLM-ABR-v0", num_envs=2, **arguments)
    envs.reset(seed=0)
    assert len(envs.render()) == 2
    with pytest.raises(InputError, match="render_mode must be None for many rows in one call"):
        gym.make_vec("NetLLM-ABR-v0", num_envs=2, render_mode="ansi")


def test_without_a_render_mode_nothing_is_kept_and_render_says_why():
    env = gym.make("NetLLM-ABR-v0").unwrapped
    env.reset(seed=0)
    env.step(1)
    assert env._played == []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert env.render() is None
    assert "render gives nothing without a render_mode" in str(caught[0].message)


def test_wrong_modes_and_a_missing_library_are_refused(monkeypatch):
    with pytest.raises(InputError, match="render_mode must be None, ansi or rgb_array, got 'tv'"):
        netllm_gym.envs.abr.env.ABREnv(render_mode="tv")
    env = gym.make("NetLLM-ABR-v0", render_mode="ansi").unwrapped
    with pytest.raises(InputError, match="render must follow reset"):
        env.render()
    monkeypatch.setattr(drawing, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match="matplotlib"):
        gym.make("NetLLM-ABR-v0", render_mode="rgb_array")


def test_a_measure_without_a_unit_is_shown_without_one():
    env = gym.make("NetLLM-ABR-v0", qoe="log", render_mode="ansi")
    env.reset(seed=0)
    info = env.step(5)[-1]
    last = env.render().splitlines()[-1]
    assert last.endswith(f" {info['qoe']:.2f}, mean {info['qoe']:.3f}")
