"""Rules for congestion control, and a bound that no sender can beat.

A rule counts in packets of 1500 bytes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from netllm_gym.arrays import BoolArray, Float32Array, FloatArray, IntArray
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.policies.baselines.rule import DrawingRule, Rule

from congestion_control.links import INTERVAL_S, NUM_INTERVALS, make_link
from congestion_control.observation import History, history_of
from congestion_control.simulator import (
    FACTORS,
    LEAST_MBPS,
    MOST_MBPS,
    START_MBPS,
    next_rates,
    send,
)

PACKET_MBIT = 1500 * 8 / 1e6


class Random(DrawingRule):
    """Take every factor with equal probability."""

    def choose(self, observations: Float32Array) -> IntArray:
        """Return (N,) actions."""
        return (self.draws.draw() * len(FACTORS)).astype(np.int64)


class WindowRule(Rule):
    """A rule that says how many packets may be on their way: its window.

    It takes the factor that comes closest to a window per round trip. A longer round trip makes the
    same window slower, which damps such rules. They double the window once an interval until they
    first find the link congested.
    """

    name: str
    needs_own_episodes = True  # the window follows from the actions before

    def __init__(self, env: Any) -> None:
        self._starts = np.ones(env.num_envs, np.bool_)  # (N,) rows that are in their start-up
        self._window = np.zeros(env.num_envs)  # (N,) packets

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Begin new episodes in some rows."""
        self._starts[rows] = True

    def is_congested(self, seen: History) -> BoolArray:
        """Return (N,) where the last interval speaks against a larger window."""
        raise NotImplementedError

    def adjusted(self, window: FloatArray, seen: History) -> FloatArray:
        """Return the windows, (N,), after the last interval, once the start-up is over."""
        raise NotImplementedError

    def choose(self, observations: Float32Array) -> IntArray:
        """Return (N,) actions."""
        seen = history_of(observations)
        rate_mbps, delay_s = seen.rate_mbps[:, -1], seen.delay_s[:, -1]
        first = rate_mbps * delay_s / seen.delay_ratio[:, -1] / PACKET_MBIT
        window = np.where(self._starts, first, self._window)
        self._starts = self._starts & ~self.is_congested(seen)
        self._window = np.where(self._starts, 2.0 * window, self.adjusted(window, seen))
        wanted_mbps = np.clip(self._window * PACKET_MBIT / delay_s, LEAST_MBPS, MOST_MBPS)
        away = np.log(wanted_mbps / rate_mbps)[:, None] - np.log(FACTORS)  # (N, 7)
        return np.asarray(np.abs(away).argmin(axis=1), np.int64)


class AIMD(WindowRule):
    """Additive increase, multiplicative decrease: TCP Reno's rule, which only losses slow down.

    It adds a packet per round trip to the window, and halves it on a loss.

    Source: Chiu and Jain, Analysis of the Increase and Decrease Algorithms for Congestion
    Avoidance in Computer Networks (1989); RFC 5681. Differs: it acts once an interval.
    """

    name = "aimd"

    def is_congested(self, seen: History) -> BoolArray:
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

    def is_congested(self, seen: History) -> BoolArray:
        """Return (N,) where the rate is at its target or above."""
        queueing_s = seen.delay_s[:, -1] * (1.0 - 1.0 / seen.delay_ratio[:, -1])
        return seen.rate_mbps[:, -1] * self.delta * queueing_s >= PACKET_MBIT

    def adjusted(self, window: FloatArray, seen: History) -> FloatArray:
        """Return the windows, (N,), after the last interval."""
        change = np.minimum(INTERVAL_S / (self.delta * seen.delay_s[:, -1]), 0.25 * window)
        return np.where(self.is_congested(seen), window - change, window + change)


class Bound:
    """An upper bound on the mean utility of each planned episode; it does not play.

    Delays and losses only cost, so the utility of an interval is at most D / (c d), the share of
    the capacity that is delivered. That share is highest for the sender that always takes the
    largest factor. By induction over the intervals: its rate is the highest that can be reached,
    and if its queue q is the longest at the beginning of an interval, then D = min(c d, q + x d)
    and the queue at the end, min(B, max(0, q + x d - c d)), are the largest too, since both grow
    with q and with x. So its mean share bounds the mean utility of every sender.

    Args:
        env: Any environment of the problem.
    """

    name = "bound"

    def __init__(self, env: Any) -> None:
        pass

    def limits(self, plan: Sequence[PlannedEpisode]) -> FloatArray:
        """Return (E,) the most that the mean utility of each planned episode can be."""
        links = [make_link(planned.options["link_seed"]) for planned in plan]
        capacity_mbps = np.stack([link.capacity_mbps for link in links])  # (E, NUM_INTERVALS)
        buffer_mbit = np.array([link.buffer_mbit for link in links])
        rate_mbps, queue_mbit = np.full(len(links), START_MBPS), np.zeros(len(links))
        fastest = np.full(len(links), FACTORS.argmax())
        share = np.zeros(len(links))
        for now_mbps in capacity_mbps.T:
            rate_mbps = next_rates(rate_mbps, fastest)
            sent = send(rate_mbps, queue_mbit, now_mbps, buffer_mbit)
            share += sent.delivered_mbit / (now_mbps * INTERVAL_S)
            queue_mbit = sent.queue_mbit
        return share / NUM_INTERVALS
