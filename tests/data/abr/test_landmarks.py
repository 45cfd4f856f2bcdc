"""Stretches that traces share: copies made in known ways, a slow loop, unrelated links."""

import numpy as np
import pytest

from netllm_gym.data.abr.landmarks import (
    BINS,
    BINS_S,
    LEAST_CORRELATION,
    LEVEL_APART,
    SHAPE_APART,
    alike_pairs,
    compare_by_landmarks,
    find_landmarks,
)
from netllm_gym.data.abr.synthetic import FAMILIES, generate_traces
from netllm_gym.data.abr.traces import Trace


def ride(seed, seconds=400, spread=0.4):
    """Return a link whose capacity drifts, with noise from second to second."""
    rng = np.random.default_rng(seed)
    drift = np.cumsum(rng.normal(0.0, 0.1, seconds))
    return np.exp(0.5 * np.sin(drift) + rng.normal(0.0, spread, seconds))


def trace(name, capacity_mbps, step_s=1.0):
    times_s = step_s * np.arange(len(capacity_mbps) + 1)
    return Trace(name, times_s, np.concatenate([[9.0], capacity_mbps]))


def resampled(capacity_mbps, borders_s):
    """Return the mean capacity between borders of a link with rows of 1 s."""
    carried_mb = np.concatenate([[0.0], np.cumsum(capacity_mbps)])
    at_borders = np.interp(borders_s, np.arange(len(carried_mb)), carried_mb)
    rows = np.diff(at_borders) / np.diff(borders_s)
    return Trace("resampled", borders_s, np.concatenate([[9.0], rows]))


def shared(*traces):
    return compare_by_landmarks(traces).pairs


WHOLE = trace("whole", ride(0))


@pytest.mark.parametrize(
    "rows_s",
    [
        np.full(130, 1.0),
        np.full(260, 0.5),
        np.full(100, 1.3),
        np.random.default_rng(1).uniform(0.2, 2.0, 110),
    ],
)
def test_a_piece_on_another_grid_is_found(rows_s):
    borders_s = 123.37 + np.cumsum([0.0, *rows_s])
    assert shared(WHOLE, resampled(ride(0), borders_s)) == [(0, 1)]
    assert shared(resampled(ride(0), borders_s), WHOLE) == [(0, 1)]
    assert shared(trace("other", ride(1)), resampled(ride(0), borders_s)) == []


def test_a_piece_with_less_capacity_stretched_times_or_a_pause_left_out_is_found():
    piece = resampled(ride(0), 100.6 + np.arange(0.0, 200.0, 0.8))
    lower = Trace("lower", piece.time_s, piece.capacity_mbps * 0.968)
    stretched = Trace("stretched", piece.time_s * 1.01, piece.capacity_mbps / 1.01)
    cut = trace("cut", np.concatenate([ride(0)[60:150], ride(0)[190:280]]))
    for changed in (lower, stretched, cut):
        assert shared(WHOLE, changed) == [(0, 1)]


def test_another_link_of_the_same_shape_is_not_found():
    # A factor of 1.3 is another capacity; the shape alone is no proof.
    assert shared(WHOLE, Trace("fast", WHOLE.time_s, WHOLE.capacity_mbps * 1.3)) == []


def test_rows_of_5_s_are_compared_in_bins_of_5_s():
    slow = trace("slow", ride(3, 120), 5.0)
    piece = Trace("piece", 1.005 * slow.time_s[:80], slow.capacity_mbps[:80] * 0.99)
    fine, coarse = (find_landmarks([slow, piece], bin_s) for bin_s in BINS_S)
    assert len(fine.trace) == 0  # too few changes in a window of 16 s
    assert len(coarse.trace) > 0
    assert shared(slow, piece) == [(0, 1)]


@pytest.mark.parametrize(
    "capacity_mbps",
    [
        np.full(600, 3.0),
        np.tile([1.0, 3.0], 300),
        np.tile([1.0, 3.0, 2.0, 1.5, 2.2, 1.1, 2.5, 1.7], 75),
        3.0 + 0.05 * np.random.default_rng(0).random(600),
        [0.0, 1.0],
    ],
)
def test_steady_periodic_and_short_links_are_not_comparable(capacity_mbps):
    one = trace("one", capacity_mbps)
    found = compare_by_landmarks([one, trace("other", np.asarray(capacity_mbps) * 1.001), WHOLE])
    assert found.pairs == []
    assert found.comparable == [False, False, True]


def test_unrelated_links_are_not_found_alike():
    rng = np.random.default_rng(0)
    links = [trace(f"ride {seed}", ride(seed)) for seed in range(60)]
    links += [trace(f"levels {n}", rng.integers(1, 5, 400)) for n in range(60)]
    links += [
        trace(f"dips {n}", np.where(rng.random(300) < 0.1, rng.uniform(0.5, 4.0, 300), 5.0))
        for n in range(60)
    ]
    links += [trace(f"on and off {n}", rng.choice([0.2, 4.0], 400)) for n in range(60)]
    links += [trace(f"noise {n}", np.exp(rng.normal(0.0, 0.3, 400))) for n in range(60)]
    for family in FAMILIES.values():
        links += [Trace("made", *columns) for columns in generate_traces(family, 40, seed=1)]
    assert compare_by_landmarks(links).pairs == []


def test_alike_pairs_are_those_of_a_loop_over_all():
    rng = np.random.default_rng(0)
    base = rng.normal(0.0, 0.3, (30, BINS))
    bins = np.concatenate([base, base + rng.normal(0.0, 0.06, base.shape), base[:5] + 0.07])
    expected = set()
    for one in range(len(bins)):
        for other in range(one):
            level = bins[one].mean() - bins[other].mean()
            apart = bins[one] - bins[other] - level
            correlation = np.corrcoef(bins[one], bins[other])[0, 1]
            if (
                abs(level) <= LEVEL_APART
                and np.abs(apart).mean() <= SHAPE_APART
                and correlation >= LEAST_CORRELATION
            ):
                expected.add(frozenset([one, other]))
    assert 10 < len(expected) < 40
    assert {frozenset(map(int, pair)) for pair in zip(*alike_pairs(bins), strict=True)} == expected


def test_a_trace_of_years_costs_no_memory():
    year_s = 3.2e7
    long = Trace("long", np.array([0.0, 1.0, 1e4 * year_s]), np.array([1.0, 2.0, 1e-6]))
    assert compare_by_landmarks([long, long]).comparable == [False, False]
