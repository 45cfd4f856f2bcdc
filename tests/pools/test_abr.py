"""ABR matrices to columns and back, bit for bit."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netllm_gym.data.abr.video import Video
from netllm_gym.errors import InputError
from netllm_gym.pools.abr import from_columns, to_columns
from tests.pools.made import made_observations


def bits(values):
    return np.ascontiguousarray(values).view(np.uint32)


@given(num_steps=st.integers(1, 60), width=st.integers(6, 11), seed=st.integers(0, 10**6))
def test_round_trip_is_exact(num_steps, width, seed):
    observations = made_observations(num_steps, np.random.default_rng(seed), width)
    columns = to_columns(observations)
    np.testing.assert_array_equal(from_columns(columns), observations, strict=True)
    assert sum(column[0].size for column in columns.values()) == 5 + width  # nothing derived


@given(st.binary(min_size=4 * 11 * 7, max_size=4 * 11 * 7))
def test_any_bits_come_back_as_they_were(content):
    numbers = np.frombuffer(content, np.float32).reshape(7, 11)  # NaN, -0.0, infinities among them
    names = ("bitrate_share", "buffer_10s", "throughput_mb_per_s", "download_10s")
    columns = {name: numbers[:, place] for place, name in enumerate(names)}
    columns |= {"chunks_left_share": numbers[:, 4], "sizes_mb": numbers[:, 5:]}
    again = to_columns(from_columns(columns))
    for name, column in columns.items():
        np.testing.assert_array_equal(bits(again[name]), bits(column))


def test_the_first_step_holds_chunk_0_after_zeros():
    observations = made_observations(3, np.random.default_rng(0))
    rebuilt = from_columns(to_columns(observations))
    assert not rebuilt[0, [0, 1, 2, 3, 5], :5].any()
    assert not rebuilt[1, [0, 1, 2, 3, 5], :4].any()
    np.testing.assert_array_equal(rebuilt[1, :4, -2], rebuilt[0, :4, -1])


@pytest.mark.parametrize("num_rungs", [3, 6, 8])
def test_what_the_environment_shows_comes_back(num_rungs):
    sizes = np.random.default_rng(0).integers(10**5, 10**6, (12, num_rungs))
    ladder = np.linspace(0.3, 4.3, num_rungs)
    video = Video("made", np.sort(sizes, axis=1), ladder, num_chunks=12)
    env = gym.make("NetLLM-ABR-v0", video=video)
    observation, info = env.reset(seed=3)
    seen, infos, terminated = [], [], False
    while not terminated:
        seen.append(observation)
        infos.append(info)
        observation, _, terminated, _, info = env.step(len(seen) % num_rungs)
    observations = np.array(seen)
    assert observations.shape == (11, 6, max(6, num_rungs))
    columns = to_columns(observations)
    np.testing.assert_array_equal(from_columns(columns), observations, strict=True)
    told = {  # what a column says, in the words of the environment's info
        "bitrate_share": [info["bitrate_mbps"] / ladder[-1] for info in infos],
        "buffer_10s": [info["buffer_s"] / 10.0 for info in infos],
        "throughput_mb_per_s": [info["throughput_mbps"] / 8.0 for info in infos],
        "download_10s": [info["download_s"] / 10.0 for info in infos],
        "chunks_left_share": [(11 - info["chunk"]) / 12 for info in infos],
    }
    for name, values in told.items():
        np.testing.assert_allclose(columns[name], values, rtol=1e-6)


def test_matrices_that_do_not_follow_each_other_are_refused():
    observations = made_observations(9, np.random.default_rng(0))
    observations[4, 2, 1] += 1.0
    with pytest.raises(InputError, match=r"shifted by a column.* got something else at step 4"):
        to_columns(observations)
    with pytest.raises(InputError, match=r"zeros before the episode's first chunk.* at step 0"):
        to_columns(observations[5:])


@pytest.mark.parametrize(
    ("observations", "sentence"),
    [
        (np.zeros((4, 6, 5), np.float32), r"shape \(T, 6, W\), W >= 6, got \(4, 6, 5\)"),
        (np.zeros((4, 5, 6), np.float32), r"shape \(T, 6, W\), W >= 6, got \(4, 5, 6\)"),
        (np.zeros((4, 6), np.float32), r"shape \(T, 6, W\), W >= 6, got \(4, 6\)"),
        (np.zeros((4, 6, 6)), "observations must be float32, got float64"),
    ],
)
def test_other_matrices_are_refused(observations, sentence):
    with pytest.raises(InputError, match=sentence):
        to_columns(observations)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"buffer_10s": np.zeros(3, np.float32)}, r"buffer_10s must be float32 of shape \(4,\)"),
        ({"buffer_10s": np.zeros(4)}, "buffer_10s must be float32 .* got float64"),
        ({"sizes_mb": np.zeros((4, 5), np.float32)}, r"sizes_mb must be float32 of shape \(T, W\)"),
        ({"nodes": np.zeros(4, np.float32)}, "columns must be bitrate_share, .* got .*nodes"),
    ],
)
def test_other_columns_are_refused(change, sentence):
    columns = to_columns(made_observations(4, np.random.default_rng(0)))
    with pytest.raises(InputError, match=sentence):
        from_columns(columns | change)
