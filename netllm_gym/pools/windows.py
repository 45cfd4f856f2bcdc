"""Training data made from episodes: returns-to-go, padded arrays, windows and batches.

A window lies inside one episode. If the episode ends first, the window is padded on the right and
masked, so that short contexts are trained too and no window spans two episodes. Observations of
varying size are never padded: they remain rows one after the other, and the mask says which steps
they belong to.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import NotRequired, TypedDict  # in Python itself from 3.11 on

from netllm_gym.arrays import BoolArray, Float32Array, FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.pools.episode import Episode
from netllm_gym.pools.pool import ExperiencePool
from netllm_gym.pools.shard import begins_of


@dataclass(frozen=True, eq=False)
class PaddedEpisodes:
    """E episodes as dense arrays, each padded with zeros on the right to the longest, T.

    Attributes:
        observations: (E, T, ...) as the policies saw them; for ABR (E, T, 6, W) float32. Of
            varying size: one row for each real step, those of the first episode first, unpadded;
            for CJS a `ClusterView`.
        actions: (E, T) int64, or (E, T, parts).
        rewards: (E, T) float64.
        mask: (E, T) bool, True where a step is real.
        policies: Names of all policies.
        policy: (E,) index into `policies`.
        seed: (E,) int64.
        cases: The case of each episode.
        values: (E, T, A) value of each action; None if the pool has no such values. See
            `collection/lookahead.py`.
        expert_actions: The action of the expert in each step, shaped as `actions`. In episodes in
            which no expert was asked it is the action that was taken. None if no expert was asked
            in any episode.
        source: What errors call them.
    """

    observations: Any
    actions: IntArray
    rewards: FloatArray
    mask: BoolArray
    policies: tuple[str, ...]
    policy: IntArray
    seed: IntArray
    cases: tuple[Mapping[str, str | int], ...]
    values: FloatArray | None = None
    expert_actions: IntArray | None = None
    source: str = "the episodes"

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> "PaddedEpisodes":
        """Pad episodes that are in memory."""
        return cls._fill(episodes, [episode.num_steps for episode in episodes])

    @classmethod
    def from_pools(
        cls, pools: Sequence[ExperiencePool], policies: Collection[str] | None = None
    ) -> "PaddedEpisodes":
        """Pad the episodes of pools, one pool after the other, shard by shard.

        `policies` keeps only the episodes of these; None keeps all.
        """
        there = sorted({name for pool in pools for name in pool.policies})
        for name in policies or ():
            if name not in there:
                raise InputError(f"policies must be in the pool ({', '.join(there)}), got {name!r}")
        lengths: list[int] = []
        for pool in pools:
            wanted = [policies is None or name in policies for name in pool.policies]
            found = pool.columns("lengths", "policy")
            lengths += found["lengths"][np.array(wanted, np.bool_)[found["policy"]]].tolist()
        chosen = (
            episode
            for pool in pools
            for episode in pool.episodes
            if policies is None or episode.policy in policies
        )
        return cls._fill(chosen, lengths)

    @classmethod
    def _fill(cls, episodes: Iterable[Episode], lengths: Sequence[int]) -> "PaddedEpisodes":
        if not lengths:
            raise InputError("episodes must be at least one, got none")
        shape = (len(lengths), max(lengths))
        rest: list[Episode] = []  # what is left of the episodes, which is small
        ragged: list[Any] = []
        observations: Any = None
        for row, episode in enumerate(episodes):
            seen = episode.observations
            if not isinstance(seen, np.ndarray):
                ragged.append(seen)
            else:
                if observations is None:
                    observations = np.zeros((*shape, *seen.shape[1:]), seen.dtype)
                if seen.shape[1:] != observations.shape[2:]:
                    raise InputError(
                        f"observations must have shape {observations.shape[2:]} in all episodes, "
                        f"got {seen.shape[1:]}"
                    )
                observations[row, : len(seen)] = seen
            rest.append(replace(episode, observations=None))
        if ragged:
            observations = type(ragged[0]).concatenate(ragged)
        policies = tuple(sorted({episode.policy for episode in rest}))
        policy = [policies.index(episode.policy) for episode in rest]
        values = [each for each in (one.action_values for one in rest) if each is not None]
        targets = [
            one.actions if one.expert_actions is None else one.expert_actions for one in rest
        ]
        was_asked = any(episode.expert_actions is not None for episode in rest)
        return cls(
            observations=observations,
            actions=_padded([episode.actions for episode in rest], shape),
            rewards=_padded([episode.rewards for episode in rest], shape),
            mask=np.arange(shape[1]) < np.array(lengths)[:, None],
            policies=policies,
            policy=np.array(policy, np.int64),
            seed=np.array([episode.seed for episode in rest], np.int64),
            cases=tuple(episode.case for episode in rest),
            values=_padded(values, shape) if len(values) == len(rest) else None,
            expert_actions=_padded(targets, shape) if was_asked else None,
        )

    def __len__(self) -> int:
        return len(self.mask)

    @cached_property
    def lengths(self) -> IntArray:
        """(E,) steps of each episode."""
        return np.asarray(np.count_nonzero(self.mask, axis=1), np.int64)

    @property
    def targets(self) -> IntArray:
        """The actions to imitate, shaped as `actions`: those of the expert, else those taken."""
        return self.actions if self.expert_actions is None else self.expert_actions

    @property
    def seen(self) -> Any:
        """(S, ...) the observations of the real steps, those of the first episode first."""
        observations = self.observations
        return observations[self.mask] if isinstance(observations, np.ndarray) else observations

    @cached_property
    def first_row(self) -> IntArray:
        """(E,) index of the first step of each episode in `seen`."""
        return begins_of(self.lengths)

    @property
    def timesteps(self) -> IntArray:
        """(E, T) index of each step in its episode, 0 in the padding."""
        return np.where(self.mask, np.arange(self.mask.shape[1]), 0)

    def returns_to_go(self, gamma: float = 1.0) -> FloatArray:
        """(E, T) sum of the rewards from each step on, later ones discounted; 0 in the padding.

        Rewards 1, 2, 3 and gamma 0.9 give 5.23, 4.7, 3.
        """
        if not 0.0 <= gamma <= 1.0:
            raise InputError(f"gamma must be in 0..1, got {gamma}")
        result = np.where(self.mask, self.rewards, 0.0)
        for step in range(result.shape[1] - 2, -1, -1):
            result[:, step] += gamma * result[:, step + 1]
        return result


class Batch(TypedDict):
    """B windows of T steps, valid steps first, zeros in the padding."""

    observations: Any  # (B, T, ...); of varying size: one row for each valid step, in this order
    actions: IntArray  # (B, T), or (B, T, parts): the actions that were taken
    targets: IntArray  # shaped as actions: the actions to imitate
    returns: Float32Array  # (B, T)
    timesteps: IntArray  # (B, T) counted from the episode's beginning
    mask: BoolArray  # (B, T)
    values: NotRequired[Float32Array]  # (B, T, A) value of each action, if the pool has it


class Windows:
    """All windows of one length over padded episodes; every step is in at least one.

    Windows begin every `stride` steps; one more ends with the episode where the last of these
    would leave steps out. An episode that is no longer than the window gives one window.

    Args:
        episodes: What the windows are cut from.
        returns: (E, T) return that the model is asked for at each step.
        num_steps: Length of a window.
        stride: Steps between the beginnings of windows, at most `num_steps`.

    Attributes:
        episode: (N,) the episode of each window.
        start: (N,) its first step.
    """

    def __init__(
        self, episodes: PaddedEpisodes, returns: FloatArray, num_steps: int, stride: int = 1
    ) -> None:
        if num_steps < 1:
            raise InputError(f"num_steps must be at least 1, got {num_steps}")
        if not 1 <= stride <= num_steps:
            raise InputError(f"stride must be in 1..{num_steps}, the window, got {stride}")
        if returns.shape != episodes.mask.shape:
            raise InputError(
                f"returns must have shape {episodes.mask.shape} as the episodes, "
                f"got {returns.shape}"
            )
        self.episodes, self.returns, self.num_steps = episodes, returns, num_steps
        last_start = np.maximum(episodes.lengths - num_steps, 0)  # (E,)
        count = -(-last_start // stride) + 1  # (E,) windows of each episode, rounded up
        self.episode = np.repeat(np.arange(len(episodes)), count)
        nth = np.arange(len(self.episode)) - np.repeat(begins_of(count), count)
        self.start = np.minimum(nth * stride, last_start[self.episode])

    def __len__(self) -> int:
        return len(self.start)

    def batch(self, windows: IntArray) -> Batch:
        """Return a batch of B windows, given their indices `windows` (B,)."""
        rows = self.episode[windows][:, None]  # (B, 1)
        steps = self.start[windows][:, None] + np.arange(self.num_steps)  # (B, T)
        mask = steps < self.episodes.lengths[rows]
        steps = np.where(mask, steps, 0)
        observations = self.episodes.observations
        if isinstance(observations, np.ndarray):
            observations = observations[rows, steps]
            observations[~mask] = 0
        else:
            observations = observations.take((self.episodes.first_row[rows] + steps)[mask])
        actions, targets = (
            each[rows, steps] for each in (self.episodes.actions, self.episodes.targets)
        )
        actions[~mask], targets[~mask] = 0, 0
        returns = np.where(mask, self.returns[rows, steps], 0.0).astype(np.float32)
        batch = Batch(
            observations=observations,
            actions=actions,
            targets=targets,
            returns=returns,
            timesteps=steps,
            mask=mask,
        )
        if self.episodes.values is not None:
            batch["values"] = self.episodes.values[rows, steps].astype(np.float32)
        return batch

    def sample(self, seed: int, update: int, batch_size: int) -> IntArray:
        """Return which windows an update trains on; see `draw_windows`."""
        return draw_windows(len(self), seed, update, batch_size)


def _padded(parts: Sequence[NDArray[Any]], shape: tuple[int, int]) -> NDArray[Any]:
    """Return the (T, ...) parts of E episodes as (E, T, ...), with zeros on the right."""
    together = np.zeros((*shape, *parts[0].shape[1:]), parts[0].dtype)
    for row, part in enumerate(parts):
        together[row, : len(part)] = part
    return together


def draw_windows(num_windows: int, seed: int, update: int, batch_size: int) -> IntArray:
    """Return (batch_size,) indices of the windows that an update, from 0, trains on.

    All windows are shuffled anew in each pass, and each is taken once per pass. The result depends
    on the arguments alone, so a run that was stopped resumes with the batches that it would have
    seen.
    """
    if batch_size < 1 or seed < 0 or update < 0:
        raise InputError(
            "batch_size must be at least 1, seed and update at least 0, "
            f"got {batch_size}, {seed} and {update}"
        )
    places = update * batch_size + np.arange(batch_size)
    passes, nth = np.divmod(places, num_windows)
    picked = np.empty(batch_size, np.int64)
    for one in np.unique(passes):
        picked[passes == one] = _shuffle(seed, int(one), num_windows)[nth[passes == one]]
    return picked


@lru_cache(maxsize=2)  # an update looks at one pass, at most at two
def _shuffle(seed: int, nth_pass: int, num_windows: int) -> IntArray:
    return np.random.default_rng([seed, nth_pass]).permutation(num_windows)
