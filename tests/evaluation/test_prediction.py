"""Predictors in their loop: the same histories for all, errors by hand, tables, refusals."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from netllm_gym.data.vp.viewport import ViewportSet, ViewportTrace, ViewportWindows, WindowConfig
from netllm_gym.errors import InputError
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.evaluation.prediction import predict, score_viewports
from netllm_gym.evaluation.statistics import bootstrap
from netllm_gym.evaluation.tables import read_table
from netllm_gym.policies.baselines.vp import HoldLast
from netllm_gym.policies.loading import LoadedPolicy
from netllm_gym.problems.index import find_problem
from netllm_gym.report.text import render_table

CONFIG = WindowConfig(history=3, future=2, trim_head=3, trim_tail=2, stride=1)


def made(num_samples=9, order="yxz"):
    """Return windows of one head that turns 10 degrees a sample, from 160 on."""
    yaw = (160.0 + 10.0 * np.arange(num_samples) + 180.0) % 360.0 - 180.0
    angles = np.stack([np.zeros(num_samples), np.zeros(num_samples), yaw], axis=1)
    trace = ViewportTrace(1, 1, angles.astype(np.float32))
    return ViewportWindows(ViewportSet("made", order, (trace,)), CONFIG)


def test_errors_by_hand():
    windows = made()
    assert len(windows) == 4
    scores = score_viewports(HoldLast(windows).predict(windows.history_deg(), None), windows)
    # Yaw is off by 10, then 20 degrees, also across the border; roll and pitch by nothing.
    np.testing.assert_allclose(scores.per_window, 30.0 / 6)
    np.testing.assert_allclose(scores.by_step, [10.0 / 3, 20.0 / 3])
    assert scores.components == pytest.approx(
        {"mae_published_deg": 5.0, "rmse_deg": np.sqrt(500.0 / 6), "great_circle_deg": 15.0}
    )


def test_all_windows_are_predicted_once_whatever_the_batch(monkeypatch):
    windows, told = made(40), []
    whole = predict(HoldLast(windows), windows).predictions
    monkeypatch.setattr("netllm_gym.evaluation.prediction.BATCH", 4)
    parts = predict(HoldLast(windows), windows, told.append)
    np.testing.assert_array_equal(parts.predictions, whole)
    assert told == [*range(4, 35, 4), len(windows)]
    assert parts.seconds > 0


class Wrong:
    """Predicts what it is told."""

    name = "wrong"

    def __init__(self, future):
        self.future = future

    def predict(self, history, content):
        return np.broadcast_to(self.future, (len(history), *np.shape(self.future)))


@pytest.mark.parametrize(
    ("future", "sentence"),
    [
        (np.zeros((3, 3)), r"wrong must predict angles of shape \(4, 2, 3\), got \(4, 3, 3\)"),
        (np.full((2, 3), np.nan), "wrong must predict finite angles, got 24 that are not"),
    ],
)
def test_predictions_that_are_none_are_refused(future, sentence):
    with pytest.raises(InputError, match=sentence):
        predict(Wrong(future), made())


def test_the_two_way_bootstrap_is_the_slow_one():
    rng = np.random.default_rng(1)
    video, user = rng.integers(0, 4, 200), rng.integers(0, 6, 200)
    values = rng.normal(size=200) + 2.0 * video + user
    means = []
    for _ in range(4000):
        videos = np.bincount(rng.integers(0, 4, 4), minlength=4)
        users = np.bincount(rng.integers(0, 6, 6), minlength=6)
        weights = videos[video] * users[user]
        means.append(np.average(values, weights=weights))
    found = bootstrap(values, video, user)
    assert found.mean == pytest.approx(values.mean())
    assert found.ci95 == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.25)
    # Wider than over the users alone, which takes the videos for given.
    (low, high), (one_low, one_high) = found.ci95, bootstrap(values, user).ci95
    assert high - low > one_high - one_low


def test_a_way_of_grouping_with_one_group_is_not_resampled():
    values, user, alone = np.arange(6.0), np.array([0, 0, 1, 1, 2, 2]), np.zeros(6, np.int64)
    assert bootstrap(values, alone, user) == bootstrap(values, user, alone)
    assert bootstrap(values, alone, user).ci95 is not None
    assert bootstrap(values, alone, alone).ci95 is None


def test_draws_without_a_window_have_no_mean():
    # Video 0 was watched by user 0 alone and video 1 by user 1: many draws hold neither pair.
    values, video = np.array([1.0, 3.0]), np.array([0, 1])
    assert bootstrap(values, video, video) == (2.0, (1.0, 3.0))


def test_a_table_of_predictors(tmp_path):
    table = evaluate("vp", ["hold_last", "velocity"], {"dataset": "synthetic-test"})
    hold, velocity = table.rows
    assert table.case == {
        "dataset": "synthetic-test",
        "history": "10",
        "future": "20",
        "trim_tail": "30",
        "trim_head": "30",
        "stride": "15",
        "euler_order": "yxz",
    }
    assert velocity.versus["policy"] == "hold_last"
    assert velocity.versus["mean"] == pytest.approx(velocity.mean - hold.mean)
    assert len(hold.by_step) == 20
    assert hold.mean == pytest.approx(np.mean(hold.by_step))
    file = tmp_path / "t.json"
    file.write_text(table.to_json())
    assert read_table(file) == table
    text = render_table(table)
    case = "history 10 x future 20 x trim_tail 30 x trim_head 30 x stride 15 x euler_order yxz"
    assert f"synthetic-test x {case}: 960 windows" in text
    assert "bootstrap over 6 videos and 10 users; differences are paired by window" in text


def test_a_predictor_that_does_not_fit_costs_its_own_row():
    def refuse(windows):
        raise InputError("history must be 10, got 3")

    case = {"dataset": "synthetic-test"}
    alone = evaluate("vp", ["hold_last"], case)
    table = evaluate("vp", ["hold_last", LoadedPolicy("unfit", refuse)], case)
    assert table.failures == {"unfit": "unfit: history must be 10, got 3"}
    assert table.rows[0].per_episode == alone.rows[0].per_episode


def test_what_was_repaired_is_in_the_table_and_its_text(tmp_path):
    folder = tmp_path / "video1/5Hz"
    folder.mkdir(parents=True)
    rows = [f"{0.2 * n + (5.0 if n > 90 else 0.0)},0,0,{n % 7}" for n in range(200)]
    rows.insert(80, "1.0,0,0,0")
    (folder / "simple_5Hz_user1.csv").write_text("\n".join(rows))
    table = evaluate("vp", ["hold_last"], {"dataset": str(tmp_path)})
    assert table.remarks == [
        "1 rows left out of 1 traces whose time goes backwards",
        "traces cut at 1 gaps above 1 s",
    ]
    assert "Input: traces cut at 1 gaps above 1 s." in render_table(table)
    assert table.rows[0].ci95 is None  # one video, one person


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ("remarks", "x", "remarks must be a valid array, got 'x'"),
        ("remarks", ["a\nb"], r"remarks\[0\] must be text of one line"),
    ],
)
def test_tables_with_other_remarks_are_refused(tmp_path, part, value, sentence):
    table = evaluate("vp", ["hold_last"], {"dataset": "synthetic-test"})
    content = json.loads(table.to_json())
    content[part] = value
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        read_table(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("by_step", "sentence"),
    [
        ([], r"rows\[0\].by_step must be a list of numbers, got"),
        (["x"], r"rows\[0\].by_step\[0\] must be a valid number"),
        ([1.0], "by_step must be as long in all rows"),
    ],
)
def test_tables_with_other_errors_by_step_are_refused(tmp_path, by_step, sentence):
    table = evaluate("vp", ["hold_last", "velocity"], {"dataset": "synthetic-test"})
    content = json.loads(table.to_json())
    content["rows"][0]["by_step"] = by_step
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        read_table(tmp_path / "t.json")


def test_a_predictor_that_saw_the_case_says_so():
    dataset = find_problem("vp").make_windows(dataset="synthetic-test").dataset
    parts = [replace(trace, angles_deg=trace.angles_deg[1:]) for trace in dataset.traces[:7]]
    seen = frozenset(ViewportSet("parts", "yxz", tuple(parts)).provenance()["recordings"])
    mine = LoadedPolicy("mine", HoldLast, True, "something", seen)
    other = LoadedPolicy("hold", lambda windows: Wrong(np.zeros((20, 3))))
    table = evaluate("vp", [mine, other], {"dataset": "synthetic-test"})
    assert table.rows[0].trained_on == "something (leaky: saw 7 of 60 traces)"


def test_a_part_of_a_trace_is_known_and_another_trace_is_not():
    dataset = find_problem("vp").make_windows(dataset="synthetic-test").dataset
    known = [trace.known_by for trace in dataset.traces]
    assert not any(one & other for one, other in combinations(known, 2))
    whole = dataset.traces[0]
    for rows in (slice(1, None), slice(0, -1), slice(0, 150), slice(100, 290)):
        part = replace(whole, angles_deg=whole.angles_deg[rows])
        assert part.sha256 != whole.sha256
        assert part.known_by & whole.known_by
    turned = np.where(whole.angles_deg == 180.0, -180.0, whole.angles_deg)
    assert replace(whole, angles_deg=turned).known_by & whole.known_by
    still = [replace(whole, angles_deg=np.zeros((n, 3), np.float32)) for n in (20, 21)]
    assert not still[0].known_by & still[1].known_by  # nobody is known by not moving


def test_episodes_are_no_part_of_a_case_of_windows():
    with pytest.raises(InputError, match="episodes must be left out for vp, got 5"):
        evaluate("vp", ["hold_last"], {}, episodes=5)
