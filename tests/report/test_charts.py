"""Axes, distributions and paths, worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.envs.curves import bands, line, segments, staircase
from netllm_gym.report.charts import Chart, cdf, cdf_line, fenced, nice_axis

X, Y = nice_axis(0.0, 4.0, about=4), nice_axis(0.0, 1.0)
path = Chart("made", X, Y, x_label="", y_label="", marks=()).path


def labels(axis):
    return [tick.label for tick in axis.ticks]


def test_ticks_are_ones_twos_and_fives():
    # 2.24 over five steps is 0.448; the next of 1, 2, 5 x 10^k is 0.5. Both ends are ticks.
    axis = nice_axis(0.13, 2.37)
    assert (axis.low, axis.high) == (0.0, 2.5)
    assert labels(axis) == ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]
    assert [tick.percent for tick in axis.ticks] == [0, 20, 40, 60, 80, 100]
    assert labels(nice_axis(-17.0, 1.0)) == ["-20", "-15", "-10", "-5", "0", "5"]
    assert labels(nice_axis(0.0, 0.004, about=2)) == ["0.000", "0.002", "0.004"]


def test_an_axis_that_is_not_widened_ends_where_the_data_end():
    axis = nice_axis(0.0, 190.0, about=4, widen=False)
    assert (axis.low, axis.high) == (0.0, 190.0)
    assert labels(axis) == ["0", "50", "100", "150"]
    assert [tick.percent for tick in axis.ticks] == [0.0, 26.316, 52.632, 78.947]


def test_equal_values_still_have_an_axis():
    axis = nice_axis(3.0, 3.0)
    assert axis.low < 3.0 < axis.high


@settings(max_examples=150)
@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12), st.integers(1, 8), st.booleans())
def test_ticks_stand_where_their_labels_say(one, other, about, widen):
    low, high = min(one, other), max(one, other)
    axis = nice_axis(low, high, about, widen)
    assert axis.low <= low <= high <= axis.high or axis.low < axis.high
    assert len(axis.ticks) <= about + 3
    for tick in axis.ticks:
        place = axis.low + (axis.high - axis.low) * tick.percent / 100.0
        assert float(tick.label) == pytest.approx(place, abs=2e-3 * (axis.high - axis.low))
    assert len(set(labels(axis))) == len(axis.ticks)


def test_distribution_of_four_values():
    # One of four is at most 1, three are at most 2, all are at most 3.
    value, share = cdf([3.0, 1.0, 2.0, 2.0])
    assert value.tolist() == [1.0, 2.0, 3.0]
    assert share.tolist() == [0.25, 0.75, 1.0]
    # In the square of 1000: 1, 2, 3 of 4 are 250, 500, 750; up is 1000 less.
    assert path(cdf_line("c0", [3.0, 1.0, 2.0, 2.0], X)) == "M0 1000H250V750H500V250H750V0H1000"


def test_distribution_enters_at_the_share_that_lies_before_the_axis():
    # -9 and 0 are at or before the foot of the axis, 8 is beyond its end.
    assert path(cdf_line("c0", [-9.0, 0.0, 2.0, 8.0], X)) == "M0 500H500V250H1000"


def test_what_is_far_out_is_left_off():
    # Quartiles 1 and 3: the fences are 3 x 2 beyond, at -5 and 9.
    assert fenced([1.0, 1.0, 2.0, 3.0, 3.0]) == (1.0, 3.0)
    low, high = fenced([-100.0, *np.linspace(0.0, 1.0, 20), 50.0])
    assert (low, high) == (0.0, 1.0)
    assert fenced([0.0, 0.0, 0.0, 0.0, 7.0]) == (0.0, 7.0)  # no spread to measure by


def test_paths():
    assert path(staircase("s", [0.0, 1.0, 3.0], [0.5, 1.0])) == "M0 500H250V0H750"
    assert path(staircase("s", [1.0, 2.0], [0.5], filled=True)) == "M250 500H500V1000H250Z"
    assert path(line("s", [0.0, 4.0], [0.0, 1.0])) == "M0 1000L1000 0"
    assert path(segments("s", [0.0, 2.0], [1.0, 3.0], [0.5, 0.25])) == "M0 500H250M500 750H750"
    assert path(bands("s", [1.0], [2.0])) == "M250 0H500V1000H250Z"
    assert path(bands("s", [], [])) == ""


def test_a_place_is_not_drawn_twice_unless_it_is_a_dot():
    assert path(staircase("s", [0.0, 1.0, 3.0], [0.5, 0.5])) == "M0 500H250H750"
    assert path(line("s", [1.0, 1.0, 1.0], [0.5, 0.5, 0.5])) == "M250 500H250"
