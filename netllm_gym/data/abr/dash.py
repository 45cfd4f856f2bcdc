"""Read DASH manifests (`.mpd`, ISO/IEC 23009-1): the size of every segment in every encoding.

A segment is called a chunk elsewhere. Its size is known if the manifest gives its byte range, if
its file lies beside the manifest, or if the index of the media file (`sidx`, ISO/IEC 14496-12)
lists it. Manifests without sizes, such as live ones, are refused.

Manifests may come from anywhere. They must be UTF-8 without a document type, so that no entities
are expanded, the paths of segments must stay in the folder of the manifest, and counts and sizes
are bounded. Parsers such as `mpegdash` only turn the XML into objects and accept document types, so
nothing here would become shorter.
"""

from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.abr.dash_segments import Place, Rung, check_count, read_rung
from netllm_gym.data.abr.dash_xml import (
    children_of,
    duration_s_of,
    has_descriptor,
    parse,
    tag_of,
    whole_number,
)
from netllm_gym.errors import InputError

MOST_RUNGS = 100
MOST_PERIODS = 1_000
MOST_SIZES = 500_000  # of all segments on all rungs
MOST_SEGMENT_BYTES = 10**10 - 1  # as in a folder of sizes; a range could be any number
LENGTH_TOLERANCE = 0.05  # segments are cut at frames, so lengths differ a little

_TRICK_MODE = "http://dashif.org/guidelines/trickmode"


class Manifest(NamedTuple):
    """The content of a manifest, before `Video` checks it."""

    size_bytes: IntArray  # (chunks, rungs)
    ladder_mbps: FloatArray  # (rungs,) sorted
    chunk_s: float | FloatArray  # of all chunks, or (chunks,) if their lengths vary
    remarks: tuple[str, ...]  # what was left out, a sentence each


def read_manifest(path: Path) -> Manifest:
    """Read a static manifest. The segments of its periods follow each other.

    Each `Representation` of the video is a rung, its `@bandwidth` the nominal bitrate. If all
    segments but the last have one length, to within 5 %, the middle one of their lengths is the
    chunk's, and the last one counts as a whole one. Else each chunk has its own length.

    Raises:
        InputError: If the file is no such manifest, or a segment has no size.
    """
    try:
        return _read(path)
    except InputError as error:
        raise InputError(f"{path} {error}") from None


def _read(path: Path) -> Manifest:
    root = parse(path)
    if tag_of(root) != "MPD":
        raise InputError(f"must begin with an element MPD, got {tag_of(root)[:60]!r}")
    if root.get("type", "static") != "static":
        raise InputError(f"must have the type static, got {root.get('type', '')[:60]!r}")
    periods = list(children_of(root, "Period"))
    if not 1 <= len(periods) <= MOST_PERIODS:
        raise InputError(f"must hold 1 to {MOST_PERIODS} elements Period, got {len(periods)}")
    remarks: list[str] = []
    parts: list[list[Rung]] = []
    for number, (period, duration_s) in enumerate(
        zip(periods, _durations(root, periods), strict=True), start=1
    ):
        if duration_s == 0 and len(periods) > 1:
            remarks.append(f"period {number} of {len(periods)} is left out: it lasts 0 s")
            continue
        parts.append(_rungs([root, period], duration_s, path.parent, remarks))
        check_count(sum(len(rungs[0].sizes_bytes) for rungs in parts))
    if not parts:
        raise InputError("must hold a Period that lasts longer than 0 s, got none")
    return _together(parts, remarks)


def _rungs(
    outer: list[Element], duration_s: float | None, folder: Path, remarks: list[str]
) -> list[Rung]:
    """Return the rungs of a period, the lowest first.

    Args:
        outer: MPD and period.
        duration_s: Of the period, if it is known.
        folder: Of the manifest.
        remarks: What is left out is added to them.
    """
    places = [
        Place([*outer, one, representation], duration_s, folder)
        for one in _chosen_sets(outer[-1], remarks)
        for representation in children_of(one, "Representation")
    ]
    if not 1 <= len(places) <= MOST_RUNGS:
        raise InputError(
            f"must hold 1 to {MOST_RUNGS} elements Representation of the video, got {len(places)}"
        )
    rungs: list[Rung] = []
    for place in places:
        rungs.append(read_rung(place))
        num_sizes = sum(len(rung.sizes_bytes) for rung in rungs)
        if num_sizes > MOST_SIZES:
            raise InputError(f"must have at most {MOST_SIZES} segments in all, got {num_sizes}")
    counts = sorted({len(rung.sizes_bytes) for rung in rungs})
    if len(counts) > 1:
        raise InputError(
            "must list as many segments for each Representation, "
            f"got {counts[0]} for one and {counts[-1]} for another"
        )
    return sorted(rungs, key=lambda rung: rung.bandwidth_bps)


