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
from netllm_gym.files import MOST_BYTES, check_archive
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
    asked = [each.expert_actions for each in episodes if each.expert_actions is not None]
    if asked:
        if len(asked) < len(episodes):
            raise InputError(
                "expert_actions must be in all episodes of a shard or in none, "
                f"got {len(asked)} of {len(episodes)}"
            )
        arrays["expert_actions"] = _narrow(_join("expert_actions", asked))
    texts: dict[str, list[str] | None] = {}  # the values of a case field, None for numbers
    for name, values in _by_name("case", [episode.case for episode in episodes]).items():
        texts[name], arrays[f"case.{name}"] = _number_values(name, values)
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
        policies: Names of the policies in it.
        policy: (E,) index into `policies`.
        lengths: (E,) steps of each episode.
        seeds: (E,) seed of each episode.
        terminated: (E,) bool.
        truncated: (E,) bool.
        cases: Per field of the case, E values.
        actions: (S,) int64, or (S, parts).
        rewards: (S,) float64.
        infos: (S,) float64 each.
        columns: Observations taken apart, (rows, ...) each.
        expert_actions: (S,) int64, or (S, parts); None where no expert was asked.
        offsets: (E + 1,) where each episode begins in each column.
    """

    path: Path
    policies: tuple[str, ...]
    policy: IntArray
    lengths: IntArray
    seeds: IntArray
    terminated: BoolArray
    truncated: BoolArray
    cases: Mapping[str, Sequence[str | int]]
    actions: IntArray
    rewards: FloatArray
    infos: Mapping[str, FloatArray]
    columns: Mapping[str, Column]
    expert_actions: IntArray | None
    offsets: Mapping[str, IntArray]

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
        arrays = _unzip(data, most_bytes)
        header = json.loads(arrays.pop("header").tobytes())
        policies = tuple(header["policies"])
        lengths = _whole("lengths", arrays.pop("lengths"), None)
        if not len(lengths) or lengths.min() < 1:
            raise InputError("lengths must be at least one, each at least 1")
        num_episodes, num_steps = len(lengths), int(lengths.sum())
        groups: dict[str, dict[str, Column]] = {"case": {}, "info": {}, "column": {}, "rows": {}}
        for name in [name for name in arrays if "." in name]:
            group, short = name.split(".", 1)
            groups[group][short] = arrays.pop(name)
        offsets = {}
        for name, column in groups["column"].items():
            rows = _whole(f"rows.{name}", groups["rows"].pop(name, lengths), num_episodes)
            if rows.min() < 0 or rows.sum() != len(column):
                raise InputError(f"column.{name} must have {rows.sum()} rows, got {len(column)}")
            offsets[name] = offsets_of(rows)
        shard = Shard(
            path=path,
            policies=policies,
            policy=_whole("policy", arrays.pop("policy"), num_episodes, below=len(policies)),
            lengths=lengths,
            seeds=_whole("seeds", arrays.pop("seeds"), num_episodes),
            terminated=_flags("terminated", arrays.pop("terminated"), num_episodes),
            truncated=_flags("truncated", arrays.pop("truncated"), num_episodes),
            cases={
                name: _named_values(name, numbers, header["case"][name], num_episodes)
                for name, numbers in groups["case"].items()
            },
            actions=_whole("actions", arrays.pop("actions"), num_steps, flat=False),
            rewards=_reals("rewards", arrays.pop("rewards"), num_steps),
            infos={name: _reals(name, info, num_steps) for name, info in groups["info"].items()},
            columns=groups["column"],
            expert_actions=_expert_actions(arrays, num_steps),
            offsets=offsets,
        )
        if shard.expert_actions is not None and shard.expert_actions.shape != shard.actions.shape:
            raise InputError(
                f"expert_actions must have shape {shard.actions.shape} as actions, "
                f"got {shard.expert_actions.shape}"
            )
        if arrays or groups["rows"]:
            raise InputError(f"must hold no more than that, got {[*arrays, *groups['rows']][0]}")
    except MemoryError:  # the machine's fault, not the file's
        raise
    except Exception as error:  # crafted zip, npy and JSON headers can raise nearly anything
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} must be a shard of an experience pool: {reason}") from None
    return shard


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


def _number_values(name: str, values: Sequence[str | int]) -> tuple[list[str] | None, NDArray[Any]]:
    """Return a case field as numbers, and its texts, which the numbers index, if it is text."""
    if all(isinstance(value, str) for value in values):
        texts = sorted({str(value) for value in values})
        place = {text: number for number, text in enumerate(texts)}
        return texts, _narrow(np.array([place[str(value)] for value in values], np.int64))
    if any(isinstance(value, str) for value in values):
        raise InputError(f"case[{name!r}] must be text or number in all episodes, got both")
    return None, _narrow(np.array(values, np.int64))


def _named_values(
    name: str, numbers: Column, texts: list[str] | None, num_episodes: int
) -> Sequence[str | int]:
    """Undo `_number_values`."""
    below = None if texts is None else len(texts)
    whole = _whole(f"case.{name}", numbers, num_episodes, below=below).tolist()
    return whole if texts is None else [texts[number] for number in whole]


def _whole(
    name: str, values: Column, num_rows: int | None, below: int | None = None, flat: bool = True
) -> IntArray:
    """Check whole numbers of a shard; `below` bounds an index."""
    if values.dtype.kind != "i" or values.ndim < 1 or (flat and values.ndim > 1):
        raise InputError(f"{name} must be whole numbers, got {values.dtype} of {values.shape}")
    if num_rows is not None and len(values) != num_rows:
        raise InputError(f"{name} must have {num_rows} rows, got {len(values)}")
    if below is not None and not 0 <= int(values.min()) <= int(values.max()) < below:
        raise InputError(f"{name} must be in 0..{below - 1}, got {values.min()}..{values.max()}")
    widened = values.astype(np.int64)
    widened.setflags(write=False)
    return widened


def _expert_actions(arrays: dict[str, Column], num_steps: int) -> IntArray | None:
    """Take the answers of an expert out of the arrays of a shard, if there are any."""
    if "expert_actions" not in arrays:
        return None
    return _whole("expert_actions", arrays.pop("expert_actions"), num_steps, flat=False)


def _reals(name: str, values: Column, num_rows: int) -> FloatArray:
    if values.dtype != np.float64 or values.shape != (num_rows,):
        raise InputError(
            f"{name} must be float64 of shape ({num_rows},), got {values.dtype} of {values.shape}"
        )
    return values


def _flags(name: str, values: Column, num_rows: int) -> BoolArray:
    if values.dtype != np.bool_ or values.shape != (num_rows,):
        raise InputError(
            f"{name} must be bool of shape ({num_rows},), got {values.dtype} of {values.shape}"
        )
    return values


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
