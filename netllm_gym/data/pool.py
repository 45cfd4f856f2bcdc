"""Experience pools on disk: episodes plus where they came from.

A pool is a folder of shards, each a compressed `.npz` of flat columns that `numpy.load` opens
without pickle, and `meta.json`: schema version, problem, environment, the plan (what was asked
for), and for each shard its SHA-256, sizes, policies and seeds. Per-episode lengths say where each
episode lies in a column; a column whose rows are not one per step (CJS) carries its own.

Nothing holds a time or a path, so equal runs give equal bytes. Every file appears whole or not at
all, and `meta.json` is written after the shard that it speaks of, so a run that was killed at any
moment goes on to the same bytes. What does not match its hash is refused before it is parsed.
"""

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, overload

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from netllm_gym.data import abr
from netllm_gym.data.episode import Episode, FloatArray, IntArray
from netllm_gym.errors import InputError

FORMAT, SCHEMA_VERSION = "netllm-gym experience pool", 1
META, META_PART = "meta.json", ".meta.json.part"
MAX_SHARDS = 100_000  # five digits in a shard's name
DEFLATE_LEVEL = 1  # float columns hardly shrink further, and level 6 takes three times as long

Column = NDArray[Any]


class Codec(Protocol):
    """How the observations of one problem become columns; a module such as `data/abr.py`.

    The first dimension of a column may differ from T, the others are the same in all episodes.
    """

    @property
    def to_columns(self) -> Callable[[Any], dict[str, Column]]:
        """Take the observations of one episode apart."""

    @property
    def from_columns(self) -> Callable[[Mapping[str, Column]], Any]:
        """Rebuild the observations of one episode, exactly."""


CODECS: dict[str, Codec] = {"abr": abr}


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.npz"


# Shards ------------------------------------------------------------------------------------------


