"""What every reader of trace files works with: one file, how it is read, and what is said of it."""

import csv
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import BoolArray, FloatArray
from netllm_gym.configs import check
from netllm_gym.data.abr.units import (
    FAST_MBPS,
    LONGEST_STEP_S,
    RATE_UNITS,
    TIME_UNITS,
    check_units,
    mean_rate,
)
from netllm_gym.data.opening import open_lines
from netllm_gym.errors import InputError

FORMATS = (
    *("cooked", "mahimahi", "csv", "hsdpa", "fcc", "fcc-httpgetmt"),
    *("ucc", "lumos5g", "puffer", "sabre"),
)
AMOUNTS = {"rate": "a finite rate", "bytes": "finite bytes"}  # of the time since the row before
LEAST_MB = 1e-3  # a pass that carries less is repeated without end for one chunk
PAUSE_FACTOR = 10.0  # a pause is so much longer than the median of the steps
SHOWN = 3  # places that a remark names

UNNAMED = "files that name no units"
REPEATED = "rows left out because they repeat the time of the row before"
PAUSED = f"rows that stand for more than {LONGEST_STEP_S:g} s, because the row before is older"
JOINED = "rows joined with the row before because they repeat its time"
COMMENTED = "files with comments (lines that begin with #), which are not read"
PASSED_OVER = "files passed over because they are no traces"


@dataclass(frozen=True)
class Reading:
    """How trace files are read, where they do not say it themselves.

    Attributes:
        format: One of `FORMATS`; empty takes what the first line of each file tells.
        time_unit: Of files that do not name it: s, ms, us or ns; empty for s, which is checked.
        rate_unit: Of files that do not name it: Mbit/s, kbit/s, bit/s, Gbit/s, byte/s, kbyte/s or
            Mbyte/s; empty for Mbit/s, which is checked.
        columns: Of a table with a header: `time`, and `rate` or `bytes`, -> name of the column.
    """

    format: str = ""
    time_unit: str = ""
    rate_unit: str = ""
    columns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (
            ("format", FORMATS),
            ("time_unit", tuple(TIME_UNITS)),
            ("rate_unit", tuple(RATE_UNITS)),
        ):
            value = getattr(self, name)
            check(value in ("", *known), name, f"be one of {', '.join(known)}", value)
        if self.columns:
            check(self.format in ("", "csv"), "columns", "come with format csv", self.format)
            check(
                set(self.columns) in ({"time", each} for each in AMOUNTS),
                "columns",
                "name time, and rate or bytes, as time=NAME,rate=NAME",
                self.columns,
            )


class NoTraceError(InputError):
    """The first line of a file is not that of a trace."""


