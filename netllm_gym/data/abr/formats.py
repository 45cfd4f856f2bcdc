"""Recognise the format of a trace file by its first line, and read those that are no tables.

There is one reader for each format; `docs/formats.md` lists them. All readers return columns as
`Trace` defines them: entry i of the capacity holds on (time_s[i-1], time_s[i]], so n measured
intervals become n + 1 rows. Traces are not resampled, and the link carries as many bytes as the
file says. `tables.py` has the readers of tables with columns.
"""

import json
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from netllm_gym.data.abr import tables
from netllm_gym.data.abr.source import (
    COMMENTED,
    Columns,
    NoTraceError,
    Reading,
    Remarks,
    Rows,
    Source,
    held,
    of_intervals,
)
from netllm_gym.data.abr.tables import is_number, number_of, whole
from netllm_gym.data.opening import open_lines
from netllm_gym.errors import InputError
from netllm_gym.files import check_regular, errors_begin_with, one_line
from netllm_gym.typed_json import checked, in_range

PACKET_BYTES = 1500  # what one line of a Mahimahi file lets pass
MAHIMAHI_BIN_MS = 1000
LONGEST_MS = 7 * 24 * 3600 * 1000  # a mistyped time must not make billions of bins

MOST_SABRE_BYTES = 2**26
WITHOUT_UNITS = ("cooked", "csv")  # the other formats say which they have
LATENCIES = "files whose latencies are not used, because traces have none"

_HSDPA_LINE = re.compile(
    r"\d+\s+(?P<now_ms>\d{1,15})\s+\S+\s+\S+\s+"
    r"(?P<bytes>\d{1,15})\s+(?P<elapsed_ms>\d{1,15})",
    re.ASCII,
)


def read_columns(path: Path, reading: Reading, remarks: Remarks) -> list[Columns]:
    """Read a trace file. Tables may hold more than one trace.

    Args:
        path: The file.
        reading: How it is read, where it does not say it itself.
        remarks: Gains what was assumed or left out.

    Raises:
        NoTraceError: If its first line is not that of a trace.
        InputError: If a later line breaks the rule of its format.
    """
    source = Source(path, reading, remarks)
    try:
        first = _first_line(source)
        file_format = reading.format or (
            "csv" if reading.columns else _format_of(source, first.line)
        )
        if file_format not in WITHOUT_UNITS:
            source.units({"time_unit": file_format, "rate_unit": file_format})
        source.delimiter = tables.delimiter_of(first.line) or ","
        found = READERS[file_format](source)
    except InputError as error:
        if source.is_trace:
            raise
        raise NoTraceError(str(error)) from None
    if first.is_below_comments:
        source.remark(COMMENTED)
    return found


class _First(NamedTuple):
    """The first line of a file that is neither empty nor a comment."""

    line: str
    is_below_comments: bool


def _first_line(source: Source) -> _First:
    """Find where a trace begins. A comment that names columns, as numpy writes it, is a header."""
    is_below_comments = False
    with open_lines(source.path) as lines:
        for number, line in enumerate(lines):
            text = line.strip().lstrip("# ")
            if line[:1] == "#" and not tables.is_header_in_comment(text):
                is_below_comments = True
            elif text:
                source.num_comments = number
                return _First(text, is_below_comments)
    raise InputError(f"{source.path} must hold a trace, got no line with anything on it")


def _format_of(source: Source, line: str) -> str:
    """Return the format of a file, which its first line tells."""
    fields = line.split()
    if _two_numbers(line):
        return "cooked"
    if all(map(is_number, fields)):
        if len(fields) == 6:
            return "hsdpa"
        if len(fields) == 1 and line.isdigit():
            return "mahimahi"
    elif line[0] == "[":
        return "sabre"
    elif tables.delimiter_of(line):
        with errors_begin_with(source.path):
            return tables.format_of(line)
    raise InputError(
        f"{source.path}:{source.num_comments + 1}: a trace must begin with two numbers (cooked), a "
        "whole number (Mahimahi), six numbers (HSDPA), a header (CSV, FCC, UCC, Lumos5G, Puffer) "
        f"or a list in JSON (Sabre), got {line[:60]!r}"
    )


def _two_numbers(line: str) -> tuple[float, float] | None:
    """Return the two numbers of a line, with white space, a comma or a semicolon between them."""
    if "_" in line:  # Python reads 1_000 as a thousand
        return None
    try:
        time, rate = line.split()
        return float(time), float(rate)
    except ValueError:
        fields = line.replace(";", ",").split(",")
        both = [number for field in fields if (number := number_of(field)) is not None]
        return (both[0], both[1]) if len(both) == len(fields) == 2 else None


# One reader per format ---------------------------------------------------------------------------


