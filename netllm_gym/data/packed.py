"""Files of other programs, plain or packed by gzip."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from netllm_gym.errors import InputError
from netllm_gym.files import one_line

MAGIC = b"\x1f\x8b"


@contextmanager
def open_unpacked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, unpacked if it is packed by gzip; its name does not matter.

    Raises:
        InputError: If what is packed is damaged.
    """
    with path.open("rb") as file:
        is_packed = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        unpacked: Any = gzip.GzipFile(fileobj=file) if is_packed else file
        try:
            yield unpacked
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{path} must be packed by gzip, got {one_line(error)}") from None