class Remarks:
    """What was assumed or left out while files were read: kinds of it, each with its places.

    Args:
        folder: In which the files are; left out, a file is called by its name alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._places: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add_file(self, what: str, path: Path, number: int = 0) -> None:
        """Count one more of a kind: a file, or one of its lines."""
        name = str(path.relative_to(self._folder)) if self._folder else path.name
        self.add(what, f"{name}:{number}" if number else name)

    def add(self, what: str, place: str) -> None:
        """Count one more of a kind."""
        self._counts[what] = self._counts.get(what, 0) + 1
        shown = self._places.setdefault(what, [])
        if len(shown) < SHOWN:
            shown.append(place if place.isprintable() else repr(place))

    def sentences(self) -> tuple[str, ...]:
        """Return a line for each kind: what, how many, and the first places."""
        return tuple(
            f"{what}: {count} ({', '.join(self._places[what])}{', ...' * (count > SHOWN)})"
            for what, count in self._counts.items()
        )


class Columns(NamedTuple):
    """The columns of one trace, before `Trace` checks them and shifts the times to start at 0."""

    name: str
    time_s: FloatArray  # (rows,)
    capacity_mbps: FloatArray  # (rows,) entry i holds on (time_s[i-1], time_s[i]]


class Source:
    """One trace file.

    Attributes:
        path: The file.
        name: Its name, without `.gz`.
        reading: How it is read.
        remarks: What is to be said of it.
        is_trace: Whether more was seen than a first line that may be anything.
        num_comments: Lines before the trace: they are empty, or begin with #.
        delimiter: What separates the fields of a table.
    """

    def __init__(self, path: Path, reading: Reading, remarks: Remarks) -> None:
        self.path, self.reading, self.remarks = path, reading, remarks
        self.name = path.name.removesuffix(".gz")
        self.is_trace = False
        self.num_comments = 0
        self.delimiter = ","

    @contextmanager
    def lines(self) -> Iterator[Iterator[tuple[int, str]]]:
        """Open the file and give its lines that are not empty, with their numbers."""
        with self._opened() as lines:
            yield (
                (number, line) for number, line in enumerate(lines, start=1) if not line.isspace()
            )

    @contextmanager
    def _opened(self) -> Iterator[Iterator[str]]:
        """Open the file and give its lines; comments before the trace are empty lines then."""
        with open_lines(self.path) as lines:
            comments = ["\n" for _ in islice(lines, self.num_comments)]
            first = [line.lstrip("# ") for line in islice(lines, 1)]  # numpy's headers begin with #
            yield chain(comments, first, lines)

    @contextmanager
    def table(self) -> Iterator[Iterator[tuple[int, list[str]]]]:
        """Open the file and give the rows of a table; fields may be in quotes."""
        with self._opened() as lines:
            if self.delimiter == " ":
                lines = map(str.strip, lines)
            yield self._rows(csv.reader(lines, delimiter=self.delimiter, skipinitialspace=True))

    def _rows(self, rows: Any) -> Iterator[tuple[int, list[str]]]:
        try:
            for fields in rows:
                if any(map(str.strip, fields)):
                    yield rows.line_num, [each.strip() for each in fields]
        except csv.Error as error:
            raise InputError(
                f"{self.path}:{rows.line_num}: a line must be CSV, got {error}"
            ) from None

    def remark(self, what: str, number: int = 0) -> None:
        """Say something of the file, or of one of its lines."""
        self.remarks.add_file(what, self.path, number)

    def wrong(self, number: int, rule: str, got: str) -> InputError:
        """Return the error of a line that breaks a rule."""
        return InputError(f"{self.path}:{number}: a line must be {rule}, got {got.strip()[:60]!r}")

    def units(self, named: Mapping[str, str]) -> dict[str, str]:
        """Return the units of the file.

        Args:
            named: Those that the file says, of `time_unit` and `rate_unit`.

        Raises:
            InputError: If the reading names a unit that the file says itself.
        """
        for name, unit in named.items():
            given = getattr(self.reading, name)
            if given and unit:
                self.is_trace = True
                raise InputError(
                    f"{self.path}: {name} must be left out where the file says it, got {given}"
                )
        return {
            name: named.get(name) or getattr(self.reading, name) or standard
            for name, standard in (("time_unit", "s"), ("rate_unit", "Mbit/s"))
        }


class Rows:
    """The rows of one trace, as they come.

    A row says how much the link carried since the row before it. A row that repeats a time
    describes an interval of no length: it is left out, and its bytes, if it has any, are added to
    the row before.

    Args:
        source: The file.
        name: Of the trace.
        named: Units that the file says, of `time_unit` and `rate_unit`.
        amount: `rate` or `bytes`.
    """

    def __init__(
        self, source: Source, name: str, named: Mapping[str, str], amount: str = "rate"
    ) -> None:
        self.source, self.name, self.amount = source, name, amount
        self._units = source.units(named)
        self._assumed = {
            key: unit
            for key, unit in self._units.items()
            if not named.get(key) and not getattr(source.reading, key)
        }
        self._lines = array("q")  # lists would take four times as much
        self._times, self._amounts = array("d"), array("d")

    def __len__(self) -> int:
        return len(self._times)

    def add(self, number: int, time: float, amount: float) -> None:
        """Add what stands on a line; `columns` checks it."""
        self.source.is_trace = True
        self._lines.append(number)
        self._times.append(time)
        self._amounts.append(amount)

    def columns(self) -> Columns:
        """Return the trace in s and Mbit/s.

        Raises:
            InputError: If a number is not finite or negative, a time is before the last, or no link
                has such times or rates in the units that are assumed.
        """
        time, amount = self._checked_rows()
        with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers become inf or nan
            if self._assumed:
                check_units(str(self.source.path), time, amount, self._assumed)
                self.source.remark(f"{UNNAMED}, read in {' and '.join(self._assumed.values())}")
                if "rate_unit" in self._assumed and mean_rate(time, amount) > FAST_MBPS:
                    self.source.remark(f"{UNNAMED}, with a mean that is rather kbit/s than Mbit/s")
            time_s = time / TIME_UNITS[self._units["time_unit"]]
            if self.amount == "rate":
                return Columns(self.name, time_s, amount / RATE_UNITS[self._units["rate_unit"]])
            return of_intervals(self.name, time_s, amount[1:])

    def _checked_rows(self) -> tuple[FloatArray, FloatArray]:
        """Return the times and amounts, each time once."""
        time, amount = np.array(self._times), np.array(self._amounts)
        if len(time) < 2:
            raise InputError(
                f"{self.source.path}: a trace must have 2 or more rows, got {len(time)}"
            )
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            steps = np.diff(time, prepend=-np.inf)
        is_number = np.isfinite(time) & np.isfinite(amount) & (amount >= 0)
        self._refuse(~is_number, f"a finite time and {AMOUNTS[self.amount]} of at least 0")
        self._refuse(steps < 0, "at or after the time of the row before")
        if self.amount == "bytes":
            rule = "0 bytes in the first row, since nothing says when they began to come"
            self._refuse((time == time[0]) & (amount > 0), rule)
        firsts = np.flatnonzero(steps > 0)
        for row in np.flatnonzero(steps == 0):
            self.source.remark(REPEATED if self.amount == "rate" else JOINED, self._lines[row])
        pause = LONGEST_STEP_S * TIME_UNITS[self._units["time_unit"]]
        pause = max(pause, PAUSE_FACTOR * float(np.median(steps[1:])))
        for row in np.flatnonzero(steps[1:] > pause) + 1:
            self.source.remark(PAUSED, self._lines[row])
        amount = amount[firsts] if self.amount == "rate" else np.add.reduceat(amount, firsts)
        return time[firsts], amount

    def _refuse(self, wrong: BoolArray, rule: str) -> None:
        """Refuse the first of the wrong rows, if there are any."""
        if wrong.any():
            row = int(np.argmax(wrong))
            got = f"{self._times[row]:.15g} {self._amounts[row]:.15g}"
            raise self.source.wrong(self._lines[row], rule, got)


def of_intervals(
    name: str,
    borders_s: FloatArray,  # (n + 1,) rising
    carried_bytes: ArrayLike,  # (n,)
) -> Columns:
    """Return the trace that carries these bytes, spread evenly over each interval.

    Row 0 is not used and repeats the first.
    """
    with np.errstate(over="ignore"):  # `Trace` refuses what is not finite
        capacity_mbps = np.asarray(carried_bytes, np.float64) * 8e-6 / np.diff(borders_s)
    return Columns(name, borders_s, np.concatenate([capacity_mbps[:1], capacity_mbps]))


def held(name: str, lengths_s: FloatArray, capacity_mbps: FloatArray) -> Columns:
    """Return the trace in which each capacity holds for a time of its own.

    Args:
        name: Of the trace.
        lengths_s: (n,) above 0.
        capacity_mbps: (n,)

    Returns:
        n + 1 rows; row 0 is not used and repeats the first capacity.
    """
    return Columns(
        name,
        np.concatenate([[0.0], np.cumsum(lengths_s)]),
        np.concatenate([capacity_mbps[:1], capacity_mbps]),
    )
