"""One way to choose from scores, for every network."""

import numpy as np
import pytest

from netllm_gym.errors import InputError
from netllm_gym.policies.policy import choose


def test_the_greatest_is_taken_without_draws():
    assert choose(np.array([[0.0, 2.0, 1.0], [3.0, -np.inf, 1.0]]), None).tolist() == [1, 0]


def test_draws_fall_where_the_probabilities_say():
    scores = np.log(np.tile([0.2, 0.5, 0.3], (6, 1)))
    draws = np.array([0.0, 0.19, 0.21, 0.69, 0.71, 1.0 - 1e-12])
    assert choose(scores, draws).tolist() == [0, 0, 1, 1, 2, 2]


def test_the_largest_draw_stays_within_any_total():
    scores = np.random.default_rng(0).normal(0.0, 3.0, (20_000, 5))
    scores[:, 3:] = -np.inf
    assert choose(scores, np.full(20_000, np.nextafter(1.0, 0.0))).max() == 2


def test_what_is_not_allowed_is_never_drawn():
    scores = np.tile([-np.inf, 0.0, -np.inf, 1.0, -np.inf], (1001, 1))
    drawn = choose(scores, np.linspace(0.0, np.nextafter(1.0, 0.0), 1001))
    assert set(drawn.tolist()) == {1, 3}


@pytest.mark.parametrize("draws", [None, np.zeros(2)])
def test_scores_that_are_no_numbers_are_refused_and_not_taken_for_the_first_action(draws):
    with pytest.raises(InputError, match="scores of the policy's actions must be numbers, got nan"):
        choose(np.array([[0.0, 1.0], [np.nan, np.nan]]), draws)
