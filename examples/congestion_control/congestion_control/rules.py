"""Rules for congestion control, from random to model-based, as netllm-gym's policies.

A rule finds the rate at which it wants to send, in Mbit/s, and takes the factor that comes closest
to it. Rules that count in packets take 1500 bytes each.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from netllm_gym.randomness import EpisodeDraws
from numpy.typing import NDArray

from congestion_control.links import INTERVAL_S, FloatArray
from congestion_control.observation import History, history_of
from congestion_control.simulator import FACTORS, LEAST_MBPS, MOST_MBPS

IntArray = NDArray[np.int64]

PACKET_MBIT = 1500 * 8 / 1e6


class Random:
    """Every factor equally likely, drawn by the episode's seed and the step."""

    name = "random"

    def __init__(self, env: Any) -> None:
        self._draws = EpisodeDraws(env.num_envs)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Start the rows' draws anew."""
        self._draws.reset(rows, seeds)

    def act(
        self, observations: NDArray[np.float32], rewards: FloatArray, infos: Mapping[str, Any]
    ) -> IntArray:
        """Return (N,) actions."""
        return (self._draws.draw() * len(FACTORS)).astype(np.int64)


class RateRule:
    """A rule that wants to send at some rate; subclasses say at which.

    Args:
        env: What is played.
    """

    name: str

    def __init__(self, env: Any) -> None:
        self.starts = np.ones(env.num_envs, np.bool_)  # (N,) rows that are in their start-up

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Begin anew in some rows."""
        self.starts[rows] = True

    def wanted_mbps(self, seen: History) -> FloatArray:
        """Return the rates, (N,), at which to send in the next interval."""
        raise NotImplementedError

    def act(
        self, observations: NDArray[np.float32], rewards: FloatArray, infos: Mapping[str, Any]
    ) -> IntArray:
        """Return (N,) actions."""
        seen = history_of(observations)
        wanted_mbps = np.clip(self.wanted_mbps(seen), LEAST_MBPS, MOST_MBPS)
        away = np.log(wanted_mbps / seen.rate_mbps[:, -1])[:, None] - np.log(FACTORS)  # (N, 7)
        return np.asarray(np.abs(away).argmin(axis=1), np.int64)


class WindowRule(RateRule):
    """A rule that says how many packets may be on their way: its window.

    A longer round trip makes the same window slower, which damps such rules. They double the
    window once an interval until they first find the link congested.
    """

    needs_own_episodes = True  # the window follows from the actions before

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._window = np.zeros(env.num_envs)  # (N,) packets

    def is_congested(self, seen: History) -> NDArray[np.bool_]:
        """Return (N,) where the last interval speaks against a larger window."""
        raise NotImplementedError

    def adjusted(self, window: FloatArray, seen: History) -> FloatArray:
        """Return the windows, (N,), after the last interval, once the start-up is over."""
        raise NotImplementedError

    def wanted_mbps(self, seen: History) -> FloatArray:
        """Return the rates, (N,), at which to send in the next interval."""
        base_rtt_s = seen.delay_s[:, -1] / seen.delay_ratio[:, -1]
        started = seen.rate_mbps[:, -1] * base_rtt_s / PACKET_MBIT
        window = np.where(self.starts, started, self._window)
        self.starts = self.starts & ~self.is_congested(seen)
        self._window = np.where(self.starts, 2.0 * window, self.adjusted(window, seen))
        return self._window * PACKET_MBIT / seen.delay_s[:, -1]


class AIMD(WindowRule):
    """Additive increase, multiplicative decrease: TCP Reno's rule, which only losses slow down.

    It adds a packet per round trip to the window, and halves it on a loss.

    Source: Chiu and Jain, Analysis of the Increase and Decrease Algorithms for Congestion
    Avoidance in Computer Networks (1989); RFC 5681. Differs: it acts once an interval.
    """

    name = "aimd"

    def is_congested(self, seen: History) -> NDArray[np.bool_]:
        """Return (N,) where something was lost."""
        return seen.loss_share[:, -1] > 0.0

    def adjusted(self, window: FloatArray, seen: History) -> FloatArray:
        """Return the windows, (N,), after the last interval."""
        added = INTERVAL_S / seen.delay_s[:, -1]
        return np.where(self.is_congested(seen), 0.5 * window, window + added)


class CopaLike(WindowRule):
    """Aim at 1 / (delta x queueing delay) packets per second: the less delay, the faster.

    Below that target rate it adds 1 / delta packets per round trip to the window, above it it
    takes as many away.

    Source: Arun and Balakrishnan, Copa (NSDI 2018). Differs: it acts once an interval, on the mean
    delay of the last, changes the window by a quarter at most instead of at a growing velocity,
    and has no mode for competing with other flows.
    """

    name = "copa_like"
    delta = 0.5

    def is_congested(self, seen: History) -> NDArray[np.bool_]:
        """Return (N,) where the rate is at its target or above."""
        queueing_s = seen.delay_s[:, -1] * (1.0 - 1.0 / seen.delay_ratio[:, -1])
        return seen.rate_mbps[:, -1] * self.delta * queueing_s >= PACKET_MBIT

    def adjusted(self, window: FloatArray, seen: History) -> FloatArray:
        """Return the windows, (N,), after the last interval."""
        change = np.minimum(INTERVAL_S / (self.delta * seen.delay_s[:, -1]), 0.25 * window)
        return np.where(self.is_congested(seen), window - change, window + change)


class BBRLike(RateRule):
    """Send at the highest throughput of late, and probe now and then whether there is more.

    It doubles its rate until the throughput no longer grows by a quarter. Then it drains the queue
    and repeats eight gains: one interval faster, one slower, six at the estimate. No more than
    two bandwidth-delay products are to be on their way.

    Source: Cardwell et al., BBR: Congestion-Based Congestion Control (ACM Queue, 2016). Differs:
    the estimate is the highest of the last eight intervals, and the base round-trip time is known,
    so nothing probes for it.
    """

    name = "bbr_like"
    gains = np.array([0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.25, 0.75, *[1.0] * 6])
    repeats_from = 7

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self._phase = np.zeros(env.num_envs, np.int64)  # (N,) place in `gains`

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Begin anew in some rows."""
        super().reset(rows, seeds)
        self._phase[rows] = 0

    def wanted_mbps(self, seen: History) -> FloatArray:
        """Return the rates, (N,), at which to send in the next interval."""
        before_mbps, now_mbps = seen.throughput_mbps[:, -2], seen.throughput_mbps[:, -1]
        self.starts &= (now_mbps >= 1.25 * before_mbps) | (before_mbps == 0.0)
        best_mbps = seen.throughput_mbps.max(axis=1)
        gain_mbps = self.gains[self._phase] * best_mbps
        most_mbps = 2.0 * best_mbps / seen.delay_ratio[:, -1]
        following = np.where(self._phase + 1 < len(self.gains), self._phase + 1, self.repeats_from)
        self._phase = np.where(self.starts, 0, following)
        return np.where(self.starts, 2.0 * seen.rate_mbps[:, -1], np.minimum(gain_mbps, most_mbps))
