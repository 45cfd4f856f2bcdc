"""One loop for every policy: the same episodes whatever the batch, and nothing told in between."""

import gymnasium as gym
import numpy as np
import pytest

from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout, warm_up
from netllm_gym.policies.baselines.abr import BBA, Random


class Recorder:
    """Plays rung 1 and notes what it is told."""

    name = "recorder"

    def __init__(self, env):
        self.told = []
        self.rows = env.num_envs

    def reset(self, rows, seeds):
        self.told.append(("reset", rows.tolist(), seeds.tolist()))

    def act(self, observations, rewards, infos):
        self.told.append(("act", rewards.copy()))
        return np.ones(self.rows, np.int64)

    def end(self, rows, observations):
        self.told.append(("end", rows.tolist(), observations.shape))


class Countdown:
    """Episodes of 2 to 5 steps, by their seed; only the infos say how many are left."""

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.left, self.length = np.zeros(num_envs), np.zeros(num_envs)

    def reset(self, *, seed=None, options=None):
        begins = options["reset_mask"]
        for row in np.flatnonzero(begins):
            self.left[row] = self.length[row] = 2 + seed[row] % 4
        left = np.where(begins, self.left, 0.0)  # says nothing of the other rows
        return self.observations(), {"left": left, "_left": begins, "length": left}

    def step(self, actions):
        self.left = np.maximum(self.left - 1, 0)
        infos = {"left": self.left.copy(), "_left": np.ones(self.num_envs, np.bool_)}
        nobody = np.zeros(self.num_envs, np.bool_)
        return self.observations(), actions.astype(float), self.left == 0, nobody, infos

    def observations(self):
        return np.zeros((self.num_envs, 1), np.float32)

    def case(self, row):
        return {"length": int(self.length[row])}


class ActsOnInfos:
    """Plays how many steps are left, -1 where nobody says it."""

    name = "acts_on_infos"

    def __init__(self, env):
        self.lengths = []

    def reset(self, rows, seeds):
        pass

    def act(self, observations, rewards, infos):
        self.lengths.append(infos.get("length", np.zeros(len(rewards))).copy())
        return np.where(infos["_left"], infos["left"], -1).astype(np.int64)


def test_equals_the_slow_obvious_loop():
    plan = [PlannedEpisode(seed) for seed in (5, 6)]
    env = ABRVectorEnv(2, autoreset_mode="Disabled")
    for episode, planned in zip(rollout(BBA(env), env, plan).episodes, plan, strict=True):
        scalar = gym.make("NetLLM-ABR-v0")
        observation, _ = scalar.reset(seed=planned.seed)
        policy = BBA(scalar.unwrapped)
        for step in range(47):
            np.testing.assert_array_equal(episode.observations[step], observation)
            action = policy.act(observation[None], np.zeros(1), {})[0]
            assert episode.actions[step] == action
            observation, reward, terminated, _, info = scalar.step(action)
            assert episode.rewards[step] == reward
            assert episode.infos["buffer_s"][step] == info["buffer_s"]
        assert terminated
        assert episode.num_steps == 47
        assert episode.terminated
        assert not episode.truncated
        assert episode.seed == planned.seed
        assert episode.case["trace"] == f"synthetic-{scalar.unwrapped.trace_index[0]:03d}"


@pytest.mark.parametrize("rows", [1, 3, 8, 20])
def test_episodes_do_not_depend_on_how_many_are_played_side_by_side(rows):
    plan = [PlannedEpisode(seed) for seed in range(8)]
    env = ABRVectorEnv(rows, noise=True, autoreset_mode="Disabled")
    found = rollout(Random(env), env, plan).episodes
    alone = ABRVectorEnv(1, noise=True, autoreset_mode="Disabled")
    for episode, planned in zip(found, plan, strict=True):
        expected = rollout(Random(alone), alone, [planned]).episodes[0]
        np.testing.assert_array_equal(episode.observations, expected.observations)
        np.testing.assert_array_equal(episode.actions, expected.actions)
        np.testing.assert_array_equal(episode.rewards, expected.rewards)
        assert episode.case == expected.case


@pytest.mark.parametrize("rows", [1, 2, 3, 9])
def test_rows_that_play_on_keep_their_infos_when_others_begin(rows):
    plan = [PlannedEpisode(seed) for seed in (3, 0, 2, 1, 0, 0, 3)]
    env = Countdown(rows)
    found = rollout(ActsOnInfos(env), env, plan).episodes
    for episode, planned in zip(found, plan, strict=True):
        length = 2 + planned.seed % 4
        assert episode.actions.tolist() == list(range(length, 0, -1))
        assert episode.infos["left"].tolist() == list(range(length - 1, -1, -1))
        assert episode.case == {"length": length}


def test_column_of_a_reset_speaks_only_of_the_rows_that_began():
    env = Countdown(2)
    policy = ActsOnInfos(env)
    rollout(policy, env, [PlannedEpisode(seed) for seed in (2, 0, 1)])  # 4, 2 and 3 steps
    told = [lengths.tolist() for lengths in policy.lengths]
    assert told == [[4, 2], [0, 0], [0, 3], [0, 0], [0, 0]]


def test_warm_up_decides_once():
    env = ABRVectorEnv(1, autoreset_mode="Disabled")
    policy = Recorder(env)
    warm_up(policy, env, PlannedEpisode(7))
    assert policy.told == [("reset", [0], [7]), ("act", np.zeros(1))]


def test_policy_is_told_of_beginnings_and_ends_in_order():
    env = ABRVectorEnv(2, autoreset_mode="Disabled")
    policy = Recorder(env)
    plan = [
        PlannedEpisode(40, {"trace": 3}),
        PlannedEpisode(41, {"trace": 2}),
        PlannedEpisode(42, {"trace": 1}),
    ]
    done = []
    played = rollout(policy, env, plan, lambda *counts: done.append(counts))
    assert [episode.case["trace"][-1] for episode in played.episodes] == ["3", "2", "1"]
    # After 47 steps of two rows two episodes are done, after 47 of one row the third.
    assert (done[0], done[46], done[-1]) == ((0, 2), (2, 94), (3, 141))
    told = [note for note in policy.told if note[0] != "act"]
    assert told == [
        ("reset", [0, 1], [40, 41]),
        ("end", [0, 1], (2, 6, 6)),
        ("reset", [0], [42]),
        ("end", [0], (1, 6, 6)),
    ]
    rewards = [note[1] for note in policy.told if note[0] == "act"]
    assert len(rewards) == 2 * 47
    assert not rewards[0].any()
    assert rewards[47][0] == 0.0  # a new episode owes nothing to the last one
    np.testing.assert_array_equal(
        rewards[1], [episode.rewards[0] for episode in played.episodes[:2]]
    )
    assert played.decision_s > 0


def test_plan_must_name_the_same_options():
    env = ABRVectorEnv(2, autoreset_mode="Disabled")
    plan = [PlannedEpisode(1), PlannedEpisode(2, {"trace": 1})]
    with pytest.raises(InputError, match="planned episodes must name the same options"):
        rollout(BBA(env), env, plan)
