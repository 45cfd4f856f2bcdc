"""JSON from outside, checked against annotated types: a value of that type, or one sentence.

The types are plain dataclasses, whose fields may be dataclasses again. `Rule` adds to a type what
Python's annotations cannot say. pydantic does the checking; the sentences are ours, as everywhere:
`<name> must <rule>, got <value>`, where the name says the place in the JSON, `rows[0].mean`.
"""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from netllm_gym.errors import InputError, nearest
from netllm_gym.files import errors_begin_with, one_line, read_json

if TYPE_CHECKING:  # it takes a tenth of a second to load, and few commands read JSON
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

T = TypeVar("T")
MOST_LISTED = 12  # fields that an error names


@dataclass(frozen=True)
class Rule:
    """A rule for a value that is read from JSON, as in `Annotated[int, Rule(is_odd, "be odd")]`."""

    holds: Callable[[Any], bool]  # says whether a value of the annotated type keeps the rule
    told: str  # what the value must do, as the error says it

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Tell pydantic to check the rule after the type."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: T) -> T:
        from pydantic_core import PydanticCustomError

        if not self.holds(value):
            raise PydanticCustomError("rule", "Input should {told}", {"told": self.told})
        return value


def in_range(low: float, high: float) -> Rule:
    """Return the rule that a number lies in low..high, bounds included."""
    return Rule(lambda value: low <= value <= high, f"be in {low:.15g}..{high:.15g}")


Line = Annotated[str, Rule(str.isprintable, "be text of one line")]
Name = Annotated[Line, Rule(lambda text: bool(text.strip()), "be a name")]


def checked(kind: type[T], values: object, name: str = "", *, ignore_unknown: bool = False) -> T:
    """Return JSON values, as `json.loads` gives them, as an instance of an annotated type.

    Numbers must be finite and no booleans, an integer is taken where a float is asked for, lists
    become tuples, and every `Rule` must hold.

    Args:
        kind: A dataclass, whose fields may be dataclasses again, or another annotated type.
        values: The JSON values.
        name: How errors call the whole; the name of `kind` if it is left out.
        ignore_unknown: Leave out fields that `kind` does not have, instead of refusing them.

    Raises:
        InputError: If a value is missing, unknown, of another type, or breaks a rule.
    """
    from pydantic import ValidationError

    name = name or getattr(kind, "__name__", "the value")
    try:
        data = json.dumps(values, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{name} must be JSON values, got {one_line(error)}") from None
    try:
        made: T = _adapter(cast(Hashable, kind), ignore_unknown).validate_json(b"[%b]" % data)[0]
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InputError(_sentence(first, [values], name, kind)) from None
    return made


def read_checked(path: Path, kind: type[T], name: str = "", *, ignore_unknown: bool = False) -> T:
    """Read a JSON file as `checked` does; every error begins with the path."""
    values = read_json(path)
    with errors_begin_with(path):
        return checked(kind, values, name, ignore_unknown=ignore_unknown)


def as_json(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict as it comes back from a JSON file, so that what is compared is what is written.

    Raises:
        InputError: If it is not one of JSON values, or its text cannot be written as UTF-8, such as
            the name of a folder that is in another encoding.
    """
    try:
        text = json.dumps(dict(values), sort_keys=True, allow_nan=False, ensure_ascii=False)
        return dict(json.loads(text.encode()))
    except UnicodeEncodeError as error:
        got = error.object[max(error.start - 60, 0) : error.end]
        raise InputError(f"{name} must be of UTF-8 text, got {got!r}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{name} must be a dict of JSON values: {error}") from None


@cache
def _adapter(kind: Hashable, ignore_unknown: bool) -> "TypeAdapter[Any]":
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(
        strict=True, allow_inf_nan=False, extra="ignore" if ignore_unknown else "forbid"
    )
    # A plain dataclass takes the settings of what it stands in, so it stands in a tuple.
    return TypeAdapter(tuple[kind], config=config)  # type: ignore[valid-type]


def _sentence(error: "ErrorDetails", values: object, name: str, whole_kind: object) -> str:
    """Return what pydantic found as `<name> must <rule>, got <value>`."""
    kind, steps, found = error["type"], error["loc"], error["input"]
    if kind in ("missing", "unexpected_keyword_argument"):
        whole, last = _place(steps[:-1], values, name), steps[-1]
        if kind != "missing":
            known = _field_names(whole_kind) if whole == name else []
            return f"{whole} must have no unknown field, got {short(last)}{_hint(last, known)}"
        needed = last if isinstance(last, str) else f"{last + 1} values or more"
        there = sorted(found) if isinstance(found, dict) else found
        return f"{whole} must have {needed}, got {short(there)}"
    place = _place(steps, values, name)
    if kind == "value_error":  # a rule of the dataclass itself
        sentence = error["ctx"]["error"]
        return str(sentence) if place == name else f"{place}.{sentence}"
    rule = error["msg"].partition(" should ")[2] or f"be plain JSON ({error['msg']})"
    return f"{place} must {rule}, got {short(found)}"


def _field_names(kind: object) -> list[str]:
    return [each.name for each in fields(kind) if each.init] if is_dataclass(kind) else []


def _hint(unknown: object, known: Sequence[str]) -> str:
    """Return what to add to an error about an unknown field: the known ones, if they are few."""
    if len(known) > MOST_LISTED:
        return nearest(str(unknown), known)
    return f"; it may have {', '.join(known)}" if known else ""


def _place(steps: "Sequence[int | str]", values: Any, name: str) -> str:
    """Return a place in JSON values as `rows[0].mean`; the whole of them is called by its name."""
    place = ""
    for step in steps:
        is_item = isinstance(values, list) and isinstance(step, int)
        if not is_item and not (isinstance(values, dict) and step in values):
            continue  # the name of one of the types of a union
        plain = str(step).isidentifier()
        place += f".{step}" if plain and not is_item else f"[{short(step)}]"
        values = values[step]
    place = place.removeprefix("[0]")  # of the list around the whole
    return place[1:] if place.startswith(".") else name + place


def short(value: object) -> str:
    """Return a value as an error quotes it: one line of at most 80 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
