"""Read trace files of five formats, and convert their columns to seconds and Mbit/s.

There is one reader for each format; `docs/formats.md` lists the formats. All readers return columns
as `Trace` defines them: entry i of the capacity holds on (time_s[i-1], time_s[i]], so n measured
intervals become n + 1 rows. Traces are not resampled, and the link carries as many bytes as the
file says.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import FloatArray
from netllm_gym.errors import InputError

PACKET_BYTES = 1500  # what one line of a Mahimahi file lets pass
MAHIMAHI_BIN_MS = 1000
LONGEST_MS = 7 * 24 * 3600 * 1000  # a mistyped time must not make billions of bins
WEBGET_HOLD_S = 5.0  # Pensieve's: each FCC measurement stands for 5 s of the link
WEBGET_COLUMNS = ["unit_id", "dtime", "target", "address", "fetch_time", "bytes_total", "bytes_sec"]
CSV_TIMES = {"time_s": 1.0, "time_ms": 1e3}  # column -> its units in a second
CSV_CAPACITIES = {"capacity_mbps": 1.0, "capacity_kbps": 1e3, "capacity_bps": 1e6}  # in a Mbit/s
CSV_BYTES = "bytes"

FASTEST = 1e15  # bytes/s; a larger number is taken for a mistake

_DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_HSDPA_LINE = re.compile(
    r"\d+\s+(?P<now_ms>\d{1,15})\s+-?[\d.]+\s+-?[\d.]+\s+"
    r"(?P<bytes>\d{1,15})\s+(?P<elapsed_ms>\d{1,15})",
    re.ASCII,
)
_ODD_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]")


class Columns(NamedTuple):
    """The columns of one trace, before `Trace` checks them and shifts the times to start at 0."""

    name: str
    time_s: FloatArray  # (rows,)
    capacity_mbps: FloatArray  # (rows,) entry i holds on (time_s[i-1], time_s[i]]


def read_columns(path: Path, file_format: str = "") -> list[Columns]:
    """Read a trace file. Only a table of the FCC holds more than one trace.

    Args:
        path: The file.
        file_format: One of `READERS`. If it is empty, the first line of the file decides.

    Raises:
        InputError: If the file is in none of the formats, or a line breaks the rule of its format.
    """
    if file_format and file_format not in READERS:
        raise InputError(f"format must be one of {', '.join(READERS)}, got {file_format!r}")
    try:
        with path.open(encoding="utf-8-sig") as file:
            reader = READERS[file_format or _format_of(path, file)]
            file.seek(0)
            return reader(path, file)
    except UnicodeDecodeError:
        offset = _first_undecodable(path.read_bytes())
        raise InputError(f"{path} must be a text file, got byte {offset} not UTF-8") from None


def _format_of(path: Path, lines: Iterable[str]) -> str:
    """Return the format of a file, which its first line that is not empty tells."""
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        if "," in line:
            fields = _comma_fields(line)
            is_webget = fields[0] == WEBGET_COLUMNS[0] or _is_measurement(fields)
            return "fcc" if is_webget else "csv"
        if all(map(_is_number, fields)) and (len(fields) > 1 or fields[0].isdigit()):
            found = {1: "mahimahi", 2: "cooked", 6: "hsdpa"}.get(len(fields))
            if found:
                return found
        raise InputError(
            f"{path}:{number}: a trace must begin with two numbers (cooked), a whole number "
            "(Mahimahi), six numbers (HSDPA), or a comma-separated header "
            f"(CSV, FCC webget), got {line.strip()[:60]!r}"
        )
    raise InputError(f"{path} must hold a trace, got no line with anything on it")


# One reader per format ---------------------------------------------------------------------------


def _read_cooked(path: Path, lines: Iterable[str]) -> list[Columns]:
    """Read two columns: the time in seconds, and the capacity in Mbit/s since the row before."""
    rows: list[tuple[float, float]] = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            time_s, capacity_mbps = (float(field) for field in fields)
        except ValueError:
            raise _wrong_line(path, number, "two numbers, seconds and Mbit/s", line) from None
        rows.append((time_s, capacity_mbps))
    table = np.array(rows, np.float64).reshape(len(rows), 2)
    return [Columns(path.name, table[:, 0], table[:, 1])]


def _read_mahimahi(path: Path, lines: Iterable[str]) -> list[Columns]:
    """Read one column: the millisecond at which one more packet of 1,500 bytes may leave.

    Packets are counted in bins of one second. A bin includes its end, as an interval of `Trace`
    does. A packet at 0 ms is counted in the first bin. The last bin ends with the last line, where
    Mahimahi starts the trace again.
    """
    packets_ms: list[int] = []
    last_ms = 0
    for number, line in enumerate(lines, start=1):
        field = line.strip()
        if not field:
            continue
        now_ms = _whole(field)
        if now_ms is None or now_ms > LONGEST_MS:
            raise _wrong_line(path, number, f"one whole number of ms, 0..{LONGEST_MS}", line)
        if now_ms < last_ms:
            raise _wrong_line(path, number, f"at least {last_ms} ms, the one before", line)
        packets_ms.append(now_ms)
        last_ms = now_ms
    if last_ms == 0:
        raise InputError(f"{path} must end after 0 ms, got no later packet")
    borders_ms = np.append(np.arange(0, last_ms, MAHIMAHI_BIN_MS), last_ms)  # (bins + 1,)
    which = np.maximum(np.searchsorted(borders_ms, packets_ms), 1) - 1  # (packets,) bin
    carried_bytes = np.bincount(which) * PACKET_BYTES
    return [_from_intervals(path.name, borders_ms / 1e3, carried_bytes)]


def _read_csv(path: Path, lines: Iterable[str]) -> list[Columns]:
    """Read two columns with names: the time, and the capacity or bytes since the row before."""
    times, amounts = list(CSV_TIMES), [*CSV_CAPACITIES, CSV_BYTES]
    accepted = f"one of {', '.join(times)} and one of {', '.join(amounts)}"
    numbered = _comma_rows(lines)
    number, header = next(numbered, (1, []))
    time = next((name for name in header if name in times), "")
    amount = next((name for name in header if name in amounts), "")
    if len(header) != 2 or not time or not amount:
        raise _wrong_line(path, number, f"a header of two names, {accepted}", ",".join(header))
    rows: list[tuple[float, float]] = []
    for number, fields in numbered:
        if len(fields) != 2 or not all(map(_is_number, fields)):
            rule = f"two numbers, {' and '.join(header)}"
            raise _wrong_line(path, number, rule, ",".join(fields))
        value = dict(zip(header, map(float, fields), strict=True))
        row = value[time] / CSV_TIMES[time], value[amount]
        if rows and not row[0] > rows[-1][0]:
            raise _wrong_line(path, number, f"a later {time} than before", ",".join(fields))
        if amount == CSV_BYTES and not rows and row[1] != 0:
            rule = "0 bytes in the first row, since nothing says when they began to come"
            raise _wrong_line(path, number, rule, ",".join(fields))
        rows.append(row)
    table = np.array(rows, np.float64).reshape(len(rows), 2)
    if amount == CSV_BYTES and len(table) > 1:
        return [_from_intervals(path.name, table[:, 0], table[1:, 1])]
    return [Columns(path.name, table[:, 0], table[:, 1] / CSV_CAPACITIES.get(amount, 1.0))]


def _read_hsdpa(path: Path, lines: Iterable[str]) -> list[Columns]:
    """Read the six columns of the Norwegian 3G logs.

    The fifth column is the number of bytes and the sixth the milliseconds since the line before.
    The bytes are spread evenly over these milliseconds. The times of column 2 must rise, but only
    the sixth column decides when a row ends. The position in columns 3 and 4 is not used.
    """
    carried_bytes: list[int] = []
    elapsed_ms: list[int] = []
    last_ms = -1
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _HSDPA_LINE.fullmatch(line.strip())
        if match is None or not 0 < int(match["elapsed_ms"]) <= LONGEST_MS:
            rule = "unix s, ms, latitude, longitude, bytes and ms (above 0) since the last line"
            raise _wrong_line(path, number, rule, line)
        if int(match["now_ms"]) <= last_ms:
            raise _wrong_line(path, number, f"later than the one before, {last_ms} ms", line)
        last_ms = int(match["now_ms"])
        carried_bytes.append(int(match["bytes"]))
        elapsed_ms.append(int(match["elapsed_ms"]))
    borders_s = np.cumsum([0, *elapsed_ms]) / 1e3
    return [_from_intervals(path.name, borders_s, carried_bytes)]


def _read_webget(path: Path, lines: Iterable[str]) -> list[Columns]:
    """Read the FCC's table `curr_webget`: one trace for each unit and target, as in Pensieve.

    The `bytes_sec` of each measurement holds for 5 s, in the order of the file. The time of day is
    not used, because hours lie between two measurements. Pairs without any traffic are left out.
    """
    rates: dict[tuple[str, str], list[float]] = {}  # bytes per second
    rule = f"{', '.join(WEBGET_COLUMNS)} and more, the date as 2016-06-01 00:00:00"
    for number, fields in _comma_rows(lines):
        if not rates and fields[: len(WEBGET_COLUMNS)] == WEBGET_COLUMNS:
            continue  # the header, which some months lack
        if not _is_measurement(fields) or not _is_number(fields[6]):
            raise _wrong_line(path, number, rule, ",".join(fields))
        rate = float(fields[6])
        if not 0 <= rate <= FASTEST:
            raise _wrong_line(path, number, f"a bytes_sec in 0..{FASTEST:g}", fields[6])
        rates.setdefault((fields[0], fields[2]), []).append(rate)
    found = [
        _from_intervals(
            _ODD_IN_A_NAME.sub("-", f"trace_{unit}_{target}"),
            np.arange(len(series) + 1, dtype=np.float64) * WEBGET_HOLD_S,
            np.array(series) * WEBGET_HOLD_S,
        )
        for (unit, target), series in rates.items()
        if any(series)
    ]
    if not found:
        raise InputError(f"{path} must hold a measurement with bytes_sec above 0, got none")
    return found


READERS: dict[str, Callable[[Path, Iterable[str]], list[Columns]]] = {
    "cooked": _read_cooked,
    "mahimahi": _read_mahimahi,
    "csv": _read_csv,
    "hsdpa": _read_hsdpa,
    "fcc": _read_webget,
}

# Inner parts -------------------------------------------------------------------------------------


def _from_intervals(
    name: str,
    borders_s: FloatArray,  # (n + 1,) rising
    carried_bytes: ArrayLike,  # (n,)
) -> Columns:
    """Return the mean capacity of each interval. Row 0 is not used and repeats the first."""
    with np.errstate(over="ignore"):  # `Trace` refuses what is not finite
        capacity_mbps = np.asarray(carried_bytes, np.float64) * 8e-6 / np.diff(borders_s)
    return Columns(name, borders_s, np.concatenate([capacity_mbps[:1], capacity_mbps]))


def _wrong_line(path: Path, number: int, rule: str, line: str) -> InputError:
    return InputError(f"{path}:{number}: a line must be {rule}, got {line.rstrip()[:60]!r}")


def _comma_fields(line: str) -> list[str]:
    return [field.strip().strip('"') for field in line.split(",")]


def _comma_rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _comma_fields(line)


def _is_measurement(fields: list[str]) -> bool:
    return (
        len(fields) >= len(WEBGET_COLUMNS)
        and _whole(fields[0]) is not None
        and _DATE.fullmatch(fields[1]) is not None
        and fields[2] != ""
    )


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _whole(field: str) -> int | None:
    """Return a whole number of at most 15 digits, exact as a float, or None."""
    return int(field) if field.isascii() and field.isdigit() and len(field) <= 15 else None


def _first_undecodable(data: bytes) -> int:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(data)
