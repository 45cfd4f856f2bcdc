"""Turn episodes into the bytes of one shard of an experience pool, and back.

A shard is a compressed `.npz` that `numpy.load` opens without pickle. It holds flat columns, in
which the episodes stand one after the other. Their lengths are a column too. A column that does not
have one row per step has its own column of lengths. Equal episodes give equal bytes, and everything
that is read is checked before it is used.
"""

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from netllm_gym.arrays import IntArray
from netllm_gym.errors import InputError
from netllm_gym.files import MOST_BYTES, check_archive
from netllm_gym.pools import arrays
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.problem import ControlProblem, imported

DEFLATE_LEVEL = 1  # float columns hardly shrink further, and level 6 takes three times as long

Column = NDArray[Any]


class _Rule(NamedTuple):
    """What holds of an array of a shard."""

    kind: str  # i for whole numbers of any width, f for float64, b for bool; empty for any
    rows: str  # E for one per episode, S for one per step; empty for any number
    is_flat: bool = True
    needed: bool = True


RULES = {  # name of an array, or beginning of those of a group as in `info.qoe` -> its rule
    "lengths": _Rule("i", "E"),  # steps of each episode
    "seeds": _Rule("i", "E"),
    "terminated": _Rule("b", "E"),
    "truncated": _Rule("b", "E"),
    "policy": _Rule("i", "E"),  # index into the names of the policies
    "actions": _Rule("i", "S", is_flat=False),
    "rewards": _Rule("f", "S"),
    "expert_actions": _Rule("i", "S", is_flat=False, needed=False),
    "case.": _Rule("i", "E", needed=False),
    "info.": _Rule("f", "S", needed=False),
    "column.": _Rule("", "", is_flat=False, needed=False),  # observations taken apart
    "rows.": _Rule("i", "E", needed=False),  # of a column, where these are not the steps
}


class Codec(Protocol):
    """How the observations of one problem become columns: a module such as `pools/abr.py`.

    The first dimension of a column may differ from T; the others are the same in all episodes.
    Columns of int64 are kept in the narrowest type that holds their values, and come back in it.
    """

    @property
    def to_columns(self) -> Callable[[Any], dict[str, Column]]:
        """Take the observations of one episode apart."""

    @property
    def from_columns(self) -> Callable[[Mapping[str, Column]], Any]:
        """Rebuild the observations of one episode, exactly."""


def codec_of(problem: ControlProblem) -> Codec:
    """Return the codec that a problem's row names, else the one for arrays of one shape.

    Raises:
        InputError: If what the row names is not a codec.
    """
    codec: Codec = imported(problem.codec) if problem.codec else arrays
    for name in ("to_columns", "from_columns"):
        if not callable(getattr(codec, name, None)):
            raise InputError(
                f"codec of the problem {problem.name} must have {name}, got {problem.codec!r}"
            )
    return codec


class PackedShard(NamedTuple):
    """A shard as bytes, with the values of its entry in `meta.json`."""

    data: bytes
    num_episodes: int
    num_steps: int
    policies: tuple[str, ...]
    seeds: tuple[int, int]  # lowest and highest


def pack_shard(episodes: Sequence[Episode], codec: Codec) -> PackedShard:
    """Turn episodes into the bytes of a shard; equal episodes give equal bytes.

    Raises:
        InputError: If episodes disagree on the names or shapes of their columns.
    """
    if not episodes:
        raise InputError("a shard must hold at least one episode, got none")
    policies = tuple(sorted({episode.policy for episode in episodes}))
    lengths = [episode.num_steps for episode in episodes]
    seeds = [episode.seed for episode in episodes]
    arrays = {
        "lengths": _narrow(np.array(lengths)),
        "seeds": _narrow(np.array(seeds)),
        "terminated": np.array([episode.terminated for episode in episodes], np.bool_),
        "truncated": np.array([episode.truncated for episode in episodes], np.bool_),
        "policy": _narrow(np.array([policies.index(episode.policy) for episode in episodes])),
        "actions": _narrow(_join("actions", [episode.actions for episode in episodes])),
        "rewards": _join("rewards", [episode.rewards for episode in episodes]),
    }
    answers = [each.expert_actions for each in episodes if each.expert_actions is not None]
    if answers:
        if len(answers) < len(episodes):
            raise InputError(
                "expert_actions must be in all episodes of a shard or in none, "
                f"got {len(answers)} of {len(episodes)}"
            )
        arrays["expert_actions"] = _narrow(_join("expert_actions", answers))
    texts: dict[str, list[str] | None] = {}  # the values of a case field, None for numbers
    for name, values in _by_name("case", [episode.case for episode in episodes]).items():
        are_text = {isinstance(one, str) for one in values}
        if len(are_text) > 1:
            raise InputError(f"case[{name!r}] must be text or number in all episodes, got both")
        texts[name] = sorted(set(values)) if True in are_text else None
        place = {text: number for number, text in enumerate(texts[name] or ())}
        numbers = [place[one] if place else one for one in values]
        arrays[f"case.{name}"] = _narrow(np.array(numbers, np.int64))
    for name, series in _by_name("infos", [episode.infos for episode in episodes]).items():
        arrays[f"info.{name}"] = _join(name, series)
    taken = [codec.to_columns(episode.observations) for episode in episodes]
    for name, parts in _by_name("columns", taken).items():
        joined = _join(name, parts)
        arrays[f"column.{name}"] = _narrow(joined) if joined.dtype == np.int64 else joined
        rows = [len(part) for part in parts]
        if rows != lengths:
            arrays[f"rows.{name}"] = _narrow(np.array(rows))
    header = json.dumps({"policies": policies, "case": texts}, sort_keys=True).encode("ascii")
    data = _zip({"header": np.frombuffer(header, np.uint8), **arrays})
    return PackedShard(data, len(lengths), sum(lengths), policies, (min(seeds), max(seeds)))


