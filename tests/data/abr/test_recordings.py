"""Which traces belong together: pieces cut by hand, the slow obvious loop, the published splits."""

import json
import operator
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.abr.recordings import (
    FEWEST_LEVELS,
    OVERLAP_LEVELS,
    LevelIndex,
    find_recordings,
    levels_of,
    relations,
    with_recordings,
)
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import Trace, TraceSet, read_cooked_trace, write_cooked_trace

RNG = np.random.default_rng(5)
LONG_MBPS = np.round(RNG.uniform(0.1, 5.0, 200), 3)


def trace(name, capacity_mbps, step_s=1.0):
    """Return a trace that carries these in turn; row 0 is never used, so it holds nonsense."""
    rows = np.concatenate([[99.0], capacity_mbps])
    return Trace(name, step_s * np.arange(len(rows)), rows)


LONG = trace("long", LONG_MBPS)


def kind(one, other):
    (relation,) = relations([one], [other])
    return relation and relation.kind


def test_levels_leave_out_row_zero_and_repetitions():
    assert levels_of(trace("a", [2.0, 2.0, 3.0, 2.0])).tolist() == [2.0, 3.0, 2.0]


def test_a_piece_of_a_recording_is_contained_in_it():
    piece = trace("piece", LONG_MBPS[60:124])
    assert kind(piece, LONG) == "contained"
    assert kind(LONG, piece) == "overlapping"  # the long one is not all in the short one


def test_a_piece_on_another_time_grid_is_contained():
    # 5 s a row, and the same held for five rows of 1 s each.
    assert kind(trace("coarse", LONG_MBPS[60:124], 5.0), LONG) == "contained"
    assert kind(trace("fine", np.repeat(LONG_MBPS[60:124], 5)), LONG) == "contained"


def test_a_piece_written_with_five_digits_is_contained():
    exact = trace("exact", LONG_MBPS / 3.0)
    rounded = [float(f"{capacity:.5g}") for capacity in LONG_MBPS[20:80] / 3.0]
    assert kind(trace("rounded", rounded), exact) == "contained"


def test_a_piece_written_in_whole_kbit_per_second_is_contained():
    exact = trace("exact", LONG_MBPS / 7.0)  # 0.014 to 0.7 Mbit/s
    assert kind(trace("piece", np.round(LONG_MBPS[60:124] / 7.0, 3)), exact) == "contained"
    other = trace("other", LONG_MBPS[60:124] / 7.0 + 0.0015)
    assert kind(other, exact) != "contained"


def test_a_piece_with_a_changed_row_is_not_contained_but_overlaps():
    piece = LONG_MBPS[60:124].copy()
    for row in (0, 30, 63):
        changed = piece.copy()
        changed[row] *= 1.01
        assert kind(trace("changed", changed), LONG) == "overlapping"


def test_an_end_that_begins_another_trace_overlaps():
    enough = OVERLAP_LEVELS
    assert kind(trace("a", LONG_MBPS[:100]), trace("b", LONG_MBPS[100 - enough :])) == "overlapping"
    assert kind(trace("b", LONG_MBPS[100 - enough :]), trace("a", LONG_MBPS[:100])) == "overlapping"
    assert kind(trace("a", LONG_MBPS[:100]), trace("b", LONG_MBPS[101 - enough :])) is None


def test_a_piece_in_the_middle_of_both_overlaps_if_it_is_long():
    own = RNG.uniform(6.0, 7.0, (4, 5))
    for length, expected in ((60, "overlapping"), (15, None)):
        middle = LONG_MBPS[:length]
        one, other = (np.concatenate([own[i], middle, own[i + 1]]) for i in (0, 2))
        assert kind(trace("a", one), trace("b", other)) == expected


def test_links_that_hardly_change_are_not_found_alike():
    few = LONG_MBPS[: FEWEST_LEVELS - 1]
    assert kind(trace("few", few), LONG) is None
    assert kind(LONG, trace("few", few)) is None
    assert kind(trace("few", LONG_MBPS[:FEWEST_LEVELS]), LONG) == "contained"


def test_zero_capacity_is_a_level_like_others():
    capacity_mbps = np.concatenate([[0.0], LONG_MBPS[:10], [0.0], LONG_MBPS[10:20]])
    assert kind(trace("piece", capacity_mbps[0:15]), trace("a", capacity_mbps)) == "contained"


