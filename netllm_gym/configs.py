"""Frozen configurations that refuse nonsense at birth and travel as JSON."""

import dataclasses
import math
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from netllm_gym.errors import InputError

MAX_SEED = 2**31 - 1  # leaves room for the number of the update beside it
MOST_AT_ONCE = 1_000_000  # windows, episodes or passes of an update
MOST_THREADS = 1024
MOST_UPDATES = 2**31 - 1

T = TypeVar("T")


def check(holds: bool, name: str, rule: str, value: object) -> None:
    """Raise `InputError` unless the rule holds."""
    if not holds:
        raise InputError(f"{name} must {rule}, got {value!r}")


def check_most(config: Any, **most: int) -> None:
    """Raise `InputError` for a field above the most that it may be."""
    for name, bound in most.items():
        value = getattr(config, name)
        check(value <= bound, name, f"be at most {bound}", value)


def check_schedule(config: Any, *at_once: str) -> None:
    """Raise `InputError` unless what all training schedules have is in order.

    Args:
        config: With updates, validate_every, checkpoint_every, threads and seed.
        at_once: Its fields that say how much an update takes.
    """
    for name in ("updates", *at_once):
        check(getattr(config, name) >= 1, name, "be at least 1", getattr(config, name))
    for name in ("validate_every", "checkpoint_every", "threads"):
        check(getattr(config, name) >= 0, name, "be at least 0", getattr(config, name))
    sizes = dict.fromkeys(at_once, MOST_AT_ONCE)
    check_most(config, updates=MOST_UPDATES, threads=MOST_THREADS, **sizes)
    check(0 <= config.seed <= MAX_SEED, "seed", f"be in 0..{MAX_SEED}", config.seed)


def to_json(config: Any) -> dict[str, Any]:
    """Return a config as plain JSON values."""
    return dataclasses.asdict(config)


def from_json(kind: type[T], values: Mapping[str, Any]) -> T:
    """Rebuild the config of type `kind` that `to_json` wrote.

    Raises:
        InputError: If a name is unknown, or a value is of another type or breaks a rule.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{kind.__name__} must be an object with fields, got {values!r}")
    fields = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise InputError(
            f"{kind.__name__} must have no field but {', '.join(fields)}, got {unknown[0]}"
        )
    plain: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            value = from_json(cast(type[Any], hint), value)
        plain[name] = tuple(value) if isinstance(value, list) else value
        told = hint.__name__ if isinstance(hint, type) else str(hint)
        check(_fits(plain[name], hint), name, f"be of the type {told}", value)
    return kind(**plain)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated type; a number must be finite, and is not a bool."""
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, each) for each in arguments)
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, hint)
