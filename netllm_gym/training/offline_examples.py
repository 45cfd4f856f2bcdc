"""A pool's decisions as rows of fixed size, and the batches that are cut from them.

Rows are the real steps, those of the first episode first. A decision that has no action in the
fixed set of the problem, or one that may not be chosen there, is left out; as the step before, and
within the context of another, it stays.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from netllm_gym.arrays import BoolArray, Float32Array, IntArray
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.policies.offline.config import OfflineConfig
from netllm_gym.policies.offline.parts import parts_of
from netllm_gym.policies.offline.policy import timesteps_of
from netllm_gym.pools.windows import PaddedEpisodes, draw_windows

ROWS_AT_ONCE = 4096  # whose features are made together


class Counts(NamedTuple):
    """What became of a pool's decisions."""

    decisions: int
    exact: int  # whose action does just what the teacher did
    left_out: int  # not learned from


@dataclass(frozen=True, eq=False)
class Examples:
    """S decisions of a pool."""

    features: Float32Array  # (S, D)
    actions: IntArray  # (S,) of the fixed set; 0 where there is none
    rewards: Float32Array  # (S,) in units of their spread
    returns: Float32Array  # (S,) return tokens
    step: IntArray  # (S,) within its episode
    is_last: BoolArray  # (S,) whether the episode ends with it
    learned: IntArray  # (K,) rows that are learned from; the last ones of a window
    counts: Counts  # what became of the decisions

    @classmethod
    def of(cls, episodes: PaddedEpisodes, config: OfflineConfig) -> "Examples":
        """Take the episodes apart; refuse those of which no decision can be learned."""
        parts, seen, mask = parts_of(config.problem), episodes.seen, episodes.mask
        # Returns and rewards belong to what was done, so only cloning may learn what was not.
        decisions = (episodes.targets if config.method == "bc" else episodes.actions)[mask]
        features = np.empty((len(decisions), config.num_features), np.float32)
        actions = np.empty(len(decisions), np.int64)
        is_exact, is_allowed = np.empty((2, len(decisions)), np.bool_)
        for begin in range(0, len(decisions), ROWS_AT_ONCE):
            rows = np.arange(begin, min(begin + ROWS_AT_ONCE, len(decisions)))
            with errors_begin_with(episodes.source):
                told = parts.taught(config, seen[rows], decisions[rows])
            features[rows], actions[rows] = told.features, told.actions
            is_exact[rows], is_allowed[rows] = told.is_exact, told.is_allowed
        rewards = episodes.rewards[mask]
        spread = float(rewards.std())
        step = episodes.timesteps[mask]
        is_last = np.append(step[1:] == 0, True)
        has_action = actions >= 0
        learned = np.flatnonzero(
            _whole_windows(has_action, step, config.context_steps)
            if config.method == "dt"
            else has_action & is_allowed
        )
        if not len(learned):
            raise InputError(f"pool must hold a decision that {config.method} can learn, got none")
        return cls(
            features=features,
            actions=np.maximum(actions, 0),
            rewards=(rewards / (spread if spread > 1e-9 else 1.0)).astype(np.float32),
            returns=config.returns.tokens(episodes)[mask].astype(np.float32),
            step=step,
            is_last=is_last,
            learned=learned,
            counts=Counts(len(decisions), int(is_exact.sum()), len(decisions) - len(learned)),
        )

    def batch(self, config: OfflineConfig, seed: int, update: int, size: int) -> dict[str, Tensor]:
        """Cut the batch of an update: every decision is learned once before any is again."""
        rows = self.learned[draw_windows(len(self.learned), seed, update, size)]
        if config.method == "dt":
            return self._windows(rows, config.context_steps, config.max_steps)
        return self._transitions(rows)

    def _transitions(self, rows: IntArray) -> dict[str, Tensor]:
        """Return each row and the one after it, as d3rlpy names them."""
        after = np.where(self.is_last[rows], rows, rows + 1)
        return _tensors(
            observations=self.features[rows],
            actions=self.actions[rows, None].astype(np.float32),
            rewards=self.rewards[rows, None],
            next_observations=self.features[after],
            next_actions=self.actions[after, None].astype(np.float32),
            returns_to_go=self.returns[rows, None],
            terminals=self.is_last[rows, None].astype(np.float32),
            intervals=np.ones((len(rows), 1), np.float32),
        )

    def _windows(self, rows: IntArray, num_steps: int, max_steps: int) -> dict[str, Tensor]:
        """Return the steps up to each row, zeros before an episode's first, as d3rlpy does."""
        back = np.arange(1 - num_steps, 1)  # (T,)
        step = self.step[rows, None] + back
        mask = step >= 0
        at = np.where(mask, rows[:, None] + back, 0)
        return _tensors(
            observations=np.where(mask[..., None], self.features[at], 0).astype(np.float32),
            actions=np.where(mask, self.actions[at], 0)[..., None].astype(np.float32),
            rewards=np.where(mask, self.rewards[at], 0)[..., None].astype(np.float32),
            returns_to_go=np.where(mask, self.returns[at], 0)[..., None].astype(np.float32),
            terminals=(mask & self.is_last[at])[..., None].astype(np.float32),
            timesteps=timesteps_of(step, max_steps),
            masks=mask.astype(np.float32),
        )


def _whole_windows(has_action: BoolArray, step: IntArray, num_steps: int) -> BoolArray:
    """Return (S,) whether all steps of the window that ends there have an action."""
    missing = np.cumsum(~has_action)
    begins = np.arange(len(step)) - np.minimum(step, num_steps - 1)
    return np.asarray(missing - np.append(0, missing)[begins] == 0, np.bool_)


def _tensors(**arrays: NDArray[Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(each) for name, each in arrays.items()}
