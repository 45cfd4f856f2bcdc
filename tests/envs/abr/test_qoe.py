"""The QoE is written once: another quality changes simulator, MPC and optimum alike."""

import itertools

import numpy as np
import pytest

import netllm_gym  # noqa: F401
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.env import ABREnv
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.policies.baselines.abr_mpc import RobustMPC
from netllm_gym.policies.baselines.abr_optimum import offline_optimum

CHUNKS = 5


class LogQoE(LinearQoE):
    """What another file would have to say for a QoE of its own."""

    def quality(self, ladder_mbps):
        return np.log(ladder_mbps / ladder_mbps[0])


def make_env(qoe, mbps=2.0):
    trace = Trace("made", np.arange(8) * 10.0, np.full(8, mbps))
    ladder_mbps = np.array([0.3, 1.2, 4.3])
    sizes = np.tile((ladder_mbps * 4.0 * 125_000).astype(np.int64), (CHUNKS, 1))
    video = Video("made", sizes, ladder_mbps, CHUNKS)
    return ABREnv([trace], video, qoe, PlayerConfig())


def begin(env):
    return env.reset(options={"trace": 0, "start_pointer": 1})


def score(env, rungs):
    begin(env)
    return sum(env.step(rung)[1] for rung in rungs)


def test_the_reward_is_quality_less_stall_and_change():
    env = make_env(LogQoE(rebuffer_penalty=2.0, smoothness_penalty=0.5))
    begin(env)
    info = env.step(2)[-1]
    quality = np.log(4.3 / 0.3)
    assert info["rebuffer_s"] > 1.0
    assert info["qoe"] == pytest.approx(quality - 2.0 * info["rebuffer_s"] - 0.5 * quality)
    assert info["smoothness_mbps"] == pytest.approx(4.0)  # what is reported stays in Mbit/s


@pytest.mark.parametrize("mbps", [0.6, 1.4, 3.0])
@pytest.mark.parametrize("kind", [LinearQoE, LogQoE])
def test_the_optimum_is_the_best_of_all_sequences(kind, mbps):
    env = make_env(kind(), mbps)
    best = max(score(env, rungs) for rungs in itertools.product(range(3), repeat=CHUNKS - 1))
    optimum = offline_optimum(env.trace_set.traces[0], 1, env.video, env.qoe, env.players[0])
    assert optimum.exact
    assert optimum.qoe * (CHUNKS - 1) == pytest.approx(best)


@pytest.mark.parametrize("mbps", [0.6, 1.4, 3.0])
@pytest.mark.parametrize("kind", [LinearQoE, LogQoE])
def test_mpc_takes_the_first_rung_of_the_plan_that_scores_best(kind, mbps):
    env = make_env(kind(), mbps)
    observation, info = begin(env)
    policy = RobustMPC(env)
    policy.reset(np.array([0]), np.array([0]))
    quality = env.qoe.quality(env.video.ladder_mbps)
    download_s = env.video.size_bytes[0] / 1e6 / float(observation[2, -1])

    def planned(rungs):
        total, left_s, last = 0.0, info["buffer_s"], 0
        for rung in rungs:
            stall_s = max(download_s[rung] - left_s, 0.0)
            left_s = max(left_s - download_s[rung], 0.0) + 4.0
            total += quality[rung] - 4.3 * stall_s - abs(quality[rung] - quality[last])
            last = rung
        return total

    best = max(itertools.product(range(3), repeat=CHUNKS - 1), key=planned)
    found = policy.act(observation[None], np.zeros(1), {})
    assert found.tolist() == [best[0]]
