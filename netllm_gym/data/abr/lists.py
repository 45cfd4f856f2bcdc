"""Lists of traces: the names and hashes of the files that make one part of a split.

A list is a JSON file, as `netllm-gym data split` writes it:

    {"name": ..., "set": "fcc-train", "sha256": {file: ...}, "recordings": {file: ...}}

`set` is a folder below `abr/traces/` of the data folder. A list may have `folder` instead, a path
relative to the list. `recordings` has the files whose names do not say from which recording they
were cut.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, NamedTuple

from netllm_gym.configs import check
from netllm_gym.data.datasets import data_folder, find_data
from netllm_gym.data.opening import open_lines
from netllm_gym.errors import InputError
from netllm_gym.files import write_whole
from netllm_gym.typed_json import Line, Name, Rule, read_checked


class TraceList(NamedTuple):
    """Files of one folder."""

    name: str
    folder: Path
    sha256: Mapping[str, str]  # file name -> SHA-256 of its bytes
    recordings: Mapping[str, str]  # file name -> recording, where the name does not tell it


def _is_plain(name: str) -> bool:
    """Say whether a name leads nowhere else: no path, and not the folder above."""
    return name not in ("", ".", "..") and Path(name).name == name


_FileName = Annotated[Line, Rule(_is_plain, "be the name of a file")]
_SetName = Annotated[Line, Rule(lambda text: text == "" or _is_plain(text), "be the name of a set")]
_Folder = Annotated[Line, Rule(lambda text: not Path(text).is_absolute(), "be a relative path")]


@dataclass(frozen=True)
class _Written:
    name: Name
    sha256: dict[_FileName, Line]
    recordings: dict[str, Line]
    set: _SetName = ""
    folder: _Folder = ""

    def __post_init__(self) -> None:
        places = [place for place in (self.set, self.folder) if place]
        check(len(places) == 1, "set and folder", "be one set or one folder", places)


def is_trace_list(path: Path) -> bool:
    """Say whether a file is a list of traces, and not a trace itself, by how it begins."""
    with open_lines(path) as lines:
        start = "".join("".join(islice(lines, 3)).split())
    return start.startswith("{") or (path.suffix == ".json" and not start.startswith("[{"))


def read_trace_list(path: Path) -> TraceList:
    """Read a list.

    Raises:
        InputError: If it is not one, or its folder is not there.
    """
    found = read_checked(path, _Written, "the list of traces", ignore_unknown=True)
    if not found.sha256:
        raise InputError(f"{path}: trace set {found.name} must hold a trace, got none")
    folder = find_data("abr", "traces", found.set) if found.set else path.parent / found.folder
    return TraceList(found.name, folder, found.sha256, found.recordings)


def write_trace_list(path: Path, traces: TraceList) -> None:
    """Write a list. A folder of the data folder is given by name, another by a relative path."""
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
