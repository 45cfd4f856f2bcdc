"""A cluster in the report: its jobs' times and its executors, against the made episode."""

from dataclasses import replace

import numpy as np
import pytest

from netllm_gym.envs.cjs.playback import Playback
from netllm_gym.report.cjs import CJSPictures
from netllm_gym.report.html import render_report
from netllm_gym.report.replay import Replay, Side
from tests.envs.cjs.test_playback import played as made_playback
from tests.made_tables import cjs_table
from tests.report.test_html import Page

PICTURES = CJSPictures()


@pytest.fixture(scope="module")
def table():
    return cjs_table()


def made_replay(*records):
    sides = [
        Side(f"p{i}", f"c{i} d0", each.jct_s.mean(), None, each) for i, each in enumerate(records)
    ]
    return Replay("cjs", 0, "recording made", "as asked", tuple(sides))


def paths(charts):
    return [chart.path(mark) for chart in charts for mark in chart.marks]


def test_the_made_episode_drawn():
    shown = PICTURES.view(made_replay(made_playback()))
    (side,) = shown.sides
    # Jobs took 7 and 5 s; in 10 s two executors worked 2 + 2 + 2 + 1 + 1 + 1 + 1 + 1 = 11 s of 20.
    assert dict(side.facts) == {
        "mean job completion time, s": "6.00",
        "median, s": "6.00",
        "longest, s": "7.00",
        "last completion, s": "10.0",
        "executors in use": "55.0 %",
    }
    (distribution,) = shown.charts
    assert (distribution.x.low, distribution.x.high) == (0.0, 8.0)
    # Half of the jobs at 5 of 8 s, all at 7.
    assert paths([distribution]) == ["M0 1000H625V500H875V0H1000"]
    executors, jobs = side.charts
    # Of 0 to 2 jobs: one until 5 s, two until 7, one until 10.
    assert paths([jobs]) == ["M0 500H500V0H700V500H1000"]
    # Nothing until 2 s, two executors until 5, one until 10; the first piece that is not 0 begins
    # at 48 of 240 pieces.
    assert paths([executors])[0].startswith("M0 1000H4.2H8.3")
    assert "H200V0H204.2H208.3" in paths([executors])[0]
    assert "H500V500H504.2" in paths([executors])[0]
    assert paths([executors])[0].endswith("H995.8H1000V1000H0Z")
    assert (executors.y.low, executors.y.high) == (0.0, 2.0)


def test_all_policies_share_their_axes_and_end_where_they_ended():
    early = made_playback()
    late = replace(
        early,
        now_s=20.0,
        completion_s=early.completion_s + 10.0,
        begin_s=early.begin_s + 10.0,
        end_s=early.end_s + 10.0,
    )
    shown = PICTURES.view(made_replay(early, late))
    first, second = (side.charts for side in shown.sides)
    assert [(chart.x, chart.y) for chart in first] == [(chart.x, chart.y) for chart in second]
    assert paths([first[1]])[0].endswith("H500")
    assert paths([second[1]])[0].endswith("H1000")
    assert [mark.style for mark in shown.charts[0].marks] == ["c0 d0", "c1 d0"]
    assert [key.text for key in shown.chart_keys] == ["p0", "p1"]


def test_jobs_beyond_the_axis_are_counted():
    made = made_playback()
    times_s = np.append(np.linspace(5.0, 9.0, 30), 500.0)
    long = replace(made, arrival_s=np.zeros(31), completion_s=times_s)
    shown = PICTURES.view(made_replay(long, made))
    assert shown.charts[0].x.high < 100.0
    assert shown.words.endswith(" Jobs that took longer than the axis: 1 of p0.")


def test_the_page_shows_the_tables_episode(table):
    replay = PICTURES.play(table, ["srpt", "fair"])
    assert isinstance(replay.sides[0].record, Playback)
    page = render_report([table], [replay])
    words = " ".join(" ".join(Page(page).words).split())
    for row in table.rows:
        assert f"{row.mean:.4f}" in words
    assert "synthetic x 8 executors x 12 jobs" in words
    assert "One episode, played through" in words
    assert f"workload synthetic, arrival seed {[666, 1, 2, 3, 4, 5, 6][replay.number]}." in words
    assert "makespan , s, mean of an episode" in words
    assert "The table says" not in words
    assert page == render_report([table], [PICTURES.play(table, ["srpt", "fair"])])
    for side in replay.sides:
        assert side.record.jct_s.mean() == pytest.approx(side.value, rel=1e-12)
        busy = side.record.busy().averaged([0.0, side.record.now_s]).value[0] / 8
        assert 0.0 < busy < 1.0


def test_a_recording_is_named():
    assert PICTURES.view(made_replay(made_playback())).words.startswith(
        "Episode 0, as asked: recording made. "
    )
