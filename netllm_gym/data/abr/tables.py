"""Read tables of throughput measurements: CSV files, and the published sets that are such tables.

Their columns are found by the names in the header. `docs/formats.md` says how each is read.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np

from netllm_gym.data.abr.source import (
    AMOUNTS,
    LEAST_MB,
    Columns,
    Rows,
    Source,
    held,
    of_intervals,
)
from netllm_gym.data.abr.units import rate_unit_of, time_unit_of
from netllm_gym.errors import InputError
from netllm_gym.files import counted

DELIMITERS = (",", ";", "\t")
WEBGET_HOLD_S = 5.0  # Pensieve's: each FCC measurement stands for 5 s of the link
WEBGET_COLUMNS = ["unit_id", "dtime", "target", "address", "fetch_time", "bytes_total", "bytes_sec"]
HTTPGET_COLUMNS = [
    *WEBGET_COLUMNS,
    *("bytes_sec_interval", "warmup_time", "warmup_bytes", "sequence", "threads", "successes"),
    *("failures", "location_id"),
]
HTTPGET_WIDTHS = (14, 15)  # of rows without a header: some months lack the last column
LONGEST_TEST_S = 3600.0
UCC_COLUMNS = ("Timestamp", "DL_bitrate")
UCC_STEP_S = 1.0  # the app logs once a second
LUMOS5G_COLUMNS = ("run_num", "seq_num", "Throughput")
LUMOS5G_STEP_S = 1.0
LUMOS5G_RUN = ("run_num", "mobility_mode", "trajectory_direction")  # runs are numbered within these
PUFFER_COLUMNS = ("time", "session_id", "index", "delivery_rate")
PUFFER_CLOCK = " (ns GMT)"  # what Puffer's tables write behind time
PUFFER_CHUNK_NS = 2_002_000_000  # the length of a chunk of Puffer's video
FASTEST = 1e15  # bytes/s; a larger number is taken for a mistake

NAMING = (
    "name them by --columns time=NAME,rate=NAME (data convert, data inspect) or in trace-set.json: "
    '{"columns": {"time": "NAME", "rate": "NAME"}}'
)
NO_TRAFFIC = "traces left out because they carry nothing"
NO_RATE = "rows left out because they have no rate"
IDLE = "rows without a download (State I), in which the link may have been faster than its rate"
FAILED = "rows left out because their test failed"

_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_CLOCK = re.compile(r"\d\d:\d\d:\d\d", re.ASCII)
_ODD_IN_A_NAME = re.compile(r"[^A-Za-z0-9._+=-]")
_WORD = re.compile(r"[A-Za-z]+/?[A-Za-z]*")
_INNER_CAPITAL = re.compile(r"(?<=[a-z]{2})(?=[A-Z])")  # of timeMs, not of kB/s
_TIME_NAMES = {"time", "timestamp", "datetime", "ts", "t", "elapsed"}
_RATE_NAMES = {
    "capacity",
    "bandwidth",
    "bw",
    "throughput",
    "goodput",
    "rate",
    "bitrate",
    "datarate",
}
_RATE_ADJECTIVES = {  # beside such a name or a unit; speed alone may be that of a car
    *("dl", "downlink", "download", "link", "network", "data", "available", "speed"),
    *("mean", "average", "avg", "measured"),
}


def delimiter_of(header: str) -> str:
    """Return what separates the fields of a table whose header this is, or nothing."""
    for each in (*DELIMITERS, " "):
        if each in header and _names_columns(header.split(each)):
            return each
    found = max(DELIMITERS, key=header.count)
    return found if found in header else ""


def is_header_in_comment(line: str) -> bool:
    """Say whether a comment names the columns of a table. Of words with spaces, two may do so."""
    fields = _fields(line)
    is_prose = delimiter_of(line) in ("", " ") and len(fields) != 2
    return _names_columns(fields) and not is_prose


def _names_columns(fields: Iterable[str]) -> bool:
    kinds = {_kind(field) for field in fields}
    return "time" in kinds and bool(kinds & set(AMOUNTS))


def format_of(header: str) -> str:
    """Return the format of a table by its first line."""
    fields = [name.removesuffix(PUFFER_CLOCK) for name in _fields(header)]
    if {"session_id", "video_ts"} <= set(fields) and "delivery_rate" not in fields:
        raise InputError("Puffer's tables must be video_sent, got one without delivery_rate")
    if fields[0] == "unit_id" or _is_measurement(fields):
        is_httpget = "bytes_sec_interval" in fields or len(fields) in HTTPGET_WIDTHS
        return "fcc-httpgetmt" if is_httpget else "fcc"
    published = {"ucc": UCC_COLUMNS, "lumos5g": LUMOS5G_COLUMNS, "puffer": PUFFER_COLUMNS}
    return next((name for name, needed in published.items() if set(needed) <= set(fields)), "csv")


# CSV ---------------------------------------------------------------------------------------------


class _Column(NamedTuple):
    place: int
    name: str
    kind: str  # time, rate or bytes
    unit: str  # that the name says, or nothing


def read_csv(source: Source) -> list[Columns]:
    """Read two columns of a table: the time, and the rate or bytes since the row before."""
    with source.table() as table:
        number, header = next(table, (1, []))
        time, amount = _csv_columns(source, number, header)
        named = {"time_unit": time.unit, "rate_unit": amount.unit}
        rows: Rows | None = None
        for number, fields in table:
            line = source.delimiter.join(fields)
            fields = _fitting(source, number, fields, header)
            when, value = _seconds(fields[time.place]), number_of(fields[amount.place])
            if when is None or value is None:
                rule = (
                    f"a row with {time.name} a number or a date as 2021-05-01 12:00:00, "
                    f"and {amount.name} a number"
                )
                raise source.wrong(number, rule, line)
            if rows is None:
                if not is_number(fields[time.place]):
                    named["time_unit"] = "s"  # a date
                rows = Rows(source, source.name, named, amount.kind)
            rows.add(number, when, value)
    return [(rows or Rows(source, source.name, named, amount.kind)).columns()]


def _csv_columns(source: Source, number: int, header: Sequence[str]) -> tuple[_Column, _Column]:
    """Return the column of times and that of rates or bytes, by name or as the reading says."""
    given = source.reading.columns
    for name in given.values():
        if header.count(name) != 1:
            rule = f"a header with one column {name!r}, as columns says"
            raise source.wrong(number, rule, source.delimiter.join(header))
    kinds = {name: kind for kind, name in given.items()} or {each: _kind(each) for each in header}
    found = [
        _Column(place, name, kinds[name], _unit(kinds[name], name))
        for place, name in enumerate(header)
        if kinds.get(name)
    ]
    times = [each for each in found if each.kind == "time"]
    amounts = [each for each in found if each.kind != "time"]
    if len(times) != 1 or len(amounts) != 1:
        rule = (
            "a header that names one time and one rate, as time_s,capacity_mbps does "
            f"({_found('time', times)} and {_found('rate', amounts)} were found); {NAMING}"
        )
        raise source.wrong(number, rule, source.delimiter.join(header))
    return times[0], amounts[0]


def _found(kind: str, columns: Sequence[_Column]) -> str:
    """Say how many columns of a kind there are, and which."""
    names = f" ({', '.join(each.name for each in columns)})" if columns else ""
    return f"{counted(len(columns), kind)}{names}"


def _kind(name: str) -> str:
    """Return what a column is, by a name such as `time_ms` or `Bandwidth (Mbps)`, or nothing."""
    words = _words(name)
    plain = {word.lower() for word in words if not (time_unit_of(word) or rate_unit_of(word))}
    has_time, has_rate = any(map(time_unit_of, words)), any(map(rate_unit_of, words))
    if plain == {"bytes"} and len(words) == 1:
        return "bytes"
    if (
        not has_time
        and plain <= _RATE_NAMES | _RATE_ADJECTIVES
        and (has_rate or plain & _RATE_NAMES)
    ):
        return "rate"
    return "time" if not has_rate and words and plain <= _TIME_NAMES else ""


def _words(name: str) -> list[str]:
    return _WORD.findall(_INNER_CAPITAL.sub(" ", name))


def _unit(kind: str, name: str) -> str:
    """Return the unit that the name of a column says; bytes have no other."""
    if kind == "bytes":
        return "bytes"
    unit_of = time_unit_of if kind == "time" else rate_unit_of
    found = [unit for word in _words(name) if (unit := unit_of(word))]
    return found[0] if len(found) == 1 else ""


# The FCC's Measuring Broadband America -----------------------------------------------------------


def read_webget(source: Source) -> list[Columns]:
    """Read the FCC's table `curr_webget`: one trace for each unit and target, as in Pensieve.

    The `bytes_sec` of each measurement holds for 5 s, in the order of the file. The time of day is
    not used, because hours lie between two measurements.
    """
    rates: dict[tuple[str, str], list[float]] = {}  # bytes per second
    rule = f"{', '.join(WEBGET_COLUMNS)} and more, the date as 2016-06-01 00:00:00"
    for _, fields in _fcc_rows(source, WEBGET_COLUMNS, rule, {6: FASTEST}):
        rates.setdefault((fields[0], fields[2]), []).append(float(fields[6]))
        source.is_trace = True
    found = [
        of_intervals(
            _file_name("trace", *key),
            np.arange(len(series) + 1, dtype=np.float64) * WEBGET_HOLD_S,
            np.array(series) * WEBGET_HOLD_S,
        )
        for key, series in rates.items()
    ]
    return _carrying(source, found, "measurement with bytes_sec")


def read_httpget(source: Source) -> list[Columns]:
    """Read the FCC's table `curr_httpgetmt`: one trace for each unit and target.

    A test of some seconds has a row for each interval: `bytes_sec_interval` is the rate within it,
    and `fetch_time` the microseconds since the test began. The tests follow each other.
    """
    if "httppost" in source.name:
        raise InputError(f"{source.path} must be of downloads, got uploads, as its name says")
    parts: dict[tuple[str, str], list[tuple[float, float]]] = {}  # s, Mbit/s
    ended: dict[tuple[str, str], tuple[str, float]] = {}  # the last test, and its s up to now
    rule = f"{', '.join(HTTPGET_COLUMNS)}, the date as 2016-06-01 00:00:00"
    numbers = {4: LONGEST_TEST_S * 1e6, 7: FASTEST, 12: 1e9, 13: 1e9}
    for number, fields in _fcc_rows(source, HTTPGET_COLUMNS, rule, numbers):
        key, test, now_s = (fields[0], fields[2]), fields[1], float(fields[4]) / 1e6
        before, began_s = ended.get(key, ("", 0.0))
        length_s = now_s - (began_s if before == test else 0.0)
        source.is_trace = True
        if length_s <= 0 or float(fields[12]) == 0 or float(fields[13]) > 0:
            source.remark(FAILED, number)
            continue
        ended[key] = test, now_s
        parts.setdefault(key, []).append((length_s, float(fields[7]) * 8e-6))
    found = [held(_file_name("trace", *key), *np.array(series).T) for key, series in parts.items()]
    return _carrying(source, found, "measurement with bytes_sec_interval")


def _fcc_rows(
    source: Source, columns: Sequence[str], rule: str, most: dict[int, float]
) -> Iterator[tuple[int, list[str]]]:
    """Give the rows of a table of the FCC, with or without its header.

    Args:
        source: The file.
        columns: Names in the header.
        rule: What a line must be.
        most: Place of each number that is used, and its upper bound.
    """
    has_rows = False
    width = max(most) + 1
    with source.table() as table:
        for number, fields in table:
            if not has_rows and fields[:width] == list(columns[:width]):
                continue
            has_rows = True
            if not _is_measurement(fields) or len(fields) < width:
                raise source.wrong(number, rule, ",".join(fields))
            for place, highest in most.items():
                value = number_of(fields[place])
                if value is None:
                    raise source.wrong(number, rule, ",".join(fields))
                if not 0 <= value <= highest:
                    wanted = f"a {columns[place]} in 0..{highest:g}"
                    raise source.wrong(number, wanted, fields[place])
            yield number, fields


# Mobile networks ---------------------------------------------------------------------------------


def read_ucc(source: Source) -> list[Columns]:
    """Read a log of G-NetTrack, as in the 4G and 5G sets of University College Cork.

    `DL_bitrate` is what was downloaded since the row before, in kbit/s; the first row is given the
    second before it.
    """
    rows = Rows(source, source.name, {"time_unit": "s", "rate_unit": "kbit/s"})
    for number, fields in _named_rows(source, UCC_COLUMNS):
        time_s, rate = _seconds(fields["Timestamp"]), _measured(fields["DL_bitrate"])
        if time_s is None:
            raise source.wrong(number, "a Timestamp as 2019.11.23_13.28.26", fields["Timestamp"])
        if rate is None:
            source.remark(NO_RATE, number)
            continue
        if fields.get("State") == "I":
            source.remark(IDLE, number)
        _add_first_step(rows, number, time_s, rate, UCC_STEP_S)
    return [rows.columns()]


def read_lumos5g(source: Source) -> list[Columns]:
    """Read the table of Lumos5G: one trace per run, a row per second with its `Throughput`."""
    runs: dict[tuple[str, ...], Rows] = {}
    for number, fields in _named_rows(source, LUMOS5G_COLUMNS):
        time_s, rate = number_of(fields["seq_num"]), _measured(fields["Throughput"])
        if time_s is None:
            raise source.wrong(number, "a row with a number seq_num", fields["seq_num"])
        if rate is None:
            source.remark(NO_RATE, number)
            continue
        key = tuple(fields.get(name, "") for name in LUMOS5G_RUN)
        if key not in runs:
            name = _file_name("lumos5g", *filter(None, key))
            runs[key] = Rows(source, name, {"time_unit": "s", "rate_unit": "Mbit/s"})
        _add_first_step(runs[key], number, time_s, rate, LUMOS5G_STEP_S)
    return _carrying(source, [run.columns() for run in runs.values()], "run with Throughput")


def read_puffer(source: Source) -> list[Columns]:
    """Read Puffer's table `video_sent`: one trace per stream, a row per chunk that was sent.

    `delivery_rate` is TCP's estimate of the rate at that moment, in bytes/s. It holds since the
    chunk before; the first one for the length of a chunk.
    """
    streams: dict[tuple[str, str], tuple[int, Rows]] = {}
    for number, fields in _named_rows(source, PUFFER_COLUMNS):
        text = fields["time"]
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise source.wrong(number, "a time in ns since 1970", text)
        rate = _measured(fields["delivery_rate"])
        if rate is None:
            source.remark(NO_RATE, number)
            continue
        key = fields["session_id"], fields["index"]
        if key not in streams:
            rows = Rows(
                source,
                _file_name(f"trace{key[0]}", key[1]),
                {"time_unit": "ns", "rate_unit": "byte/s"},
            )
            streams[key] = int(text), rows
        first_ns, rows = streams[key]  # a float has no room for ns since 1970
        _add_first_step(rows, number, int(text) - first_ns, rate, PUFFER_CHUNK_NS)
    found = [rows.columns() for _, rows in streams.values()]
    return _carrying(source, found, "stream with a delivery_rate")


def _named_rows(source: Source, needed: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the rows of a table with a header as the names of its columns and their values."""
    with source.table() as table:
        number, header = next(table, (1, []))
        header = [name.removesuffix(PUFFER_CLOCK) for name in header]
        if not set(needed) <= set(header) or len(set(header)) < len(header):
            rule = f"a header with {', '.join(needed)}, no name twice"
            raise source.wrong(number, rule, source.delimiter.join(header))
        for number, fields in table:
            yield number, dict(zip(header, _fitting(source, number, fields, header), strict=True))


