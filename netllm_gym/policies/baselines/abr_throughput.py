"""ABR rules that smooth the measured throughput: FESTIVE and the throughput rule.

Source: FESTIVE (CoNEXT 2012) with the constants of Pensieve's player; the throughput rule as in
"From Theory to Practice: Improving Bitrate Adaptation in the DASH Reference Player" (MMSys 2018).
"""

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.envs.abr.observation import BITRATE, DOWNLOAD, TENS_S, THROUGHPUT
from netllm_gym.envs.rows import num_rows_of
from netllm_gym.policies.baselines.abr import (
    AnyABREnv,
    Observations,
    harmonic_means,
    highest_within,
    last_rungs,
    throughputs_mbs,
)
from netllm_gym.policies.baselines.rule import Rule

SAFE_SHARE = 0.85  # of the estimate that FESTIVE relies on
EFFICIENCY_WEIGHT = 12.0  # of the distance to the wanted bitrate, against switches
REMEMBERED_CHUNKS = 5  # among which FESTIVE counts switches

HALF_LIVES_S = (3.0, 8.0)  # of the throughput rule's two averages, in time spent downloading
SAFETY = 0.9  # share of the estimate that the throughput rule spends


class Festive(Rule):
    """FESTIVE: moves by one rung at a time, slowly upwards, and avoids switches.

    The wanted rung is the highest within 0.85 of the harmonic mean of the last five throughputs. If
    it is below the current rung, the next lower rung is the candidate at once. If it is above, the
    next higher rung becomes the candidate after more than `rung` decisions in a row that wanted a
    higher one. The candidate is taken if its score 2^switches + 12 |bitrate / min(estimate,
    candidate's bitrate) - 1| is lower than the score of staying. Switches are counted among the
    last five chunks and the next one.

    Difference from the paper: requests are not delayed randomly, because there is only one client.
    """

    name = "festive"

    def __init__(self, env: AnyABREnv) -> None:
        self._ladder_mbps = env.video.ladder_mbps
        self._up_votes = np.zeros(num_rows_of(env), np.int64)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Forget how often the rows wanted a higher rung; switches are in the observation."""
        self._up_votes[rows] = 0

    def choose(self, observations: Observations) -> IntArray:
        """Return (N,) rungs."""
        ladder = self._ladder_mbps
        estimate_mbps = harmonic_means(throughputs_mbs(observations)) * 8.0
        now = last_rungs(observations, ladder)
        wanted = highest_within(ladder, SAFE_SHARE * estimate_mbps)
        self._up_votes = np.where(wanted > now, self._up_votes + 1, 0)
        rises = self._up_votes > now
        candidate = np.where(rises, now + 1, np.where(wanted < now, now - 1, now))

        reachable_mbps = np.minimum(estimate_mbps, ladder[candidate])
        switches = _recent_switches(observations)
        stay = 2.0**switches + _inefficiency(ladder[now], reachable_mbps)
        move = 2.0 ** (switches + 1) + _inefficiency(ladder[candidate], reachable_mbps)
        moves = (candidate != now) & (move < stay)
        self._up_votes[moves & rises] = 0
        return np.asarray(np.where(moves, candidate, now), np.int64)


def _inefficiency(bitrate_mbps: FloatArray, reachable_mbps: FloatArray) -> FloatArray:
    return EFFICIENCY_WEIGHT * np.abs(bitrate_mbps / reachable_mbps - 1.0)


def _recent_switches(observations: Observations) -> IntArray:
    """Return (N,) changes of bitrate among the last chunks; columns before the first are 0."""
    bitrates = observations[:, BITRATE, -REMEMBERED_CHUNKS:]
    changed = (bitrates[:, 1:] != bitrates[:, :-1]) & (bitrates[:, :-1] > 0.0)
    return np.asarray(changed.sum(axis=1), np.int64)


class ThroughputRule(Rule):
    """The highest bitrate within 0.9 of the lower of two moving averages of the throughput.

    The averages have half-lives of 3 and 8 seconds of downloading, and a correction for their empty
    beginning. The first chunk of an episode counts like the others.

    Difference from dash.js, where the rule comes from: its second rule, for an almost empty buffer,
    is left out.
    """

    name = "throughput_rule"

    def __init__(self, env: AnyABREnv) -> None:
        self._ladder_mbps = env.video.ladder_mbps
        self._sum_mbps = np.zeros((num_rows_of(env), len(HALF_LIVES_S)))
        self._weight = np.zeros((num_rows_of(env), len(HALF_LIVES_S)))

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Forget what the rows measured."""
        self._sum_mbps[rows] = 0.0
        self._weight[rows] = 0.0

    def choose(self, observations: Observations) -> IntArray:
        """Return (N,) rungs."""
        newest_mbps = observations[:, THROUGHPUT, -1].astype(np.float64) * 8.0
        download_s = observations[:, DOWNLOAD, -1].astype(np.float64) * TENS_S
        kept = 0.5 ** (download_s[:, None] / np.array(HALF_LIVES_S))  # (N, 2)
        self._sum_mbps = kept * self._sum_mbps + (1.0 - kept) * newest_mbps[:, None]
        self._weight = kept * self._weight + (1.0 - kept)
        estimate_mbps = (self._sum_mbps / self._weight).min(axis=1)
        return highest_within(self._ladder_mbps, SAFETY * estimate_mbps)
