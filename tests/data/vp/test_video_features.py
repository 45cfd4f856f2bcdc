"""Features of frames: made-up ones, looked up by time, and refusals."""

import numpy as np
import pytest

from netllm_gym.data.vp.video_features import read_features
from netllm_gym.errors import InputError


def test_a_frame_is_found_by_its_time_and_the_last_one_stays(tmp_path):
    np.savez(tmp_path / "video7.npz", features=np.arange(6).reshape(3, 2), frequency_hz=0.5)
    np.savez(tmp_path / "video8.npz", features=10 + np.arange(2).reshape(1, 2), frequency_hz=30)
    (tmp_path / "notes.txt").write_text("not read")
    features = read_features(tmp_path)
    assert features.size == 2
    found = features.at(np.array([7, 8]), np.array([[0.0, 1.9, 2.0, 99.0]] * 2))
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 2, 4])
    np.testing.assert_array_equal(found[1, :, 1], [11, 11, 11, 11])
    with pytest.raises(InputError, match=r"features must have video 9, got \[7, 8\]"):
        features.check_has(np.array([7, 9]))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"features": np.zeros((2, 2))}, "must have the array frequency_hz, got none"),
        ({"features": np.zeros(2), "frequency_hz": 5}, "must be numbers in 2 dimensions"),
        ({"features": np.full((2, 2), np.nan), "frequency_hz": 5}, "must be finite numbers"),
        (
            {"features": np.zeros((2, 2)), "frequency_hz": 0},
            "frequency_hz of .* must be in 0..1000",
        ),
        ({"features": np.zeros((2, 5)), "frequency_hz": 5}, "must have 3 columns, got 5"),
    ],
)
def test_features_that_do_not_fit_are_refused(tmp_path, arrays, sentence):
    np.savez(tmp_path / "video1.npz", features=np.zeros((4, 3)), frequency_hz=5.0)
    np.savez(tmp_path / "video2.npz", **arrays)
    with pytest.raises(InputError, match=sentence):
        read_features(tmp_path)


def test_features_are_known_by_all_that_they_hold(tmp_path):
    rows = np.arange(6.0).reshape(3, 2)
    known = set()
    for number, (name, values, frequency) in enumerate(
        [
            ("1", rows, 5),
            ("2", rows, 5),
            ("1", rows + 1, 5),
            ("1", rows.reshape(2, 3), 5),
            ("1", rows, 6),
        ]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        np.savez(folder / f"video{name}.npz", features=values, frequency_hz=frequency)
        known.add(read_features(folder).sha256)
    assert len(known) == 5
    assert read_features(tmp_path / "0").sha256 in known


def test_two_files_of_one_video_are_refused(tmp_path):
    for name in ("video1", "video01"):
        np.savez(tmp_path / f"{name}.npz", features=np.zeros((2, 2)), frequency_hz=5)
    with pytest.raises(InputError, match=r"one file for video 1, got video01\.npz and video1\.npz"):
        read_features(tmp_path)


def test_a_folder_without_features_is_refused(tmp_path):
    with pytest.raises(InputError, match="got none in"):
        read_features(tmp_path)
    with pytest.raises(InputError, match="features must be a folder"):
        read_features(tmp_path / "nowhere")
