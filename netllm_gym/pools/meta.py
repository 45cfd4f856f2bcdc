"""The `meta.json` of an experience pool: its plan, and which shards are written.

It holds no time, and no paths but those in the options of the command, so equal commands give equal
bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.typed_json import as_json, checked, in_range, read_checked, short

SCHEMA_VERSION = 1
META = "meta.json"
MAX_SHARDS = 100_000  # five digits in a shard's name
MAX_COUNT = 2**40  # of a shard's bytes, episodes and steps; sums over a pool stay within int64


Count = Annotated[int, in_range(1, MAX_COUNT)]


@dataclass(frozen=True)
class ShardEntry:
    """The entry of a shard in `meta.json`."""

    number: int
    sha256: str
    num_bytes: Annotated[int, in_range(0, MAX_COUNT)]
    num_episodes: Count
    num_steps: Count
    policies: tuple[str, ...]
    seeds: tuple[int, int]  # lowest and highest


@dataclass(frozen=True)
class _Plan:
    num_shards: Annotated[int, in_range(1, MAX_SHARDS)]


@dataclass(frozen=True)
class _Format:
    format: Literal["netllm-gym experience pool"]
    schema_version: int


@dataclass(frozen=True)
class Meta(_Format):
    """The content of `meta.json`.

    Attributes:
        problem: Name of the problem.
        env_spec: Arguments and data from which the environment was made.
        plan: The plan of the pool; `num_shards` is the number of shards of the finished pool.
        shards: The shards that are written, by rising number.
    """

    problem: str
    env_spec: dict[str, Any]
    plan: dict[str, Any]
    shards: tuple[ShardEntry, ...]

    def __post_init__(self) -> None:
        checked(_Plan, self.plan, "plan", ignore_unknown=True)
        numbers = [entry.number for entry in self.shards]
        if numbers != sorted(set(numbers) & set(range(self.num_planned))):
            raise InputError(
                f"shards must be numbered once each below {self.num_planned}, in rising order, "
                f"got {short(numbers)}"
            )

    @classmethod
    def asked(cls, problem: str, env_spec: Mapping[str, Any], plan: Mapping[str, Any]) -> "Meta":
        """Describe a pool of which no shard is written yet.

        Raises:
            InputError: If the plan does not say how many shards, or something is no JSON.
        """
        env_spec, plan = as_json("env_spec", env_spec), as_json("plan", plan)
        return cls("netllm-gym experience pool", SCHEMA_VERSION, problem, env_spec, plan, ())

    @property
    def num_planned(self) -> int:
        """Number of shards of the finished pool."""
        return int(self.plan["num_shards"])

    def with_shard(self, entry: ShardEntry) -> "Meta":
        """Return the content with a shard that was written."""
        others = [each for each in self.shards if each.number != entry.number]
        return replace(self, shards=tuple(sorted([*others, entry], key=lambda each: each.number)))

    def to_json(self) -> bytes:
        """Return the content as JSON; equal content gives equal bytes."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode("ascii")

    @classmethod
    def read(cls, path: Path) -> "Meta":
        """Read a pool's `meta.json`.

        Raises:
            InputError: If it does not describe a pool, or a pool of another version.
        """
        name = "the description of an experience pool"
        version = read_checked(path, _Format, name, ignore_unknown=True).schema_version
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path} must have schema version {SCHEMA_VERSION}, got {version!r}: "
                "the pool belongs to another version of netllm-gym"
            )
        found = read_checked(path, cls, name, ignore_unknown=True)
        with errors_begin_with(path):  # Python's reader takes Infinity and NaN, which are no JSON
            as_json("env_spec", found.env_spec)
            as_json("plan", found.plan)
        return found
