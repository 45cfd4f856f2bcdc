"""Folders, single files and lists of traces: what is read, what is passed over, what is refused."""

import gzip
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.cli.main import run
from netllm_gym.data import opening
from netllm_gym.data.abr.folders import convert_traces, read_trace_folder
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.source import Reading
from netllm_gym.errors import InputError
from netllm_gym.evaluation.evaluate import evaluate

COOKED = "0 1\n1 2\n2 3\n"
ASSUMED = "files that name no units, read in s and Mbit/s"


@pytest.fixture
def folder(tmp_path):
    """Return a folder as other people have them."""
    (tmp_path / "set/bus/old").mkdir(parents=True)
    (tmp_path / "set/.git").mkdir()
    for name in ("a", "bus/a", "bus/old/b", ".hidden", ".git/config"):
        (tmp_path / "set" / name).write_text(COOKED)
    (tmp_path / "set/README.md").write_text("Traces, of 2021\n")
    (tmp_path / "set/ptrs.pkl").write_bytes(b"\x80\x04\x95\x06\x00]\x94K\x00a.")
    (tmp_path / "set/empty").write_text("")
    (tmp_path / "set/sizes.json").write_text('{"a": 3}\n')
    os.mkfifo(tmp_path / "set/pipe")
    (tmp_path / "set/loop").symlink_to(tmp_path / "set")
    return tmp_path / "set"


def test_what_is_a_trace_is_read_and_the_rest_is_named(folder):
    traces = load_trace_set(folder)
    assert [trace.name for trace in traces.traces] == ["a", "bus-a", "bus-old-b"]
    assert traces.remarks == (
        "files passed over because they are no traces: 8 (README.md, empty, ptrs.pkl, ...)",
        f"{ASSUMED}: 3 (a, bus/a, bus/old/b)",
    )


def test_bench_inspect_and_convert_say_what_was_passed_over(capsys, folder, tmp_path):
    out = tmp_path / "out"
    for command in (
        ["bench", "abr", "--policies", "lowest", "--traces", str(folder)],
        ["data", "inspect", str(folder), "--json", str(tmp_path / "said.json")],
        ["data", "convert", str(folder), "--out", str(out)],
    ):
        assert run(command) == 0
        said = capsys.readouterr().out
        assert "files passed over because they are no traces: 8 (README.md, empty, ptrs.pkl" in said
        assert ASSUMED in said
    assert (
        "passed over" in json.loads((tmp_path / "said.json").read_text())["sets"][0]["remarks"][0]
    )
    assert sorted(path.name for path in out.iterdir()) == ["a", "bus-a", "bus-old-b"]


def test_sizes_of_a_video_beside_traces_are_no_times_of_packets(tmp_path):
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "a").write_text("0 1\n1 2\n")
    (tmp_path / "video1").mkdir()
    (tmp_path / "video1" / "video_size_0").write_text("1000\n2000\n")
    traces = load_trace_set(tmp_path)
    assert [trace.name for trace in traces.traces] == ["traces-a"]
    assert "passed over because they are no traces: 1 (video1/video_size_0)" in str(traces.remarks)
    with pytest.raises(InputError, match=r"must hold a trace file, got .*video1 with video_size_0"):
        load_trace_set(tmp_path / "video1")


def test_a_recording_is_found_in_a_folder_within(tmp_path):
    (tmp_path / "fcc").mkdir()
    (tmp_path / "fcc/trace_7_http---a.com_640").write_text(COOKED)
    (trace,) = load_trace_set(tmp_path).traces
    assert (trace.name, trace.recording) == ("fcc-trace_7_http---a.com_640", "7_http---a.com")


