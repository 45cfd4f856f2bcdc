"""Published data sets that `netllm-gym data fetch` downloads: their files and SHA-256 hashes.

`published.json` pins one commit of NetLLM's repository and all files of it that a set needs. It
also contains the start pointers of `fcc-test`, which the repository has as a pickle only.
"""

import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from netllm_gym.errors import InputError


class PublishedFile(NamedTuple):
    """One file: where it comes from, where it goes, and what its bytes must be."""

    source: str  # path in the repository
    target: str  # path below the data folder
    sha256: str


def folders_of(files: Iterable[PublishedFile]) -> dict[str, set[str]]:
    """Return the folders below the data folder, and the names of those of the files in each."""
    folders: dict[str, set[str]] = {}
    for file in files:
        target = PurePosixPath(file.target)
        folders.setdefault(str(target.parent), set()).add(target.name)
    return folders


class PublishedSet(NamedTuple):
    """What `data fetch NAME` downloads."""

    name: str
    title: str
    cite: tuple[str, ...]
    size_bytes: int  # of all files
    files: tuple[PublishedFile, ...]
    writes: dict[str, Any]  # path below the data folder -> JSON content that the package holds

    @property
    def folders(self) -> dict[str, set[str]]:
        """Return the folders below the data folder, and the names of the files of each."""
        return folders_of(self.files)


class Published(NamedTuple):
    """The repository at one commit, and all that can be fetched from it."""

    repository: str  # its web address
    commit: str
    licence: str
    sets: dict[str, PublishedSet]


@lru_cache(maxsize=1)
def published() -> Published:
    """Return what can be fetched, read from the package."""
    text = resources.files("netllm_gym.data").joinpath("published.json").read_text("utf-8")
    manifest = json.loads(text)
    sets = {}
    for name, entry in manifest["sets"].items():
        files = tuple(
            PublishedFile(f"{manifest['folder']}/{source}/{file}", f"{target}/{file}", sha256)
            for target, source in entry["folders"].items()
            for file, sha256 in manifest["sha256"][source].items()
            if fnmatchcase(file, entry["only"])
        )
        told = {key: entry[key] for key in ("title", "size_bytes", "writes")}
        sets[name] = PublishedSet(name=name, cite=tuple(entry["cite"]), files=files, **told)
    return Published(manifest["repository"], manifest["commit"], manifest["licence"], sets)


def find_published(name: str) -> PublishedSet:
    """Return a set by its name."""
    sets = published().sets
    if name not in sets:
        raise InputError(f"name must be one of {', '.join(sets)}, got {name!r}")
    return sets[name]


def how_to_fetch(place: str) -> str:
    """Return the end of a sentence: the command that brings `place`, a path below the data folder.

    Empty if no command does.
    """
    for entry in published().sets.values():
        if place in entry.folders or place in entry.writes:
            return f"; netllm-gym data fetch {entry.name} brings it"
    return ""
