"""DASH manifests: sizes and lengths by hand, and anything else refused in a sentence."""

import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.cli.main import run
from netllm_gym.data.abr import dash, dash_segments
from netllm_gym.data.abr.dash import read_manifest
from netllm_gym.data.abr.video import load_video
from netllm_gym.errors import InputError

HEAD = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" {}><Period>'
TAIL = "</Period></MPD>"
# Two rungs, the higher one first; 3 segments of 90,000 / 45,000 = 2 s.
RANGES = (
    HEAD.format("")
    + """<AdaptationSet contentType="audio"><Representation bandwidth="9"/></AdaptationSet>
<AdaptationSet mimeType="video/mp4">
<Representation id="hi" bandwidth="800000"><BaseURL>http://a.org/hi.mp4</BaseURL>
<SegmentList timescale="45000" duration="90000"><Initialization range="0-99"/>
<SegmentURL mediaRange="100-200099"/><SegmentURL mediaRange="200100-350099"/>
<SegmentURL mediaRange="350100-350100"/></SegmentList></Representation>
<Representation id="lo" bandwidth="200000"><SegmentList timescale="45000" duration="90000">
<SegmentURL mediaRange="0-49999"/><SegmentURL mediaRange="50000-89999"/>
<SegmentURL mediaRange="90000-90007"/></SegmentList></Representation>
</AdaptationSet>"""
    + TAIL
)
TEMPLATE = (
    HEAD.format('mediaPresentationDuration="PT0M9.5S"')
    + """<BaseURL>media/</BaseURL><AdaptationSet contentType="video">
<SegmentTemplate media="$RepresentationID$/$Number%03d$-$Bandwidth$.m4s" duration="4"
 startNumber="5"/>
<Representation id="a" bandwidth="100"/><Representation id="b" bandwidth="200"/></AdaptationSet>"""
    + TAIL
)
TIMELINE = (
    HEAD.format("")
    + """<AdaptationSet contentType="video"><SegmentTemplate media="$RepresentationID$_$Time$.m4s"
 timescale="1000"><SegmentTimeline><S t="500" d="2000" r="1"/><S d="700"/></SegmentTimeline>
</SegmentTemplate>
<Representation id="a" bandwidth="100"/><Representation id="b" bandwidth="200"/></AdaptationSet>"""
    + TAIL
)
LAUGHS = (
    '<!DOCTYPE MPD [<!ENTITY e0 "ha">'
    + "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    + "]><MPD>&e9;</MPD>"
)


def manifest(folder, text):
    path = folder / "made.mpd"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def segments(folder, sizes):
    for name, size in sizes.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(bytes(size))


def test_byte_ranges_are_sizes_and_rungs_are_sorted(tmp_path):
    video = load_video(manifest(tmp_path, RANGES))
    # Both ends of a range count: 100..200099 is 200,000 bytes.
    assert video.size_bytes.tolist() == [[50_000, 200_000], [40_000, 150_000], [8, 1]]
    np.testing.assert_allclose(video.ladder_mbps, [0.2, 0.8])
    assert (video.name, video.num_chunks, video.chunk_s) == ("made", 3, 2.0)


def test_template_files_beside_the_manifest(tmp_path):
    # 9.5 s in segments of 4 s are three, numbered from 5.
    names = [
        f"media/{rung}/{number:03d}-{bits}.m4s"
        for rung, bits in (("a", 100), ("b", 200))
        for number in (5, 6, 7)
    ]
    segments(tmp_path, dict(zip(names, (11, 12, 13, 21, 22, 23), strict=True)))
    video = load_video(str(manifest(tmp_path, TEMPLATE)))
    assert video.size_bytes.tolist() == [[11, 21], [12, 22], [13, 23]]
    assert video.chunk_s == 4.0


