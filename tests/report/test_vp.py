"""Viewport prediction in the report: paths on the plane, errors by horizon, the table's window."""

from dataclasses import replace

import numpy as np
import pytest

from netllm_gym.errors import InputError
from netllm_gym.report.html import play_episode, render_report
from netllm_gym.report.replay import Replay, Side, nameable_policies
from netllm_gym.report.vp import PredictedWindow, VPPictures
from tests.made_tables import vp_table

PICTURES = VPPictures()


@pytest.fixture(scope="module")
def table():
    return vp_table()


def made_replay():
    """The head turns right from 170 by 10 degrees a sample; one predictor knows, one holds."""
    history, truth = np.array([[160.0, 0.0], [170.0, 0.0]]), np.array([[180.0, 5.0], [190.0, 10.0]])
    knows = PredictedWindow(history, truth, truth, np.zeros(2))
    holds = PredictedWindow(history, truth, np.tile(history[-1], (2, 1)), np.array([5.0, 10.0]))
    sides = (Side("knows", "c0 d0", 0.0, None, knows), Side("holds", "c1 d0", 7.5, 7.5, holds))
    return Replay("vp", 3, "person 1 watching video 2, from 6.0 s on", "as asked", sides)


def test_the_made_window_drawn():
    shown = PICTURES.view(made_replay())
    assert shown.words.startswith("Window 3, as asked: person 1 watching video 2, from 6.0 s on. ")
    (paths,) = shown.charts
    assert (paths.x.low, paths.x.high, paths.y.low, paths.y.high) == (160.0, 190.0, 0.0, 10.0)
    drawn = {mark.style: paths.path(mark) for mark in paths.marks}
    assert drawn["past"] == "M0 1000H333.3"
    # From the last that was seen, 170, over 180 to 190: a third, two thirds, the whole axis.
    assert drawn["bound way"] == drawn["c0 d0 way"] == "M333.3 1000L666.7 500L1000 0"
    assert drawn["c1 d0 way"] == "M333.3 1000H333.3"
    assert [key.text for key in shown.chart_keys] == [
        "what was seen",
        "what came",
        "knows",
        "holds",
    ]
    knows, holds = shown.sides
    assert dict(holds.facts) == {
        "mae, degrees": "7.500",
        "after 1 s": "10.000",
        "at the end": "10.000",
    }
    (error,) = holds.charts
    # 0.2 and 0.4 of 0.4 s; errors of 5 and 10 of 10 degrees.
    assert [error.path(mark) for mark in error.marks] == ["M500 500L1000 0"]
    assert knows.charts[0].y == error.y


def test_the_predicted_window_is_the_tables(table):
    for number in (0, 17):
        for side in PICTURES.play(table, ["hold_last", "velocity"], number).sides:
            (row,) = (row for row in table.rows if row.policy == side.policy)
            assert side.in_table == row.per_episode[number]
            assert side.value == pytest.approx(side.in_table, abs=1e-9)
            assert not side.differs
    other = replace(table, rows=[replace(row, per_episode=[9.0] * row.n) for row in table.rows])
    page = render_report([other], [play_episode(other, ["hold_last"], 0)])
    assert "The table says 9.0000 of this window" in page


def test_paths_begin_where_the_history_ends_and_are_one_line(table):
    for number in range(0, table.rows[0].n, 90):
        for side in PICTURES.play(table, ["hold_last", "linear_regression"], number).sides:
            record = side.record
            way = np.concatenate([record.history, record.truth])
            assert np.abs(np.diff(way[:, 0])).max() <= 180.0
            if side.policy == "hold_last":
                np.testing.assert_allclose(record.predicted, np.tile(record.history[-1], (10, 1)))


def test_the_page_shows_the_error_by_horizon_and_speaks_of_windows(table):
    names = nameable_policies(table)
    assert names == ("hold_last", "velocity")
    page = render_report([table], [play_episode(table, names)])
    for words in (
        "Error by horizon",
        "seconds ahead",
        "Distribution over windows",
        "One window, predicted",
        "heading, degrees",
        "the one of median difference between the two, chosen by the table: person ",
    ):
        assert words in page
    without = replace(table, rows=[replace(row, by_step=None) for row in table.rows])
    assert "Error by horizon" not in render_report([without], [None])


@pytest.mark.parametrize(
    ("policies", "number", "case", "sentence"),
    [
        (["hold_last", "hold_last"], None, {}, "policies must have different names"),
        (["hold_last"], 10_000, {}, "episode must be in 0.."),
        (["hold_last"], 0, {"dataset": "none"}, "--play none leaves the played episode out"),
        (["hold_last"], 0, {"future": "many"}, "future must be a whole number, got 'many'"),
        (["hold_last"], 0, {"traces": "x"}, "case must have no traces to be played again, got 'x'"),
        (["hold_last"], 0, {"dataset": "synthetic"}, "on this machine"),
    ],
)
def test_what_cannot_be_predicted_again_is_refused(table, policies, number, case, sentence):
    other = replace(table, case={**table.case, **case})
    with pytest.raises(InputError, match=sentence):
        PICTURES.play(other, policies, number)
