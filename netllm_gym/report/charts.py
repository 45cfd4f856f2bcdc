"""Geometry of charts: axes, staircases and areas as SVG paths.

Nothing here is markup. A path is drawn in a square of 1000 x 1000, which the page stretches to the
available room. Labels are text outside of the square with positions in per cent, so that their size
does not change with the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import FloatArray

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
class Mark:
    """One path of a chart.

    Attributes:
        kind: `line`, `area` or `band`.
        style: Class that gives it its colour.
        path: In the square of `SIDE`.
        row: Of the table, if it belongs to one.
    """

    kind: str
    style: str
    path: str
    row: int | None = None


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


def nice_axis(low: float, high: float, about: int = 5, widen: bool = True) -> Axis:
    """Return an axis over [low, high] with ticks at multiples of 1, 2 or 5 times a power of ten.

    Args:
        low: Lowest value that must lie on it.
        high: Highest value that must lie on it.
        about: Number of steps to aim at.
        widen: Let the axis begin and end at a tick.
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


def cdf_path(x: Axis, y: Axis, values: ArrayLike) -> str:
    """Return the staircase of a distribution from one end of the axis to the other."""
    distinct, share = cdf(values)
    inside = (distinct > x.low) & (distinct < x.high)
    at_low = share[distinct <= x.low][-1:] if distinct[0] <= x.low else [0.0]
    border = np.concatenate([[x.low], distinct[inside], [x.high]])
    return step_path(x, y, border, np.concatenate([at_low, share[inside]]))


def step_path(x: Axis, y: Axis, border: ArrayLike, value: ArrayLike) -> str:
    """Return a staircase: `value` (K,) holds between the `border`s (K + 1,)."""
    across, up = _places(x, border), _places(y, value, upwards=True)
    parts = [f"M{across[0]} {up[0]}H{across[1]}"]
    parts += [f"V{up[i]}H{across[i + 1]}" for i in range(1, len(up))]
    return "".join(parts)


def area_path(x: Axis, y: Axis, border: ArrayLike, value: ArrayLike) -> str:
    """Return the area between a staircase and the lower edge of the chart."""
    start = _places(x, np.asarray(border, np.float64)[:1])[0]
    return f"{step_path(x, y, border, value)}V{SIDE:g}H{start}Z"


def line_path(x: Axis, y: Axis, place: ArrayLike, value: ArrayLike) -> str:
    """Return a line from point to point, both (K,)."""
    points = zip(_places(x, place), _places(y, value, upwards=True), strict=True)
    return "M" + "L".join(f"{across} {up}" for across, up in points)


def segments_path(
    x: Axis, y: Axis, begin: ArrayLike, end: ArrayLike, value: Sequence[float] | FloatArray
) -> str:
    """Return horizontal lines from `begin` to `end` at `value`, (K,) each."""
    rows = zip(_places(x, begin), _places(x, end), _places(y, value, upwards=True), strict=True)
    return "".join(f"M{left} {up}H{right}" for left, right, up in rows)


def band_path(x: Axis, begin: ArrayLike, end: ArrayLike) -> str:
    """Return bands of the full height of the chart, from `begin` to `end`, (K,) each."""
    rows = zip(_places(x, begin), _places(x, end), strict=True)
    return "".join(f"M{left} 0H{right}V{SIDE:g}H{left}Z" for left, right in rows)


def _places(axis: Axis, values: ArrayLike, upwards: bool = False) -> list[str]:
    share = axis.share(np.atleast_1d(np.asarray(values, np.float64)))
    places = SIDE * (1.0 - share if upwards else share)
    return [f"{place:.1f}".removesuffix(".0") for place in np.round(places, 1) + 0.0]