def test_a_last_segment_that_only_the_sound_has_may_be_missing(tmp_path):
    # 8.1 s in segments of 4 s are three, but the third one would last 0.1 s, 2.5 % of a segment.
    text = TEMPLATE.replace("PT0M9.5S", "PT8.1S").replace("<BaseURL>media/", "<BaseURL>x/../media/")
    names = [
        f"media/{rung}/{number:03d}-{bits}.m4s"
        for rung, bits in (("a", 100), ("b", 200))
        for number in (5, 6)
    ]
    segments(tmp_path, dict(zip(names, (11, 12, 21, 22), strict=True)))
    assert load_video(manifest(tmp_path, text)).size_bytes.tolist() == [[11, 21], [12, 22]]
    with pytest.raises(InputError, match="must lie beside its segments, got no file"):
        load_video(manifest(tmp_path, text.replace("PT8.1S", "PT8.3S")))
    segments(tmp_path, {"media/a/007-100.m4s": 13, "media/b/007-200.m4s": 23})
    assert load_video(manifest(tmp_path, text)).size_bytes[2].tolist() == [13, 23]


def test_timeline_files_beside_the_manifest(tmp_path):
    # Begins at 500, 2500 and 4500; the last one is shorter.
    names = [f"{rung}_{begin}.m4s" for rung in "ab" for begin in (500, 2500, 4500)]
    segments(tmp_path, dict(zip(names, (11, 12, 13, 21, 22, 23), strict=True)))
    video = load_video(manifest(tmp_path, TIMELINE))
    assert video.size_bytes.tolist() == [[11, 21], [12, 22], [13, 23]]
    assert video.chunk_s == 2.0


def test_listed_files_beside_the_manifest(tmp_path):
    text = RANGES.replace('<SegmentURL mediaRange="0-49999"/>', '<SegmentURL media="x%201.mp4"/>')
    segments(tmp_path, {"x 1.mp4": 77})
    assert load_video(manifest(tmp_path, text)).size_bytes[0].tolist() == [77, 200_000]


def rungs(*bandwidths, inside=""):
    return "".join(
        f'<Representation id="r{bits}" bandwidth="{bits}">{inside}</Representation>'
        for bits in bandwidths
    )


def video(inside, attributes='mimeType="video/mp4"'):
    return f"<AdaptationSet {attributes}>{inside}</AdaptationSet>"


def listed(*sizes, lengths='duration="2"', timeline=""):
    """Return a list of segments of so many bytes, by byte ranges."""
    urls = "".join(f'<SegmentURL mediaRange="1-{size}"/>' for size in sizes)
    return f"<SegmentList {lengths}>{timeline}{urls}</SegmentList>"


def whole(*periods, attributes=""):
    return f"<MPD {attributes}>{''.join(periods)}</MPD>"


def test_segments_of_varying_length(tmp_path):
    times = (
        '<SegmentTimeline><S d="2000"/><S d="1500"/><S d="2600"/><S d="1900"/></SegmentTimeline>'
    )
    inside = listed(11, 12, 13, 14, lengths='timescale="1000"', timeline=times)
    text = whole(f"<Period>{video(rungs(100, 200, inside=inside))}</Period>")
    found = read_manifest(manifest(tmp_path, text))
    assert found.chunk_s.tolist() == [2.0, 1.5, 2.6, 1.9]
    assert found.size_bytes.tolist() == [[11, 11], [12, 12], [13, 13], [14, 14]]
    # A shorter last segment counts as a whole one, and frames may differ by 5 %; a longer last
    # one may not.
    for lengths, expected in (
        ([2000, 2040, 1960, 700], 2.0),
        ([2000, 2000, 2000, 3000], [2.0, 2.0, 2.0, 3.0]),
    ):
        runs = "".join(f'<S d="{length}"/>' for length in lengths)
        altered = text.replace(times, f"<SegmentTimeline>{runs}</SegmentTimeline>")
        assert np.array_equal(read_manifest(manifest(tmp_path, altered)).chunk_s, expected)


def test_periods_follow_each_other(tmp_path):
    one = f'<Period start="PT0S">{video(rungs(100, 200, inside=listed(1, 2)))}</Period>'
    empty = '<Period duration="PT0S"/>'
    other = f"<Period>{video(rungs(200, 100, inside=listed(3, 4)))}</Period>"
    found = read_manifest(manifest(tmp_path, whole(one, empty, other)))
    assert found.size_bytes[:, 0].tolist() == [1, 2, 3, 4]
    assert found.ladder_mbps.tolist() == [1e-4, 2e-4]
    assert found.chunk_s == 2.0
    assert found.remarks == ("period 2 of 3 is left out: it lasts 0 s",)
    with pytest.raises(InputError, match=r"the same bandwidths in each Period, got \[100, 200\]"):
        read_manifest(manifest(tmp_path, whole(one, other.replace('"100"', '"101"'))))
    with pytest.raises(InputError, match="a Period that lasts longer than 0 s, got none"):
        read_manifest(manifest(tmp_path, whole(empty, empty)))


