"""Files of head movements: cooked and raw, and whatever may be wrong with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.vp.angles import angle_error_deg, angles_of, matrices, of_quaternions
from netllm_gym.data.vp.formats import (
    FORMATS,
    WU2017,
    Found,
    as_traces,
    read_packed,
    read_samples,
)
from netllm_gym.data.vp.sets import load_viewports
from netllm_gym.data.vp.viewport import InputReport
from netllm_gym.errors import InputError


def cooked(folder, rows, video=1, user=2):
    path = folder / f"video{video}/5Hz/simple_5Hz_user{user}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{','.join(f'{each:.6f}' for each in row)}\n" for row in rows))
    return path


def rows_at(times_s):
    return [(time, 1.0, 2.0, 3.0) for time in times_s]


def test_cooked_rows_are_kept_and_their_time_counts_from_the_first(tmp_path):
    cooked(tmp_path, [(0.0, 1, 2, 179.5), (0.2, 1, 2, -179.5)], video=3, user=4)
    cooked(tmp_path, [(480.0, 1, 2, 3)], video=12, user=7)
    dataset = load_viewports(tmp_path)
    assert (dataset.euler_order, dataset.report) == ("zxy", InputReport())
    assert [(trace.video, trace.user) for trace in dataset.traces] == [(12, 7), (3, 4)]
    np.testing.assert_array_equal(dataset.traces[1].angles_deg, [[1, 2, 179.5], [1, 2, -179.5]])
    assert [trace.first_sample for trace in dataset.traces] == [0, 0]  # the video begins there


def test_rows_that_break_the_rules_are_repaired_and_counted(tmp_path):
    rows = [
        *rows_at([0.0, 0.2, 0.4]),
        (0.3, 0, 0, 0),  # back in time
        (0.4, 0, 0, 0),  # stands still
        (0.6, np.nan, 0, 0),
        (0.8, 0, np.inf, 0),
        (1.0, 10.0, 100.0, 350.0),  # pitch past the vertical, yaw beyond a half turn
        *rows_at([2.5, 2.7]),  # after a gap of 1.5 s
        *rows_at([3.7]),  # 1.0 s is none
    ]
    cooked(tmp_path, rows)
    dataset = load_viewports(tmp_path)
    assert dataset.report == InputReport(1, 2, 2, 1, 1)
    first, second = dataset.traces
    assert (len(first.angles_deg), len(second.angles_deg)) == (4, 3)
    assert (first.first_sample, second.first_sample) == (0, 13)  # 2.5 s of 0.2 s, rounded
    # (10, 100, 350) is the orientation of (190, 80, 530), which is (-170, 80, 170).
    np.testing.assert_allclose(first.angles_deg[-1], [-170.0, 80.0, 170.0], atol=1e-4)


def quaternions_of(angles, order="yxz"):
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    return rotation.from_matrix(matrices(angles, order)).as_quat()


@pytest.mark.parametrize("order", ["yxz", "zxy"])
def test_raw_logs_of_wu2017_are_read_in_both_orders(tmp_path, order):
    time_s = np.arange(0.0, 3.0, 0.011)
    angles = np.stack([0 * time_s + 1, 10 * np.sin(time_s), 60 * time_s - 90], axis=1)
    path = tmp_path / "Experiment_2/17/video_3.csv"
    path.parent.mkdir(parents=True)
    names = [f"UnitQuaternion.{axis}" for axis in "xyzw"]
    lines = [",".join(["Timestamp", "PlaybackTime", *names, "HmdPosition.x"])]
    rows = zip(time_s, quaternions_of(angles), strict=True)
    lines += [f"2017-01-01 10:00,{t:.3f},{','.join(map(str, q))},0.1" for t, q in rows]
    path.write_text("\n".join(lines) + "\n")
    (trace,) = load_viewports(tmp_path, order).traces
    assert (trace.video, trace.user, len(trace.angles_deg)) == (13, 17, 15)
    # The first row at or after 0, 0.2, 0.4, ... s.
    kept = [np.flatnonzero(np.round(time_s, 3) >= 0.2 * k - 1e-9)[0] for k in range(15)]
    expected = angles_of(matrices(angles[kept], "yxz"), order)
    np.testing.assert_allclose(trace.angles_deg, expected, atol=1e-3)


def test_raw_logs_of_jin2022_count_from_their_first_row_and_skip_what_came_before(tmp_path):
    path = tmp_path / "V2 (9)/user_video_21_x.csv"
    path.parent.mkdir(parents=True)
    quaternion = f'"[0.0, {np.sin(0.5):.6f}, 0.0, {np.cos(0.5):.6f}]"'
    times_s = np.arange(300.0, 302.0, 0.05)
    lines = ["time,a,b,c,quaternion", *(f"{time_s:.2f},0,0,0,{quaternion}" for time_s in times_s)]
    path.write_text("\n".join(lines) + "\n")
    (trace,) = load_viewports(tmp_path).traces
    assert (trace.video, trace.user, len(trace.angles_deg)) == (21, 9, 10)
    # A turn of 1 rad about the vertical.
    np.testing.assert_allclose(trace.angles_deg, [[0, 0, np.rad2deg(1.0)]] * 10, atol=1e-3)


def test_quaternions_of_length_0_are_no_orientation(tmp_path):
    path = tmp_path / "Experiment_1/1/video_0.csv"
    path.parent.mkdir(parents=True)
    header = (
        "Timestamp,PlaybackTime,UnitQuaternion.x,UnitQuaternion.y,UnitQuaternion.z,UnitQuaternion.w"
    )
    path.write_text(f"{header}\nx,0.0,0,0,0,0\nx,0.2,0,0,0,2\n")
    pieces, report = as_traces(Found(path, WU2017, 1, 1), read_samples(path, WU2017), "yxz")
    assert report.rows_not_finite == 1
    np.testing.assert_array_equal(pieces[0].angles_deg, [[0, 0, 0]])
    np.testing.assert_allclose(of_quaternions([0, 0, 0, 2.0], "zxy"), [0, 0, 0])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0.0,1,2\n", ":1: a row must have numbers in columns 1, 2, 3, 4, got '0.0,1,2'"),
        ("0.0,1,2,3\n0.2,a,2,3\n", ":2: a row must have numbers"),
        ("", "must hold rows with finite numbers, got none"),
        ("nan,nan,nan,nan\n", "must hold rows with finite numbers, got none"),
    ],
)
def test_what_is_no_table_is_refused_with_its_line(tmp_path, text, sentence):
    path = cooked(tmp_path, [])
    path.write_text(text)
    with pytest.raises(InputError, match=sentence):
        load_viewports(tmp_path)


NUMBERS = st.floats() | st.integers(-400, 400).map(float)
NAMES = "PlaybackTime," + ",".join(f"UnitQuaternion.{axis}" for axis in "xyzw") + "\n"
TABLES = st.tuples(
    st.sampled_from([",", " "]),
    st.sampled_from(["", NAMES]),
    st.lists(st.lists(NUMBERS, min_size=4, max_size=8), max_size=8),
).map(lambda t: (t[1] + "\n".join(t[0].join(map(repr, row)) for row in t[2])).encode())


@pytest.mark.parametrize("examples", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_bytes_are_read_or_refused(tmp_path, examples):
    path = tmp_path / "x.csv"

    @settings(max_examples=examples)
    @given(st.binary(max_size=200) | TABLES)
    def body(data):
        path.write_bytes(data)
        for kind in FORMATS:
            try:
                pieces, report = as_traces(Found(path, kind, 1, 1), read_samples(path, kind), "yxz")
            except InputError as refusal:
                assert str(path) in str(refusal)  # noqa: PT017
                continue
            assert len(pieces) == report.gaps + 1
            begins = [piece.first_sample for piece in pieces]
            assert begins == sorted(begins)
            assert begins[0] >= 0
            for piece in pieces:
                assert piece.angles_deg.shape == (len(piece.angles_deg), 3)
                assert len(piece.angles_deg)
                assert np.isfinite(piece.angles_deg).all()
                assert (np.abs(piece.angles_deg) <= [180.0, 90.0, 180.0]).all()

    body()


def moving_head(times_s):
    """Return rows of a head that turns on and on, pitches and rolls; NetLLM's order of columns."""
    return np.stack(
        [times_s, 3 * np.sin(times_s), 40 * np.sin(times_s / 3), (30 * times_s + 1) % 360 - 180],
        axis=1,
    )


