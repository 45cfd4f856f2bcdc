"""What a protocol sets is part of the case: simulator, planners and tables obey it."""

import itertools
import json
import math

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec

import netllm_gym
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.env import ABREnv
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import HDQoE, LinearQoE, LogQoE, TableQoE, qoe_of
from netllm_gym.envs.abr.vector_env import ABRVectorEnv, case_in_words
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.abr_mpc import RobustMPC
from netllm_gym.policies.baselines.abr_optimum import _most_to_go, offline_optimum

CHUNKS = 5
LADDER = np.array([0.3, 1.2, 4.3])


def made_video(seed):
    """Return a video whose chunks differ in length, size and quality, which need not rise."""
    rng = np.random.default_rng(seed)
    lengths_s = rng.uniform(1.0, 6.0, CHUNKS)
    sizes = (LADDER * lengths_s[:, None] * 125_000 * rng.uniform(0.7, 1.4, (CHUNKS, 3))).astype(int)
    quality = rng.uniform(-1.0, 3.0, (CHUNKS, 3))
    return Video("made", sizes, LADDER, CHUNKS, lengths_s, quality)


def made_env(seed, qoe, mbps=1.4, **player):
    rng = np.random.default_rng(seed)
    trace = Trace("made", np.arange(9) * 7.0, mbps * rng.uniform(0.4, 1.6, 9))
    player = PlayerConfig(**{"buffer_cap_s": 9.0, "first_rung": 1, **player})
    return ABREnv([trace], made_video(seed), qoe, player)


def score(env, rungs):
    env.reset(options={"trace": 0, "start_pointer": 1})
    return sum(env.step(rung)[1] for rung in rungs)


def test_chunks_of_different_lengths_fill_the_buffer_as_they_last():
    # 1 Mbit/s; 125,000 bytes are 1 Mbit, so every chunk takes 1 s; lengths are 2, 3, 5 s.
    trace = Trace("made", np.array([0.0, 100.0]), np.array([1.0, 1.0]))
    video = Video("made", np.full((3, 2), 125_000), np.array([1.0, 2.0]), 3, np.array([2.0, 3, 5]))
    env = ABREnv([trace], video, rtt_s=0.0, payload_fraction=1.0, buffer_cap_s=7.0)
    buffers = [env.reset(seed=0, options={"trace": 0})[1]["buffer_s"]]
    infos = [env.step(0)[-1] for _ in range(2)]
    assert buffers + [info["buffer_s"] for info in infos] == pytest.approx([2.0, 4.0, 7.0])
    assert infos[1]["pause_s"] == pytest.approx(1.0)  # 4 - 1 + 5 s, above the limit of 7 s


def test_the_first_chunk_has_the_first_rung():
    env = gym.make("NetLLM-ABR-v0", first_rung=2).unwrapped
    observation, info = env.reset(seed=3)
    assert info["bitrate_mbps"] == 1.2
    assert info["size_bytes"] == env.video.size_bytes[0, 2]
    assert observation[0, -1] == np.float32(1.2 / 4.3)
    # The change is counted from it: 4.3 - 1.2 Mbit/s.
    assert env.step(5)[-1]["smoothness_mbps"] == pytest.approx(3.1)


def test_measures_of_pensieves_paper():
    video = made_video(0)
    assert LinearQoE().quality_of(video)[4].tolist() == LADDER.tolist()
    np.testing.assert_allclose(LogQoE().quality_of(video)[0], [0, np.log(4), np.log(43 / 3)])
    assert [kind().rebuffer_penalty for kind in (LinearQoE, LogQoE, HDQoE)] == [4.3, 2.66, 8.0]
    env = gym.make("NetLLM-ABR-v0", qoe="hd").unwrapped
    env.reset(seed=0)
    info = env.step(3)[-1]
    # Qualities 1 and 12, weights 8 and 1.
    assert info["qoe"] == pytest.approx(12 - 8 * info["rebuffer_s"] - 11)


def test_a_table_counts_the_quality_of_each_chunk():
    env = made_env(1, TableQoE(rebuffer_penalty=2.0, smoothness_penalty=0.5))
    quality = env.video.quality
    env.reset(options={"trace": 0, "start_pointer": 1})
    for chunk, (last, rung) in enumerate([(1, 2), (2, 0)], start=1):
        info = env.step(rung)[-1]
        change = abs(quality[chunk, rung] - quality[chunk - 1, last])
        expected = quality[chunk, rung] - 2.0 * info["rebuffer_s"] - 0.5 * change
        assert info["qoe"] == pytest.approx(expected)


