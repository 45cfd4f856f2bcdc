"""What options of the command line hold: lists of names, files to write, and files of options.

`--config FILE.toml` gives a command its options; what the command line says itself wins.

Keys are the command's options without their dashes (`batch-episodes` or `batch_episodes`). Tables
group them for the reader and mean nothing: `updates` below `[schedule]` is `--updates`.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from netllm_gym.errors import InputError, nearest
from netllm_gym.files import one_line, read_regular

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


MOST_CONFIG_BYTES = 2**20


def names_in(text: str) -> tuple[str, ...]:
    """Return the names in a list separated by commas, at least one."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise InputError(f"names must be one or more, separated by commas, got {text!r}")
    return names


def check_json_file(file: Path | None) -> None:
    """Refuse a file that could not be written when the work is done."""
    if file is None:
        return
    is_special = file.exists() and not file.is_file()  # a folder, a device
    if is_special or not file.parent.is_dir():
        raise InputError(f"json must be a file in an existing folder, got {file}")
    if not os.access(file.parent, os.W_OK):
        raise InputError(f"json must be in a folder that can be written to, got {file}")


def read_options(path: Path, known: Mapping[str, str]) -> dict[str, str]:
    """Read a TOML file of options.

    Args:
        path: The file.
        known: Name of each option as it is written (`batch-episodes`) -> its parameter.

    Returns:
        Parameter -> what the command line would say, as text, so that a value of the wrong kind is
        refused as it is there. A list becomes its values separated by commas.
    """
    try:
        data = read_regular(path, MOST_CONFIG_BYTES)
    except OSError as error:
        raise InputError(f"config must be a file, got {path}: {error.strerror}") from None
    try:
        content = [*_flat(tomllib.loads(data.decode()))]
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or nested without end
        raise InputError(f"{path} must be TOML, got {one_line(error)}") from None
    found: dict[str, str] = {}
    for key, value in content:
        name = key.replace("_", "-")
        if name not in known:
            raise InputError(
                f"{path} must hold options of this command only, got {key!r}{nearest(name, known)}"
            )
        if known[name] in found:
            raise InputError(f"{path} must name {name} once, got it twice")
        found[known[name]] = _option(value, key, path)
    return found


def _flat(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield key, value


def _option(value: Any, key: str, path: Path) -> str:
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return ",".join(str(each) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise InputError(
        f"{key} in {path} must be text, a number, a truth value or a list of these, got {value!r}"
    )
