"""Statistics worked out by hand, the command on the published splits, and the picture."""

import json
import sys

import numpy as np
import pytest

from netllm_gym.cli.main import run
from netllm_gym.data.abr.inspection import compare, longest_stall_s, mean_capacity_mbps, summarise
from netllm_gym.data.abr.traces import Trace


def test_statistics_are_weighted_by_time():
    # 10 s at 1, 30 s at 3 and 60 s at 2 Mbit/s: mean (10 + 90 + 120) / 100; row 0 holds never.
    # Sorted by capacity: 1 up to 10 %, 2 up to 70 %, 3 from there.
    trace = Trace("a", np.array([0.0, 10.0, 40.0, 100.0]), np.array([99.0, 1.0, 3.0, 2.0]))
    assert mean_capacity_mbps(trace) == pytest.approx(2.2)
    summary = summarise("one", [trace])
    assert summary.mean_mbps == pytest.approx((2.2, 0.0))
    assert summary.capacity_quantiles_mbps == (1.0, 2.0, 3.0, 3.0)
    assert summary.length_s == (100.0, 100.0, 100.0)
    assert summary.step_s == (30.0, 30.0, 30.0)
    assert summary.zero_s == 0.0


def test_the_longest_stall_spans_rows():
    # 0 on (0, 4], 1 on (4, 6], 0 on (6, 9] and on (9, 13]: 4 s, then 7 s.
    time_s = np.array([0.0, 4.0, 6.0, 9.0, 13.0])
    trace = Trace("a", time_s, np.array([5.0, 0.0, 1.0, 0.0, 0.0]))
    assert longest_stall_s(trace) == 7.0
    assert longest_stall_s(Trace("b", time_s, np.ones(5))) == 0.0
    assert summarise("a", [trace]).zero_s == 11.0


def test_outliers_of_each_kind():
    def link(name, mbps, length_s=100.0, zero_s=0.0):
        rows = [0.0, length_s - zero_s, length_s] if zero_s else [0.0, length_s]
        return Trace(name, np.array(rows), np.array([0.0, mbps, 0.0][: len(rows)]))

    plain = [link(f"plain{number}", 1.0) for number in range(5)]
    odd = [link("slow", 0.33), link("fast", 3.0), link("short", 1.0, 33.0)]
    odd += [link("long", 1.0, 300.0), link("stalled", 1.2, 100.0, 10.0)]
    outliers = summarise("made", plain + odd).outliers
    assert outliers == {name: [name] for name in ("slow", "fast", "short", "long", "stalled")}
    assert not any(summarise("made", plain).outliers.values())


def test_leakage_counts_each_trace_once():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1.0, 2.0, (2, 50))
    time_s = np.arange(50.0)
    traces = [Trace("a", time_s, a), Trace("cut", time_s[:30], a[:30]), Trace("b", time_s, b)]
    leak = compare("one", traces, "other", traces[:1])
    assert leak.counts == {"identical": 0, "contained": 2, "overlapping": 0, "same_name": 0}
    assert leak.related == {"a": ("contained", "a"), "cut": ("contained", "a")}


def test_the_command_finds_42_and_39_by_itself(capsys, shared_data, tmp_path):
    file, picture = tmp_path / "found.json", tmp_path / "sets.png"
    asked = ["data", "inspect", "fcc-test", "fcc-train", "--json", file, "--picture", picture]
    assert run([str(word) for word in asked]) == 0
    said = capsys.readouterr().out
    assert (
        "fcc-test against fcc-train, 100 traces: 42 byte-identical, 39 contained, 0 overlapping"
    ) in said
    assert (
        "1.368 +- 0.781" in said
    )  # computed by hand from the files: time-weighted mean and deviation
    found = json.loads(file.read_text())
    assert [each["num_traces"] for each in found["sets"]] == [100, 235]
    assert found["leaks"][0]["counts"]["contained"] == 39
    assert found["leaks"][0]["related"]["002_trace_939592_http---www.facebook.com_640"] == [
        "contained",
        "trace_939592_http---www.facebook.com",
    ]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(["data", "inspect", "fcc-test", "clean-train", "clean-valid"]) == 0
    said = capsys.readouterr().out
    assert said.count("0 byte-identical, 0 contained, 0 overlapping, 0 of a recording") == 3


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "traces"
    folder.mkdir()
    (folder / "a").write_text("0 1\n100 2\n200 1.5\n")
    return folder


def test_one_set_is_described_alone(capsys, folder, tmp_path):
    assert run(["data", "inspect", str(folder), "--picture", str(tmp_path / "a.svg")]) == 0
    said = capsys.readouterr().out
    assert "against" not in said
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{folder}", "{folder}"], "sets must be different"),
        (["{folder}/none"], "traces must be a folder or one of"),
        (["{folder}", "--json", "{folder}"], "json must be a file in an existing folder"),
        (["{folder}", "--picture", "p.gif"], "picture must be a .png, .svg, .pdf file"),
        (["{folder}", "--picture", "/no/such/p.png"], "picture must be a .png, .svg, .pdf file"),
    ],
)
def test_wrong_arguments(capsys, folder, arguments, sentence):
    assert run(["data", "inspect", *(each.format(folder=folder) for each in arguments)]) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""


def test_without_matplotlib_one_sentence(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    asked = ["data", "inspect", str(folder), "--picture", str(tmp_path / "p.png")]
    assert run(asked) == 2
    printed = capsys.readouterr()
    assert "pip install 'netllm-gym[report]'" in printed.err
    assert printed.out == ""


def test_the_list_says_where_and_what_can_be_fetched(capsys, folder, monkeypatch, tmp_path):
    sets = tmp_path / "home" / "abr" / "traces"
    sets.mkdir(parents=True)
    folder.rename(sets / "norway")
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path / "home"))
    assert run(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert f"data folder: {tmp_path}/home (NETLLM_GYM_DATA)" in said
    traces, _, rest = said.partition("videos (")  # head movements have sets of the same names
    lines = {
        line.split()[0]: line
        for part in (rest, traces)
        for line in part.splitlines()
        if line.startswith("  ")
    }
    assert "100 traces, generated" in lines["synthetic-test"]
    assert "485 files" in lines["fcc"]
    assert "not here" in lines["video1"]
    assert f"1 trace in {sets}/norway" in said
