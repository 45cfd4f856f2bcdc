"""The offline optimum against every action sequence of short videos, and against the oracle."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video, load_video
from netllm_gym.envs.abr.env import ABREnv
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines import abr_optimum
from netllm_gym.policies.baselines.abr_optimum import OptimumPolicy, offline_optimum

PENSIEVE = LinearQoE()
SHARED = os.environ.get("NETLLM_GYM_DATA")
ROUNDING = 1e-8


def made_video(ladder_mbps, chunks, seed=0, chunk_s=4.0):
    """Sizes that wander by 20 % around the nominal ones; a rung may be larger than the next."""
    rng = np.random.default_rng(seed)
    ladder_mbps = np.array(ladder_mbps)
    noise = np.exp(rng.normal(0.0, 0.2, (chunks, len(ladder_mbps))))
    sizes = (ladder_mbps * chunk_s * 125_000 * noise).astype(np.int64)
    return Video("made", sizes, ladder_mbps, chunks, chunk_s)


def made_trace(mean_mbps, seed=0, rows=25):
    """A bursty link that also stands still at times."""
    rng = np.random.default_rng(seed)
    time_s = np.concatenate([[0.0], np.cumsum(rng.uniform(0.3, 4.0, rows))])
    capacity_mbps = mean_mbps * rng.exponential(1.0, rows + 1)
    capacity_mbps[rng.random(rows + 1) < 0.15] = 0.0
    capacity_mbps[1] = mean_mbps
    return Trace("made", time_s, capacity_mbps)


def replayed(trace, pointer, video, qoe, player, actions):
    """Mean reward of an action sequence in the simulator."""
    env = ABREnv([trace], video, qoe, player)
    env.reset(seed=0, options={"trace": 0, "start_pointer": pointer})
    return sum(env.step(action)[1] for action in actions) / len(actions)


def brute_force(trace, pointer, video, qoe, player):
    """The best mean reward of all action sequences, all played at once."""
    rungs, steps = video.num_rungs, video.num_chunks - 1
    plans = np.array(list(itertools.product(range(rungs), repeat=steps)))
    env = ABRVectorEnv(len(plans), [trace], video, qoe, player, autoreset_mode="Disabled")
    env.reset(seed=0, options={"trace": 0, "start_pointer": pointer})
    return sum(env.step(plans[:, step])[1] for step in range(steps)).max() / steps


SPEEDS_MBPS = [0.15, 0.8, 2.0, 6.0, 40.0]  # forced stalls, slow, medium, fast, over every rung
VIDEOS = {
    "three rungs": made_video([0.3, 1.2, 4.3], 7),
    "two rungs, short chunks": made_video([0.5, 2.0], 9, chunk_s=1.0),
    "four near rungs": made_video([1.0, 1.1, 1.25, 1.3], 6),
    "four far rungs": made_video([0.1, 1.0, 5.0, 20.0], 6),
}
PLAYERS = {
    "default": PlayerConfig(),
    "exact pauses": PlayerConfig(pause_step_s=0.0),
    "the round trip moves the trace": PlayerConfig(rtt_s=0.7, rtt_moves_clock=True),
    "long round trip": PlayerConfig(rtt_s=5.0, payload_fraction=0.5),
    "small cap": PlayerConfig(buffer_cap_s=5.0, pause_step_s=0.0),
    "small cap, long steps": PlayerConfig(buffer_cap_s=5.0, pause_step_s=1.5),
}


@pytest.mark.parametrize("mbps", SPEEDS_MBPS)
@pytest.mark.parametrize("video", VIDEOS.values(), ids=VIDEOS)
@pytest.mark.parametrize("player", PLAYERS.values(), ids=PLAYERS)
def test_equals_the_best_of_all_sequences(mbps, video, player):
    trace = made_trace(mbps, seed=int(10 * mbps))
    optimum = offline_optimum(trace, 2, video, PENSIEVE, player)
    best = brute_force(trace, 2, video, PENSIEVE, player)
    assert optimum.qoe <= best + ROUNDING * (1.0 + abs(best))
    assert optimum.upper_bound >= best
    assert optimum.actions.shape == (video.num_chunks - 1,)
    assert replayed(trace, 2, video, PENSIEVE, player, optimum.actions) == optimum.qoe
    if optimum.exact:
        assert optimum.qoe == pytest.approx(best, rel=ROUNDING, abs=ROUNDING)
        assert optimum.upper_bound == pytest.approx(best, rel=ROUNDING, abs=ROUNDING)
    if player.pause_step_s == 0.0 or player.buffer_cap_s == 60.0:
        assert optimum.exact  # only pauses in steps leave a gap


@pytest.mark.parametrize("mbps", SPEEDS_MBPS)
@pytest.mark.parametrize(
    "qoe",
    [LinearQoE(0, 1), LinearQoE(4.3, 0), LinearQoE(0, 0), LinearQoE(0.05, 1), LinearQoE(50, 9)],
)
def test_equals_the_best_of_all_sequences_under_other_weights(mbps, qoe):
    trace, video, player = made_trace(mbps, seed=3), VIDEOS["three rungs"], PlayerConfig()
    optimum = offline_optimum(trace, 4, video, qoe, player)
    assert optimum.exact
    assert optimum.qoe == pytest.approx(brute_force(trace, 4, video, qoe, player), abs=ROUNDING)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_the_bound_holds_when_labels_are_merged(limit, monkeypatch):
    monkeypatch.setattr(abr_optimum, "_BEAM", 1)
    monkeypatch.setattr(abr_optimum, "_LIMITS", (limit,))
    video, player = VIDEOS["three rungs"], PLAYERS["small cap"]
    gaps = []
    for seed in range(6):
        trace = made_trace(1.5, seed)
        optimum = offline_optimum(trace, 1, video, PENSIEVE, player)
        best = brute_force(trace, 1, video, PENSIEVE, player)
        assert optimum.qoe <= best + ROUNDING * (1.0 + abs(best))
        assert optimum.upper_bound >= best
        gaps.append(optimum.upper_bound - optimum.qoe)
        assert optimum.exact == (gaps[-1] < ROUNDING)
    if limit == 1:
        assert max(gaps) > ROUNDING, "so narrow a search should have had to merge"


def test_a_long_stall_that_buys_much_is_found():
    # After 20 s the link stops for 100 s. A second of stall costs 0.05 and the top rung earns 20
    # more a chunk, so waiting pays; a bound that forbids stalls would cut this plan off.
    trace = Trace("stops", np.array([0.0, 20.0, 120.0, 140.0]), np.array([0.0, 9.0, 0.0, 9.0]))
    video, qoe, player = VIDEOS["four far rungs"], LinearQoE(0.05, 1.0), PlayerConfig()
    optimum = offline_optimum(trace, 1, video, qoe, player)
    best = brute_force(trace, 1, video, qoe, player)
    assert optimum.exact
    assert optimum.qoe == pytest.approx(best, abs=ROUNDING)


def proved(trace, pointer, video, qoe, player, floor, limit):
    """Mean reward that the proving run alone claims to reach, by a floor in mean reward."""
    planning = abr_optimum._planning_episode(trace, pointer, video, qoe, player)
    proving, steps = abr_optimum._proving_episode(planning), video.num_chunks - 1
    return abr_optimum._run(proving, pointer, floor * steps, limit).claim / steps


def drawn_episode(seed):
    """Short episodes at the edges: links that stop, cheap stalls, small caps, long round trips."""
    rng = np.random.default_rng(seed)
    rungs = int(rng.integers(2, 4))
    chunks, chunk_s = {2: 9, 3: 7}[rungs], float(rng.choice([1.0, 4.0]))
    ladder_mbps = np.sort(rng.choice(np.arange(1, 60), rungs, replace=False)) / 10.0
    spread = rng.choice([0.0, 0.3])
    sizes = ladder_mbps * chunk_s * 125_000 * np.exp(rng.normal(0.0, spread, (chunks, rungs)))
    video = Video("drawn", sizes.astype(np.int64), ladder_mbps, chunks, chunk_s)
    rows = int(rng.integers(2, 12))
    capacity_mbps = 10.0 ** rng.uniform(-0.5, 1.5) * rng.exponential(1.0, rows + 1)
    capacity_mbps[rng.random(rows + 1) < 0.3] = 0.0
    capacity_mbps[1] += 0.1
    trace = Trace("drawn", np.cumsum([0.0, *rng.choice([0.5, 1.7, 6.0], rows)]), capacity_mbps)
    qoe = LinearQoE(float(rng.choice([0.05, 0.3, 1.0, 4.3])), float(rng.choice([0.0, 1.0])))
    player = PlayerConfig(
        rtt_s=float(rng.choice([0.08, 1.0])),
        buffer_cap_s=chunk_s * float(rng.choice([1.0, 1.5, 2.5, 50.0])),
        pause_step_s=float(rng.choice([0.0, 0.5])),
        rtt_moves_clock=bool(rng.random() < 0.5),
    )
    return trace, int(rng.integers(1, rows + 1)), video, qoe, player


@pytest.mark.parametrize("seed", range(100))
def test_the_proving_run_alone_reaches_the_best_sum(seed):
    # With no floor only dominance and merging drop labels; with one just below the best, the
    # price bound drops all it can.
    case = drawn_episode(seed)
    best = brute_force(*case)
    rounding = ROUNDING * (1.0 + abs(best))
    for floor in (-np.inf, best - 10.0 * rounding):
        for limit in (10_000, 2):
            assert proved(*case, floor, limit) >= best - rounding


def test_a_label_that_stalled_more_still_stands_for_one_that_need_not_pause():
    # 1 MB takes 1 s; the link stops from 5.9 s to 30 s. Rung 2 in chunk 1 stalls by 1 s and has
    # earned 7.5 after chunk 4, at 4.3 s; rung 1 in chunk 3 never stalls and has 7 at 5.3 s. But
    # after chunk 5 the first has 9.6 s of buffer and must pause until 6 s, when the link has
    # stopped; the second has 7.6 s, goes on at 5.4 s and earns 9 in all.
    trace = Trace("stops", np.array([0.0, 5.9, 30.0, 530.0]), np.array([0.0, 8.0, 0.0, 8.0]))
    sizes = np.full((7, 3), 100_000_000)
    sizes[:, 0] = 100_000
    sizes[0, 0], sizes[1, 2], sizes[3, 1] = 1_000_000, 3_000_000, 4_000_000
    video = Video("made", sizes, np.array([1.0, 4.0, 5.0]), 7, chunk_s=2.0)
    player = PlayerConfig(rtt_s=0.0, buffer_cap_s=8.0, pause_step_s=0.0, payload_fraction=1.0)
    case = (trace, 1, video, LinearQoE(0.5, 0.0), player)
    assert brute_force(*case) == pytest.approx(9.0 / 6.0)
    assert proved(*case, -np.inf, 10_000) >= 9.0 / 6.0 - ROUNDING
    assert offline_optimum(*case).qoe == pytest.approx(9.0 / 6.0)


episodes = st.fixed_dictionaries(
    {
        "spans_s": st.lists(st.sampled_from([0.5, 1.0, 2.0, 3.7]), min_size=8, max_size=8),
        "capacity_mbps": st.lists(
            st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.5, 30.0]), min_size=8, max_size=8
        ),
        "size_kb": st.lists(
            st.lists(st.sampled_from([62, 125, 250, 500, 1000]), min_size=3, max_size=3),
            min_size=8,
            max_size=8,
        ),
        "penalty": st.sampled_from([0.0, 0.3, 1.0, 4.3]),
        "smoothness": st.sampled_from([0.0, 1.0]),
        "player": st.builds(
            PlayerConfig,
            rtt_s=st.sampled_from([0.0, 0.08, 1.0]),
            buffer_cap_s=st.sampled_from([4.0, 6.0, 9.0, 60.0]),
            pause_step_s=st.sampled_from([0.0, 0.5, 1.0]),
            payload_fraction=st.sampled_from([0.95, 1.0]),
            rtt_moves_clock=st.booleans(),
        ),
        "plans": st.lists(
            st.lists(st.integers(0, 2), min_size=7, max_size=7), min_size=3, max_size=3
        ),
    }
)


@settings(max_examples=60, derandomize=True)
@given(episodes)
def test_no_action_sequence_beats_the_bound(episode):
    capacity_mbps = np.array([0.0, *episode["capacity_mbps"]])
    capacity_mbps[-1] += capacity_mbps.sum() == 0.0
    trace = Trace("drawn", np.cumsum([0.0, *episode["spans_s"]]), capacity_mbps)
    sizes = np.array(episode["size_kb"]) * 1000
    video = Video("drawn", sizes, np.array([0.3, 1.0, 2.5]), 8)
    qoe = LinearQoE(episode["penalty"], episode["smoothness"])
    optimum = offline_optimum(trace, 1, video, qoe, episode["player"])
    assert optimum.upper_bound >= optimum.qoe
    for plan in episode["plans"]:
        reached = replayed(trace, 1, video, qoe, episode["player"], plan)
        assert reached <= optimum.upper_bound
        assert reached <= optimum.qoe + ROUNDING or not optimum.exact


def test_the_policy_plays_its_plan_and_solves_an_episode_once(monkeypatch):
    traces = [made_trace(1.0, seed=1), made_trace(3.0, seed=2)]
    video = made_video([0.3, 1.2, 4.3], 12)
    env = ABRVectorEnv(3, traces, video, autoreset_mode="Disabled")
    solved = []

    def counted(*case):
        solved.append(case)
        return offline_optimum(*case)

    monkeypatch.setattr(abr_optimum, "offline_optimum", counted)
    policy = OptimumPolicy(env)
    rows, seeds = np.arange(3), np.arange(3)
    options = {"trace": np.array([0, 1, 0]), "start_pointer": np.array([1, 5, 1])}
    for _ in range(2):
        observations, infos = env.reset(seed=7, options=options)
        policy.reset(rows, seeds)
        rewards, total = np.zeros(3), np.zeros(3)
        for _ in range(11):
            observations, rewards, done, _, infos = env.step(
                policy.act(observations, rewards, infos)
            )
            total += rewards
        assert done.all()
        expected = [
            offline_optimum(traces[trace], pointer, video, env.qoe, env.players[0])
            for trace, pointer in [(0, 1), (1, 5), (0, 1)]
        ]
        np.testing.assert_allclose(total / 11, [optimum.qoe for optimum in expected], atol=1e-12)
        np.testing.assert_array_equal(
            policy.upper_bounds[-3:], [optimum.upper_bound for optimum in expected]
        )
        assert policy.exact.all()
    assert len(solved) == 2
    assert len(policy.upper_bounds) == 6  # one per episode, in the order in which they began


def test_the_policy_refuses_noise():
    env = ABRVectorEnv(2, [made_trace(1.0)], made_video([0.3, 1.2], 5), noise=(0.9, 1.1))
    with pytest.raises(InputError, match=r"noise must be off .* got \(0.9, 1.1\) in row 0"):
        OptimumPolicy(env)


def test_a_start_outside_the_trace_is_refused():
    with pytest.raises(InputError, match="start_pointer must be in 1"):
        offline_optimum(made_trace(1.0), 0, VIDEOS["three rungs"], PENSIEVE, PlayerConfig())


def oracle_rows(split):
    if SHARED is None:
        pytest.skip("NETLLM_GYM_DATA is not set: the reference's traces are not on this machine")
    path = Path(SHARED).parent / "reference" / "abr" / f"oracle_{split}.json"
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    return json.loads(path.read_text("utf-8"))["traces"]


def start_pointers(split, trace_set):
    if trace_set.start_pointers is not None:
        return trace_set.start_pointers
    path = Path(SHARED).parent / "golden" / "abr" / f"fixed_ptrs_{split}.json"
    return json.loads(path.read_text("utf-8"))["mahimahi_ptrs"]


def check_against_oracle(split, rows):
    trace_set, video = load_trace_set(split), load_video("video1")
    pointers = start_pointers(split, trace_set)
    for row in rows:
        trace = trace_set.traces[row["trace_index"]]
        assert trace.name == row["file"]
        pointer = pointers[row["trace_index"]]
        optimum = offline_optimum(trace, pointer, video, PENSIEVE, PlayerConfig())
        if row["exact"]:
            assert optimum.exact
            assert optimum.qoe == pytest.approx(row["qoe"], abs=1e-6)
        assert row["qoe"] - 1e-6 <= optimum.qoe <= row["upper_bound"] + 1e-6
        assert row["qoe"] <= optimum.upper_bound <= row["upper_bound"] + 1e-6


def test_equals_the_oracle_on_a_few_traces():
    rows = oracle_rows("fcc-test")
    check_against_oracle("fcc-test", [rows[i] for i in (0, 17, 38, 74, 99)])  # 38 has a gap


@pytest.mark.slow
@pytest.mark.parametrize("split", ["fcc-test", "fcc-valid", "fcc-train"])
def test_equals_the_oracle_on_all_traces(split):
    check_against_oracle(split, oracle_rows(split))


@pytest.mark.slow
def test_mean_optimum_of_the_second_video():
    oracle_rows("fcc-test")
    trace_set, video = load_trace_set("fcc-test"), load_video("video2")
    optima = [
        offline_optimum(trace, trace_set.start_pointer(i), video, PENSIEVE, PlayerConfig())
        for i, trace in enumerate(trace_set.traces)
    ]
    assert all(optimum.exact for optimum in optima)
    assert np.mean([optimum.qoe for optimum in optima]) == pytest.approx(1.013302, abs=1e-6)
