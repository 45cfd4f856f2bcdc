"""What no sender can beat, even one that knows the link beforehand."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from congestion_control.links import INTERVAL_S, NUM_INTERVALS, FloatArray, make_link
from congestion_control.simulator import FACTORS, START_MBPS, next_rates, send


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

    def limits(self, plan: Sequence[Any]) -> FloatArray:
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