class PackedShard(NamedTuple):
    """A shard as bytes, with what `meta.json` says of it; a worker may pack, the writer writes."""

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
    texts: dict[str, list[str] | None] = {}  # the values of a case field, None for numbers
    for name, values in _by_name("case", [episode.case for episode in episodes]).items():
        texts[name], arrays[f"case.{name}"] = _number_values(name, values)
    for name, series in _by_name("infos", [episode.infos for episode in episodes]).items():
        arrays[f"info.{name}"] = _join(name, series)
    taken = [codec.to_columns(episode.observations) for episode in episodes]
    for name, parts in _by_name("columns", taken).items():
        arrays[f"column.{name}"] = _join(name, parts)
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
        offsets: (E + 1,) where each episode begins in each column.
    """

    path: Path
    policies: tuple[str, ...]
    policy: IntArray
    lengths: IntArray
    seeds: IntArray
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    cases: Mapping[str, Sequence[str | int]]
    actions: IntArray
    rewards: FloatArray
    infos: Mapping[str, FloatArray]
    columns: Mapping[str, Column]
    offsets: Mapping[str, IntArray]

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def steps(self) -> IntArray:
        """(E + 1,) where each episode begins."""
        return _offsets(self.lengths)

    def episode(self, index: int, codec: Codec) -> Episode:
        """Rebuild one episode."""
        fields, cuts = self._plain
        terminated, truncated, policy, seed, begin, end = fields[index]
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
        arrays = _unzip(data)
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
            offsets[name] = _offsets(rows)
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
            offsets=offsets,
        )
        if arrays or groups["rows"]:
            raise InputError(f"must hold no more than that, got {[*arrays, *groups['rows']][0]}")
    except Exception as error:  # crafted zip, npy and JSON headers can raise nearly anything
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} must be a shard of an experience pool: {reason}") from None
    return shard


# The description ---------------------------------------------------------------------------------


class ShardEntry(NamedTuple):
    """What `meta.json` says of a shard."""

    sha256: str
    num_bytes: int
    num_episodes: int
    num_steps: int
    policies: tuple[str, ...]
    seeds: tuple[int, int]  # lowest and highest


@dataclass(frozen=True)
class Meta:
    """The content of `meta.json`.

    Attributes:
        problem: Name of the problem.
        env_spec: What the environment was made from.
        plan: What was asked for; `num_shards` says how many shards make the pool whole.
        shards: The shards that are written, by number.
    """

    problem: str
    env_spec: dict[str, Any]
    plan: dict[str, Any]
    shards: dict[int, ShardEntry]

    @property
    def num_planned(self) -> int:
        """How many shards make the pool whole."""
        return int(self.plan["num_shards"])

    def to_json(self) -> bytes:
        """Write it out; equal content gives equal bytes."""
        content = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "problem": self.problem,
            "env_spec": self.env_spec,
            "plan": self.plan,
            "shards": [
                {"number": number, **self.shards[number]._asdict()}
                for number in sorted(self.shards)
            ],
        }
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode("ascii")

    @classmethod
    def from_json(cls, data: bytes, path: Path) -> "Meta":
        """Read it back.

        Raises:
            InputError: If it is no pool's, or another version's.
        """
        try:
            content = json.loads(data)
            if content["format"] != FORMAT:
                raise InputError(f"format must be {FORMAT!r}, got {content['format']!r}")
            version = content["schema_version"]
        except Exception as error:  # any bytes may stand there
            raise InputError(f"{path} must describe an experience pool: {_reason(error)}") from None
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} must have schema version {SCHEMA_VERSION}, got {version!r}: "
                "the pool belongs to another version of netllm-gym"
            )
        try:
            meta = cls(
                problem=_typed(content["problem"], str),
                env_spec=_json_dict("env_spec", content["env_spec"]),
                plan=_checked_plan(content["plan"]),
                shards={_typed(row["number"], int): _entry(row) for row in content["shards"]},
            )
            beyond = [number for number in meta.shards if not 0 <= number < meta.num_planned]
            if beyond or len(meta.shards) != len(content["shards"]):
                raise InputError(f"shards must be numbered once each below {meta.num_planned}")
        except Exception as error:  # any JSON may stand there
            raise InputError(f"{path} must describe an experience pool: {_reason(error)}") from None
        return meta


# Reading -----------------------------------------------------------------------------------------


class PolicySummary(NamedTuple):
    """What one policy left in a pool."""

    num_episodes: int
    num_steps: int
    mean_return: float  # per episode, undiscounted
    mean_reward: float  # per step


class PoolSummary(NamedTuple):
    """What is in a pool."""

    problem: str
    num_shards: int
    num_planned: int
    num_episodes: int
    num_steps: int
    num_bytes: int
    policies: dict[str, PolicySummary]


class ExperiencePool:
    """Episodes on disk; one shard at a time is in memory. Made by `load`.

    Attributes:
        folder: Where it lies.
        problem: Name of the problem.
        env_spec: What the environment was made from.
        plan: What was asked for.
    """

    def __init__(self, folder: Path, meta: Meta, codec: Codec) -> None:
        self.folder, self.codec, self._meta = folder, codec, meta
        self.problem, self.env_spec, self.plan = meta.problem, meta.env_spec, meta.plan
        self._numbers = sorted(meta.shards)
        self._held: tuple[int, Shard] | None = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        problem: str | None = None,
        allow_unfinished: bool = False,
        codec: Codec | None = None,
    ) -> "ExperiencePool":
        """Open a pool; every shard's hash is checked here, its content when it is read.

        Args:
            folder: Where the pool lies.
            problem: Refuse a pool of another problem.
            allow_unfinished: Take the shards that are there, where the plan asked for more.
            codec: Of the observations; by default that of the pool's problem.

        Raises:
            InputError: If there is no pool, or it is unfinished or of another problem or schema
                version, or a shard is missing, truncated or altered.
        """
        folder = Path(folder)
        meta = _read_meta(folder)
        if problem is not None and meta.problem != problem:
            raise InputError(f"{folder} must be a pool of {problem}, got one of {meta.problem}")
        codec = _codec_of(meta.problem, codec, f"{folder}: ")
        if len(meta.shards) < meta.num_planned and not allow_unfinished:
            raise InputError(
                f"{folder} must be finished, got {len(meta.shards)} of {meta.num_planned} shards: "
                "run the command that began it once more, or allow unfinished pools"
            )
        if not meta.shards:
            raise InputError(f"{folder} must hold at least one shard, got none yet")
        for number, entry in meta.shards.items():
            _read_whole(folder / shard_name(number), entry)
        return cls(folder, meta, codec)

    def __len__(self) -> int:
        return sum(entry.num_episodes for entry in self._meta.shards.values())

    @property
    def num_steps(self) -> int:
        """Decisions in all episodes."""
        return sum(entry.num_steps for entry in self._meta.shards.values())

    @property
    def num_bytes(self) -> int:
        """Size of the shards on disk."""
        return sum(entry.num_bytes for entry in self._meta.shards.values())

    @property
    def finished(self) -> bool:
        """Whether all planned shards are there."""
        return len(self._numbers) == self._meta.num_planned

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the policies that acted, sorted."""
        return tuple(
            sorted({name for entry in self._meta.shards.values() for name in entry.policies})
        )

    @property
    def episodes(self) -> "PoolEpisodes":
        """The episodes in order; iterating reads shard after shard."""
        return PoolEpisodes(self)

    def shards(self) -> Iterator[Shard]:
        """Read shard after shard; what is not kept is freed."""
        for place in range(len(self._numbers)):
            yield self._read(place)

    def columns(self, *names: str) -> dict[str, Column]:
        """Read columns of the whole pool, all episodes one after the other.

        Args:
            names: Per episode (E,): `lengths`, `seeds`, `terminated`, `truncated`, `policy` (index
                into `policies` of the pool). Per step (S,): `actions`, `rewards`, `info.<name>`.
                Of the observations: `column.<name>`.
        """
        parts: dict[str, list[Column]] = {name: [] for name in names}
        for shard in self.shards():
            found = {
                **{"lengths": shard.lengths, "seeds": shard.seeds, "actions": shard.actions},
                **{"terminated": shard.terminated, "truncated": shard.truncated},
                **{"rewards": shard.rewards, "policy": self._pool_policy(shard)},
                **{f"info.{name}": values for name, values in shard.infos.items()},
                **{f"column.{name}": values for name, values in shard.columns.items()},
            }
            for name in names:
                if name not in found:
                    raise InputError(f"columns must be among {', '.join(found)}, got {name!r}")
                parts[name].append(found[name])
        return {name: np.concatenate(values) for name, values in parts.items()}

    def summary(self) -> PoolSummary:
        """Count steps and rewards per policy."""
        names = self.policies
        episodes, steps, paid = (np.zeros(len(names)) for _ in range(3))
        for shard in self.shards():
            policy = self._pool_policy(shard)
            returns = np.add.reduceat(shard.rewards, shard.steps[:-1])
            episodes += np.bincount(policy, minlength=len(names))
            steps += np.bincount(policy, shard.lengths, minlength=len(names))
            paid += np.bincount(policy, returns, minlength=len(names))
        rows = zip(names, episodes.tolist(), steps.tolist(), paid.tolist(), strict=True)
        return PoolSummary(
            problem=self.problem,
            num_shards=len(self._numbers),
            num_planned=self._meta.num_planned,
            num_episodes=len(self),
            num_steps=self.num_steps,
            num_bytes=self.num_bytes,
            policies={
                name: PolicySummary(int(count), int(length), total / count, total / length)
                for name, count, length, total in rows
            },
        )

    @cached_property
    def _begins(self) -> IntArray:  # (shards + 1,) episodes before each shard
        return _offsets(np.array([self._meta.shards[n].num_episodes for n in self._numbers]))

    def _episode(self, index: int) -> Episode:
        place = int(np.searchsorted(self._begins, index, side="right")) - 1
        if self._held is None or self._held[0] != place:
            self._held = None  # free it first
            self._held = (place, self._read(place))
        return self._held[1].episode(index - int(self._begins[place]), self.codec)

    def _read(self, place: int) -> Shard:
        number = self._numbers[place]
        path, entry = self.folder / shard_name(number), self._meta.shards[number]
        shard = parse_shard(_read_whole(path, entry), path)
        here = (len(shard), int(shard.lengths.sum()), shard.policies)
        if here != (entry.num_episodes, entry.num_steps, entry.policies):
            raise InputError(
                f"{path} must hold {entry.num_episodes} episodes, {entry.num_steps} steps "
                f"of {', '.join(entry.policies)} as {META} says, got {here}"
            )
        return shard

    def _pool_policy(self, shard: Shard) -> IntArray:
        mine = [self.policies.index(name) for name in shard.policies]
        return np.array(mine, np.int64)[shard.policy]


