"""Which traces belong together: pieces cut by hand, the slow obvious loop, the published splits."""

import json
from collections import Counter

import numpy as np
import pytest

from netllm_gym.data.abr.recordings import (
    FEWEST_LEVELS,
    OVERLAP_LEVELS,
    LevelIndex,
    group_recordings,
    levels_of,
    relations,
)
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.data.abr.traces import Trace, read_cooked_trace

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


def test_one_changed_row_makes_another_recording():
    piece = LONG_MBPS[60:124].copy()
    for row in (0, 30, 63):
        changed = piece.copy()
        changed[row] *= 1.01
        assert kind(trace("changed", changed), LONG) is None


def test_an_end_that_begins_another_trace_overlaps():
    enough = OVERLAP_LEVELS
    assert kind(trace("a", LONG_MBPS[:100]), trace("b", LONG_MBPS[100 - enough :])) == "overlapping"
    assert kind(trace("b", LONG_MBPS[100 - enough :]), trace("a", LONG_MBPS[:100])) == "overlapping"
    assert kind(trace("a", LONG_MBPS[:100]), trace("b", LONG_MBPS[101 - enough :])) is None


def test_a_piece_in_the_middle_of_both_is_no_overlap():
    # Cuts of one recording share an end; equal middles with different ends do not.
    own = RNG.uniform(6.0, 7.0, (4, 5))
    middle = LONG_MBPS[:60]
    one, other = (np.concatenate([own[i], middle, own[i + 1]]) for i in (0, 2))
    assert kind(trace("a", one), trace("b", other)) is None


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
    assert group_recordings(traces) == [[0, 1, 2, 3], [4]]
    assert group_recordings(traces[::-1]) == [[0], [1, 2, 3, 4]]


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
    for group in group_recordings(traces):
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