QOES = [LinearQoE(), LogQoE(), TableQoE(1.5, 0.7)]


@pytest.mark.parametrize("qoe", [*QOES, TableQoE(1.5, 3.0)], ids=lambda qoe: qoe.kind)
@pytest.mark.parametrize("seed", range(4))
def test_the_optimum_is_the_best_of_all_sequences(qoe, seed):
    env = made_env(seed, qoe, rtt_moves_clock=seed == 2, first_rung=2)
    best = max(score(env, rungs) for rungs in itertools.product(range(3), repeat=CHUNKS - 1))
    found = offline_optimum(env.trace_set.traces[0], 1, env.video, qoe, env.players[0])
    assert found.qoe * (CHUNKS - 1) == pytest.approx(best, abs=1e-7)
    assert found.upper_bound * (CHUNKS - 1) == pytest.approx(best, abs=1e-6)


def test_what_remains_to_be_earned_counts_the_changes_between_chunks():
    quality = made_video(5).quality
    found = _most_to_go(np.ones((CHUNKS, 3)), quality, 0.8, np.zeros(1))[0, :, 0]
    for first in range(3):
        best = -np.inf
        for rest in itertools.product(range(3), repeat=CHUNKS - 1):
            seen = quality[np.arange(CHUNKS), [first, *rest]]
            best = max(best, seen[1:].sum() - 0.8 * np.abs(np.diff(seen)).sum())
        assert found[first] == pytest.approx(best)


def best_plan(env, observation):
    """Return the first rung of the best plan, by trying all of them."""
    video, qoe = env.video, env.qoe
    quality, lengths_s = qoe.quality_of(video), video.lengths_s
    mbs, rung, plans = float(observation[2, -1]), 1, {}
    for plan in itertools.product(range(3), repeat=CHUNKS - 1):
        buffer_s, last, total = float(observation[1, -1]) * 10.0, rung, 0.0
        for chunk, each in enumerate(plan, start=1):
            download_s = video.size_bytes[chunk, each] / 1e6 / mbs
            stall_s = max(download_s - buffer_s, 0.0)
            buffer_s = max(buffer_s - download_s, 0.0) + lengths_s[chunk]
            change = abs(quality[chunk, each] - quality[chunk - 1, last])
            total += quality[chunk, each] - qoe.rebuffer_penalty * stall_s
            total -= qoe.smoothness_penalty * change
            last = each
        plans[plan] = total
    return max(plans, key=plans.get)[0]


@pytest.mark.parametrize("qoe", QOES, ids=lambda qoe: qoe.kind)
def test_mpc_plans_with_the_qoe_and_the_lengths_of_the_case(qoe):
    chosen = []
    for seed in range(12):
        env = made_env(seed, qoe, mbps=0.4 * (1 + seed))
        policy = RobustMPC(env)
        observation, _ = env.reset(options={"trace": 0, "start_pointer": 1})
        policy.reset(np.arange(1), np.zeros(1, int))
        [rung] = policy.choose(observation[None])
        assert rung == best_plan(env, observation)
        chosen.append(rung)
    assert len(set(chosen)) > 1


def test_one_length_is_the_same_whether_it_is_a_number_or_one_per_chunk():
    sizes = made_video(0).size_bytes
    videos = [Video("made", sizes, LADDER, CHUNKS, each) for each in (3.9, [3.9] * CHUNKS)]
    found = []
    for video in videos:
        env = ABRVectorEnv(3, video=video, autoreset_mode="Disabled")
        seen = [env.reset(seed=4), *(env.step(np.array([0, 1, 2])) for _ in range(4))]
        found.append(seen)
    np.testing.assert_equal(*found)


def test_every_episode_begins_in_the_row_of_the_case():
    env = ABRVectorEnv(4, start_row=3, autoreset_mode="Disabled")
    env.reset(seed=0)
    assert env.start_pointer.tolist() == [3] * 4
    env.reset(options={"trace": np.arange(4)})
    assert env.start_pointer.tolist() == [3] * 4
    assert {each.options["start_pointer"] for each in env.evaluation_plan()} == {3}
    with pytest.raises(InputError, match="episodes must be at most 100, one per trace"):
        env.evaluation_plan(101)


