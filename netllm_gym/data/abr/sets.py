"""Trace sets by name: generated ones, folders of the data folder, lists, any of them altered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from netllm_gym.data.abr import synthetic
from netllm_gym.data.abr.altered import altered_set, read_altered_name
from netllm_gym.data.abr.folders import read_trace_file, read_trace_files, read_trace_folder
from netllm_gym.data.abr.lists import TraceList, is_trace_list, read_trace_list
from netllm_gym.data.abr.recordings import with_recordings
from netllm_gym.data.abr.source import UNNAMED, Reading
from netllm_gym.data.abr.traces import Trace, TraceSet, check_start_pointer
from netllm_gym.data.datasets import check_sha256, clean_split, data_folder, find_data
from netllm_gym.data.published import how_to_fetch
from netllm_gym.errors import InputError, nearest
from netllm_gym.files import errors_begin_with
from netllm_gym.typed_json import read_checked


def trace_set_names() -> list[str]:
    """Return every name that `load_trace_set` knows on this machine."""
    folder = data_folder() / "abr" / "traces"
    found = (
        sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    )
    lists = [name for name, part in clean_split().items() if part.folder in found]
    return [*synthetic.set_names(), *found, *lists]


def load_trace_set(
    name: "str | Path | TraceSet | Sequence[Trace]", reading: Reading | None = None
) -> TraceSet:
    """Return a set by name (`synthetic`, `fcc-test`, `clean-train`), by path, or from traces.

    Args:
        name: The name of a set, a folder of trace files, one trace file, or a list of traces, as
            `data split` writes it. Files may be in any of the formats of `formats.py`. Behind a
            name or a path, `~COPIES+GENERATED` puts altered copies and generated traces around
            the set (`altered.py`).
        reading: How the files of a path are read, where they do not say it themselves; left out,
            as the folder's description says.

    Raises:
        InputError: If there is no such set or folder, or a file in it breaks a rule.
    """
    if reading is not None and not (isinstance(name, str | Path) and Path(name).exists()):
        raise InputError(f"format, units and columns must come with a file or folder, got {name}")
    if isinstance(name, TraceSet):
        return name
    if not isinstance(name, str | Path):
        given = tuple(name) if isinstance(name, Sequence) else (name,)
        if not all(isinstance(one, Trace) for one in given):
            raise InputError(f"traces must be a name, a folder or a list of Trace, got {name!r}")
        return TraceSet("given", cast(tuple[Trace, ...], given))
    named = None if Path(name).exists() else read_altered_name(str(name))
    if named is not None:
        return altered_set(str(name), load_trace_set(named.base), named.alteration)
    if str(name) in synthetic.set_names():
        return _generated_set(str(name))
    return with_recordings(_set_of_files(name, reading))


def _set_of_files(name: str | Path, reading: Reading | None) -> TraceSet:
    if str(name) in clean_split():
        part = clean_split()[str(name)]
        folder = find_data("abr", "traces", part.folder)
        return _in_standard_units(_listed_set(TraceList(str(name), folder, part.sha256, {})))
    if isinstance(name, str) and "/" not in name and name in trace_set_names():
        traces = read_trace_folder(find_data("abr", "traces", name), name, reading)
        return _in_standard_units(replace(traces, start_pointers=_published_pointers(traces)))
    path = Path(name)
    if not path.exists():
        hint = how_to_fetch(f"abr/traces/{name}") or nearest(str(name), trace_set_names(), most=3)
        raise InputError(
            "traces must be a folder or one of the sets that `netllm-gym data list` shows, "
            f"got {str(name)!r}{hint}"
        )
    if path.is_dir():
        return read_trace_folder(path, reading=reading)
    if is_trace_list(path):
        return _listed_set(read_trace_list(path), reading)
    return read_trace_file(path, reading)


def _in_standard_units(traces: TraceSet) -> TraceSet:
    """Return a set of the data folder, which is in s and Mbit/s, without a remark on units."""
    kept = [remark for remark in traces.remarks if not remark.startswith(UNNAMED)]
    return replace(traces, remarks=tuple(kept))


def _listed_set(traces: TraceList, reading: Reading | None = None) -> TraceSet:
    for file, sha256 in traces.sha256.items():
        check_sha256(traces.folder / file, sha256)
    recordings = {file: traces.recordings.get(file, "") for file in traces.sha256}
    return read_trace_files(traces.folder, traces.name, recordings, reading)


def _generated_set(name: str) -> TraceSet:
    traces = tuple(
        Trace(f"{name}-{number:03d}", time_s, capacity_mbps)
        for number, (time_s, capacity_mbps) in enumerate(synthetic.generate_set(name))
    )
    return TraceSet(name, traces)


@dataclass(frozen=True)
class _StartPointers:
    split: str
    start_pointers: dict[str, int]


def _published_pointers(traces: TraceSet) -> tuple[int, ...] | None:
    path = data_folder() / "abr" / "start_pointers.json"
    if not path.is_file():
        return None
    published = read_checked(path, _StartPointers, "the start pointers", ignore_unknown=True)
    if published.split != traces.name:
        return None
    with errors_begin_with(path):
        for trace in traces.traces:
            pointer = published.start_pointers.get(trace.name)
            if pointer is None:
                raise InputError(f"start_pointers must have one for {trace.name}, got none")
            check_start_pointer(pointer, trace)
    return tuple(published.start_pointers[trace.name] for trace in traces.traces)
