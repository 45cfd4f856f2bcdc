"""Rules for ABR that need no plan: lowest, random, rate-based, BBA, BOLA.

Every rule uses nothing but the observation and works with any ladder. The functions that read the
observation are also used by `abr_mpc.py` and `policies/neural/abr.py`.

Units: seconds, Mbit/s for bitrates, MB/s (10^6 bytes) for measured throughput.

Sources: BBA is the short form of Huang et al. (SIGCOMM 2014) in Pensieve's program (SIGCOMM 2017);
BOLA is BOLA Basic of Spiteri et al. (INFOCOM 2016); the rate-based rule uses the harmonic mean of
FESTIVE (CoNEXT 2012) without its other parts.
"""

import math
from typing import Any

import numpy as np

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.configs import check
from netllm_gym.envs.abr.env import ABREnv
from netllm_gym.envs.abr.observation import BITRATE, BUFFER, REMAINING, TENS_S, THROUGHPUT
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.rule import DrawingRule, Rule

Observations = Float32Array  # (N, 6, W)
AnyABREnv = ABRVectorEnv | ABREnv

THROUGHPUT_SAMPLES = 5  # newest downloads that a throughput estimate rests on


def buffers_s(observations: Observations) -> FloatArray:
    """Return (N,) buffers in s; rounding the product to float32 undoes the division by 10."""
    return np.asarray(observations[:, BUFFER, -1] * np.float32(TENS_S), np.float64)


def throughputs_mbs(observations: Observations) -> FloatArray:
    """Return (N, 5) measured throughputs in MB/s, newest last, 0 before the first chunk."""
    return np.asarray(observations[:, THROUGHPUT, -THROUGHPUT_SAMPLES:], np.float64)


def harmonic_means(samples: FloatArray) -> FloatArray:
    """Return the harmonic mean of each row's samples above 0, (N, S) to (N,); 0 without any.

    Inverses are summed from the oldest to the newest, as in Pensieve's program, because MPC has
    ties that depend on the rounding.
    """
    measured = samples > 0.0
    inverses = np.divide(1.0, samples, out=np.zeros_like(samples), where=measured)
    total = np.zeros(len(samples))
    for column in inverses.T:
        total += column
    mean = total / np.maximum(measured.sum(axis=1), 1)
    return np.asarray(np.divide(1.0, mean, out=np.zeros_like(mean), where=mean > 0.0), np.float64)


def last_rungs(observations: Observations, ladder_mbps: FloatArray) -> IntArray:
    """Return (N,) rung of the newest chunk: that of the bitrate nearest to the observed one."""
    bitrate_mbps = observations[:, BITRATE, -1].astype(np.float64) * ladder_mbps[-1]
    return np.asarray(np.abs(bitrate_mbps[:, None] - ladder_mbps).argmin(axis=1), np.int64)


def highest_within(ladder_mbps: FloatArray, limit_mbps: FloatArray) -> IntArray:
    """Return (N,) the highest rung whose bitrate is at most the limit, else the lowest."""
    return np.maximum(np.searchsorted(ladder_mbps, limit_mbps, side="right") - 1, 0)


def chunks_done(observations: Observations, num_chunks: int) -> IntArray:
    """Return (N,) number of chunks downloaded, which is the index of the next one."""
    chunks_left = np.rint(observations[:, REMAINING, -1] * np.float64(num_chunks))
    return np.asarray(num_chunks - chunks_left, np.int64)


def check_trained_for(env: Any, num_rungs: int, most_decisions: int | None = None) -> None:
    """Refuse an environment of another problem, ladder, or longer episodes than in training."""
    if not hasattr(env, "video"):
        raise InputError(f"env must be one of the problem abr, got {env}")
    rungs = len(env.video.ladder_mbps)
    rule = f"have a ladder of {num_rungs} rungs, as in training"
    check(rungs == num_rungs, "the video", rule, rungs)
    decisions = env.video.num_chunks - 1
    rule = f"have at most {most_decisions} decisions an episode, as in training"
    check(most_decisions is None or decisions <= most_decisions, "the video", rule, decisions)