def test_a_file_that_breaks_later_is_refused_and_so_is_a_folder_without_traces(tmp_path):
    (tmp_path / "a").write_text(COOKED)
    (tmp_path / "b").write_text("0 1\n1 2\n2 x\n")
    with pytest.raises(InputError, match="b:3: a line must be two numbers"):
        load_trace_set(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_text("what is this\n")
    with pytest.raises(InputError, match="a:1: a trace must begin with"):
        load_trace_set(tmp_path)


def test_a_file_is_a_set_of_its_traces(capsys, tmp_path):
    text = "run_num,seq_num,Throughput\n1,1,5\n2,1,5\n"
    for name, data in (
        ("one", COOKED),
        ("two.json", ' [ {"duration_ms":9,"bandwidth_kbps":8000}]'),
    ):
        (tmp_path / name).write_text(data)
        traces = load_trace_set(str(tmp_path / name))
        assert (traces.name, len(traces.traces)) == (name, 1)
    (tmp_path / "runs.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert len(load_trace_set(tmp_path / "runs.csv.gz").traces) == 2
    assert run(["bench", "abr", "--policies", "lowest", "--traces", str(tmp_path / "one")]) == 0
    assert f"Input: {ASSUMED}: 1 (one)." in capsys.readouterr().out


def test_lists_of_a_split_play_in_every_format(capsys, tmp_path):
    (tmp_path / "set").mkdir()
    for name, text in {
        "a.csv": "time_s,capacity_mbps\n0,1\n1,4\n2,3\n",
        "b": "5\n400\n900\n",
        "c.json": '[{"duration_ms": 500, "bandwidth_kbps": 900}]',
        "d": "1 5 9 9 900 100\n1 6 9 9 700 100\n",
    }.items():
        (tmp_path / "set" / name).write_text(text)
    whole = {trace.name: trace.content for trace in load_trace_set(tmp_path / "set").traces}
    split = ["data", "split", str(tmp_path / "set"), "--shares", "0.5,0.5"]
    assert run([*split, "--out", str(tmp_path / "s")]) == 0
    found = {}
    for part in ("train", "test"):
        path = str(tmp_path / "s" / f"{part}.json")
        found |= {trace.name: trace.content for trace in load_trace_set(path).traces}
        assert run(["bench", "abr", "--policies", "lowest", "--traces", path]) == 0
    assert found == whole


# Units -------------------------------------------------------------------------------------------


def oboe(scale_time, scale_rate, start=0.0):
    """Return a link of about 3 Mbit/s, a row each 0.3 s, in any units."""
    rows = [(start + 0.3 * n) * scale_time for n in range(20)]
    return "".join(f"{t:.15g} {(3 + n % 3) * scale_rate:.15g}\n" for n, t in enumerate(rows))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            oboe(1e3, 1),
            r"log: times must be .* got 300 s and 5,700 s: ms instead of s would fit\. ",
        ),
        (oboe(1e6, 1), "us instead of s would fit"),
        (oboe(1e9, 1), "ns instead of s would fit"),
        (oboe(1e3, 1, start=1.6e9), "ms instead of s would fit"),
        (oboe(1e6, 1, start=1.6e9), "us instead of s would fit"),
        (oboe(1, 1e3), r"rates .* got 4,000 Mbit/s: kbit/s \(4 Mbit/s\).* instead of Mbit/s"),
        (oboe(1, 1e6), r"got 4,000,000 Mbit/s: bit/s \(4 Mbit/s\)"),
        (oboe(1, 1e-3), r"got 0.004 Mbit/s: Gbit/s \(4 Mbit/s\) instead of Mbit/s would fit"),
        (oboe(1, 1.25e5), r"byte/s \(4 Mbit/s\)"),
        (oboe(1e3, 1e3), r"ms instead of s would fit; rates must .* kbit/s \(4 Mbit/s\)"),
        ("time,bandwidth\n" + oboe(1e3, 1).replace(" ", ","), "ms instead of s would fit"),
        ("time,bandwidth_mbps\n" + oboe(1e3, 1).replace(" ", ","), "ms instead of s would fit"),
        ("time_s,bandwidth\n" + oboe(1, 1e3).replace(" ", ","), r"kbit/s \(4 Mbit/s\)"),
        ("0 1\n1e14 1\n", "times must be"),
    ],
)
def test_what_no_link_has_is_refused_with_the_unit_that_fits(tmp_path, text, sentence):
    (tmp_path / "log").write_text(text)
    with pytest.raises(InputError, match=sentence):
        load_trace_set(tmp_path)


@pytest.mark.parametrize(
    ("scales", "units"),
    [
        ((1e3, 1e3), {"time_unit": "ms", "rate_unit": "kbit/s"}),
        ((1e9, 0.125), {"time_unit": "ns", "rate_unit": "Mbyte/s"}),
        ((1, 1e6), {"rate_unit": "bit/s"}),
    ],
)
def test_units_are_given_by_option_description_or_argument(capsys, tmp_path, scales, units):
    source = tmp_path / "source"
    source.mkdir()
    (source / "log").write_text(oboe(*scales))
    traces = load_trace_set(source, Reading(**units))
    np.testing.assert_allclose(traces.traces[0].time_s, 0.3 * np.arange(20))
    np.testing.assert_allclose(traces.traces[0].capacity_mbps[:4], [3, 4, 5, 3])
    options = [
        each for name, unit in units.items() for each in (f"--{name.replace('_', '-')}", unit)
    ]
    assert run(["data", "inspect", str(source), *options]) == 0
    assert "4.000 +- 0.000" in capsys.readouterr().out
    assert run(["data", "convert", str(source), "--out", str(tmp_path / "out"), *options]) == 0
    (source / "trace-set.json").write_text(json.dumps(units))
    for place in (source, tmp_path / "out"):
        table = evaluate("abr", ["lowest"], {"traces": str(place)})
        (trace,) = load_trace_set(place).traces
        assert trace.content == traces.traces[0].content
    assert table.rows[0].mean == pytest.approx(0.3, abs=0.1)


