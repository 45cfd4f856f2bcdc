"""The `meta.json` of an experience pool: what was asked for, and which shards are written.

It holds no time, and of paths only those that were asked for by name, so equal commands give
equal descriptions, byte for byte.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from netllm_gym.errors import InputError

FORMAT, SCHEMA_VERSION = "netllm-gym experience pool", 1
META = "meta.json"
MAX_SHARDS = 100_000  # five digits in a shard's name
MAX_COUNT = 2**40  # of a shard's bytes, episodes and steps; sums over a pool stay within int64


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

    @classmethod
    def asked(cls, problem: str, env_spec: Mapping[str, Any], plan: Mapping[str, Any]) -> "Meta":
        """Describe a pool of which no shard is written yet.

        Raises:
            InputError: If the plan does not say how many shards, or something is no JSON.
        """
        return cls(problem, _json_dict("env_spec", env_spec), _checked_plan(plan), {})

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


# Inner parts -------------------------------------------------------------------------------------


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
        num_bytes=_count(row["num_bytes"], 0),
        num_episodes=_count(row["num_episodes"], 1),
        num_steps=_count(row["num_steps"], 1),
        policies=tuple(_typed(name, str) for name in row["policies"]),
        seeds=(low, high),
    )


def _count(value: Any, low: int) -> int:
    if type(value) is not int or not low <= value <= MAX_COUNT:
        raise InputError(f"a count must be a whole number in {low}..{MAX_COUNT}, got {value!r}")
    return value


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise InputError(f"{kind.__name__} must stand there, got {value!r}")
    return value


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
