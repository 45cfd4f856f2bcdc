"""A trace in the report: what is drawn of it, and on which axes."""

from dataclasses import replace

from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.report.abr import ABRPictures
from netllm_gym.report.text import case_text, table_notes
from tests.made_tables import abr_table


def test_both_sides_have_the_same_axes(tmp_path):
    pictures = ABRPictures()
    shown = pictures.view(pictures.play(abr_table(tmp_path), ["lowest", "random"], 1))
    axes = {tuple((chart.x, chart.y) for chart in side.charts) for side in shown.sides}
    assert len(axes) == 1
    assert [name for name, _ in shown.sides[0].facts][:2] == ["qoe", "bitrate, Mbit/s"]
    assert dict(shown.sides[0].facts)["switches"] == "0"  # it stays on the lowest rung
    assert shown.words.startswith("Episode 1, as asked: trace <i>t1 from row 1. ")


def test_an_episode_of_any_case_is_played_again_alike():
    case = {"qoe": "log", "first_rung": 2, "start_row": 4, "rtt_s": 0.2, "ladder_mbps": (0.5, 1, 3)}
    table = evaluate("abr", ["bba", "optimum"], {"traces": "synthetic-valid", **case})
    assert table.case["ladder_mbps"] == "0.5,1,3"
    note = table_notes(table)[0]
    assert "qoe in the measure log per chunk." in note
    assert "x first_rung 2 x start_row 4 x rtt_s 0.2 x ladder_mbps 0.5,1,3: 100" in note
    case = {"chunk_s": "2.0", "ladder_mbps": "0.5,1.0", "video": "v2.0"}
    assert case_text(replace(table, case=case)) == "chunk_s 2 x ladder_mbps 0.5,1 x v2.0"
    played = ABRPictures().play(table, ["bba", "optimum"], 3)
    assert not any(side.differs for side in played.sides)
    assert played.sides[0].record.playback.bitrate_mbps[0] == 3