def test_equal_bytes_and_equal_names(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("0 1\n1 2\n")  # too few levels: only the bytes can tell
    a, b = (read_cooked_trace(tmp_path / name) for name in ("a", "b"))
    assert kind(a, b) == "identical"
    (tmp_path / "b").write_text("0 1\n1 2.5\n")
    assert kind(a, read_cooked_trace(tmp_path / "b")) is None
    names = [f"00{n}_trace_77_http---www.x.com_{320 * n}" for n in (1, 2)]
    assert kind(trace(names[0], [1.0, 2.0]), trace(names[1], [3.0, 4.0])) == "same_name"


def test_the_index_finds_what_a_loop_over_all_places_finds():
    rng = np.random.default_rng(0)
    for _ in range(40):
        lengths = rng.integers(1, 30, 6)
        traces = [trace(str(n), rng.choice([0.5, 1.0, 2.0], m)) for n, m in enumerate(lengths)]
        index = LevelIndex(traces)
        for levels in index.levels:
            found = []
            for number, other in enumerate(index.levels):
                for place in range(len(other)):
                    length = min(len(levels), len(other) - place)
                    if length >= FEWEST_LEVELS and (
                        other[place : place + length].tolist() == levels[:length].tolist()
                    ):
                        found.append((number, length))
            assert index.find(levels) == found


def test_groups_join_what_belongs_to_either():
    # b overlaps a and c; the names of c and d say one recording; e is alone.
    pieces = {
        "a": LONG_MBPS[:60],
        "b": LONG_MBPS[30:120],
        "trace_7_http---www.x.com_0": LONG_MBPS[90:150],
        "trace_7_http---www.x.com_320": RNG.uniform(6.0, 7.0, 30),
        "e": RNG.uniform(6.0, 7.0, 30),
    }
    traces = [trace(name, capacity_mbps) for name, capacity_mbps in pieces.items()]
    assert find_recordings(traces).groups == [[0, 1, 2, 3], [4]]
    assert find_recordings(traces[::-1]).groups == [[0], [1, 2, 3, 4]]


def test_names_tell_the_unit_the_ride_and_the_session():
    session = "5LrrYDqSQATunxb8GSR09fP02ZO8BrSPRI5tSSnPSnU="
    same = [
        ["trace_7_http---www.x.com_0", "012_test_fcc_trace_7_https---www.y.com-z-_60_0"],
        [
            "bus.a-b-report.2010-09-29_0852CEST.log",
            "test_norway_bus.a-b-report.2010-09-29_0852CEST.log_300_0",
            "bus_a-b-report_2010-09-29_0852CEST_log_320.log_320",
            "norway_bus.a-b-report.2010-09-29_0852CEST_part0.log",
        ],
        ["bus.a-b-report.2010-09-29_1628CEST.log_0"],
        [f"trace{session}_0", f"day-trace{session}_12"],
        ["trace_8_http---www.x.com_0"],
    ]
    names = [name for group in same for name in group]
    traces = [trace(name, [1.0 + number, 2.0]) for number, name in enumerate(names)]
    found = find_recordings(traces)
    assert [[names[number] for number in group] for group in found.groups] == same
    assert found.unknown == []


def test_traces_of_one_file_are_not_equal_for_that(tmp_path):
    rows = "".join(
        f"{unit},2016-06-01 00:0{m}:00,http://a.org/,1,1,1,{unit + m}00000,3\n"
        for unit in (1, 2, 3)
        for m in range(3)
    )
    (tmp_path / "webget.csv").write_text(rows)
    traces = load_trace_set(tmp_path).traces
    assert find_recordings(traces).groups == [[0], [1], [2]]
    assert relations(traces[:1], traces[1:]) == [None]
    assert kind(traces[0], traces[0]) == "identical"


def test_what_is_too_short_or_too_steady_is_said_to_be_unknown():
    # A copy is known by its rows, and a name tells as well as contents.
    steady = [trace("a", np.full(300, 2.0)), trace("b", np.full(300, 2.5))]
    short = trace("c", LONG_MBPS[:8])
    named = trace("trace_7_http---www.x.com_0", np.full(300, 3.0))
    found = find_recordings([*steady, short, steady[0], named, LONG])
    assert found.unknown == [1]  # c is contained in LONG
    assert found.groups == [[0, 3], [1], [2, 5], [4]]
    assert find_recordings([*steady, short]).unknown == [0, 1, 2]


def test_the_traces_of_a_set_carry_the_names_of_their_recordings(tmp_path):
    # The interval of a table is over these names. The first name of a recording counts.
    for name, capacity_mbps in {
        "a": LONG_MBPS[:120],
        "bus.a-b-report.2010-09-29_0852CEST.log": LONG_MBPS,
        "c": LONG_MBPS[100:],
        "d": LONG_MBPS[::-1],
    }.items():
        write_cooked_trace(tmp_path / name, np.arange(len(capacity_mbps)), capacity_mbps)
    a, bus, c, d = load_trace_set(tmp_path).traces
    assert a.recording == bus.recording == c.recording == "bus.a-b-report.2010-09-29_0852CEST.log"
    assert d.recording == d.content
    given = TraceSet("x", (a, bus, c, d), start_pointers=(1, 2, 3, 4))
    again = with_recordings(given)
    assert (again.name, again.start_pointers) == ("x", (1, 2, 3, 4))
    assert all(map(operator.is_, again.traces, given.traces))


TRACES = st.lists(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.02, 3.0]), min_size=1, max_size=40),
    min_size=1,
    max_size=5,
)


