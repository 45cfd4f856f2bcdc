"""Throughput traces: what a link can carry over time, read from files or generated.

A trace has two columns, time in seconds and throughput in Mbit/s; a cooked file has just these.
Row i (i >= 1) says what the link carries from the time of row i - 1 to its own; row 0's throughput
is never used. Past its end a trace starts again. Times are shifted to start at 0, because the
wrap-around assumes it. `formats.py` reads the files.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import BoolArray, FloatArray
from netllm_gym.data.abr.formats import read_columns
from netllm_gym.data.abr.source import LEAST_MB, Reading, Remarks
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with

COOKED = Reading("cooked", "s", "Mbit/s")
MOST_MB = 1e15  # a pass that carries more is no link

# `trace_942154_http---www.ebay.com_640`: FCC unit 942154 measuring one site, cut at second 640.
_FCC_NAME = re.compile(r"(?:.*[-_])?trace_(?P<recording>\d+_https?---.*?)(?:_\d+)*$")
# `test_norway_tram.ljabru-jernbanetorget-report.2011-01-31_1045CET.log_320_0`: a piece of one ride.
_NORWAY_NAME = re.compile(
    r"(?P<kind>[a-z]+)[._](?P<route>[a-z-]+)[-_]report[._]"
    r"(?P<start>\d{4}-\d\d-\d\d_\d{4}CES?T)(?![A-Za-z0-9])"
)
# `trace5LrrYDqSQATunxb8GSR09fP02ZO8BrSPRI5tSSnPSnU=_3`: the third stream of a session on Puffer.
_PUFFER_NAME = re.compile(r"(?:.*[-_])?trace(?P<recording>[A-Za-z0-9+/-]{43}=)_\d+$")


@dataclass(frozen=True, eq=False)
class Trace:
    """Capacity of one link over time.

    Attributes:
        name: File name, or what the generator calls it.
        time_s: (rows,) rising from 0.
        capacity_mbps: (rows,) at least 0; entry i holds on (time_s[i-1], time_s[i]], entry 0 never.
        recording: The measurement that the trace was cut from: FCC unit and site, Norwegian ride or
            session on Puffer where the name tells, else the content, so that a copy is known under
            any name.
            Traces of one recording resemble each other: splits and intervals go by recording.
        path: File that it was read from; None if it was generated.
        altered: Whether it was made for an altered set, and nobody else has it: a copy is known by
            its recording alone, a generated one by nothing.
    """

    name: str
    time_s: FloatArray
    capacity_mbps: FloatArray
    recording: str = ""
    path: Path | None = None
    altered: bool = False

    def __post_init__(self) -> None:
        time_s = np.array(self.time_s, np.float64)
        capacity_mbps = np.array(self.capacity_mbps, np.float64)
        _check_rows(self.name, time_s, capacity_mbps)
        time_s -= time_s[0]
        for column in (time_s, capacity_mbps):
            column.flags.writeable = False  # shared by every environment that plays it
        object.__setattr__(self, "time_s", time_s)
        object.__setattr__(self, "capacity_mbps", capacity_mbps)
        if not self.recording:
            object.__setattr__(self, "recording", own_recording(self))

    @cached_property
    def content(self) -> str:
        """What tells this trace from all others, whatever their names: a hash of its rows."""
        rows = self.time_s.tobytes() + self.capacity_mbps.tobytes()
        return hashlib.sha256(rows).hexdigest()[:16]


def _check_rows(name: str, time_s: FloatArray, capacity_mbps: FloatArray) -> None:
    def must(holds: bool, what: str, rule: str) -> None:
        if not holds:
            raise InputError(f"{what} of trace {name} must {rule}")

    must(
        time_s.ndim == 1 and time_s.shape == capacity_mbps.shape and len(time_s) >= 2,
        "time_s and capacity_mbps",
        f"be two columns of 2 or more rows, got shapes {time_s.shape} and {capacity_mbps.shape}",
    )
    row = _first(~(np.isfinite(time_s) & np.isfinite(capacity_mbps)))
    got = f"got {time_s[row]} {capacity_mbps[row]} in row {row}"
    must(row < 0, "every row", f"be finite, {got}")
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers become inf or nan
        gaps_s = np.diff(time_s)
        carried_mb = float(gaps_s @ capacity_mbps[1:]) / 8.0
    row = _first(gaps_s <= 0)
    got = f"got {time_s[row]} then {time_s[row + 1]} in row {row + 1}"
    must(row < 0, "time_s", f"rise from row to row, {got}")
    row = _first(capacity_mbps < 0)
    must(row < 0, "capacity_mbps", f"be at least 0, got {capacity_mbps[row]} in row {row}")
    usable = bool((capacity_mbps[1:] > 0).any())
    must(usable, "capacity_mbps", "be above 0 in some row after the first, got none")
    must(
        LEAST_MB <= carried_mb <= MOST_MB,
        "capacity_mbps",
        f"carry {LEAST_MB} to {MOST_MB:.0e} MB in one pass, got {carried_mb}",
    )


def _first(wrong: BoolArray) -> int:
    """Return the number of the first wrong row, -1 if there is none."""
    return int(np.argmax(wrong)) if wrong.any() else -1


@dataclass(frozen=True, eq=False)
class TraceSet:
    """Traces that are used together, in the order in which they are numbered.

    Attributes:
        name: Name of the set, or of its folder.
        traces: At least one.
        start_pointers: Published row in which each trace's test episode begins, if there are any.
        remarks: What was assumed or left out when the files were read, a line each.
    """

    name: str
    traces: tuple[Trace, ...]
    start_pointers: tuple[int, ...] | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.traces:
            raise InputError(f"trace set {self.name} must hold a trace, got none")
        pointers = self.start_pointers
        if pointers is None:
            return
        if len(pointers) != len(self.traces):
            raise InputError(
                f"start_pointers of {self.name} must be one per trace, "
                f"got {len(pointers)} for {len(self.traces)} traces"
            )
        for pointer, trace in zip(pointers, self.traces, strict=True):
            check_start_pointer(pointer, trace)

    @property
    def known_by(self) -> list[str]:
        """Recordings and contents that tell whether another set holds the same, sorted."""
        found = {trace.recording for trace in self.traces if trace.recording != trace.content}
        return sorted(found | {trace.content for trace in self.traces if not trace.altered})

    def start_pointer(self, trace: int) -> int:
        """Return where the evaluation of a trace begins: the published row, else the first."""
        return 1 if self.start_pointers is None else self.start_pointers[trace]


def check_start_pointer(pointer: int, trace: Trace) -> None:
    """Refuse a start pointer that is not a row after the first."""
    if not 1 <= pointer < len(trace.time_s):
        raise InputError(
            f"start_pointer must be in 1..{len(trace.time_s) - 1} for trace {trace.name}, "
            f"got {pointer}"
        )


def own_recording(trace: Trace) -> str:
    """Return the recording that a trace belongs to if nobody knows better."""
    return recording_of(trace.name) or trace.content


def recording_of(name: str) -> str:
    """Return the FCC unit and site, the Norwegian ride or the session on Puffer of a file's name.

    The ride is written as the name of its whole log. Other names give an empty text.
    """
    ride = _NORWAY_NAME.search(name)
    if ride:
        return f"{ride['kind']}.{ride['route']}-report.{ride['start']}.log"
    match = _FCC_NAME.match(name) or _PUFFER_NAME.match(name)
    return match["recording"] if match else ""


def read_traces(
    path: Path,
    reading: Reading = Reading(),  # noqa: B008 - it is frozen
    recording: str = "",
    remarks: Remarks | None = None,
) -> list[Trace]:
    """Read the traces of a file, in any of the formats of `formats.py`.

    Args:
        path: The file.
        reading: How it is read, where it does not say it itself.
        recording: Of each trace; left out, it follows from the name.
        remarks: Gains what was assumed or left out.

    Raises:
        NoTraceError: If its first line is not that of a trace.
        InputError: If a later line breaks the rule of the format, or a trace a rule of `Trace`.
    """
    found = read_columns(path, reading, Remarks() if remarks is None else remarks)
    with errors_begin_with(path):
        return [Trace(*columns, recording, path) for columns in found]


def read_cooked_trace(path: Path, recording: str = "") -> Trace:
    """Read one cooked trace in s and Mbit/s; its recording follows from its name unless given.

    Raises:
        InputError: If a line is not two numbers, or the trace breaks a rule of `Trace`.
    """
    return read_traces(path, COOKED, recording)[0]


def write_cooked_trace(path: Path, time_s: ArrayLike, capacity_mbps: ArrayLike) -> None:
    """Write a trace so that `read_cooked_trace` gives back the same numbers."""
    rows = zip(np.asarray(time_s).tolist(), np.asarray(capacity_mbps).tolist(), strict=True)
    path.write_text("".join(f"{time!r} {capacity!r}\n" for time, capacity in rows), "utf-8")
