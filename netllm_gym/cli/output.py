"""What the commands print: text from outside does nothing to the terminal that shows it."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

from netllm_gym.files import printable


@contextmanager
def plain_output() -> Iterator[None]:
    """Let whatever is printed to standard output in the context show as text, line by line."""
    with redirect_stdout(_PlainLines(sys.stdout)):
        yield


class _PlainLines(io.TextIOBase):
    """Writes to a stream, with all but line breaks made `printable`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write("\n".join(printable(line) for line in text.split("\n")))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