def test_a_folder_within_has_its_own_units_or_those_above(tmp_path):
    for place, factor in ((".", 1e3), ("a", 1e3), ("b/c", 1e6)):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "log").write_text(oboe(factor, 1))
    (tmp_path / "trace-set.json").write_text('{"time_unit": "ms"}')
    (tmp_path / "b/trace-set.json").write_text('{"time_unit": "us"}')
    traces = load_trace_set(tmp_path).traces
    assert [trace.name for trace in traces] == ["a-log", "b-c-log", "log"]
    for trace in traces:
        np.testing.assert_allclose(trace.time_s, 0.3 * np.arange(20))


def test_remarks_are_one_line_whatever_files_are_called(tmp_path):
    for name in ("a", "new\nline", "\x1b[31mred"):
        (tmp_path / name).write_text(COOKED if name == "a" else "")
    assert all(remark.isprintable() for remark in load_trace_set(tmp_path).remarks)


def test_a_unit_that_is_named_is_not_doubted(tmp_path):
    (tmp_path / "log").write_text(oboe(1e3, 1e3))
    (trace,) = load_trace_set(tmp_path, Reading(time_unit="s", rate_unit="Mbit/s")).traces
    assert trace.time_s[1] == 300
    # What is written of it is read back too, although nobody asked for units there.
    said = convert_traces(tmp_path, tmp_path / "out", Reading(time_unit="s", rate_unit="Mbit/s"))
    assert said.remarks[-1].startswith("trace-set.json says that they are in s and Mbit/s")
    assert load_trace_set(tmp_path / "out").traces[0].content == trace.content


def test_constant_links_and_fast_links_are_read(tmp_path):
    (tmp_path / "constant").write_text("0 3\n1000 3\n2000 3\n3000 3\n4000 3\n")
    (tmp_path / "fast").write_text(oboe(1, 100))
    assert load_trace_set(tmp_path).remarks == (
        f"{ASSUMED}: 2 (constant, fast)",
        "files that name no units, with a mean that is rather kbit/s than Mbit/s: 1 (fast)",
    )


