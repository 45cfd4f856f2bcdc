"""Find traces that were cut from the same recording, by their contents and not by their names.

Two traces are compared by their sequences of *levels*: the capacities after row 0, which is never
used, with equal neighbours counted once. Times are left out, because the same recording is
published on grids of 1 s and of 5 s. Levels are equal within `LEVEL_TOLERANCE`, so that a copy
written with five digits is still found.

- A trace is *contained* in another if its whole sequence of levels is a part of the other's. It
  must have at least `FEWEST_LEVELS` of them, because links that hardly change resemble each other.
- Two traces *overlap* if the end of one is the beginning of the other, by at least
  `OVERLAP_LEVELS` levels. A trace also overlaps the traces that it contains.

Among the 485 published FCC and Norway traces, no two of different recordings are related by chance,
even if five levels were enough for an overlap. Windows that were converted separately cannot be
found by their contents: the 1 s traces of FCC count whole packets from their own start, so two
windows of one recording differ by single packets. Their names tell that they belong together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.datasets import sha256_of

LEVEL_TOLERANCE = 1e-4  # relative
FEWEST_LEVELS = 5
OVERLAP_LEVELS = 20
KINDS = {  # of relation, closest first: what a sentence calls it
    "identical": "byte-identical",
    "contained": "contained",
    "overlapping": "overlapping",
    "same_name": "of a recording with the same name",
}


def levels_of(trace: Trace) -> FloatArray:  # (levels,)
    """Return the capacities that a trace goes through, equal neighbours once."""
    capacity_mbps = trace.capacity_mbps[1:]
    changes = np.concatenate([[True], capacity_mbps[1:] != capacity_mbps[:-1]])
    return np.asarray(capacity_mbps[changes])


class Piece(NamedTuple):
    """A trace that holds the beginning of some levels."""

    trace: int
    length: int  # levels in common: all that were asked for, or all up to the end of the trace


class LevelIndex:
    """Finds sequences of levels in many traces at once.

    The levels of all traces are kept in one column, with a gap behind each trace, and are sorted
    once. A search looks only at the places that hold the first level of the sequence.
    """

    def __init__(self, traces: Sequence[Trace]) -> None:
        self.levels = [levels_of(trace) for trace in traces]
        gap = [np.nan]
        self._column = np.concatenate(
            [gap, *(part for each in self.levels for part in (each, gap))]
        )
        self._gaps = np.cumsum([len(each) + 1 for each in self.levels])  # (traces,) behind each
        self._order = np.argsort(self._column)  # NaN last
        self._sorted = self._column[self._order]

    def find(self, levels: FloatArray) -> list[Piece]:
        """Return the places where traces have the beginning of `levels`, `FEWEST_LEVELS` or more.

        Args:
            levels: (n,) to look for. Fewer than `FEWEST_LEVELS` are never found.

        Returns:
            The pieces, by trace and place. Each is equal to `levels` until `levels` or the trace
            ends.
        """
        if len(levels) < FEWEST_LEVELS:
            return []
        slack = LEVEL_TOLERANCE * np.maximum(levels, 0.01)  # (n,)
        first = np.searchsorted(self._sorted, levels[0] - slack[0], side="left")
        last = np.searchsorted(self._sorted, levels[0] + slack[0], side="right")
        places = np.sort(self._order[first:last])
        for offset in range(1, FEWEST_LEVELS):  # equal to a gap is nothing, so none runs over one
            places = places[np.abs(self._column[places + offset] - levels[offset]) <= slack[offset]]
        pieces = []
        for place in places.tolist():
            trace = int(np.searchsorted(self._gaps, place))
            length = min(len(levels), int(self._gaps[trace]) - place)
            found = self._column[place : place + length]
            if (np.abs(found - levels[:length]) <= slack[:length]).all():
                pieces.append(Piece(trace, length))
        return pieces


class Relation(NamedTuple):
    """Why a trace is not independent of another."""

    kind: str  # one of KINDS
    other: str  # name of the other trace


def relations(traces: Sequence[Trace], others: Sequence[Trace]) -> list[Relation | None]:
    """Return for each trace its closest relation to any of the others, the first of its kind."""
    own, index = LevelIndex(traces), LevelIndex(others)
    same_bytes: dict[str, str] = {}
    same_recording: dict[str, str] = {}
    overlapping: dict[int, str] = {}
    for other, levels in zip(others, index.levels, strict=True):
        same_bytes.setdefault(_digest(other), other.name)
        same_recording.setdefault(other.recording, other.name)
        for piece in own.find(levels):
            if _is_related(piece, levels):
                overlapping.setdefault(piece.trace, other.name)
    found: list[Relation | None] = []
    for number, (trace, levels) in enumerate(zip(traces, own.levels, strict=True)):
        pieces = [piece for piece in index.find(levels) if _is_related(piece, levels)]
        whole = [piece for piece in pieces if piece.length == len(levels)]
        digest = _digest(trace)
        if digest and digest in same_bytes:
            found.append(Relation("identical", same_bytes[digest]))
        elif whole:
            found.append(Relation("contained", others[whole[0].trace].name))
        elif pieces:
            found.append(Relation("overlapping", others[pieces[0].trace].name))
        elif number in overlapping:
            found.append(Relation("overlapping", overlapping[number]))
        elif trace.recording in same_recording:
            found.append(Relation("same_name", same_recording[trace.recording]))
        else:
            found.append(None)
    return found


def group_recordings(traces: Sequence[Trace]) -> list[list[int]]:
    """Return the numbers of the traces, grouped by recording.

    Two traces are of one recording if their names say so, if their bytes are equal, or if one
    contains or overlaps the other. The relation is transitive.
    """
    index = LevelIndex(traces)
    above = list(range(len(traces)))  # a forest: the root of a tree is its smallest number

    def root(number: int) -> int:
        while above[number] != number:
            above[number] = number = above[above[number]]
        return number

    first_with: dict[tuple[str, str], int] = {}
    for number, (trace, levels) in enumerate(zip(traces, index.levels, strict=True)):
        relatives = [piece.trace for piece in index.find(levels) if _is_related(piece, levels)]
        keys = [("recording", trace.recording), ("bytes", _digest(trace))]
        relatives += [first_with.setdefault(key, number) for key in keys if key[1]]
        for relative in relatives:
            low, high = sorted((root(number), root(relative)))
            above[high] = low
    groups: dict[int, list[int]] = {}
    for number in range(len(traces)):
        groups.setdefault(root(number), []).append(number)
    return list(groups.values())


def _is_related(piece: Piece, levels: FloatArray) -> bool:
    return piece.length == len(levels) or piece.length >= OVERLAP_LEVELS


def _digest(trace: Trace) -> str:
    """Return the SHA-256 of the file that a trace was read from, empty if there is none."""
    return sha256_of(trace.path) if trace.path else ""
