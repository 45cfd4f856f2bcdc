"""The XML of DASH manifests: parsed without entities, its attributes checked when they are read."""

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from pydantic import TypeAdapter, ValidationError

from netllm_gym.errors import InputError
from netllm_gym.files import read_regular

MOST_BYTES = 64_000_000
_ISO_DURATION = TypeAdapter(timedelta)


def parse(path: Path) -> Element:
    """Return the root of a manifest.

    Raises:
        InputError: If it is too large, no UTF-8, no XML, or has a document type.
    """
    if not path.is_file():
        raise InputError("must be a file, got none")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(f"must have at most {MOST_BYTES} bytes, got {path.stat().st_size}")
    try:
        text = read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"must be UTF-8 text, got another byte at place {error.start}") from None
    if "<!DOCTYPE" in text:  # nothing else can declare an entity
        raise InputError("must have no document type (no entity is expanded), got <!DOCTYPE")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"must be XML, got {error}") from None


def tag_of(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]  # it has changed with the years


def children_of(element: Element, tag: str) -> Iterator[Element]:
    """Return the children with a name."""
    return (child for child in element if tag_of(child) == tag)


def has_descriptor(element: Element, tag: str, scheme: str, value: str | None = None) -> bool:
    """Return whether an element has a descriptor of a scheme, with the value if one is given."""
    return any(
        child.get("schemeIdUri") == scheme and value in (None, child.get("value"))
        for child in children_of(element, tag)
    )


def whole_number(
    attributes: dict[str, str], name: str, default: int | None = None, low: int = 1
) -> int:
    """Return an attribute that must be a whole number."""
    text = attributes.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\d{1,15}", text, re.ASCII) or int(text) < low:
        raise InputError(f"must have {name} as a whole number of at least {low}, got {text!r:.60}")
    return int(text)


def duration_s_of(element: Element, name: str) -> float | None:
    """Return a duration such as P0DT1M30.5S, None if there is none.

    A year has 365 days, and a month has 30.
    """
    text = element.get(name)
    if text is None:
        return None
    try:
        if not text.startswith("P"):  # pydantic also reads -PT1S, 1:30 and 90
            raise ValueError
        return _ISO_DURATION.validate_python(text).total_seconds()
    except (ValidationError, ValueError, OverflowError):
        raise InputError(f"must say {name} as PT1M30.5S, got {text[:60]!r}") from None
