"""Read files of head movements: packed sets, NetLLM's CSV folders, and raw logs of quaternions.

`docs/formats.md` describes the formats. Rows that are not later than all rows before them, or that
are not finite, are left out. Angles out of range are replaced by equal ones within it. Times in
milliseconds and angles in radians are recognised by their size, and recordings with more than
`FREQUENCY_HZ` rows a second are thinned. Traces are cut in two at gaps. All of these are counted.
Packed sets have no times, so only the range of their angles is checked.
"""

import csv
import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.npz import read_npz
from netllm_gym.data.vp.angles import PITCH, in_range_deg, of_quaternions, wrapped_deg
from netllm_gym.data.vp.viewport import (
    FREQUENCY_HZ,
    LONGEST_PAUSE_S,
    InputReport,
    ViewportSet,
    ViewportTrace,
    cut_at_gaps,
)
from netllm_gym.errors import InputError
from netllm_gym.files import read_regular

MOST = {"time": 1e13, "angle": 1e9}  # a clock of milliseconds since 1970 shows less
MILLISECONDS = (4.0, 250.0)  # steps of a clock that counts them; in seconds, these would be pauses
NEAR = 0.1  # so far may the frequency of a cooked file be from `FREQUENCY_HZ`, as a share of it
TIME_NAME, QUATERNION_NAMES = "PlaybackTime", tuple(f"UnitQuaternion.{axis}" for axis in "xyzw")
_BRACKETS = "()[]{}\"' "


@dataclass(frozen=True)
class Format:
    """A kind of recording: where its files lie in a folder, and what their rows hold.

    Attributes:
        place: Where a file lies, for people.
        glob: The same for `Path.glob`, without `**`, so that linked folders are followed.
        path: The same with the groups `video` and `user`, and `experiment` if videos are numbered
            in each experiment anew.
        columns: Of the time and then of roll, pitch, yaw or of a quaternion's x, y, z, w. None
            looks for `TIME_NAME` and `QUATERNION_NAMES` in the header.
        header: Lines before the first row.
        delimiter: Between columns.
        lists: Whether a quaternion is a list in brackets, in one quoted column or in several.
        clock_runs_on: Whether the time has to be counted from the first row.
        netllm_thins: Whether the log is thinned as NetLLM does, where rows after a pause fill the
            missed fifths of a second.
    """

    place: str
    glob: str
    path: re.Pattern[str]
    columns: tuple[int, ...] | None
    header: int = 0
    delimiter: str = ","
    lists: bool = False
    clock_runs_on: bool = True
    netllm_thins: bool = False

    @property
    def is_cooked(self) -> bool:
        """Return whether there are angles at about `FREQUENCY_HZ`, in NetLLM's Euler order."""
        return self.columns is not None and len(self.columns) == 4


COOKED = Format(
    place="video<v>/5Hz/simple_5Hz_user<u>.csv",
    glob="video*/5Hz/simple_5Hz_user*.csv",
    path=re.compile(r"video(?P<video>\d{1,6})/5Hz/simple_5Hz_user(?P<user>\d{1,6})\.csv"),
    columns=(0, 1, 2, 3),
)
WU2017 = Format(
    place="Experiment_<e>/<u>/video_<v>.csv",
    glob="Experiment_[12]/*/video_[0-8].csv",
    path=re.compile(
        r"Experiment_(?P<experiment>[12])/(?P<user>\d{1,6})/video_(?P<video>[0-8])\.csv"
    ),
    columns=None,
    header=1,
    clock_runs_on=False,
    netllm_thins=True,
)
JIN2022 = Format(
    place="V2 (<u>)/<a>_<b>_<v>.csv",
    glob="V2 (*)/*",
    path=re.compile(r"V2 \((?P<user>\d{1,6})\)/[^/_]*_[^/_]*_(?P<video>\d{1,6})(?:[_.][^/]*)?"),
    columns=(0, 4, 5, 6, 7),
    header=1,
    lists=True,
    netllm_thins=True,
)
# Its axes are x back, y right and z up for the head, and x ahead, y left and z up for the world.
# Written in ours, the quaternion w, x, y, z is (x, w, y, z) in the order x, y, z, w.
CORBILLON2017 = Format(
    place="uid-<u>/test<t>/<v>/<v>_<t>.txt",
    glob="uid-*/test*/*/*.txt",
    path=re.compile(r"uid-(?P<user>[^/]+)/test\d+/(?P<video>[^/]+)/(?P=video)_\d+\.txt"),
    columns=(0, 3, 2, 4, 5),
    delimiter=" ",
)
FORMATS = (COOKED, WU2017, JIN2022, CORBILLON2017)


