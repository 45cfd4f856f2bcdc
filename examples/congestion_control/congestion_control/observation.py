"""What the sender sees, and how an experience pool keeps it.

An observation is the history of the last intervals, newest last, laid flat: (HISTORY * 5,)
float32. Two observations in a row differ by one interval, so a pool keeps the five newest numbers
of each step, and the rest is rebuilt from them bit for bit.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from netllm_gym.errors import InputError
from numpy.typing import NDArray

from congestion_control.links import LEAST_JITTER, LEAST_LEVEL, MOST_BUFFER, FloatArray
from congestion_control.simulator import MOST_MBPS

HISTORY = 8  # intervals
COLUMNS = ("throughput_10mbps", "rate_10mbps", "delay_100ms", "delay_ratio", "loss_share")
UNITS = np.array([10.0, 10.0, 0.1, 1.0, 1.0])  # Mbit/s, Mbit/s, s: what a 1 in a column stands for
MOST_RATIO = 1.0 + MOST_BUFFER / (LEAST_LEVEL * LEAST_JITTER)  # full queue, slowest link
HIGHEST = np.array([MOST_MBPS / 10.0, MOST_MBPS / 10.0, MOST_RATIO, MOST_RATIO, 1.0], np.float32)


class History(NamedTuple):
    """The numbers of an observation in plain units, (N, HISTORY) each, newest last."""

    throughput_mbps: FloatArray
    rate_mbps: FloatArray  # of the sender; the newest is the rate that the next action multiplies
    delay_s: FloatArray  # mean round-trip time
    delay_ratio: FloatArray  # of it to the base round-trip time
    loss_share: FloatArray


def history_of(observations: NDArray[np.float32]) -> History:
    """Take (N, HISTORY * 5) observations apart."""
    table = observations.reshape(len(observations), HISTORY, len(COLUMNS)) * UNITS
    return History(*np.moveaxis(table, 2, 0))


def to_columns(observations: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return the five columns, (T,) float32 each, of the (T, HISTORY * 5) steps of an episode.

    Raises:
        InputError: If the observations are not those of one whole episode.
    """
    columns = {
        name: observations[:, place - len(COLUMNS)].copy() for place, name in enumerate(COLUMNS)
    }
    if not np.array_equal(from_columns(columns), observations):
        raise InputError("observations must be those of one whole episode, got something else")
    return columns


def from_columns(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Rebuild the observations of one episode, (T, HISTORY * 5) float32, from its columns.

    Raises:
        InputError: If a column is missing or too much.
    """
    if set(columns) != set(COLUMNS):
        raise InputError(f"columns must be {', '.join(COLUMNS)}, got {', '.join(sorted(columns))}")
    newest = np.stack([columns[name] for name in COLUMNS], axis=1)  # (T, 5)
    before = np.zeros((HISTORY - 1, len(COLUMNS)), np.float32)
    steps = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([before, newest]), HISTORY, axis=0
    )  # (T, 5, HISTORY)
    return steps.swapaxes(1, 2).reshape(len(newest), -1)