def _fitting(source: Source, number: int, fields: list[str], header: list[str]) -> list[str]:
    """Return the fields of a row, one for each column; empty ones behind them are left out."""
    if len(fields) < len(header) or any(fields[len(header) :]):
        rule = f"{len(header)} fields, as the header has"
        raise source.wrong(number, rule, f"{len(fields)} fields")
    fields = fields[: len(header)]
    if source.delimiter == ";":  # beside semicolons, a comma is the decimal point
        return [field.replace(",", ".") for field in fields]
    return fields


def _add_first_step(rows: Rows, number: int, time: float, rate: float, step: float) -> None:
    """Add a row; the first one is given the step before it, so that its rate is not lost."""
    if not len(rows):
        rows.add(number, time - step, rate)
    rows.add(number, time, rate)


# Inner parts -------------------------------------------------------------------------------------


def is_number(field: str) -> bool:
    """Say whether a field is a number, as Python writes it."""
    return number_of(field) is not None


def whole(field: str) -> int | None:
    """Return a whole number of at most 15 digits, exact as a float, or None."""
    return int(field) if field.isascii() and field.isdigit() and len(field) <= 15 else None


def number_of(field: str) -> float | None:
    """Return a number, or None."""
    try:
        return None if "_" in field else float(field)  # Python reads 1_000 as a thousand
    except ValueError:
        return None


