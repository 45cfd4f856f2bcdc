"""A problem of anybody's has both environments, with all that is common to them, by its batch."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from netllm_gym.envs.batch import Outcome, RowBatch, check_within, whole_actions
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.envs.rows import RowEnv, RowVectorEnv
from netllm_gym.errors import InputError
from netllm_gym.randomness import uniform


class Guesses(RowBatch):
    """Guess a number in 0..9, drawn by the episode's seed or named, in five steps at most."""

    option_names = ("number",)

    def __init__(self, num_rows):
        super().__init__(num_rows)
        self.observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(10)
        self._number, self._steps = np.zeros(num_rows, np.int64), np.full(num_rows, 5)
        self._sign = np.zeros(num_rows)

    @property
    def done(self):
        return self._steps >= 5

    def begin(self, begins, seeds, options, generator):
        self.check_options(options or {})
        drawn = None
        if options and "number" in options:
            drawn = self.whole_per_row("number", options["number"], 0, 9)
        self.renew_keys(begins, seeds, generator)
        drawn = (uniform(self.keys, 0) * 10).astype(np.int64) if drawn is None else drawn
        self._number = np.where(begins, drawn, self._number)
        self._steps, self._sign = np.where(begins, 0, self._steps), self._sign * ~begins
        return self._outcome(np.zeros(self.num_rows))

    def step(self, actions):
        guess, moves = whole_actions(actions, (self.num_rows,)), ~self.done
        check_within("action must be in", guess, 0, 9)
        self._sign = np.where(moves, np.sign(self._number - guess), self._sign)
        self._steps = np.where(moves, np.where(self._sign == 0, 9, self._steps + 1), self._steps)
        return self._outcome(np.where(moves, -np.abs(self._sign), 0.0))

    def _outcome(self, reward):
        return Outcome(
            observation=self._sign[:, None].astype(np.float32),
            reward=reward,
            terminated=self._steps == 9,
            truncated=self._steps == 5,
            info={"steps": self._steps.astype(np.float64)},
        )


class GuessEnv(RowEnv):
    def __init__(self, render_mode=None):
        super().__init__(Guesses(1), render_mode)


def test_gymnasiums_checker_has_nothing_to_say():
    check_env(GuessEnv(), skip_render_check=True)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_rows_are_scalar_environments_in_every_autoreset_mode(mode):
    vector, scalars = RowVectorEnv(Guesses(6), mode), [GuessEnv() for _ in range(6)]
    seen, _ = vector.reset(seed=3)
    for row, env in enumerate(scalars):
        np.testing.assert_array_equal(seen[row], env.reset(seed=3 + row)[0])
    ended, rng, ends = np.zeros(6, bool), np.random.default_rng(0), 0
    for _ in range(60):
        if mode is AutoresetMode.DISABLED and ended.any():
            vector.reset(options={"reset_mask": ended.copy()})
            for row in np.flatnonzero(ended):
                scalars[row].reset()
            ended[:] = False
        actions = rng.integers(0, 10, 6)
        seen, rewards, terminated, truncated, infos = vector.step(actions)
        for row, env in enumerate(scalars):
            if mode is AutoresetMode.NEXT_STEP and ended[row]:
                env.reset()
                ended[row] = False
                continue
            last, reward, *end, info = env.step(actions[row])
            assert (rewards[row], terminated[row], truncated[row]) == (reward, *end)
            ended[row], ends = any(end), ends + any(end)
            if mode is AutoresetMode.SAME_STEP and any(end):
                np.testing.assert_array_equal(infos["final_obs"][row], last)
                assert infos["final_info"]["steps"][row] == info["steps"]
                env.reset()
            else:
                np.testing.assert_array_equal(seen[row], last)
    assert ends > 60


def test_what_is_wrong_is_refused_in_one_sentence():
    vector = RowVectorEnv(Guesses(2), "Disabled")
    vector.reset(seed=[4, None], options={"number": [3, 7]})
    assert vector.batch._number.tolist() == [3, 7]
    for call, sentence in (
        (lambda: vector.reset(options={"number": [3, 10]}), r"number must be in 0\.\.9, got 10"),
        (lambda: vector.reset(options={"guess": 1}), "options must be number or reset_mask, got g"),
        (lambda: vector.step(np.array([1])), r"actions must be 2 whole numbers, got shape \(1,\)"),
        (lambda: vector.step(np.array([1, 12])), r"action must be in 0\.\.9, got 12"),
        (lambda: GuessEnv().step(1), "step must follow reset"),
        (lambda: GuessEnv(render_mode="ansi"), "render_mode must be None, got 'ansi'"),
        (lambda: GuessEnv().reset(options={"reset_mask": [True]}), "options must be number, got r"),
        (lambda: Guesses(0), "num_envs must be at least 1, got 0"),
    ):
        with pytest.raises(InputError, match=sentence):
            call()


def test_training_episodes_are_those_of_their_seeds():
    assert RowVectorEnv(Guesses(1)).training_plan([5, 8]) == [PlannedEpisode(5), PlannedEpisode(8)]


def test_a_batch_may_lack_rendering_and_says_so():
    env = GuessEnv()
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render gives nothing without a render_mode"):
        assert env.render() is None
    assert isinstance(env, gym.Env)