def _read_cooked(source: Source) -> list[Columns]:
    """Read two columns: the time, and the capacity since the row before."""
    rows = Rows(source, source.name, {})
    add = rows.add
    with source.lines() as lines:
        for number, line in lines:
            found = _two_numbers(line)
            if found is None:
                raise source.wrong(number, "two numbers, time and rate", line)
            add(number, *found)
    return [rows.columns()]


def _read_mahimahi(source: Source) -> list[Columns]:
    """Read one column: the millisecond at which one more packet of 1,500 bytes may leave.

    Packets are counted in bins of one second. A bin includes its end, as an interval of `Trace`
    does. A packet at 0 ms is counted in the first bin. The last bin ends with the last line, where
    Mahimahi starts the trace again.
    """
    packets_ms = array("q")
    last_ms = 0
    with source.lines() as lines:
        for number, line in lines:
            now_ms = whole(line.strip())
            if now_ms is None or now_ms > LONGEST_MS:
                raise source.wrong(number, f"one whole number of ms, 0..{LONGEST_MS}", line)
            if now_ms < last_ms:
                raise source.wrong(number, f"at least {last_ms} ms, the one before", line)
            packets_ms.append(now_ms)
            last_ms = now_ms
            source.is_trace = True
    if last_ms == 0:
        raise InputError(f"{source.path} must end after 0 ms, got no later packet")
    borders_ms = np.append(np.arange(0, last_ms, MAHIMAHI_BIN_MS), last_ms)  # (bins + 1,)
    which = np.maximum(np.searchsorted(borders_ms, packets_ms), 1) - 1  # (packets,) bin
    carried_bytes = np.bincount(which) * PACKET_BYTES
    return [of_intervals(source.name, borders_ms / 1e3, carried_bytes)]


def _read_hsdpa(source: Source) -> list[Columns]:
    """Read the six columns of the Norwegian 3G logs.

    The fifth column is the number of bytes and the sixth the milliseconds since the line before.
    The bytes are spread evenly over these milliseconds. The times of column 2 must rise, but only
    the sixth column decides when a row ends. The position in columns 3 and 4 is not used.
    """
    carried_bytes: list[int] = []
    elapsed_ms: list[int] = []
    last_ms = -1
    with source.lines() as lines:
        for number, line in lines:
            match = _HSDPA_LINE.fullmatch(line.strip())
            if match is None or not 0 < int(match["elapsed_ms"]) <= LONGEST_MS:
                rule = "unix s, ms, latitude, longitude, bytes and ms (above 0) since the last line"
                raise source.wrong(number, rule, line)
            if int(match["now_ms"]) <= last_ms:
                raise source.wrong(number, f"later than the one before, {last_ms} ms", line)
            last_ms = int(match["now_ms"])
            carried_bytes.append(int(match["bytes"]))
            elapsed_ms.append(int(match["elapsed_ms"]))
            source.is_trace = True
    borders_s = np.cumsum([0, *elapsed_ms]) / 1e3
    return [of_intervals(source.name, borders_s, carried_bytes)]


@dataclass(frozen=True)
class _Period:
    """One period of a network of Sabre."""

    duration_ms: Annotated[float, in_range(0, LONGEST_MS)]
    bandwidth_kbps: Annotated[float, in_range(0, 1e12)]
    latency_ms: float = 0.0


def _read_sabre(source: Source) -> list[Columns]:
    """Read the JSON of Sabre's networks: periods with a length, a rate, and a latency."""
    check_regular(source.path, MOST_SABRE_BYTES)
    with source.lines() as lines:
        text = "".join(line for _, line in lines)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source.path} must be JSON, got {one_line(error)}") from None
    with errors_begin_with(source.path):
        periods = checked(list[_Period], values, "the network", ignore_unknown=True)
    lasting = [each for each in periods if each.duration_ms > 0]
    for _ in range(len(periods) - len(lasting)):
        source.remark("periods left out because they have no length")
    if not lasting:
        raise InputError(f"{source.path} must hold a period with a length, got {len(periods)}")
    if any(each.latency_ms for each in lasting):
        source.remark(LATENCIES)
    source.is_trace = True
    lengths_s = np.array([each.duration_ms for each in lasting]) / 1e3
    capacity_mbps = np.array([each.bandwidth_kbps for each in lasting]) / 1e3
    return [held(source.name.removesuffix(".json"), lengths_s, capacity_mbps)]


READERS: dict[str, Callable[[Source], list[Columns]]] = {
    "cooked": _read_cooked,
    "mahimahi": _read_mahimahi,
    "csv": tables.read_csv,
    "hsdpa": _read_hsdpa,
    "fcc": tables.read_webget,
    "fcc-httpgetmt": tables.read_httpget,
    "ucc": tables.read_ucc,
    "lumos5g": tables.read_lumos5g,
    "puffer": tables.read_puffer,
    "sabre": _read_sabre,
}
