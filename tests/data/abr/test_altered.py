"""Altered copies and generated traces around a set."""

import re

import numpy as np
import pytest

from netllm_gym.data.abr.altered import Alteration, altered, altered_set, read_altered_name
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import Trace, TraceSet, write_cooked_trace
from netllm_gym.errors import InputError
from netllm_gym.problems.index import PROBLEMS

TIME_S = np.arange(13.0) * 5.0
LINK = Trace("link", TIME_S, np.linspace(2.4, 3.6, 13), recording="home")


def test_copies_stretch_capacity_and_time_and_keep_the_recording():
    found = altered([LINK], Alteration(copies=30, generated=6), seed=0)
    assert len(found) == 1 + 30 + 6
    for copy in found[1:31]:
        assert copy.recording == "home"
        stretch = copy.capacity_mbps / LINK.capacity_mbps
        assert np.allclose(stretch, stretch[0])
        assert 0.5 <= stretch[0] <= 2.0
        assert 0.5 <= copy.time_s[-1] / 60.0 <= 2.0
    logarithms = np.log([copy.capacity_mbps[0] / 2.4 for copy in found[1:31]])
    assert logarithms.min() < -0.3
    assert logarithms.max() > 0.3
    assert len({trace.content for trace in found}) == 37
    again = altered([LINK], Alteration(copies=30, generated=6), seed=0)
    assert [trace.content for trace in again] == [trace.content for trace in found]
    other = altered([LINK], Alteration(copies=30, generated=6), seed=1)
    assert not {trace.content for trace in again[1:]} & {trace.content for trace in other[1:]}


@pytest.mark.parametrize(
    ("name", "base", "copies", "generated"),
    [
        ("clean-train~12", "clean-train", 12, 0),
        ("clean-train~12+400", "clean-train", 12, 400),
        ("my/traces~0+7", "my/traces", 0, 7),
    ],
)
def test_names_say_what_stands_around_a_set(name, base, copies, generated):
    assert read_altered_name(name) == (base, Alteration(copies, generated))


@pytest.mark.parametrize(
    "name", ["clean-train", "~12", "a~", "a~x", "a~-1", "a~1+", "~/traces", "a~1 "]
)
def test_other_names_are_left_alone(name):
    assert read_altered_name(name) is None


def test_a_named_set_is_the_same_each_time_and_another_under_another_name():
    found = load_trace_set("synthetic~2+3")
    plain = load_trace_set("synthetic").traces
    assert found.name == "synthetic~2+3"
    assert len(found.traces) == 300 + 3
    assert [one.content for one in found.traces[:100]] == [one.content for one in plain]
    again = load_trace_set("synthetic~2+3")
    assert [one.content for one in again.traces] == [one.content for one in found.traces]
    other = load_trace_set("synthetic~2+4")
    assert found.traces[100].content != other.traces[100].content


def test_a_set_is_known_by_its_recordings_not_by_what_was_made_for_it():
    nameless = Trace("other", TIME_S, np.linspace(1.0, 2.0, 13))
    plain = TraceSet("links", (LINK, nameless))
    assert plain.known_by == sorted(["home", LINK.content, nameless.content])
    assert altered_set("links~50+2", plain, Alteration(50, 2)).known_by == plain.known_by


def test_a_folder_can_be_altered_unless_it_has_such_a_name_itself(tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    write_cooked_trace(folder / "link", LINK.time_s, LINK.capacity_mbps)
    assert len(load_trace_set(f"{folder}~3").traces) == 4
    folder.rename(tmp_path / "links~3")
    assert len(load_trace_set(f"{folder}~3").traces) == 1
    (tmp_path / "links~3").rename(tmp_path / "links~3~3")
    assert len(load_trace_set(f"{folder}~3~3").traces) == 1


def test_published_starts_are_not_those_of_an_altered_set():
    base = TraceSet("published", (LINK,), (5,))
    assert altered_set("published~1", base, Alteration(1, 0)).start_pointers is None


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="got 'nowhere'"):
        load_trace_set("nowhere~12")
    for name in ("a~1~1", "synthetic~10000~10000+2"):
        with pytest.raises(
            InputError, match=f"traces must be altered once, got '{re.escape(name)}'"
        ):
            read_altered_name(name)
    with pytest.raises(InputError, match=r"copies must be in 0\.\.10000, got 10001"):
        load_trace_set("synthetic~10001")
    with pytest.raises(InputError, match=r"capacity must be a range above 0, got \(0\.0, 1\.0\)"):
        Alteration(capacity=(0.0, 1.0))


def test_altered_traces_are_validated_on_the_list_of_the_plain_ones():
    validation_dataset = PROBLEMS["abr"].validation_dataset
    assert validation_dataset({"traces": "clean-train~12+400"}, None) == "clean-valid"
    assert validation_dataset({"traces": "clean-train"}, None) == "clean-valid"
    assert validation_dataset({"traces": "clean-train~12"}, "clean-valid~12") == "clean-valid~12"
    with pytest.raises(InputError, match="since fcc-test has none of its own for validation"):
        validation_dataset({"traces": "fcc-test~12"}, None)
