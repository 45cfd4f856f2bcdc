"""Trace files of any known format, written as cooked files."""

import shutil
from pathlib import Path

from netllm_gym.envs.abr.traces import Trace, read_traces, trace_files, write_cooked_trace
from netllm_gym.errors import InputError


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
