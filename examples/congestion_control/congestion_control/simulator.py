"""The dynamics: a fluid model of one sender, one queue and one link, interval by interval.

The sender sends at a constant rate x for an interval of length d, and the link carries c. The
queue begins at q and holds at most B; what does not fit is lost (drop-tail). While x > c the queue
grows at x - c until it is full, and while x < c it drains at c - x until it is empty, so within an
interval it is a ramp of length r = |q' - q| / |x - c| and then level. Hence, exactly:

    delivered         D = min(c d, q + x d)
    lost              L = max(0, q + x d - c d - B)
    queue at the end  q' = q + x d - D - L
    mean queue        ((q + q') / 2 * r + q' * (d - r)) / d

What is sent is delivered, lost or added to the queue: x d = D + L + (q' - q). A round trip takes
its base time and the mean queue / c. The base round-trip time is shorter than an interval, so the
sender knows of one interval what became of it before it decides on the next.
"""

from typing import NamedTuple

import numpy as np
from netllm_gym.arrays import FloatArray, IntArray

from congestion_control.links import INTERVAL_S

FACTORS = np.array([0.5, 0.8, 0.95, 1.0, 1.05, 1.25, 2.0])  # of the sending rate, one per action
START_MBPS = 1.0
LEAST_MBPS, MOST_MBPS = 0.1, 200.0
DELAY_WEIGHT = 0.2  # utility of one base round-trip time spent in the queue
LOSS_WEIGHT = 2.0  # utility of losing everything


class Interval(NamedTuple):
    """What happened in one interval, (N,) each."""

    delivered_mbit: FloatArray
    lost_mbit: FloatArray
    queue_mbit: FloatArray  # at its end
    mean_queue_mbit: FloatArray


def next_rates(rate_mbps: FloatArray, actions: IntArray) -> FloatArray:
    """Return the sending rates, (N,), that actions, (N,), make of the rates before."""
    return np.asarray(np.clip(rate_mbps * FACTORS[actions], LEAST_MBPS, MOST_MBPS))


def send(
    rate_mbps: FloatArray,
    queue_mbit: FloatArray,
    capacity_mbps: FloatArray,
    buffer_mbit: FloatArray,
) -> Interval:
    """Send at constant rates, (N,), for one interval; see the equations above."""
    offered_mbit = queue_mbit + rate_mbps * INTERVAL_S
    carried_mbit = capacity_mbps * INTERVAL_S
    delivered_mbit = np.minimum(carried_mbit, offered_mbit)
    lost_mbit = np.maximum(0.0, offered_mbit - carried_mbit - buffer_mbit)
    left_mbit = np.maximum(0.0, offered_mbit - delivered_mbit - lost_mbit)  # rounding aside
    slope_mbps = np.maximum(np.abs(rate_mbps - capacity_mbps), 1e-12)  # equal rates: no ramp
    ramp = np.minimum(1.0, np.abs(left_mbit - queue_mbit) / slope_mbps / INTERVAL_S)
    mean_mbit = (queue_mbit + left_mbit) / 2.0 * ramp + left_mbit * (1.0 - ramp)
    return Interval(delivered_mbit, lost_mbit, left_mbit, mean_mbit)


def utility(share: FloatArray, delay_ratio: FloatArray, loss_share: FloatArray) -> FloatArray:
    """Return the utility of an interval, (N,); 1 is a full link, an empty queue and no loss.

    Args:
        share: (N,) of the link's capacity that was delivered.
        delay_ratio: (N,) mean round-trip time over the base round-trip time.
        loss_share: (N,) of what was sent that was lost.
    """
    return share - DELAY_WEIGHT * (delay_ratio - 1.0) - LOSS_WEIGHT * loss_share
