"""Head movements of people who watch 360-degree videos, and the windows cut from them.

A trace is one person watching one video: roll, pitch and yaw in degrees, `FREQUENCY_HZ` times a
second. A window is a history and the future after it, both from one trace. An `InputReport` counts
what the readers repair or leave out; every table shows it.

The default windows and trims are those of NetLLM (SIGCOMM 2024).
"""

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.configs import check
from netllm_gym.data.vp.angles import angles_of, check_order, matrices
from netllm_gym.data.vp.video_features import VideoFeatures
from netllm_gym.errors import InputError

FREQUENCY_HZ = 5
LONGEST_PAUSE_S = 1.0  # a longer one is a gap, which no window crosses
MOST_SAMPLES = 1_000_000  # two days and more
STRETCH = 10  # consecutive samples with movement; two people never have so many in common
STRETCHES_KEPT = 8  # pieces kept of a trace; a half of it shares about 4 of them


@dataclass(frozen=True, eq=False)
class ViewportTrace:
    """One person watching one video.

    A trace has no gaps if it was read from a file with times. Packed sets have no times, so gaps in
    them cannot be detected.

    Attributes:
        video: Number of the video.
        user: Number of the person.
        angles_deg: (n, 3) float32 roll, pitch and yaw.
        first_sample: Samples of the video that passed before the first one.
    """

    video: int
    user: int
    angles_deg: Float32Array
    first_sample: int = 0

    @cached_property
    def sha256(self) -> str:
        """Return a hash of the angles, rounded to a hundredth of a degree."""
        hundredths = np.rint(self.angles_deg.astype(np.float64) * 100).astype("<i4")
        return hashlib.sha256(hundredths.tobytes()).hexdigest()

    @cached_property
    def known_by(self) -> frozenset[str]:
        """Return hashes of the whole trace and of some short pieces, by which parts are recognised.

        A piece is `STRETCH` rows with movement, rounded to a tenth of a degree. The pieces with the
        smallest hashes are kept, so that a part of the trace keeps the same ones.
        """
        hundredths = np.rint(self.angles_deg.astype(np.float64) * 100).astype(np.int64)
        tenths = (hundredths % 36_000 // 10).astype("<i4")  # -180 and 180 degrees are one
        moved = np.ones(len(tenths), np.bool_)
        moved[1:] = (tenths[1:] != tenths[:-1]).any(axis=1)
        rows = tenths[moved]
        stretches = {
            hashlib.blake2b(rows[begin : begin + STRETCH].tobytes(), digest_size=8).hexdigest()
            for begin in range(len(rows) - STRETCH + 1)
        }
        return frozenset([self.sha256, *sorted(stretches)[:STRETCHES_KEPT]])


@dataclass(frozen=True)
class InputReport:
    """Counts of what was repaired or left out when the files of a set were read.

    Attributes:
        traces_back_in_time: Traces in which the time goes backwards or stands still.
        rows_back_in_time: Rows left out because they are not later than all rows before them.
        rows_not_finite: Rows left out because they hold no finite angles.
        rows_out_of_range: Rows with angles beyond -180..180, or pitch beyond -90..90, which were
            replaced by the same orientation within the range.
        gaps: Pauses above 1 s, at which a trace was cut in two.
        files_in_milliseconds: Recordings whose times were taken as milliseconds.
        files_in_radians: Recordings whose angles were taken as radians.
        files_thinned: Cooked recordings with more rows a second than `FREQUENCY_HZ`, of which only
            so many were kept.
    """

    traces_back_in_time: int = 0
    rows_back_in_time: int = 0
    rows_not_finite: int = 0
    rows_out_of_range: int = 0
    gaps: int = 0
    files_in_milliseconds: int = 0
    files_in_radians: int = 0
    files_thinned: int = 0

    def __add__(self, other: "InputReport") -> "InputReport":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return InputReport(*(one + another for one, another in pairs))

    def sentences(self) -> list[str]:
        """Return a sentence for each count above 0."""
        counts = dataclasses.asdict(self)
        return [said.format(**counts) for name, said in _SAID.items() if counts[name]]


_SAID = {
    "rows_back_in_time": "{rows_back_in_time} rows left out of {traces_back_in_time} traces whose "
    "time goes backwards",
    "rows_not_finite": "{rows_not_finite} rows without finite angles left out",
    "rows_out_of_range": "{rows_out_of_range} rows of angles out of range turned back into it",
    "gaps": "traces cut at {gaps} gaps above 1 s",
    "files_in_milliseconds": "times of {files_in_milliseconds} recordings taken as milliseconds",
    "files_in_radians": "angles of {files_in_radians} recordings taken as radians, because all are "
    "within +-pi or 0 to 2 pi",
    "files_thinned": f"{{files_thinned}} recordings thinned to {FREQUENCY_HZ} rows a second",
}


@dataclass(frozen=True, eq=False)
class ViewportSet:
    """A set of traces.

    Attributes:
        name: The name under which it was loaded.
        euler_order: Euler order of the angles; see `data/vp/angles.py`.
        traces: At least one.
        report: What was repaired or left out when the files were read.
        features: Features of the videos' frames, if there are any.
    """

    name: str
    euler_order: str
    traces: tuple[ViewportTrace, ...]
    report: InputReport = InputReport()
    features: VideoFeatures | None = None

    def __post_init__(self) -> None:
        check_order(self.euler_order)
        if not self.traces:
            raise InputError(f"dataset must hold traces, got none in {self.name}")

    def in_order(self, euler_order: str) -> "ViewportSet":
        """Return the same orientations as angles of another Euler order."""
        check_order(euler_order)
        if euler_order == self.euler_order:
            return self

        def turned(trace: ViewportTrace) -> ViewportTrace:
            angles = angles_of(matrices(trace.angles_deg, self.euler_order), euler_order)
            return dataclasses.replace(trace, angles_deg=angles.astype(np.float32))

        traces = tuple(turned(trace) for trace in self.traces)
        return dataclasses.replace(self, euler_order=euler_order, traces=traces)

    def provenance(self) -> dict[str, Any]:
        """Return what identifies the set and its recordings, as JSON values."""
        digest = hashlib.sha256("".join(trace.sha256 for trace in self.traces).encode())
        seen = {} if self.features is None else {"features_sha256": self.features.sha256}
        return {
            **seen,
            "dataset": self.name,
            "euler_order": self.euler_order,
            "recordings": sorted(frozenset().union(*(trace.known_by for trace in self.traces))),
            "sha256": digest.hexdigest(),
        }


@dataclass(frozen=True)
class WindowConfig:
    """Which windows are cut from a trace. All lengths are in samples.

    A trace of n samples has a window at each t = trim_head, trim_head + stride, ... below
    n - trim_tail. Its history is the samples before t, and its future the samples from t on.

    Attributes:
        history: Samples that are seen.
        future: Samples that are predicted.
        trim_head: First sample at which a future may begin, at least `history`.
        trim_tail: Samples at the end at which no future may begin, at least `future`.
        stride: Samples from one window to the next.
    """

    history: int = 10
    future: int = 20
    trim_head: int = 30
    trim_tail: int = 30
    stride: int = 15

    def __post_init__(self) -> None:
        for name, least, called in (
            ("history", 2, ""),
            ("future", 1, ""),
            ("trim_head", self.history, "history, "),
            ("trim_tail", self.future, "future, "),
            ("stride", 1, ""),
        ):
            value = getattr(self, name)
            check(value <= MOST_SAMPLES, name, f"be at most {MOST_SAMPLES}", value)
            check(value >= least, name, f"be at least {called}{least}", value)

    def dense(self, stride: int) -> "WindowConfig":
        """Return the windows to train on: every `stride` samples of a whole trace."""
        return dataclasses.replace(
            self, trim_head=self.history, trim_tail=self.future, stride=stride
        )


class ViewportWindows:
    """All windows of a set, cut as `config` says; they share the memory of common samples.

    Attributes:
        trace: (N,) the trace of each window.
        start: (N,) where its future begins in the trace.
        video: (N,) number of the video.
        user: (N,) number of the person.
        too_short: Traces that give no window.
    """

    def __init__(self, dataset: ViewportSet, config: WindowConfig) -> None:
        self.dataset, self.config = dataset, config
        lengths = np.array([len(trace.angles_deg) for trace in dataset.traces])  # (T,)
        room = np.maximum(lengths - config.trim_tail - config.trim_head, 0)
        counts = -(-room // config.stride)  # (T,) rounded up
        self.too_short = int((counts == 0).sum())
        if self.too_short == len(lengths):
            raise InputError(
                f"traces of {dataset.name} must have more than {config.trim_head} + "
                f"{config.trim_tail} samples, got {lengths.max()} in the longest"
            )
        self.trace = np.repeat(np.arange(len(lengths)), counts)
        nth = np.arange(len(self.trace)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.start = config.trim_head + nth * config.stride
        self._angles_deg = np.concatenate([trace.angles_deg for trace in dataset.traces])
        self._row = (np.cumsum(lengths) - lengths)[self.trace] + self.start  # (N,) of its future
        self.video = np.array([trace.video for trace in dataset.traces], np.int64)[self.trace]
        self.user = np.array([trace.user for trace in dataset.traces], np.int64)[self.trace]

    def __len__(self) -> int:
        return len(self.trace)

    def history_deg(self, windows: IntArray | slice = slice(None)) -> FloatArray:
        """Return what is seen in some windows: (B, history, 3)."""
        return self._cut(windows, -self.config.history, 0)

    def future_deg(self, windows: IntArray | slice = slice(None)) -> FloatArray:
        """Return what is to be predicted: (B, future, 3)."""
        return self._cut(windows, 0, self.config.future)

    def content(self, windows: IntArray | slice = slice(None)) -> Float32Array | None:
        """Return features of the frames that were shown at each sample of the history.

        (B, history, D), or None for a set without any.
        """
        features = self.dataset.features
        if features is None:
            return None
        first = np.array([trace.first_sample for trace in self.dataset.traces])[self.trace[windows]]
        sample = (first + self.start[windows])[:, None] + np.arange(-self.config.history, 0)
        return features.at(self.video[windows], sample / FREQUENCY_HZ)

    @property
    def recordings(self) -> list[frozenset[str]]:
        """Return for each trace the hashes by which it and its parts are recognised."""
        return [trace.known_by for trace in self.dataset.traces]

    @property
    def groups(self) -> tuple[IntArray, IntArray]:
        """Return the video and the user of each window, (N,) each and numbered from 0.

        Windows of one video or one user are not independent.
        """
        video, user = (
            np.unique(ids, return_inverse=True)[1].astype(np.int64)
            for ids in (self.video, self.user)
        )
        return video, user

    @property
    def described(self) -> dict[str, Any]:
        """Return how the windows were cut and their Euler order, for the case of a table."""
        return {**dataclasses.asdict(self.config), "euler_order": self.dataset.euler_order}

    @property
    def groups_text(self) -> str:
        """Return the numbers of videos and users in words."""
        videos, users = (int(group.max()) + 1 for group in self.groups)
        return f"{videos} videos and {users} users"

    def report(self) -> list[str]:
        """Return sentences on what was repaired or left out, and on traces without windows."""
        said = self.dataset.report.sentences()
        if self.too_short:
            said.append(f"{self.too_short} traces too short for a window")
        return said

    def _cut(self, windows: IntArray | slice, begin: int, end: int) -> FloatArray:
        rows = self._row[windows][:, None] + np.arange(begin, end)  # (B, end - begin)
        return np.asarray(self._angles_deg[rows], np.float64)


def cut_at_gaps(
    video: int, user: int, time_s: FloatArray, angles_deg: FloatArray
) -> list[ViewportTrace]:
    """Return the pieces of a recording, (n,) rising times and (n, 3) angles, between its gaps."""
    gaps = np.flatnonzero(np.diff(time_s) > LONGEST_PAUSE_S)
    borders = [0, *(gaps + 1).tolist(), len(time_s)]
    return [
        ViewportTrace(
            video=video,
            user=user,
            angles_deg=angles_deg[begin:end].astype(np.float32),
            first_sample=max(0, math.floor(float(time_s[begin]) * FREQUENCY_HZ + 0.5)),
        )
        for begin, end in pairwise(borders)
    ]
