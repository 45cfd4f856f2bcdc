"""Experience pools on disk: episodes, and where they came from.

A pool is a folder of shards (see `shard.py`) and a file `meta.json` (see `meta.py`), which holds
the schema version, the problem, the environment, the plan (what was asked for), and the SHA-256,
sizes, policies and seeds of each shard.

No file holds a time, and the plan names data as the caller did, so equal runs give equal bytes.
Every file is written whole or not at all, and `meta.json` is written after the shard that it
describes, so a run that was killed at any moment can be resumed and ends with the same bytes. A
shard that does not match its hash is refused before it is parsed.
"""

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from netllm_gym.arrays import IntArray
from netllm_gym.errors import InputError
from netllm_gym.files import (
    MOST_BYTES,
    check_can_be_folder,
    part_of,
    read_regular,
    write_whole,
)
from netllm_gym.pools.episode import Episode
from netllm_gym.pools.meta import META, Meta, ShardEntry
from netllm_gym.pools.shard import (
    Codec,
    Column,
    PackedShard,
    Shard,
    codec_of,
    pack_shard,
    parse_shard,
)
from netllm_gym.problems.index import find_control
from netllm_gym.typed_json import short

MOST_STEP_BYTES = 2**16  # inflated, of an observation and all that is kept beside it


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.npz"


# Reading -----------------------------------------------------------------------------------------


class PolicySummary(NamedTuple):
    """Numbers of the episodes of one policy in a pool."""

    num_episodes: int
    num_steps: int
    mean_return: float  # per episode, undiscounted
    mean_reward: float  # per step


class PoolSummary(NamedTuple):
    """Numbers of a pool, and of each policy in it."""

    problem: str
    num_shards: int
    num_planned: int
    num_episodes: int
    num_steps: int
    num_bytes: int
    policies: dict[str, PolicySummary]