class Found(NamedTuple):
    """A file that is a recording, by its place."""

    path: Path
    format: Format
    video: int
    user: int


class Samples(NamedTuple):
    """The rows of a recording that are kept."""

    time_s: FloatArray  # (n,) rising
    values: FloatArray  # (n, 3) angles or (n, 4) quaternions
    report: InputReport


def read_packed(
    path: Path, videos: Collection[int], users: Collection[int]
) -> tuple[ViewportTrace, ...]:
    """Read the traces of some videos and users from a packed file."""
    numbers = {"offsets": ("i", 1), "video": ("iu", 1), "user": ("iu", 1)}
    arrays = read_npz(path, {"angles_delta_cdeg": ("i", 2), **numbers})
    steps, offsets = arrays["angles_delta_cdeg"], arrays["offsets"].astype(np.int64)
    counts = {len(arrays["video"]), len(arrays["user"]), len(offsets) - 1}
    fits = steps.dtype == np.int16 and steps.shape[0] == 3 and len(counts) == 1
    if not fits or (np.diff(offsets) < 1).any() or offsets[0] or offsets[-1] != steps.shape[1]:
        raise InputError(
            f"{path} must hold traces of one row or more, laid end to end, as int16 (3, N)"
        )
    traces = []
    for number, (video, user) in enumerate(
        zip(arrays["video"].tolist(), arrays["user"].tolist(), strict=True)
    ):
        if video in videos and user in users:
            cut = steps[:, offsets[number] : offsets[number + 1]]
            # Differences were taken modulo 2^16, which a sum in int16 undoes.
            hundredths = np.cumsum(cut, axis=1, dtype=np.int16)
            angles = hundredths.T.astype(np.float32) / np.float32(100.0)
            if (np.abs(angles) > (180.0, 90.0, 180.0)).any():
                raise InputError(
                    f"{path} must hold roll and yaw within +-180 and pitch within +-90, "
                    f"got {np.abs(angles).max(axis=0).tolist()} in trace {number}"
                )
            traces.append(ViewportTrace(video, user, angles))
    return tuple(traces)


def read_folder(folder: Path, euler_order: str | None) -> ViewportSet:
    """Read all recordings in a folder, as angles of an Euler order.

    Args:
        folder: The folder.
        euler_order: That quaternions become; None for "yxz". Cooked files keep theirs, "zxy".

    Raises:
        InputError: If there are no recordings, two of one video and user, or one that is broken.
    """
    found = find_recordings(folder)
    if not found:
        places = [each.place for each in FORMATS]
        raise InputError(
            f"dataset must be a folder with {', '.join(places[:-1])} or {places[-1]}, "
            f"got none in {folder}"
        )
    first: dict[tuple[int, int], Path] = {}
    for path, _, video, user in found:
        other = first.setdefault((video, user), path)
        if other is not path:
            raise InputError(
                f"dataset must hold one file for video {video} and user {user}, "
                f"got {other} and {path}"
            )
    read = [read_samples(each.path, each.format) for each in found]
    pairs = list(zip(found, read, strict=True))
    cooked = [samples.values for each, samples in pairs if each.format.is_cooked]
    in_radians = bool(cooked) and _look_like_radians(np.concatenate(cooked))
    order = "zxy" if cooked else euler_order or "yxz"
    traces: list[ViewportTrace] = []
    report = InputReport()
    for each, samples in pairs:
        pieces, said = as_traces(each, samples, order, in_radians)
        traces += pieces
        report += said
    return ViewportSet(str(folder), order, tuple(traces), report)


