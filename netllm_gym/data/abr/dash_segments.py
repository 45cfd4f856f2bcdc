"""The segments of one Representation of a DASH manifest: how many, how long, and their sizes."""

import math
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from netllm_gym.data.abr.dash_xml import children_of, whole_number
from netllm_gym.data.abr.mp4_index import IndexEntry, read_index
from netllm_gym.errors import InputError

MOST_SEGMENTS = 100_000  # five days of 4 s; a repeat count could be any number

SLIVER = 0.05  # of a segment

_RANGE = re.compile(r"(\d{1,15})-(\d{1,15})", re.ASCII)
_FIELD = re.compile(
    r"\$(?P<name>RepresentationID|Number|Time|Bandwidth|)(?:%(?:0(?P<width>\d{1,2}))?d)?\$"
)


class Place(NamedTuple):
    """Where a Representation stands in the manifest."""

    chain: list[Element]  # MPD, period, adaptation set, representation
    duration_s: float | None  # of the period, if the manifest says it
    folder: Path  # of the manifest


class Rung(NamedTuple):
    """A Representation with its segments."""

    bandwidth_bps: int
    sizes_bytes: list[int]
    lengths_s: list[float]


class _Segment(NamedTuple):
    begin: int  # in units of the timescale
    length: int


def read_rung(place: Place) -> Rung:
    """Return bitrate, sizes and lengths of one Representation.

    What an inner element leaves out, an outer one may say.

    Raises:
        InputError: If it says no size or length of a segment, or says one wrongly.
    """
    bandwidth_bps = whole_number(place.chain[-1].attrib, "bandwidth")
    kind, found = _description(place.chain)
    attributes: dict[str, str] = {}
    for one in found:  # the outermost first
        attributes |= one.attrib
    if kind == "SegmentBase":
        entries = _indexed(place, attributes)
        sizes = [entry.size_bytes for entry in entries]
        lengths_s = [entry.length_s for entry in entries]
    else:
        timescale = whole_number(attributes, "timescale", 1)
        urls = _innermost(found, "SegmentURL")
        timelines = _innermost(found, "SegmentTimeline")
        count = len(urls) if kind == "SegmentList" else _numbered(attributes)
        segments = _segments(attributes, timelines, place, count)
        base = _base(place.chain)
        folder = base[: base.rfind("/") + 1]
        if kind == "SegmentList":
            sizes = [_listed_size(url, place.folder, folder) for url in urls]
        else:
            first = whole_number(attributes, "startNumber", 1, low=0)
            media = attributes.get("media", "")
            names = [
                folder + _fill(media, place.chain[-1], first + number, segment.begin)
                for number, segment in enumerate(segments)
            ]
            is_computed = not timelines and count is None and len(segments) > 1
            if is_computed and _is_sliver(place, segments, timescale, names[-1]):
                del segments[-1], names[-1]
            sizes = [_file_size(place.folder, name) for name in names]
        lengths_s = [segment.length / timescale for segment in segments]
    if not lengths_s or len(lengths_s) != len(sizes):
        raise InputError(
            f"must give a length and a size to one or more segments, "
            f"got {len(lengths_s)} lengths and {len(sizes)} sizes"
        )
    return Rung(bandwidth_bps, sizes, lengths_s)


def _description(chain: list[Element]) -> tuple[str, list[Element]]:
    """Return how the segments are described, and by which elements, the outermost first.

    Without any description, the media file is one segment with an index in it.
    """
    for kind in ("SegmentList", "SegmentTemplate", "SegmentBase"):
        found = [one for outer in chain[1:] for one in children_of(outer, kind)]
        if found:
            return kind, found
    return "SegmentBase", []


def _innermost(found: list[Element], tag: str) -> list[Element]:
    """Return the children of the innermost element that has any with this name."""
    lists = (list(children_of(one, tag)) for one in reversed(found))
    return next((each for each in lists if each), [])


def _numbered(attributes: dict[str, str]) -> int | None:
    """Return how many segments there are between `@startNumber` and `@endNumber`."""
    if "endNumber" not in attributes:
        return None
    first = whole_number(attributes, "startNumber", 1, low=0)
    return whole_number(attributes, "endNumber", low=first) - first + 1


def _segments(
    attributes: dict[str, str],
    timelines: list[Element],
    place: Place,
    most: int | None,
) -> list[_Segment]:
    """Return when each segment begins and how long it is, from the timeline or one duration.

    Args:
        attributes: Of the description.
        timelines: One, or none at all.
        place: Of the representation.
        most: Segments that are listed or numbered, None if nothing says so.
    """
    timescale = whole_number(attributes, "timescale", 1)
    duration = None if place.duration_s is None else place.duration_s * timescale
    if timelines:
        end = None
        if duration is not None:
            end = duration + whole_number(attributes, "presentationTimeOffset", 0, low=0)
        found = list(_timeline(timelines[0], end))
        return found[:most] if "endNumber" in attributes else found
    length = whole_number(attributes, "duration")
    count = most
    if count is None or (duration is not None and "endNumber" in attributes):
        if duration is None:
            raise InputError(
                "must say mediaPresentationDuration as PT1M30.5S, above 0, or how many segments "
                "there are, got neither"
            )
        fitting = math.ceil(duration / length - 1e-6)  # no segment of a rounding error
        count = fitting if count is None else min(count, fitting)
    check_count(count)
    return [_Segment(number * length, length) for number in range(count)]


