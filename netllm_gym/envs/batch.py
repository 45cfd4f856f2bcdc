"""Batches of episodes: what a problem brings to its environments, and what all batches share.

A batch holds N independent episodes as rows of arrays and takes a step in all of them in one call.
The scalar environment is a batch of one row and the vector environment a batch of N rows of the
same class (see `rows.py`), so both play the same episodes, bit for bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from netllm_gym.arrays import BoolArray, FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.randomness import GAMMA, keys_of_seeds, mix64


class Outcome(NamedTuple):
    """What a batch returns from `begin` and `step`; every array is new."""

    observation: Any  # (N, ...) what each row sees now: an array, a dict of them, or a ragged view
    reward: FloatArray  # (N,) of the step; 0 in rows that did not take one
    terminated: BoolArray  # (N,)
    truncated: BoolArray  # (N,)
    info: Mapping[str, Any]  # columns (N, ...)
    where: Mapping[str, BoolArray] = {}  # (N,) rows for which a column is valid; absent: all


class RowBatch(ABC):
    """N episodes of one problem; a problem's batch derives from it.

    A subclass sets both spaces and `option_names`, and implements `done`, `begin` and `step`. The
    random numbers of an episode should be a function of its key (see `netllm_gym.randomness`),
    which `renew_keys` derives from its seed: then the episode depends on nothing else.

    Args:
        num_rows: N.

    Attributes:
        num_rows: N.
        observation_space: Space of the observation of one row.
        action_space: Space of the action of one row.
        option_names: What `reset(options=...)` takes to choose episodes.
        keys: (N,) uint64 key of each row's episode; 0 before the first one.
    """

    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    option_names: tuple[str, ...] = ()

    def __init__(self, num_rows: int) -> None:
        self.num_rows = whole_from("num_envs", num_rows, 1)
        self.keys: NDArray[np.uint64] = np.zeros(num_rows, np.uint64)

    @property
    @abstractmethod
    def done(self) -> BoolArray:
        """(N,) whether each row's episode is over, or has not begun."""

    def stop(self, rows: BoolArray) -> None:
        """End the episodes of some rows before their time, so that `done` says so.

        Raises:
            InputError: If the batch cannot; one that can overrides this.
        """
        raise InputError("max_episode_steps must be left out where episodes cannot be cut short")

    @abstractmethod
    def begin(
        self,
        begins: BoolArray,
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,
    ) -> Outcome:
        """Begin an episode in some rows; the others stay as they are.

        Args:
            begins: (N,) rows in which an episode begins.
            seeds: (N,) seed of each episode; None continues the row's own sequence of episodes.
            options: Those of `reset`: one number or (N,) numbers for each of `option_names`.
            generator: Source of the first episode of rows that never had a seed.

        Returns:
            What all rows see now, those included that stay as they are.
        """

    @abstractmethod
    def step(self, actions: ArrayLike) -> Outcome:
        """Take one step in every row that is not done; the others stay as they are.

        Args:
            actions: (N, ...) actions of the action space.
        """

    def renew_keys(
        self, begins: BoolArray, seeds: Sequence[int | None], generator: np.random.Generator
    ) -> None:
        """Give each episode that begins its key; the arguments are those of `begin`."""
        fresh = begins & (self.keys == 0)
        if fresh.any():
            drawn = generator.integers(0, 2**31, self.num_rows)
            self.keys[fresh] = keys_of_seeds(drawn)[fresh]
        seeded = np.array([seed is not None for seed in seeds])
        continued = begins & ~seeded & ~fresh
        self.keys[continued] = mix64(self.keys[continued] + GAMMA)
        named = begins & seeded
        if named.any():
            plain = [0 if seed is None else int(seed) % 2**63 for seed in seeds]
            self.keys[named] = keys_of_seeds(plain)[named]

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse an option of `reset` that this batch does not have."""
        unknown = sorted(set(options) - {*self.option_names, "reset_mask"})
        if unknown:
            known = ", ".join(self.option_names)
            raise InputError(f"options must be {known} or reset_mask, got {unknown[0]}")

    def whole_per_row(
        self, name: str, value: ArrayLike, low: int = -(2**63), high: int = 2**63 - 1
    ) -> IntArray:
        """Return (N,) the value of an option, which is one whole number or one per row.

        Args:
            name: Of the option.
            value: What was given.
            low: Smallest number that is allowed.
            high: Largest.
        """
        numbers = np.asarray(value)
        if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (self.num_rows,)):
            raise InputError(
                f"{name} must be one whole number or one per row, {self.num_rows} in all, "
                f"got {value!r}"
            )
        check_within(f"{name} must be in", numbers.ravel(), low, high)
        return np.broadcast_to(numbers.astype(np.int64), self.num_rows)


def whole_from(name: str, value: Any, low: int) -> int:
    """Return a whole number that is at least `low`; refuse others, and what is no whole number."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    if value < low:
        raise InputError(f"{name} must be at least {low}, got {value}")
    return int(value)


def whole_actions(actions: ArrayLike, shape: tuple[int, ...]) -> IntArray:
    """Return actions as int64; refuse another shape or a type that is not whole numbers."""
    numbers = np.asarray(actions)
    if numbers.shape != shape or numbers.dtype.kind not in "iu":
        wanted = (
            f"{shape[0]} whole numbers" if len(shape) == 1 else f"whole numbers of shape {shape}"
        )
        raise InputError(f"actions must be {wanted}, got shape {numbers.shape} of {numbers.dtype}")
    return numbers.astype(np.int64)


def check_within(rule: str, numbers: NDArray[Any], low: int, high: int) -> None:
    """Refuse numbers below `low` or above `high`.

    Args:
        rule: Beginning of the message, as "action must be a rung in".
        numbers: At least one.
        low: Smallest that is allowed.
        high: Largest that is allowed.
    """
    if numbers.min() < low or numbers.max() > high:
        wrong = numbers[(numbers < low) | (numbers > high)][0]
        raise InputError(f"{rule} {low}..{high}, got {wrong}")
