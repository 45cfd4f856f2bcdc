"""Policies and predictors as users write them, each kind of the same rule."""

import numpy as np


def by_buffer(observation):
    """ABR: a rung for each 4 s of buffer, at most the fourth."""
    return min(int(observation[1, -1] * 2.5), 3)


def last_stage(observation):
    """CJS: the last stage that may be chosen; now and then one that may not be."""
    legal = np.flatnonzero(observation["stage_mask"])  # empty after an episode's end
    executors = int(observation["committable"][0])
    stage = legal[-1] if executors % 3 else observation["stage_mask"].argmin()
    assert observation["stage_mask"][legal[-1]]
    return [stage, executors - 1]


class Buffer:
    """ABR, for all rows at once; neither a name nor a reset."""

    def __init__(self, env):
        self.rows = env.num_envs

    def act(self, observations, rewards, infos):
        assert len(rewards) == len(infos["buffer_s"]) == self.rows
        return [by_buffer(observation) for observation in observations]


class LastStage:
    """CJS, for all rows at once."""

    name = "last"

    def __init__(self, env):
        self.env = env

    def act(self, observations, rewards, infos):
        assert self.env.observation_space["stages"].shape == observations["stages"].shape
        masks = self.env.action_masks()  # of the public environment, up to date
        np.testing.assert_array_equal(
            masks[:, : observations["stage_mask"].shape[1]], observations["stage_mask"]
        )
        assert (infos["hidden_stages"] >= 0).all()
        actions = np.zeros((len(rewards), 2), np.int32)
        for row, mask in enumerate(observations["stage_mask"]):
            if mask.any():
                actions[row] = last_stage({key: part[row] for key, part in observations.items()})
        return actions


class Model:
    """What has the `predict` of Stable-Baselines3, for a rule."""

    def __init__(self, rule):
        self.rule = rule

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert deterministic
        if isinstance(observation, dict):
            rows = [
                {key: part[row] for key, part in observation.items()}
                for row in range(len(observation["stages"]))
            ]
            rows = [each if each["stage_mask"].any() else None for each in rows]
            return np.array([[0, 0] if each is None else self.rule(each) for each in rows]), None
        return np.array([self.rule(each) for each in observation]), None


def make_buffer(env):
    """A factory: it returns a class's instance."""
    return Buffer(env)


def make_function(env):
    """A factory of a function."""
    return by_buffer if hasattr(env, "video") else last_stage


class Hold:
    """VP, for many windows at once."""

    def __init__(self, windows):
        self.future = windows.config.future

    def predict(self, history, content):
        return np.repeat(history[:, -1:], self.future, axis=1)


def hold(history):
    """VP, for one window; a list."""
    return [history[-1].tolist()] * 20


def hold_with_content(history, content):
    """VP, for one window."""
    assert content is None
    return np.repeat(history[-1:], 20, axis=0)


def make_hold(windows):
    """A factory of a predictor."""
    return Hold(windows)


class Nothing:
    """Neither acts nor predicts."""


class Wrong:
    """Answers what it is told."""

    def __init__(self, answer):
        self.answer = answer

    def act(self, observations, rewards, infos):
        return self.answer