def test_a_period_lasts_until_the_next_one_starts(tmp_path):
    # 0 to 4, to 10 and to 13 s in segments of 2 s: 2, 3 and 2 of them.
    segments(tmp_path, {"a.m4s": 9})
    inside = video('<SegmentTemplate media="a.m4s" duration="2"/>' + rungs(100, 200))
    for times in (
        ("", ' start="PT4S"', ' start="PT10S"'),
        (' duration="PT4S"', ' duration="PT6S"', ""),
        (' start="PT0S" duration="P0DT4S"', "", ' start="PT10S" duration="PT3S"'),
    ):
        periods = [f"<Period{time}>{inside}</Period>" for time in times]
        text = whole(*periods, attributes='mediaPresentationDuration="P0Y0M0DT0H0M13.0S"')
        found = read_manifest(manifest(tmp_path, text))
        assert len(found.size_bytes) == 7
        assert found.chunk_s == 2.0
    backwards = text.replace('start="PT10S"', 'start="PT2S"')
    with pytest.raises(InputError, match="periods that end after they start, got 4 to 2 s"):
        read_manifest(manifest(tmp_path, backwards))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ('duration="2"', 6),
        ('duration="2" endNumber="4"', 4),
        ('duration="2" startNumber="3" endNumber="4"', 2),
        ('duration="2" endNumber="99"', 6),
    ],
)
def test_the_last_number(tmp_path, attributes, expected):
    segments(tmp_path, {"a.m4s": 9})
    inside = video(f'<SegmentTemplate media="a.m4s" {attributes}/>' + rungs(100, 200))
    text = whole(f"<Period>{inside}</Period>", attributes='mediaPresentationDuration="PT12S"')
    assert len(read_manifest(manifest(tmp_path, text)).size_bytes) == expected


def test_the_last_number_ends_a_timeline(tmp_path):
    segments(tmp_path, {f"{number}.m4s": number for number in (3, 4)})
    inside = (
        '<SegmentTemplate media="$Number$.m4s" startNumber="3" endNumber="4">'
        '<SegmentTimeline><S d="2" r="9"/></SegmentTimeline></SegmentTemplate>'
    )
    text = whole(f"<Period>{video(inside + rungs(100, 200))}</Period>")
    assert read_manifest(manifest(tmp_path, text)).size_bytes[:, 0].tolist() == [3, 4]


def test_a_list_of_a_representation_replaces_that_of_its_set(tmp_path):
    inside = listed(7, 8) + rungs(100) + rungs(200, inside=listed(9, 10))
    found = read_manifest(manifest(tmp_path, whole(f"<Period>{video(inside)}</Period>")))
    assert found.size_bytes.tolist() == [[7, 9], [8, 10]]


def test_a_repeat_to_the_next_run_and_to_the_end(tmp_path):
    # From 500: 1000, 1000, then 1900 up to 500 + 6000, the offset and the period: 3 of them.
    segments(tmp_path, {f"{begin}.m4s": begin for begin in (500, 1500, 2500, 4400, 6300)})
    times = '<S t="500" d="1000" r="-1"/><S t="2500" d="1900" r="-1"/>'
    inside = (
        '<SegmentTemplate media="$Time$.m4s" timescale="1000" presentationTimeOffset="500">'
        f"<SegmentTimeline>{times}</SegmentTimeline></SegmentTemplate>"
    )
    text = whole(f'<Period duration="PT6S">{video(inside + rungs(100, 200))}</Period>')
    found = read_manifest(manifest(tmp_path, text))
    assert found.size_bytes[:, 0].tolist() == [500, 1500, 2500, 4400, 6300]
    assert found.chunk_s.tolist() == [1.0, 1.0, 1.9, 1.9, 1.9]


