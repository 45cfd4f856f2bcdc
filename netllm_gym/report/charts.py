"""Geometry of charts: axes, and marks as SVG paths.

Nothing here is markup. A path is drawn in a square of 1000 x 1000, which the page stretches to the
available room. Labels are text outside of the square with positions in per cent, so that their size
does not change with the page.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import FloatArray
from netllm_gym.envs.curves import Mark, staircase

SIDE = 1000.0  # of the square that paths are drawn in
FENCE = 3.0  # interquartile ranges beyond the quartiles: Tukey's "far out"


class Tick(NamedTuple):
    """A labelled place on an axis."""

    percent: float
    label: str


class Axis(NamedTuple):
    """A straight axis; `low` is at 0 %, `high` at 100 %."""

    low: float
    high: float
    ticks: tuple[Tick, ...]

    def share(self, values: ArrayLike) -> FloatArray:
        """Return the positions of values: 0 to 1 for those on the axis."""
        return (np.asarray(values, np.float64) - self.low) / (self.high - self.low)

    def percent(self, value: float) -> float:
        """Return the position of a value in per cent; values beyond the axis are at its end."""
        return round(100.0 * min(max(float(self.share(value)), 0.0), 1.0), 3)


@dataclass(frozen=True)
class Chart:
    """One pair of axes with what is drawn between them."""

    title: str  # text for readers who cannot see it
    x: Axis
    y: Axis
    x_label: str
    y_label: str
    marks: tuple[Mark, ...]
    height: str = "tall"  # or middle, or low

    def path(self, mark: Mark) -> str:
        """Return a mark as an SVG path in the square of `SIDE`."""
        across = _places(self.x.share(mark.x))
        if mark.kind == "band":
            pairs = zip(across[::2], across[1::2], strict=True)
            return "".join(f"M{left} 0H{right}V{SIDE:g}H{left}Z" for left, right in pairs)
        parts: list[str] = []
        last = ("nan", "nan")
        for here in zip(across, _places(1.0 - self.y.share(mark.y)), strict=True):
            if "nan" in here or (here == last and len(parts) > 1):  # a dot has no length
                pass
            elif "nan" in last:
                parts.append(f"M{here[0]} {here[1]}")
            elif here[1] == last[1]:
                parts.append(f"H{here[0]}")
            elif here[0] == last[0]:
                parts.append(f"V{here[1]}")
            else:
                parts.append(f"L{here[0]} {here[1]}")
            last = here
        return "".join(parts) + (f"V{SIDE:g}H{across[0]}Z" if mark.kind == "area" else "")


def nice_axis(low: float, high: float, about: int = 5, widen: bool = True) -> Axis:
    """Return an axis over [low, high] with ticks at multiples of 1, 2 or 5 times a power of ten.

    `about` is the number of steps to aim at; `widen` lets the axis begin and end at a tick.
    """
    room = max(abs(low), abs(high), 1e-9) * 1e-6
    if high - low < room:  # all values alike: still an axis
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0)
    step = _nice_step((high - low) / about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if widen:
        low, high = first * step, last * step
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    ticks = tuple(
        Tick(
            round(100.0 * (number * step - low) / (high - low), 3),
            f"{number * step + 0.0:.{decimals}f}",
        )
        for number in range(first, last + 1)
        if low - 1e-9 * step <= number * step <= high + 1e-9 * step
    )
    return Axis(low, high, ticks)


def _nice_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(
        factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= least * (1 - 1e-9)
    )


def fenced(values: ArrayLike) -> tuple[float, float]:
    """Return the lowest and the highest value that are not far out.

    An axis over these values is not stretched by one very bad policy. A chart with such an axis
    needs a note on the values beyond it.
    """
    values = np.asarray(values, np.float64)
    lower, upper = np.percentile(values, [25.0, 75.0])
    reach = FENCE * (upper - lower)
    if reach == 0.0:
        return float(values.min()), float(values.max())
    inside = values[(values >= lower - reach) & (values <= upper + reach)]
    return float(inside.min()), float(inside.max())


def cdf(values: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the distinct values (K,), rising, and the share (K,) of values at or below each."""
    distinct, counts = np.unique(np.asarray(values, np.float64), return_counts=True)
    return distinct, np.cumsum(counts) / counts.sum()


def cdf_line(style: str, values: ArrayLike, axis: Axis, row: int | None = None) -> Mark:
    """Return the staircase of a distribution, as far as it lies on a horizontal axis."""
    distinct, share = cdf(values)
    inside = (distinct > axis.low) & (distinct < axis.high)
    at_low = share[distinct <= axis.low][-1:] if distinct[0] <= axis.low else [0.0]
    border = np.concatenate([[axis.low], distinct[inside], [axis.high]])
    return staircase(style, border, np.concatenate([at_low, share[inside]]), row=row)


def _places(share: FloatArray) -> list[str]:
    places = np.round(SIDE * share, 1) + 0.0  # no -0
    return [f"{place:.1f}".removesuffix(".0") for place in places.tolist()]