def test_a_description_names_columns_and_a_reading_replaces_it(tmp_path):
    (tmp_path / "log").write_text("when;link speed\n0;1000\n1;2000\n2;3000\n")
    (tmp_path / "trace-set.json").write_text(
        '{"columns": {"time": "when", "rate": "link speed"}, "time_unit": "s", '
        '"rate_unit": "kbit/s"}'
    )
    [trace] = load_trace_set(tmp_path).traces
    np.testing.assert_array_equal(trace.capacity_mbps, [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="must be a header that names one time and one rate"):
        load_trace_set(tmp_path, Reading(rate_unit="kbit/s"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"rate_unit": "kbps"}', r"trace-set\.json: rate_unit must be one of Mbit/s"),
        (
            '{"rates": "kbit/s"}',
            r"trace-set\.json: the description must have no unknown field, got 'rates'; "
            "it may have format, time_unit, rate_unit, columns",
        ),
        ('{"columns": {"time": "a"}}', r"trace-set\.json: columns must name time, and rate or"),
        ("[", r"trace-set\.json must be JSON"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path, content, sentence):
    (tmp_path / "log").write_text(COOKED)
    (tmp_path / "trace-set.json").write_text(content)
    with pytest.raises(InputError, match=sentence):
        load_trace_set(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--columns", "time"], "columns must be as time=NAME,rate=NAME, got 'time'"),
        (["--columns", "time=a,time=b"], "columns must be as time=NAME,rate=NAME"),
        (["--columns", "time=a,speed=b"], "columns must name time, and rate or bytes"),
        (["--columns", "time=a,rate=b"], "one column 'a', as columns says"),
        (["--time-unit", "min"], "time_unit must be one of s, ms, us, ns, got 'min'"),
        (
            ["--format", "mahimahi", "--time-unit", "ms"],
            "time_unit must be left out where the file",
        ),
    ],
)
def test_wrong_options(capsys, tmp_path, arguments, sentence):
    (tmp_path / "log").write_text(COOKED)
    assert run(["data", "inspect", str(tmp_path), *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_units_of_a_generated_set_are_refused(capsys):
    assert run(["data", "inspect", "synthetic", "--time-unit", "ms"]) == 2
    assert "must come with a file or folder, got synthetic" in capsys.readouterr().err


# What is no file, or has no end ------------------------------------------------------------------


def test_pipes_and_devices_are_refused(capsys, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, command in (
        *(
            (name, ["data", "convert", name, "--out", str(tmp_path / "o")])
            for name in ("pipe", "zero")
        ),
        *((name, ["data", "inspect", name]) for name in ("pipe", "zero")),
        *((name, ["bench", "abr", "--traces", name]) for name in ("pipe", "zero")),
    ):
        asked = [str(tmp_path / each) if each == name else each for each in command]
        assert run(asked) == 2
        assert (
            f"{tmp_path / name} must be a file, got a pipe or a device" in capsys.readouterr().err
        )
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "log").write_text(COOKED)
    (folder / "trace-set.json").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"trace-set\.json must be a file, got a pipe or a device"):
        load_trace_set(folder)


def test_every_file_has_a_bound(tmp_path, monkeypatch):
    path = tmp_path / "log"
    for data, sentence in (
        (b"\0" * 1000, "log:1: a line must have at most 99 characters, got more"),
        (gzip.compress(b"\0" * 10_000), "log:1: a line must have at most 99 characters"),
        (gzip.compress(b"0 1\n" * 1000), "log must have at most 500 lines and 2,000 characters"),
        (b"5\n" * 600, "log must have at most 500 lines"),
        (gzip.compress(COOKED.encode())[:-9], "log must be packed by gzip, got Compressed file"),
        (gzip.compress(COOKED.encode())[:-5] + b"12345", "log must be packed by gzip, got CRC"),
        (b"\x1f\x8b" + b"7" * 30, "log must be packed by gzip, got Unknown compression method"),
    ):
        path.write_bytes(data)
        with monkeypatch.context() as patch:
            patch.setattr(opening, "LONGEST_LINE", 99)
            patch.setattr(opening, "MOST_LINES", 500)
            patch.setattr(opening, "MOST_BYTES", 2000)
            with pytest.raises(InputError, match=sentence):
                load_trace_set(path)
    os.truncate(path, 2**33)  # a file with a hole takes no room
    with pytest.raises(InputError, match="log must have at most 4294967296 bytes, got 8589934592"):
        load_trace_set(path)


def test_lists_lead_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path / "data"))
    (tmp_path / "data/abr/traces/mine").mkdir(parents=True)
    for wrong in ({"set": "/etc"}, {"set": "../.."}, {"set": ".."}, {"set": "mine/.."}):
        (tmp_path / "list.json").write_text(
            json.dumps({"name": "a", "sha256": {"passwd": "0" * 64}, "recordings": {}, **wrong})
        )
        with pytest.raises(InputError, match="set must be the name of a set, got"):
            load_trace_set(tmp_path / "list.json")
    for wrong, sentence in (
        ({"folder": "/etc"}, "folder must be a relative path, got '/etc'"),
        ({"set": "mine", "sha256": {"..": ""}}, "must be the name of a file, got '..'"),
    ):
        (tmp_path / "list.json").write_text(
            json.dumps({"name": "a", "sha256": {"passwd": "0" * 64}, "recordings": {}, **wrong})
        )
        with pytest.raises(InputError, match=sentence):
            load_trace_set(tmp_path / "list.json")


NAMES = st.sampled_from(["a", "b.csv", "c.gz", ".d", "trace-set.json", "sub/a", "sub/README"])
TEXTS = st.sampled_from([COOKED, "5\n900\n", "time,rate\n0,1\n2,1\n", '{"time_unit": "ms"}', ""])
FOLDERS = st.dictionaries(NAMES, TEXTS | st.binary(max_size=20), max_size=5)


@pytest.mark.parametrize("examples", [40, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_folder_is_read_or_refused(tmp_path_factory, examples):
    @settings(max_examples=examples)
    @given(files=FOLDERS)
    def check(files):
        folder = tmp_path_factory.mktemp("set")
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        try:
            traces = read_trace_folder(folder)
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert str(folder) in str(error)  # noqa: PT017
        else:
            assert traces.traces

    check()