class PoolEpisodes(Sequence[Episode]):
    """The episodes of a pool, read when they are asked for; the last shard read is kept."""

    def __init__(self, pool: ExperiencePool) -> None:
        self._pool = pool

    def __len__(self) -> int:
        return len(self._pool)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> list[Episode]: ...
    def __getitem__(self, index: int | slice) -> Episode | list[Episode]:
        if isinstance(index, slice):
            return [self._pool._episode(one) for one in range(*index.indices(len(self)))]
        return self._pool._episode(range(len(self))[index])

    def __iter__(self) -> Iterator[Episode]:
        for shard in self._pool.shards():
            for index in range(len(shard)):
                yield shard.episode(index, self._pool.codec)
            del shard  # before the next one is read


# Writing -----------------------------------------------------------------------------------------


class PoolWriter:
    """Writes a pool shard by shard against a plan; opened again with the same plan, it goes on.

    One process holds the writer; others may pack (`pack_shard`) and hand it what they packed.

    Args:
        folder: Made if it is not there; else it must be empty or hold a pool of the same plan.
        problem: Name of the problem.
        env_spec: What the environment is made from; JSON.
        plan: All that decides what the pool will hold, policies and seeds included; JSON.
            `num_shards` says how many shards make it whole.
        codec: Of the observations; by default that of the problem.

    Raises:
        InputError: If the folder holds something else; nothing is written then.
    """

    def __init__(
        self,
        folder: str | Path,
        problem: str,
        env_spec: Mapping[str, Any],
        plan: Mapping[str, Any],
        codec: Codec | None = None,
    ) -> None:
        self.folder, self.codec = Path(folder), _codec_of(problem, codec)
        asked = Meta(problem, _json_dict("env_spec", env_spec), _checked_plan(plan), {})
        with _as_sentence(self.folder, "written to"):
            listing = {path.name for path in self.folder.iterdir()} if self.folder.exists() else ()
            if set(listing) - {META_PART}:
                self._meta = _read_meta(self.folder, "be empty or an experience pool")
                _check_same_plan(self.folder, asked, self._meta)
                for name in listing:  # what a killed run left half written
                    if re.fullmatch(r"\.shard-\d{5}\.npz\.part|\.meta\.json\.part", name):
                        (self.folder / name).unlink()
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._meta = asked
                self._write_file(META, asked.to_json())

    @property
    def num_shards(self) -> int:
        """How many shards the plan asks for."""
        return self._meta.num_planned

    def has(self, number: int) -> bool:
        """Whether a shard is written, and as `meta.json` says."""
        entry = self._meta.shards.get(number)
        if entry is None:
            return False
        try:
            _read_whole(self.folder / shard_name(number), entry)
        except InputError:
            return False
        return True

    def missing(self) -> list[int]:
        """Numbers of the shards that are still to be written, or broken."""
        return [number for number in range(self.num_shards) if not self.has(number)]

    def write(self, number: int, episodes: Sequence[Episode]) -> None:
        """Write one shard; it is there, whole, when this returns."""
        self.write_packed(number, pack_shard(episodes, self.codec))

    def write_packed(self, number: int, shard: PackedShard) -> None:
        """Write a shard that `pack_shard` made, perhaps in another process."""
        if not 0 <= number < self.num_shards:
            raise InputError(f"shard must be in 0..{self.num_shards - 1} as planned, got {number}")
        entry = ShardEntry(hashlib.sha256(shard.data).hexdigest(), len(shard.data), *shard[1:])
        meta = replace(self._meta, shards={**self._meta.shards, number: entry})
        with _as_sentence(self.folder, "written to"):
            self._write_file(shard_name(number), shard.data)
            self._write_file(META, meta.to_json())
        self._meta = meta

    def _write_file(self, name: str, data: bytes) -> None:
        """Put a file in place, whole: after a power cut there is the old one or the new one."""
        part = self.folder / f".{name}.part"
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.folder / name)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        if os.name == "posix":  # the new name itself must reach the disk too
            handle = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


