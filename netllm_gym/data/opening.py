"""Open files of other programs: regular files of bounded size, plain or packed by gzip."""

import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from netllm_gym.errors import InputError
from netllm_gym.files import MOST_BYTES, open_regular

MOST_LINES = 20_000_000
LONGEST_LINE = 2**24  # characters: other programs write JSON on one line

_BLOCK = 2**20  # bytes
_NO_UTF8 = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of other bytes
_OTHERS = {  # how files begin that are no text
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a file packed by bzip2",
    b"\xfd7zXZ": "a file packed by xz",
    b"\x28\xb5\x2f\xfd": "a file packed by zstd",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


@contextmanager
def open_unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, unpacked if it is packed by gzip; its name does not matter.

    Raises:
        InputError: If it is no regular file, is packed otherwise, or is damaged.
    """
    with open_regular(path) as file:
        begin = file.read(8)
        for other, said in _OTHERS.items():
            if begin.startswith(other):
                raise InputError(f"{path} must be UTF-8 text, perhaps packed by gzip, got {said}")
        is_packed = begin.startswith(b"\x1f\x8b")
        file.seek(0)
        try:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_packed else file
        except _DAMAGED as error:
            raise InputError(f"{path} must be packed by gzip, got {error}") from None


def read_unpacked(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a file, unpacked if it is packed by gzip.

    Raises:
        InputError: If it is no regular file, is damaged, or holds more than `most_bytes`.
    """
    blocks: list[bytes] = []
    num_bytes = 0
    with open_unpacked(path) as file:
        while block := file.read(_BLOCK):  # `read` makes room for all that it is asked for
            num_bytes += len(block)
            if num_bytes > most_bytes:
                raise InputError(f"{path} must hold at most {most_bytes:,} bytes, got more")
            blocks.append(block)
    return b"".join(blocks)


@contextmanager
def open_lines(path: Path) -> Iterator[Iterator[str]]:
    """Open a text file, unpacked if it is packed by gzip, and give its lines.

    Raises:
        InputError: If it is no regular file, is damaged, is no UTF-8, or exceeds a bound.
    """
    with (
        open_unpacked(path) as plain,
        # Undecodable bytes are let through here, so that they can be refused with their line.
        io.TextIOWrapper(plain, encoding="utf-8-sig", errors="surrogateescape") as text,
    ):
        is_packed = isinstance(plain, gzip.GzipFile)
        is_small = not is_packed and path.stat().st_size <= min(LONGEST_LINE, MOST_LINES)
        yield _readable(path, text if is_small else _bounded(path, text))


def _readable(path: Path, lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if not line.isascii() and (wrong := _NO_UTF8.search(line)):
            byte = ord(wrong.group()) - 0xDC00
            raise InputError(
                f"{path}:{number}: a line must be UTF-8 text, got the byte 0x{byte:02x}"
            )
        yield line


def _bounded(path: Path, text: IO[str]) -> Iterator[str]:
    number = characters = 0
    while True:
        number += 1
        line = text.readline(LONGEST_LINE + 1)
        if not line:
            return
        characters += len(line)
        if len(line) > LONGEST_LINE:
            raise InputError(
                f"{path}:{number}: a line must have at most {LONGEST_LINE:,} characters, got more"
            )
        if number > MOST_LINES or characters > MOST_BYTES:
            raise InputError(
                f"{path} must have at most {MOST_LINES:,} lines and {MOST_BYTES:,} characters, "
                "got more: split it"
            )
        yield line
