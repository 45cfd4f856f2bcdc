"""Download published data, or copy them from a clone of the repository that has them.

Every file is checked against its pinned SHA-256. Files are collected in `.fetch/NAME` inside the
data folder, and a folder is moved to its place only when it is complete. The next run continues
with what a killed one has collected.
"""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from netllm_gym.data.datasets import has_sha256
from netllm_gym.data.published import PublishedFile, PublishedSet, folders_of, published
from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.files import check_can_be_folder, one_line, read_json, read_regular, write_whole

CONNECTIONS = 8  # at a time; the files are small, so a fetch is mostly waiting
ATTEMPTS = 3
TIMEOUT_S = 30.0


class Fetched(NamedTuple):
    """Numbers of files after a fetch."""

    files: int  # in the set
    brought: int  # downloaded or copied by this run
    replaced: int  # of these, files that had another content before


def default_source() -> str:
    """Return the address below which the repository's files are served, at the pinned commit."""
    pinned = published()
    owner_and_name = pinned.repository.removeprefix("https://github.com/")
    return f"https://raw.githubusercontent.com/{owner_and_name}/{pinned.commit}"


def fetch(
    wanted: PublishedSet,
    folder: Path,
    source: str = "",
    on_file: Callable[[int, int, str], None] = lambda done, total, file: None,
) -> Fetched:
    """Download or copy one published set to a data folder, which is made if it does not exist.

    Args:
        wanted: The set.
        folder: The data folder.
        source: Address of another copy of the repository, or the folder of a clone.
        on_file: Called with the numbers of files that are there and of all, and a file's name.

    Raises:
        InputError: If `folder` holds something else under the set's names, or a clone lacks a file
            or has another. Nothing was put in place.
        OSError: If the network or the disk fails. What had come is kept for the next run.
    """
    _check_places(folder, wanted)
    missing = [file for file in wanted.files if not has_sha256(folder / file.target, file.sha256)]
    replaced = sum((folder / file.target).exists() for file in missing)
    staging = folder / ".fetch" / wanted.name
    if missing:
        bring = _bringer(source or default_source(), staging, wanted)
        present = len(wanted.files) - len(missing)
        _bring_all(missing, bring, lambda n, file: on_file(present + n, len(wanted.files), file))
        _put_in_place(missing, staging, folder)
    for target, content in wanted.writes.items():
        if not (folder / target).exists():
            text = json.dumps(content, indent=1) + "\n"
            write_whole(folder / target, text.encode())
    if staging.is_dir():
        shutil.rmtree(staging)
        if not any(staging.parent.iterdir()):
            staging.parent.rmdir()
    return Fetched(len(wanted.files), len(missing), replaced)


def _check_places(folder: Path, wanted: PublishedSet) -> None:
    """Raise `InputError` if something else in the data folder has a name of the set."""
    for place, names in wanted.folders.items():
        path = folder / place
        check_can_be_folder(place, path)
        here = {each.name for each in path.iterdir()} if path.is_dir() else set()
        if others := [name for name in sorted(here - names) if name[0] != "."]:
            raise InputError(
                f"{path} must hold the published files only, got {others[0]}: move it elsewhere"
            )
    for target, content in wanted.writes.items():
        path = folder / target
        if path.exists() and read_json(path) != content:
            raise InputError(f"{path} must be the published one, got another: move it elsewhere")


def _bringer(source: str, staging: Path, wanted: PublishedSet) -> Callable[[PublishedFile], None]:
    """Return the function that gets one file into `staging` and checks it."""
    if "://" in source:
        return _downloader(source, staging, wanted)
    clone = Path(source)
    if not clone.is_dir():
        raise InputError(f"from must be an address or the folder of a clone, got {source!r}")

    def copy(file: PublishedFile) -> None:
        if has_sha256(staging / file.target, file.sha256):
            return
        path = clone / file.source
        if not path.is_file():
            raise MissingDataError(
                f"{path} must be on this machine, got no such file: {_clone_words()}"
            )
        data = read_regular(path)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise InputError(f"{path} must be the published file, got another: {_clone_words()}")
        (staging / file.target).parent.mkdir(parents=True, exist_ok=True)
        write_whole(staging / file.target, data)

    return copy


def _downloader(
    source: str, staging: Path, wanted: PublishedSet
) -> Callable[[PublishedFile], None]:
    import pooch

    if not _is_address(source):
        raise InputError(f"from must be like https://host/folder, got {source!r}")
    pooch.get_logger().setLevel("ERROR")  # the progress bar says the rest
    addresses = {file.target: f"{source.rstrip('/')}/{quote(file.source)}" for file in wanted.files}
    for place in wanted.folders:  # pooch's own way of making them is not safe with threads
        (staging / place).mkdir(parents=True, exist_ok=True)
    gathered = pooch.create(
        path=staging,
        base_url="",
        registry={file.target: f"sha256:{file.sha256}" for file in wanted.files},
        urls=addresses,
        retry_if_failed=ATTEMPTS - 1,
    )

    def download(file: PublishedFile) -> None:
        try:
            gathered.fetch(file.target, downloader=pooch.HTTPDownloader(timeout=TIMEOUT_S))
            return
        except OSError as error:
            if error.errno is not None:  # the disk's; what `requests` raises carries no number
                said = error.strerror or one_line(error)
                raise OSError(error.errno, said, str(staging / file.target)) from None
            answer = getattr(error, "response", None)
            why = type(error).__name__ if answer is None else f"status {answer.status_code}"
        except ValueError:  # other bytes than the pinned ones; pooch has removed them
            why = f"its SHA-256 is not {file.sha256}"
        here = sum((staging / target).is_file() for target in addresses)
        sentence = (
            f"could not be fetched ({why}); {here} fetched files are kept and the same command "
            f"goes on; without a network {_clone_words()}"
        )
        raise OSError(errno.EIO, sentence, addresses[file.target])

    return download


def _is_address(source: str) -> bool:
    try:
        parts = urlsplit(source)
    except ValueError:  # such as an unclosed bracket
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _clone_words() -> str:
    pinned = published()
    return (
        f"get a clone of {pinned.repository} with commit {pinned.commit} checked out, "
        "and add --from CLONE"
    )


def _bring_all(
    missing: list[PublishedFile],
    bring: Callable[[PublishedFile], None],
    on_file: Callable[[int, str], None],
) -> None:
    left, num_done = iter(missing), 0
    with ThreadPoolExecutor(CONNECTIONS) as workers:
        running = {workers.submit(bring, file): file for file in islice(left, CONNECTIONS)}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                file = running.pop(future)
                future.result()  # an error: what has begun ends, the rest is not begun
                num_done += 1
                on_file(num_done, Path(file.target).name)
                running |= {workers.submit(bring, file): file for file in islice(left, 1)}


def _put_in_place(missing: list[PublishedFile], staging: Path, folder: Path) -> None:
    """Move complete folders to their places, or single files into folders that exist."""
    for place, here in folders_of(missing).items():
        if (folder / place).exists():
            for name in sorted(here):
                (staging / place / name).replace(folder / place / name)
            continue
        for path in (staging / place).iterdir():
            if path.name not in here:
                path.unlink()  # a download that a kill cut short
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (staging / place).replace(folder / place)
