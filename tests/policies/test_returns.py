"""Return tokens: sums by hand, and acting that asks what training told."""

import dataclasses

import numpy as np
import pytest

from netllm_gym.errors import InputError
from netllm_gym.policies.returns import ReturnConditioner, ReturnSpec
from tests.policies.llm.made import make_episodes


def two_of_a_kind():
    """Seed 0: a returns 1 + 2 + 3 = 6, b returns 9. Seed 1: a returns 2, b returns 1."""
    episodes = make_episodes(4, lengths=[3, 3, 2, 2])
    rewards = np.zeros((4, 9))
    rewards[0, :3], rewards[1, :3], rewards[2, :2], rewards[3, :2] = (1, 2, 3), 3, 1, 0.5
    return dataclasses.replace(episodes, rewards=rewards)


def test_returns_to_go_are_discounted_sums_that_skip_the_padding():
    spec = ReturnSpec("return_to_go", gamma=0.5, center=0.0, scale=1.0, target=0.0)
    episodes = two_of_a_kind()
    episodes.rewards[~episodes.mask] = 1e9
    tokens = spec.tokens(episodes)
    # 3; 2 + 3 / 2 = 3.5; 1 + 3.5 / 2 = 2.75
    assert tokens[0].tolist() == [2.75, 3.5, 3.0] + [0.0] * 6


def test_baseline_tokens_are_what_the_episode_earned_above_it_on_the_same_seed():
    spec = ReturnSpec("baseline", baseline="a", center=0.0, scale=1.0, target=0.0)
    tokens = spec.tokens(two_of_a_kind())
    assert tokens[:, 0].tolist() == [0.0, 3.0, 0.0, -1.0]
    assert tokens[1].tolist() == [3.0] * 3 + [0.0] * 6  # constant over the episode


def test_fit_centres_scales_and_asks_for_a_quantile_of_the_first_tokens():
    episodes = two_of_a_kind()
    to_go = ReturnSpec("return_to_go", quantile=1.0, factor=2.0).fit(episodes)
    returns = np.array([6.0, 9.0, 2.0, 1.0])
    assert to_go.center == pytest.approx(returns.mean())
    assert to_go.scale == pytest.approx(returns.std())
    assert to_go.target == pytest.approx(2.0 * (9.0 - returns.mean()) / returns.std())
    against_a = ReturnSpec("baseline", baseline="a", quantile=0.5).fit(episodes)
    assert against_a.center == 0.0  # so that 0 means: as good as the baseline
    assert against_a.target == 0.0
    given = ReturnSpec("return_to_go", center=1.0, scale=1000.0, target=3.0).fit(episodes)
    assert (given.center, given.scale, given.target) == (1.0, 1000.0, 3.0)
    nothing = ReturnSpec("none").fit(episodes)
    assert not nothing.tokens(episodes).any()
    assert nothing.target == 0.0


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_acting_takes_rewards_off_as_training_does(gamma):
    # Asked for the very return that an episode had, the tokens are that episode's own.
    episodes = make_episodes(2)
    spec = ReturnSpec("return_to_go", gamma=gamma, clip=(-1.0, 1.0)).fit(episodes)
    tokens = spec.tokens(episodes)
    for episode in range(2):
        asked = dataclasses.replace(spec, target=float(tokens[episode, 0]))
        acting = ReturnConditioner(asked, num_rows=1)
        acting.reset(np.array([0]))
        for step in range(9):
            reward = episodes.rewards[episode, step - 1 : step] if step else np.zeros(1)
            acting.observe(reward, np.array([step > 0]))
            assert acting.tokens()[0] == pytest.approx(tokens[episode, step], abs=1e-5)


def test_a_baseline_target_stays_and_reset_asks_anew():
    spec = ReturnSpec("baseline", baseline="a", center=0.0, scale=2.0, target=1.5)
    acting = ReturnConditioner(spec, 2)
    acting.observe(np.array([5.0, 5.0]), np.ones(2, bool))
    assert acting.tokens().tolist() == [1.5, 1.5]
    to_go = dataclasses.replace(spec, kind="return_to_go")
    acting = ReturnConditioner(to_go, 2)
    acting.observe(np.array([1.0, 1.0]), np.ones(2, bool))
    acting.reset(np.array([1]))
    assert acting.tokens().tolist() == [1.0, 1.5]  # (3 - 1) / 2, and the target


def test_wrong_returns_are_refused():
    with pytest.raises(InputError, match="kind must be one of auto, none, return_to_go, baseline"):
        ReturnSpec("both")
    with pytest.raises(InputError, match="baseline must name a policy of the pool, got none"):
        ReturnSpec("baseline")
    with pytest.raises(InputError, match=r"gamma must lie in \(0, 1\], got 0"):
        ReturnSpec(gamma=0.0)
    with pytest.raises(
        InputError, match=r"baseline must be a policy of the pool \(a, b\), got 'c'"
    ):
        ReturnSpec("baseline", baseline="c").fit(make_episodes())
    odd = dataclasses.replace(make_episodes(4), seed=np.array([0, 0, 1, 2]))
    with pytest.raises(InputError, match="got none for 1 of them, 2 the first"):
        ReturnSpec("baseline", baseline="a").fit(odd)
    with pytest.raises(InputError, match="returns must be fitted to a pool first"):
        ReturnSpec("none").tokens(make_episodes())
