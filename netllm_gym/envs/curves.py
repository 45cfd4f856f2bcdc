"""Quantities over time, and marks: what pictures consist of, wherever they are drawn."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

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


@dataclass(frozen=True, eq=False)
class Mark:
    """Something that is drawn between two axes.

    Attributes:
        kind: A `line`; the `area` below a line; or a `band` of the full height between each two
            places.
        style: What it shows, which decides its colour.
        x: (K,) places on the horizontal axis; not a number where a line is interrupted.
        y: (K,) on the vertical axis; of bands nobody asks.
        row: Of the table, if it belongs to one.
    """

    kind: Literal["line", "area", "band"]
    style: str
    x: FloatArray
    y: FloatArray
    row: int | None = None


def line(style: str, x: ArrayLike, y: ArrayLike, row: int | None = None) -> Mark:
    """Return a line from point to point, both (K,)."""
    return Mark("line", style, np.asarray(x, np.float64), np.asarray(y, np.float64), row)


def staircase(
    style: str, border: ArrayLike, value: ArrayLike, *, filled: bool = False, row: int | None = None
) -> Mark:
    """Return a line, or the area below it, where `value` (K,) holds between `border`s (K + 1,)."""
    x, y = np.repeat(np.asarray(border, np.float64), 2)[1:-1], np.repeat(value, 2)
    return Mark("area" if filled else "line", style, x, np.asarray(y, np.float64), row)


def segments(style: str, begin: ArrayLike, end: ArrayLike, value: ArrayLike) -> Mark:
    """Return horizontal lines from `begin` to `end` at `value`, (K,) each."""
    gap = np.full(np.shape(begin), np.nan)
    return line(style, np.column_stack([begin, end, gap]).ravel(), np.repeat(value, 3))


def bands(style: str, begin: ArrayLike, end: ArrayLike) -> Mark:
    """Return bands of the full height from `begin` to `end`, (K,) each."""
    x = np.column_stack([begin, end]).ravel()
    return Mark("band", style, np.asarray(x, np.float64), np.zeros_like(x))