class ExperiencePool:
    """Episodes on disk, of which one shard at a time is in memory. Use `load` to open one.

    Attributes:
        folder: Folder of the pool.
        problem: Name of the problem.
        env_spec: Arguments and data from which the environment was made.
        plan: The plan of the collection, such as its policies and seeds.
    """

    def __init__(self, folder: Path, meta: Meta, codec: Codec) -> None:
        self.folder, self.codec, self._meta = folder, codec, meta
        self.problem, self.env_spec, self.plan = meta.problem, meta.env_spec, meta.plan
        self._held: tuple[int, Shard] | None = None

    @classmethod
    def load(
        cls,
        folder: str | Path,
        problem: str | None = None,
        allow_unfinished: bool = False,
        codec: Codec | None = None,
    ) -> "ExperiencePool":
        """Open a pool and check the hash of every shard. The content is checked when it is read.

        Args:
            folder: Folder of the pool.
            problem: Refuse a pool of another problem.
            allow_unfinished: Also open a pool that lacks some of its planned shards.
            codec: Codec of the observations; by default that of the pool's problem.

        Raises:
            InputError: If there is no pool, or it is unfinished or of another problem or schema
                version, or a shard is missing, truncated or altered.
        """
        folder = Path(folder)
        meta = _read_meta(folder)
        if problem is not None and meta.problem != problem:
            raise InputError(f"{folder} must be a pool of {problem}, got one of {meta.problem}")
        try:
            codec = codec or codec_of(find_control(meta.problem))
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        if len(meta.shards) < meta.num_planned and not allow_unfinished:
            raise InputError(
                f"{folder} must be finished, got {len(meta.shards)} of {meta.num_planned} shards: "
                "run the command that began it once more, or allow unfinished pools"
            )
        if not meta.shards:
            raise InputError(f"{folder} must hold at least one shard, got none yet")
        for entry in meta.shards:
            _read_whole(folder / shard_name(entry.number), entry)
        return cls(folder, meta, codec)

    def __len__(self) -> int:
        return sum(entry.num_episodes for entry in self._meta.shards)

    @property
    def num_steps(self) -> int:
        """Decisions in all episodes."""
        return sum(entry.num_steps for entry in self._meta.shards)

    @property
    def num_bytes(self) -> int:
        """Size of the shards on disk."""
        return sum(entry.num_bytes for entry in self._meta.shards)

    @property
    def sha256(self) -> str:
        """Hash of the content of the pool: the hash of the hashes of its shards, in order."""
        hashes = [entry.sha256 for entry in self._meta.shards]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    @property
    def finished(self) -> bool:
        """Whether all planned shards are there."""
        return len(self._meta.shards) == self._meta.num_planned

    @cached_property
    def has_expert(self) -> bool:
        """Whether the pool has the actions of an expert, for every step.

        Raises:
            InputError: If some shards have them and others do not.
        """
        asked = ["expert_actions" in shard.arrays for shard in self.shards()]
        if any(asked) and not all(asked):
            raise InputError(
                f"{self.folder} must hold expert_actions in all shards or in none, "
                f"got {sum(asked)} of {len(asked)}"
            )
        return asked[0]

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the policies that acted, sorted."""
        return tuple(sorted({name for entry in self._meta.shards for name in entry.policies}))

    @property
    def episodes(self) -> "PoolEpisodes":
        """The episodes in order; iterating reads shard after shard."""
        return PoolEpisodes(self)

    def shards(self) -> Iterator[Shard]:
        """Read shard after shard. A shard that the caller does not keep is freed."""
        for place in range(len(self._meta.shards)):
            yield self._read(place)

    def columns(self, *names: str) -> dict[str, Column]:
        """Read columns of the whole pool, all episodes one after the other.

        Args:
            names: Per episode (E,): `lengths`, `seeds`, `terminated`, `truncated`, `policy` (index
                into `policies` of the pool). Per step (S,): `actions`, `rewards`, `info.<name>`,
                `expert_actions` where there are any.
                Of the observations: `column.<name>`.
        """
        parts: dict[str, list[Column]] = {name: [] for name in names}
        for shard in self.shards():
            hidden = ("case.", "rows.")
            found = {name: it for name, it in shard.arrays.items() if not name.startswith(hidden)}
            found["policy"] = self._pool_policy(shard)
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
            returns = np.add.reduceat(shard.arrays["rewards"], shard.begins)
            episodes += np.bincount(policy, minlength=len(names))
            steps += np.bincount(policy, shard.arrays["lengths"], minlength=len(names))
            paid += np.bincount(policy, returns, minlength=len(names))
        rows = zip(names, episodes.tolist(), steps.tolist(), paid.tolist(), strict=True)
        return PoolSummary(
            problem=self.problem,
            num_shards=len(self._meta.shards),
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
    def _begins(self) -> list[int]:  # episodes before each shard
        return [0, *accumulate(entry.num_episodes for entry in self._meta.shards)]

    def _episode(self, index: int) -> Episode:
        place = bisect_right(self._begins, index) - 1
        if self._held is None or self._held[0] != place:
            self._held = None  # free it first
            self._held = (place, self._read(place))
        return self._held[1].episode(index - self._begins[place], self.codec)

    def _read(self, place: int) -> Shard:
        entry = self._meta.shards[place]
        path = self.folder / shard_name(entry.number)
        most_bytes = min(2**20 + entry.num_steps * MOST_STEP_BYTES, MOST_BYTES)
        shard = parse_shard(_read_whole(path, entry), path, most_bytes)
        here = (len(shard), int(shard.arrays["lengths"].sum()), shard.policies)
        if here != (entry.num_episodes, entry.num_steps, entry.policies):
            raise InputError(
                f"{path} must hold {entry.num_episodes} episodes, {entry.num_steps} steps "
                f"of {', '.join(entry.policies)} as {META} says, got {here}"
            )
        return shard

    def _pool_policy(self, shard: Shard) -> IntArray:
        mine = [self.policies.index(name) for name in shard.policies]
        return np.array(mine, np.int64)[shard.arrays["policy"]]


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


# Writing -----------------------------------------------------------------------------------------


class PoolWriter:
    """Writes the shards of a planned pool; a writer with the same plan and folder resumes it.

    Only one process may have the writer. Other processes may pack shards with `pack_shard`, and the
    writer writes them with `write_packed`.

    Args:
        folder: It is made if it does not exist; else it must be empty or hold a pool of this plan.
        problem: Name of the problem.
        env_spec: Arguments and data from which the environment is made; JSON.
        plan: Everything that decides the content of the pool, such as policies and seeds; JSON.
            `num_shards` is the number of shards of the finished pool.
        codec: Codec of the observations; by default that of the problem.

    Raises:
        InputError: If the folder holds something else; nothing is written then.
        OSError: If the machine cannot write; what was there before stays.
    """

    def __init__(
        self,
        folder: str | Path,
        problem: str,
        env_spec: Mapping[str, Any],
        plan: Mapping[str, Any],
        codec: Codec | None = None,
    ) -> None:
        self.folder, self.codec = Path(folder), codec or codec_of(find_control(problem))
        asked = Meta.asked(problem, env_spec, plan)
        check_can_be_folder("pool", self.folder)
        listing = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        if listing - {part_of(self.folder / META).name}:
            self._meta = _read_meta(self.folder, "be empty or an experience pool")
            _check_same_plan(self.folder, asked, self._meta)
            for name in listing:  # what a killed run left half written
                if re.fullmatch(r"\.shard-\d{5}\.npz\.part|\.meta\.json\.part", name):
                    (self.folder / name).unlink()
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._meta = asked
            write_whole(self.folder / META, asked.to_json())

    @property
    def num_shards(self) -> int:
        """Number of shards of the finished pool."""
        return self._meta.num_planned

    def has(self, number: int) -> bool:
        """Whether a shard is written and has the hash that `meta.json` names."""
        try:
            for entry in self._meta.shards:
                if entry.number == number:
                    return bool(_read_whole(self.folder / shard_name(number), entry))
        except InputError:
            pass
        return False

    def missing(self) -> list[int]:
        """Return the numbers of the shards that are not yet written, or are broken."""
        return [number for number in range(self.num_shards) if not self.has(number)]

    def write(self, number: int, episodes: Sequence[Episode]) -> None:
        """Write one shard. When this returns, the whole shard is on disk."""
        self.write_packed(number, pack_shard(episodes, self.codec))

    def write_packed(self, number: int, shard: PackedShard) -> None:
        """Write a shard that `pack_shard` made, perhaps in another process."""
        if not 0 <= number < self.num_shards:
            raise InputError(f"shard must be in 0..{self.num_shards - 1} as planned, got {number}")
        sha256 = hashlib.sha256(shard.data).hexdigest()
        entry = ShardEntry(number, sha256, len(shard.data), *shard[1:])
        meta = self._meta.with_shard(entry)
        write_whole(self.folder / shard_name(number), shard.data)
        write_whole(self.folder / META, meta.to_json())
        self._meta = meta


# Inner parts -------------------------------------------------------------------------------------


def _read_meta(folder: Path, rule: str = "be an experience pool") -> Meta:
    path = folder / META
    if not folder.is_dir():
        raise InputError(f"{folder} must {rule}, got no such folder")
    if not path.exists():
        raise InputError(f"{folder} must {rule}, got a folder without {META}")
    return Meta.read(path)


def _read_whole(path: Path, entry: ShardEntry) -> bytes:
    """Return the bytes of a shard, after their hash was checked."""
    advice = "run the command that made the pool once more, it writes only this shard anew"
    try:
        data = read_regular(path)
    except FileNotFoundError:
        raise InputError(f"{path} must be in the pool, got no such file: {advice}") from None
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
            f"{folder} must be a pool of {asked.problem} to resume, got one of {found.problem}"
        )
    differs = [*_differences(asked.plan, found.plan), *_differences(asked.env_spec, found.env_spec)]
    if differs:
        # What follows from the options comes last: the number of shards, and what was played.
        told = sorted(
            differs, key=lambda each: each.startswith(("num_shards", "recordings", "sha"))
        )
        raise InputError(
            f"{folder} must be a pool of the same options to be continued, got {told[0]}: choose "
            "another folder, or the options of the pool"
        )


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Say in which values two dicts of JSON values differ, also in dicts within them."""
    for key in sorted({*ours, *theirs}):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            yield from _differences(mine, other, "" if key == "arguments" else f"{key}.")
        elif json.dumps(mine) != json.dumps(other):  # 1 and True differ
            there, here = ("none" if each is None else short(each) for each in (other, mine))
            yield f"{at}{key} {there} in the pool and {here} asked for"
