"""Generated bottleneck links, and the sets of them that training and evaluation play over."""

from typing import NamedTuple

import numpy as np
from netllm_gym.arrays import FloatArray
from netllm_gym.randomness import keys_of_seeds, uniform

INTERVAL_S = 0.1  # between two decisions
NUM_INTERVALS = 200  # of an episode
LEAST_LEVEL, MOST_LEVEL = 0.5, 2.0  # times the usual capacity of the link
LEAST_JITTER, MOST_JITTER = 0.95, 1.05  # times the level, drawn anew for each interval
LEAST_BUFFER, MOST_BUFFER = 0.5, 4.0  # times the usual capacity times the base round-trip time


class Link(NamedTuple):
    """One bottleneck link for the length of an episode."""

    capacity_mbps: FloatArray  # (NUM_INTERVALS,)
    rtt_s: float  # base round-trip time: that of an empty queue
    buffer_mbit: float  # the most that the queue holds


def make_link(seed: int) -> Link:
    """Generate a link; equal seeds give equal links.

    The usual capacity is 4 to 40 Mbit/s, the base round-trip time 20 to 80 ms and the buffer 0.5
    to 4 times the product of the two. From time to time, every 1 to 10 s on average, the capacity
    jumps to another level between half and twice the usual one, and in each interval it differs
    from its level by up to 5 %. All but the last are drawn uniformly on a logarithmic scale.
    """
    draws = uniform(keys_of_seeds([seed]), np.arange(4 + 3 * NUM_INTERVALS))
    usual_mbps = _log_uniform(draws[0], 4.0, 40.0)
    rtt_s = _log_uniform(draws[1], 0.02, 0.08)
    buffer_mbit = usual_mbps * rtt_s * _log_uniform(draws[2], LEAST_BUFFER, MOST_BUFFER)
    mean_hold = _log_uniform(draws[3], 10.0, 100.0)  # intervals between two jumps
    jump, level, jitter = draws[4:].reshape(3, NUM_INTERVALS)
    steps = np.arange(NUM_INTERVALS)
    jumped = np.maximum.accumulate(np.where(jump * mean_hold < 1.0, steps, 0))  # step of last jump
    level_mbps = usual_mbps * _log_uniform(level[jumped], LEAST_LEVEL, MOST_LEVEL)
    capacity_mbps = level_mbps * (LEAST_JITTER + (MOST_JITTER - LEAST_JITTER) * jitter)
    return Link(capacity_mbps, float(rtt_s), float(buffer_mbit))


def _log_uniform(draw: FloatArray, low: float, high: float) -> FloatArray:
    """Map numbers in [0, 1) to [low, high), evenly in their logarithm."""
    return np.asarray(low * (high / low) ** draw)


LINK_SETS = {  # name -> seeds of its links; no two sets share one
    "synthetic": range(20_000, 2**31),
    "synthetic-valid": range(10_000, 20_000),
    "synthetic-test": range(10_000),
}


def list_links() -> list[tuple[str, str]]:
    """Return the names of all sets, and what `netllm-gym data list` says of each."""
    return [(name, f"{len(seeds)} generated links") for name, seeds in LINK_SETS.items()]
