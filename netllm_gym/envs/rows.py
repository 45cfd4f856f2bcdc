"""N environments of one problem as rows of one batch: what every native vector environment shares.

A problem brings a batch that begins and steps all rows in one call; here are seeds, masks and
Gymnasium's three autoreset modes, once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from netllm_gym.arrays import BoolArray, FloatArray
from netllm_gym.errors import InputError
from netllm_gym.randomness import GAMMA, keys_of_seeds, mix64


class Outcome(NamedTuple):
    """What one call of a kernel gave; every array is new."""

    observation: Any  # (N, ...) what each row sees now: an array, a dict of them, or a ragged view
    reward: FloatArray  # (N,) of the step; 0 in rows that stood still or began
    terminated: BoolArray  # (N,)
    truncated: BoolArray  # (N,)
    info: Mapping[str, Any]  # columns (N, ...)
    where: Mapping[str, BoolArray] = {}  # (N,) rows that a column says something of; absent: all


class RowBatch(Protocol):
    """What the vector environment needs of a problem's batch."""

    @property
    def done(self) -> BoolArray:
        """(N,) whether each row's episode is over, or has not begun."""

    def begin(
        self,
        begins: BoolArray,
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,
    ) -> Outcome:
        """Begin an episode in some rows; the others stand still."""

    def step(self, actions: Any) -> Outcome:
        """Take one step in every row that is not done; the others stand still."""


class RowVectorEnv(VectorEnv[Any, Any, Any]):
    """A native vector environment over a batch; subclasses set the spaces.

    Row i of `reset(seed=s)` plays the episodes of the scalar environment's `reset(seed=s + i)`, bit
    for bit, whatever the other rows do.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012
    batch: RowBatch

    def _set_modes(
        self, num_envs: int, autoreset_mode: AutoresetMode | str, render_mode: str | None
    ) -> None:
        """Check and keep what is common to all problems."""
        if render_mode is not None:
            raise InputError(
                f"render_mode must be None for many rows in one call, got {render_mode!r}: "
                'make the scalar environments with vectorization_mode="sync"'
            )
        self.render_mode = render_mode
        self.num_envs = num_envs
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every row, or in those of `options["reset_mask"]`."""
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
        begins = np.ones(self.num_envs, np.bool_)
        if options and "reset_mask" in options:
            begins = np.asarray(options["reset_mask"])
            if begins.shape != (self.num_envs,) or begins.dtype != np.bool_ or not begins.any():
                raise InputError(
                    f"reset_mask must be {self.num_envs} booleans, one of them true, got {begins!r}"
                )
        outcome = self.batch.begin(begins, self._row_seeds(seed), options, self.np_random)
        return outcome.observation, _infos(outcome, begins)

    def step(self, actions: Any) -> tuple[Any, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Take one step in every row."""
        ended_before = self.batch.done
        outcome = self.batch.step(actions)
        terminated, truncated, infos = outcome.terminated, outcome.truncated, {}
        reward = outcome.reward
        begins = np.zeros(self.num_envs, np.bool_)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            begins = ended_before  # these rows stood still above
            terminated, truncated = terminated & ~begins, truncated & ~begins
        elif self.autoreset_mode is AutoresetMode.SAME_STEP:
            begins = terminated | truncated
        if begins.any():
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                infos = _final(outcome, begins)
            begun = self.batch.begin(begins, [None] * self.num_envs, None, self.np_random)
            outcome = _merge(outcome, begun, begins)
        infos |= _infos(outcome, np.ones(self.num_envs, np.bool_))
        return outcome.observation, reward, terminated, truncated, infos

    def _row_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise InputError(f"seed must be one number or {self.num_envs}, got {len(seed)}")
        return seed


def _infos(outcome: Outcome, present: BoolArray) -> dict[str, Any]:
    """Return columns with Gymnasium's `_key` masks."""
    infos: dict[str, Any] = {}
    for key, column in outcome.info.items():
        infos[key], infos[f"_{key}"] = column, present & outcome.where.get(key, present)
    return infos


def _merge(outcome: Outcome, begun: Outcome, begins: BoolArray) -> Outcome:
    """Return an outcome that is `begun` in the rows that begin and `outcome` in the others.

    A column that one of the two lacks is zero, and its mask false, in the rows of that one.
    """
    info: dict[str, Any] = {}
    where: dict[str, BoolArray] = {}
    everywhere, nowhere = np.ones_like(begins), np.zeros_like(begins)
    for key in {**outcome.info, **begun.info}:
        old, new = outcome.info.get(key), begun.info.get(key)
        known = old if new is None else new
        wide = begins.reshape(-1, *(1,) * (np.asarray(known).ndim - 1))
        info[key] = np.where(wide, 0 if new is None else new, 0 if old is None else old)
        before = nowhere if old is None else outcome.where.get(key, everywhere)
        after = nowhere if new is None else begun.where.get(key, everywhere)
        if not (before.all() and after.all()):
            where[key] = np.where(begins, after, before)
    return outcome._replace(observation=begun.observation, info=info, where=where)


def _final(outcome: Outcome, ended: BoolArray) -> dict[str, Any]:
    """Return what SAME_STEP says of the episodes that just ended, before their rows go on."""
    final_obs = np.full(len(ended), None, dtype=object)
    for row in np.flatnonzero(ended):
        final_obs[row] = row_of(outcome.observation, int(row))
    info = {
        key: np.where(ended.reshape(-1, *(1,) * (np.ndim(column) - 1)), column, 0.0)
        for key, column in outcome.info.items()
    }
    last = _infos(outcome._replace(info=info), ended)
    return {"final_obs": final_obs, "_final_obs": ended, "final_info": last, "_final_info": ended}


def scalar_info(outcome: Outcome) -> dict[str, Any]:
    """Return the info of a batch of one: what is said of its row, as plain numbers or arrays."""
    return {
        key: column[0].item() if column.ndim == 1 else column[0]
        for key, column in outcome.info.items()
        if key not in outcome.where or outcome.where[key][0]
    }


def row_of(observation: Any, row: int) -> Any:
    """Return a copy of what one row sees."""
    if isinstance(observation, dict):
        return {key: each[row].copy() for key, each in observation.items()}
    part = observation[row]
    return part.copy() if isinstance(part, np.ndarray) else part  # of a ragged view it is a copy


def next_keys(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the keys of the episodes that follow, where no seed names them."""
    return np.asarray(mix64(keys + GAMMA), np.uint64)


def keys_of(seeds: Sequence[int | None]) -> NDArray[np.uint64]:
    """Return the key of each seed; where there is none, anything."""
    return keys_of_seeds([0 if seed is None else int(seed) % 2**63 for seed in seeds])