def test_options_replace_the_fields_of_all_players():
    players = [PlayerConfig(rtt_s=0.1), PlayerConfig(buffer_cap_s=20.0)]
    env = ABRVectorEnv(2, player=players, rtt_s=0.02, first_rung=1)
    assert env.players == (
        PlayerConfig(rtt_s=0.02, first_rung=1),
        PlayerConfig(rtt_s=0.02, buffer_cap_s=20.0, first_rung=1),
    )
    assert ABRVectorEnv(1, qoe=LogQoE(), rebuffer_penalty=3).qoe == LogQoE(3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"noise": (0.8, 1.3)},
        {"noise": True, "start_row": 2},
        {"qoe": LinearQoE(2.0)},
        {"qoe": LogQoE(smoothness_penalty=0.5)},
        {"qoe": "hd", "rebuffer_penalty": 6},
        {"player": PlayerConfig(rtt_s=0.02, first_rung=1)},
        {"ladder_mbps": (1.0, 2.0), "chunk_s": 2, "buffer_cap_s": 30},
    ],
)
def test_a_spec_survives_json(arguments):
    env = gym.make("NetLLM-ABR-v0", **arguments)
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    for name in ("qoe", "players", "noises"):
        assert getattr(again.unwrapped, name) == getattr(env.unwrapped, name)
    assert again.unwrapped.unusual == env.unwrapped.unusual != {}
    np.testing.assert_equal(again.reset(seed=1), env.reset(seed=1))
    np.testing.assert_equal(again.step(1), env.step(1))


