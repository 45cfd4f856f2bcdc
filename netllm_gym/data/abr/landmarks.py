"""Find traces that share a stretch of time although their rows differ.

The same measurement is published on grids of 0.1 s, 1 s and 5 s, with capacities lowered by the
headers of packets, with pauses left out, and with times that are stretched by some percent. No row
of one copy is then a row of another. What remains is how the capacity rises and falls.

A *landmark* is a moment at which the capacity changes more than at any other moment near it. It is
described by the logarithms of the mean capacities in the four bins before it and the four bins
after it. Two landmarks are *alike* if these differ by a few percent only. Two traces share a
stretch if `FEWEST_ALIKE` or more of their landmarks are alike at the same shift in time.

A window around a landmark must see many changes. Links of constant, saturated or periodic capacity
therefore have no landmarks or only common ones, and are never found alike by chance.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.abr.traces import Trace

BINS_S = (2.0, 5.0)  # fine grids are compared in bins of 2 s, grids of 5 s in bins of 5 s
STEPS = 8  # places in a bin at which a landmark may lie
BINS = 8  # around a landmark: half of them before it
REACH = 20  # steps to either side in which a landmark is the largest change
SMALLEST_JUMP = 0.15  # at a landmark, as a logarithm
SMALLEST_CHANGE = 0.03  # from row to row, as a logarithm; less may be rounding
FEWEST_CHANGES = 7  # in the bins around a landmark
FLOOR_MBPS = 0.01  # slower counts as this slow
LONGEST_S = 7 * 24 * 3600.0  # only so much of a trace is compared

LEVEL_APART = 0.075  # of the means of alike landmarks
SHAPE_APART = 0.05  # mean distance of the bins of alike landmarks, less their means
LEAST_CORRELATION = 0.955  # of the bins of alike landmarks
SHIFT_S = 3.0  # shifts that differ by less are the same shift
FEWEST_ALIKE = 3  # landmarks
BLOCK = 250  # landmarks that are compared at once with those near them


class Landmarks(NamedTuple):
    """The landmarks of some traces, in the order of traces and times."""

    trace: IntArray  # (landmarks,) number of the trace
    time_s: FloatArray  # (landmarks,)
    bins: FloatArray  # (landmarks, BINS) logarithms of the capacities


def find_landmarks(traces: Sequence[Trace], bin_s: float) -> Landmarks:
    """Return the landmarks of all traces for one width of the bins.

    Landmarks that are alike within a trace are left out: the link may be periodic.
    """
    found = [_landmarks_of(trace, bin_s) for trace in traces]
    return Landmarks(
        np.repeat(np.arange(len(traces)), [len(times_s) for times_s, _ in found]),
        np.concatenate([times_s for times_s, _ in found]),
        np.concatenate([bins for _, bins in found]),
    )


def _landmarks_of(trace: Trace, bin_s: float) -> tuple[FloatArray, FloatArray]:
    """Return the times (landmarks,) and bins (landmarks, BINS) of a trace."""
    step_s = bin_s / STEPS
    steps = int(min(trace.time_s[-1], LONGEST_S) / step_s)
    side = BINS // 2 * STEPS  # steps of the bins before a landmark, and of those after it
    if steps < 2 * side:
        return np.zeros(0), np.zeros((0, BINS))
    carried_mb = np.concatenate([[0.0], np.cumsum(trace.capacity_mbps[1:] * np.diff(trace.time_s))])
    grid_mb = np.interp(np.arange(steps + 1) * step_s, trace.time_s, carried_mb)  # (steps + 1,)
    # Entry i is the mean capacity of the bin that begins at step i.
    mean_mbps = (grid_mb[STEPS:] - grid_mb[:-STEPS]) / bin_s
    bins: FloatArray = np.log(np.maximum(mean_mbps, FLOOR_MBPS))
    jump = np.zeros(steps + 1 + 2 * REACH)
    jump[REACH + STEPS : REACH + steps + 1 - STEPS] = np.abs(bins[STEPS:] - bins[:-STEPS])
    highest = sliding_window_view(jump, 2 * REACH + 1).max(axis=1)  # (steps + 1,)
    jump = jump[REACH : REACH + steps + 1]
    places = np.flatnonzero((jump == highest) & (jump >= SMALLEST_JUMP))
    places = places[(places >= side) & (places <= steps - side)]
    rows = np.log(np.maximum(trace.capacity_mbps[1:], FLOOR_MBPS))
    changes_s = trace.time_s[1:-1][np.abs(np.diff(rows)) >= SMALLEST_CHANGE]
    around_s = np.searchsorted(changes_s, (places + side) * step_s) - np.searchsorted(
        changes_s, (places - side) * step_s
    )
    places = places[around_s >= FEWEST_CHANGES]
    if len(places):  # one of several equal ones that are near each other
        places = places[np.diff(places, prepend=-REACH - 1) > REACH]
    around = bins[places[:, None] + np.arange(-side, side, STEPS)]
    alone = np.ones(len(places), bool)
    alone[np.concatenate(alike_pairs(around))] = False
    return np.asarray(places[alone] * step_s, np.float64), around[alone]


class Pairs(NamedTuple):
    """Pairs of landmarks."""

    one: IntArray  # (pairs,) numbers
    other: IntArray  # (pairs,)


def alike_pairs(bins: FloatArray) -> Pairs:
    """Return all pairs of landmarks that are alike, each pair once.

    Args:
        bins: (landmarks, BINS) of the landmarks.
    """
    level = bins.mean(axis=1)  # (landmarks,)
    order = np.argsort(level, kind="stable")
    level, shape = level[order], (bins - level[:, None])[order]
    # The product of two rows of `direction` is the correlation of their bins.
    direction = shape / np.linalg.norm(shape, axis=1, keepdims=True)
    rough = direction.astype(np.float32)
    pairs = [np.zeros((2, 0), np.int64)]
    for begin in range(0, len(level), BLOCK):
        end = min(begin + BLOCK, len(level))
        last = int(np.searchsorted(level, level[end - 1] + LEVEL_APART, side="right"))
        correlation = rough[begin:end] @ rough[begin:last].T
        near = (correlation > LEAST_CORRELATION - 1e-3).ravel()  # one dimension is searched faster
        one, other = np.divmod(np.flatnonzero(near), last - begin)  # checked exactly below
        one, other = one[one < other] + begin, other[one < other] + begin
        alike = (
            (level[other] - level[one] <= LEVEL_APART)
            & (np.abs(shape[one] - shape[other]).mean(axis=1) <= SHAPE_APART)
            & ((direction[one] * direction[other]).sum(axis=1) >= LEAST_CORRELATION)
        )
        pairs.append(np.stack([order[one[alike]], order[other[alike]]]))
    return Pairs(*np.concatenate(pairs, axis=1))


class Comparison(NamedTuple):
    """Which traces share a stretch, and which ones could be compared at all."""

    pairs: list[tuple[int, int]]  # numbers of traces, sorted, the smaller number first
    comparable: list[bool]  # for each trace: whether it has `FEWEST_ALIKE` landmarks


def compare_by_landmarks(traces: Sequence[Trace]) -> Comparison:
    """Compare all traces with each other, in bins of each width."""
    pairs: set[tuple[int, int]] = set()
    comparable = np.zeros(len(traces), bool)
    for bin_s in BINS_S:
        landmarks = find_landmarks(traces, bin_s)
        comparable |= np.bincount(landmarks.trace, minlength=len(traces)) >= FEWEST_ALIKE
        pairs |= _sharing(landmarks)
    return Comparison(sorted(pairs), comparable.tolist())


def _sharing(landmarks: Landmarks) -> set[tuple[int, int]]:
    """Return the pairs of traces with enough alike landmarks at one shift."""
    pairs = alike_pairs(landmarks.bins)
    first, second = np.minimum(*pairs), np.maximum(*pairs)  # by trace, the earlier one first
    one, other = landmarks.trace[first], landmarks.trace[second]
    shift_s = landmarks.time_s[second] - landmarks.time_s[first]
    order = np.lexsort([shift_s, other, one])
    first, second, shift_s = first[order], second[order], shift_s[order]
    one, other = one[order], other[order]
    found: set[tuple[int, int]] = set()
    begins = np.arange(len(one) - FEWEST_ALIKE + 1)
    ends = begins + FEWEST_ALIKE - 1
    near = (one[begins] == one[ends]) & (other[begins] == other[ends])
    near &= shift_s[ends] - shift_s[begins] <= SHIFT_S
    for begin in begins[near].tolist():
        pair = int(one[begin]), int(other[begin])
        end = begin + FEWEST_ALIKE
        while end < len(one) and (
            (one[end], other[end]) == pair and shift_s[end] - shift_s[begin] <= SHIFT_S
        ):
            end += 1
        different = min(len(set(side[begin:end].tolist())) for side in (first, second))
        if different >= FEWEST_ALIKE:
            found.add(pair)
    return found
