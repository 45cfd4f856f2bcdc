"""Files: what is written appears whole or not at all; JSON from outside is read or refused.

A file that is being written lies beside its place under a name of its own, `.NAME.part`, always the
same one, so what a killed process leaves behind is found and taken away by the next.
A machine that fails (a full disk, a folder that may not be written to) raises OSError, and the
error names the file or folder that was to be written.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from netllm_gym.errors import InputError


def read_json(path: Path) -> Any:
    """Read a JSON file that anybody may have written.

    Raises:
        InputError: If it is no JSON.
        OSError: If it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # no JSON, no text, or nested without end
        raise InputError(f"{path} must be JSON, got {one_line(error)}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place, whole: after a kill or a power cut there is the old or the new one."""
    part = part_of(path)
    try:
        with naming(path):
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            if os.name == "posix":  # the new name itself must reach the disk too
                handle = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a new folder beside `folder`, then put it in its place; a kill leaves a whole one.

    Args:
        folder: Made, with its parents, or replaced as a whole.
        write: Told the empty folder to fill; if it raises, `folder` stays as it was.
    """
    try:
        with naming(folder):
            recover_folder(folder)
            new = part_of(folder)
            new.mkdir(parents=True)
            write(new)
            if folder.exists():
                folder.replace(_old(folder))
            new.replace(folder)
    finally:
        recover_folder(folder)


def recover_folder(folder: Path) -> None:
    """Take away what a kill within `replace_folder` left, and put back what it had moved."""
    shutil.rmtree(part_of(folder), ignore_errors=True)
    old = _old(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.replace(folder)


def part_of(path: Path) -> Path:
    """Return where a file or folder lies while it is being written."""
    return path.with_name(f".{path.name}.part")


def check_can_be_folder(name: str, path: Path) -> None:
    """Refuse a path that is a file, or that lies below one."""
    above = next((each for each in (path, *path.parents) if each.exists()), path)
    if above.exists() and not above.is_dir():
        raise InputError(f"{name} must be a folder, got {path}, but {above} is a file")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let a failure of the machine name what was being written.

    A full disk names nothing, and a part is gone when its name is read.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename).is_relative_to(part_of(path)):
            said = error.strerror or one_line(error)
            raise OSError(error.errno, said, str(path)) from None
        raise


def one_line(error: Exception) -> str:
    """Return what an error of another library says, as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
