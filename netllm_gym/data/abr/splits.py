"""Split trace sets so that all traces of one recording are in the same part.

A split by trace would test on parts of the training recordings, as the published FCC splits do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from netllm_gym.data.abr.lists import TraceList, write_trace_list
from netllm_gym.data.abr.recordings import find_recordings, name_recordings
from netllm_gym.data.abr.traces import TraceSet, own_recording
from netllm_gym.data.datasets import sha256_of
from netllm_gym.errors import InputError


class Part(NamedTuple):
    """One part of a split."""

    traces: TraceList
    num_recordings: int


class Split(NamedTuple):
    """The parts of a split, and how many traces it could not tell the recording of."""

    parts: dict[str, Part]
    num_unknown: int


PART_NAMES = {2: ("train", "test"), 3: ("train", "valid", "test")}


def split_by_recording(traces: TraceSet, shares: Sequence[float], seed: int, out: Path) -> Split:
    """Split a set and write each part as a list, `OUT/train.json` and so on.

    Args:
        traces: A set that was read from files.
        shares: Shares of the traces for train and test, or for train, valid and test. Their sum
            is 1.
        seed: Equal seeds give equal parts.
        out: New or empty folder.

    Returns:
        The parts by name. A trace that could not be compared counts as a recording of its own.

    Raises:
        InputError: If an argument breaks its rule. Nothing was written.
    """
    if len(shares) not in PART_NAMES:
        raise InputError(
            "shares must be 2 (train, test) or 3 (train, valid, test) numbers, "
            f"got {', '.join(map(str, shares))}"
        )
    if not all(share > 0 for share in shares) or abs(sum(shares) - 1.0) > 1e-6:
        raise InputError(f"shares must be above 0 and sum to 1, got {', '.join(map(str, shares))}")
    if seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"out must be a new or empty folder, got {out}")
    paths = [trace.path for trace in traces.traces if trace.path]
    folders = {path.parent for path in paths}
    if len(paths) < len(traces.traces):
        raise InputError(
            f"traces to split must be files, got the set {traces.name}; "
            "netllm-gym data generate writes generated traces to files"
        )
    if len(folders) > 1:
        raise InputError(
            f"traces to split must be files of one folder, got files of {len(folders)} folders "
            f"in {traces.name}; netllm-gym data convert writes them to one"
        )
    if len(set(paths)) < len(paths):
        raise InputError(
            f"traces to split must be one to a file, got several in a file of {paths[0].parent}; "
            "netllm-gym data convert writes one file for each"
        )
    recordings = find_recordings(traces.traces)
    groups = recordings.groups
    if len(groups) < len(shares):
        raise InputError(
            f"{traces.name} must hold {len(shares)} or more recordings to be split by, "
            f"got {len(groups)}"
        )
    recording_names = name_recordings(traces.traces, recordings)
    names = PART_NAMES[len(shares)]
    parts = {}
    for name, numbers in zip(names, _draw_parts(groups, shares, seed), strict=True):
        files = {paths[number].name: number for number in sorted(numbers)}
        renamed = {
            file: recording_names[number]
            for file, number in files.items()
            if recording_names[number] != own_recording(traces.traces[number])
        }
        sha256 = {file: sha256_of(paths[number]) for file, number in files.items()}
        listed = TraceList(f"{out.name}-{name}", paths[0].parent, sha256, renamed)
        parts[name] = Part(listed, len({recording_names[number] for number in numbers}))
    out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        write_trace_list(out / f"{name}.json", part.traces)
    return Split(parts, len(recordings.unknown))


def _draw_parts(groups: list[list[int]], shares: Sequence[float], seed: int) -> list[list[int]]:
    """Distribute the groups at random, so that each part gets about its share of the traces.

    The groups are taken in random order. Each goes to a random part that lacks at least as many
    traces as the group has, in proportion to how many it lacks. If there is no such part, it goes
    to the part that lacks most. If only as many groups are left as parts are empty, each of them
    goes to an empty part.
    """
    rng = np.random.default_rng(seed)
    lacking = np.array(shares) * sum(map(len, groups))  # (parts,) traces
    parts: list[list[int]] = [[] for _ in shares]
    for left, number in zip(range(len(groups), 0, -1), rng.permutation(len(groups)), strict=True):
        group = groups[number]
        empty = [not part for part in parts]
        chance = np.where(lacking > len(group) - 1e-6, lacking, 0.0)
        if sum(empty) == left:
            chance = np.where(empty, np.maximum(lacking, 1.0), 0.0)
        part = (
            int(rng.choice(len(parts), p=chance / chance.sum()))
            if chance.any()
            else int(np.argmax(lacking))
        )
        parts[part] += group
        lacking[part] -= len(group)
    return parts