# Inner parts -------------------------------------------------------------------------------------


def _codec_of(problem: str, codec: Codec | None, where: str = "") -> Codec:
    if codec is not None:
        return codec
    if problem not in CODECS:
        raise InputError(f"{where}problem must be one of {', '.join(CODECS)}, got {problem!r}")
    return CODECS[problem]


@contextmanager
def _as_sentence(path: Path, purpose: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # read-only, full, not a folder
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path} must be a folder that can be {purpose}: {reason}") from None


def _read_meta(folder: Path, rule: str = "be an experience pool") -> Meta:
    path = folder / META
    if not folder.is_dir():
        raise InputError(f"{folder} must {rule}, got no such folder")
    if not path.exists():
        raise InputError(f"{folder} must {rule}, got a folder without {META}")
    with _as_sentence(folder, "read"):
        data = path.read_bytes()
    return Meta.from_json(data, path)


def _read_whole(path: Path, entry: ShardEntry) -> bytes:
    """Return a shard's bytes if they are the ones that were written."""
    advice = "run the command that made the pool once more, it writes only this shard anew"
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{path} must be readable, got {reason}: {advice}") from None
    if len(data) < entry.num_bytes:
        raise InputError(
            f"{path} must have {entry.num_bytes} bytes, got {len(data)}, it is truncated: {advice}"
        )
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise InputError(
            f"{path} must have SHA-256 {entry.sha256}, got {found}, it was altered: {advice}"
        )
    return data


