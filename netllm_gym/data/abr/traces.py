"""Throughput traces: what a link can carry over time, read from files or generated.

A trace has two columns, time in seconds and throughput in Mbit/s; a cooked file has just these.
Row i (i >= 1) says what the link carries from the time of row i - 1 to its own; row 0's throughput
is never used. Past its end a trace starts again. Times are shifted to start at 0, because the
wrap-around assumes it. `formats.py` reads the files.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import FloatArray
from netllm_gym.data.abr.formats import read_columns
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with

# A pass that carries less is repeated without end for one chunk; one that carries more is no link.
LEAST_MB, MOST_MB = 1e-3, 1e15

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
        for what, bad, rule in _trace_rules(time_s, capacity_mbps):
            if bad:
                raise InputError(f"{what} of trace {self.name} must {rule}")
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


def _trace_rules(time_s: FloatArray, capacity_mbps: FloatArray) -> list[tuple[str, bool, str]]:
    """Return (what, whether it is broken, the rule with the value that came), first rule first."""
    shape = f"got shapes {time_s.shape} and {capacity_mbps.shape}"
    if time_s.ndim != 1 or time_s.shape != capacity_mbps.shape or len(time_s) < 2:
        return [("time_s and capacity_mbps", True, f"be two columns of 2 or more rows, {shape}")]
    finite = np.isfinite(time_s) & np.isfinite(capacity_mbps)
    with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers become inf or nan
        gaps_s = np.diff(time_s)
        carried_mb = float(gaps_s @ capacity_mbps[1:]) / 8.0
    falls = np.flatnonzero(gaps_s <= 0)
    negative = np.flatnonzero(capacity_mbps < 0)
    row = int(np.argmin(finite))
    rules = [
        (
            "every row",
            not finite.all(),
            f"be finite, got {time_s[row]} {capacity_mbps[row]} in row {row}",
        ),
    ]
    if len(falls):
        i = int(falls[0])
        rules.append(
            (
                "time_s",
                True,
                f"rise from row to row, got {time_s[i]} then {time_s[i + 1]} in row {i + 1}",
            )
        )
    if len(negative):
        i = int(negative[0])
        rules.append(("capacity_mbps", True, f"be at least 0, got {capacity_mbps[i]} in row {i}"))
    usable = capacity_mbps[1:] > 0
    rules.append(
        ("capacity_mbps", not usable.any(), "be above 0 in some row after the first, got none")
    )
    rules.append(
        (
            "capacity_mbps",
            not LEAST_MB <= carried_mb <= MOST_MB,
            f"carry {LEAST_MB} to {MOST_MB:.0e} MB in one pass, got {carried_mb}",
        )
    )
    return rules


@dataclass(frozen=True, eq=False)
class TraceSet:
    """Traces that are used together, in the order in which they are numbered.

    Attributes:
        name: Name of the set, or of its folder.
        traces: At least one.
        start_pointers: Published row in which each trace's test episode begins, if there are any.
    """

    name: str
    traces: tuple[Trace, ...]
    start_pointers: tuple[int, ...] | None = None

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


def read_traces(path: Path, file_format: str = "", recording: str = "") -> list[Trace]:
    """Read the traces of a file, in any of the formats of `formats.py`.

    Args:
        path: The file.
        file_format: A name of `formats.READERS`; left out, the file's first line decides.
        recording: Of each trace; left out, it follows from the name.

    Raises:
        InputError: If a line breaks the rule of the format, or a trace a rule of `Trace`.
    """
    found = read_columns(path, file_format)
    with errors_begin_with(path):
        return [Trace(*columns, recording, path) for columns in found]


def read_cooked_trace(path: Path, recording: str = "") -> Trace:
    """Read one cooked trace; its recording follows from its name unless it is given.

    Raises:
        InputError: If a line is not two numbers, or the trace breaks a rule of `Trace`.
    """
    return read_traces(path, "cooked", recording)[0]


def trace_files(folder: Path) -> list[Path]:
    """Return the files of a folder by sorted name; names that start with a dot are skipped."""
    if not folder.is_dir():
        raise InputError(f"traces must be a folder of trace files, got {folder}, which is not one")
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
    if not paths:
        raise InputError(f"traces must hold a trace file, got the empty folder {folder}")
    return paths


def read_trace_folder(folder: Path, name: str = "") -> TraceSet:
    """Read every trace of a folder's `trace_files`, each in its own format."""
    traces = chain.from_iterable(map(read_traces, trace_files(folder)))
    return TraceSet(name or folder.name, tuple(traces))


def write_cooked_trace(path: Path, time_s: ArrayLike, capacity_mbps: ArrayLike) -> None:
    """Write a trace so that `read_cooked_trace` gives back the same numbers."""
    rows = zip(np.asarray(time_s).tolist(), np.asarray(capacity_mbps).tolist(), strict=True)
    path.write_text("".join(f"{time!r} {capacity!r}\n" for time, capacity in rows), "utf-8")


def convert_traces(source: Path, out: Path, file_format: str = "") -> list[Trace]:
    """Read the traces of a file or folder and write each as a cooked file of its own.

    Args:
        source: A trace file, or a folder of them.
        out: New or empty folder; it is filled whole or not at all.
        file_format: As `read_traces` takes it, for all files; left out, each file's first line
            decides.

    Returns:
        The traces that were written, in order. A file has its trace's name, without `.csv`.

    Raises:
        InputError: If a file cannot be read, or two traces would have one name; nothing is written
            then.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"out must be a new or empty folder, got {out}")
    if not source.exists():
        raise InputError(f"traces must be a file or a folder, got {source}, which does not exist")
    traces: list[Trace] = []
    origins: dict[str, Path] = {}  # name of the new file -> the file that it comes from
    for path in trace_files(source) if source.is_dir() else [source]:
        for trace in read_traces(path, file_format):
            name = trace.name.removesuffix(".csv")
            if name in origins:
                raise InputError(
                    f"traces must have different names to be written to one folder, "
                    f"got {name} from {origins[name]} and {path}"
                )
            origins[name] = path
            traces.append(trace)
    whole = out.resolve()
    part = whole.with_name(f".{whole.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed run left
    part.mkdir(parents=True)
    try:
        for name, trace in zip(origins, traces, strict=True):
            write_cooked_trace(part / name, trace.time_s, trace.capacity_mbps)
        if whole.exists():
            whole.rmdir()
        part.replace(whole)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return traces
