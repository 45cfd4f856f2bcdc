"""Read single trace files, folders of them, and listed files; convert them to cooked files.

A folder may hold anything: every file whose first line is that of a trace is read, the others are
passed over and named. A file `trace-set.json` in the folder says how its files are read, where they
do not say it themselves:

    {"time_unit": "ms", "rate_unit": "kbit/s"}
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from netllm_gym.data.abr.source import PASSED_OVER, NoTraceError, Reading, Remarks
from netllm_gym.data.abr.traces import Trace, TraceSet, read_traces, write_cooked_trace
from netllm_gym.data.abr.units import is_doubtful
from netllm_gym.errors import InputError
from netllm_gym.files import replace_folder
from netllm_gym.typed_json import read_checked

DESCRIPTION = "trace-set.json"
MOST_FILES = 100_000


def read_trace_file(path: Path, reading: Reading | None = None) -> TraceSet:
    """Return the traces of one file as a set."""
    return _read_all([path], path.parent, path.name, reading, may_pass_over=False)


def read_trace_folder(folder: Path, name: str = "", reading: Reading | None = None) -> TraceSet:
    """Return the traces of all files of a folder, each in its own format, sorted by path.

    Args:
        folder: With files and folders.
        name: Of the set; the folder's own if left out.
        reading: How files are read; left out, as the folder's description says.

    Raises:
        InputError: If there is no trace, or a file begins as a trace and breaks a rule later.
    """
    if not folder.is_dir():
        raise InputError(f"traces must be a folder of trace files, got {folder}, which is not one")
    return _read_all(trace_files(folder), folder, name or folder.name, reading)


def read_listed_files(
    folder: Path, name: str, recordings: Mapping[str, str], reading: Reading | None = None
) -> TraceSet:
    """Return the traces of some files of a folder, which all must be traces.

    Args:
        folder: With the files.
        name: Of the set.
        recordings: File -> its recording; empty if its name or content tells it.
        reading: How files are read; left out, as the folder's description says.
    """
    paths = [folder / file for file in recordings]
    return _read_all(paths, folder, name, reading, recordings, may_pass_over=False)


def trace_files(folder: Path) -> list[Path]:
    """Return what may be traces in a folder and the folders in it, sorted by path."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        is_link = [each for each in folders if Path(place, each).is_symlink()]
        hidden = [each for each in folders if each.startswith(".")]
        folders[:] = set(folders) - {*is_link, *hidden}
        found += (Path(place, each) for each in (*files, *is_link, *hidden) if each != DESCRIPTION)
        if len(found) > MOST_FILES:
            raise InputError(f"{folder} must hold at most {MOST_FILES:,} files, got more")
    return sorted(found)


def description_of(folder: Path) -> Reading:
    """Return how the files of a folder are read, as its description says, if there is one."""
    path = folder / DESCRIPTION
    if not path.exists():
        return Reading()
    return read_checked(path, Reading, "the description of the traces")


def _read_all(
    paths: Sequence[Path],
    folder: Path,
    name: str,
    reading: Reading | None,
    recordings: Mapping[str, str] | None = None,
    may_pass_over: bool = True,
) -> TraceSet:
    reading = reading or description_of(folder)
    remarks = Remarks(folder)
    traces: list[Trace] = []
    refused: list[InputError] = []
    for path in paths:
        if may_pass_over and (path.name.startswith(".") or not path.is_file()):
            remarks.add_file(PASSED_OVER, path)
            continue
        try:
            found = read_traces(path, reading, (recordings or {}).get(path.name, ""), remarks)
        except NoTraceError as error:
            if not may_pass_over:
                raise
            refused.append(error)
            remarks.add_file(PASSED_OVER, path)
            continue
        above = "".join(f"{part}-" for part in path.relative_to(folder).parts[:-1])
        traces += (replace(trace, name=above + trace.name) for trace in found)
    if not traces and refused:
        raise refused[0]
    if not traces and may_pass_over:
        raise InputError(f"traces must hold a trace file, got the empty folder {folder}")
    return TraceSet(name, tuple(traces), remarks=remarks.sentences())


def convert_traces(source: Path, out: Path, reading: Reading | None = None) -> TraceSet:
    """Read the traces of a file or folder and write each as a cooked file of its own.

    Args:
        source: A trace file, or a folder of them.
        out: New or empty folder; it is filled whole or not at all.
        reading: How files are read; left out, as the folder's description says.

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
    read = read_trace_folder if source.is_dir() else read_trace_file
    traces = read(source, reading=reading)
    files: dict[str, Trace] = {}
    for trace in traces.traces:
        other = files.setdefault(trace.name.removesuffix(".csv"), trace)
        if other is not trace:
            raise InputError(
                f"traces must have different names to be written to one folder, "
                f"got {trace.name.removesuffix('.csv')} from {other.path} and {trace.path}"
            )
    units = asdict(Reading(time_unit="s", rate_unit="Mbit/s"))
    is_described = any(is_doubtful(each.time_s, each.capacity_mbps) for each in traces.traces)
    if is_described:  # without it, these files would be refused
        said = f"{DESCRIPTION} says that they are in s and Mbit/s, which would be doubted otherwise"
        traces = replace(traces, remarks=(*traces.remarks, said))

    def write(folder: Path) -> None:
        for name, trace in files.items():
            write_cooked_trace(folder / name, trace.time_s, trace.capacity_mbps)
        if is_described:
            (folder / DESCRIPTION).write_text(json.dumps(units) + "\n", "utf-8")

    replace_folder(out, write)
    return traces
