"""What the sender observes: five numbers of each of the last intervals, newest last, laid flat."""

from typing import NamedTuple

import numpy as np
from netllm_gym.arrays import Float32Array, FloatArray

from congestion_control.links import LEAST_JITTER, LEAST_LEVEL, MOST_BUFFER
from congestion_control.simulator import MOST_MBPS

HISTORY = 8  # intervals
# What a 1 stands for: throughput and rate 10 Mbit/s, delay 0.1 s, delay ratio and loss share 1.
UNITS = np.array([10.0, 10.0, 0.1, 1.0, 1.0])
NUM_COLUMNS = len(UNITS)
MOST_RATIO = 1.0 + MOST_BUFFER / (LEAST_LEVEL * LEAST_JITTER)  # full queue, slowest link
HIGHEST = np.array([MOST_MBPS / 10.0, MOST_MBPS / 10.0, MOST_RATIO, MOST_RATIO, 1.0], np.float32)


class History(NamedTuple):
    """The numbers of N observations in plain units, (N, HISTORY) each, newest last."""

    throughput_mbps: FloatArray
    rate_mbps: FloatArray  # of the sender; the next action multiplies the newest
    delay_s: FloatArray  # mean round-trip time
    delay_ratio: FloatArray  # mean round-trip time / base round-trip time
    loss_share: FloatArray  # of what was sent


def history_of(observations: Float32Array) -> History:
    """Return the history in (N, HISTORY * 5) observations."""
    table = observations.reshape(len(observations), HISTORY, NUM_COLUMNS) * UNITS
    return History(*np.moveaxis(table, 2, 0))
