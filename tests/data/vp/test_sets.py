"""Sets by name and folder: the published splits, the generator, refusals."""

import json

import numpy as np
import pytest

from netllm_gym.data.vp.sets import (
    load_viewports,
    published_splits,
    viewport_set_names,
    where_packed,
)
from netllm_gym.data.vp.synthetic import HeadMotion, generate_viewports
from netllm_gym.data.vp.viewport import ViewportWindows, WindowConfig
from netllm_gym.errors import InputError, MissingDataError


def test_the_parts_of_a_published_split_share_no_video_and_no_user():
    for parts in published_splits().values():
        assert list(parts) == ["train", "valid", "test"]
        for what in ("videos", "users"):
            ids = [each for part in parts.values() for each in part[what]]
            assert len(ids) == len(set(ids))


def test_published_sets_have_the_traces_and_windows_of_the_reference(viewport_data):
    reference = json.loads((viewport_data / "../reference/vp/reference.json").read_text())
    for name, parts in reference["splits"].items():
        for part, expected in parts.items():
            dataset = load_viewports(f"{name.lower()}-{part}")
            rows = sum(len(trace.angles_deg) for trace in dataset.traces)
            assert (len(dataset.traces), rows) == (expected["n_traces"], expected["n_rows"])
            for tail in (30, 60):
                windows = ViewportWindows(dataset, WindowConfig(trim_tail=tail))
                assert len(windows) == expected[f"n_samples_trim_30_{tail}"]


def test_the_test_part_is_read_from_the_small_file_too(viewport_data, tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    (tmp_path / "vp").mkdir()
    file = "jin2022_test.npz"
    (tmp_path / "vp" / file).write_bytes((viewport_data / "vp" / file).read_bytes())
    assert where_packed("jin2022-test").name == file
    assert len(load_viewports("jin2022-test").traces) == 126
    with pytest.raises(MissingDataError, match=r"vp/jin2022_splits\.npz must be on this machine"):
        load_viewports("jin2022-train")


def test_generated_sets_are_equal_each_time_and_differ_from_each_other():
    one, again = (load_viewports("synthetic-test") for _ in range(2))
    for first, second in zip(one.traces, again.traces, strict=True):
        np.testing.assert_array_equal(first.angles_deg, second.angles_deg)
    seen = [
        set(load_viewports(name).provenance()["recordings"]) for name in viewport_set_names()[:3]
    ]
    assert len(set.union(*seen)) == sum(map(len, seen))  # no false alarm either


def test_generated_heads_pursue_turn_and_wrap_around():
    traces = generate_viewports(HeadMotion(), 6, 6, seed=1)
    angles = np.stack([trace.angles_deg for trace in traces]).astype(np.float64)  # (36, 300, 3)
    assert (np.abs(angles) <= [180.0, 90.0, 180.0]).all()
    raw = np.diff(angles[..., 2], axis=1)
    steps = np.abs((raw + 180.0) % 360.0 - 180.0)
    assert (np.abs(raw) > 180.0).any()  # the border is crossed
    assert (
        np.quantile(steps, 0.5) < 3.0 < 10.0 < np.quantile(steps, 0.99)
    )  # mostly slow, seldom fast
    still = generate_viewports(HeadMotion(saccades_per_s=0.0, attraction_per_s=0.0), 3, 3, seed=1)
    slow = np.concatenate([np.diff(np.unwrap(t.angles_deg[:, 2], period=360.0)) for t in still])
    assert np.abs(slow).max() < 12.0  # 9 degrees a second, five samples: far below a turn


def test_sets_are_joined_as_those_of_other_videos_and_people(tmp_path):
    one, other = load_viewports("synthetic-valid", "zxy"), load_viewports("synthetic-test", "zxy")
    both = load_viewports("synthetic-valid+synthetic-test", "zxy")
    assert (both.name, both.euler_order) == ("synthetic-valid+synthetic-test", "zxy")
    assert len(both.traces) == len(one.traces) + len(other.traces)
    assert len({(trace.video, trace.user) for trace in both.traces}) == len(both.traces)
    assert {trace.sha256 for trace in both.traces} == {
        trace.sha256 for each in (one, other) for trace in each.traces
    }
    with pytest.raises(InputError, match="features must be left out for several sets"):
        load_viewports("synthetic-valid+synthetic-test", features=tmp_path)
    with pytest.raises(InputError, match="got 'nowhere'"):
        load_viewports("synthetic-valid+nowhere")
    with pytest.raises(InputError, match="a set on each side of a \\+, got 'synthetic\\+'"):
        load_viewports("synthetic+")


def test_a_trace_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"must differ, got equal angles of video 1 user 1 and"):
        load_viewports("synthetic-test+synthetic-test")
    rows = "".join(f"{0.2 * row},{row},2,3\n" for row in range(9))
    for folder, text in (("video1", rows), ("video01", rows + "2.0,1,2,3\n")):
        (tmp_path / "a" / folder / "5Hz").mkdir(parents=True)
        (tmp_path / "a" / folder / "5Hz/simple_5Hz_user2.csv").write_text(text)
    with pytest.raises(InputError, match=r"one file for video 1 and user 2, got \S+ and \S+csv"):
        load_viewports(tmp_path / "a")
    for folder in ("video1", "video2"):
        (tmp_path / "b" / folder / "5Hz").mkdir(parents=True)
        (tmp_path / "b" / folder / "5Hz/simple_5Hz_user2.csv").write_text(rows)
    with pytest.raises(InputError, match=r"video 1 user 2 and video 2 user 2"):
        load_viewports(tmp_path / "b")


@pytest.mark.parametrize("times", [0, 2])
def test_a_published_part_is_whole(tmp_path, monkeypatch, times):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    (tmp_path / "vp").mkdir()
    part = published_splits()["wu2017"]["test"]
    held = [(video, user) for video in part["videos"] for user in part["users"]]
    held = held[1:] + held[:1] * times
    np.savez(
        tmp_path / "vp/wu2017_test.npz",
        angles_delta_cdeg=np.zeros((3, len(held)), np.int16),
        offsets=np.arange(len(held) + 1),
        video=np.array([video for video, _ in held]),
        user=np.array([user for _, user in held]),
    )
    with pytest.raises(InputError, match=f"each trace of wu2017-test once, got {times} of video"):
        load_viewports("wu2017-test")


def test_a_set_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(InputError, match="dataset must be a folder or one of synthetic, "):
        load_viewports("jin2022")
    with pytest.raises(InputError, match=r"dataset must be a folder or one of .*, got ''"):
        load_viewports("")  # not the folder that one stands in
    with pytest.raises(InputError, match="got none in"):
        load_viewports(tmp_path)
    with pytest.raises(InputError, match="videos and users must be at least 1, got 0 and 1"):
        generate_viewports(HeadMotion(), 0, 1, 0)
    with pytest.raises(InputError, match="saccade_s must be a range"):
        HeadMotion(saccade_s=(2.0, 1.0))
