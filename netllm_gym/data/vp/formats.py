"""Read files of head movements: packed sets, NetLLM's CSV folders, and raw logs of quaternions.

`docs/formats.md` describes the formats. Rows that are not later than all rows before them, or that
are not finite, are left out. Angles out of range are replaced by equal ones within it. Traces are
cut in two at gaps. All of these are counted. Packed sets have no times, so only the range of their
angles is checked.
"""

import csv
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.npz import read_npz
from netllm_gym.data.vp.angles import in_range_deg, of_quaternions
from netllm_gym.data.vp.viewport import FREQUENCY_HZ, InputReport, ViewportTrace, cut_at_gaps
from netllm_gym.errors import InputError

_COOKED = re.compile(r"video(?P<video>\d{1,6})/5Hz/simple_5Hz_user(?P<user>\d{1,6})\.csv")
# Wu2017 numbers the videos of each experiment from 0; NetLLM has 1-9 and 10-18 of them.
_WU2017 = re.compile(
    r"Experiment_(?P<experiment>[12])/(?P<user>\d{1,6})/video_(?P<video>[0-8])\.csv"
)
_JIN2022 = re.compile(r"V2 \((?P<user>\d{1,6})\)/[^/_]*_[^/_]*_(?P<video>\d{1,6})(?:[_.][^/]*)?")
_TIME, _QUATERNION = "PlaybackTime", tuple(f"UnitQuaternion.{axis}" for axis in "xyzw")
_JIN2022_COLUMNS = (0, 4, 5, 6, 7)  # time, then the quaternion as a bracketed list
_BRACKETS = "()[]{}\"' "


class Recording(NamedTuple):
    """The traces of one file, and what was repaired in it or left out."""

    pieces: Sequence[ViewportTrace]
    report: InputReport


def read_packed(
    path: Path, videos: Collection[int], users: Collection[int]
) -> tuple[ViewportTrace, ...]:
    """Read the traces of some videos and users from a packed file.

    Raises:
        InputError: If the file is damaged.
    """
    arrays = read_npz(
        path,
        {
            "angles_delta_cdeg": ("i", 2),
            "offsets": ("i", 1),
            "video": ("iu", 1),
            "user": ("iu", 1),
        },
    )
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


def find_recordings(folder: Path) -> dict[Path, tuple[str, int, int]]:
    """Return the files of a folder that are recordings: path -> kind, video, user."""
    found: dict[Path, tuple[str, int, int]] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder).as_posix()
        if not path.is_file():
            continue
        if named := _COOKED.fullmatch(below):
            found[path] = ("cooked", int(named["video"]), int(named["user"]))
        elif named := _WU2017.fullmatch(below):
            video = 9 * (int(named["experiment"]) - 1) + int(named["video"]) + 1
            found[path] = ("wu2017", video, int(named["user"]))
        elif named := _JIN2022.fullmatch(below):
            found[path] = ("jin2022", int(named["video"]), int(named["user"]))
    return found


def read_recording(path: Path, kind: str, video: int, user: int, order: str) -> Recording:
    """Read one file.

    Args:
        path: The file.
        kind: "cooked" angles at 5 Hz, in NetLLM's order whatever `order` says, or raw logs of
            quaternions: "wu2017" or "jin2022".
        video: Number of the video.
        user: Number of the person.
        order: Euler order of the angles that quaternions become.

    Raises:
        InputError: If the file is not a table of numbers. The error names the line.
    """
    time_s, values = _columns(path, kind)
    finite = np.isfinite(np.column_stack([time_s, values])).all(axis=1)
    if kind != "cooked":
        finite = finite & (np.linalg.norm(values, axis=1) > 1e-6)
    not_finite = int(np.count_nonzero(~finite))
    time_s, values = time_s[finite], values[finite]
    if kind != "wu2017" and len(time_s):  # Jin2022's clock ran on over all videos of a person
        time_s = time_s - time_s[0]
    if kind != "cooked" and len(time_s):
        begins = int(np.argmax(time_s < 1.0))  # rows before are of what was played earlier
        time_s, values = time_s[begins:], values[begins:]
    later = np.ones(len(time_s), np.bool_)
    later[1:] = time_s[1:] > np.maximum.accumulate(time_s)[:-1]
    back = int((~later).sum())
    time_s, values = time_s[later], values[later]
    if not len(time_s):
        raise InputError(f"{path} must hold rows with finite numbers, got none")
    if kind != "cooked":
        kept = _at_5_hz(time_s)
        time_s, values = time_s[kept], of_quaternions(values[kept], order)
    within = in_range_deg(values)
    beyond = np.abs(values) > np.array([180.0, 90.0, 180.0])
    moved = np.any(beyond, axis=1, keepdims=True)  # (n, 1)
    pieces = cut_at_gaps(video, user, time_s, np.where(moved, within, values))
    report = InputReport(
        traces_back_in_time=int(back > 0),
        rows_back_in_time=back,
        rows_not_finite=not_finite,
        rows_out_of_range=int(np.count_nonzero(moved)),
        gaps=len(pieces) - 1,
    )
    return Recording(pieces, report)


def _at_5_hz(time_s: FloatArray) -> IntArray:
    """Return the rows to keep: the first one at or after each fifth of a second, as in NetLLM.

    Each row is used once, so after a pause the rows that follow it fill the missed fifths.
    """
    kept: list[int] = []
    tick = 0
    for row, time in enumerate(time_s.tolist()):
        if time * FREQUENCY_HZ >= tick - 1e-6:
            kept.append(row)
            tick += 1
    return np.array(kept, np.int64)


def _columns(path: Path, kind: str) -> tuple[FloatArray, FloatArray]:
    """Return the times (n,) and the angles (n, 3) or quaternions (n, 4) of a file."""
    try:
        lines = list(csv.reader(path.read_text("utf-8").splitlines()))
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path} must be a table of text, got something else") from None
    first, wanted = 1, tuple(range(4))
    if kind == "wu2017":
        names = [name.strip() for name in lines[0]] if lines else []
        missing = [name for name in (_TIME, *_QUATERNION) if name not in names]
        if missing:
            raise InputError(f"{path}:1: the header must name {missing[0]}, got none")
        first, wanted = 2, tuple(names.index(name) for name in (_TIME, *_QUATERNION))
    elif kind == "jin2022":
        first, wanted = 2, _JIN2022_COLUMNS
        # The list may be one quoted field or several: taken apart, it is several.
        lines = [",".join(line).split(",") for line in lines]
    rows = []
    for number, line in enumerate(lines[first - 1 :], start=first):
        if not any(cell.strip() for cell in line):
            continue
        try:
            rows.append([float(line[column].strip(_BRACKETS)) for column in wanted])
        except (ValueError, IndexError):
            raise InputError(
                f"{path}:{number}: a row must have numbers in columns "
                f"{', '.join(str(column + 1) for column in wanted)}, got {','.join(line)[:60]!r}"
            ) from None
    table = np.array(rows, np.float64).reshape(len(rows), len(wanted))
    return table[:, 0], table[:, 1:]
