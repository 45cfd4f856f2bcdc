"""Read the index of segments in a media file: the sidx boxes of MP4 (ISO/IEC 14496-12)."""

import os
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


class _Index(NamedTuple):
    """A sidx box."""

    begin: int  # in the file
    end: int  # from here on, offsets count
    content: bytes


class _Reference(NamedTuple):
    """An entry of a sidx box."""

    is_index: bool  # of another sidx box, not of a segment
    begin: int  # in the file
    size_bytes: int
    length_s: float


def read_index(path: Path, begin: int, end: int) -> Iterator[IndexEntry]:
    """Yield the segments that the sidx boxes between two places of a file list, in order.

    A box may list other sidx boxes in place of segments; these may lie anywhere in the file.

    Raises:
        InputError: If an index is cut, lists what is no index, or has a segment of no length.
    """
    with path.open("rb") as file:
        seen: set[int] = set()
        for index in _boxes(file, begin, end):
            if index.begin not in seen:
                yield from _segments(file, index, seen, path.name)


def _segments(file: BinaryIO, index: _Index, seen: set[int], name: str) -> Iterator[IndexEntry]:
    """Yield the segments of an index and of those that it lists.

    Args:
        file: That has the index.
        index: The outermost one.
        seen: Where the indexes lie that were read; gains those that are read now.
        name: Of the file.
    """
    file_bytes = os.fstat(file.fileno()).st_size
    seen.add(index.begin)
    pending = [_references(index, name)]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
        elif not entry.is_index:
            if entry.length_s == 0:
                raise InputError(f"must have segments longer than 0 s in {name}, got one of 0 s")
            yield IndexEntry(entry.size_bytes, entry.length_s)
        else:
            end = min(entry.begin + entry.size_bytes, file_bytes)
            inner = next(_boxes(file, entry.begin, end), None)
            if inner is None or inner.begin in seen or len(seen) > MOST_BOXES:
                raise InputError(
                    f"must have an index (sidx box) at byte {entry.begin} of {name}, which another "
                    "lists, got none or one that was read before"
                )
            seen.add(inner.begin)
            pending.append(_references(inner, name))


def _boxes(file: BinaryIO, begin: int, end: int) -> Iterator[_Index]:
    """Yield each sidx box of an MP4 file between two places."""
    for _ in range(MOST_BOXES):
        if begin + 8 > end:
            return
        file.seek(begin)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        head_size = 8
        if size == 1 and len(head) == 16:  # the size follows, in eight bytes
            size, head_size = struct.unpack(">Q", head[8:])[0], 16
        if size < head_size:  # 0 is a box up to the end of the file, which is no index
            return
        if kind == b"sidx":
            file.seek(begin + head_size)
            content = file.read(min(size - head_size, MOST_INDEX_BYTES))
            yield _Index(begin, begin + size, content)
        begin += size


def _references(index: _Index, name: str) -> Iterator[_Reference]:
    """Yield the entries of a sidx box.

    It holds version and flags, a number, the timescale, then a time and an offset of 4 bytes each,
    or of 8 in version 1, then the count of entries behind 2 bytes that are not used.
    """
    box = index.content
    width = 4 if box[:1] == b"\0" else 8  # of the time and the offset
    first = 16 + 2 * width  # of the entries, of 12 bytes each
    timescale = int.from_bytes(box[8:12], "big")
    begin = index.end + int.from_bytes(box[12 + width : 12 + 2 * width], "big")
    count = int.from_bytes(box[first - 2 : first], "big")
    entries = box[first : first + 12 * count]
    if len(box) < first or len(entries) < 12 * count or timescale == 0:
        raise InputError(f"must have a whole index (sidx box) in {name}, got a broken one")
    for word, duration, _ in struct.iter_unpack(">III", entries):
        size = word & 0x7FFFFFFF
        yield _Reference(bool(word >> 31), begin, size, duration / timescale)
        begin += size
