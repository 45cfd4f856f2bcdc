"""Read DASH manifests (`.mpd`, ISO/IEC 23009-1): the size of every segment in every encoding.

A segment is called a chunk elsewhere. Its size is known if the manifest gives its byte range, or if
its file lies beside the manifest. Manifests without sizes, such as live ones and those with
`SegmentBase`, are refused.

Manifests may come from anywhere. They must be UTF-8 without a document type, so that no entities
are expanded, and the paths of segments must stay in the folder of the manifest. Parsers such as
`mpegdash` only turn the XML into objects, and accept document types: all of the code below but the
few lines of `_parse`, `_children` and `_whole` would still be needed.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.files import read_regular

MOST_SEGMENTS = 100_000  # five days of 4 s; a repeat count could be any number
LENGTH_TOLERANCE = 0.05  # segments are cut at frames, so lengths differ a little

_RANGE = re.compile(r"(\d{1,15})-(\d{1,15})", re.ASCII)
_DURATION = re.compile(
    r"P(?:(?P<days>\d{1,9})D)?(?:T(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?"
    r"(?:(?P<seconds>\d{1,9}(?:\.\d{1,9})?)S)?)?",
    re.ASCII,
)
_FIELD = re.compile(r"\$(?P<name>RepresentationID|Number|Time|Bandwidth|)(?:%0(?P<width>\d)d)?\$")


class Manifest(NamedTuple):
    """The content of a manifest, before `Video` checks it."""

    size_bytes: IntArray  # (chunks, rungs)
    ladder_mbps: FloatArray  # (rungs,) sorted
    chunk_s: float


class _Segment(NamedTuple):
    begin: int  # in units of the timescale
    length: int


class _Rung(NamedTuple):
    bandwidth_bps: int
    sizes_bytes: list[int]
    lengths_s: list[float]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest with one period and one video adaptation set.

    Each `Representation` is a rung, its `@bandwidth` the nominal bitrate. All segments but the last
    must have one length, to within 5 %; the middle one of their lengths is the chunk's.

    Raises:
        InputError: If the file is no such manifest, or a segment has no size.
    """
    try:
        return _read(path)
    except InputError as error:
        raise InputError(f"{path} {error}") from None


def _read(path: Path) -> Manifest:
    root = _parse(path)
    if _tag(root) != "MPD":
        raise InputError(f"must begin with an element MPD, got {_tag(root)[:60]!r}")
    period = _only("Period", list(_children(root, "Period")))
    videos = [one for one in _children(period, "AdaptationSet") if _is_video(one)]
    chosen = _only("video AdaptationSet", videos)
    rungs = [
        _rung([root, period, chosen, representation], path.parent)
        for representation in _children(chosen, "Representation")
    ]
    if not rungs:
        raise InputError("must hold a Representation of the video, got none")
    rungs.sort(key=lambda rung: rung.bandwidth_bps)
    counts = sorted({len(rung.sizes_bytes) for rung in rungs})
    if len(counts) > 1:
        raise InputError(
            "must list as many segments for each Representation, "
            f"got {counts[0]} for one and {counts[-1]} for another"
        )
    lengths_s = np.array([rung.lengths_s[:-1] or rung.lengths_s for rung in rungs])
    chunk_s = float(np.median(lengths_s))
    if (np.abs(lengths_s - chunk_s) > LENGTH_TOLERANCE * chunk_s).any():
        raise InputError(
            "must have segments of one length but for the last, "
            f"got {lengths_s.min():g} to {lengths_s.max():g} s"
        )
    return Manifest(
        np.array([rung.sizes_bytes for rung in rungs], np.int64).T,
        np.array([rung.bandwidth_bps for rung in rungs]) / 1e6,
        chunk_s,
    )


def _rung(chain: list[Element], folder: Path) -> _Rung:
    """Return bitrate, sizes and lengths of one Representation.

    Args:
        chain: MPD, period, adaptation set, representation; what an inner one leaves out, an outer
            one may say.
        folder: Of the manifest.
    """
    representation = chain[-1]
    bandwidth_bps = _whole(representation.attrib, "bandwidth")
    for kind in ("SegmentList", "SegmentTemplate"):
        found = [one for outer in chain[1:] for one in _children(outer, kind)]
        if found:
            break
    else:
        raise InputError("must list its segments by SegmentList or SegmentTemplate, got neither")
    attributes: dict[str, str] = {}
    for one in found:  # the outermost first
        attributes |= one.attrib
    timescale = _whole(attributes, "timescale", 1)
    urls = [url for one in found for url in _children(one, "SegmentURL")]
    timelines = [line for one in found for line in _children(one, "SegmentTimeline")]
    base = _base(chain)
    if kind == "SegmentTemplate":
        segments = _segments(attributes, timelines, chain, timescale, None)
        number = _whole(attributes, "startNumber", 1, low=0)
        media = attributes.get("media", "")
        names = [
            _fill(media, representation, number + place, segment.begin)
            for place, segment in enumerate(segments)
        ]
        sizes = [_file_size(folder, base + name) for name in names]
    else:
        segments = _segments(attributes, timelines, chain, timescale, len(urls))
        sizes = [_listed_size(url, folder, base) for url in urls]
    if not segments or len(segments) != len(sizes):
        raise InputError(
            f"must give a length and a size to one or more segments, "
            f"got {len(segments)} lengths and {len(sizes)} sizes"
        )
    return _Rung(bandwidth_bps, sizes, [segment.length / timescale for segment in segments])


