"""Videos: the bitrate ladder, the length and the size of every chunk on every rung.

A folder holds `video_size_0`, `video_size_1`, ... (rung 0 is the lowest), with one whole number of
bytes in each line. The files do not say how long a chunk lasts and which bitrates the rungs have.
`video.json` beside them does, or whoever names the folder (`VideoOptions`); published folders are
recognised by their contents (`known_videos.json`). Of length and ladder, one follows from the sizes
and the other. Nothing else is assumed. DASH manifests are read too (`dash.py`).
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.abr.dash import read_manifest
from netllm_gym.data.abr.synthetic import generate_chunk_sizes
from netllm_gym.data.datasets import data_folder, find_data
from netllm_gym.data.published import how_to_fetch
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.typed_json import read_checked, short

PENSIEVE_LADDER_MBPS = (0.3, 0.75, 1.2, 1.85, 2.85, 4.3)
PENSIEVE_CHUNK_S = 4.0
PLAYED_CHUNKS = 48  # of the reference videos
DESCRIPTION = "video.json"
MOST_APART = 1.5  # factor between a ladder's bitrates and those of the sizes
_STEP_S = 0.5  # a length that follows from a ladder, which is nominal, is a multiple of this


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
        object.__setattr__(self, "chunk_s", _checked_lengths(self.chunk_s, self.num_chunks))
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
            _checked_lengths(self.chunk_s, 1)
        if self.ladder_mbps is not None:
            numbers = _numbers("ladder_mbps", self.ladder_mbps)
            object.__setattr__(self, "ladder_mbps", tuple(numbers.ravel().tolist()))

    def refuse(self, *names: str, why: str) -> None:
        """Refuse options that would contradict what is known."""
        for name in names or [each.name for each in fields(self)]:
            if getattr(self, name) is not None:
                raise InputError(f"{name} must be left out for {why}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class _Description:
    """The content of `video.json`."""

    chunk_s: float | list[float] | None = None
    ladder_mbps: list[float] | None = None
    num_chunks: int | None = None
    quality: list[list[float]] | None = None


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
    """Read the files `video_size_0`, `video_size_1`, ... of a folder.

    Args:
        folder: Holds the files, and `video.json` if whoever made them wrote it.
        options: What is said of the folder; it counts before `video.json`, and both count before
            what is known of published folders.

    Raises:
        InputError: If the files are broken, or nobody says what chunk length and ladder are.
    """
    options = options or VideoOptions()
    size_bytes = _size_files(folder)
    path = folder / DESCRIPTION
    found = _known_videos().get(_contents(size_bytes), _Description())
    if path.is_file():
        stated = read_checked(path, _Description)
        found = replace(found, **{name: it for name, it in vars(stated).items() if it is not None})
    chunk_s = found.chunk_s if options.chunk_s is None else options.chunk_s
    ladder_mbps = found.ladder_mbps if options.ladder_mbps is None else options.ladder_mbps
    num_chunks = len(size_bytes) if found.num_chunks is None else found.num_chunks
    with errors_begin_with(folder):
        if not 2 <= num_chunks <= len(size_bytes):
            raise InputError(
                f"num_chunks must be in 2..{len(size_bytes)}, the chunks listed, got {num_chunks}"
            )
        _check_rises(size_bytes[:num_chunks])
        if chunk_s is None and ladder_mbps is None:
            raise InputError(
                "chunk_s or ladder_mbps must be stated, in video.json beside the sizes or as an "
                "option (--chunk-s 4, --ladder-mbps 0.3,0.75,1.2), got neither"
            )
        remarks: tuple[str, ...] = ()
        mbit = size_bytes[:num_chunks].sum(axis=0) * 8e-6  # (rungs,)
        if chunk_s is None:
            assert ladder_mbps is not None
            chunk_s = _length_of(mbit / num_chunks, _ladder(ladder_mbps, len(mbit)))
            remarks = (f"chunk_s of the video {folder.name} follows from its ladder: {chunk_s:g}",)
        lengths = np.broadcast_to(_checked_lengths(chunk_s, num_chunks), num_chunks)
        mean_mbps = mbit / lengths.sum()
        if ladder_mbps is None:
            ladder_mbps = mean_mbps
            text = ", ".join(f"{each:.3g}" for each in mean_mbps)
            remarks = (f"ladder_mbps of the video {folder.name} follows from its sizes: {text}",)
        _check_fits(_ladder(ladder_mbps, len(mbit)), mean_mbps)
        video = Video(
            folder.name,
            size_bytes,
            np.array(ladder_mbps),
            num_chunks,
            chunk_s if isinstance(chunk_s, float | int) else np.array(chunk_s),
            None if found.quality is None else _numbers("quality", found.quality),
            remarks,
        )
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


def _size_files(folder: Path) -> IntArray:
    """Return (chunks, rungs) the sizes that the files of a folder list."""
    paths = sorted(folder.glob("video_size_*"), key=lambda path: (len(path.name), path.name))
    expected = [folder / f"video_size_{rung}" for rung in range(max(len(paths), 2))]
    if paths != expected:
        raise InputError(
            f"video folder {folder} must hold video_size_0, video_size_1 and so on, "
            f"got {', '.join(path.name for path in paths) or 'none'}"
        )
    columns = [_read_sizes(path) for path in paths]
    for path, column in zip(paths, columns, strict=True):
        if len(column) != len(columns[0]):
            raise InputError(
                f"{path} must list as many chunks as {paths[0].name}, "
                f"got {len(column)} instead of {len(columns[0])}"
            )
    if len(columns[0]) < 2:
        raise InputError(f"{paths[0]} must list two or more chunks, got {len(columns[0])}")
    return np.array(columns, np.int64).T


def _read_sizes(path: Path) -> list[int]:
    sizes = []
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        is_whole = len(fields) == 1 and fields[0].isascii() and fields[0].isdigit()
        if not is_whole or len(fields[0]) > 10:  # ten gigabytes or more
            raise InputError(
                f"{path}:{number}: a line must be one whole number of bytes, got {line[:60]!r}"
            )
        sizes.append(int(fields[0]))
    return sizes


@cache
def _known_videos() -> dict[str, _Description]:
    """Return what is known of published folders, by the hash of their sizes."""
    text = resources.files("netllm_gym.data.abr").joinpath("known_videos.json").read_text("utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    return {
        entry["sha256"]: _Description(entry["chunk_s"], entry["ladder_mbps"], entry["num_chunks"])
        for entry in entries
    }


def _contents(size_bytes: IntArray) -> str:
    """Return the SHA-256 of sizes as decimal lines, rung by rung, however the lines end."""
    lines = "\n".join(map(str, size_bytes.T.ravel().tolist()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _check_rises(size_bytes: IntArray) -> None:
    """Refuse rungs whose mean size falls: their files are in the wrong order."""
    mean_bytes = size_bytes.mean(axis=0)
    falls = np.flatnonzero(np.diff(mean_bytes) <= 0)
    if len(falls):
        rung = int(falls[0])
        raise InputError(
            f"sizes must rise with the rung, video_size_0 being the lowest, got a mean of "
            f"{mean_bytes[rung + 1]:,.0f} bytes on rung {rung + 1} after {mean_bytes[rung]:,.0f} "
            f"on rung {rung}"
        )


def _ladder(ladder_mbps: "Sequence[float] | FloatArray", num_rungs: int) -> FloatArray:
    ladder = np.array(ladder_mbps, np.float64)
    if ladder.shape != (num_rungs,) or not (ladder > 0).all():
        raise InputError(
            f"ladder_mbps must be {num_rungs} bitrates above 0, one per file of sizes, "
            f"got {ladder.tolist()}"
        )
    return ladder


def _length_of(mean_mbit: FloatArray, ladder_mbps: FloatArray) -> float:
    """Return the chunk length at which sizes have the bitrates of a ladder."""
    seconds = float(np.median(mean_mbit / ladder_mbps))
    return max(_STEP_S, round(seconds / _STEP_S) * _STEP_S)


def _check_fits(ladder_mbps: FloatArray, mean_mbps: FloatArray) -> None:
    """Refuse a ladder that is far from the mean bitrates of the sizes."""
    factor = np.maximum(ladder_mbps / mean_mbps, mean_mbps / ladder_mbps)
    rung = int(factor.argmax())
    if factor[rung] > MOST_APART:
        raise InputError(
            f"ladder_mbps and chunk_s must fit the sizes to within a factor of {MOST_APART}, got "
            f"{ladder_mbps[rung]:.4g} Mbit/s on rung {rung}, whose chunks have "
            f"{mean_mbps[rung]:.4g}: a factor of {factor[rung]:.3g}"
        )


def _checked_lengths(chunk_s: Any, num_chunks: int) -> float | FloatArray:
    """Return a chunk length as a float, or lengths as an array; one length is written as one."""
    lengths = _numbers("chunk_s", chunk_s)
    if not ((lengths > 0) & np.isfinite(lengths)).all():
        raise InputError(f"chunk_s must be above 0, got {short(chunk_s)}")
    if lengths.ndim == 0:
        return float(lengths)
    if lengths.ndim > 1 or len(lengths) < num_chunks:
        raise InputError(
            f"chunk_s must be one number or one per chunk, {num_chunks} in all, "
            f"got shape {lengths.shape}"
        )
    if (lengths == lengths[0]).all():
        return float(lengths[0])
    lengths.flags.writeable = False
    return lengths


def _checked_quality(quality: Any, video: Video) -> FloatArray:
    table = _numbers("quality", quality)
    wanted = (video.num_chunks, video.num_rungs)
    if table.ndim != 2 or table.shape[1] != wanted[1] or len(table) < wanted[0]:
        raise InputError(
            f"quality must have {wanted[0]} rows, one per chunk, and {wanted[1]} columns, one per "
            f"rung, got shape {table.shape}"
        )
    if not np.isfinite(table).all():
        raise InputError("quality must be finite, got a number that is not")
    table.flags.writeable = False
    return table


def _with_quality(video: Video, options: VideoOptions) -> Video:
    """Return a video with the qualities of the file that the options name, if they do."""
    if options.quality_file is None:
        return video
    path = Path(options.quality_file)
    if not path.is_file():
        raise InputError(f"quality_file must be a file, got {str(path)!r}")
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


def _numbers(name: str, value: Any) -> FloatArray:
    """Return numbers as float64; refuse what is none."""
    try:
        numbers = np.array(value)
    except ValueError:  # rows of different lengths
        raise InputError(f"{name} must be numbers in rows of one length, got others") from None
    if numbers.dtype.kind not in "iuf":
        raise InputError(f"{name} must be numbers, got {short(value)}")
    return numbers.astype(np.float64)