def check_groups(rows):
    traces = [trace(str(number), [*each, 1.0]) for number, each in enumerate(rows)]
    found = find_recordings(traces)
    numbers = range(len(traces))
    assert sorted(number for group in found.groups for number in group) == list(numbers)
    assert [group[0] for group in found.groups] == sorted(min(group) for group in found.groups)
    backwards = {
        frozenset(len(traces) - 1 - n for n in group)
        for group in find_recordings(traces[::-1]).groups
    }
    assert backwards == set(map(frozenset, found.groups))
    names = [each.recording for each in with_recordings(TraceSet("x", tuple(traces))).traces]
    for one in numbers:
        for other in numbers:
            together = any({one, other} <= set(group) for group in found.groups)
            assert (names[one] == names[other]) == together
            if relations([traces[one]], [traces[other]]) != [None]:
                assert together


@settings(max_examples=100)
@given(TRACES)
def test_groups_are_a_partition_that_no_order_changes(rows):
    check_groups(rows)


@pytest.mark.slow
@settings(max_examples=2000)
@given(TRACES)
def test_groups_are_a_partition_that_no_order_changes_2000_times(rows):
    check_groups(rows)


@pytest.mark.parametrize(
    ("name", "against", "counts"),
    [
        ("fcc-test", "fcc-train", {"identical": 42, "contained": 39, None: 19}),
        ("fcc-valid", "fcc-train", {"identical": 150}),
        ("fcc-test", "clean-train", {None: 100}),
        ("fcc-test", "clean-valid", {None: 100}),
        ("clean-train", "clean-valid", {None: 60}),
    ],
)
def test_the_published_splits_leak_and_the_clean_one_does_not(shared_data, name, against, counts):
    found = relations(load_trace_set(name).traces, load_trace_set(against).traces)
    assert Counter(relation and relation.kind for relation in found) == counts


def test_no_two_published_recordings_are_alike_by_chance(shared_data):
    traces = [*load_trace_set("fcc-train").traces, *load_trace_set("fcc-test").traces]
    for group in find_recordings(traces).groups:
        assert len({traces[number].recording for number in group}) == 1


def test_the_identical_ones_are_those_that_md5_found(shared_data):
    listed = shared_data.parent / "golden" / "abr" / "split_overlap.json"
    if not listed.is_file():
        pytest.skip(f"{listed} must be there to compare with")
    pairs = {
        each["test_file"]: each["train_file"]
        for each in json.loads(listed.read_text())["test_in_train"]
    }
    tests, trains = (load_trace_set(name).traces for name in ("fcc-test", "fcc-train"))
    found = {
        one.name: relation.other
        for one, relation in zip(tests, relations(tests, trains), strict=True)
        if relation and relation.kind == "identical"
    }
    assert found == pairs


def test_pieces_of_norwegian_rides_are_found_under_other_names_and_grids(shared_data):
    # Rides and begins that comparing row by row found; the numbers of a vehicle follow its rides.
    if not (shared_data / "abr/traces/norway142").is_dir():
        pytest.skip("norway142 must be there")
    pieces = load_trace_set("norway142").traces
    rides = [each for each in load_trace_set("fcc-train").traces if each.name.endswith(".log")]
    known = {
        "norway_bus_11": "2010-09-30_1058CEST",
        "norway_bus_13": "2010-09-30_1058CEST",
        "norway_bus_14": "2010-09-30_1058CEST",
        "norway_ferry_3": "2010-09-21_1001CEST",
        "norway_tram_40": "2010-12-21_1134CET",
    }
    found = dict(zip((each.name for each in pieces), relations(pieces, rides), strict=True))
    for name, ride in known.items():
        assert found[name].kind == "overlapping"
        assert ride in found[name].other
    # Each of the 30 agrees with its ride row by row, but for the factor 0.968 of the headers.
    assert sum(relation is not None for relation in found.values()) == 30
    for name, relation in found.items():
        assert relation is None or relation.other.startswith(name.split("_")[1])
    groups = find_recordings(pieces).groups
    assert len(groups) == len({each.recording for each in pieces}) == 100
    for group in groups:
        names = [pieces[number].name.rsplit("_", 1) for number in group]
        numbers = sorted(int(number) for _, number in names)
        assert len({kind for kind, _ in names}) == 1
        assert all(after - before <= 2 for before, after in pairwise(numbers))
