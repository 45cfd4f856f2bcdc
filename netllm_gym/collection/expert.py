"""What an expert would have done: asked at every step of another policy's episode.

Whoever imitates learns the expert's answers where the learner itself went, not where the expert
would have gone, and so how to come back from its own mistakes.

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
    """A policy that plays, and an expert that sees all that it sees and says what it would do.

    Keeps `policies/policy.py`'s protocol.

    Args:
        player: Decides.
        expert: Is asked.
    """

    def __init__(self, player: Policy, expert: Policy) -> None:
        self.name, self._player, self._expert = player.name, player, expert
        self._answers: dict[int, list[Any]] = {}  # seed of an episode -> answer at each step
        self._seed: dict[int, int] = {}  # row -> seed of what it plays

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Begin episodes, the player's and the expert's."""
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
        """Tell a player that wants to know that its episodes ended."""
        if hasattr(self._player, "end"):
            self._player.end(rows, observations)

    def answered(self, episodes: Sequence[Episode]) -> list[Episode]:
        """Return the episodes that were played, with the expert's answers."""
        return [
            replace(
                episode,
                expert_actions=np.stack(self._answers[episode.seed])[: len(episode.rewards)],
            )
            for episode in episodes
        ]
