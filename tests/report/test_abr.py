"""A trace in the report: what is drawn of it, and on which axes."""

from netllm_gym.report.abr import ABRPictures
from tests.made_tables import abr_table


def test_both_sides_have_the_same_axes(tmp_path):
    pictures = ABRPictures()
    shown = pictures.view(pictures.play(abr_table(tmp_path), ["lowest", "random"], 1))
    axes = {tuple((chart.x, chart.y) for chart in side.charts) for side in shown.sides}
    assert len(axes) == 1
    assert [name for name, _ in shown.sides[0].facts][:2] == ["qoe", "bitrate, Mbit/s"]
    assert dict(shown.sides[0].facts)["switches"] == "0"  # it stays on the lowest rung
    assert shown.words.startswith("Episode 1, as asked: trace <i>t1 from row 1. ")
