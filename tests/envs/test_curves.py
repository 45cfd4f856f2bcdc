"""Quantities over time: counted and averaged by hand."""

import numpy as np
import pytest

from netllm_gym.envs.curves import Steps, how_many


def test_what_has_begun_and_has_not_ended_is_counted():
    # From 1 on there is one, from 2 two, one ends at 3 when another begins; the last never ends.
    count = how_many([1.0, 2.0, 3.0], [3.0, 4.0, np.inf], 6.0)
    assert count.border_s.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 6.0]
    assert count.value.tolist() == [0.0, 1.0, 2.0, 2.0, 1.0]


def test_the_future_is_not_counted():
    count = how_many([0.0, 7.0], [2.5, 9.0], 2.0)
    assert (count.border_s.tolist(), count.value.tolist()) == ([0.0, 2.0], [1.0])
    assert how_many([], [], 3.0).value.tolist() == [0.0]


def test_means_between_other_borders():
    # 1 for two seconds, 4 for one, 0 for three: of each second 1, 1, 4, 0, 0, 0.
    steps = Steps(np.array([0.0, 2.0, 3.0, 6.0]), np.array([1.0, 4.0, 0.0]))
    assert steps.averaged([0.0, 3.0, 6.0]).value.tolist() == pytest.approx([2.0, 0.0])
    assert steps.averaged([1.0, 2.5]).value.tolist() == pytest.approx([(1.0 + 2.0) / 1.5])
