"""Features of videos' frames, such as the output of an image encoder or a saliency map.

A folder holds a file `video<v>.npz` for each video, with `features` (K, D), a row for each frame,
and `frequency_hz`, the rows per second of video.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.configs import check
from netllm_gym.data.npz import read_npz
from netllm_gym.errors import InputError

_FILE_NAME = re.compile(r"video(\d{1,6})\.npz")


@dataclass(frozen=True, eq=False)
class VideoFeatures:
    """Features of the frames of some videos.

    Attributes:
        rows: Number of a video -> (K, D) float32. D is the same for all videos.
        frequency_hz: Number of a video -> rows per second.
    """

    rows: Mapping[int, Float32Array]
    frequency_hz: Mapping[int, float]

    @cached_property
    def sha256(self) -> str:
        """Return a hash of all rows, with their videos and frequencies."""
        digest = hashlib.sha256()
        for video in sorted(self.rows):
            rows = self.rows[video]
            digest.update(repr((video, rows.shape, self.frequency_hz[video])).encode())
            digest.update(np.ascontiguousarray(rows, "<f4").tobytes())
        return digest.hexdigest()

    @property
    def size(self) -> int:
        """Return D, the number of features of a frame."""
        return int(next(iter(self.rows.values())).shape[1])

    def check_has(self, videos: IntArray) -> None:
        """Raise `InputError` if there are no features for one of the videos."""
        for video in np.unique(videos).tolist():
            if video not in self.rows:
                raise InputError(f"features must have video {video}, got {sorted(self.rows)}")

    def at(self, video: IntArray, time_s: FloatArray) -> Float32Array:
        """Return (B, T, D) features of the frames on the screen; the last stays after the end.

        Args:
            video: (B,) numbers of videos.
            time_s: (B, T) seconds since the video began.
        """
        found = np.empty((*time_s.shape, self.size), np.float32)
        for number in np.unique(video).tolist():
            rows, here = self.rows[number], video == number
            frame = np.floor(time_s[here] * self.frequency_hz[number] + 1e-9).astype(np.int64)
            found[here] = rows[frame.clip(0, len(rows) - 1)]
        return found


def read_features(folder: Path) -> VideoFeatures:
    """Read a folder of features.

    Raises:
        InputError: If a file is damaged, a number is not finite, or videos differ in D.
    """
    if not folder.is_dir():
        raise InputError(f"features must be a folder of video<v>.npz, got {folder}")
    rows: dict[int, Float32Array] = {}
    frequency_hz: dict[int, float] = {}
    names: dict[int, str] = {}
    for path in sorted(folder.iterdir()):
        named = _FILE_NAME.fullmatch(path.name)
        if named is None:
            continue
        first = names.setdefault(int(named[1]), path.name)
        if first != path.name:
            raise InputError(
                f"features must hold one file for video {int(named[1])}, "
                f"got {first} and {path.name} in {folder}"
            )
        arrays = read_npz(path, {"features": ("fiu", 2), "frequency_hz": ("fiu", 0)})
        features, frequency = arrays["features"].astype(np.float32), float(arrays["frequency_hz"])
        is_finite = features.size > 0 and bool(np.isfinite(features).all())
        check(is_finite, f"features of {path}", "be finite numbers", features.shape)
        check(0.0 < frequency <= 1000.0, f"frequency_hz of {path}", "be in 0..1000", frequency)
        rows[int(named[1])], frequency_hz[int(named[1])] = features, frequency
        width = next(iter(rows.values())).shape[1]
        columns = features.shape[1]
        check(columns == width, f"features of {path}", f"have {width} columns", columns)
    if not rows:
        raise InputError(f"features must be a folder of video<v>.npz, got none in {folder}")
    return VideoFeatures(rows, frequency_hz)
