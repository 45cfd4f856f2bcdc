"""Read single trace files, folders of them, and listed files; convert them to cooked files.

A folder may hold anything: every file whose first line is that of a trace is read, the others are
passed over and named. A file `trace-set.json` in the folder says how its files are read, where they
do not say it themselves:

    {"time_unit": "ms", "rate_unit": "kbit/s"}
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from netllm_gym.data.abr.source import PASSED_OVER, SHOWN, NoTraceError, Reading, Remarks
from netllm_gym.data.abr.traces import Trace, TraceSet, read_traces, write_cooked_trace
from netllm_gym.data.abr.units import is_doubtful
from netllm_gym.errors import InputError
from netllm_gym.files import replace_folder
from netllm_gym.typed_json import read_checked

DESCRIPTION = "trace-set.json"
VIDEO_FILES = "video_size_"  # which NetLLM keeps beside its traces
MOST_FILES = 100_000


class FolderFiles(NamedTuple):
    """What is in a folder and the folders in it, sorted by path."""

    files: list[Path]  # which may be traces
    passed_over: list[
        Path
    ]  # hidden, of a video, no regular file, a folder that is hidden or a link


def trace_files(folder: Path) -> FolderFiles:
    """Return the files of a folder and the folders in it, but for its description.

    The sizes of the chunks of a video (`video.py`) would be read as times of packets.
    """
    found = FolderFiles([], [])
    for place, folders, files in os.walk(folder):
        within = {each: Path(place, each) for each in folders}
        skipped = [each for each in folders if each.startswith(".") or within[each].is_symlink()]
        folders[:] = set(folders) - set(skipped)
        found.passed_over.extend(within[each] for each in skipped)
        for path in (Path(place, each) for each in files if each != DESCRIPTION):
            may_be_one = path.is_file() and not path.name.startswith((".", VIDEO_FILES))
            (found.files if may_be_one else found.passed_over).append(path)
        if len(found.files) + len(found.passed_over) > MOST_FILES:
            raise InputError(f"{folder} must hold at most {MOST_FILES:,} files, got more")
    return FolderFiles(sorted(found.files), sorted(found.passed_over))


def read_trace_folder(folder: Path, name: str = "", reading: Reading | None = None) -> TraceSet:
    """Return the traces of all files of a folder, each in its own format, sorted by path.

    Args:
        folder: With files and folders.
        name: Of the set; the folder's own if left out.
        reading: How files are read; left out, as the description of their folder says, or of the
            nearest one above that has one.

    Raises:
        InputError: If there is no trace, or a file begins as a trace and breaks a rule later.
    """
    if not folder.is_dir():
        raise InputError(f"traces must be a folder of trace files, got {folder}, which is not one")
    found, remarks = trace_files(folder), Remarks(folder)
    places = {path.parent for path in found.files}
    readings = {place: reading or _nearest_description(place, folder) for place in places}
    traces = [
        trace
        for path in found.files
        for trace in _traces_within(folder, path, readings[path.parent], remarks)
    ]
    for path in found.passed_over:
        remarks.add_file(PASSED_OVER, path)
    if not traces and found.files:
        first = found.files[0]
        read_traces(first, readings[first.parent])  # says why it is no trace
    if not traces:
        others = [path.name for path in found.passed_over]
        got = (
            f"{folder} with {', '.join(others[:SHOWN])}" if others else f"the empty folder {folder}"
        )
        raise InputError(f"traces must hold a trace file, got {got}")
    return TraceSet(name or folder.name, tuple(traces), remarks=remarks.sentences())


def _traces_within(folder: Path, path: Path, reading: Reading, remarks: Remarks) -> list[Trace]:
    """Return the traces of a file, none if it is passed over; folders within name them too."""
    try:
        found = read_traces(path, reading, remarks=remarks)
    except NoTraceError:
        remarks.add_file(PASSED_OVER, path)
        return []
    above = "".join(f"{part}-" for part in path.relative_to(folder).parts[:-1])
    return [replace(trace, name=above + trace.name) for trace in found] if above else found


def read_trace_files(
    folder: Path, name: str, recordings: Mapping[str, str], reading: Reading | None = None
) -> TraceSet:
    """Return the traces of some files of a folder, which all must be traces.

    Args:
        folder: With the files.
        name: Of the set.
        recordings: File -> its recording; empty if its name or content tells it.
        reading: How files are read; left out, as the folder's description says.
    """
    reading, remarks = reading or description_of(folder), Remarks(folder)
    traces = [
        trace
        for file, recording in recordings.items()
        for trace in read_traces(folder / file, reading, recording, remarks)
    ]
    return TraceSet(name, tuple(traces), remarks=remarks.sentences())


def read_trace_file(path: Path, reading: Reading | None = None) -> TraceSet:
    """Return the traces of one file as a set."""
    return read_trace_files(path.parent, path.name, {path.name: ""}, reading)


def _nearest_description(place: Path, folder: Path) -> Reading:
    while place != folder and not (place / DESCRIPTION).exists():
        place = place.parent
    return description_of(place)


def description_of(folder: Path) -> Reading:
    """Return how the files of a folder are read, as its description says, if there is one."""
    path = folder / DESCRIPTION
    return read_checked(path, Reading, "the description") if path.exists() else Reading()


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
