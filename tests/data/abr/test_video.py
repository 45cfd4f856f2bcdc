"""Videos: what the files say, what follows from them, and what must be stated."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netllm_gym.data.abr.video import Video, VideoOptions, load_video, read_video_folder
from netllm_gym.errors import InputError

LADDER = (1.0, 3.0)  # Mbit/s
# Means of 250,000 and 750,000 bytes: 2 and 6 Mbit a chunk, so chunks of 2 s have this ladder.
COLUMNS = [[240_000, 260_000, 250_000], [700_000, 800_000, 750_000]]


def sizes_folder(folder, columns=COLUMNS, stated=None):
    for rung, column in enumerate(columns):
        (folder / f"video_size_{rung}").write_text("".join(f"{size}\n" for size in column))
    if stated is not None:
        (folder / "video.json").write_text(json.dumps(stated))
    return folder


def test_a_folder_states_length_and_ladder(tmp_path):
    stated = {"chunk_s": 2, "ladder_mbps": [1.1, 2.9], "num_chunks": 2}
    video = read_video_folder(sizes_folder(tmp_path, stated=stated))
    assert video.size_bytes.tolist() == [[240_000, 700_000], [260_000, 800_000], [250_000, 750_000]]
    assert (video.chunk_s, video.num_chunks, video.remarks) == (2.0, 2, ())
    assert video.ladder_mbps.tolist() == [1.1, 2.9]
    assert video.duration_s == 4.0


def test_the_ladder_follows_from_the_length(tmp_path):
    video = read_video_folder(sizes_folder(tmp_path), VideoOptions(chunk_s=2.0))
    np.testing.assert_allclose(video.ladder_mbps, LADDER)
    assert video.num_chunks == 3
    assert video.remarks == (
        f"ladder_mbps of the video {tmp_path.name} follows from its sizes: 1, 3",
    )


def test_the_ladder_follows_from_lengths_that_differ(tmp_path):
    # 6 and 18 Mbit in 8 s.
    video = read_video_folder(sizes_folder(tmp_path, stated={"chunk_s": [2, 4, 2]}))
    np.testing.assert_allclose(video.ladder_mbps, [0.75, 2.25])
    assert video.lengths_s.tolist() == [2.0, 4.0, 2.0]


def test_chunks_that_are_not_played_count_for_nothing(tmp_path):
    # 4 and 12 Mbit in 6 s; the third chunk and its 90 s are not played.
    folder = sizes_folder(tmp_path, stated={"chunk_s": [2, 4, 90], "num_chunks": 2})
    np.testing.assert_allclose(read_video_folder(folder).ladder_mbps, [4 / 6, 12 / 6])


def test_the_length_follows_from_the_ladder(tmp_path):
    folder = sizes_folder(tmp_path, stated={"ladder_mbps": LADDER})
    video = read_video_folder(folder)
    assert video.chunk_s == 2.0
    assert "follows from its ladder: 2" in video.remarks[0]
    # A nominal ladder is 20 % off: 2.4 s is half a second's multiple 2.5.
    assert read_video_folder(folder, VideoOptions(ladder_mbps=(0.83, 2.5))).chunk_s == 2.5


def test_an_option_counts_before_the_file(tmp_path):
    folder = sizes_folder(tmp_path, stated={"chunk_s": 2.0})
    assert read_video_folder(folder, VideoOptions(chunk_s=1.0)).ladder_mbps.tolist() == [2.0, 6.0]


@pytest.mark.parametrize(
    ("columns", "stated", "sentence"),
    [
        (COLUMNS, None, r"chunk_s or ladder_mbps must be stated, .*--chunk-s 4, .*got neither"),
        (COLUMNS, {"num_chunks": 2}, "chunk_s or ladder_mbps must be stated"),
        (
            COLUMNS,
            {"chunk_s": 4, "ladder_mbps": LADDER},
            r"within a factor of 1.5, got 1 Mbit/s on rung 0, whose .* 0.5: a factor of 2$",
        ),
        (COLUMNS, {"ladder_mbps": [1, 2, 3]}, "ladder_mbps must be 2 bitrates above 0, one per fi"),
        (COLUMNS, {"ladder_mbps": [0, 2]}, "ladder_mbps must be 2 bitrates above 0"),
        (COLUMNS, {"chunk_s": 0}, "chunk_s must be above 0 and at most 3600 s, got 0"),
        (COLUMNS, {"chunk_s": [2, 4]}, r"one per chunk, 3 in all, got shape \(2,\)"),
        (COLUMNS, {"chunk_s": 2, "num_chunks": 4}, r"num_chunks must be in 2\.\.3"),
        (
            COLUMNS,
            {"chunk_s": 2, "chunks": 4},
            "video.json: the description must have no unknown field, got 'chunks'; "
            "it may have chunk_s, ladder_mbps, num_chunks, quality",
        ),
        (COLUMNS, {"chunk_s": 2, "quality": [[1, 2], [3]]}, "quality must be numbers in rows"),
        (COLUMNS, {"chunk_s": 2, "quality": [[1, 2], [3, 4]]}, "quality must have 3 rows"),
        (COLUMNS[::-1], {"chunk_s": 2}, "sizes must rise with the rung, .*on rung 0"),
        (
            [[1, 2, 3], [1, 2]],
            None,
            "video_size_1 must list as many chunks as video_size_0, got 2 instead",
        ),
        (
            [["1", "two"], [1, 2]],
            None,
            r"video_size_0:2: a line must be one whole number of bytes, got 'two'",
        ),
        ([["1", "-2"], [1, 2]], None, r"video_size_0:2: a line must be one whole number"),
        ([["1", "9" * 23], [1, 2]], None, r"video_size_0:2: a line must be one whole number"),
        ([[0, 5], [7, 7]], {"chunk_s": 4}, "size_bytes must be above 0, got 0 for chunk 0 on rung"),
        ([[1, 2]], None, "must hold video_size_0, video_size_1 and so on, got video_size_0"),
        ([[], []], {"chunk_s": 4}, "must list two or more chunks, got 0"),
    ],
)
def test_what_is_not_known_or_contradicts_is_refused(tmp_path, columns, stated, sentence):
    with pytest.raises(InputError, match=sentence):
        read_video_folder(sizes_folder(tmp_path, columns, stated))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("1,2\n3,4\n", r"quality must have 3 rows, one per chunk"),
        ("1,2\n3\n", r"q.csv:2: a line must be 2 numbers, one per rung, got 1"),
        ("1,2\n3,x\n", r"q.csv:2: a line must be numbers, got '3,x'"),
        ("1,2\n3,nan\n5,6\n", r"quality must be finite"),
    ],
)
def test_broken_qualities_are_refused(tmp_path, content, sentence):
    folder = sizes_folder(tmp_path, stated={"chunk_s": 2})
    (tmp_path / "q.csv").write_text(content)
    with pytest.raises(InputError, match=sentence):
        load_video(folder, VideoOptions(quality_file=str(tmp_path / "q.csv")))


def test_qualities_come_from_the_folder_or_a_file(tmp_path):
    table = [[60.0, 90.0], [50.0, 80.0], [70.0, 95.0]]
    folder = sizes_folder(tmp_path, stated={"chunk_s": 2, "quality": table})
    assert load_video(folder).quality.tolist() == table
    (tmp_path / "q.csv").write_text("1, 2\n\n3 4\n5,6.5\n")
    options = VideoOptions(quality_file=str(tmp_path / "q.csv"))
    assert load_video(folder, options).quality.tolist() == [[1, 2], [3, 4], [5, 6.5]]


def test_options_that_contradict_are_refused():
    video = load_video("synthetic")
    for options in (VideoOptions(chunk_s=2.0), VideoOptions(ladder_mbps=(1, 2))):
        with pytest.raises(InputError, match=r"must be left out for a Video, which has its own"):
            load_video(video, options)
    with pytest.raises(InputError, match=r"video must be a name, a folder, .* got None"):
        load_video(None)
    with pytest.raises(InputError, match="ladder_mbps must be numbers, got 'high'"):
        VideoOptions(ladder_mbps="high")


def test_published_folders_are_recognised_by_their_contents(shared_data, tmp_path):
    video = load_video("video1")
    assert video.size_bytes.shape == (49, 6)
    assert (video.num_chunks, video.chunk_s) == (48, 4.0)
    assert video.ladder_mbps.tolist() == [0.3, 0.75, 1.2, 1.85, 2.85, 4.3]
    # Computed from NetLLM's video1: mean bytes of the lowest rung.
    assert video.size_bytes[:48, 0].mean() == pytest.approx(151_913, abs=1)
    again = load_video(sizes_folder(tmp_path, video.size_bytes.T.tolist()))  # another name
    assert again.ladder_mbps.tolist() == video.ladder_mbps.tolist()
    (tmp_path / "video_size_0").write_text("\n".join(["1000", *map(str, video.size_bytes[1:, 0])]))
    with pytest.raises(InputError, match="chunk_s or ladder_mbps must be stated"):
        load_video(tmp_path)


def test_the_synthetic_video_varies_and_rises():
    video = load_video("synthetic")
    assert (np.diff(video.size_bytes, axis=1) > 0).all()
    bitrates_mbps = video.size_bytes[:48] * 8e-6 / 4
    np.testing.assert_allclose(bitrates_mbps.mean(axis=0), video.ladder_mbps, rtol=0.03)
    assert bitrates_mbps[:, 5].std() > 0.3


def test_the_synthetic_video_is_made_with_any_length_and_ladder():
    video = load_video("synthetic", VideoOptions(chunk_s=2.0, ladder_mbps=(1.0, 2.0, 8.0)))
    bitrates_mbps = video.size_bytes[:48] * 8e-6 / 2
    np.testing.assert_allclose(bitrates_mbps.mean(axis=0), [1.0, 2.0, 8.0], rtol=0.03)


def test_equal_lengths_are_one_length():
    sizes = np.full((3, 2), [1, 2])
    assert Video("made", sizes, np.array(LADDER), 3, np.full(3, 1.5)).chunk_s == 1.5
    assert Video("made", sizes, np.array(LADDER), 3, 4).chunk_s == 4.0


@given(st.text(max_size=60) | st.recursive(st.none() | st.floats() | st.text(), st.lists))
def test_any_description_is_read_or_refused(tmp_path_factory, stated):
    folder = tmp_path_factory.mktemp("video")
    sizes_folder(folder)
    for text in (json.dumps(stated), json.dumps({"chunk_s": stated}), str(stated)):
        (folder / "video.json").write_text(text, "utf-8", errors="replace")
        try:
            video = load_video(folder)
        except InputError:
            continue
        assert (video.lengths_s > 0).all()


def test_a_manifest_is_played_with_the_length_of_each_segment(tmp_path):
    for rung, sizes in (("lo", (100, 200, 300)), ("hi", (400, 800, 1200))):
        for number, size in enumerate(sizes, start=1):
            (tmp_path / f"{rung}-{number}.m4s").write_bytes(b"0" * size)
    (tmp_path / "m.mpd").write_text(
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT12S"><Period>'
        '<AdaptationSet mimeType="video/mp4"><SegmentTemplate media="$RepresentationID$-$Number$'
        '.m4s" timescale="1"><SegmentTimeline><S t="0" d="2"/><S d="4"/><S d="6"/>'
        '</SegmentTimeline></SegmentTemplate><Representation id="lo" bandwidth="400"/>'
        '<Representation id="hi" bandwidth="1600"/></AdaptationSet></Period></MPD>'
    )
    video = load_video(tmp_path / "m.mpd")
    assert video.lengths_s.tolist() == [2.0, 4.0, 6.0]
    with pytest.raises(InputError, match="chunk_s must be left out for a manifest"):
        load_video(tmp_path / "m.mpd", VideoOptions(chunk_s=2))