class Lowest(Rule):
    """Always the lowest rung."""

    name = "lowest"

    def choose(self, observations: Observations) -> IntArray:
        """Return (N,) rungs."""
        return np.zeros(len(observations), np.int64)


class Random(DrawingRule):
    """Each rung with equal probability."""

    def __init__(self, env: AnyABREnv) -> None:
        super().__init__(env)
        self._num_rungs = env.video.num_rungs

    def choose(self, observations: Observations) -> IntArray:
        """Return (N,) rungs."""
        return (self.draws.draw() * self._num_rungs).astype(np.int64)


class RateBased(Rule):
    """The highest bitrate within the harmonic mean of the last five throughputs."""

    name = "rate_based"

    def __init__(self, env: AnyABREnv) -> None:
        self._ladder_mbps = env.video.ladder_mbps

    def choose(self, observations: Observations) -> IntArray:
        """Return (N,) rungs."""
        estimate_mbps = harmonic_means(throughputs_mbs(observations)) * 8.0
        return highest_within(self._ladder_mbps, estimate_mbps)


class BBA(Rule):
    """BBA: the rung depends on the buffer alone.

    It is the lowest rung below the reservoir, and the highest one if the buffer exceeds the
    reservoir by the cushion. Between them the index of the rung grows linearly with the buffer,
    whatever the bitrates are.
    """

    name = "bba"

    def __init__(self, env: AnyABREnv, reservoir_s: float = 5.0, cushion_s: float = 10.0) -> None:
        if not (reservoir_s >= 0.0 and 0.0 < cushion_s < math.inf):
            raise InputError(
                f"reservoir_s must be at least 0 and cushion_s above 0, "
                f"got {reservoir_s} and {cushion_s}"
            )
        self._top = env.video.num_rungs - 1
        self._reservoir_s, self._cushion_s = reservoir_s, cushion_s

    def choose(self, observations: Observations) -> IntArray:
        """Return (N,) rungs."""
        share = self._top * (buffers_s(observations) - self._reservoir_s) / self._cushion_s
        return np.clip(np.floor(share), 0, self._top).astype(np.int64)


class BOLA(Rule):
    """BOLA Basic: the rung with the highest (Vp (utility + gp) - buffer) / bitrate.

    The utility of a rung is ln(bitrate / lowest bitrate), and gp is the value of a chunk without
    stall. Vp = (buffer limit - chunk length) / (top utility + gp) makes the score of the top rung 0
    when the buffer is one chunk below its limit, which each row has its own. Of rungs with equal
    scores the lowest is taken.

    The utility is the rule's own, whatever the QoE of the case is.

    Difference from the paper: where every score is negative, the paper's player waits. Ours cannot,
    so it takes the rung with the highest score, which is a high one if the buffer limit is low.
    """

    name = "bola"

    def __init__(self, env: AnyABREnv, gp: float = 5.0) -> None:
        check(0.0 < gp < math.inf, "gp", "be above 0", gp)
        cap_s = np.array([player.buffer_cap_s for player in env.players])  # (N,)
        highest = float(cap_s.max())
        check(math.isfinite(highest), "buffer_cap_s", "be finite for bola", highest)
        ladder_mbps = env.video.ladder_mbps
        utility = np.log(ladder_mbps / ladder_mbps[0])
        vp_s = (cap_s - np.mean(env.video.chunk_s)) / (utility[-1] + gp)
        self._ladder_mbps = ladder_mbps
        self._worth_s = vp_s[:, None] * (utility + gp)  # (N, rungs)

    def choose(self, observations: Observations) -> IntArray:
        """Return (N,) rungs."""
        scores = (self._worth_s - buffers_s(observations)[:, None]) / self._ladder_mbps
        return np.asarray(scores.argmax(axis=1), np.int64)