def test_a_measure_of_ones_own_does_not_become_another_one():
    class Mine(LinearQoE):
        pass

    spec = gym.make("NetLLM-ABR-v0", qoe=Mine()).spec
    with pytest.raises(InputError, match=r"qoe must be a LinearQoE or one of .* got 'Mine'"):
        gym.make(EnvSpec.from_json(spec.to_json()))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"qoe": "vmaf"}, "qoe must be a LinearQoE or one of linear, log, hd, table, got 'vmaf'"),
        ({"qoe": "table"}, "rebuffer_penalty must be given for the qoe table"),
        ({"qoe": "table", "rebuffer_penalty": 1}, "another than table for the video synthetic"),
        ({"qoe": "hd", "ladder_mbps": (1, 2)}, r"another than hd, .* for the ladder 1, 2"),
        ({"rebuffer_penalty": -1}, "rebuffer_penalty must be finite and at least 0, got -1"),
        ({"qoe": {"kind": "log", "bonus": 1}}, "must have no unknown field, got 'bonus'"),
        ({"first_rung": 6}, r"first_rung must be a rung of the ladder, in 0\.\.5, got 6"),
        ({"first_rung": 0.5}, "first_rung must be a whole number of at least 0, got 0.5"),
        ({"rtt_s": "fast"}, "rtt_s must be a number, got 'fast'"),
        ({"player": {"rtt": 1}}, "must have no unknown field, got 'rtt'"),
        ({"start_row": 0}, r"start_row must be in 1\.\.\d+ for trace .*, got 0"),
        ({"start_row": 1.5}, "start_row must be a whole number, got 1.5"),
        ({"chunk_s": 61}, "one chunk of 61.0 s, got 60.0, or chunk_s is not in seconds"),
        ({"chunk_s": "4"}, "chunk_s must be numbers, got '4'"),
        ({"chunk_s": [4, 5]}, r"chunk_s must be one number, got \[4, 5\]"),
        ({"ladder_mbps": (2, 1)}, "ladder_mbps must be two or more rising bitrates"),
        ({"video": made_video(0), "chunk_s": 2}, "chunk_s must be left out for a Video"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        gym.make("NetLLM-ABR-v0", **arguments)


def test_the_default_case_is_not_unusual():
    assert ABREnv().unusual == {}
    assert qoe_of(None, {}) == LinearQoE()
    unusual = ABREnv(qoe="log", smoothness_penalty=2, first_rung=1, chunk_s=2).unusual
    assert unusual == {"qoe": "log", "smoothness_penalty": "2", "first_rung": "1", "chunk_s": "2"}


def test_other_qualities_are_another_measure():
    envs = []
    for seed in range(2):
        video, qoe = made_video(seed), TableQoE(2.0)
        envs.append(ABRVectorEnv(1, video=video, qoe=qoe))
    first, second = (case_in_words(env) for env in envs)
    assert "qoe table, rebuffer_penalty 2, quality_file sha256 " in first
    assert first != second


def test_a_pool_and_what_learns_from_it_record_the_case(tmp_path):
    case = {"qoe": "log", "first_rung": 1, "ladder_mbps": (0.5, 1.0, 2.0)}
    netllm_gym.collect("abr", ["bba"], 2, tmp_path / "pool", case)
    meta = json.loads((tmp_path / "pool/meta.json").read_text())["env_spec"]
    assert meta["arguments"]["ladder_mbps"] == [0.5, 1.0, 2.0]
    told = {"qoe": "log", "first_rung": "1", "ladder_mbps": "0.5,1,2"}
    assert told.items() <= meta["worlds"].items()
    options = {"updates": 1, "validate_every": 1}
    netllm_gym.train("abr", "bc", tmp_path / "run", config=options, pool=tmp_path / "pool")
    policy = netllm_gym.load_policy(str(tmp_path / "run"))
    assert policy.unusual == told
    table = netllm_gym.evaluate("abr", [policy, "bba"], {**case, "qoe": "linear"})
    assert "run was trained with qoe log and plays with the default qoe" in table.remarks
    assert not netllm_gym.evaluate("abr", [policy], case).remarks


def test_a_network_is_refused_a_ladder_whose_rungs_it_would_mistake():
    near = {"ladder_mbps": (0.35, 0.8, 1.3, 2.0, 3.0, 4.5)}
    netllm_gym.evaluate("abr", ["ppo"], {"traces": "synthetic-valid", **near})
    far = {"ladder_mbps": (1, 2.5, 5, 8, 16, 40)}
    with pytest.raises(InputError, match=r"ladder like 0.3, .* as in training, got 1, 2.5, .* 40"):
        netllm_gym.evaluate("abr", ["ppo"], far)


def test_pools_of_different_measures_are_not_learned_from_together(tmp_path):
    for name, case in (("a", {}), ("b", {"qoe": "log"})):
        netllm_gym.collect("abr", ["bba"], 1, tmp_path / name, case)
    pools = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(InputError, match=r"rewards must mean the same in all pools, .* qoe log"):
        netllm_gym.train("abr", "bc", tmp_path / "run", pool=pools)


def test_what_learns_from_pools_of_several_cases_records_all_of_them(tmp_path):
    for name, case in (("a", {}), ("b", {"first_rung": 1})):
        netllm_gym.collect("abr", ["bba"], 1, tmp_path / name, case)
    options = {"updates": 1, "validate_every": 1}
    pools = [tmp_path / "a", tmp_path / "b"]
    netllm_gym.train("abr", "bc", tmp_path / "run", config=options, pool=pools)
    assert netllm_gym.load_policy(str(tmp_path / "run")).unusual == {"first_rung": "default + 1"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"rtt_s": 80}, r"rtt_s must be in 0..10 s, got 80"),
        ({"rtt_s": float("nan")}, r"rtt_s must be in 0..10 s, got nan"),
        ({"pause_step_s": 61}, r"pause_step_s must be in 0..60 s, up to buffer_cap_s, got 61"),
        ({"pause_step_s": float("inf"), "buffer_cap_s": float("inf")}, "pause_step_s must be in"),
        ({"payload_fraction": 1e-9}, r"payload_fraction must be in 0.01..1, got 1e-09"),
        ({"payload_fraction": 95}, r"payload_fraction must be in 0.01..1, got 95"),
        ({"rtt_moves_clock": "yes"}, "rtt_moves_clock must be True or False, got 'yes'"),
        ({"rtt_moves_clock": 2}, "rtt_moves_clock must be True or False, got 2"),
        ({"first_rung": True}, "first_rung must be a whole number of at least 0, got True"),
        ({"noise_range": 0.8}, "noise_range must be two factors, got 0.8"),
        ({"noise_range": (0.8, 1.0, 1.2)}, "noise_range must be two factors, got"),
        ({"noise_range": (1.2, 0.8)}, "noise must be two factors 0 < low <= high, got"),
        ({"noise_range": (0.8, 1.2), "noise": (0.9, 1.1)}, "noise must be True or False where"),
        ({"quality_file": "vmaf.csv"}, "quality_file must be left out for the qoe linear, which"),
        ({"quality_file": 5, "qoe": "table", "rebuffer_penalty": 1}, "quality_file must be a path"),
        (
            {"ladder_mbps": [[0.3, 1.2], [2.0, 4.0]]},
            "ladder_mbps must be two or more bitrates, got",
        ),
        ({"ladder_mbps": (300, 4300)}, "ladder_mbps must be at most 1000 Mbit/s, got 4300"),
        ({"ladder_mbps": ()}, "ladder_mbps must be two or more bitrates, got"),
    ],
    ids=str,
)
def test_options_that_no_player_has_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        gym.make("NetLLM-ABR-v0", **wrong)


