"""Readers of traces and videos: what they read they give back, and the rest they refuse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.synthetic import FAMILIES, FCCLike, MarkovLevels, UniformHold
from netllm_gym.data.abr.traces import Trace, read_cooked_trace, recording_of, write_cooked_trace
from netllm_gym.data.datasets import clean_split
from netllm_gym.errors import InputError, MissingDataError

GOOD = "0 1.5\n1.5 2.25\n3 0\n"


def write(tmp_path, text, name="trace"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_cooked_trace_is_read_and_shifted_to_zero(tmp_path):
    trace = read_cooked_trace(write(tmp_path, "10 9\n\n11.5 2.25\n13 0\n"))
    np.testing.assert_array_equal(trace.time_s, [0, 1.5, 3])
    np.testing.assert_array_equal(trace.capacity_mbps, [9, 2.25, 0])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "must hold a trace, got no line"),
        ("0 1\n", "a trace must have 2 or more rows, got 1"),
        ("0 1\n1 fast\n", r"trace:2: a line must be two numbers, time and rate, got '1 fast'"),
        ("0 1\n1 2 3\n", r"trace:2: a line must be two numbers"),
        (
            "0 1\n\n2 1\n1 1\n",
            r"trace:4: a line must be at or after the time of .* before, got '1 1'",
        ),
        ("0 1\n1 -2\n", "trace:2: a line must be a finite time and a finite rate of at least 0"),
        ("0 5\n1 0\n2 0\n", "must be above 0 in some row after the first, got none"),
        ("0 1\n1 1e-300\n", "capacity_mbps .* must carry 0.001 to 1e.15 MB in one pass, got"),
        ("-1e308 1\n1e308 1\n", "capacity_mbps .* must carry .* in one pass, got"),
        ("0 1\n1 nan\n", "trace:2: a line must be .* of at least 0, got '1 nan'"),
        ("0 1\ninf 1\n", "trace:2: a line must be a finite time"),
        (b"0 1\n\xff\xfe 1\n", "trace:2: a line must be UTF-8 text, got the byte 0xff"),
    ],
)
def test_broken_traces_are_refused_with_file_and_row(tmp_path, text, sentence):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=sentence) as refusal:
        read_cooked_trace(path)
    assert str(path) in str(refusal.value)


@settings(max_examples=300)
@given(
    st.binary(max_size=60)
    | st.text(alphabet="0123456789. \n\t-+enaif", max_size=60).map(str.encode)
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("traces") / "trace"
    path.write_bytes(data)
    try:
        trace = read_cooked_trace(path)
    except InputError as refusal:
        trace, said = None, str(refusal)
    if trace is None:
        assert "\n" not in said
    else:
        assert trace.time_s[0] == 0
        assert trace.capacity_mbps[1:].max() > 0


@settings(max_examples=100)
@given(
    steps=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20),
    rates=st.lists(st.floats(10.0, 1e4), min_size=21, max_size=21),
)
def test_what_is_written_is_read_back(tmp_path_factory, steps, rates):
    path = tmp_path_factory.mktemp("traces") / "trace"
    time_s = np.concatenate([[0.0], np.cumsum(steps)])
    write_cooked_trace(path, time_s, rates[: len(time_s)])
    trace = read_cooked_trace(path)
    np.testing.assert_array_equal(trace.time_s, time_s)
    np.testing.assert_array_equal(trace.capacity_mbps, rates[: len(time_s)])


def test_folders_are_read_by_sorted_name_without_hidden_files(tmp_path):
    for name in ("b", "a", ".hidden"):
        write(tmp_path, GOOD, name)
    assert [trace.name for trace in load_trace_set(tmp_path).traces] == ["a", "b"]


def test_missing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="traces must be a folder or one of the sets"):
        load_trace_set(str(tmp_path / "none"))
    with pytest.raises(InputError, match="got the empty folder"):
        load_trace_set(tmp_path)


def test_an_unknown_set_is_refused_with_the_nearest_names_and_the_command_that_lists_all():
    with pytest.raises(InputError) as refused:
        load_trace_set("synthetic-tset")
    said = str(refused.value)
    assert "`netllm-gym data list` shows, got 'synthetic-tset'; did you mean synthetic-test" in said
    assert len(said) < 200


def test_recordings_are_unit_and_site():
    names = {
        "000_trace_942154_http---www.ebay.com_0": "942154_http---www.ebay.com",
        "001_test_fcc_trace_215364_http---www.ebay.com_600_0": "215364_http---www.ebay.com",
        "trace_939562_http---www.google.com-mobile-": "939562_http---www.google.com-mobile-",
        "tram.ljabru-jernbanetorget-report.2011-01-31_1045CET.log": (
            "tram.ljabru-jernbanetorget-report.2011-01-31_1045CET.log"
        ),
    }
    assert {name: recording_of(name) for name in names} == names


def test_a_copy_is_known_under_any_name_and_another_is_not():
    time_s, fast = np.arange(5.0), np.full(5, 3.0)
    one, copy = Trace("one", time_s, fast), Trace("copy", time_s + 7.0, fast)
    other = Trace("one", time_s, np.full(5, 3.1))
    assert one.recording == one.content == copy.recording
    assert other.recording != one.recording
    cut = Trace("trace_7_http---a.com_640", time_s, fast)
    assert (cut.recording, cut.content) == ("7_http---a.com", one.content)


def test_a_link_that_carries_next_to_nothing_is_refused():
    # 4 s of 0.001 Mbit/s are 500 bytes; 0.002 Mbit/s are 1,000.
    with pytest.raises(InputError, match=r"must carry 0.001 to 1e\+15 MB in one pass, got 0.0005"):
        Trace("dead", np.arange(5.0), np.full(5, 0.001))
    Trace("slow", np.arange(5.0), np.full(5, 0.002))


def test_clean_lists_share_no_recording():
    train, valid = (
        {recording_of(file) for file in clean_split()[name].sha256}
        for name in ("clean-train", "clean-valid")
    )
    assert (len(train), len(valid)) == (45, 12)
    assert not train & valid


def test_clean_lists_come_by_kind_of_link():
    lists = clean_split()
    counts = {name: len(lists[name].sha256) for name in sorted(lists)}
    assert counts == {
        "clean-fcc": 46,
        "clean-norway": 39,
        "clean-train": 60,
        "clean-train-fcc": 29,
        "clean-train-norway": 31,
        "clean-valid": 25,
        "clean-valid-fcc": 17,
        "clean-valid-norway": 8,
    }
    for name in ("clean-train", "clean-valid"):
        fcc, norway = lists[f"{name}-fcc"].sha256, lists[f"{name}-norway"].sha256
        assert fcc | norway == lists[name].sha256
        assert all("trace_" in file for file in fcc)
        assert all("-report.20" in file for file in norway)


def test_published_sets(shared_data):
    test = load_trace_set("fcc-test")
    assert (len(test.traces), test.start_pointers[0]) == (100, 28)
    assert len({trace.recording for trace in test.traces}) == 45
    train, valid = load_trace_set("clean-train"), load_trace_set("clean-valid")
    assert (len(train.traces), len(valid.traces)) == (60, 25)
    played = {trace.recording for trace in test.traces}
    assert not played & {trace.recording for trace in (*train.traces, *valid.traces)}


def test_altered_file_of_the_clean_list_is_refused(shared_data, tmp_path, monkeypatch):
    folder = tmp_path / "abr/traces/fcc-train"
    folder.mkdir(parents=True)
    for file in clean_split()["clean-valid"].sha256:
        (folder / file).write_bytes((shared_data / "abr/traces/fcc-train" / file).read_bytes())
    (folder / file).write_text(GOOD)
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    with pytest.raises(InputError, match=f"{file} must have SHA-256"):
        load_trace_set("clean-valid")


def test_set_without_its_data_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    with pytest.raises(MissingDataError, match="NETLLM_GYM_DATA"):
        load_trace_set("clean-train")


@pytest.mark.parametrize("family", FAMILIES)
def test_generated_sets_are_equal_each_time_and_differ_by_part(family):
    first, again, test = (load_trace_set(name) for name in (family, family, f"{family}-test"))
    for one, other in zip(first.traces, again.traces, strict=True):
        np.testing.assert_array_equal(one.capacity_mbps, other.capacity_mbps)
    assert first.traces[0].capacity_mbps[1] != test.traces[0].capacity_mbps[1]


def test_fcc_like_traces_have_the_published_statistics():
    # Statistics of NetLLM's fcc-test and fcc-valid traces: time-weighted mean 1.32 to 1.37 with
    # a deviation of 0.72 to 0.78 Mbit/s, all samples 5 / 50 / 95 % 0.46 / 1.00 / 3.6.
    rng = np.random.default_rng(0)
    drawn = [FCCLike().generate(rng).capacity_mbps[1:] for _ in range(2000)]
    means = np.array([capacity.mean() for capacity in drawn])
    assert means.mean() == pytest.approx(1.35, abs=0.1)
    assert means.std() == pytest.approx(0.75, abs=0.08)
    samples = np.quantile(np.concatenate(drawn), [0.05, 0.5, 0.95])
    np.testing.assert_allclose(samples, [0.456, 0.998, 3.6], rtol=0.25)


def test_uniform_hold_keeps_its_range_and_holds():
    trace = UniformHold(0.5, 2.0, max_hold=4).generate(np.random.default_rng(1))
    assert 0.5 <= trace.capacity_mbps.min() <= trace.capacity_mbps.max() <= 2.0
    changes = np.flatnonzero(np.diff(trace.capacity_mbps))
    assert np.diff(changes).max() <= 4
    assert trace.time_s[-1] >= 320
    assert (np.diff(trace.time_s) > 0).all()


def test_markov_levels_dwell_as_long_as_asked():
    family = MarkovLevels(dwell_s=10.0, noise_fraction=0.0, duration_s=20_000)
    trace = family.generate(np.random.default_rng(2))
    moves = np.count_nonzero(np.diff(trace.capacity_mbps))
    assert 20_000 / moves == pytest.approx(10.0, rel=0.1)
    assert len(np.unique(trace.capacity_mbps)) == 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: UniformHold(3.0, 2.0),
        lambda: UniformHold(max_hold=0),
        lambda: MarkovLevels(dwell_s=0.0),
        lambda: FCCLike(median_mbps=-1.0),
        lambda: Trace("made", np.array([0.0, 1.0]), np.array([1.0])),
    ],
)
def test_nonsense_families_are_refused(make):
    with pytest.raises(InputError):
        make()
