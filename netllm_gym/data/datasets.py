"""Find named data on this machine, and list the files of the split without leaks.

A name such as `fcc-test` is looked up in the folder `NETLLM_GYM_DATA` if that is set, and otherwise
in the user's data folder. The modules for each kind of data read the files.
"""

import hashlib
import json
import os
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from netllm_gym.data.published import how_to_fetch
from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.files import read_regular

DATA_VARIABLE = "NETLLM_GYM_DATA"


def data_folder() -> Path:
    """Return the folder that holds `abr/`, `cjs/` and `vp/`."""
    named = os.environ.get(DATA_VARIABLE)
    if named:
        return Path(named)
    from platformdirs import user_data_path

    return user_data_path("netllm-gym", appauthor=False)


def cache_folder() -> Path:
    """Return the folder for files that can be made again. It may not exist yet."""
    from platformdirs import user_cache_path

    return user_cache_path("netllm-gym", appauthor=False)


def find_data(*parts: str) -> Path:
    """Return the path of data that this machine has.

    Raises:
        MissingDataError: If it does not exist. The error says where it was looked for.
    """
    path = data_folder().joinpath(*parts)
    if not path.exists():
        place = "/".join(parts)
        raise MissingDataError(
            f"{place} must be on this machine, got no {path}: "
            f"set {DATA_VARIABLE} to the folder that holds {parts[0]}/{how_to_fetch(place)}"
        )
    return path


class SplitPart(NamedTuple):
    """One part of the split of the FCC and Norway traces that has no leaks."""

    folder: str  # set whose folder holds the files
    sha256: dict[str, str]  # file name -> SHA-256 of its bytes


@lru_cache(maxsize=1)
def clean_split() -> dict[str, SplitPart]:
    """Return the parts `clean-train` and `clean-valid`, which share no recording with `fcc-test`.

    The published splits leak: 81 of the 100 `fcc-test` traces are inside `fcc-train` recordings.

    Each part also exists as `-fcc` (cable and DSL in the USA) and `-norway` (3G on trains, trams,
    buses, ferries, a metro and a car), to train on links of one kind and test on the other.
    `clean-fcc` and `clean-norway` have the files of both parts.
    """
    text = resources.files("netllm_gym.data.abr").joinpath("clean_split.json").read_text("utf-8")
    parts = {
        name: SplitPart(part["folder"], part["sha256"]) for name, part in json.loads(text).items()
    }
    for name, (folder, sha256) in list(parts.items()):  # Norway's files alone are called .log
        norway = {file: digest for file, digest in sha256.items() if file.endswith(".log")}
        fcc = {file: digest for file, digest in sha256.items() if file not in norway}
        parts[f"{name}-fcc"] = SplitPart(folder, fcc)
        parts[f"{name}-norway"] = SplitPart(folder, norway)
    for kind in ("fcc", "norway"):
        train, valid = parts[f"clean-train-{kind}"], parts[f"clean-valid-{kind}"]
        parts[f"clean-{kind}"] = SplitPart(train.folder, train.sha256 | valid.sha256)
    return parts


def has_sha256(path: Path, expected: str) -> bool:
    """Say whether there is such a file with exactly the expected bytes."""
    return path.is_file() and sha256_of(path) == expected


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(read_regular(path)).hexdigest()


def check_sha256(path: Path, expected: str) -> None:
    """Raise an error if a file is missing or does not have the expected bytes."""
    if not path.is_file():
        raise MissingDataError(f"{path} must be on this machine, got no such file: get it again")
    found = sha256_of(path)
    if found != expected:
        raise InputError(f"{path} must have SHA-256 {expected}, got {found}: get it again")
