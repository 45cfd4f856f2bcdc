"""Quantities over time, which pictures are drawn from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import FloatArray


class Steps(NamedTuple):
    """A quantity that is constant between borders."""

    border_s: FloatArray  # (K + 1,) rising
    value: FloatArray  # (K,)

    def averaged(self, border_s: ArrayLike) -> "Steps":
        """Return the mean between each two of other borders, which lie within this one's."""
        wanted_s = np.asarray(border_s, np.float64)
        so_far = np.append(0.0, np.cumsum(np.diff(self.border_s) * self.value))
        return Steps(
            wanted_s, np.diff(np.interp(wanted_s, self.border_s, so_far)) / np.diff(wanted_s)
        )


class Line(NamedTuple):
    """A quantity that is linear between points; two points at one time are a jump."""

    time_s: FloatArray  # (K,) never falling
    value: FloatArray  # (K,)


def how_many(begin_s: ArrayLike, end_s: ArrayLike, until_s: float) -> Steps:
    """Return how many intervals have begun and not ended at each time from 0 on.

    Args:
        begin_s: (K,) at least 0.
        end_s: (K,) may be above `until_s`.
        until_s: End of the curve, above 0.
    """
    begun, ended = np.sort(np.ravel(begin_s)), np.sort(np.ravel(end_s))
    changes = np.unique(np.concatenate([[0.0], begun, ended]))
    border_s = np.append(changes[changes < until_s], until_s)
    since_s = border_s[:-1]
    count = np.searchsorted(begun, since_s, "right") - np.searchsorted(ended, since_s, "right")
    return Steps(border_s, count.astype(np.float64))