@dataclass(frozen=True, eq=False)
class Shard:
    """E episodes, S steps in all, in memory; the arrays cannot be written to.

    Attributes:
        path: Where it was read from.
        policies: Names of the policies in it, which `policy` among the arrays indexes.
        texts: Field of a case -> the texts that its numbers index, or None if it is a number.
        arrays: As in the file, see `RULES`; whole numbers are int64, except in columns.
    """

    path: Path
    policies: tuple[str, ...]
    texts: Mapping[str, list[str] | None]
    arrays: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.arrays["lengths"])

    def group(self, group: str) -> dict[str, Column]:
        """Return the arrays of a group, such as `column`, by the rest of their names."""
        pairs = [(name.partition("."), array) for name, array in self.arrays.items()]
        return {short: array for (first, _, short), array in pairs if first == group}

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Observations taken apart, (rows, ...) each."""
        return self.group("column")

    @cached_property
    def begins(self) -> IntArray:
        """(E,) the first step of each episode."""
        return begins_of(self.arrays["lengths"])

    def episode(self, index: int, codec: Codec) -> Episode:
        """Rebuild one episode."""
        told, cases, cuts = self._plain
        steps = slice(told["begins"][index], told["begins"][index] + told["lengths"][index])
        asked = self.arrays.get("expert_actions")
        columns = {name: column[cuts[name][index]] for name, column in self.columns.items()}
        try:
            return Episode(
                observations=codec.from_columns(columns),
                actions=self.arrays["actions"][steps],
                rewards=self.arrays["rewards"][steps],
                terminated=told["terminated"][index],
                truncated=told["truncated"][index],
                policy=self.policies[told["policy"][index]],
                seed=told["seeds"][index],
                case={name: values[index] for name, values in cases.items()},
                infos={name: values[steps] for name, values in self._infos.items()},
                expert_actions=None if asked is None else asked[steps],
            )
        except InputError as error:
            raise InputError(f"{self.path}: episode {index}: {error}") from None

    @cached_property
    def _plain(self) -> tuple[dict[str, Any], ...]:
        # As Python's own numbers: taking them out of arrays one by one costs more than the rest.
        names = ("lengths", "seeds", "terminated", "truncated", "policy")
        told: dict[str, Any] = {name: self.arrays[name].tolist() for name in names}
        told["begins"] = self.begins.tolist()
        cases = {}
        for name, numbers in self.group("case").items():
            texts = self.texts[name]
            cases[name] = [texts[number] if texts else number for number in numbers.tolist()]
        cuts = {}
        for name in self.columns:
            rows = self.arrays.get(f"rows.{name}", self.arrays["lengths"])
            pairs = zip(begins_of(rows).tolist(), rows.tolist(), strict=True)
            cuts[name] = [slice(begin, begin + count) for begin, count in pairs]
        return told, cases, cuts

    @cached_property
    def _infos(self) -> dict[str, Column]:
        return self.group("info")


def parse_shard(data: bytes, path: Path, most_bytes: int = MOST_BYTES) -> Shard:
    """Turn the bytes of a shard into arrays.

    Args:
        data: The bytes.
        path: Where they were read.
        most_bytes: What it may inflate to.

    Raises:
        InputError: If the bytes are not those of a shard; the sentence names `path`.
    """
    try:
        return _parsed(_unzip(data, most_bytes), path)
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # crafted zip, npy and JSON headers can raise nearly anything
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} must be a shard of an experience pool: {reason}") from None


def begins_of(lengths: IntArray) -> IntArray:
    """Return (K,) where each of K parts of these lengths begins, which follow each other."""
    return np.asarray(np.cumsum(lengths) - lengths, np.int64)


# Inner parts -------------------------------------------------------------------------------------


def _by_name(what: str, mappings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn E mappings with the same names into one of lists, in sorted order."""
    names = sorted(mappings[0])
    for index, mapping in enumerate(mappings):
        if sorted(mapping) != names:
            raise InputError(
                f"{what} must have the same names in all episodes of a shard, "
                f"got {names} and in episode {index} {sorted(mapping)}"
            )
    return {name: [mapping[name] for mapping in mappings] for name in names}