def angles_in(folder):
    return [trace.angles_deg for trace in load_viewports(folder).traces]


@pytest.mark.parametrize("rate_hz", [6, 10, 30, 90])
def test_cooked_files_of_any_higher_rate_give_what_five_rows_a_second_give(tmp_path, rate_hz):
    five, more = (moving_head(np.arange(20 * hz) / hz) for hz in (5, rate_hz))
    cooked(tmp_path / "five", five)
    cooked(tmp_path / "more", np.delete(more, slice(10 * rate_hz, 12 * rate_hz), axis=0))
    dataset = load_viewports(tmp_path / "more")
    assert dataset.report.sentences() == [
        "traces cut at 1 gaps above 1 s",
        "1 recordings thinned to 5 rows a second",
    ]
    (whole,) = angles_in(tmp_path / "five")
    # The first row at or after each fifth of a second; with 6 rows a second, they come late.
    late = 1e-3 if rate_hz != 6 else 30 / 6
    for trace, begins in zip(dataset.traces, (0, 60), strict=True):
        assert (trace.first_sample, len(trace.angles_deg)) == (begins, 50 if begins == 0 else 40)
        expected = whole[begins : begins + len(trace.angles_deg)]
        assert angle_error_deg(trace.angles_deg, expected).max() <= late


