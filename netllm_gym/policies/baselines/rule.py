"""What rules, planners and bounds have in common."""

from collections.abc import Mapping
from typing import Any

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.envs.rows import num_rows_of
from netllm_gym.randomness import EpisodeDraws


class Rule:
    """A policy whose actions follow from the observations; see the protocol `Policy`.

    It is made for a vector or scalar environment. Subclasses implement `choose`; those that
    remember something override `reset`.
    """

    sees_native = True  # the observations of its problem, which need not be padded

    def __init__(self, env: Any) -> None:
        pass

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Begin new episodes in the (K,) rows, of which nothing is remembered."""

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        """Return (N, ...) actions."""
        return self.choose(observations)

    def choose(self, observations: Any) -> IntArray:
        """Return (N, ...) actions, one per row of the observations."""
        raise NotImplementedError


class DrawingRule(Rule):
    """A rule that draws random numbers, which depend on the episode's seed and the step alone."""

    name = "random"

    def __init__(self, env: Any) -> None:
        self.draws = EpisodeDraws(num_rows_of(env))

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Restart the draws of the (K,) rows from the seeds of their episodes."""
        self.draws.reset(rows, seeds)
