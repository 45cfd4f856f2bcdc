"""DASH manifests: sizes and lengths by hand, and anything else refused in a sentence."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.cli.main import run
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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (LAUGHS, r"must have no document type \(no entity is expanded\)"),
        ('<!DOCTYPE MPD SYSTEM "file:///etc/passwd"><MPD/>', "must have no document type"),
        ("<MPD>" * 3, "must be XML, got no element found"),
        ("<MPD/>".encode("utf-16"), "must be UTF-8 text, got byte 0 not"),
        ("<html/>", "must begin with an element MPD, got 'html'"),
        ("<MPD/>", "must hold one Period, got 0"),
        (RANGES.replace("<Period>", "<Period/><Period>"), "must hold one Period, got 2"),
        (RANGES.replace("audio", "video"), "must hold one video AdaptationSet, got 2"),
        (RANGES.replace("SegmentList", "SegmentBase"), "by SegmentList or SegmentTemplate, got n"),
        (RANGES.replace('"90000"', '"soon"'), "must have duration as a whole number of at least 1"),
        (RANGES.replace('bandwidth="800000"', ""), "bandwidth as a whole number .* got None"),
        (RANGES.replace("800000", "200000"), r"made.mpd: ladder_mbps must be two or more rising"),
        (RANGES.replace("0-49999", "9-5"), "a mediaRange, first-last byte, got '9-5'"),
        (RANGES.replace('mediaRange="0-49999"', ""), "a mediaRange, first-last byte, got None"),
        (RANGES.replace('<SegmentURL mediaRange="0-49999"/>', ""), "as many segments .* 2 .* 3"),
        (RANGES.replace('45000" dur', '4500" dur', 1), "of one length"),
        (TEMPLATE, "must lie beside its segments, got no file 'media/a/005-100.m4s'"),
        (TEMPLATE.replace("media/", "http://a.org/"), "must name segment files beside it"),
        (TEMPLATE.replace("media/", "../"), "must name segment files beside it, got '../a/005"),
        (TEMPLATE.replace("media/", "%2e%2e/"), "must name segment files beside it"),
        (TEMPLATE.replace("media/", "/etc/"), "must name segment files beside it"),
        (TEMPLATE.replace("media/", "m" * 999 + "/"), "must lie beside its segments"),
        (TEMPLATE.replace("PT0M9.5S", "soon"), "mediaPresentationDuration as PT1M30.5S, .*'soon'"),
        (TEMPLATE.replace("PT0M9.5S", "PT9999999S"), "must have at most 100000 segments"),
        (TIMELINE.replace('r="1"', 'r="999999999"'), "must have at most 100000 segments"),
        (TIMELINE.replace('r="1"', 'r="-1"'), "must have r as a whole number of at least 0"),
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


PIECES = [RANGES, TEMPLATE, TIMELINE]
VALUES = st.sampled_from(["0", "-1", "1", "7-3", "0-9", "999999999999", "PT1S", "../x", "$", "a%"])


@st.composite
def harmed(draw):
    """A good manifest with some attribute changed, some span cut out, or a byte replaced."""
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


def is_read_or_refused(folder, data):
    path = manifest(folder, data)
    said = str(path)
    try:
        load_video(path)
    except InputError as refusal:
        said = str(refusal)
    assert str(path) in said
    assert "\n" not in said


@settings(max_examples=100)
@given(st.binary(max_size=40) | harmed())
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    is_read_or_refused(tmp_path_factory.getbasetemp(), data)


@pytest.mark.slow
@settings(max_examples=2000)
@given(st.binary(max_size=40) | harmed())
def test_any_bytes_are_read_or_refused_2000_times(tmp_path_factory, data):
    is_read_or_refused(tmp_path_factory.getbasetemp(), data)


def test_deep_nesting_is_refused(tmp_path):
    path = manifest(tmp_path, "<MPD>" + "<a>" * 200_000 + "</a>" * 200_000 + "</MPD>")
    with pytest.raises(InputError, match="must hold one Period, got 0"):
        load_video(path)