def find_recordings(folder: Path) -> list[Found]:
    """Return the files of a folder that lie where recordings do, in the order of their paths."""
    found: list[Found] = []
    for kind in FORMATS:
        named = {
            path: match
            for path in folder.glob(kind.glob)
            if (match := kind.path.fullmatch(path.relative_to(folder).as_posix()))
        }
        videos, users = (
            _numbers({match[what] for match in named.values()}) for what in ("video", "user")
        )
        for path, match in named.items():
            video = videos[match["video"]]
            if "experiment" in match.groupdict():  # numbers from 0; NetLLM has 1-9 and 10-18
                video += 9 * (int(match["experiment"]) - 1) + 1
            found.append(Found(path, kind, video, users[match["user"]]))
    return sorted(found, key=lambda each: each.path)


def _numbers(names: Collection[str]) -> dict[str, int]:
    """Return the number of each name: what it says, or its place in the alphabet from 1."""
    if all(name.isdecimal() for name in names):
        return {name: int(name) for name in names}
    return {name: place for place, name in enumerate(sorted(names), start=1)}


def read_samples(path: Path, kind: Format) -> Samples:
    """Read the rows of a file that can be kept, with their times in seconds of the video.

    Raises:
        InputError: If the file is not a table of numbers, in which case the error names the line,
            or its times are not those of a log with at least `FREQUENCY_HZ` rows a second.
    """
    time, values = _columns(path, kind)
    good = np.isfinite(time) & (np.abs(values) <= MOST["angle"]).all(axis=1)
    if not kind.is_cooked:
        good &= np.linalg.norm(np.where(good[:, None], values, 0.0), axis=1) > 1e-6
    not_finite = int(np.count_nonzero(~good))
    time, values = time[good], values[good]
    if not len(time):
        raise InputError(f"{path} must hold rows with finite numbers, got none")
    if np.abs(time).max() > MOST["time"]:
        raise InputError(
            f"times of {path} must be within +-{MOST['time']:g}, got {np.abs(time).max():g}"
        )
    if kind.clock_runs_on:
        time = time - time[0]
    steps = np.diff(time)
    steps = steps[steps > 0.0]
    in_ms = bool(len(steps) and MILLISECONDS[0] <= np.median(steps) <= MILLISECONDS[1])
    time_s = time / 1000.0 if in_ms else time
    begins = int(np.argmax(time_s < 1.0))  # rows before are of what was played earlier
    time_s, values = time_s[begins:], values[begins:]
    later = np.ones(len(time_s), np.bool_)
    later[1:] = time_s[1:] > np.maximum.accumulate(time_s)[:-1]
    back = int((~later).sum())
    time_s, values = time_s[later], values[later]
    kept = _thinned(path, time_s, kind)
    if not len(kept):
        raise InputError(f"times of {path} must reach 0, where the video begins, got none")
    report = InputReport(
        traces_back_in_time=int(back > 0),
        rows_back_in_time=back,
        rows_not_finite=not_finite,
        files_in_milliseconds=int(in_ms),
        files_thinned=int(kind.is_cooked and len(kept) < len(time_s)),
    )
    return Samples(time_s[kept], values[kept], report)


def as_traces(
    found: Found, samples: Samples, order: str, in_radians: bool = False
) -> tuple[list[ViewportTrace], InputReport]:
    """Return the traces of a recording, and what was repaired in it or left out.

    Quaternions become angles of Euler order `order`; `in_radians` is about cooked files.
    """
    values, in_radians = samples.values, in_radians and found.format.is_cooked
    if not found.format.is_cooked:
        values = of_quaternions(values, order)
    elif in_radians:
        values = np.rad2deg(values)
    beyond = np.abs(values) > np.array([180.0, 90.0, 180.0])
    moved = np.any(beyond, axis=1, keepdims=True)  # (n, 1)
    within = np.where(moved, in_range_deg(values), values)
    pieces = cut_at_gaps(found.video, found.user, samples.time_s, within)
    report = InputReport(
        rows_out_of_range=int(np.count_nonzero(moved)),
        gaps=len(pieces) - 1,
        files_in_radians=int(in_radians),
    )
    return pieces, samples.report + report


