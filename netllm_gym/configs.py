"""Frozen configurations that refuse nonsense at birth, travel as JSON and are options of commands.

A config documents each field in the `Attributes:` section of its docstring. Those lines, the types
and the defaults are all that a command line needs to offer the fields as options.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import (
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import docstring_parser

from netllm_gym.errors import InputError, nearest
from netllm_gym.typed_json import checked

MAX_SEED = 2**31 - 1  # leaves room for the number of the update beside it

T = TypeVar("T")


def check(holds: bool, name: str, rule: str, value: object) -> None:
    """Raise `InputError` unless the rule holds."""
    if not holds:
        raise InputError(f"{name} must {rule}, got {value!r}")


def to_json(config: Any) -> dict[str, Any]:
    """Return a config as plain JSON values."""
    return dataclasses.asdict(config)


def from_json(kind: type[T], values: Mapping[str, Any]) -> T:
    """Rebuild the config of type `kind` that `to_json` wrote.

    Raises:
        InputError: If a name is unknown, or a value is of another type or breaks a rule.
    """
    return checked(kind, values)


class Option(NamedTuple):
    """A field of a config, or of a config within it, as an option of a command."""

    name: str
    path: tuple[str, ...]  # names of the fields that lead to it
    kind: Any  # its type
    default: Any
    help: str
    is_advanced: bool  # shown by --help-all only


def option(
    name: str = "", *, advanced: bool = False, derived: bool = False, resolved: bool = False
) -> dict[str, Any]:
    """Return the metadata of a field that says how it appears among the options of a command.

    Args:
        name: Of the option; empty takes the field's own.
        advanced: Whether a short help leaves it out.
        derived: Whether it follows from data or other fields, so that it is not an option.
        resolved: Whether the config replaces the default by what suits its other fields, so that
            the default stands again when others change.
    """
    return {"option": name, "advanced": advanced, "derived": derived, "resolved": resolved}


def options_of(config: Any) -> dict[str, Option]:
    """Return all options of a config by their names; its values are their defaults."""
    found: dict[str, Option] = {}
    for each in _leaves(config, ()):
        if each.name in found:
            raise ValueError(f"{type(config).__name__} must have one option {each.name}, got two")
        found[each.name] = each
    return found


def with_options(config: T, values: Mapping[str, Any]) -> T:
    """Return a config with other values of some options, given by the names of the options.

    Raises:
        InputError: If there is no such option, or a value is of another type or breaks a rule.
    """
    known = options_of(config)
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            whose = type(config).__name__
            raise InputError(f"{name} must be an option of {whose}{nearest(name, known)}")
        kind = known[name].kind
        try:
            value = checked(kind, value, name)
        except InputError:
            raise InputError(f"{name} must be {in_words(kind)}, got {value!r}") from None
        inner = changes
        for part in known[name].path[:-1]:
            inner = inner.setdefault(part, {})
        inner[known[name].path[-1]] = value
    try:
        return cast(T, _replaced(config, changes))
    except InputError as error:
        # A config names its field; whoever gave an option knows that by the option's name.
        said = str(error)
        for name in values:
            field = known[name].path[-1]
            if said.startswith(f"{field} must"):
                raise InputError(name + said.removeprefix(field)) from None
        raise


def in_words(kind: Any) -> str:
    """Return a type as an error or a help names it."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(in_words(each) for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        many = "values" if rest == [Ellipsis] else f"{1 + len(rest)} values"
        return f"{many}, each {in_words(first)}"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]


def from_text(kind: Any, text: str) -> Any:
    """Return what a text says of a value of some type; values of a tuple are between commas.

    Raises:
        ValueError: If it says none.
    """
    if get_origin(kind) is tuple:
        parts = [part.strip() for part in text.split(",")]
        return tuple(from_text(get_args(kind)[0], part) for part in parts if part)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return kind(text)


def without_none(kind: Any) -> Any:
    """Return the type of an option that may be left out, without the None that stands for that."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    return kinds[0] if get_origin(kind) in (Union, UnionType) and len(kinds) == 1 else kind


def _replaced(config: Any, changes: Mapping[str, Any]) -> Any:
    """Return a config with changed fields; a mapping holds the changes of a config within it."""
    anew = {each.name: each.default for each in dataclasses.fields(config) if _is_resolved(each)}
    changed = {
        name: _replaced(getattr(config, name), value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return dataclasses.replace(config, **anew | changed)


def _is_resolved(each: "dataclasses.Field[Any]") -> bool:
    return bool(each.metadata.get("resolved"))


def _leaves(config: Any, path: tuple[str, ...]) -> Iterator[Option]:
    """Yield the options of a config in the order of its fields."""
    hints, documented = get_type_hints(type(config)), _documented(type(config))
    for each in dataclasses.fields(config):
        value, here = getattr(config, each.name), (*path, each.name)
        if each.metadata.get("derived"):
            continue
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, here)
            continue
        yield Option(
            name=each.metadata.get("option") or each.name,
            path=here,
            kind=hints[each.name],
            default=each.default if _is_resolved(each) else value,
            help=documented[each.name],
            is_advanced=bool(each.metadata.get("advanced")),
        )


def _documented(kind: type) -> dict[str, str]:
    """Return field -> its description in the docstring of a config class or of a class above it."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        for parameter in docstring_parser.parse(each.__doc__ or "").params:
            found[parameter.arg_name] = " ".join((parameter.description or "").split())
    return found
