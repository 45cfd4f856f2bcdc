"""The folder of a trained policy: `config.json`, safetensors files and their hashes, no pickle.

The `schema` in `config.json` names the kind of policy, and thereby which module reads the folder.
Each kind decides what is in `config` and which files of weights there are.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from netllm_gym.configs import check, to_json
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with, one_line, read_json
from netllm_gym.typed_json import checked

LARGEST_WEIGHT = 1e9  # products of larger ones soon are no finite float32; masks have 1e9


def write_config(
    folder: Path,
    schema: str,
    config: Any,
    files: Iterable[str],
    trained_on: Mapping[str, Any] | None,
    **more: Any,
) -> None:
    """Write `config.json` beside the files of weights, whose hashes it holds.

    Args:
        folder: Where the files are.
        schema: Names the kind of policy.
        config: The policy's config.
        files: Names of the files of weights.
        trained_on: Where the training data came from (data sets, recordings), as JSON values.
        more: What else the kind needs, as JSON values.
    """
    whole = {
        **more,
        "schema": schema,
        "config": to_json(config),
        "trained_on": dict(trained_on or {}),
        "sha256": {name: file_sha256(folder / name) for name in files},
    }
    (folder / "config.json").write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n")


def read_schema(folder: Path) -> str:
    """Return the schema that a policy's folder names; raise `InputError` for no such folder."""
    return str(_values(folder).get("schema"))


@dataclass(frozen=True)
class _TrainedOn:
    recordings: list[str] = field(default_factory=list)
    validation_recordings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Config:
    config: dict[str, Any]
    trained_on: _TrainedOn
    sha256: dict[str, str] = field(default_factory=dict)


def read_config(folder: Path, schema: str, objects: Iterable[str] = ()) -> dict[str, Any]:
    """Return the checked values of a policy's `config.json`.

    Raises:
        InputError: If it is missing, broken, of another schema, or lacks one of these objects.
    """
    path, values = folder / "config.json", _values(folder)
    found = values.get("schema")
    check(found == schema, str(path), f"have the schema {schema!r}", found)
    with errors_begin_with(path):
        checked(_Config, values, "the description of a policy", ignore_unknown=True)
        for name in objects:
            check(isinstance(values.get(name), dict), name, "be an object", values.get(name))
    return values


def _values(folder: Path) -> dict[str, Any]:
    """Return the content of `config.json`, or an empty dict if that is not an object."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise InputError(f"policy must be a folder, got {folder}, which does not exist")
    if not path.is_file():
        raise InputError(f"{folder} must hold config.json, got a folder without it")
    values = read_json(path)
    return dict(values) if isinstance(values, dict) else {}


def check_device(device: str) -> None:
    """Refuse a device that torch does not know or that is not there."""
    try:
        torch.zeros(1, device=device).tolist()
    except (RuntimeError, AssertionError, ImportError, AttributeError):  # torch has many ways
        raise InputError(f"device must be one torch can use here, got {device!r}") from None


def policy_sha256(folder: Path) -> str:
    """Return a hash over the names and contents of a policy's files; a card only tells of it."""
    digest = hashlib.sha256()
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "card.md")
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """Write a safetensors file; raise `OSError` if the machine cannot."""
    plain = {
        name: torch.as_tensor(each).detach().cpu().contiguous() for name, each in tensors.items()
    }
    with machine_errors(path):
        save_file(plain, path)


def read_tensors(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """Read a safetensors file that anybody may have written; a hash of None is not checked.

    Raises:
        InputError: If it is missing, cut, altered or something else.
    """
    if not path.is_file():
        raise InputError(f"{path} must exist: the policy is incomplete, got no such file")
    try:
        tensors = load_file(path)
    except Exception as error:  # any bytes may stand there
        raise InputError(f"{path} must be a safetensors file, got {one_line(error)}") from error
    if sha256 is not None and (found := file_sha256(path)) != sha256:
        raise InputError(f"{path} must have SHA-256 {sha256}, got {found}: it was altered")
    return tensors


def check_tensors(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise `InputError` unless the tensors of a file are finite and fit those of the network.

    The network is made from `config.json`; only its names, shapes and types count.
    """
    if odd := found.keys() ^ wanted.keys():
        raise InputError(f"{path} must fit config.json, which differs in {min(odd)}")
    for name, each in wanted.items():
        got = found[name]
        if got.shape != each.shape or got.dtype != each.dtype:
            raise InputError(
                f"{path} must fit config.json with {name} {tuple(each.shape)} of {each.dtype}, "
                f"got {tuple(got.shape)} of {got.dtype}"
            )
        if not got.isfinite().all():
            raise InputError(f"{name} of {path} must be finite, got inf or nan")
        largest = got.abs().max() if got.is_floating_point() and got.numel() else 0.0
        if largest > LARGEST_WEIGHT:
            raise InputError(
                f"{name} of {path} must be within +-{LARGEST_WEIGHT:g}, got {largest:g}"
            )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def machine_errors(path: Path) -> Iterator[None]:
    """Turn what safetensors says of a full disk, which is no OSError, into one."""
    try:
        yield
    except SafetensorError as error:
        said = re.search(r"os error (\d+)", str(error))
        number = int(said[1]) if said else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