def _look_like_radians(angles: FloatArray) -> bool:
    """Return whether angles (n, 3) are in radians: within +-pi, or from 0 to just below 2 pi.

    In degrees, they would be those of heads that all keep to one direction, within a few degrees.
    """
    least, largest = angles.min(), np.abs(angles).max()
    is_turn = least >= 0.0 and 6.1 <= largest <= 2.0 * np.pi + 1e-3
    pitch_deg = wrapped_deg(np.rad2deg(angles[:, PITCH]))
    within = 0.0 < largest <= np.pi + 1e-3 or is_turn
    return bool(within and (np.abs(pitch_deg) <= 90.1).all())


def _thinned(path: Path, time_s: FloatArray, kind: Format) -> IntArray:
    """Return the rows to keep: the first one at or after each fifth of a second.

    A cooked file of about `FREQUENCY_HZ` keeps all of its rows.
    """
    steps_s = np.diff(time_s)
    connected_s = steps_s[steps_s <= LONGEST_PAUSE_S]
    if len(steps_s):
        found_s = connected_s if len(connected_s) else steps_s
        # The mean alone would be misled by rows that are missing here and there.
        if min(found_s.mean(), np.median(found_s)) * FREQUENCY_HZ * (1.0 - NEAR) > 1.0:
            raise InputError(
                f"{path} must have {FREQUENCY_HZ} rows a second or more, "
                f"got one in {found_s.mean():.3g} s, if its times are in seconds"
            )
        if kind.is_cooked and found_s.mean() * FREQUENCY_HZ * (1.0 + NEAR) >= 1.0:
            return np.arange(len(time_s))
    kept: list[int] = []
    fifth = 0
    for row, time in enumerate(time_s.tolist()):
        now = time * FREQUENCY_HZ
        if now >= fifth - 1e-6:
            kept.append(row)
            fifth = 1 + (fifth if kind.netllm_thins else math.floor(now + 1e-6))
    return np.array(kept, np.int64)


def _columns(path: Path, kind: Format) -> tuple[FloatArray, FloatArray]:
    """Return the times (n,) and the angles (n, 3) or quaternions (n, 4) of a file."""
    try:
        text = read_regular(path).decode().splitlines()
        lines = list(csv.reader(text, delimiter=kind.delimiter, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path} must be a table of text, got something else") from None
    if kind.lists:  # taken apart, one quoted column or several are the same
        lines = [",".join(line).split(",") for line in lines]
    columns = kind.columns
    if columns is None:
        names = [name.strip() for name in lines[0]] if lines else []
        missing = [name for name in (TIME_NAME, *QUATERNION_NAMES) if name not in names]
        if missing:
            raise InputError(f"{path}:1: the header must name {missing[0]}, got none")
        columns = tuple(names.index(name) for name in (TIME_NAME, *QUATERNION_NAMES))
    rows = []
    for number, line in enumerate(lines[kind.header :], start=kind.header + 1):
        if not any(cell.strip() for cell in line):
            continue
        try:
            rows.append([float(line[column].strip(_BRACKETS)) for column in columns])
        except (ValueError, IndexError):
            raise InputError(
                f"{path}:{number}: a row must have numbers in columns "
                f"{', '.join(str(column + 1) for column in sorted(columns))}, "
                f"got {kind.delimiter.join(line)[:60]!r}"
            ) from None
    table = np.array(rows, np.float64).reshape(len(rows), len(columns))
    return table[:, 0], table[:, 1:]
