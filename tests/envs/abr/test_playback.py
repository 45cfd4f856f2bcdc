"""Curves of an episode, against sums done by hand, and against what the simulator sent."""

import gymnasium as gym
import numpy as np
import pytest

import netllm_gym  # noqa: F401
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import load_video
from netllm_gym.envs.abr.playback import Playback, link_capacity
from netllm_gym.envs.abr.player import PlayerConfig

# Chunk 0 takes 2 s. Chunk 1 takes 7 s with 4 s in the buffer: 3 s of stall. Chunk 2 takes 1 s;
# the buffer, 4 - 1 + 4 = 7 s, is then above a cap of 6 s, so the player pauses for 1 s.
MADE = {
    "qoe": [0.3, -12.6, 1.2],
    "bitrate_mbps": [0.3, 0.75, 1.2],
    "rebuffer_s": [2.0, 3.0, 0.0],
    "download_s": [2.0, 7.0, 1.0],
    "throughput_mbps": [0.6, 0.4, 4.8],
    "buffer_s": [4.0, 4.0, 6.0],
    "pause_s": [0.0, 0.0, 1.0],
    "clock_s": [2.0, 9.0, 11.0],
}


def played(player, noise, seed, action=2):
    """Return an environment after a whole episode, and its infos by column."""
    env = gym.make("NetLLM-ABR-v0", player=player, noise=noise, disable_env_checker=True).unwrapped
    infos = [env.reset(seed=seed)[1]]
    terminated = False
    while not terminated:
        _, _, terminated, _, info = env.step(action)
        infos.append(info)
    return env, {key: np.array([info[key] for info in infos]) for key in infos[1]}


def test_the_buffer_drains_jumps_and_waits():
    line = Playback.of(MADE).buffer()
    points = list(dict.fromkeys(zip(line.time_s, line.value, strict=True)))
    assert points == [(0, 0), (2, 0), (2, 4), (6, 0), (9, 0), (9, 4), (10, 3), (10, 7), (11, 6)]


def test_stalls_end_with_the_chunk_that_was_waited_for_and_startup_is_none():
    playback = Playback.of(MADE)
    assert playback.stalls_s.tolist() == [[6.0, 9.0]]
    assert playback.startup_s == 2.0


def test_bitrate_changes_with_the_request():
    steps = Playback.of(MADE).bitrate()
    assert steps.border_s.tolist() == [0.0, 2.0, 9.0, 11.0]
    assert steps.value.tolist() == [0.3, 0.75, 1.2]


def test_capacity_stands_still_during_the_round_trip_and_wraps():
    # From row 2 on: 1 s of 2 Mbit/s is left of the lap of 3 s, then 2 s of 1 Mbit/s, then again.
    # Each download begins with 0.5 s in which the trace stands still, so its 11 s are 9.5 s.
    trace = Trace("made", np.array([0.0, 2.0, 3.0]), np.array([9.0, 1.0, 2.0]))
    steps = link_capacity(Playback.of(MADE), trace, 2, PlayerConfig(rtt_s=0.5))
    # On the trace's clock borders lie at 3, 5, 6, 8, 9, 11 (begun at 2, ended at 11.5); chunk 1
    # starts at 3.5, chunk 2 at 10: 3 is in chunk 0, so + 0.5 s; 5, 6, 8, 9 in chunk 1, + 1.0 s.
    assert steps.border_s == pytest.approx([0.0, 1.5, 4.0, 5.0, 7.0, 8.0, 10.5, 11.0])
    assert steps.value.tolist() == [2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("moves", [False, True])
def test_what_the_link_could_carry_is_what_was_sent(noise, moves):
    player = PlayerConfig(rtt_s=0.2, rtt_moves_clock=moves)
    for seed in range(4):
        env, infos = played(player, noise, seed)
        playback, factors = Playback.of(infos), env.batch.noise_factors(0, len(infos["qoe"]))
        trace = env.trace_set.traces[env.trace_index[0]]
        link = link_capacity(playback, trace, int(env.start_pointer[0]), player, factors)
        carried = np.append(0.0, np.cumsum(link.value * np.diff(link.border_s)))  # Mbit
        first_byte_s = playback.request_s + player.rtt_s * factors
        sent_mbit = np.interp(playback.arrival_s, link.border_s, carried) - np.interp(
            first_byte_s, link.border_s, carried
        )
        expected_mbit = infos["size_bytes"] * 8e-6 / player.payload_fraction
        assert sent_mbit / factors == pytest.approx(expected_mbit, rel=1e-9)


def test_chunk_0_of_a_rollout_is_put_back_as_reset_reported_it():
    infos = played(PlayerConfig(), False, seed=1)[1]
    steps = {key: column[1:] for key, column in infos.items()}
    again, whole = Playback.after_reset(steps, load_video("synthetic"), 0), Playback.of(infos)
    for name, column in vars(whole).items():
        if name != "qoe":  # the environment pays no QoE for a start, and nothing counts it
            np.testing.assert_allclose(getattr(again, name), column, rtol=1e-12, err_msg=name)
