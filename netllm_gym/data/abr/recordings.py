"""Find traces that were cut from the same recording, by their contents and by their names.

Contents are compared in two ways. The first is exact and finds copies of the same rows. It compares
sequences of *levels*: the capacities after row 0, which is never used, with equal neighbours
counted once. Times are left out, because the same rows are published with 1 s and with 5 s. Levels
are equal within `LEVEL_TOLERANCE` or `ROUNDED_MBPS`, so that a copy written in whole kbit/s is
still found.

- A trace is *contained* in another if its whole sequence of levels is a part of the other's. It
  must have at least `FEWEST_LEVELS` of them, because links that hardly change resemble each other.
- Two traces *overlap* if the end of one is the beginning of the other, by at least
  `OVERLAP_LEVELS` levels. A trace also overlaps the traces that it contains.

The second finds the same measurement on other time grids: two traces also overlap if they share a
stretch by their landmarks (`landmarks.py`).

Names are a second witness: the unit of the FCC's tables, the ride of the Norwegian logs and the
session of Puffer. A trace that is too short or too steady to be compared, and whose name says
nothing, is reported, and counts as a recording of its own.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.data.abr.landmarks import compare_by_landmarks
from netllm_gym.data.abr.traces import Trace, TraceSet
from netllm_gym.data.datasets import sha256_of

_FCC_UNIT = re.compile(r"\d+_(?=https?---)")
LEVEL_TOLERANCE = 1e-3  # relative
ROUNDED_MBPS = 6e-4  # half a kbit/s, and a little more
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
    steps_mbps = np.abs(np.diff(capacity_mbps))
    changes = np.concatenate([[True], steps_mbps > _slack_mbps(capacity_mbps[1:])])
    return np.asarray(capacity_mbps[changes])


def _slack_mbps(levels: FloatArray) -> FloatArray:
    """Return by how much equal levels may differ: more than a rounding to kbit/s."""
    return np.maximum(LEVEL_TOLERANCE * levels, ROUNDED_MBPS)


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
        slack = _slack_mbps(levels)  # (n,)
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
    same_name: dict[str, str] = {}
    overlapping: dict[int, str] = {}
    for other, levels in zip(others, index.levels, strict=True):
        same_bytes.setdefault(_digest(other), other.name)
        same_name.setdefault(_witness(other), other.name)
        for piece in own.find(levels):
            if _is_related(piece, levels):
                overlapping.setdefault(piece.trace, other.name)
    for number, second in compare_by_landmarks([*traces, *others]).pairs:
        if number < len(traces) <= second:
            overlapping.setdefault(number, others[second - len(traces)].name)
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
        elif _witness(trace) in same_name:
            found.append(Relation("same_name", same_name[_witness(trace)]))
        else:
            found.append(None)
    return found


class Recordings(NamedTuple):
    """Which traces were cut from the same recording."""

    groups: list[list[int]]  # numbers of traces; each group is a recording
    unknown: list[int]  # traces that could not be compared, and whose names say nothing


def find_recordings(traces: Sequence[Trace]) -> Recordings:
    """Group traces by recording.

    Two traces are of one recording if their names say so, if their rows are equal, or if one
    contains or overlaps the other. The relation is transitive.
    """
    index = LevelIndex(traces)
    above = list(range(len(traces)))  # a forest: the root of a tree is its smallest number

    def root(number: int) -> int:
        while above[number] != number:
            above[number] = number = above[above[number]]
        return number

    def join(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        above[high] = low

    first_with: dict[tuple[str, str], int] = {}
    firsts: list[int] = []  # of equal traces
    for number, (trace, levels) in enumerate(zip(traces, index.levels, strict=True)):
        join(number, first_with.setdefault(("name", _witness(trace)), number))
        first = first_with.setdefault(("rows", trace.content), number)
        if first != number:
            join(number, first)
            continue
        firsts.append(number)
        for piece in index.find(levels):
            if _is_related(piece, levels):
                join(number, piece.trace)
    compared = compare_by_landmarks([traces[number] for number in firsts])
    for one, other in compared.pairs:
        join(firsts[one], firsts[other])
    groups: dict[int, list[int]] = {}
    for number in range(len(traces)):
        groups.setdefault(root(number), []).append(number)
    unknown = [
        number
        for number, is_comparable in zip(firsts, compared.comparable, strict=True)
        if not is_comparable
        and len(index.levels[number]) < OVERLAP_LEVELS
        and traces[number].recording == traces[number].content
        and len(groups[root(number)]) == 1
    ]
    return Recordings(list(groups.values()), unknown)


def unknown_text(num_unknown: int, num_traces: int) -> str:
    """Return the sentence that says for how many traces the recording is not known."""
    return (
        f"recording unknown for {num_unknown} of {num_traces} traces, which are too short or too "
        "steady to be compared and whose names do not tell it; each counts as one of its own"
    )


def name_recordings(traces: Sequence[Trace], recordings: Recordings) -> list[str]:
    """Return one name per trace, equal for all traces of a recording.

    It is the first name of a recording that a trace of the group has, else the first content.
    """
    names = [""] * len(traces)
    for group in recordings.groups:
        own = [traces[number] for number in group]
        named = [trace.recording for trace in own if trace.recording != trace.content]
        for number in group:
            names[number] = (named or [own[0].recording])[0]
    return names


def with_recordings(traces: TraceSet) -> TraceSet:
    """Return the set with one name of the recording on all traces that were cut from it."""
    names = name_recordings(traces.traces, find_recordings(traces.traces))
    named = (
        trace if trace.recording == name else replace(trace, recording=name)
        for trace, name in zip(traces.traces, names, strict=True)
    )
    return replace(traces, traces=tuple(named))


def _is_related(piece: Piece, levels: FloatArray) -> bool:
    return piece.length == len(levels) or piece.length >= OVERLAP_LEVELS


def _witness(trace: Trace) -> str:
    """Return what the recording's name says that a trace shares with others of its recording.

    For the FCC's tables this is the unit: the sites that it visits are measured on one link.
    """
    match = _FCC_UNIT.match(trace.recording)
    return match[0] if match else trace.recording


def _digest(trace: Trace) -> str:
    """Return what is equal for equal files, empty if there is no file. A file may hold several."""
    return f"{sha256_of(trace.path)} {trace.content}" if trace.path else ""
