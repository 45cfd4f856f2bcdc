"""Splits by recording: none in two parts, shares kept; lists are read back or refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.cli.main import run
from netllm_gym.data.abr.folders import read_trace_folder
from netllm_gym.data.abr.lists import read_trace_list
from netllm_gym.data.abr.recordings import relations
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.splits import split_by_recording
from netllm_gym.data.abr.traces import TraceSet, write_cooked_trace
from netllm_gym.errors import InputError

SHARES = (0.6, 0.2, 0.2)


@pytest.fixture
def folder(tmp_path):
    """Return 40 traces: 6 units cut into 4 pieces by name, 8 pairs that only contents relate."""
    rng, folder = np.random.default_rng(3), tmp_path / "traces"
    folder.mkdir()

    def write(name, capacity_mbps):
        write_cooked_trace(folder / name, np.arange(len(capacity_mbps)), capacity_mbps)

    for unit in range(6):
        for piece in range(4):
            write(f"trace_{unit}_http---www.x.com_{320 * piece}", rng.uniform(0.5, 4.0, 30))
    for pair in range(8):
        capacity_mbps = rng.uniform(0.5, 4.0, 90)
        write(f"whole-{pair}", capacity_mbps)
        write(f"cut-{pair}", capacity_mbps[20:60])
    return folder


def test_no_recording_is_in_two_parts(folder, tmp_path):
    traces = read_trace_folder(folder)
    cuts = {trace.name[-1]: trace.content for trace in traces.traces if trace.name[:3] == "cut"}
    for seed in range(5):
        out = tmp_path / str(seed)
        parts = split_by_recording(traces, SHARES, seed, out).parts
        read = {name: load_trace_set(out / f"{name}.json") for name in ("train", "valid", "test")}
        names = [trace.name for part in read.values() for trace in part.traces]
        assert sorted(names) == sorted(trace.name for trace in traces.traces)
        assert sum(part.num_recordings for part in parts.values()) == 14
        for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
            assert set(relations(read[one].traces, read[other].traces)) == {None}
        # what belongs together carries one recording wherever the list is read
        assert all(
            trace.recording == cuts[trace.name[-1]]
            for part in read.values()
            for trace in part.traces
            if trace.name.startswith("whole")
        )
        # 60, 20 and 20 % of 40; a group has 4 at most, and the last one may not fit
        for part, whole in zip(read.values(), (24, 8, 8), strict=True):
            assert abs(len(part.traces) - whole) <= 4


def test_seeds_give_equal_or_other_parts(folder, tmp_path):
    def bytes_of(name, seed):
        split_by_recording(read_trace_folder(folder), SHARES, seed, tmp_path / name / "s")
        return [(tmp_path / name / "s" / f"{part}.json").read_bytes() for part in ("train", "test")]

    assert bytes_of("a", 0) == bytes_of("b", 0)
    assert bytes_of("c", 1) != bytes_of("a2", 0)


def test_every_part_gets_a_recording(tmp_path):
    folder = tmp_path / "traces"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(20):  # one big recording and two small ones
        name = f"trace_{max(number - 17, 0)}_http---www.x.com_{number}"
        write_cooked_trace(folder / name, np.arange(30), rng.uniform(0.5, 4.0, 30))
    for seed in range(10):
        parts = split_by_recording(
            read_trace_folder(folder), (0.98, 0.01, 0.01), seed, tmp_path / f"out{seed}"
        ).parts
        assert [part.num_recordings for part in parts.values()] == [1, 1, 1]
    one = TraceSet("one", read_trace_folder(folder).traces[:2])
    with pytest.raises(InputError, match="must hold 3 or more recordings to be split by, got 1"):
        split_by_recording(one, SHARES, 0, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_list_names_a_set_or_a_folder_beside_it(folder, tmp_path, monkeypatch):
    asked = ["data", "split", str(folder), "--out", str(tmp_path / "out")]
    assert run(asked) == 0
    content = json.loads((tmp_path / "out" / "train.json").read_text())
    assert content["folder"] == "../traces"
    assert str(tmp_path) not in json.dumps(content)
    sets = tmp_path / "home" / "abr" / "traces"
    sets.mkdir(parents=True)
    folder.rename(sets / "mine")
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path / "home"))
    assert run(["data", "split", "mine", "--out", str(tmp_path / "out2"), "--shares", ".5,.5"]) == 0
    assert json.loads((tmp_path / "out2" / "test.json").read_text())["set"] == "mine"
    assert len(load_trace_set(str(tmp_path / "out2" / "test.json")).traces) >= 16


def test_parts_can_be_played_and_inspected(capsys, folder, tmp_path):
    out = tmp_path / "out"
    assert run(["data", "split", str(folder), "--out", str(out), "--shares", "0.5,0.25,0.25"]) == 0
    said = capsys.readouterr().out.splitlines()[:3]
    assert [line.split(":")[0] for line in said] == ["train", "valid", "test"]
    assert sum(int(line.split()[1]) for line in said) == 40
    lists = [str(out / f"{part}.json") for part in ("train", "valid", "test")]
    assert run(["data", "inspect", *lists]) == 0
    assert capsys.readouterr().out.count("0 byte-identical, 0 contained, 0 overlapping, 0 of") == 3
    assert run(["bench", "abr", "--policies", "bba", "--traces", lists[2]]) == 0
    altered = next(iter(read_trace_list(out / "test.json").sha256))
    (folder / altered).write_text("0 1\n1 1\n")
    assert run(["bench", "abr", "--policies", "bba", "--traces", lists[2]]) == 2
    assert f"{altered} must have SHA-256" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shares", "1"], "shares must be 2 (train, test) or 3 (train, valid, test) numbers"),
        (["--shares", "0.5,0.6"], "shares must be above 0 and sum to 1, got 0.5, 0.6"),
        (["--shares", "1.5,-0.5"], "shares must be above 0 and sum to 1"),
        (["--shares", "nan,1"], "shares must be above 0 and sum to 1"),
        (["--shares", "a,b"], "shares must be numbers separated by commas, got 'a,b'"),
        (["--by", "trace"], "by must be recording, got 'trace'"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
    ],
)
def test_wrong_arguments(capsys, folder, tmp_path, arguments, sentence):
    assert run(["data", "split", str(folder), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_generated_sets_and_used_folders_are_refused(capsys, folder, tmp_path):
    assert run(["data", "split", "synthetic", "--out", str(tmp_path / "out")]) == 2
    assert "traces to split must be files, got the set synthetic" in capsys.readouterr().err
    for name in ("bus", "tram"):
        (tmp_path / "all" / name).mkdir(parents=True)
        write_cooked_trace(tmp_path / "all" / name / "a", [0.0, 1.0], [1.0, 2.0])
    assert run(["data", "split", str(tmp_path / "all"), "--out", str(tmp_path / "out")]) == 2
    said = "must be files of one folder, got files of 2 folders in all; netllm-gym data convert"
    assert said in capsys.readouterr().err
    assert run(["data", "split", str(folder), "--out", str(folder)]) == 2
    assert "out must be a new or empty folder" in capsys.readouterr().err


def test_several_traces_of_one_file_are_refused(folder, tmp_path):
    traces = read_trace_folder(folder).traces
    with pytest.raises(InputError, match="must be one to a file, got several"):
        split_by_recording(TraceSet("x", (*traces, traces[3])), SHARES, 0, tmp_path / "out")


def test_the_published_training_set_splits_without_a_leak(shared_data, tmp_path):
    parts = split_by_recording(
        load_trace_set("fcc-train"), (0.7, 0.15, 0.15), 0, tmp_path / "s"
    ).parts
    assert sum(part.num_recordings for part in parts.values()) == 93
    sizes = [len(part.traces.sha256) for part in parts.values()]
    assert sum(sizes) == 235
    assert abs(sizes[0] - 0.7 * 235) <= 21  # the largest recording has 21 pieces
    sets = [load_trace_set(tmp_path / "s" / f"{part}.json").traces for part in parts]
    assert set(relations(sets[0], sets[1])) == set(relations(sets[1], sets[2])) == {None}


GOOD = {"name": "a", "folder": ".", "sha256": {"trace": "0" * 64}, "recordings": {}}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], r"the list of traces must be an object, got \[\]"),
        ({**GOOD, "name": 3}, "name must be a valid string, got 3"),
        ({**GOOD, "name": " "}, "name must be a name, got ' '"),
        ({**GOOD, "sha256": ["trace"]}, r"sha256 must be an object, got \['trace'\]"),
        ({**GOOD, "recordings": {"trace": 1}}, r"recordings\.trace must be a valid string, got 1"),
        ({**GOOD, "sha256": {"../trace": "0"}}, "must be the name of a file, got '../trace'"),
        ({**GOOD, "set": "fcc-test"}, r"must be one set or one folder, got \['fcc-test', '\.'\]"),
        ({**GOOD, "folder": 3}, "folder must be a valid string, got 3"),
        ({**GOOD, "sha256": {}}, "trace set a must hold a trace, got none"),
        (GOOD, "trace must be on this machine, got no such file"),
    ],
)
def test_a_wrong_list_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "list.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=sentence):
        load_trace_set(tmp_path / "list.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*GOOD, "set", "trace", "x/y", "\0"]), inner, max_size=5)
    ),
    max_leaves=12,
)
NEARLY = st.dictionaries(st.sampled_from([*GOOD, "set"]), JSON, max_size=2).map(
    lambda wrong: {**GOOD, **wrong}
)
LISTS = (JSON | NEARLY).map(json.dumps).map(str.encode) | st.binary(max_size=40)


def any_list_is_read_or_refused(tmp_path, data):
    (tmp_path / "list.json").write_bytes(data)
    try:
        load_trace_set(tmp_path / "list.json")
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


@settings(max_examples=50)
@given(data=LISTS)
def test_any_list_is_read_or_refused(tmp_path, data):
    any_list_is_read_or_refused(tmp_path, data)


@pytest.mark.slow
@settings(max_examples=2000)
@given(data=LISTS)
def test_any_of_2000_lists_is_read_or_refused(tmp_path, data):
    any_list_is_read_or_refused(tmp_path, data)


def test_lists_of_other_formats_are_played_and_unknown_recordings_are_said(capsys, tmp_path):
    folder = tmp_path / "traces"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.csv").write_text(f"time_s,capacity_mbps\n0,1\n1,{number + 1}\n2,3\n")
    assert (
        run(["data", "split", str(folder), "--shares", ".5,.5", "--out", str(tmp_path / "s")]) == 0
    )
    said = capsys.readouterr().out
    assert "recording unknown for 4 of 4 traces, which are too short or too steady" in said
    assert run(["data", "inspect", str(folder)]) == 0
    assert f"{folder}: recording unknown for 4 of 4 traces" in capsys.readouterr().out
    assert len(load_trace_set(tmp_path / "s" / "train.json").traces) == 2