def _durations(root: Element, periods: list[Element]) -> list[float | None]:
    """Return how long each period lasts, None where nothing says it.

    A period lasts as long as it says, else until the next one starts, else until the end of the
    presentation. One that does not say when it starts does so at the end of the one before.
    """
    total_s = duration_s_of(root, "mediaPresentationDuration")
    starts_s = [duration_s_of(period, "start") for period in periods]
    starts_s[0] = starts_s[0] or 0.0
    durations_s: list[float | None] = []
    for number, period in enumerate(periods):
        start_s, duration_s = starts_s[number], duration_s_of(period, "duration")
        is_last = number + 1 == len(periods)
        end_s = total_s if is_last else starts_s[number + 1]
        if duration_s is None and start_s is not None and end_s is not None:
            duration_s = end_s - start_s
            if duration_s < 0:
                raise InputError(
                    f"must have periods that end after they start, got {start_s:g} to {end_s:g} s"
                )
        if not is_last and end_s is None and start_s is not None and duration_s is not None:
            starts_s[number + 1] = start_s + duration_s
        durations_s.append(duration_s)
    return durations_s


def _chosen_sets(period: Element, remarks: list[str]) -> list[Element]:
    """Return the adaptation sets whose representations are the rungs.

    Players play one set. It is the one with the highest `@selectionPriority`; of several, the one
    with the role `main`; of several, the one with the most representations; of several, the first.
    Sets of one representation each are the rungs together.
    """
    videos = [one for one in children_of(period, "AdaptationSet") if _is_video(one)]
    normal = [one for one in videos if not has_descriptor(one, "EssentialProperty", _TRICK_MODE)]
    if not normal:
        raise InputError(f"must hold a video AdaptationSet in each Period, got {len(normal)}")
    counts = [sum(1 for _ in children_of(one, "Representation")) for one in normal]
    if len(normal) > 1 and set(counts) == {1}:
        return normal
    ranks = [
        (
            whole_number(one.attrib, "selectionPriority", 1, low=0),
            has_descriptor(one, "Role", "urn:mpeg:dash:role:2011", "main"),
            count,
        )
        for one, count in zip(normal, counts, strict=True)
    ]
    chosen = ranks.index(max(ranks))
    if len(videos) > 1:
        said = (
            f"one of {len(videos)} video adaptation sets is read, the one with "
            f"{counts[chosen]} rungs; the others are left out"
        )
        remarks += [said] if said not in remarks else []
    return [normal[chosen]]


def _together(parts: list[list[Rung]], remarks: list[str]) -> Manifest:
    """Join the periods, and find the lengths of the chunks."""
    ladders = [[rung.bandwidth_bps for rung in rungs] for rungs in parts]
    for ladder in ladders:
        if ladder != ladders[0]:
            raise InputError(
                f"must offer the same bandwidths in each Period, got {ladders[0]} and {ladder}"
            )
    lengths_s = np.concatenate([[rung.lengths_s for rung in rungs] for rungs in parts], axis=1)
    size_bytes = np.concatenate([[rung.sizes_bytes for rung in rungs] for rungs in parts], axis=1)
    most = int(size_bytes.max())
    if most > MOST_SEGMENT_BYTES:
        raise InputError(f"must have segments of at most {MOST_SEGMENT_BYTES} bytes, got {most}")
    middle_s = np.median(lengths_s, axis=0)  # (chunks,) over the rungs
    differ = (np.abs(lengths_s - middle_s) > LENGTH_TOLERANCE * middle_s).any(axis=0)  # (chunks,)
    if differ[:-1].any():
        chunk = int(np.argmax(differ))
        least_s, most_s = lengths_s[:, chunk].min(), lengths_s[:, chunk].max()
        raise InputError(
            f"must cut all Representations at the same times, got segment {chunk + 1} of "
            f"{least_s:g} s in one and of {most_s:g} s in another"
        )
    whole_s = lengths_s[:, :-1] if lengths_s.shape[1] > 1 else lengths_s
    chunk_s = float(np.median(whole_s))
    is_one_length = (np.abs(whole_s - chunk_s) <= LENGTH_TOLERANCE * chunk_s).all()
    is_one_length &= middle_s[-1] <= (1 + LENGTH_TOLERANCE) * chunk_s
    return Manifest(
        size_bytes.T.astype(np.int64),
        np.array(ladders[0]) / 1e6,
        chunk_s if is_one_length else middle_s,
        tuple(remarks),
    )


def _is_video(adaptation_set: Element) -> bool:
    one = next(children_of(adaptation_set, "Representation"), adaptation_set)
    kinds = (adaptation_set.get("contentType"), adaptation_set.get("mimeType"), one.get("mimeType"))
    said = [kind for kind in kinds if kind]
    if not said:  # then only a video has a height
        return "height" in one.attrib or "height" in adaptation_set.attrib
    return any(kind.startswith("video") for kind in said)