def _measured(field: str) -> float | None:
    """Return a number, or None where none was measured: an empty field, a text or NaN."""
    value = number_of(field)
    return None if value is None or np.isnan(value) else value


def _seconds(field: str) -> float | None:
    """Return a time as a number; a date becomes seconds since 1970, a clock since midnight."""
    value = number_of(field)
    if value is not None:
        return value
    date, _, clock = field.partition("_")  # of G-NetTrack, or else as ISO 8601 has it
    text = f"{date.replace('.', '-')} {clock.replace('.', ':')}" if clock else field
    if _CLOCK.match(text):
        text = f"1970-01-01 {text}"
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        return None


def _fields(line: str) -> list[str]:
    """Return the fields of one line of a table."""
    reader = csv.reader([line], delimiter=delimiter_of(line) or ",", skipinitialspace=True)
    try:
        return [field.strip() for field in next(reader)]
    except csv.Error as error:
        raise InputError(f"the header must be CSV, got {error}") from None


def _is_measurement(fields: list[str]) -> bool:
    """Say whether the fields begin a row of the FCC."""
    return (
        len(fields) >= len(WEBGET_COLUMNS)
        and whole(fields[0]) is not None
        and _DATE.fullmatch(fields[1]) is not None
        and fields[2] != ""
    )


def _file_name(*parts: str) -> str:
    return _ODD_IN_A_NAME.sub("-", "_".join(parts))


def _carrying(source: Source, found: Sequence[Columns], what: str) -> list[Columns]:
    """Return the traces that carry something, at least one."""
    kept = []
    for each in found:
        with np.errstate(over="ignore", invalid="ignore"):
            carried_mb = np.diff(each.time_s) @ each.capacity_mbps[1:] / 8
        if carried_mb < LEAST_MB:
            source.remarks.add(NO_TRAFFIC, each.name)
        else:
            kept.append(each)
    if not kept:
        raise InputError(f"{source.path} must hold a {what} above 0, got none")
    return kept
