"""What a problem brings to the offline methods: a class that its row names in `offline`.

The methods are d3rlpy's. They need observations of a fixed size and a fixed set of actions, which
a problem's class makes of its observations and decisions.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import BoolArray, Float32Array, IntArray
from netllm_gym.configs import check
from netllm_gym.errors import InputError
from netllm_gym.policies.offline.config import OfflineConfig
from netllm_gym.problems.index import find_control


class Taught(NamedTuple):
    """N decisions of a teacher."""

    features: Float32Array  # (N, D)
    actions: IntArray  # (N,) below 0 where there is none
    is_exact: BoolArray  # (N,) whether the action does exactly what the teacher did
    is_allowed: BoolArray  # (N,) whether it may be chosen


class Offered(NamedTuple):
    """N decisions to make."""

    features: Float32Array  # (N, D)
    allowed: BoolArray  # (N, A), at least one in each row
    decide: Callable[[IntArray], IntArray]  # (N,) actions -> what the environment takes


class Sizes(NamedTuple):
    """Fields of a policy's config that come from its problem, by the same names."""

    num_features: int
    num_actions: int
    max_steps: int


class ProblemParts(ABC):
    """The offline parts of a problem."""

    @abstractmethod
    def taught(self, config: OfflineConfig, observations: Any, decisions: IntArray) -> Taught:
        """Return a teacher's (N, ...) actions of the environment as actions of the fixed set."""

    @abstractmethod
    def offered(self, config: OfflineConfig, observations: Any) -> Offered:
        """Return what may be chosen in N observations."""

    @abstractmethod
    def sizes(self, env: Any, longest: int) -> Sizes:
        """Return the sizes of a policy for a vector environment and the longest episode's steps."""

    @abstractmethod
    def check_env(self, config: OfflineConfig, env: Any) -> None:
        """Raise `InputError` unless the policy can act in the environment."""


class ArrayParts(ProblemParts):
    """The parts of problems whose observations are arrays of one shape and actions one of A.

    The observation is laid flat, and every action may be chosen at any time.
    """

    def taught(self, config: OfflineConfig, observations: Any, decisions: IntArray) -> Taught:
        """Return the decisions as they are; see the base."""
        low, high, last = decisions.min(), decisions.max(), config.num_actions - 1
        if low < 0 or high > last:
            raise InputError(f"actions must be in 0..{last}, got {low}..{high}")
        always = np.ones(len(decisions), np.bool_)
        return Taught(self._features(config, observations), decisions, always, always)

    def offered(self, config: OfflineConfig, observations: Any) -> Offered:
        """Offer every action; see the base."""
        features = self._features(config, observations)
        allowed = np.ones((len(features), config.num_actions), np.bool_)
        return Offered(features, allowed, lambda actions: actions)

    def sizes(self, env: Any, longest: int) -> Sizes:
        """Return the sizes of the environment's spaces; see the base."""
        num_features = int(np.prod(env.single_observation_space.shape))
        return Sizes(num_features, int(env.single_action_space.n), longest)

    def check_env(self, config: OfflineConfig, env: Any) -> None:
        """Compare the sizes of the environment's spaces; see the base."""
        here = self.sizes(env, config.max_steps)
        for name in ("num_features", "num_actions"):
            wanted, found = getattr(config, name), getattr(here, name)
            check(wanted == found, name, f"be {wanted}, which the policy was trained for", found)

    def _features(self, config: OfflineConfig, observations: Any) -> Float32Array:
        flat = np.asarray(observations, np.float32).reshape(len(observations), -1)
        wanted, found = config.num_features, flat.shape[1]
        check(found == wanted, "observations", f"have {wanted} numbers", found)
        return flat


def parts_of(problem: str) -> ProblemParts:
    """Return the offline parts of a control problem; raise `InputError` if its row names none."""
    parts: ProblemParts = find_control(problem).part("offline", ProblemParts)
    return parts
