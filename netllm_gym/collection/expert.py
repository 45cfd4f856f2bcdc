"""Episodes of one policy, labelled with the actions that an expert would have taken.

A policy that imitates the expert's answers in the states that it reaches itself learns how to
recover from its own mistakes, which an expert's own episodes do not show.

Source: Ross, Gordon and Bagnell, A Reduction of Imitation Learning and Structured Prediction to
No-Regret Online Learning (DAgger, AISTATS 2011).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.policies.policy import Policy
from netllm_gym.pools.episode import Episode


class ExpertLabelledPolicy:
    """A policy that plays, and an expert that is shown the same and asked what it would do.

    Keeps the protocol of `policies/policy.py`.

    Args:
        player: The policy that decides.
        expert: The policy that is asked.
    """

    def __init__(self, player: Policy, expert: Policy) -> None:
        self.name, self._player, self._expert = player.name, player, expert
        self._answers: dict[int, list[Any]] = {}  # seed of an episode -> answer at each step
        self._seed: dict[int, int] = {}  # row -> seed of its episode

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Begin episodes of player and expert."""
        self._player.reset(rows, seeds)
        self._expert.reset(rows, seeds)
        for row, seed in zip(rows.tolist(), seeds.tolist(), strict=True):
            self._seed[row], self._answers[seed] = seed, []

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> Any:
        """Return the player's actions; keep the expert's."""
        answers = np.asarray(self._expert.act(observations, rewards, infos), np.int64)
        for row, seed in self._seed.items():
            self._answers[seed].append(answers[row])
        return self._player.act(observations, rewards, infos)

    def end(self, rows: IntArray, observations: Any) -> None:
        """Tell player and expert that episodes ended, if they want to know."""
        for policy in (self._player, self._expert):
            if hasattr(policy, "end"):
                policy.end(rows, observations)

    def answered(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Return the episodes that were played, with the expert's answers."""
        return [
            replace(
                episode,
                expert_actions=np.stack(self._answers[episode.seed])[: len(episode.rewards)],
            )
            for episode in episodes
        ]
