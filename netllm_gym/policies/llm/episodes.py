"""The training set in memory: whole episodes as padded arrays, ready to be batched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from netllm_gym.errors import InputError
from netllm_gym.policies.llm.returns import ReturnSpec


class PlayedEpisode(Protocol):
    """What is read of an episode of a pool."""

    @property
    def observations(self) -> NDArray[Any]:
        """(T, ...) what the policy saw before each action."""

    @property
    def actions(self) -> NDArray[np.int64]:
        """(T,)."""

    @property
    def rewards(self) -> NDArray[np.float64]:
        """(T,)."""

    @property
    def policy(self) -> str:
        """Who played."""

    @property
    def seed(self) -> int:
        """Of the episode."""


@dataclass(frozen=True, eq=False)
class TrainingEpisodes:
    """E episodes, right-padded to the longest.

    Attributes:
        observations: (E, T, ...) float32.
        actions: (E, T) int64.
        rewards: (E, T) float64.
        mask: (E, T) bool, the steps that were played.
        policies: (E,) who played.
        seeds: (E,) equal for episodes on the same network from the same start.
        weights: (E,) how often an episode is drawn, relative to the others; None for equal.
    """

    observations: NDArray[np.float32]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    mask: NDArray[np.bool_]
    policies: NDArray[np.str_]
    seeds: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        E, T = self.actions.shape
        shapes = {
            "observations": (self.observations.shape[:2], (E, T)),
            "rewards": (self.rewards.shape, (E, T)),
            "mask": (self.mask.shape, (E, T)),
            "policies": (self.policies.shape, (E,)),
            "seeds": (self.seeds.shape, (E,)),
        }
        if self.weights is not None:
            shapes["weights"] = (self.weights.shape, (E,))
        for name, (got, wanted) in shapes.items():
            if got != wanted:
                raise InputError(f"{name} must have the shape {wanted}, got {got}")
        if not len(self) or not self.mask[:, 0].all():
            raise InputError("episodes must have at least one step each, got none in some or all")

    def __len__(self) -> int:
        return len(self.actions)

    @classmethod
    def of(
        cls,
        episodes: Sequence[PlayedEpisode],
        seeds: NDArray[np.int64] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> "TrainingEpisodes":
        """Pad a pool's episodes.

        Args:
            episodes: Read once, in order.
            seeds: (E,) which episodes share network and start, if their own seeds do not say.
            weights: (E,) how often each is drawn, relative to the others.
        """
        read = list(episodes)
        if not read:
            raise InputError("pool must hold an episode, got none")
        longest = max(len(each.actions) for each in read)
        shape = read[0].observations.shape[1:]
        observations = np.zeros((len(read), longest, *shape), np.float32)
        actions = np.zeros((len(read), longest), np.int64)
        rewards = np.zeros((len(read), longest))
        mask = np.zeros((len(read), longest), np.bool_)
        for row, each in enumerate(read):
            steps = len(each.actions)
            observations[row, :steps] = each.observations
            actions[row, :steps], rewards[row, :steps] = each.actions, each.rewards
            mask[row, :steps] = True
        own = np.array([each.seed for each in read], np.int64)
        return cls(
            *(observations, actions, rewards, mask, np.array([each.policy for each in read])),
            seeds=own if seeds is None else np.asarray(seeds, np.int64),
            weights=weights,
        )

    def fit(self, returns: ReturnSpec) -> ReturnSpec:
        """Return the spec with the constants of these episodes."""
        return returns.fit(self.rewards, self.mask, self.policies, self.seeds)

    def returns(self, spec: ReturnSpec) -> NDArray[np.float32]:
        """Return (E, T) return tokens."""
        return spec.tokens(self.rewards, self.mask, self.policies, self.seeds)

    def batch(
        self, rows: NDArray[np.int64], returns: NDArray[np.float32], device: str = "cpu"
    ) -> dict[str, Tensor]:
        """Return the episodes of some rows as the model's batch.

        Args:
            rows: (B,) which episodes.
            returns: (E, T) return tokens of all of them.
            device: Where the tensors go.

        Returns:
            observations (B, T, ...), actions, returns, timesteps and mask (B, T).
        """
        mask = self.mask[rows]
        longest = int(mask.sum(axis=1).max())
        steps = np.broadcast_to(np.arange(longest), (len(rows), longest))
        arrays = {
            "observations": self.observations[rows, :longest],
            "actions": self.actions[rows, :longest],
            "returns": returns[rows, :longest],
            "timesteps": np.ascontiguousarray(steps),
            "mask": mask[:, :longest],
        }
        return {name: torch.from_numpy(each).to(device) for name, each in arrays.items()}


class EpisodeSampler:
    """Which episodes each update sees, as a pure function of seed and position.

    Without weights every pass over the pool is one shuffle of it; with weights episodes are drawn
    with replacement. Nothing is remembered, so resuming needs no state.
    """

    def __init__(self, episodes: TrainingEpisodes, seed: int) -> None:
        self._count, self._weights, self._seed = len(episodes), episodes.weights, seed
        self._shuffles: dict[int, NDArray[np.int64]] = {}

    def rows(self, start: int, count: int) -> NDArray[np.int64]:
        """Return (count,) episodes for draws start, start + 1, ..."""
        if self._weights is not None:
            generator = np.random.default_rng([self._seed, start])
            share = self._weights / self._weights.sum()
            return generator.choice(self._count, count, p=share).astype(np.int64)
        draws = np.arange(start, start + count)
        return np.array(
            [self._shuffle(int(draw) // self._count)[draw % self._count] for draw in draws]
        )

    def _shuffle(self, turn: int) -> NDArray[np.int64]:
        if turn not in self._shuffles:
            generator = np.random.default_rng([self._seed, turn])
            self._shuffles = {
                key: value for key, value in self._shuffles.items() if key == turn - 1
            }
            self._shuffles[turn] = generator.permutation(self._count)
        return self._shuffles[turn]
