"""Read the index of segments in a media file: the sidx boxes of MP4 (ISO/IEC 14496-12)."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from netllm_gym.errors import InputError

MOST_BOXES = 400_000  # of a file that is searched for its index
MOST_INDEX_BYTES = 1_000_000  # 65,535 entries of 12 bytes


class IndexEntry(NamedTuple):
    """What the index says about one segment."""

    size_bytes: int
    length_s: float


def read_index(path: Path, begin: int, end: int) -> Iterator[IndexEntry]:
    """Yield the segments that the sidx boxes between two places of a file list, in order.

    Raises:
        InputError: If an index is cut, lists other indexes, or has a segment of no length.
    """
    with path.open("rb") as file:
        for box in _boxes(file, begin, end):
            yield from _entries(box, path.name)


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    """Yield the content of each sidx box of an MP4 file between two places."""
    for _ in range(MOST_BOXES):
        file.seek(begin)
        head = file.read(16)
        if begin + 8 > end or len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        head_size = 8
        if size == 1 and len(head) == 16:  # the size follows, in eight bytes
            size, head_size = struct.unpack(">Q", head[8:])[0], 16
        if size < head_size:  # 0 is a box up to the end of the file, which is no index
            return
        if kind == b"sidx":
            file.seek(begin + head_size)
            yield file.read(min(size - head_size, MOST_INDEX_BYTES))
        begin += size


def _entries(box: bytes, name: str) -> Iterator[IndexEntry]:
    """Yield the entries of a sidx box.

    It holds version and flags, a number, the timescale, then a time and an offset of 4 bytes each,
    or of 8 in version 1, then the count of entries behind 2 bytes that are not used.
    """
    begin = 16 + (8 if box[:1] == b"\0" else 16)  # of the entries, of 12 bytes each
    timescale = int.from_bytes(box[8:12], "big")
    count = int.from_bytes(box[begin - 2 : begin], "big")
    entries = box[begin : begin + 12 * count]
    if len(box) < begin or len(entries) < 12 * count or timescale == 0:
        raise InputError(f"must have a whole index (sidx box) in {name}, got a broken one")
    for word, duration, _ in struct.iter_unpack(">III", entries):
        if word >> 31:
            raise InputError(f"must have an index of segments in {name}, got an index of indexes")
        if duration == 0:
            raise InputError(f"must have segments longer than 0 s in {name}, got one of 0 s")
        yield IndexEntry(word, duration / timescale)
