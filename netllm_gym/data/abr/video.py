"""Videos: the bitrate ladder, the length and the size of every chunk on every rung.

A video is generated, or comes from a folder of chunk sizes (`video_folder.py`) or a DASH manifest
(`dash.py`).
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.abr.dash import read_manifest
from netllm_gym.data.abr.synthetic import generate_chunk_sizes
from netllm_gym.data.abr.video_folder import checked_lengths, numbers, read_folder
from netllm_gym.data.datasets import data_folder, find_data
from netllm_gym.data.published import how_to_fetch
from netllm_gym.errors import InputError
from netllm_gym.files import check_regular, errors_begin_with
from netllm_gym.typed_json import short

PENSIEVE_LADDER_MBPS = (0.3, 0.75, 1.2, 1.85, 2.85, 4.3)
PENSIEVE_CHUNK_S = 4.0
PLAYED_CHUNKS = 48  # of the reference videos
_MOST_MBPS = 1000.0  # of a rung; more is a bitrate in kbit/s


@dataclass(frozen=True, eq=False)
class Video:
    """One video in all its encodings.

    Attributes:
        name: What tables call it.
        size_bytes: (chunks or more, rungs) above 0; rows past `num_chunks` are never downloaded.
        ladder_mbps: (rungs,) nominal bitrates, rising.
        num_chunks: Chunks that are played.
        chunk_s: Playback length of a chunk, or (chunks or more,) the length of each.
        quality: (chunks or more, rungs) quality of each chunk, such as its VMAF, on a scale of
            one's own; None if it is not known.
        remarks: What was inferred about it, a sentence each.
    """

    name: str
    size_bytes: IntArray
    ladder_mbps: FloatArray
    num_chunks: int
    chunk_s: float | FloatArray = PENSIEVE_CHUNK_S
    quality: FloatArray | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size_bytes = np.array(self.size_bytes, np.int64, order="C")  # one layout, one compilation
        ladder_mbps = np.array(self.ladder_mbps, np.float64)
        if ladder_mbps.ndim != 1 or len(ladder_mbps) < 2 or (np.diff(ladder_mbps) <= 0).any():
            raise InputError(
                f"ladder_mbps must be two or more rising bitrates, got {ladder_mbps.tolist()}"
            )
        if not (np.isfinite(ladder_mbps).all() and ladder_mbps[0] > 0):
            raise InputError(f"ladder_mbps must be finite and above 0, got {ladder_mbps.tolist()}")
        if size_bytes.ndim != 2 or size_bytes.shape[1] != len(ladder_mbps):
            raise InputError(
                f"size_bytes must have {len(ladder_mbps)} columns, one per rung of the ladder, "
                f"got shape {size_bytes.shape}"
            )
        if not 2 <= self.num_chunks <= len(size_bytes):
            raise InputError(
                f"num_chunks must be in 2..{len(size_bytes)}, the chunks listed, "
                f"got {self.num_chunks}"
            )
        if (size_bytes <= 0).any():
            chunk, rung = np.argwhere(size_bytes <= 0)[0]
            raise InputError(
                f"size_bytes must be above 0, got {size_bytes[chunk, rung]} "
                f"for chunk {chunk} on rung {rung}"
            )
        for column in (size_bytes, ladder_mbps):
            column.flags.writeable = False  # shared by every environment that plays it
        object.__setattr__(self, "size_bytes", size_bytes)
        object.__setattr__(self, "ladder_mbps", ladder_mbps)
        object.__setattr__(self, "chunk_s", checked_lengths(self.chunk_s, self.num_chunks))
        if self.quality is not None:
            object.__setattr__(self, "quality", _checked_quality(self.quality, self))

    @property
    def num_rungs(self) -> int:
        """Number of bitrates on offer."""
        return len(self.ladder_mbps)

    @property
    def lengths_s(self) -> FloatArray:
        """(chunks,) playback length of each chunk that is played."""
        if isinstance(self.chunk_s, float):
            return np.full(self.num_chunks, self.chunk_s)
        return self.chunk_s[: self.num_chunks]

    @property
    def longest_s(self) -> float:
        """Playback length of the longest chunk."""
        return float(self.lengths_s.max())

    @property
    def duration_s(self) -> float:
        """Playback length of all chunks that are played."""
        return float(self.lengths_s.sum())


@dataclass(frozen=True)
class VideoOptions:
    """What can be said of a video whose files do not say it.

    Attributes:
        chunk_s: Playback length of a chunk, in seconds.
        ladder_mbps: Bitrates of the rungs, in Mbit/s, rising.
        quality_file: File with the quality of each chunk, for the QoE `table`: a line per chunk
            with a number per rung, separated by commas or spaces.
    """

    chunk_s: float | None = None
    ladder_mbps: tuple[float, ...] | None = None
    quality_file: str | None = None

    def __post_init__(self) -> None:
        if self.chunk_s is not None:
            if np.ndim(self.chunk_s):
                raise InputError(f"chunk_s must be one number, got {short(self.chunk_s)}")
            object.__setattr__(self, "chunk_s", checked_lengths(self.chunk_s, 1))
        if self.ladder_mbps is not None:
            bitrates = numbers("ladder_mbps", self.ladder_mbps)
            if bitrates.ndim != 1 or len(bitrates) < 2:
                raise InputError(
                    f"ladder_mbps must be two or more bitrates, got {short(self.ladder_mbps)}"
                )
            if (bitrates > _MOST_MBPS).any():
                raise InputError(
                    f"ladder_mbps must be at most {_MOST_MBPS:g} Mbit/s, got {bitrates.max():g}"
                )
            object.__setattr__(self, "ladder_mbps", tuple(bitrates.tolist()))
        if not isinstance(self.quality_file, str | Path | None):
            raise InputError(f"quality_file must be a path, got {short(self.quality_file)}")

    def refuse(self, *names: str, why: str) -> None:
        """Refuse options that would contradict what is known."""
        for name in names or [each.name for each in fields(self)]:
            if getattr(self, name) is not None:
                raise InputError(f"{name} must be left out for {why}, got {getattr(self, name)!r}")


def video_names() -> list[str]:
    """Return every name that `load_video` knows on this machine."""
    folder = data_folder() / "abr" / "videos"
    found = (
        sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    )
    return ["synthetic", *found]


def load_video(name: str | Path | Video, options: VideoOptions | None = None) -> Video:
    """Return a video by its name (`synthetic`, `video1`), folder of chunk sizes, or manifest.

    Args:
        name: Of the video.
        options: What is said of a folder; the generated video is made with length and ladder.
    """
    options = options or VideoOptions()
    if isinstance(name, Video):
        options.refuse("chunk_s", "ladder_mbps", why="a Video, which has its own")
        return _with_quality(name, options)
    if not isinstance(name, str | Path):
        raise InputError(f"video must be a name, a folder, an .mpd file or a Video, got {name!r}")
    if str(name) == "synthetic":
        return _with_quality(_synthetic(options), options)
    if isinstance(name, str) and "/" not in name and name in video_names():
        return read_video_folder(find_data("abr", "videos", name), options)
    if Path(name).suffix == ".mpd" and Path(name).is_file():
        options.refuse("chunk_s", "ladder_mbps", why="a manifest, which states its own")
        return _with_quality(read_mpd(Path(name)), options)
    if not Path(name).is_dir():
        raise InputError(
            f"video must be a folder or one of {', '.join(video_names())}, or an .mpd file, "
            f"got {str(name)!r}{how_to_fetch(f'abr/videos/{name}')}"
        )
    return read_video_folder(Path(name), options)


def _synthetic(options: VideoOptions) -> Video:
    ladder_mbps = np.array(options.ladder_mbps or PENSIEVE_LADDER_MBPS)
    chunk_s = options.chunk_s or PENSIEVE_CHUNK_S
    sizes = generate_chunk_sizes(ladder_mbps, PLAYED_CHUNKS + 1, chunk_s=chunk_s, seed=2024)
    return Video("synthetic", sizes, ladder_mbps, PLAYED_CHUNKS, chunk_s)


def read_video_folder(folder: Path, options: VideoOptions | None = None) -> Video:
    """Read the files `video_size_0`, `video_size_1`, ... of a folder; see `read_folder`."""
    options = options or VideoOptions()
    content = read_folder(folder, options.chunk_s, options.ladder_mbps)
    with errors_begin_with(folder):
        video = Video(folder.name, **content._asdict())
    return _with_quality(video, options)


def read_mpd(path: Path) -> Video:
    """Read a DASH manifest whose segment sizes are known. All its segments are played."""
    manifest = read_manifest(path)
    with errors_begin_with(path):
        return Video(
            path.stem,
            manifest.size_bytes,
            manifest.ladder_mbps,
            len(manifest.size_bytes),
            manifest.chunk_s,
        )


def _checked_quality(quality: Any, video: Video) -> FloatArray:
    table = numbers("quality", quality)
    wanted = (video.num_chunks, video.num_rungs)
    if table.ndim != 2 or table.shape[1] != wanted[1] or len(table) < wanted[0]:
        raise InputError(
            f"quality must have {wanted[0]} rows, one per chunk, and {wanted[1]} columns, one per "
            f"rung, got shape {table.shape}"
        )
    if not np.isfinite(table).all():
        chunk, rung = np.argwhere(~np.isfinite(table))[0]
        raise InputError(
            f"quality must be finite, got {table[chunk, rung]} for chunk {chunk} on rung {rung}"
        )
    table.flags.writeable = False
    return table


def _with_quality(video: Video, options: VideoOptions) -> Video:
    """Return a video with the qualities of the file that the options name, if they do."""
    if options.quality_file is None:
        return video
    path = Path(options.quality_file)
    if not path.is_file():
        raise InputError(f"quality_file must be a file, got {str(path)!r}")
    check_regular(path)
    rows = []
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1):
        fields = line.replace(",", " ").split()
        try:
            row = [float(each) for each in fields]
        except ValueError:
            raise InputError(
                f"{path}:{number}: a line must be numbers, got {short(line)}"
            ) from None
        if row and len(row) != video.num_rungs:
            raise InputError(
                f"{path}:{number}: a line must be {video.num_rungs} numbers, one per rung, "
                f"got {len(row)}"
            )
        rows += [row] if row else []
    with errors_begin_with(path):
        return replace(video, quality=np.array(rows, np.float64).reshape(-1, video.num_rungs))
