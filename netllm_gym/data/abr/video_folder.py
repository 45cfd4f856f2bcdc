"""Folders of chunk sizes: what their files say, and what follows from it.

A folder holds `video_size_0`, `video_size_1`, ... (rung 0 is the lowest), with one whole number of
bytes in each line. The files do not say how long a chunk lasts and which bitrates the rungs have.
`video.json` beside them does, or whoever names the folder; published folders are recognised by
their contents (`known_videos.json`). Of length and ladder, one follows from the sizes and the
other. Nothing else is assumed.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.files import check_regular, errors_begin_with
from netllm_gym.typed_json import read_checked, short

DESCRIPTION = "video.json"
MOST_CHUNK_S = 3600.0  # of one chunk; more is in another unit
MOST_APART = 1.5  # factor between a ladder's bitrates and those of the sizes
_STEP_S = 0.5  # a length that follows from a ladder, which is nominal, is a multiple of this


@dataclass(frozen=True)
class Description:
    """The content of `video.json`."""

    chunk_s: float | list[float] | None = None
    ladder_mbps: list[float] | None = None
    num_chunks: int | None = None
    quality: list[list[float]] | None = None


class FolderContent(NamedTuple):
    """What is known of a folder."""

    size_bytes: IntArray  # (chunks or more, rungs)
    ladder_mbps: FloatArray  # (rungs,)
    num_chunks: int
    chunk_s: float | FloatArray  # of each chunk, or (chunks or more,)
    quality: FloatArray | None  # (chunks or more, rungs)
    remarks: tuple[str, ...]


def read_folder(
    folder: Path,
    asked_chunk_s: float | None = None,
    asked_ladder_mbps: Sequence[float] | None = None,
) -> FolderContent:
    """Read the files of a folder.

    Args:
        folder: Holds the files, and `video.json` if whoever made them wrote it.
        asked_chunk_s: Length of a chunk; it counts before `video.json`, and that before what is
            known of published folders.
        asked_ladder_mbps: Bitrates, likewise.

    Raises:
        InputError: If the files are broken, or nobody says what chunk length and ladder are.
    """
    size_bytes = _size_files(folder)
    found = _known_videos().get(_contents(size_bytes), Description())
    if (folder / DESCRIPTION).exists():
        stated = read_checked(folder / DESCRIPTION, Description, "the description")
        found = replace(found, **{name: it for name, it in vars(stated).items() if it is not None})
    if asked_chunk_s is not None:
        found = replace(found, chunk_s=asked_chunk_s)
    if asked_ladder_mbps is not None:
        found = replace(found, ladder_mbps=list(asked_ladder_mbps))
    with errors_begin_with(folder):
        return _completed(size_bytes, found, folder.name)


def _completed(size_bytes: IntArray, found: Description, name: str) -> FolderContent:
    """Return what a description says, with what follows from it and the sizes."""
    chunk_s, ladder_mbps = found.chunk_s, found.ladder_mbps
    num_chunks = len(size_bytes) if found.num_chunks is None else found.num_chunks
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
    mbit = size_bytes[:num_chunks].mean(axis=0) * 8e-6  # (rungs,) of a chunk
    if chunk_s is None:
        chunk_s = _length_of(mbit, _ladder(ladder_mbps, len(mbit)))
        remarks = (f"chunk_s of the video {name} follows from its ladder: {chunk_s:g}",)
    lengths = checked_lengths(chunk_s, num_chunks)
    mean_mbps = mbit / np.mean(lengths if isinstance(lengths, float) else lengths[:num_chunks])
    if ladder_mbps is None:
        ladder_mbps = mean_mbps.tolist()
        text = ", ".join(f"{each:.3g}" for each in mean_mbps)
        remarks = (f"ladder_mbps of the video {name} follows from its sizes: {text}",)
    ladder = _ladder(ladder_mbps, len(mbit))
    _check_fits(ladder, mean_mbps)
    quality = None if found.quality is None else numbers("quality", found.quality)
    return FolderContent(size_bytes, ladder, num_chunks, lengths, quality, remarks)


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


@cache
def _known_videos() -> dict[str, Description]:
    """Return what is known of published folders, by the hash of their sizes."""
    text = resources.files("netllm_gym.data.abr").joinpath("known_videos.json").read_text("utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    return {
        entry["sha256"]: Description(entry["chunk_s"], entry["ladder_mbps"], entry["num_chunks"])
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


def _ladder(ladder_mbps: Any, num_rungs: int) -> FloatArray:
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


def checked_lengths(chunk_s: Any, num_chunks: int) -> float | FloatArray:
    """Return a chunk length as a float, or lengths as an array; one length is written as one."""
    lengths = numbers("chunk_s", chunk_s)
    if not ((lengths > 0) & (lengths <= MOST_CHUNK_S)).all():
        rule = f"be above 0 and at most {MOST_CHUNK_S:g} s"
        raise InputError(f"chunk_s must {rule}, got {short(chunk_s)}")
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


def numbers(name: str, value: Any) -> FloatArray:
    """Return numbers as float64; refuse what is none."""
    try:
        numbers = np.array(value)
    except ValueError:  # rows of different lengths
        raise InputError(f"{name} must be numbers in rows of one length, got others") from None
    if numbers.dtype.kind not in "iuf":
        raise InputError(f"{name} must be numbers, got {short(value)}")
    return numbers.astype(np.float64)