def _join(name: str, parts: Sequence[Column]) -> Column:
    """Put the parts of E episodes one after the other, little-endian."""
    first = parts[0]
    if first.ndim < 1 or first.dtype.kind not in "biuf":
        raise InputError(f"{name} must be rows of numbers, got {first.dtype} of {first.shape}")
    for index, part in enumerate(parts):
        if part.dtype != first.dtype or part.shape[1:] != first.shape[1:]:
            raise InputError(
                f"{name} must have one type and width in a shard, got {first.dtype} of "
                f"{first.shape} and in episode {index} {part.dtype} of {part.shape}"
            )
    return np.concatenate(parts).astype(first.dtype.newbyteorder("<"), copy=False)


def _narrow(values: IntArray) -> NDArray[Any]:
    """Return int64 values in the narrowest type that holds them all."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return values.astype("<i8")


def _parsed(arrays: dict[str, Column], path: Path) -> Shard:
    header = json.loads(arrays.pop("header").tobytes())
    policies, texts = tuple(header["policies"]), header["case"]
    lengths = arrays["lengths"]
    if not lengths.size or lengths.min() < 1:
        raise InputError("lengths must be at least one, each at least 1")
    num_rows = {"E": len(lengths), "S": int(lengths.sum())}
    missing = [name for name, rule in RULES.items() if rule.needed and name not in arrays]
    if missing:
        raise InputError(f"must hold {missing[0]}")
    checked = {}
    for name, values in arrays.items():
        group, dot, short = name.partition(".")
        rule = RULES.get(group + dot)
        if rule is None or (group == "rows" and f"column.{short}" not in arrays):
            raise InputError(f"must hold no more than that, got {name}")
        indexed = {"policy": policies, "case": texts.get(short)}.get(group)
        checked[name] = _checked(name, values, rule, num_rows, indexed)
    for name, column in checked.items():
        if name.startswith("column."):
            rows = checked.get(name.replace("column", "rows", 1), lengths)
            if rows.min() < 0 or rows.sum() != len(column):
                raise InputError(f"{name} must have {rows.sum()} rows, got {len(column)}")
    actions, answers = checked["actions"], checked.get("expert_actions")
    if answers is not None and answers.shape != actions.shape:
        raise InputError(
            f"expert_actions must have shape {actions.shape} as actions, got {answers.shape}"
        )
    return Shard(path, policies, texts, checked)


def _checked(
    name: str,
    values: Column,
    rule: _Rule,
    num_rows: Mapping[str, int],
    indexed: Sequence[str] | None,
) -> Column:
    """Check an array, which may be an index into texts; whole numbers become int64."""
    wanted = {"i": "whole numbers", "f": "float64", "b": "bool", "": "numbers"}[rule.kind]
    if rule.kind not in ("", values.dtype.kind) or (rule.kind == "f" and values.itemsize != 8):
        raise InputError(f"{name} must be {wanted}, got {values.dtype} of {values.shape}")
    if values.ndim < 1 or (rule.is_flat and values.ndim > 1):
        raise InputError(f"{name} must have one dimension, got shape {values.shape}")
    if rule.rows and len(values) != num_rows[rule.rows]:
        raise InputError(f"{name} must have {num_rows[rule.rows]} rows, got {len(values)}")
    if indexed is not None and not 0 <= values.min() <= values.max() < len(indexed):
        got = f"{values.min()}..{values.max()}"
        raise InputError(f"{name} must be in 0..{len(indexed) - 1}, got {got}")
    if rule.kind != "i":
        return values
    widened = values.astype(np.int64)
    widened.setflags(write=False)
    return widened


def _zip(arrays: Mapping[str, Column]) -> bytes:
    """Return the bytes of an `.npz`; numpy's own writer cannot choose the level."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # its date is 1980 on every run
            member.create_system, member.external_attr = 3, 0o600 << 16  # same on every system
            member.compress_type = zipfile.ZIP_DEFLATED
            content = io.BytesIO()
            npy.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(member, content.getbuffer(), compresslevel=DEFLATE_LEVEL)
    return buffer.getvalue()


def _unzip(data: bytes, most_bytes: int) -> dict[str, Column]:
    """Return the arrays of an `.npz`, read-only, over the bytes as they were inflated."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        check_archive(archive, most_bytes)
        for member in archive.infolist():
            raw = archive.read(member)  # checks the CRC
            content = io.BytesIO(raw)
            if npy.read_magic(content) != (1, 0):
                raise InputError(f"{member.filename} must be npy version 1.0")
            shape, fortran_order, dtype = npy.read_array_header_1_0(content)
            if fortran_order or dtype.kind not in "biuf":  # never objects, hence never pickle
                raise InputError(f"{member.filename} must be rows of numbers, got {dtype}")
            values = np.frombuffer(raw, dtype, offset=content.tell())
            arrays[member.filename.removesuffix(".npy")] = values.reshape(shape)
    return arrays
