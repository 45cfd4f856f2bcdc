"""ABR rules against sums done by hand, and MPC against the slow obvious loop."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import PENSIEVE_LADDER_MBPS, Video
from netllm_gym.envs.abr.env import ABREnv
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.abr import BBA, BOLA, Lowest, Random, RateBased
from netllm_gym.policies.baselines.abr_mpc import NetLLMMPC, RobustMPC, ThroughputForecast
from netllm_gym.randomness import keys_of_seeds, uniform
from tests.policies.test_abr_golden import play

WILD = [
    Trace(f"wild {i}", np.arange(200.0), np.random.default_rng(i).gamma(1.5, 1.5, 200))
    for i in range(6)
]


def make_video(ladder_mbps, num_chunks=8, extra=1, seed=0):
    """Sizes scatter around bitrate x 4 s; `extra` chunks are listed and not played."""
    ladder_mbps = np.array(ladder_mbps, float)
    scatter = np.random.default_rng(seed).uniform(0.7, 1.3, (num_chunks + extra, 1))
    sizes = np.rint(scatter * ladder_mbps * 4.0 / 8.0 * 1e6).astype(np.int64)
    return Video("made", sizes, ladder_mbps, num_chunks)


def make_env(ladder_mbps=PENSIEVE_LADDER_MBPS, num_envs=1, video=None, **arguments):
    video = video or make_video(ladder_mbps)
    return ABRVectorEnv(num_envs, WILD, video, autoreset_mode="Disabled", **arguments)


def observe(env, last_rung=0, buffer_s=10.0, throughputs_mbs=(0.3,), next_chunk=1):
    """Return the (1, 6, W) float32 observation that `env` would give in this state."""
    video = env.video
    width = max(6, video.num_rungs)
    seen = np.zeros((1, 6, width), np.float32)
    seen[0, 0, -1] = video.ladder_mbps[last_rung] / video.ladder_mbps[-1]
    seen[0, 1, -1] = buffer_s / 10.0
    seen[0, 2, width - len(throughputs_mbs) :] = throughputs_mbs
    seen[0, 4, : video.num_rungs] = video.size_bytes[next_chunk % video.num_chunks] / 1e6
    seen[0, 5, -1] = (video.num_chunks - next_chunk) / video.num_chunks
    return seen


def choose(policy, observations):
    """Return the actions of a first step."""
    rows = np.arange(len(observations))
    policy.reset(rows, rows)
    return policy.act(observations, np.zeros(len(observations)), {}).tolist()


# --- lowest, random -------------------------------------------------------------------------


def test_lowest_is_always_the_lowest():
    env = make_env(num_envs=2)
    assert choose(Lowest(env), np.repeat(observe(env, 3, 60.0, [9.0]), 2, axis=0)) == [0, 0]


def test_random_takes_every_rung_equally_often():
    env = make_env((1.0, 2.0, 4.0), num_envs=3000)
    policy = Random(env)
    seen = np.repeat(observe(env), 3000, axis=0)
    counts = np.bincount(choose(policy, seen), minlength=3)
    # 3,000 draws of 1/3: mean 1,000, standard deviation sqrt(3000 * 2/9) = 25.8.
    assert len(counts) == 3
    assert np.abs(counts - 1000).max() < 4 * 25.8


def test_random_draws_by_seed_and_step_whatever_the_batch():
    env, alone = make_env(num_envs=4), make_env(num_envs=1)
    batch, single = Random(env), Random(alone)
    seen = np.repeat(observe(env), 4, axis=0)
    batch.reset(np.arange(4), np.array([5, 6, 7, 8]))
    first = [batch.act(seen, np.zeros(4), {}) for _ in range(6)]
    batch.reset(np.array([2]), np.array([99]))  # row 2 begins anew, the others go on
    then = [batch.act(seen, np.zeros(4), {}) for _ in range(6)]
    for row, seed, expected in [(0, 5, first + then), (2, 7, first), (2, 99, then)]:
        single.reset(np.array([0]), np.array([seed]))
        drawn = [single.act(seen[:1], np.zeros(1), {})[0] for _ in expected]
        assert drawn == [actions[row] for actions in expected]


def test_random_does_not_draw_the_numbers_that_choose_the_trace():
    # The environment draws counters 0 to chunks + 2 of the same seeds.
    env = make_env((1.0, 2.0), num_envs=64)
    taken = choose(Random(env), np.repeat(observe(env), 64, axis=0))
    for counter in range(12):
        halves = (uniform(keys_of_seeds(np.arange(64)), counter) * 2).astype(int)
        assert 10 < (halves == taken).sum() < 54  # 64 coin flips: 32 +- 4 agree


# --- rate-based, BBA, BOLA ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("throughputs_mbs", "rung"),
    [
        # The harmonic mean of 0.1 and 0.2 MB/s is 2 / (10 + 5) = 0.1333 MB/s = 1.067 Mbit/s:
        # above 0.75, below 1.2. (Their plain mean, 1.2 Mbit/s, would carry rung 2.)
        ([0.1, 0.2], 1),
        ([0.03], 0),  # 0.24 Mbit/s carries nothing: the lowest all the same
        ([10.0], 5),
        # Six samples, of which the oldest is not among the newest five: 0.5 MB/s = 4 Mbit/s.
        ([0.01, 0.5, 0.5, 0.5, 0.5, 0.5], 4),
    ],
)
def test_rate_based_takes_what_the_harmonic_mean_carries(throughputs_mbs, rung):
    env = make_env()
    assert choose(RateBased(env), observe(env, throughputs_mbs=throughputs_mbs)) == [rung]


def test_rate_based_takes_a_bitrate_that_is_just_carried():
    env = make_env((1.0, 2.0, 4.0))
    assert choose(RateBased(env), observe(env, throughputs_mbs=[0.25])) == [1]  # 2 Mbit/s
    assert choose(RateBased(env), observe(env, throughputs_mbs=[0.2499])) == [0]


@pytest.mark.parametrize(
    ("ladder_mbps", "buffer_s", "rung"),
    [
        # floor(5 (b - 5) / 10): rung k begins at 5 + 2 k seconds.
        *[(PENSIEVE_LADDER_MBPS, buffer_s, 0) for buffer_s in (0.0, 4.99, 5.0, 6.99)],
        *[(PENSIEVE_LADDER_MBPS, 5.0 + 2.0 * rung, rung) for rung in range(1, 6)],
        *[(PENSIEVE_LADDER_MBPS, 4.99 + 2.0 * rung, rung - 1) for rung in range(1, 6)],
        (PENSIEVE_LADDER_MBPS, 60.0, 5),
        # Three rungs: floor(2 (b - 5) / 10), so rung k begins at 5 + 5 k.
        *[((1, 2, 4), b, k) for b, k in [(4.0, 0), (9.99, 0), (10.0, 1), (14.99, 1), (15.0, 2)]],
        # Eight rungs: floor(7 (b - 5) / 10); 7 * 5 / 10 = 3.5.
        (range(1, 9), 10.0, 3),
        (range(1, 9), 14.9, 6),
    ],
)
def test_bba_follows_the_buffer(ladder_mbps, buffer_s, rung):
    env = make_env(ladder_mbps)
    assert choose(BBA(env), observe(env, buffer_s=buffer_s)) == [rung]


@pytest.mark.parametrize(
    ("cap_s", "buffer_s", "rung"),
    [
        # Utilities ln 1, ln 2, ln 4 = 0, 0.6931, 1.3863; Vp = (60 - 4) / 6.3863 = 8.7688;
        # Vp (u + 5) = 43.844, 49.922, 56. Scores (that - b) / bitrate at
        (60.0, 10.0, 0),  # b = 10: 33.8, 20.0, 11.5
        (60.0, 37.7, 0),  # 6.14, 6.11, 4.6;  equal where 43.844 - b = (49.922 - b) / 2: b = 37.77
        (60.0, 37.8, 1),  # 6.04, 6.06, 4.6
        (60.0, 43.8, 1),  # 0.04, 3.06, 3.05; equal where 2 (49.922 - b) = 56 - b: b = 43.844
        (60.0, 43.9, 2),  # -0.06, 3.01, 3.03
        # A cap of 24 s: Vp = 20 / 6.3863 = 3.1317; Vp (u + 5) = 15.659, 17.829, 20;
        # borders at 2 * 15.659 - 17.829 = 13.488 and 2 * 17.829 - 20 = 15.659.
        (24.0, 13.4, 0),
        (24.0, 13.6, 1),
        (24.0, 15.6, 1),
        (24.0, 15.7, 2),
    ],
)
def test_bola_weighs_utility_against_the_buffer(cap_s, buffer_s, rung):
    env = make_env((1.0, 2.0, 4.0), player=PlayerConfig(buffer_cap_s=cap_s))
    assert choose(BOLA(env), observe(env, buffer_s=buffer_s)) == [rung]


def test_bola_knows_the_buffer_cap_of_each_row():
    caps = [PlayerConfig(buffer_cap_s=cap_s) for cap_s in (60.0, 24.0)]
    env = make_env((1.0, 2.0, 4.0), num_envs=2, player=caps)
    assert choose(BOLA(env), np.repeat(observe(env, buffer_s=20.0), 2, axis=0)) == [0, 2]


def test_bola_takes_the_lowest_of_equals():
    # Cap 4 s = one chunk: Vp = 0, and an empty buffer makes every score 0.
    env = make_env((1.0, 2.0, 4.0), player=PlayerConfig(buffer_cap_s=4.0))
    assert choose(BOLA(env), observe(env, buffer_s=0.0)) == [0]


# --- MPC: the forecast ----------------------------------------------------------------------


def test_forecast_is_discounted_by_its_worst_recent_error():
    env = make_env()
    forecast = ThroughputForecast(1)
    history = [0.2]
    # Nothing was forecast before the first: the harmonic mean itself.
    assert forecast.update(observe(env, throughputs_mbs=history)) == pytest.approx(0.2)
    # Mean 2 / (5 + 10) = 0.13333; 0.2 had been forecast for 0.1: error 1; 0.13333 / 2.
    history += [0.1]
    assert forecast.update(observe(env, throughputs_mbs=history)) == pytest.approx(0.0666667)
    # Mean 3 / (5 + 10 + 10) = 0.12; error |0.13333 - 0.1| / 0.1 = 0.3333; the worst is still 1.
    history += [0.1]
    assert forecast.update(observe(env, throughputs_mbs=history)) == pytest.approx(0.06)
    # Three more errors, |0.12 - 0.1| / 0.1 = 0.2 the largest, leave five with the 1 among them.
    for _ in range(3):
        history += [0.1]
        last = forecast.update(observe(env, throughputs_mbs=history[-6:]))
    assert last == pytest.approx(0.1 / 2)
    # The next drops it; the worst left is 0.3333.
    last = forecast.update(observe(env, throughputs_mbs=[0.1] * 6))
    assert last == pytest.approx(0.1 / 1.333333)
    forecast.forget(np.array([0]))
    assert forecast.update(observe(env, throughputs_mbs=[0.2])) == pytest.approx(0.2)


# --- MPC: plans by hand ---------------------------------------------------------------------

HALF_AND_ONE_MB = np.array([[500_000, 1_000_000]] * 4)  # at 0.25 MB/s: 2 s and 4 s


@pytest.mark.parametrize(
    ("buffer_s", "next_chunk", "rung"),
    [
        # Two chunks left (H = 2), last rung 0, buffer 3 s; bitrate - 4.3 stall - change:
        # (0,0) 2; (0,1) 3 - 1 = 2; (1,0) 3 - 4.3 (4 - 3) - 2 = -3.3; (1,1) 4 - 4.3 - 1 = -1.3.
        (3.0, 1, 0),
        # Buffer 4 s: no stall, (1,0) 3 - 2 = 1 and (1,1) 4 - 1 = 3.
        (4.0, 1, 1),
        # One left: (0) 1; (1) 2 - 1 = 1. Equal, so the last in order wins.
        (4.0, 2, 1),
        (3.99, 2, 0),  # but not if it stalls by 0.01 s
        (60.0, 3, 0),  # none left
    ],
)
def test_mpc_takes_the_first_rung_of_the_best_plan(buffer_s, next_chunk, rung):
    env = make_env(video=Video("two", HALF_AND_ONE_MB, np.array([1.0, 2.0]), 3))
    seen = observe(env, 0, buffer_s, [0.25], next_chunk)
    assert choose(RobustMPC(env), seen) == [rung]


def test_mpc_plans_with_the_next_chunk_and_the_reference_with_the_one_after():
    # One chunk left, 4 s in the buffer, 0.25 MB/s. Its high rung takes 16 s; the line that no one
    # plays says 4 s, and then the rungs tie as above.
    sizes = HALF_AND_ONE_MB.copy()
    sizes[2] = [500_000, 4_000_000]
    env = make_env(video=Video("two", sizes, np.array([1.0, 2.0]), 3))
    seen = observe(env, 0, 4.0, [0.25], next_chunk=2)
    assert choose(RobustMPC(env), seen) == [0]
    assert choose(NetLLMMPC(env), seen) == [1]


def test_mpc_of_the_reference_climbs_one_rung_at_a_time():
    env = make_env()
    seen = observe(env, last_rung=1, buffer_s=60.0, throughputs_mbs=[50.0])
    assert choose(RobustMPC(env), seen) == [5]
    assert choose(NetLLMMPC(env), seen) == [2]


# --- MPC: against the slow obvious loop -----------------------------------------------------


class SlowPlan:
    """Every plan in lexicographic order, each scored from its start; one row, plain floats."""

    def __init__(self, env, horizon, step_limit=None, late=0):
        self.env, self.horizon, self.step_limit, self.late = env, horizon, step_limit, late
        self.ties = 0

    def __call__(self, last_rung, buffer_s, forecast_mbs, next_chunk):
        video, qoe = self.env.video, self.env.qoe
        ladder_kbps = [
            round(mbps * 1000) if abs(mbps * 1000 - round(mbps * 1000)) < 1e-9 else mbps * 1000
            for mbps in video.ladder_mbps.tolist()
        ]
        length = min(self.horizon, video.num_chunks - next_chunk)
        best, answer = -1e8, 0
        for plan in itertools.product(range(video.num_rungs), repeat=length):
            steps = zip((last_rung, *plan), plan, strict=False)
            if self.step_limit and any(abs(a - b) > self.step_limit for a, b in steps):
                continue
            left, stall, kbps, changes, before = buffer_s, 0.0, 0.0, 0.0, last_rung
            for i, rung in enumerate(plan):
                size = float(video.size_bytes[next_chunk + i + self.late, rung])
                download_s = size / 1e6 / forecast_mbs
                if left < download_s:
                    stall += download_s - left
                    left = 0.0
                else:
                    left -= download_s
                left += video.chunk_s
                kbps += ladder_kbps[rung]
                changes += abs(ladder_kbps[rung] - ladder_kbps[before])
                before = rung
            score = kbps / 1000.0 - qoe.rebuffer_penalty * stall
            score -= qoe.smoothness_penalty * (changes / 1000.0)
            if score == best and plan[0] != answer:
                self.ties += 1
            if score >= best and plan:
                best, answer = score, plan[0]
        return answer


def slow_forecast(history_mbs, means, errors):
    """Append to the lists of one row and return the forecast, step by step as the text says."""
    newest = history_mbs[-1]
    errors.append(abs(means[-1] - newest) / newest if means else 0.0)
    samples = history_mbs[-5:]
    total = 0.0
    for sample in samples:
        total += 1.0 / sample
    means.append(1.0 / (total / len(samples)))
    return means[-1] / (1.0 + max(errors[-5:]))


def random_states(env, rng, count):
    """Return plausible (last rung, buffer, throughput, next chunk), the end of the video too."""
    return [
        (
            int(rng.integers(env.video.num_rungs)),
            float(np.float32(rng.choice([rng.uniform(0.0, 12.0), rng.uniform(0.0, 60.0)]))),
            float(np.float32(rng.lognormal(np.log(env.video.ladder_mbps.mean() / 8.0), 1.0))),
            int(rng.integers(1, env.video.num_chunks + 1)),
        )
        for _ in range(count)
    ]


POWERS_OF_TWO = (0.5, 1.0, 2.0, 4.0)  # every sum is exact, so equal plans are equal floats
UNEVEN = (0.2357, 0.51234567, 1.0 / 3.0 + 1.0, 2.7, 3.1, 4.4444, 7.0, 9.87654321)


@pytest.mark.parametrize(
    ("ladder_mbps", "horizon", "count", "qoe", "ties"),
    [
        ((1.0, 2.0, 4.0), 5, 150, LinearQoE(), True),
        (POWERS_OF_TWO, 4, 150, LinearQoE(), True),
        (POWERS_OF_TWO, 3, 100, LinearQoE(rebuffer_penalty=0.0), True),
        (POWERS_OF_TWO, 4, 60, LinearQoE(smoothness_penalty=0.0), False),
        (PENSIEVE_LADDER_MBPS, 3, 150, LinearQoE(), True),
        (PENSIEVE_LADDER_MBPS, 5, 25, LinearQoE(), True),
        (PENSIEVE_LADDER_MBPS, 3, 60, LinearQoE(rebuffer_penalty=100.0), True),
        (PENSIEVE_LADDER_MBPS, 3, 60, LinearQoE(smoothness_penalty=2.5), False),
        (UNEVEN, 3, 100, LinearQoE(), False),
    ],
)
def test_mpc_equals_the_loop_over_all_plans(ladder_mbps, horizon, count, qoe, ties):
    env = make_env(ladder_mbps, num_envs=count, qoe=qoe)
    slow = SlowPlan(env, horizon)
    states = random_states(env, np.random.default_rng(len(ladder_mbps)), count)
    seen = np.concatenate([observe(env, r, b, [f], c) for r, b, f, c in states])
    buffers_s = (seen[:, 1, -1] * np.float32(10.0)).tolist()
    expected = [slow(r, b, f, c) for (r, _, f, c), b in zip(states, buffers_s, strict=True)]
    assert choose(RobustMPC(env, horizon), seen) == expected
    assert len(set(expected)) > 1
    if ties:
        assert slow.ties > 0


@pytest.mark.parametrize("ladder_mbps", [(1.0, 2.0, 4.0), POWERS_OF_TWO, PENSIEVE_LADDER_MBPS])
def test_mpc_of_the_reference_equals_the_loop_over_its_plans(ladder_mbps):
    env = make_env(ladder_mbps)
    slow = SlowPlan(env, horizon=5, step_limit=1, late=1)
    for last_rung, buffer_s, rate, chunk in random_states(env, np.random.default_rng(7), 40):
        seen = observe(env, last_rung, buffer_s, [rate], chunk)
        buffer_s = float(seen[0, 1, -1] * np.float32(10.0))
        # A new policy for each: this one carries its history over.
        assert choose(NetLLMMPC(env), seen) == [slow(last_rung, buffer_s, rate, chunk)]


def test_mpc_equals_the_loop_over_whole_episodes():
    env = make_env((1.0, 2.0, 4.0), num_envs=6)
    policy, slow = RobustMPC(env), SlowPlan(env, horizon=5)
    rows = np.arange(6)
    for first_seed in (0, 100):  # the second episode finds nothing of the first
        seen, infos = env.reset(seed=first_seed)
        policy.reset(rows, rows)
        means, errors = [[] for _ in rows], [[] for _ in rows]
        for chunk in range(1, env.video.num_chunks):
            expected = []
            for row in rows:
                history = [rate for rate in seen[row, 2].tolist() if rate > 0.0]
                forecast_mbs = slow_forecast(history, means[row], errors[row])
                share = seen[row, 0, -1] * env.video.ladder_mbps[-1]
                last_rung = int(np.abs(env.video.ladder_mbps - share).argmin())
                buffer_s = float(seen[row, 1, -1] * np.float32(10.0))
                expected.append(slow(last_rung, buffer_s, forecast_mbs, chunk))
            actions = policy.act(seen, np.zeros(6), infos)
            assert actions.tolist() == expected
            seen, _, _, _, infos = env.step(actions)


# --- what every rule must keep --------------------------------------------------------------

RULES = [Lowest, Random, RateBased, BBA, BOLA, RobustMPC]


@pytest.mark.parametrize("ladder_mbps", [(1.0, 2.0, 4.0), PENSIEVE_LADDER_MBPS, UNEVEN])
@pytest.mark.parametrize("factory", RULES)
def test_rows_know_nothing_of_each_other(factory, ladder_mbps):
    env, alone = make_env(ladder_mbps, num_envs=6), make_env(ladder_mbps)
    together = play(factory(env), env, range(6), first_seed=40)
    one_by_one = play(factory(alone), alone, range(6), first_seed=40)
    assert [episode.actions for episode in together] == [e.actions for e in one_by_one]


@pytest.mark.parametrize("factory", RULES)
def test_an_episode_leaves_no_trace(factory):
    env = make_env()
    used = factory(env)
    play(used, env, [0])
    again, fresh = play(used, env, [1], first_seed=9), play(factory(env), env, [1], first_seed=9)
    assert again[0].actions == fresh[0].actions


@pytest.mark.parametrize("factory", [*RULES, NetLLMMPC])
def test_the_scalar_environment_is_a_batch_of_one(factory):
    env = ABREnv(WILD, make_video(PENSIEVE_LADDER_MBPS))
    policy = factory(env)
    observation, _ = env.reset(seed=3)
    policy.reset(np.array([0]), np.array([3]))
    actions = policy.act(observation[None], np.zeros(1), {})
    assert actions.shape == (1,)
    assert actions.dtype == np.int64
    env.step(actions[0])


def test_resetting_one_row_of_mpc_leaves_the_others_alone():
    # Errors of 1 (0.4 was forecast, 0.2 came) halve the forecast of the row that remembers them.
    env = make_env(num_envs=2)
    forecast = ThroughputForecast(2)
    for rates in ([0.4], [0.4, 0.2]):
        forecast.update(np.repeat(observe(env, throughputs_mbs=rates), 2, axis=0))
    forecast.forget(np.array([1]))
    later = forecast.update(np.repeat(observe(env, throughputs_mbs=[0.2]), 2, axis=0))
    assert later == pytest.approx([0.1, 0.2])


# --- the reference's MPC carries its history on ---------------------------------------------


def test_reference_mpc_remembers_the_last_episode_and_its_end():
    # 0.5 MB/s; rung 1 of the last chunk takes 2 s of the 2.5 s in the buffer. But the episode
    # before ended with 0.1 where 0.5 had been forecast: error 4, so 0.1 is foreseen and 10 s.
    env = make_env(video=Video("two", HALF_AND_ONE_MB, np.array([1.0, 2.0]), 3))
    seen = observe(env, 0, 2.5, [0.5], next_chunk=2)
    policy = NetLLMMPC(env)
    assert policy.needs_sequential
    assert choose(policy, seen) == [1]
    assert choose(policy, seen) == [1]
    policy.end(np.array([0]), observe(env, 1, 4.0, [0.1], next_chunk=3))
    assert choose(policy, seen) == [0]


def test_reference_mpc_is_refused_where_it_is_not_defined():
    with pytest.raises(InputError, match=r"num_envs must be 1 for netllm_mpc.*got 2"):
        NetLLMMPC(make_env(num_envs=2))
    video = make_video((1.0, 2.0), num_chunks=8, extra=0)
    with pytest.raises(InputError, match=r"video made must list the sizes of 9 chunks.*got 8"):
        NetLLMMPC(make_env(video=video))
    RobustMPC(make_env(video=video))  # needs only the chunks that are played


def test_what_cannot_be_is_refused():
    env = make_env()
    with pytest.raises(InputError, match="horizon must be at least 1, got 0"):
        RobustMPC(env, horizon=0)
    with pytest.raises(InputError, match=r"cushion_s above 0, got 5\.0 and 0"):
        BBA(env, cushion_s=0)
    with pytest.raises(InputError, match="gp must be above 0, got 0"):
        BOLA(env, gp=0)
    with pytest.raises(InputError, match="buffer_cap_s must be finite for bola, got inf"):
        BOLA(make_env(player=PlayerConfig(buffer_cap_s=np.inf)))


def test_building_the_rules_does_not_load_numba():
    program = (
        "import sys; from netllm_gym.envs.abr.env import ABREnv\n"
        "from netllm_gym.policies.baselines import abr, abr_mpc\n"
        "abr_mpc.RobustMPC(ABREnv()); print('numba' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