@pytest.mark.parametrize("kind", ["cooked", "raw"])
def test_fewer_rows_than_five_a_second_are_refused(tmp_path, kind):
    times_s = np.arange(100) / 2
    if kind == "cooked":
        cooked(tmp_path, moving_head(times_s))
    else:
        corbillon(tmp_path, times_s, np.ones((100, 4)))
    with pytest.raises(InputError, match=r"5 rows a second or more, got one in 0\.5 s, if its"):
        load_viewports(tmp_path)


def test_milliseconds_and_radians_are_recognised_and_said(tmp_path):
    rows = moving_head(np.arange(100) / 5)
    cooked(tmp_path / "usual", rows)
    cooked(tmp_path / "other", rows * [1000, *[np.pi / 180] * 3])
    cooked(tmp_path / "other", np.abs(rows) * [1000, *[np.pi / 180] * 3], user=3)
    (usual,), other = angles_in(tmp_path / "usual"), load_viewports(tmp_path / "other")
    np.testing.assert_allclose(other.traces[0].angles_deg, usual, atol=1e-3)
    assert other.report.sentences() == [
        "times of 2 recordings taken as milliseconds",
        "angles of 2 recordings taken as radians, because all are within +-pi or 0 to 2 pi",
    ]


def test_radians_from_0_to_2_pi_are_recognised_and_a_still_head_is_not(tmp_path):
    rows = moving_head(np.arange(100) / 5)
    cooked(tmp_path / "usual", rows)
    turn = np.column_stack([rows[:, 0], np.deg2rad(rows[:, 1:] % 360)])
    cooked(tmp_path / "turn", turn)
    assert load_viewports(tmp_path / "turn").report.files_in_radians == 1
    error = angle_error_deg(angles_in(tmp_path / "turn")[0], angles_in(tmp_path / "usual")[0])
    assert error.max() < 1e-3
    cooked(tmp_path / "still", np.column_stack([rows[:, 0], np.arange(300).reshape(100, 3) % 7]))
    assert load_viewports(tmp_path / "still").report == InputReport()


def test_one_head_that_keeps_still_in_degrees_makes_no_radians_of_the_others(tmp_path):
    rows = moving_head(np.arange(100) / 5)
    cooked(tmp_path, rows)
    cooked(tmp_path, rows * [1, 0.1, 0.01, 0.01], user=3)
    assert load_viewports(tmp_path).report == InputReport()


def test_angles_from_0_to_360_degrees_are_the_same_as_from_minus_180_to_180(tmp_path):
    rows = moving_head(np.arange(100) / 5)
    cooked(tmp_path / "usual", rows)
    cooked(tmp_path / "turn", np.column_stack([rows[:, 0], rows[:, 1:] % 360]))
    np.testing.assert_allclose(
        angles_in(tmp_path / "turn")[0], angles_in(tmp_path / "usual")[0], atol=1e-4
    )
    (said,) = load_viewports(tmp_path / "turn").report.sentences()
    assert said.endswith("rows of angles out of range turned back into it")


def corbillon(folder, times_s, quaternions, video="Diving-2OzlksZBTiA", user="1d68"):
    """Write a log as the software of Corbillon et al. does: time, frame, w, x, y, z."""
    path = folder / f"uid-{user}/test0/{video}/{video}_0.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = zip(times_s, quaternions, strict=True)
    path.write_text(
        "".join(f"{t:.6f} 7 {' '.join(f'{each:.9f}' for each in q)}\n" for t, q in rows)
    )
    return path


def test_logs_of_corbillon_are_quaternions_whose_head_looks_along_minus_x(tmp_path):
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    times_s = np.arange(0.0, 4.0, 1 / 40)
    turn_deg, up_deg = 20 * times_s, 5 * times_s
    # Intrinsic turns of the world's axes x ahead, y left, z up: to the left about z, then up,
    # which is a negative turn about y. The head itself has x back and y right: half a turn about z.
    turned = rotation.from_euler("ZY", np.stack([turn_deg, -up_deg], axis=1), degrees=True)
    x, y, z, w = (turned * rotation.from_euler("Z", 180, degrees=True)).as_quat().T
    corbillon(tmp_path, times_s, np.stack([w, x, y, z], axis=1))
    corbillon(tmp_path, times_s + 9.0, np.stack([w, x, y, z], axis=1)[::-1], user="0a", video="b")
    first, second = load_viewports(tmp_path).traces
    assert [(each.video, each.user) for each in (first, second)] == [(2, 1), (1, 2)]
    # Ours: yaw to the right, pitch downwards, at 0, 0.2, 0.4, ... s.
    expected = [[0, -up, -turn] for up, turn in zip(up_deg[::8], turn_deg[::8], strict=True)]
    np.testing.assert_allclose(second.angles_deg, expected, atol=1e-4)
    assert (second.first_sample, len(first.angles_deg)) == (0, 20)


