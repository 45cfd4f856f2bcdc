"""Write files and folders whole or not at all, one process at a time, and read files of anybody.

A file is first written as `.NAME.part` in its folder and then renamed. The name is always the same,
so that the next process finds and removes what a killed one has left.
Failures of the machine, such as a full disk or a folder without write permission, raise OSError,
and the error names the file or folder that was to be written.
"""

import errno
import json
import os
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import ZipFile

from netllm_gym.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MOST_BYTES = 2**32  # of a file, and of what is inflated from an archive
MOST_JSON_BYTES = 2**30
_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # some network file systems


def open_regular(path: Path, most_bytes: int = MOST_BYTES) -> BinaryIO:
    """Open a file of anybody, which might also be a pipe or a device without an end.

    Raises:
        InputError: If it is no regular file, or has more than `most_bytes`.
        OSError: If it cannot be opened.
    """
    check_regular(path, most_bytes)
    return path.open("rb")


def check_regular(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Raise `InputError` where `open_regular` does, for a file that a library opens."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise InputError(f"{path} must be a file, got {kind}")
    if found.st_size > most_bytes:
        raise InputError(f"{path} must have at most {most_bytes} bytes, got {found.st_size}")


def read_regular(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the bytes of a file of anybody, at most `most_bytes`; see `open_regular`."""
    with open_regular(path, most_bytes) as file:
        return file.read(os.fstat(file.fileno()).st_size)  # `read` makes room for all it is told


def check_archive(archive: ZipFile, most_bytes: int) -> None:
    """Refuse an archive that inflates to too much, or that has two members of one name.

    Reading a member never gives more bytes than its entry says, so the entries can be trusted here.
    """
    members = archive.infolist()
    names = {member.filename for member in members}
    if len(names) < len(members):
        raise InputError(f"members must have different names, got {len(members)} of {len(names)}")
    inflated = sum(member.file_size for member in members)
    if inflated > most_bytes:
        raise InputError(f"members must have at most {most_bytes} bytes, got {inflated}")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: If it is no file, or its content is not JSON.
        OSError: If the file cannot be read.
    """
    data = read_regular(path, MOST_JSON_BYTES)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # no JSON, no text, or nested without end
        raise InputError(f"{path} must be JSON, got {one_line(error)}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Write or replace a file. A kill or a power cut leaves the old or the new one, whole."""
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
    """Write or replace a folder. A kill leaves the old or the new one, whole.

    Args:
        folder: The folder, which is made with its parents if it does not exist.
        write: Called with an empty folder to fill. If it raises, `folder` stays as it was.
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
    """Remove what a kill during `replace_folder` left, and put back what it had moved."""
    shutil.rmtree(part_of(folder), ignore_errors=True)
    old = _old(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.replace(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to a folder, which is made if it does not exist.

    The lock is the system's, on the folder itself: any death of this process frees it, and nothing
    is left behind. A folder that was made and is still empty at the end is removed.

    Raises:
        InputError: If another process has the lock, or the path is that of a file.
    """
    check_can_be_folder("out", folder)
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    handle = None if fcntl is None else os.open(folder, os.O_RDONLY)
    try:
        if handle is not None:
            _lock(folder, handle)
        yield
    finally:
        if handle is not None:
            os.close(handle)
        for each in made:
            with suppress(OSError):  # it holds something
                each.rmdir()


def _lock(folder: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"out must be written by one command at a time, got {folder}, "
            "which is in use by another process"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(f"{folder} cannot be locked: run no other command on it", stacklevel=4)


def part_of(path: Path) -> Path:
    """Return the path under which a file or folder is written before it is renamed."""
    return path.with_name(f".{path.name}.part")


def check_can_be_folder(name: str, path: Path) -> None:
    """Raise `InputError` if a path is a file or is below one."""
    above = next((each for each in (path, *path.parents) if each.exists()), path)
    if above.exists() and not above.is_dir():
        raise InputError(f"{name} must be a folder, got {path}, but {above} is a file")


@contextmanager
def errors_begin_with(where: Path | str) -> Iterator[None]:
    """Let every `InputError` begin with where the wrong value is, such as the path of a file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError name the file or folder that was to be written.

    A full disk names none, and the name of a `.part` would not help, because it is removed.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename).is_relative_to(part_of(path)):
            said = error.strerror or one_line(error)
            raise OSError(error.errno, said, str(path)) from None
        raise


def one_line(error: BaseException) -> str:
    """Return the message of an error of another library as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def counted(number: int, noun: str) -> str:
    """Return a number of things in words, as in `1 trace` and `2 traces`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def printable(text: str) -> str:
    """Return text from outside as one line that does nothing to a terminal but show letters.

    Line breaks, escape codes, marks that turn the direction of writing, and bytes of file names
    that are not UTF-8 become backslash escapes.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")
