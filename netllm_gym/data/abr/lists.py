"""Lists of traces: one part of a split as names and SHA-256, without a copy of any trace.

A list is a JSON file, as `netllm-gym data split` writes it:

    {"name": ..., "set": "fcc-train", "sha256": {file: ...}, "recordings": {file: ...}}

`set` is a folder below `abr/traces/` of the data folder; `folder` in its place is a path relative
to the list. `recordings` has those files whose name does not say which recording they belong to.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from netllm_gym.data.datasets import data_folder, find_data
from netllm_gym.errors import InputError
from netllm_gym.files import read_json, write_whole


class TraceList(NamedTuple):
    """Files of one folder."""

    name: str
    folder: Path
    sha256: Mapping[str, str]  # file name -> SHA-256 of its bytes
    recordings: Mapping[str, str]  # file name -> recording, where the name says another one


def read_trace_list(path: Path) -> TraceList:
    """Read a list.

    Raises:
        InputError: If it is not one, or its folder is not there.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} must be a list of traces, got {type(content).__name__}")
    name = content.get("name")
    if not (isinstance(name, str) and name and name.isprintable()):
        raise InputError(f"name of {path} must be a name, got {name!r:.60}")
    sha256, recordings = (_texts(content, key, path) for key in ("sha256", "recordings"))
    for file in sha256:
        if not (file and file.isprintable() and Path(file).name == file):
            raise InputError(f"sha256 of {path} must have names of files, got {file!r}")
    place = {key: content[key] for key in ("set", "folder") if key in content}
    where = next(iter(place.values()), None)
    if len(place) != 1 or not (isinstance(where, str) and where.isprintable()):
        raise InputError(f"{path} must name a set or a folder, got {place!r:.60}")
    folder = find_data("abr", "traces", where) if "set" in place else path.parent / where
    return TraceList(name, folder, sha256, recordings)


def _texts(content: dict[str, Any], key: str, path: Path) -> dict[str, str]:
    column = content.get(key)
    if not isinstance(column, dict) or not all(
        isinstance(text, str) and text.isprintable() for text in column.values()
    ):
        raise InputError(f"{key} of {path} must be an object of texts, got {column!r:.60}")
    return column


def write_trace_list(path: Path, traces: TraceList) -> None:
    """Write a list; a folder of the data folder by its name, another relative to the list."""
    place = {"folder": os.path.relpath(traces.folder.resolve(), path.parent.resolve())}
    if traces.folder.resolve().parent == (data_folder() / "abr" / "traces").resolve():
        place = {"set": traces.folder.name}
    content = {
        "name": traces.name,
        **place,
        "sha256": dict(traces.sha256),
        "recordings": dict(traces.recordings),
    }
    write_whole(path, (json.dumps(content, indent=1) + "\n").encode())