def test_one_of_several_video_sets_is_read(tmp_path):
    few, many = rungs(100, 200, inside=listed(1, 2)), rungs(100, 200, 300, inside=listed(3, 4))
    main = '<Role schemeIdUri="urn:mpeg:dash:role:2011" value="main"/>'
    trick = '<EssentialProperty schemeIdUri="http://dashif.org/guidelines/trickmode" value="1"/>'
    mime = 'mimeType="video/mp4"'
    for sets, expected in (
        ([video(few), video(many)], 3),
        ([video(main + few), video(many)], 2),
        ([video(main + few), video(many, f'{mime} selectionPriority="2"')], 3),
        ([video(few), video(trick + many)], 2),
    ):
        found = read_manifest(manifest(tmp_path, whole(f"<Period>{''.join(sets)}</Period>")))
        assert len(found.ladder_mbps) == expected
        (remark,) = found.remarks
        assert f"one of 2 video adaptation sets is read, the one with {expected} rungs" in remark
    alone = [video(rungs(bits, inside=listed(bits, bits))) for bits in (200, 100)]
    found = read_manifest(manifest(tmp_path, whole(f"<Period>{''.join(alone)}</Period>")))
    assert found.size_bytes.tolist() == [[100, 200], [100, 200]]
    assert found.remarks == ()


def test_a_set_with_heights_is_the_video_if_none_says_what_it_is(tmp_path):
    audio = video(rungs(9, inside=listed(1, 1)), "audioSamplingRate='48000'")
    pictures = video(rungs(100, 200, inside=listed(5, 6)), "height='360'")
    for text in (pictures, pictures.replace(" height='360'", "").replace("id=", "height='9' id=")):
        found = read_manifest(manifest(tmp_path, whole(f"<Period>{audio}{text}</Period>")))
        assert found.size_bytes.tolist() == [[5, 5], [6, 6]]


def sidx(entries, version=0, timescale=1000, box=b"sidx", offset=0):
    """Return a box that lists segments of (bytes, length in units of the timescale)."""
    body = struct.pack(">B3xII", version, 1, timescale)
    body += struct.pack(">QQ" if version else ">II", 0, offset)
    body += struct.pack(">HH", 0, len(entries))
    body += b"".join(struct.pack(">III", size, length, 0x90000000) for size, length in entries)
    return struct.pack(">I4s", len(body) + 8, box) + body


INDEXED = whole(
    "<Period>"
    + video(
        "".join(
            f'<Representation bandwidth="{bits}"><BaseURL>{bits}.mp4</BaseURL>'
            '<SegmentBase indexRange="{span}"><Initialization range="0-9"/></SegmentBase>'
            "</Representation>"
            for bits in (100, 200)
        )
    )
    + "</Period>"
)


@pytest.mark.parametrize("version", [0, 1])
def test_sizes_and_lengths_come_from_the_index_of_the_media(tmp_path, version):
    boxes = struct.pack(">I4sQ", 1, b"moov", 20) + bytes(4)  # 20 bytes, as a long number
    index = sidx([(500, 2000), (600, 2000)], version) + sidx([(700, 1500)], version)
    for bits in (100, 200):
        (tmp_path / f"{bits}.mp4").write_bytes(boxes + index + bytes(9))
    text = INDEXED.replace("{span}", f"20-{20 + len(index) - 1}")
    searched = text.replace("indexRange", "x")
    for each in (text, searched, searched.replace("SegmentBase", "x")):
        found = read_manifest(manifest(tmp_path, each))
        assert found.size_bytes.tolist() == [[500, 500], [600, 600], [700, 700]]
        assert found.chunk_s == 2.0
    first = text.replace(f"20-{20 + len(index) - 1}", f"20-{20 + len(index) // 2}")
    assert len(read_manifest(manifest(tmp_path, first)).size_bytes) == 2


INDEX = 2**31  # marks an entry that is an index


