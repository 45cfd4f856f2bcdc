"""What data can be named here, where they are, and what a fetch would bring."""

import os
from pathlib import Path

from netllm_gym.data.abr import synthetic
from netllm_gym.data.abr.sets import trace_set_names
from netllm_gym.data.abr.video import video_names
from netllm_gym.data.cjs.named import NAMES as WORKLOADS
from netllm_gym.data.datasets import DATA_VARIABLE, clean_split, data_folder
from netllm_gym.data.published import PublishedSet, published
from netllm_gym.data.vp.sets import (
    SYNTHETIC,
    published_splits,
    viewport_set_names,
    where_packed,
)


def render_catalogue() -> str:
    """Return what this machine has to play, then the published sets, as text."""
    folder = data_folder()
    origin = DATA_VARIABLE if os.environ.get(DATA_VARIABLE) else f"{DATA_VARIABLE} is not set"
    return "\n".join(
        [
            f"data folder: {folder} ({origin})",
            "",
            "trace sets (--traces NAME; a folder or a list of traces will do, too):",
            *_columns([(name, _where_traces(name, folder)) for name in trace_set_names()]),
            "",
            "videos (--video NAME; a folder of chunk sizes will do, too):",
            *_columns([(name, _where_video(name, folder)) for name in video_names()]),
            "",
            "workloads (--workload NAME; a folder or file will do, too):",
            *_columns([(name, _where_workload(name, folder)) for name in WORKLOADS]),
            "",
            "head movements (--dataset NAME; a folder will do, too):",
            *_columns([(name, _where_viewports(name, folder)) for name in viewport_set_names()]),
            "",
            f"netllm-gym data fetch NAME brings, from {published().repository}:",
            *_columns(
                [
                    (
                        each.name,
                        f"{each.title}: {len(each.files)} files, {each.size_bytes / 1e3:,.0f} kB, "
                        f"{_state(each, folder)}",
                    )
                    for each in published().sets.values()
                ]
            ),
        ]
    )


def _where_traces(name: str, folder: Path) -> str:
    if name in synthetic.set_names():
        return f"{synthetic.NUM_TRACES} traces, generated"
    if name in clean_split():
        part = clean_split()[name]
        return f"{len(part.sha256)} traces, a list of files of {part.folder}"
    place = folder / "abr" / "traces" / name
    files = [path for path in place.iterdir() if path.is_file() and path.name[0] != "."]
    return f"{len(files)} traces in {place}"


def _where_video(name: str, folder: Path) -> str:
    return "generated" if name == "synthetic" else str(folder / "abr" / "videos" / name)


def _where_workload(name: str, folder: Path) -> str:
    if name == "synthetic":
        return "jobs of TPC-H's shape and load, generated"
    place = folder / "cjs" / name
    return str(place) if place.is_dir() else f"not here; its files belong in {place}"


def _where_viewports(name: str, folder: Path) -> str:
    if name in SYNTHETIC:
        videos, users = SYNTHETIC[name]
        return f"{users} people watch {videos} videos, generated"
    place = where_packed(name)
    parts = published_splits()[name.rpartition("-")[0]][name.rpartition("-")[2]]
    words = f"{len(parts['videos'])} videos and {len(parts['users'])} people"
    return f"{words}, in {place}" if place else f"not here; its file belongs in {folder / 'vp'}"


def _state(each: PublishedSet, folder: Path) -> str:
    here = sum((folder / file.target).is_file() for file in each.files)
    if here == len(each.files):
        return "all here"
    return f"{here} of them here" if here else "not here"


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name.ljust(width)}  {words}" for name, words in rows]
