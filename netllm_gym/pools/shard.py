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

from netllm_gym.arrays import BoolArray, FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.pools import arrays
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.problem import ControlProblem, imported

DEFLATE_LEVEL = 1  # float columns hardly shrink further, and level 6 takes three times as long

Column = NDArray[Any]


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
    """E episodes, S steps in all, in memory; the arrays cannot be written to."""

    path: Path  # where it was read from
    policies: tuple[str, ...]
    policy: IntArray  # (E,) index into `policies`
    lengths: IntArray  # (E,) steps of each episode
    seeds: IntArray  # (E,)
    terminated: BoolArray  # (E,)
    truncated: BoolArray  # (E,)
    cases: Mapping[str, Sequence[str | int]]  # E values of each field
    actions: IntArray  # (S,) or (S, parts)
    rewards: FloatArray  # (S,)
    infos: Mapping[str, FloatArray]  # (S,) each
    columns: Mapping[str, Column]  # (rows, ...) each: observations taken apart
    expert_actions: IntArray | None  # as actions; None where no expert was asked
    offsets: Mapping[str, IntArray]  # (E + 1,) where each episode begins in each column

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def steps(self) -> IntArray:
        """(E + 1,) where each episode begins."""
        return offsets_of(self.lengths)

    def episode(self, index: int, codec: Codec) -> Episode:
        """Rebuild one episode."""
        fields, cuts = self._plain
        terminated, truncated, policy, seed, begin, end = fields[index]
        asked = self.expert_actions
        columns = {
            name: column[cuts[name][index] : cuts[name][index + 1]]
            for name, column in self.columns.items()
        }
        try:
            return Episode(
                observations=codec.from_columns(columns),
                actions=self.actions[begin:end],
                rewards=self.rewards[begin:end],
                terminated=terminated,
                truncated=truncated,
                policy=self.policies[policy],
                seed=seed,
                case={name: values[index] for name, values in self.cases.items()},
                infos={name: values[begin:end] for name, values in self.infos.items()},
                expert_actions=None if asked is None else asked[begin:end],
            )
        except InputError as error:
            raise InputError(f"{self.path}: episode {index}: {error}") from None

    @cached_property
    def _plain(self) -> tuple[list[tuple[Any, ...]], dict[str, list[int]]]:
        # As Python's own numbers: taking them out of arrays one by one costs more than the rest.
        columns = (self.terminated, self.truncated, self.policy, self.seeds)
        borders = (self.steps[:-1], self.steps[1:])
        fields = zip(*(values.tolist() for values in (*columns, *borders)), strict=True)
        return list(fields), {name: offset.tolist() for name, offset in self.offsets.items()}


def parse_shard(data: bytes, path: Path) -> Shard:
    """Turn the bytes of a shard into arrays.

    Raises:
        InputError: If the bytes are not those of a shard; the sentence names `path`.
    """
    try:
        return _parsed(_unzip(data), path)
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # crafted zip, npy and JSON headers can raise nearly anything
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} must be a shard of an experience pool: {reason}") from None


def offsets_of(lengths: IntArray) -> IntArray:
    """(E + 1,) where each of E parts begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


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
    policies = tuple(header["policies"])
    lengths = _checked("lengths", arrays.pop("lengths"), "i")
    if not len(lengths) or lengths.min() < 1:
        raise InputError("lengths must be at least one, each at least 1")
    num_episodes, num_steps = len(lengths), int(lengths.sum())

    def take(name: str, kind: str, num_rows: int, **rules: Any) -> Column:
        return _checked(name, arrays.pop(name), kind, num_rows, **rules)

    def names_of(group: str) -> list[str]:
        return [name.partition(".")[2] for name in arrays if name.startswith(f"{group}.")]

    cases: dict[str, Sequence[str | int]] = {}
    for name in names_of("case"):
        texts = header["case"][name]
        below = None if texts is None else len(texts)
        numbers = take(f"case.{name}", "i", num_episodes, below=below).tolist()
        cases[name] = numbers if texts is None else [texts[number] for number in numbers]
    columns, offsets = {}, {}
    for name in names_of("column"):
        columns[name] = arrays.pop(f"column.{name}")
        rows = lengths
        if f"rows.{name}" in arrays:
            rows = take(f"rows.{name}", "i", num_episodes)
        if rows.min() < 0 or rows.sum() != len(columns[name]):
            got = len(columns[name])
            raise InputError(f"column.{name} must have {rows.sum()} rows, got {got}")
        offsets[name] = offsets_of(rows)
    actions, answers = take("actions", "i", num_steps, flat=False), None
    if "expert_actions" in arrays:
        answers = take("expert_actions", "i", num_steps, flat=False)
        if answers.shape != actions.shape:
            raise InputError(
                f"expert_actions must have shape {actions.shape} as actions, got {answers.shape}"
            )
    shard = Shard(
        path=path,
        policies=policies,
        policy=take("policy", "i", num_episodes, below=len(policies)),
        lengths=lengths,
        seeds=take("seeds", "i", num_episodes),
        terminated=take("terminated", "b", num_episodes),
        truncated=take("truncated", "b", num_episodes),
        cases=cases,
        actions=actions,
        rewards=take("rewards", "f", num_steps),
        infos={name: take(f"info.{name}", "f", num_steps) for name in names_of("info")},
        columns=columns,
        expert_actions=answers,
        offsets=offsets,
    )
    if arrays:
        raise InputError(f"must hold no more than that, got {next(iter(arrays))}")
    return shard


def _checked(
    name: str,
    values: Column,
    kind: str,
    num_rows: int | None = None,
    below: int | None = None,
    flat: bool = True,
) -> Column:
    """Check a column, and return it; whole numbers (kind `i`) become int64.

    Kinds `f` and `b` are float64 and bool. `below` bounds an index.
    """
    wanted = {"i": "whole numbers", "f": "float64", "b": "bool"}[kind]
    if values.dtype.kind != kind or (kind == "f" and values.dtype != np.float64):
        raise InputError(f"{name} must be {wanted}, got {values.dtype} of {values.shape}")
    if values.ndim < 1 or (flat and values.ndim > 1):
        raise InputError(f"{name} must have one dimension, got shape {values.shape}")
    if num_rows is not None and len(values) != num_rows:
        raise InputError(f"{name} must have {num_rows} rows, got {len(values)}")
    if below is not None and not 0 <= int(values.min()) <= int(values.max()) < below:
        raise InputError(f"{name} must be in 0..{below - 1}, got {values.min()}..{values.max()}")
    if kind != "i":
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


def _unzip(data: bytes) -> dict[str, Column]:
    """Return the arrays of an `.npz`, read-only, over the bytes as they were inflated."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
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