@pytest.mark.parametrize("version", [0, 1])
def test_an_index_may_list_indexes(tmp_path, version):
    # Each inner index stands before its segments: 500 and 600 bytes, then 700. The first one is
    # 9 bytes behind the outer index.
    one = sidx([(500, 2000), (600, 2000)], version)
    other = sidx([(700, 1500)], version)
    sizes = [(INDEX + len(one) + 1100, 4000), (INDEX + len(other) + 700, 1500)]
    outer = sidx(sizes, version, offset=9)
    media = outer + struct.pack(">I4sx", 9, b"free") + one + bytes(1100) + other + bytes(700)
    # In a chain, the last entry of each index is the next one.
    last = sidx([(700, 1500)], version)
    chain = sidx([(500, 2000), (600, 2000), (INDEX + len(last) + 700, 1500)], version)
    for begin, content in (
        (len(outer), media),
        (len(chain), chain + bytes(1100) + last + bytes(700)),
    ):
        for bits in (100, 200):
            (tmp_path / f"{bits}.mp4").write_bytes(content)
        for name in ("indexRange", "x"):
            text = INDEXED.replace("indexRange", name).replace("{span}", f"0-{begin - 1}")
            found = read_manifest(manifest(tmp_path, text))
            assert found.size_bytes[:, 0].tolist() == [500, 600, 700]
            assert found.chunk_s == 2.0


def test_an_index_that_is_listed_twice_is_refused(tmp_path):
    # Else a small file could ask for any number of segments. All boxes with one entry have 44
    # bytes, so the outer one ends at 56, and the inner ones begin at 56 and 100.
    last = sidx([(5, 2)])
    twice = sidx([(INDEX + 44, 2), (INDEX + 44, 2)]) + sidx([(INDEX + 44, 2)]) + last
    far = sidx([(INDEX + 44, 2)], version=1, offset=2**64 - 1)
    for content in (twice, far):
        for bits in (100, 200):
            (tmp_path / f"{bits}.mp4").write_bytes(content)
        with pytest.raises(InputError, match="which another lists, got none or one that was read"):
            read_manifest(manifest(tmp_path, INDEXED.replace("{span}", "0-55")))


