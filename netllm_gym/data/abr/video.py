"""Videos: the bitrate ladder and the size of every chunk on every rung.

A folder holds `video_size_0`, `video_size_1`, ... (rung 0 is the lowest), with one whole number of
bytes in each line. Pensieve's files list one chunk more than is played, which only its MPC reads.
DASH manifests are read too (`dash.py`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.abr.dash import read_manifest
from netllm_gym.data.abr.synthetic import generate_chunk_sizes
from netllm_gym.data.datasets import data_folder, find_data
from netllm_gym.data.published import how_to_fetch
from netllm_gym.errors import InputError
from netllm_gym.files import check_regular, errors_begin_with

PENSIEVE_LADDER_MBPS = (0.3, 0.75, 1.2, 1.85, 2.85, 4.3)
PLAYED_CHUNKS = 48  # of the reference videos


@dataclass(frozen=True, eq=False)
class Video:
    """One video in all its encodings.

    Attributes:
        name: What tables call it.
        size_bytes: (chunks or more, rungs) above 0; rows past `num_chunks` are never downloaded.
        ladder_mbps: (rungs,) nominal bitrates, rising.
        num_chunks: Chunks that are played.
        chunk_s: Playback length of a chunk.
    """

    name: str
    size_bytes: IntArray
    ladder_mbps: FloatArray
    num_chunks: int
    chunk_s: float = 4.0

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
        if not 0 < self.chunk_s < np.inf:
            raise InputError(f"chunk_s must be above 0, got {self.chunk_s}")
        for column in (size_bytes, ladder_mbps):
            column.flags.writeable = False  # shared by every environment that plays it
        object.__setattr__(self, "size_bytes", size_bytes)
        object.__setattr__(self, "ladder_mbps", ladder_mbps)

    @property
    def num_rungs(self) -> int:
        """Number of bitrates on offer."""
        return len(self.ladder_mbps)


def video_names() -> list[str]:
    """Return every name that `load_video` knows on this machine."""
    folder = data_folder() / "abr" / "videos"
    found = (
        sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    )
    return ["synthetic", *found]


def load_video(name: str | Path | Video) -> Video:
    """Return a video by its name (`synthetic`, `video1`), folder of chunk sizes, or manifest."""
    if isinstance(name, Video):
        return name
    if str(name) == "synthetic":
        ladder_mbps = np.array(PENSIEVE_LADDER_MBPS)
        sizes = generate_chunk_sizes(ladder_mbps, PLAYED_CHUNKS + 1, chunk_s=4.0, seed=2024)
        return Video("synthetic", sizes, ladder_mbps, PLAYED_CHUNKS)
    if isinstance(name, str) and "/" not in name and name in video_names():
        return read_video_folder(find_data("abr", "videos", name))
    if Path(name).suffix == ".mpd" and Path(name).is_file():
        return read_mpd(Path(name))
    if not Path(name).is_dir():
        raise InputError(
            f"video must be a folder or one of {', '.join(video_names())}, or an .mpd file, "
            f"got {str(name)!r}{how_to_fetch(f'abr/videos/{name}')}"
        )
    return read_video_folder(Path(name))


def read_video_folder(folder: Path) -> Video:
    """Read the files `video_size_0`, `video_size_1`, ... of a folder.

    Six files have Pensieve's bitrate ladder. With another number of files, the bitrate of a rung is
    the mean bitrate of its file.
    """
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
    size_bytes = np.array(columns, np.int64).T
    num_chunks = len(size_bytes) - 1 if len(size_bytes) == PLAYED_CHUNKS + 1 else len(size_bytes)
    if len(paths) == len(PENSIEVE_LADDER_MBPS):
        ladder_mbps = np.array(PENSIEVE_LADDER_MBPS)
    else:
        ladder_mbps = size_bytes[:num_chunks].mean(axis=0) * 8e-6 / 4.0
    with errors_begin_with(folder):
        return Video(folder.name, size_bytes, ladder_mbps, num_chunks)


def read_mpd(path: Path) -> Video:
    """Read a DASH manifest whose segment sizes are known. All its segments are played."""
    manifest = read_manifest(path)
    if not isinstance(manifest.chunk_s, float):  # the simulator plays chunks of one length
        raise InputError(f"{path} must have segments of one length, got several")
    with errors_begin_with(path):
        return Video(
            path.stem,
            manifest.size_bytes,
            manifest.ladder_mbps,
            len(manifest.size_bytes),
            manifest.chunk_s,
        )


def _read_sizes(path: Path) -> list[int]:
    check_regular(path)
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