def _check_same_plan(folder: Path, asked: Meta, found: Meta) -> None:
    if asked.problem != found.problem:
        raise InputError(
            f"{folder} must be a pool of {asked.problem} to go on with, got one of {found.problem}"
        )
    for what in ("plan", "env_spec"):
        ours, theirs = getattr(asked, what), getattr(found, what)
        for key in sorted({*ours, *theirs}):
            if json.dumps(ours.get(key)) != json.dumps(theirs.get(key)):  # 1 and True differ
                raise InputError(
                    f"{folder} must have the same {what} to go on with it, got "
                    f"{key} {theirs.get(key)!r} there and {ours.get(key)!r} asked for: "
                    "choose another folder"
                )


def _json_dict(name: str, value: Any) -> dict[str, Any]:
    """Return a dict as it comes back from JSON, so that what is compared is what is written."""
    try:
        result = json.loads(json.dumps(dict(value), sort_keys=True, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{name} must be a dict of JSON values: {error}") from None
    assert isinstance(result, dict)
    return result


def _checked_plan(value: Any) -> dict[str, Any]:
    plan = _json_dict("plan", value)
    num_shards = plan.get("num_shards")
    if type(num_shards) is not int or not 1 <= num_shards <= MAX_SHARDS:
        raise InputError(f"plan must have num_shards in 1..{MAX_SHARDS}, got {num_shards!r}")
    return plan


def _entry(row: dict[str, Any]) -> ShardEntry:
    low, high = (_typed(seed, int) for seed in row["seeds"])
    return ShardEntry(
        sha256=_typed(row["sha256"], str),
        num_bytes=_typed(row["num_bytes"], int),
        num_episodes=_typed(row["num_episodes"], int),
        num_steps=_typed(row["num_steps"], int),
        policies=tuple(_typed(name, str) for name in row["policies"]),
        seeds=(low, high),
    )


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise InputError(f"{kind.__name__} must stand there, got {value!r}")
    return value


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def _offsets(lengths: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


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
    """Return a case field as numbers, with the texts they stand for where it is text."""
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


def _reals(name: str, values: Column, num_rows: int) -> FloatArray:
    if values.dtype != np.float64 or values.shape != (num_rows,):
        raise InputError(
            f"{name} must be float64 of shape ({num_rows},), got {values.dtype} of {values.shape}"
        )
    return values


def _flags(name: str, values: Column, num_rows: int) -> NDArray[np.bool_]:
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