@pytest.mark.parametrize(
    ("media", "sentence"),
    [
        (b"", "must have an index of them .a sidx box., got none in 100.mp4"),
        (b"x" * 99, "got none in 100.mp4"),
        (sidx([], box=b"moof") * 3, "got none in 100.mp4"),
        (sidx([(5, 2), (5, 2)])[:-1], "a whole index .sidx box. in 100.mp4, got a broken one"),
        (sidx([(5, 2)])[:20], "got a broken one"),
        (sidx([(5, 2)], timescale=0), "got a broken one"),
        (sidx([(5, 0)]), "segments longer than 0 s in 100.mp4, got one of 0 s"),
        (sidx([(5 + 2**31, 2)]), "an index .sidx box. at byte 44 of 100.mp4, which another lists"),
        (sidx([(0, 0)]), "got one of 0 s"),
        (sidx([(5, 2)] * 60_000) * 2, "at most 100000 segments"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path, media, sentence):
    for bits in (100, 200):
        (tmp_path / f"{bits}.mp4").write_bytes(media)
    for span in ("indexRange", "x"):
        text = INDEXED.replace("indexRange", span).replace("{span}", "0-999999999")
        with pytest.raises(InputError, match=sentence):
            read_manifest(manifest(tmp_path, text))


def test_only_regular_files_are_opened(tmp_path):
    # Opening a pipe would wait for ever.
    os.mkfifo(tmp_path / "100.mp4")
    with pytest.raises(InputError, match=r"must lie beside its segments, got no file '100.mp4'"):
        read_manifest(manifest(tmp_path, INDEXED.replace("{span}", "0-9")))
    os.mkfifo(tmp_path / "pipe.mpd")
    with pytest.raises(InputError, match=r"pipe\.mpd must be a file, got none"):
        read_manifest(tmp_path / "pipe.mpd")


def test_counts_are_bounded(tmp_path, monkeypatch):
    # The same small file for every segment of every rung.
    segments(tmp_path, {"a.m4s": 9})
    inside = '<SegmentTemplate media="a.m4s" duration="1"/>'
    many = f'<Period duration="PT99S">{video(inside + rungs(*range(1, 102)))}</Period>'
    with pytest.raises(InputError, match="must hold 1 to 100 elements Representation"):
        read_manifest(manifest(tmp_path, whole(many)))
    monkeypatch.setattr(dash, "MOST_SIZES", 1000)
    few = f'<Period duration="PT99S">{video(inside + rungs(*range(1, 12)))}</Period>'
    with pytest.raises(InputError, match="must have at most 1000 segments in all, got 1089"):
        read_manifest(manifest(tmp_path, whole(few)))
    monkeypatch.setattr(dash_segments, "MOST_SEGMENTS", 100)
    short = f'<Period duration="PT60S">{video(inside + rungs(1, 2))}</Period>'
    with pytest.raises(InputError, match="must have at most 100 segments, got 120"):
        read_manifest(manifest(tmp_path, whole(short, short)))
    with pytest.raises(InputError, match="1 to 1000 elements Period, got 1001"):
        read_manifest(manifest(tmp_path, whole("<Period/>" * 1001)))
    with (tmp_path / "made.mpd").open("wb") as file:
        file.truncate(64_000_001)
    with pytest.raises(InputError, match="must have at most 64000000 bytes, got 64000001"):
        read_manifest(tmp_path / "made.mpd")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LAUGHS, r"must have no document type \(no entity is expanded\)"),
        ('<!DOCTYPE MPD SYSTEM "file:///etc/passwd"><MPD/>', "must have no document type"),
        ("<MPD>" * 3, "must be XML, got no element found"),
        ("<MPD/>".encode("utf-16"), "must be UTF-8 text, got another byte"),
        ("<html/>", "must begin with an element MPD, got 'html'"),
        ("<MPD/>", "must hold 1 to 1000 elements Period, got 0"),
        (RANGES.replace("<Period>", "<Period/><Period>"), "must hold a video AdaptationSet in eac"),
        (RANGES.replace("<MPD", '<MPD type="dynamic"'), "must have the type static, got 'dynamic'"),
        (RANGES.replace("hi.mp4", "lo.mp4") + "<a/>", "must be XML"),
        (
            RANGES.replace("0-49999", "0-999999999999999"),
            "at most 9999999999 bytes, got 1000000000",
        ),
        (RANGES.replace('"90000"', '"soon"'), "must have duration as a whole number of at least 1"),
        (RANGES.replace('bandwidth="800000"', ""), "bandwidth as a whole number .* got None"),
        (RANGES.replace("800000", "200000"), r"made.mpd: ladder_mbps must be two or more rising"),
        (RANGES.replace("0-49999", "9-5"), "a mediaRange, first-last byte, got '9-5'"),
        (RANGES.replace('mediaRange="0-49999"', ""), "a mediaRange, first-last byte, got None"),
        (RANGES.replace('<SegmentURL mediaRange="0-49999"/>', ""), "as many segments .* 2 .* 3"),
        (
            RANGES.replace('45000" dur', '4500" dur', 1),
            "cut all Representations at the same times, got segment 1 of 2 s in one and of 20 s",
        ),
        (TEMPLATE, "must lie beside its segments, got no file 'media/a/005-100.m4s'"),
        (TEMPLATE.replace("media/", "http://a.org/"), "must name segment files beside it"),
        (TEMPLATE.replace("media/", "../"), "must name segment files beside it, got '../a/005"),
        (TEMPLATE.replace("media/", "%2e%2e/"), "must name segment files beside it"),
        (TEMPLATE.replace("media/", "/etc/"), "must name segment files beside it"),
        (TEMPLATE.replace("media/", "m" * 999 + "/"), "must lie beside its segments"),
        (TEMPLATE.replace("PT0M9.5S", "soon"), "mediaPresentationDuration as PT1M30.5S, .*'soon'"),
        (TEMPLATE.replace("PT0M9.5S", "-PT9S"), "mediaPresentationDuration as PT1M30.5S, .*'-PT9S"),
        (TEMPLATE.replace("PT0M9.5S", "9.5"), "mediaPresentationDuration as PT1M30.5S, .*'9.5'"),
        (TEMPLATE.replace("PT0M9.5S", "PT0S"), "got 0 lengths and 0 sizes"),
        (TEMPLATE.replace("mediaPresentationDuration", "x"), "or how many segments there are"),
        (TEMPLATE.replace('"5"', '"5" endNumber="4"'), "endNumber as a whole number of at least 5"),
        (TEMPLATE.replace("PT0M9.5S", "PT9999999S"), "must have at most 100000 segments"),
        (TIMELINE.replace('r="1"', 'r="999999999"'), "must have at most 100000 segments"),
        (TIMELINE.replace('r="1"', 'r="-2"'), "must have r as a whole number of at least 0"),
        (TIMELINE.replace('<S d="700"/>', '<S d="7" r="-1"/>'), "must say when the Period ends"),
        (TIMELINE.replace('r="1"', 'r="-1"'), "must have t as a whole number"),
    ],
)
def test_other_manifests_are_refused_with_the_file(tmp_path, text, sentence):
    path = manifest(tmp_path, text)
    with pytest.raises(InputError, match=sentence) as refusal:
        load_video(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_billion_laughs_cost_no_memory(capsys, tmp_path):
    path = manifest(tmp_path, LAUGHS)
    run(["envs"])
    tracemalloc.start()
    assert run(["bench", "abr", "--policies", "lowest", "--video", str(path)]) == 2
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "must have no document type" in said


def test_a_manifest_is_played_on_the_command_line(capsys, tmp_path):
    path = manifest(tmp_path, RANGES)
    assert run(["bench", "abr", "--policies", "lowest,bba", "--video", str(path)]) == 0
    assert "made.mpd: 100 episodes" in capsys.readouterr().out


def test_a_missing_manifest_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"or one of .*, or an \.mpd file, got"):
        load_video(tmp_path / "none.mpd")


