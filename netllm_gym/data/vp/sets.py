"""Load sets of head movements by name: generated sets, recorded sets, and folders of files.

`jin2022-train`, `-valid` and `-test`, and the same of `wu2017`, are the published splits. Their
parts have no videos and no people in common. They are read from packed files in `vp/` of the data
folder.
"""

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

from netllm_gym.configs import check
from netllm_gym.data.datasets import data_folder, find_data
from netllm_gym.data.vp.formats import read_folder, read_packed
from netllm_gym.data.vp.synthetic import HeadMotion, generate_viewports
from netllm_gym.data.vp.video_features import read_features
from netllm_gym.data.vp.viewport import (
    InputReport,
    ViewportSet,
    ViewportTrace,
    ViewportWindows,
    WindowConfig,
)
from netllm_gym.errors import InputError, MissingDataError

MOST_NUMBERS = 1_000_000  # of videos and people in a set: names of files have no more digits
SYNTHETIC = {  # name -> videos and users
    "synthetic": (12, 16),
    "synthetic-valid": (6, 10),
    "synthetic-test": (6, 10),
}


@lru_cache(maxsize=1)
def published_splits() -> dict[str, dict[str, Any]]:
    """Return set -> part -> the numbers of its videos and users."""
    text = resources.files("netllm_gym.data.vp").joinpath("viewport_splits.json").read_text("utf-8")
    return dict(json.loads(text))


def viewport_set_names() -> list[str]:
    """Return all names, whether their files are on this machine or not."""
    recorded = [f"{name}-{part}" for name, parts in published_splits().items() for part in parts]
    return [*SYNTHETIC, *recorded]


def load_viewports(
    name: str | Path, euler_order: str | None = None, features: str | Path | None = None
) -> ViewportSet:
    """Read or generate a set.

    Args:
        name: One of `viewport_set_names`, a folder of recordings, or several of these with a +
            between them, to train on all.
        euler_order: Of the angles; None takes that of the files ("zxy" in NetLLM's, "yxz" where
            there are quaternions, or nothing but a generator).
        features: Folder of features of the videos' frames; neither of generated sets nor of several
            sets, where video 1 of one is not that of another.

    Raises:
        InputError: If there is no such set, or a file is broken.
    """
    text = str(name)
    if text in SYNTHETIC:
        rule = "be left out for generated sets, whose videos are numbered anew in each"
        check(features is None, "features", rule, str(features))
        found = _generated(text)
    elif text in viewport_set_names():
        found = _recorded(text)
    elif text and Path(name).is_dir():
        found = read_folder(Path(name), euler_order)
        _check_differ(text, found.traces)
    elif "+" in text:
        parts = text.split("+")
        check(all(parts), "dataset", "name a set on each side of a +", text)
        found = _joined(text, [load_viewports(part, euler_order) for part in parts])
        check(features is None, "features", "be left out for several sets", str(features))
    else:
        raise InputError(
            f"dataset must be a folder or one of {', '.join(viewport_set_names())}, got {text!r}"
        )
    if euler_order is not None:
        found = found.in_order(euler_order)
    return found if features is None else replace(found, features=read_features(Path(features)))


def load_windows(
    dataset: str | Path,
    *,
    euler_order: str | None = None,
    features: str | Path | None = None,
    **config: int,
) -> ViewportWindows:
    """Load a set and cut its windows; see `load_viewports` and `WindowConfig`."""
    cut = WindowConfig(**config)  # refused before anything is read
    windows = ViewportWindows(load_viewports(dataset, euler_order, features), cut)
    if windows.dataset.features is not None:
        windows.dataset.features.check_has(windows.video)
    return windows


def list_viewport_sets() -> list[tuple[str, str]]:
    """Return the name of each set of head movements, and what and where it is."""
    return [(name, _in_words(name)) for name in viewport_set_names()]


def _in_words(name: str) -> str:
    if name in SYNTHETIC:
        videos, users = SYNTHETIC[name]
        return f"{users} people watch {videos} videos, generated"
    place = where_packed(name)
    data, _, part = name.rpartition("-")
    ids = published_splits()[data][part]
    words = f"{len(ids['videos'])} videos and {len(ids['users'])} people"
    belongs = data_folder() / "vp"
    return f"{words}, in {place}" if place else f"not here; its file belongs in {belongs}"


def where_packed(name: str) -> Path | None:
    """Return the file that a recorded set is read from; None if it is not on this machine."""
    data, _, part = name.rpartition("-")
    for kind in ("splits", part):
        path = data_folder() / "vp" / f"{data}_{kind}.npz"
        if path.is_file():
            return path
    return None


@lru_cache(maxsize=len(SYNTHETIC))  # a second of work, and a command asks for a set several times
def _generated(name: str) -> ViewportSet:
    traces = generate_viewports(HeadMotion(), *SYNTHETIC[name], zlib.crc32(name.encode()))
    for trace in traces:
        trace.angles_deg.flags.writeable = False
    return ViewportSet(name, "yxz", traces)


def _recorded(name: str) -> ViewportSet:
    data, _, part = name.rpartition("-")
    path = where_packed(name) or find_data("vp", f"{data}_splits.npz")
    ids = published_splits()[data][part]
    traces = read_packed(path, frozenset(ids["videos"]), frozenset(ids["users"]))
    if not traces:
        raise MissingDataError(f"{path} must hold the traces of {name}, got none of them")
    held = Counter((trace.video, trace.user) for trace in traces)
    for video, user in product(ids["videos"], ids["users"]):
        if held[video, user] != 1:
            raise InputError(
                f"{path} must hold each trace of {name} once, "
                f"got {held[video, user]} of video {video} and user {user}"
            )
    return ViewportSet(name, "zxy", traces)


def _joined(name: str, sets: list[ViewportSet]) -> ViewportSet:
    """Join sets. Equal numbers in different sets mean different videos and people."""
    order, traces, report = sets[0].euler_order, list[ViewportTrace](), InputReport()
    for number, each in enumerate(sets):
        beyond = number * MOST_NUMBERS
        traces += [
            replace(trace, video=trace.video + beyond, user=trace.user + beyond)
            for trace in each.in_order(order).traces
        ]
        report += each.report
    _check_differ(name, traces)
    return ViewportSet(name, order, tuple(traces), report)


def _check_differ(name: str, traces: Sequence[ViewportTrace]) -> None:
    """Raise `InputError` for equal traces, which would count as different people or videos."""
    known: dict[str, ViewportTrace] = {}
    for trace in traces:
        first = known.setdefault(trace.sha256, trace)
        if (first.video, first.user) != (trace.video, trace.user):
            raise InputError(
                f"traces of {name} must differ, got equal angles of "
                f"video {first.video % MOST_NUMBERS} user {first.user % MOST_NUMBERS} and "
                f"video {trace.video % MOST_NUMBERS} user {trace.user % MOST_NUMBERS}"
            )
