"""Read the TPC-H queries on Spark whose measured durations decima-sim published.

`<size>/adj_mat_<q>.npy` is the graph of query q at one size of the data, (n, n) of 0 and 1 with
parents in rows. `<size>/task_duration_<q>.npy` is a pickled dict: stage -> wave -> level -> list of
durations in ms. There are 22 queries at 7 sizes. Every file must have its published SHA-256, so its
content needs no further check; `pickled.py` reads the pickles without running them all the same.

The result is kept as arrays in the user's cache folder, because reading the pickles takes seconds.
"""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.data.cjs.workload import JobTemplate, Waves, Workload, mean_ms
from netllm_gym.data.datasets import cache_folder, check_sha256, find_data
from netllm_gym.data.pickled import ARRAY_NAMES, replay
from netllm_gym.files import errors_begin_with, write_whole

SIZES = ("2g", "5g", "10g", "20g", "50g", "80g", "100g")  # in the order in which they are drawn
NUM_QUERIES = 22
WAVES = ("fresh_durations", "first_wave", "rest_wave")  # as `Waves` has them
CACHE_FORMAT = 2  # changes whenever the conversion gives other arrays


def published_tpch() -> Workload:
    """Return the TPC-H workload of the data folder."""
    return read_tpch(find_data("cjs", "tpch"))


def read_tpch(folder: Path) -> Workload:
    """Read the TPC-H workload from the folder that holds `2g`, `5g` and the other sizes.

    Raises:
        MissingDataError: If a file is not there.
        InputError: If a file does not have the published bytes.
    """
    for name, expected in file_hashes().items():
        check_sha256(folder / name, expected)
    cached = cache_file()
    with suppress(Exception):  # whatever is wrong with it, it can be made again
        return _read_cache(cached)
    workload = Workload.of_jobs("tpch", _templates(folder), (NUM_QUERIES, len(SIZES)))
    with suppress(OSError):  # a cache only saves time
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_whole(cached, _cache_bytes(workload))
    return workload


@lru_cache(maxsize=1)
def file_hashes() -> dict[str, str]:
    """Return the SHA-256 of each file, by its path below the folder."""
    package = resources.files("netllm_gym.data.cjs")
    hashes: dict[str, str] = json.loads(package.joinpath("tpch_sha256.json").read_text("utf-8"))
    return hashes


def cache_file() -> Path:
    """Return where the arrays are kept: another place for other files or another format."""
    key = sha256(json.dumps([CACHE_FORMAT, sorted(file_hashes().items())]).encode()).hexdigest()
    return cache_folder() / f"tpch-{key[:16]}.npz"


def read_durations(data: bytes) -> list[dict[str, dict[int, list[int]]]]:
    """Return, for each stage, wave -> level -> durations of a published `task_duration` file.

    Raises:
        InputError: If its pickle refers to other names than NumPy's.
    """
    made = replay(_npy(data).body, ARRAY_NAMES)
    (stages,) = made.values
    return [stages[number] for number in range(len(stages))]


def read_edges(data: bytes) -> list[tuple[int, int]]:
    """Return (parent, child) of a published `adj_mat` file, by rows."""
    file = _npy(data)
    matrix = np.frombuffer(file.body, file.dtype).reshape(file.shape)
    return [(int(parent), int(child)) for parent, child in np.argwhere(matrix)]


class _Npy(NamedTuple):
    """A `.npy` file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    body: bytes


def _npy(data: bytes) -> _Npy:
    """Split a `.npy` file; NumPy's own reader would unpickle it."""
    file = io.BytesIO(data)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return _Npy(shape, dtype, file.read())


def _templates(folder: Path) -> list[JobTemplate]:
    """Convert the files. The order is that in which decima-sim draws the queries and sizes."""
    templates = []
    for query in range(1, NUM_QUERIES + 1):
        for size in SIZES:
            edges = read_edges((folder / size / f"adj_mat_{query}.npy").read_bytes())
            durations = folder / size / f"task_duration_{query}.npy"
            with errors_begin_with(durations):
                stages = read_durations(durations.read_bytes())
            templates.append(template_of(f"q{query}-{size}", edges, stages))
    return templates


def template_of(
    name: str,
    edges: Sequence[tuple[int, int]],
    stages: Sequence[Mapping[str, Mapping[int, list[int]]]],
) -> JobTemplate:
    """Return the job of a pair of files, prepared as in decima-sim.

    The measured first wave includes the fresh tasks. They are removed from it, each value once. A
    level that has no first tasks then gets those of the level below.
    """
    durations = []
    for stage in stages:
        fresh, first, rest = (stage[wave] for wave in WAVES)
        cleaned: dict[int, list[int]] = {}
        below: list[int] = []
        for level in sorted(first):
            below = _without(first[level], fresh[level]) or below
            cleaned[level] = below
        durations.append(Waves(fresh, cleaned, rest))
    return JobTemplate(
        name=name,
        # By the level that the file names first: only q15 has counts that depend on it.
        num_tasks=[
            len(stage["first_wave"][level]) + len(stage["rest_wave"][level])
            for stage in stages
            for level in [next(iter(stage["first_wave"]))]
        ],
        edges=edges,
        durations=durations,
        rough_ms=[mean_ms(each) for each in durations],
    )


def _without(values: Sequence[int], taken: Sequence[int]) -> list[int]:
    """Return the values in order, without one equal value for each that is taken."""
    left = Counter(taken)
    kept = []
    for value in values:
        if left[value] > 0:
            left[value] -= 1
        else:
            kept.append(value)
    return kept


_CACHED = [
    each.name
    for each in fields(Workload)
    if each.name not in ("name", "arrival_ms", "remarks")  # which are the same for all
]


def _cache_bytes(workload: Workload) -> bytes:
    arrays = {name: np.asarray(getattr(workload, name)) for name in _CACHED}
    arrays["durations_ms"] = arrays["durations_ms"].astype(np.int32)  # whole ms; half the size
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _read_cache(path: Path) -> Workload:
    with np.load(path, allow_pickle=False) as arrays:
        values: dict[str, Any] = {name: arrays[name] for name in _CACHED}
    values |= {name: tuple(values[name].tolist()) for name in ("choices", "template_names")}
    values["durations_ms"] = values["durations_ms"].astype(np.float64)
    return Workload(name="tpch", **values)