def _is_sliver(place: Place, segments: list[_Segment], timescale: int, name: str) -> bool:
    """Say whether the last segment exists by its computed number only.

    The sound of a presentation is often a few frames longer than its pictures.
    """
    last = segments[-1]
    rest = (place.duration_s or 0.0) * timescale - last.begin
    if rest >= SLIVER * last.length:
        return False
    try:
        _segment_file(place.folder, name)
    except InputError:
        return True
    return False


def _timeline(timeline: Element, end: float | None) -> Iterator[_Segment]:
    """Yield the segments of a timeline.

    Args:
        timeline: Runs of segments of equal length. A run with the repeat count -1 goes on until
            the next one begins, or the period ends.
        end: Of the period, in units of the timescale, if it is known.
    """
    now, count = 0, 0
    runs = list(children_of(timeline, "S"))
    for number, run in enumerate(runs):
        now = whole_number(run.attrib, "t", now, low=0)
        length = whole_number(run.attrib, "d")
        if run.get("r") == "-1":
            until = end
            if number + 1 < len(runs):
                until = whole_number(runs[number + 1].attrib, "t", low=0)
            if until is None:
                raise InputError("must say when the Period ends if r is -1, got no duration")
            repeats = max(math.ceil((until - now) / length - 1e-6), 1) - 1
        else:
            repeats = whole_number(run.attrib, "r", 0, low=0)
        count += repeats + 1
        check_count(count)
        for _ in range(repeats + 1):
            yield _Segment(now, length)
            now += length


def check_count(count: int) -> None:
    """Refuse more segments than a video can have."""
    if count > MOST_SEGMENTS:
        raise InputError(f"must have at most {MOST_SEGMENTS} segments, got {count}")


def _fill(media: str, representation: Element, number: int, begin: int) -> str:
    """Put a segment's numbers into a template such as `$RepresentationID$/$Number%05d$.m4s`."""
    values = {"Number": number, "Time": begin, "Bandwidth": representation.get("bandwidth", "")}

    def value(field: re.Match[str]) -> str:
        if field["name"] == "":
            return "$"
        if field["name"] == "RepresentationID":
            return representation.get("id", "")
        return str(values[field["name"]]).zfill(int(field["width"] or 1))

    return _FIELD.sub(value, media)


def _listed_size(url: Element, folder: Path, base: str) -> int:
    """Return the size of one `SegmentURL`: its byte range, else its file's."""
    span, media = url.get("mediaRange"), url.get("media")
    if span is None and media is not None:
        return _file_size(folder, base + media)
    first, last = _byte_range(span, "must give each SegmentURL a media file or a mediaRange")
    return last - first + 1


def _byte_range(span: str | None, rule: str) -> tuple[int, int]:
    """Return the first and the last byte of a range."""
    match = _RANGE.fullmatch(span or "")
    if match is None or int(match[1]) > int(match[2]):
        raise InputError(f"{rule}, first-last byte, got {span!r:.60}")
    return int(match[1]), int(match[2])


# Files -------------------------------------------------------------------------------------------


def _base(chain: list[Element]) -> str:
    """Return the address of the media: the first `BaseURL` of each level, relative to the last."""
    address = ""
    for one in chain:
        url = next((child.text or "" for child in children_of(one, "BaseURL")), "").strip()
        is_whole = "://" in url or url.startswith("/")
        address = url if is_whole else address[: address.rfind("/") + 1] + url
    return address


def _file_size(folder: Path, name: str) -> int:
    return _segment_file(folder, name).stat().st_size


def _segment_file(folder: Path, name: str) -> Path:
    """Return a regular file below the folder of the manifest."""
    parts = posixpath.normpath(unquote(name.partition("?")[0])).split("/")
    inside = name and ":" not in parts[0] and parts[0] not in ("", "..")
    if not inside:
        raise InputError(f"must name segment files beside it, got {name[:60]!r}")
    try:
        file = folder.joinpath(*parts)
        if file.is_file():
            return file
    except (OSError, ValueError) as error:
        raise InputError(f"must lie beside its segments, got {error!s:.200}") from None
    raise InputError(f"must lie beside its segments, got no file {name[:200]!r}")


def _indexed(place: Place, attributes: dict[str, str]) -> list[IndexEntry]:
    """Return what the index of the media file lists."""
    path = _segment_file(place.folder, _base(place.chain))
    begin, end = 0, path.stat().st_size
    if "indexRange" in attributes:
        begin, last = _byte_range(attributes["indexRange"], "must have indexRange as a range")
        end = min(last + 1, end)
    entries: list[IndexEntry] = []
    for entry in read_index(path, begin, end):
        entries.append(entry)
        check_count(len(entries))
    if not entries:
        raise InputError(
            "must list its segments by SegmentList or SegmentTemplate, or its media must have an "
            f"index of them (a sidx box), got none in {path.name}"
        )
    return entries
