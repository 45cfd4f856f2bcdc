"""Means with intervals: the bootstrap over groups that are not independent."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray

RESAMPLES = 10_000  # bootstrap samples


class Interval(NamedTuple):
    """A mean and its 95 % bootstrap interval, None where there are not two groups."""

    mean: float
    ci95: tuple[float, float] | None


def bootstrap(values: FloatArray, *groups: IntArray) -> Interval:
    """Return the mean and its 95 % interval; whole groups are resampled.

    Where episodes are grouped in two ways (a window by its video and by its user), both are
    resampled, and an episode is counted as often as its video was drawn, times as often as its
    user was drawn. One group does not tell how groups differ. A grouping with a single group is
    therefore not resampled, and there is no interval if no grouping has two groups or more.

    Args:
        values: (E,) one per episode.
        groups: (E,) group of each, 0 to G - 1; one or two ways of grouping.
    """
    ways = [way for way in groups if way.max() > 0]
    if not ways:
        return Interval(float(values.mean()), None)
    first, second = ways[0], ways[1] if len(ways) > 1 else np.zeros_like(ways[0])
    shape = (int(first.max()) + 1, int(second.max()) + 1)
    cell = first * shape[1] + second  # (E,) of a table of the first way by the second
    sums = np.bincount(cell, weights=values, minlength=shape[0] * shape[1]).reshape(shape)
    counts = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    rng = np.random.default_rng(0)  # equal inputs give equal intervals
    one, other = (
        rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES) for size in shape
    )  # (R, G) how often each group was drawn
    drawn = ((one @ counts) * other).sum(axis=1)
    # Groups that were drawn may have no episode in common; such a draw has no mean.
    means = ((one @ sums) * other).sum(axis=1)[drawn > 0] / drawn[drawn > 0]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(values.mean()), (float(low), float(high)))


def group_numbers(names: Sequence[str]) -> IntArray:
    """Return (E,) the number of each episode's group, from the (E,) names of the groups."""
    return np.asarray(np.unique(list(names), return_inverse=True)[1], np.int64)
