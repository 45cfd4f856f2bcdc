"""Describe trace sets: statistics, outliers, and leakage between them.

Statistics are weighted by time, because the time grids differ. An outlier is a trace whose mean
capacity or length is at least `OUTLIER_FACTOR` times the median of its set, or at most the median
divided by that factor, or that carries nothing for `STALL_S` or longer. How leakage is found is
described in `netllm_gym.data.abr.recordings`.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.data.abr.recordings import KINDS, find_recordings, relations, unknown_text
from netllm_gym.data.abr.traces import Trace, TraceSet
from netllm_gym.data.abr.units import mean_rate
from netllm_gym.errors import InputError

OUTLIER_FACTOR = 3.0
STALL_S = 10.0
NAMES_SHOWN = 3


@dataclass(frozen=True)
class SetSummary:
    """Statistics of one trace set.

    Attributes:
        name: The name under which it was loaded.
        num_traces: Traces in the set.
        num_recordings: Recordings from which they were cut, by name and by contents.
        num_unknown: Traces that could not be compared, each counted as a recording of its own.
        length_s: Minimum, median and maximum of the length over traces.
        step_s: Minimum, median and maximum over traces of the median time step.
        mean_mbps: Mean over traces of the mean capacity, and its standard deviation.
        mean_quantiles_mbps: Minimum, 25, 50, 75, 95 % and maximum of the mean capacity.
        capacity_quantiles_mbps: 5, 50, 95 % and maximum of the capacity over all time.
        zero_s: Total time without any capacity.
        outliers: Kind -> names of traces.
        remarks: What was assumed or left out when the files were read.
    """

    name: str
    num_traces: int
    num_recordings: int
    num_unknown: int
    length_s: tuple[float, ...]
    step_s: tuple[float, ...]
    mean_mbps: tuple[float, float]
    mean_quantiles_mbps: tuple[float, ...]
    capacity_quantiles_mbps: tuple[float, ...]
    zero_s: float
    outliers: Mapping[str, Sequence[str]]
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Leakage:
    """What the traces of one set share with another set.

    Attributes:
        name: The set.
        against: The other set.
        num_traces: In the set.
        counts: Kind of relation -> traces of the set; each counts once, for its closest relation.
        related: Trace -> kind and the related trace of the other set.
    """

    name: str
    against: str
    num_traces: int
    counts: Mapping[str, int]
    related: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class Inspection:
    """The result of `data inspect`."""

    sets: tuple[SetSummary, ...]
    leaks: tuple[Leakage, ...]

    def to_json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(asdict(self), indent=1) + "\n"


def inspect(sets: Mapping[str, TraceSet]) -> Inspection:
    """Describe each set, and compare each with every one after it.

    Args:
        sets: Name -> set, in the order in which they are compared.
    """
    pairs = [(a, b) for number, a in enumerate(sets) for b in list(sets)[number + 1 :]]
    return Inspection(
        tuple(
            replace(summarise(name, each.traces), remarks=each.remarks)
            for name, each in sets.items()
        ),
        tuple(compare(a, sets[a].traces, b, sets[b].traces) for a, b in pairs),
    )


def mean_capacity_mbps(trace: Trace) -> float:
    """Return the mean capacity over the time of a trace."""
    return mean_rate(trace.time_s, trace.capacity_mbps)


def summarise(name: str, traces: Sequence[Trace]) -> SetSummary:
    """Return the statistics and the outliers of a set."""
    length_s = np.array([trace.time_s[-1] for trace in traces])
    step_s = np.array([np.median(np.diff(trace.time_s)) for trace in traces])
    mean_mbps = np.array([mean_capacity_mbps(trace) for trace in traces])
    rows_s = np.concatenate([np.diff(trace.time_s) for trace in traces])
    rows_mbps = np.concatenate([trace.capacity_mbps[1:] for trace in traces])
    stalls_s = np.array([longest_stall_s(trace) for trace in traces])
    recordings = find_recordings(traces)
    kinds = {
        "slow": mean_mbps <= np.median(mean_mbps) / OUTLIER_FACTOR,
        "fast": mean_mbps >= np.median(mean_mbps) * OUTLIER_FACTOR,
        "short": length_s <= np.median(length_s) / OUTLIER_FACTOR,
        "long": length_s >= np.median(length_s) * OUTLIER_FACTOR,
        "stalled": stalls_s >= STALL_S,
    }
    return SetSummary(
        name=name,
        num_traces=len(traces),
        num_recordings=len(recordings.groups),
        num_unknown=len(recordings.unknown),
        length_s=_quantiles(length_s, 0, 50, 100),
        step_s=_quantiles(step_s, 0, 50, 100),
        mean_mbps=(float(mean_mbps.mean()), float(mean_mbps.std())),
        mean_quantiles_mbps=_quantiles(mean_mbps, 0, 25, 50, 75, 95, 100),
        capacity_quantiles_mbps=_weighted_quantiles(rows_mbps, rows_s, 5, 50, 95, 100),
        zero_s=float(rows_s[rows_mbps == 0].sum()),
        outliers={
            kind: [traces[number].name for number in np.flatnonzero(which).tolist()]
            for kind, which in kinds.items()
        },
    )


def longest_stall_s(trace: Trace) -> float:
    """Return the longest time in which a trace carries nothing."""
    edges = np.diff(np.concatenate([[0], trace.capacity_mbps[1:] == 0, [0]]).astype(np.int8))
    starts_s = trace.time_s[np.flatnonzero(edges == 1)]
    ends_s = trace.time_s[np.flatnonzero(edges == -1)]
    return float(np.max(ends_s - starts_s, initial=0.0))


def compare(name: str, traces: Sequence[Trace], against: str, others: Sequence[Trace]) -> Leakage:
    """Return which traces of a set are related to a trace of another set."""
    related = {
        trace.name: (relation.kind, relation.other)
        for trace, relation in zip(traces, relations(traces, others), strict=True)
        if relation is not None
    }
    counts = Counter(kind for kind, _ in related.values())
    return Leakage(name, against, len(traces), {kind: counts[kind] for kind in KINDS}, related)


def _quantiles(values: FloatArray, *percents: int) -> tuple[float, ...]:
    return tuple(np.percentile(values, percents).tolist())


def _weighted_quantiles(
    values: FloatArray, weights: FloatArray, *percents: int
) -> tuple[float, ...]:
    """Return the smallest values that are not exceeded for so many percent of the weight."""
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    places = np.searchsorted(share, np.array(percents) / 100 * share[-1])
    return tuple(values[order][np.minimum(places, len(values) - 1)].tolist())


def check_different(names: Sequence[str]) -> None:
    """Raise `InputError` for equal names, because a set would leak into itself."""
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"sets must be different, got {name!r} {count} times")


def render_inspection(inspection: Inspection) -> str:
    """Return an inspection as text: a column for each set, then outliers, then what is shared."""
    columns = [_HEAD, *(_cells(summary) for summary in inspection.sets)]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]
    lines.insert(1, "-" * len(lines[0]))
    remarks = [f"{each.name}: {remark}" for each in inspection.sets for remark in each.remarks]
    lines += ["", *remarks] if remarks else []
    for summary in inspection.sets:
        if summary.num_unknown:
            unknown = unknown_text(summary.num_unknown, summary.num_traces)
            lines += ["", f"{summary.name}: {unknown}"]
        for kind, names in summary.outliers.items():
            if names:
                lines += ["", f"{summary.name}: {len(names)} {_OUTLIER_WORDS[kind]}"]
                lines += [f"  {name}" for name in names[:NAMES_SHOWN]]
                lines += ["  ..."] if len(names) > NAMES_SHOWN else []
    for leak in inspection.leaks:
        lines += ["", *_leak_lines(leak)]
    return "\n".join(lines)


_HEAD = [
    "",
    "traces",
    "recordings",
    "length (s): min, median, max",
    "time step (s): min, median, max",
    "mean capacity (Mbit/s): mean +- sd over traces",
    "  min, 25, 50, 75, 95 %, max",
    "capacity over all time (Mbit/s): 5, 50, 95 %, max",
    "time without capacity (s)",
]
_OUTLIER_WORDS = {
    "slow": f"slow (mean capacity at most 1/{OUTLIER_FACTOR:g} of the median)",
    "fast": f"fast (mean capacity at least {OUTLIER_FACTOR:g} times the median)",
    "short": f"short (at most 1/{OUTLIER_FACTOR:g} of the median length)",
    "long": f"long (at least {OUTLIER_FACTOR:g} times the median length)",
    "stalled": f"stalled (no capacity for {STALL_S:g} s or longer at a stretch)",
}


def _cells(summary: SetSummary) -> list[str]:
    def row(values: Sequence[float], digits: int) -> str:
        return ", ".join(f"{value:.{digits}f}" for value in values)

    return [
        summary.name,
        str(summary.num_traces),
        str(summary.num_recordings),
        row(summary.length_s, 0),
        row(summary.step_s, 2),
        "{:.3f} +- {:.3f}".format(*summary.mean_mbps),
        row(summary.mean_quantiles_mbps, 3),
        row(summary.capacity_quantiles_mbps, 3),
        f"{summary.zero_s:.0f}",
    ]


def _leak_lines(leak: Leakage) -> list[str]:
    counts = ", ".join(f"{leak.counts[kind]} {words}" for kind, words in KINDS.items())
    unrelated = leak.num_traces - len(leak.related)
    lines = [
        f"{leak.name} against {leak.against}, {leak.num_traces} traces: {counts}, "
        f"{unrelated} unrelated"
    ]
    for kind, words in KINDS.items():
        of_kind = [(name, other) for name, (its, other) in leak.related.items() if its == kind]
        if of_kind:
            name, other = of_kind[0]
            lines.append(f"  {words}, the first: {name} and {other}")
    return lines
