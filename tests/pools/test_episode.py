"""An episode refuses what is not one, with the value."""

import dataclasses

import numpy as np
import pytest

from netllm_gym.errors import InputError
from tests.pools.made import made_episode


def test_return_is_the_plain_sum():
    episode = dataclasses.replace(made_episode(num_steps=3), rewards=np.array([1.0, -2.5, 4.0]))
    assert (episode.num_steps, episode.rewards.sum()) == (3, 2.5)


def test_an_episode_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        made_episode().terminated = False


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rewards": np.zeros(0)}, r"rewards must have shape \(T,\), T >= 1, got \(0,\)"),
        ({"rewards": np.zeros((5, 1))}, r"rewards must have shape .* got \(5, 1\)"),
        ({"rewards": np.zeros(5, np.float32)}, "rewards must be an array of float64, got float32"),
        ({"rewards": [1.0] * 5}, "rewards must be an array of float64, got .*list"),
        ({"rewards": np.array([0, 1, np.nan, 0, 0])}, "rewards must be finite, got nan at step 2"),
        ({"actions": np.zeros(4, np.int64)}, r"actions must have 5 steps as rewards, got \(4,\)"),
        ({"actions": np.zeros(5)}, "actions must be an array of int64, got float64"),
        ({"actions": np.array(3)}, r"actions must have 5 steps as rewards, got \(\)"),
        ({"expert_actions": np.zeros(4, np.int64)}, "expert_actions must have 5 steps as rewards"),
        ({"expert_actions": np.zeros((5, 2), np.int64)}, r"must have shape \(5,\) as actions, got"),
        ({"expert_actions": np.zeros(5)}, "expert_actions must be an array of int64, got float64"),
        ({"observations": np.zeros((6, 6, 6))}, r"observations must have 5 steps .* got \(6, 6, 6"),
        ({"infos": {"qoe": np.zeros(4)}}, r"infos\['qoe'\] must have 5 steps as rewards"),
        ({"infos": {"qoe": np.zeros((5, 2))}}, r"infos\['qoe'\] must have shape \(T,\)"),
        ({"infos": {"../qoe": np.zeros(5)}}, "names in infos must be identifiers, got '../qoe'"),
        (
            {"terminated": False, "truncated": False},
            "must end terminated or truncated, got neither",
        ),
        ({"policy": ""}, "policy must be a name, got ''"),
        ({"seed": -1}, "seed must be a whole number in 0.*, got -1"),
        ({"seed": 2**63}, "seed must be a whole number in 0.*, got 9223372036854775808"),
        ({"seed": True}, "seed must be a whole number in 0.*, got True"),
        ({"case": {"trace": 1.5}}, r"case\['trace'\] must be text or a whole number .* got 1.5"),
        ({"case": {"a b": 1}}, "names in case must be identifiers, got 'a b'"),
    ],
)
def test_what_is_no_episode_is_refused(change, sentence):
    with pytest.raises(InputError, match=sentence):
        dataclasses.replace(made_episode(seed=1, num_steps=5), **change)


def test_both_ends_at_once_are_allowed_and_kept_apart():
    episode = dataclasses.replace(made_episode(), terminated=True, truncated=True)
    assert episode.terminated
    assert episode.truncated