def _segments(
    attributes: dict[str, str],
    timelines: list[Element],
    chain: list[Element],
    timescale: int,
    count: int | None,
) -> list[_Segment]:
    """Return when each segment begins and how long it is, from the timeline or one duration."""
    if timelines:
        return list(_timeline(timelines[-1]))
    length = _whole(attributes, "duration")
    if count is None:
        total_s = _seconds(chain[1].get("duration", chain[0].get("mediaPresentationDuration", "")))
        count = math.ceil(total_s * timescale / length - 1e-6)  # no segment of a rounding error
    _check_count(count)
    return [_Segment(place * length, length) for place in range(count)]


def _timeline(timeline: Element) -> Iterator[_Segment]:
    now, count = 0, 0
    for run in _children(timeline, "S"):
        now = _whole(run.attrib, "t", now, low=0)
        length, repeats = _whole(run.attrib, "d"), _whole(run.attrib, "r", 0, low=0)
        count += repeats + 1
        _check_count(count)
        for _ in range(repeats + 1):
            yield _Segment(now, length)
            now += length


def _check_count(count: int) -> None:
    if count > MOST_SEGMENTS:
        raise InputError(f"must have at most {MOST_SEGMENTS} segments, got {count}")


def _listed_size(url: Element, folder: Path, base: str) -> int:
    """Return the size of one `SegmentURL`: its byte range, else its file's."""
    span, media = url.get("mediaRange"), url.get("media")
    if span is None and media is not None:
        return _file_size(folder, base + media)
    match = _RANGE.fullmatch(span or "")
    if match is None or int(match[1]) > int(match[2]):
        raise InputError(
            "must give each SegmentURL a media file or a mediaRange, first-last byte, "
            f"got {span!r:.60}"
        )
    return int(match[2]) - int(match[1]) + 1


def _file_size(folder: Path, name: str) -> int:
    parts = unquote(name.partition("?")[0]).split("/")
    inside = name and ":" not in parts[0] and parts[0] != "" and ".." not in parts
    if not inside:
        raise InputError(f"must name segment files beside it, got {name[:60]!r}")
    try:
        file = folder.joinpath(*parts)
        if file.is_file():
            return file.stat().st_size
    except OSError as error:
        raise InputError(f"must lie beside its segments, got {error.strerror}") from None
    raise InputError(f"must lie beside its segments, got no file {name[:200]!r}")


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


def _base(chain: list[Element]) -> str:
    """Join the folder of the first `BaseURL` of each level."""
    urls = (next((child.text or "" for child in _children(one, "BaseURL")), "") for one in chain)
    return "".join(url.strip()[: url.strip().rfind("/") + 1] for url in urls)


# XML ---------------------------------------------------------------------------------------------


def _parse(path: Path) -> Element:
    try:
        text = read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"must be UTF-8 text, got byte {error.start} not") from None
    if "<!DOCTYPE" in text:  # nothing else can declare an entity
        raise InputError("must have no document type (no entity is expanded), got <!DOCTYPE")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"must be XML, got {error}") from None


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]  # without the namespace, which has changed with the years


def _children(element: Element, tag: str) -> Iterator[Element]:
    return (child for child in element if _tag(child) == tag)


def _only(what: str, found: list[Element]) -> Element:
    if len(found) != 1:
        raise InputError(f"must hold one {what}, got {len(found)}")
    return found[0]


def _is_video(adaptation_set: Element) -> bool:
    one = next(_children(adaptation_set, "Representation"), adaptation_set)
    kinds = (adaptation_set.get("contentType"), adaptation_set.get("mimeType"), one.get("mimeType"))
    return any(kind is not None and kind.startswith("video") for kind in kinds)


def _whole(attributes: dict[str, str], name: str, default: int | None = None, low: int = 1) -> int:
    text = attributes.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\d{1,15}", text, re.ASCII) or int(text) < low:
        raise InputError(f"must have {name} as a whole number of at least {low}, got {text!r:.60}")
    return int(text)


def _seconds(duration: str) -> float:
    match = _DURATION.fullmatch(duration)
    parts = (
        {} if match is None else {name: value or "0" for name, value in match.groupdict().items()}
    )
    total_s = sum(
        float(parts.get(name, 0)) * unit_s
        for name, unit_s in (("days", 86_400), ("hours", 3600), ("minutes", 60), ("seconds", 1))
    )
    if not total_s > 0:
        raise InputError(
            f"must say mediaPresentationDuration as PT1M30.5S, above 0, got {duration[:60]!r}"
        )
    return total_s
