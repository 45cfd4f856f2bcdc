"""The player against sums done by hand, each in its test, and laws that hold for every episode."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netllm_gym  # noqa: F401
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.errors import InputError

PLAIN = PlayerConfig(rtt_s=0.0, payload_fraction=1.0)
MBIT = 125_000  # bytes


def make_env(capacity_mbps, size_mbit, player=PLAIN, time_s=None, ladder=(1.0, 2.0), **arguments):
    time_s = np.arange(len(capacity_mbps)) * 10.0 if time_s is None else np.array(time_s)
    trace = Trace("made", time_s, np.array(capacity_mbps, float))
    sizes = np.tile(np.array(size_mbit) * MBIT, (6, 1)).astype(np.int64)
    video = Video("made", sizes, np.array(ladder), num_chunks=6)
    return gym.make("NetLLM-ABR-v0", traces=[trace], video=video, player=player, **arguments)


def begin(env, pointer=1):
    return env.reset(options={"trace": 0, "start_pointer": pointer})[1]


def test_download_across_a_change_of_capacity():
    # Chunk 0: 8 Mbit at 2 Mbit/s take 4 s. Chunk 1: 24 Mbit; 6 s at 2 Mbit/s carry 12, then the
    # link carries 4 Mbit/s and the other 12 take 3 s.
    env = make_env([9.0, 2.0, 4.0], [8, 24])
    info = begin(env)
    assert info["startup_s"] == info["download_s"] == pytest.approx(4.0)
    info = env.step(1)[-1]
    assert info["download_s"] == pytest.approx(6.0 + 3.0)
    # The buffer held one chunk of 4 s, so 5 s of the 9 were a stall; then it holds 4 s again.
    assert info["rebuffer_s"] == pytest.approx(5.0)
    assert info["buffer_s"] == pytest.approx(4.0)
    assert info["throughput_mbps"] == pytest.approx(24 / 9)
    # QoE: bitrate 2, stall 4.3 * 5, a change of 1 Mbit/s.
    assert info["qoe"] == pytest.approx(2 - 4.3 * 5 - 1)
    assert info["clock_s"] == pytest.approx(13.0)


def test_first_row_is_never_used_and_the_trace_wraps_behind_it():
    # From second 10 on the link carries 1 Mbit/s until 20; then the trace starts again at time 0
    # with row 1, 8 Mbit/s: 10 Mbit, then 2 Mbit in 0.25 s.
    env = make_env([99.0, 8.0, 1.0], [12, 12])
    assert begin(env, pointer=2)["download_s"] == pytest.approx(10.25)


def test_round_trip_lengthens_the_download_but_not_the_trace():
    # With 0.5 s round trip, chunk 0 takes 4.5 s but ends at second 4 of the trace, so chunk 1 still
    # finds 6 s of 2 Mbit/s: 12 Mbit, then 12 at 4 Mbit/s.
    still = make_env([9.0, 2.0, 4.0], [8, 24], PlayerConfig(rtt_s=0.5, payload_fraction=1.0))
    assert begin(still)["download_s"] == pytest.approx(4.5)
    assert still.step(1)[-1]["download_s"] == pytest.approx(9.5)
    # Where the round trip moves the trace clock: chunk 0 ends at 4.5, the request of chunk 1
    # arrives at second 5; 10 Mbit until second 10, then 14 at 4 Mbit/s.
    runs = PlayerConfig(rtt_s=0.5, payload_fraction=1.0, rtt_moves_clock=True)
    moving = make_env([9.0, 2.0, 4.0], [8, 24], runs)
    assert begin(moving)["download_s"] == pytest.approx(4.5)
    assert moving.step(1)[-1]["download_s"] == pytest.approx(0.5 + 5.0 + 3.5)


@pytest.mark.parametrize(("step_s", "pause_s"), [(0.5, 3.0), (0.0, 2.75)])
def test_full_buffer_pauses_in_steps_or_exactly(step_s, pause_s):
    # 1 Mbit at 4 Mbit/s takes 0.25 s. After chunk 0 the buffer is 4 s, after chunk 1 it would be
    # 4 - 0.25 + 4 = 7.75 s: 2.75 s above the cap of 5.
    player = PlayerConfig(0.0, buffer_cap_s=5.0, pause_step_s=step_s, payload_fraction=1.0)
    env = make_env([4.0, 4.0], [1, 2], player)
    begin(env)
    info = env.step(0)[-1]
    assert info["pause_s"] == pytest.approx(pause_s)
    assert info["buffer_s"] == pytest.approx(7.75 - pause_s)
    assert info["clock_s"] == pytest.approx(0.5 + pause_s)


def test_pause_lets_the_trace_run_on():
    # Row 1 (until second 3) carries 4 Mbit/s, row 2 carries 1. The pause of 3 s that the test above
    # works out ends after second 3, so chunk 2 meets 1 Mbit/s.
    player = PlayerConfig(0.0, buffer_cap_s=5.0, payload_fraction=1.0)
    env = make_env([4.0, 4.0, 1.0], [1, 2], player, time_s=[0.0, 3.0, 30.0])
    begin(env)
    env.step(0)
    assert env.step(0)[-1]["download_s"] == pytest.approx(1.0)


def test_weights_of_the_qoe():
    env = make_env([9.0, 2.0, 4.0], [8, 24], qoe=LinearQoE(10.0, 0.5))
    begin(env)
    assert env.step(1)[1] == pytest.approx(2 - 10 * 5 - 0.5 * 1)


def test_observation_of_a_small_and_of_a_large_ladder():
    env = make_env([2.0, 2.0], [8, 24])
    begin(env)
    observation = env.step(1)[0]
    assert observation.shape == (6, 6)
    # Bitrates 1 and 2 of a top rung of 2; sizes of the next chunk in MB, nothing beyond the ladder.
    np.testing.assert_allclose(observation[0], [0, 0, 0, 0, 0.5, 1.0])
    np.testing.assert_allclose(observation[4], [1, 3, 0, 0, 0, 0])
    # Of 6 chunks 4 are left.
    assert observation[5, -1] == np.float32(4 / 6)
    ladder = tuple(range(1, 9))
    wide = make_env([2.0, 2.0], np.arange(1, 9) * 4, ladder=ladder)
    begin(wide)
    for action in (1, 2, 3, 4, 5):
        observation = wide.step(action)[0]
    assert observation.shape == (6, 8)
    # Six chunks of history, right-aligned; the columns left of them stay empty.
    np.testing.assert_allclose(observation[0], np.array([0, 0, 1, 2, 3, 4, 5, 6]) / 8)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    cap_s=st.floats(4.0, 80.0),
    step_s=st.sampled_from([0.0, 0.5, 2.0]),
    rtt_s=st.floats(0.0, 2.0),
    moves=st.booleans(),
)
def test_time_is_either_played_or_stalled(seed, cap_s, step_s, rtt_s, moves):
    player = PlayerConfig(rtt_s, cap_s, step_s, 0.95, moves)
    env = gym.make("NetLLM-ABR-v0", player=player, noise=True)
    _, info = env.reset(seed=seed)
    rng, before = np.random.default_rng(seed), info
    while True:
        _, reward, terminated, truncated, info = env.step(int(rng.integers(6)))
        played_s = before["buffer_s"] + 4.0 - info["buffer_s"]
        elapsed_s = info["clock_s"] - before["clock_s"]
        assert played_s + info["rebuffer_s"] == pytest.approx(elapsed_s, abs=1e-9)
        assert 0 <= info["rebuffer_s"] <= info["download_s"]
        assert info["download_s"] >= 0.9 * rtt_s
        assert info["buffer_s"] <= cap_s + 1e-9
        expected = info["bitrate_mbps"] - 4.3 * info["rebuffer_s"] - info["smoothness_mbps"]
        assert reward == pytest.approx(expected)
        before = info
        if terminated:
            break
        assert not truncated
    assert info["chunk"] == 47


def test_noise_stays_in_its_range():
    quiet, noisy = (gym.make("NetLLM-ABR-v0", noise=noise) for noise in (False, (0.9, 1.1)))
    ratios = []
    for seed in range(30):
        factor = noisy.reset(seed=seed)[1]["download_s"] / quiet.reset(seed=seed)[1]["download_s"]
        ratios.append(factor)
    assert 0.9 <= min(ratios) < 0.93
    assert 1.07 < max(ratios) < 1.1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"player": PlayerConfig(buffer_cap_s=3.0)}, "buffer_cap_s must hold one chunk of 4.0 s"),
        ({"noise": (1.1, 0.9)}, r"noise must be two factors 0 < low <= high, got \(1.1, 0.9\)"),
        ({"noise": 0.1}, r"noise must be True, False or \(low, high\), got 0.1"),
        ({"qoe": 4.3}, "qoe must be a LinearQoE or one of linear, log, hd, table, got 4.3"),
        ({"traces": 5}, "traces must be a name, a folder or a list of Trace, got 5"),
        ({"traces": []}, "trace set given must hold a trace, got none"),
        ({"traces": "no-such-set"}, "traces must be a folder or one of .*, got 'no-such-set'"),
        ({"video": "no-such-video"}, "video must be a folder or one of .*, got 'no-such-video'"),
        (
            {"player": [PlayerConfig()] * 2},
            "player must be one PlayerConfig or one per row, 1 in all",
        ),
    ],
)
def test_nonsense_is_refused_with_its_value(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        gym.make("NetLLM-ABR-v0", **arguments)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"trace": 100}, r"trace must be in 0..99, got 100"),
        ({"trace": 0, "start_pointer": 0}, r"start_pointer must be in 1..64 .*, got 0"),
        ({"trace": 0, "start_pointer": 65}, r"start_pointer must be in 1..64 .*, got 65"),
        ({"trace": 1.7}, "trace must be one whole number or one per row, 1 in all, got 1.7"),
        ({"start_pointer": 1}, "start_pointer must come with trace"),
        ({"pointer": 1}, "options must be trace, start_pointer or reset_mask, got pointer"),
    ],
)
def test_wrong_options_are_refused(options, sentence):
    env = gym.make("NetLLM-ABR-v0")
    with pytest.raises(InputError, match=sentence):
        env.reset(options=options)


def test_wrong_actions_are_refused():
    env = gym.make("NetLLM-ABR-v0", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    with pytest.raises(InputError, match=r"action must be a rung in 0..5, got 6"):
        env.step(6)
    for _ in range(47):
        env.step(0)
    with pytest.raises(InputError, match="step must follow reset"):
        env.step(0)