def test_folders_and_files_that_are_links_are_read(tmp_path):
    rows = moving_head(np.arange(100) / 5)
    cooked(tmp_path / "real", rows, video=1)
    cooked(tmp_path / "real", rows[::-1] * [0, 1, 1, 1] + rows * [1, 0, 0, 0], video=2)
    for video in (1, 2):
        (tmp_path / f"linked/video{video}").parent.mkdir(exist_ok=True)
        (tmp_path / f"linked/video{video}").symlink_to(tmp_path / f"real/video{video}")
    (tmp_path / "linked/video3").symlink_to(tmp_path / "linked")  # leads round in a circle
    assert [len(each) for each in angles_in(tmp_path / "linked")] == [100, 100]
    (tmp_path / "real/video1/5Hz/simple_5Hz_user9.csv").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=r"simple_5Hz_user9\.csv"):
        load_viewports(tmp_path / "linked")


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("1e308,1,2,3", r"times of .*user2\.csv must be within \+-1e\+13, got 1e\+308"),
        ("-1e308,1,2,3", "must be within"),
    ],
)
def test_times_of_no_clock_are_refused(tmp_path, row, sentence):
    path = cooked(tmp_path, moving_head(np.arange(10) / 5))
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(InputError, match=sentence):
        load_viewports(tmp_path)


def test_numbers_that_are_no_angles_are_left_out_and_counted(tmp_path):
    rows = moving_head(np.arange(10) / 5)
    rows[4, 2] = 1e308
    cooked(tmp_path, rows)
    quaternions = np.ones((10, 4))
    quaternions[3] = 1e300
    corbillon(tmp_path / "raw", rows[:, 0], quaternions)
    for folder in (tmp_path, tmp_path / "raw"):
        assert load_viewports(folder).report == InputReport(rows_not_finite=1)


def packed(path, angles, **changes):
    """Write traces as the packed files hold them."""
    hundredths = [np.rint(each * 100).astype(np.int16) for each in angles]
    parts = [np.concatenate([each[:1], np.diff(each, axis=0)]).T for each in hundredths]
    arrays = {
        "angles_delta_cdeg": np.concatenate(parts, axis=1),
        "offsets": np.cumsum([0, *map(len, angles)]).astype(np.int32),
        "video": np.arange(1, len(angles) + 1, dtype=np.uint8),
        "user": np.full(len(angles), 5, np.uint8),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def test_packed_traces_come_back_across_the_overflow(tmp_path):
    # -180 to 180 is 36,000 hundredths: beyond int16, which the sum undoes.
    angles = [np.array([[1.0, 2.0, -179.99], [1.5, 2.5, 179.98]]), np.array([[0.0, 0.0, 5.0]])]
    read = read_packed(packed(tmp_path / "p.npz", angles), {1, 2}, {5})
    for trace, expected in zip(read, angles, strict=True):
        np.testing.assert_allclose(trace.angles_deg, expected, atol=1e-5)
    assert read_packed(tmp_path / "p.npz", {2}, {5})[0].video == 2
    assert read_packed(tmp_path / "p.npz", {1, 2}, {6}) == ()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"offsets": np.array([0, 2, 2])}, "must hold traces of one row or more"),
        ({"offsets": np.array([0, 3])}, "must hold traces of one row or more"),
        ({"angles_delta_cdeg": np.zeros((3, 3))}, "must be numbers in 2 dimensions"),
        ({"video": np.array(["a", "b"])}, "must be numbers in 1 dimensions"),
        ({"angles_delta_cdeg": np.full((3, 3), 9500, np.int16)}, "pitch within"),
    ],
)
def test_packed_files_that_are_not_are_refused(tmp_path, changes, sentence):
    path = packed(tmp_path / "p.npz", [np.zeros((2, 3)), np.zeros((1, 3))], **changes)
    with pytest.raises(InputError, match=sentence):
        read_packed(path, {1, 2}, {5})


def test_a_broken_packed_file_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(InputError, match=r"must be an \.npz file, got no such file"):
        read_packed(path, {1}, {1})
    path.write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match=r"must be a \.npz archive of plain arrays"):
        read_packed(path, {1}, {1})
    np.savez(path, angles_delta_cdeg=np.array([{}], object))
    with pytest.raises(InputError, match=r"plain arrays, got an array of Python objects$"):
        read_packed(path, {1}, {1})
    np.savez(path, offsets=np.array([0, 1]))
    with pytest.raises(InputError, match="must have the array angles_delta_cdeg, got none"):
        read_packed(path, {1}, {1})