def test_weights_may_be_numbers_of_numpy():
    env = gym.make(
        "NetLLM-ABR-v0", rebuffer_penalty=np.float32(2.5), smoothness_penalty=np.int64(2)
    )
    assert env.unwrapped.qoe == LinearQoE(2.5, 2)


def test_a_range_of_noise_is_an_option():
    envs = [gym.make("NetLLM-ABR-v0", **it) for it in ({"noise_range": (0.8, 1.2)}, {})]
    envs.append(gym.make(EnvSpec.from_json(envs[0].spec.to_json())))
    noisy, plain, again = (env.reset(seed=3)[1]["download_s"] for env in envs)
    factor = envs[0].unwrapped.batch.noise_factors(0, 1)[0]
    assert 0.8 <= factor < 1.2
    assert noisy == again == pytest.approx(plain * factor)
    assert envs[0].unwrapped.unusual == {"noise": "0.8,1.2"}


def pensieves_loop(time_s, capacity_mbps, sizes, quality, penalty, rungs):
    """Return the QoE of each chunk, by one obvious loop over bits; chunks last 4 s."""
    row, now_s, buffer_s, found = 1, time_s[0], 0.0, []
    for chunk, rung in enumerate(rungs):
        megabits, download_s = sizes[chunk][rung] * 8e-6 / 0.95, 0.08
        while capacity_mbps[row] * (time_s[row] - now_s) <= megabits:
            megabits -= capacity_mbps[row] * (time_s[row] - now_s)
            download_s += time_s[row] - now_s
            now_s = time_s[row]
            row += 1
            if row == len(time_s):
                row, now_s = 1, 0.0
        download_s += megabits / capacity_mbps[row]
        now_s += megabits / capacity_mbps[row]
        stall_s = max(download_s - buffer_s, 0.0)
        buffer_s = max(buffer_s - download_s, 0.0) + 4.0
        assert buffer_s < 60.0, "this loop has no pauses"
        change = abs(quality[rung] - quality[rungs[chunk - 1]]) if chunk else 0.0
        found.append(quality[rung] - penalty * stall_s - change)
    return found


PENSIEVE = [0.3, 0.75, 1.2, 1.85, 2.85, 4.3]
PROTOCOLS = {
    "linear": ({}, PENSIEVE, PENSIEVE, 4.3),
    "log": ({"qoe": "log"}, PENSIEVE, [math.log(each / 0.3) for each in PENSIEVE], 2.66),
    "hd": ({"qoe": "hd"}, PENSIEVE, [1, 2, 3, 12, 15, 20], 8.0),
    "4G": ({"rebuffer_penalty": 40}, [1, 2.5, 5, 8, 16, 40], [1, 2.5, 5, 8, 16, 40], 40.0),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_published_protocols_by_an_obvious_loop(name):
    case, ladder, quality, penalty = PROTOCOLS[name]
    rng = np.random.default_rng(4)
    sizes = (np.array(ladder) * 500_000 * rng.uniform(0.8, 1.2, (12, 6))).astype(int)
    trace = Trace("made", np.arange(20) * 3.0, ladder[3] * rng.uniform(0.5, 1.5, 20))
    rungs = [1, *rng.integers(0, 6, 11).tolist()]
    video = Video("made", sizes, np.array(ladder), 12)
    env = gym.make("NetLLM-ABR-v0", traces=[trace], video=video, first_rung=1, start_row=1, **case)
    rewards = [env.reset(seed=0)[1]["qoe"]] + [env.step(rung)[1] for rung in rungs[1:]]
    expected = pensieves_loop(
        trace.time_s, trace.capacity_mbps, sizes.tolist(), quality, penalty, rungs
    )
    assert rewards == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("seconds", "mbps", "bytes_"),
    [(1.0, 1e-5, 9_000_000_000), (1e-9, 1e12, 500_000)],  # a slow link, a short one
)
def test_a_trace_that_a_chunk_passes_almost_without_end_is_refused(seconds, mbps, bytes_):
    """The compiled simulator cannot be interrupted within a chunk."""
    trace = Trace("loop", np.arange(3001) * seconds, np.full(3001, mbps))
    sizes = np.full((4, 2), [bytes_ // 2, bytes_])
    video = Video("big", sizes, np.array([1.0, 2.0]), 4)
    with pytest.raises(InputError, match="trace loop must carry the largest chunk"):
        gym.make("NetLLM-ABR-v0", traces=[trace], video=video)
    longer = Trace("fine", np.arange(3001) * 1.0, np.full(3001, 5.0))
    gym.make("NetLLM-ABR-v0", traces=[longer], video=video)