PERIODS = whole(
    f'<Period start="PT0S">{video(rungs(1, 2, inside=listed(1, 2)))}</Period>',
    f'<Period duration="PT4S">{video(rungs(1, 2, inside=listed(3, 4)))}</Period>',
    attributes='mediaPresentationDuration="PT8S"',
)
PIECES = [RANGES, TEMPLATE, TIMELINE, PERIODS, INDEXED.replace("{span}", "0-99")]
VALUES = st.sampled_from(
    ["0", "-1", "1", "7-3", "0-9", "999999999999", "PT1S", "PT0S", "P1Y", "-P1D", "../x", "$", "a%"]
)
MEDIA = sidx([(500, 2000), (600, 1000)])


@st.composite
def harmed(draw):
    """Return a good manifest with some attribute changed, some span cut out, or a byte replaced."""
    text = draw(st.sampled_from(PIECES))
    for _ in range(draw(st.integers(1, 3))):
        begin, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        if draw(st.booleans()):
            parts = text[begin:].split('"', 2)
            if len(parts) == 3:
                text = f'{text[:begin]}{parts[0]}"{draw(VALUES)}"{parts[2]}'
        else:
            text = text[:begin] + draw(st.sampled_from(["", "<", "&a;", "\0"])) + text[end:]
    return text.encode()


@st.composite
def harmed_media(draw):
    """Return a media file with an index in which some bytes are others, or missing."""
    begin, end = sorted(draw(st.tuples(*[st.integers(0, len(MEDIA))] * 2)))
    return MEDIA[:begin] + draw(st.binary(max_size=8)) + MEDIA[end:]


def is_read_or_refused(folder, data, media):
    for bits in (100, 200):
        (folder / f"{bits}.mp4").write_bytes(media)
    path = manifest(folder, data)
    try:
        found = read_manifest(path)
    except InputError as refusal:
        assert str(path) in str(refusal)  # noqa: PT017
        assert "\n" not in str(refusal)  # noqa: PT017
        return
    assert found.size_bytes.shape[1:] == found.ladder_mbps.shape
    assert np.shape(found.chunk_s) in ((), (len(found.size_bytes),))
    assert (np.asarray(found.chunk_s) > 0).all()
    assert 0 <= found.size_bytes.min() <= found.size_bytes.max() < 10**10


DATA = st.binary(max_size=40) | harmed()


@settings(max_examples=100)
@given(DATA, harmed_media() | st.just(MEDIA))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data, media):
    is_read_or_refused(tmp_path_factory.getbasetemp(), data, media)


@pytest.mark.slow
@settings(max_examples=2000)
@given(DATA, harmed_media() | st.just(MEDIA))
def test_any_bytes_are_read_or_refused_2000_times(tmp_path_factory, data, media):
    is_read_or_refused(tmp_path_factory.getbasetemp(), data, media)


def test_deep_nesting_is_refused(tmp_path):
    path = manifest(tmp_path, "<MPD>" + "<a>" * 200_000 + "</a>" * 200_000 + "</MPD>")
    with pytest.raises(InputError, match="must hold 1 to 1000 elements Period, got 0"):
        load_video(path)
