"""Batches of a pool: against slow loops, inside their episodes, and what is left out of them."""

import dataclasses

import numpy as np
import pytest

from netllm_gym.errors import InputError
from netllm_gym.policies.offline import cjs
from netllm_gym.training.offline_examples import Examples
from tests.policies.llm.made import make_episodes
from tests.policies.llm.made_cjs import make_cjs_episodes
from tests.policies.offline.made import make_config

LENGTHS = [9, 1, 4, 9]


def drawn(method, episodes, size, **changes):
    config = make_config(method, **changes)
    examples = Examples.of(episodes, config)
    return examples, {
        name: each.numpy() for name, each in examples.batch(config, 3, 0, size).items()
    }


def test_a_transition_goes_to_the_next_step_of_its_episode_and_no_further():
    episodes = make_episodes(4, LENGTHS)
    examples, batch = drawn("cql", episodes, sum(LENGTHS))
    spread = episodes.rewards[episodes.mask].std()
    seen = set()
    for row in range(sum(LENGTHS)):
        [(e, t)] = [
            (e, t)
            for e in range(4)
            for t in range(LENGTHS[e])
            if np.array_equal(episodes.observations[e, t].ravel(), batch["observations"][row])
        ]
        seen.add((e, t))
        ends = t == LENGTHS[e] - 1
        assert batch["terminals"][row, 0] == ends
        assert batch["actions"][row, 0] == episodes.actions[e, t]
        np.testing.assert_allclose(batch["rewards"][row, 0], episodes.rewards[e, t] / spread, 1e-5)
        if not ends:
            after = episodes.observations[e, t + 1].ravel()
            np.testing.assert_array_equal(batch["next_observations"][row], after)
            assert batch["next_actions"][row, 0] == episodes.actions[e, t + 1]
    assert len(seen) == sum(LENGTHS)  # each once in a pass
    assert examples.counts == (23, 23, 0)


def test_a_window_ends_with_its_step_and_has_zeros_before_the_first():
    episodes = make_episodes(4, LENGTHS)
    _, batch = drawn("dt", episodes, sum(LENGTHS))
    tokens = make_config("dt").returns.tokens(episodes)
    for row in range(sum(LENGTHS)):
        [(e, last)] = [
            (e, t)
            for e in range(4)
            for t in range(LENGTHS[e])
            if np.array_equal(episodes.observations[e, t].ravel(), batch["observations"][row, -1])
        ]
        for back in range(4):
            t, place = last - back, 3 - back
            real = t >= 0
            assert batch["masks"][row, place] == real
            assert batch["timesteps"][row, place] == max(t + 1, 0)
            assert batch["actions"][row, place, 0] == (episodes.actions[e, t] if real else 0)
            token = tokens[e, t] if real else 0.0
            np.testing.assert_allclose(batch["returns_to_go"][row, place, 0], token, rtol=1e-6)
            expected = episodes.observations[e, t].ravel() if real else np.zeros(36)
            np.testing.assert_array_equal(batch["observations"][row, place], expected)


def test_the_padding_of_47_steps_seen_by_20_is_a_fifth():
    # The windows that end with steps 0 to 18 lack 19, 18, ... 1 steps: 190 of 47 x 20.
    episodes = make_episodes(2, [9, 9])
    longer = {
        name: np.repeat(getattr(episodes, name), 6, axis=1)[:, :47]
        for name in ("observations", "actions", "rewards", "mask")
    }
    episodes = dataclasses.replace(episodes, **longer)
    _, batch = drawn("dt", episodes, 2 * 47, context_steps=20, max_steps=47)
    assert 1.0 - batch["masks"].mean() == pytest.approx(190 / (47 * 20))


def test_each_decision_is_learned_once_before_any_is_again():
    episodes, config = make_episodes(4, LENGTHS), make_config("bc")
    examples = Examples.of(episodes, config)
    passes = [examples.batch(config, 5, update, 23)["observations"].numpy() for update in (0, 1)]
    assert not np.array_equal(*passes)
    np.testing.assert_array_equal(*(np.sort(each, axis=0) for each in passes))


def with_decision(episodes, row, decision):
    """Return the episodes with another decision at a real step."""
    actions = episodes.actions.copy()
    found = actions[episodes.mask]
    found[row] = decision
    actions[episodes.mask] = found
    return dataclasses.replace(episodes, actions=actions)


def test_what_has_no_action_or_may_not_be_chosen_is_not_learned():
    episodes = make_cjs_episodes((12, 7))
    view = episodes.seen
    menu = cjs.menu_of(view)
    stages = menu.place[:, 0]
    usual = np.where(stages[:, None] >= 0, np.stack([stages, menu.limit[:, 0] - 1], 1), [-1, 0])
    for row, decision in enumerate(usual):
        episodes = with_decision(episodes, row, decision)
    config = make_config("bc", "cjs")
    base = Examples.of(episodes, config)
    waits = np.flatnonzero((stages >= 0) & ~menu.may_wait)
    hidden = np.flatnonzero(view.num_stages > (menu.place >= 0).sum(axis=1))
    assert base.counts == (19, 19, 0)
    odd = with_decision(episodes, waits[0], (-1, 0))  # waits where none may
    assert Examples.of(odd, config).counts == (19, 19, 1)
    assert waits[0] not in Examples.of(odd, config).learned
    row = hidden[0]
    shown = set(menu.place[row].tolist())
    unseen = next(place for place in range(view.num_stages[row]) if place not in shown)
    odd = with_decision(episodes, row, (unseen, 0))
    assert Examples.of(odd, config).counts == (19, 18, 1)
    # No window of a decision transformer may hold it: it ends 4 steps of the same episode.
    told = Examples.of(odd, make_config("dt", "cjs"))
    lost = {r for r in range(row, row + 4) if r < 19 and (r < 12) == (row < 12)}
    assert set(range(19)) - set(told.learned.tolist()) == lost


def test_a_teacher_of_whom_nothing_can_be_learned_is_refused():
    episodes = make_cjs_episodes((1,))
    shown = set(cjs.menu_of(episodes.seen).place[0].tolist())
    unseen = next(p for p in range(int(episodes.seen.num_stages[0])) if p not in shown)
    with pytest.raises(InputError, match="pool must hold a decision that bc can learn, got none"):
        Examples.of(with_decision(episodes, 0, (unseen, 0)), make_config("bc", "cjs"))
