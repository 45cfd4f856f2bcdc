"""Environments over a batch: one row as a Gymnasium environment, N rows as a vector environment.

A problem brings a batch (`RowBatch`) that begins and steps all rows in one call. What is the same
for every problem is here: seeds, reset masks, infos, rendering modes and Gymnasium's three
autoreset modes. A problem of another package can build its environments on these classes, too.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.core import ActType, ObsType
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from netllm_gym.arrays import BoolArray, FloatArray
from netllm_gym.envs.batch import Outcome, RowBatch, whole_from
from netllm_gym.envs.drawing import check_can_draw
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError


class RowEnv(gym.Env[ObsType, ActType]):
    """A scalar environment: a batch of one row.

    A subclass makes the batch in its `__init__`. If it can be rendered, it lists the modes in
    `metadata["render_modes"]` and overrides `render_text` (mode "ansi") and `render_frame`
    (mode "rgb_array").

    Args:
        batch: The episode, one row.
        render_mode: One of `metadata["render_modes"]`, or None.
    """

    metadata = {"render_modes": []}  # noqa: RUF012  # Gymnasium reads a plain class attribute

    def __init__(self, batch: RowBatch, render_mode: str | None = None) -> None:
        modes = ["None", *self.metadata["render_modes"]]
        if render_mode is not None and render_mode not in modes[1:]:
            known = " or ".join(filter(None, [", ".join(modes[:-1]), modes[-1]]))
            raise InputError(f"render_mode must be {known}, got {render_mode!r}")
        if render_mode == "rgb_array":
            check_can_draw()
        self.render_mode = render_mode
        self.batch: Any = batch
        self._has_begun = False
        self.observation_space: Any = batch.observation_space
        self.action_space: Any = batch.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[ObsType, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Of the episode; None continues the sequence of episodes of the last seed.
            options: Which episode to play, see the section Starting State of the environment.
        """
        seed = None if seed is None else whole_from("seed", seed, 0)
        super().reset(seed=seed)
        if options and "reset_mask" in options:
            known = " or ".join(self.batch.option_names)
            raise InputError(f"options must be {known}, got reset_mask")
        outcome = self.batch.begin(np.ones(1, np.bool_), [seed], options, self.np_random)
        self._has_begun = True
        return row_of(outcome.observation, 0), scalar_info(outcome)

    def step(self, action: Any) -> tuple[ObsType, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: Of the action space.
        """
        if self.batch.done[0]:
            raise InputError("step must follow reset, got a step after the episode's end")
        actions = np.asarray(action)
        if actions.dtype.kind not in "iu" and not self.action_space.shape:
            raise InputError(f"action must be a whole number, got {action!r}")
        if actions.shape != (1, *self.action_space.shape):
            actions = actions[None]
        outcome = self.batch.step(actions)
        return (
            row_of(outcome.observation, 0),
            float(outcome.reward[0]),
            bool(outcome.terminated[0]),
            bool(outcome.truncated[0]),
            scalar_info(outcome),
        )

    def render(self) -> Any:
        """Return the episode so far as `render_mode` says: text, or (480, 800, 3) uint8 pixels."""
        if self.render_mode is None:
            gym.logger.warn(
                "render gives nothing without a render_mode: make the environment with "
                f"render_mode={' or '.join(map(repr, self.metadata['render_modes']))}"
            )
            return None
        if not self._has_begun:
            raise InputError("render must follow reset, got no episode to show")
        return self.render_text() if self.render_mode == "ansi" else self.render_frame()

    def render_text(self) -> str:
        """Return the episode so far as a few lines of text."""
        raise NotImplementedError

    def render_frame(self) -> Any:
        """Return (480, 800, 3) uint8 red, green, blue."""
        raise NotImplementedError


class RowVectorEnv(VectorEnv[Any, Any, Any]):
    """A native vector environment: a batch of N rows.

    Row i of `reset(seed=s)` plays the episodes of the scalar environment's `reset(seed=s + i)`, bit
    for bit, whatever the other rows do. `reset` also takes a sequence of N seeds, and
    `options={"reset_mask": (N,) bool}`, with which only these rows begin an episode.

    Args:
        batch: The episodes, N rows.
        autoreset_mode: What happens after the end of a row's episode. `NEXT_STEP`: the next `step`
            resets the row and ignores its action. `SAME_STEP`: the row is reset at once;
            `final_obs` and `final_info` of the info are those of the episode that ended.
            `DISABLED`: the row stays as it is, with reward 0, until `reset` names it.
        max_episode_steps: Steps after which an episode is truncated; None for no such limit.
        render_mode: None; a vector environment of scalar environments
            (`gym.make_vec(..., vectorization_mode="sync")`) can render.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        batch: RowBatch,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        if render_mode is not None:
            raise InputError(
                f"render_mode must be None for many rows in one call, got {render_mode!r}: "
                'make the scalar environments with vectorization_mode="sync"'
            )
        self.render_mode = render_mode
        self.batch: Any = batch
        self.num_envs = batch.num_rows
        modes = [mode.value for mode in AutoresetMode]
        if autoreset_mode not in (*modes, *AutoresetMode):
            raise InputError(f"autoreset_mode must be {', '.join(modes)}, got {autoreset_mode!r}")
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self._limit = None
        if max_episode_steps is not None:
            self._limit = whole_from("max_episode_steps", max_episode_steps, 1)
        self._steps = np.zeros(self.num_envs, np.int64)  # of each row's episode
        self._late = np.zeros(self.num_envs, np.bool_)  # rows that the limit stopped
        self._has_begun = False
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = batch.observation_space
        self.single_action_space = batch.action_space
        self.observation_space = batch_space(batch.observation_space, self.num_envs)
        self.action_space = batch_space(batch.action_space, self.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every row, or in those of `options["reset_mask"]`."""
        seeds = self._row_seeds(seed)
        if seed is None or isinstance(seed, int | np.integer):
            super().reset(seed=None if seed is None else int(seed))
        begins = np.ones(self.num_envs, np.bool_)
        if options and "reset_mask" in options:
            begins = np.asarray(options["reset_mask"])
            if begins.shape != (self.num_envs,) or begins.dtype != np.bool_ or not begins.any():
                raise InputError(
                    f"reset_mask must be {self.num_envs} booleans, one of them true, got {begins!r}"
                )
        outcome = self._begin(begins, seeds, options)
        return outcome.observation, _infos(outcome, begins)

    def step(self, actions: Any) -> tuple[Any, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Take one step in every row."""
        # A batch that took the state of another one (`stand_as`) has begun, too.
        if not self._has_begun and not self.batch.keys.any():
            raise InputError("step must follow reset, got a step before any episode")
        ended_before = self.batch.done
        outcome = self._limited(self.batch.step(actions), ~ended_before)
        terminated, truncated, infos = outcome.terminated, outcome.truncated, {}
        reward = outcome.reward
        begins = np.zeros(self.num_envs, np.bool_)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            begins = ended_before  # these rows took no step above
            terminated, truncated = terminated & ~begins, truncated & ~begins
        elif self.autoreset_mode is AutoresetMode.SAME_STEP:
            begins = terminated | truncated
        if begins.any():
            if self.autoreset_mode is AutoresetMode.SAME_STEP:
                infos = _final(outcome, begins)
            begun = self._begin(begins, [None] * self.num_envs, None)
            outcome = _merge(outcome, begun, begins)
        infos |= _infos(outcome, np.ones(self.num_envs, np.bool_))
        return outcome.observation, reward, terminated, truncated, infos

    def _begin(
        self, begins: BoolArray, seeds: Sequence[int | None], options: dict[str, Any] | None
    ) -> Outcome:
        outcome: Outcome = self.batch.begin(begins, seeds, options, self.np_random)
        self._steps[begins], self._late[begins] = 0, False
        self._has_begun = True
        return outcome

    def _limited(self, outcome: Outcome, moved: BoolArray) -> Outcome:
        """Count a step of the rows that moved, and truncate those that are at the limit."""
        if self._limit is None:
            return outcome
        self._steps += moved
        over = self._late | outcome.terminated | outcome.truncated
        newly = (self._steps >= self._limit) & ~over
        self.batch.stop(newly)
        self._late |= newly
        return outcome._replace(
            terminated=outcome.terminated & ~self._late, truncated=outcome.truncated | self._late
        )

    def training_plan(self, seeds: Sequence[int]) -> list[PlannedEpisode]:
        """Return training episodes: one per seed, which draws all that there is to draw."""
        return [PlannedEpisode(seed) for seed in seeds]

    def _row_seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            first = whole_from("seed", seed, 0)
            return [first + row for row in range(self.num_envs)]
        if not isinstance(seed, Sequence | np.ndarray) or isinstance(seed, str):
            raise InputError(f"seed must be one number or {self.num_envs}, got {seed!r}")
        if len(seed) != self.num_envs:
            raise InputError(f"seed must be one number or {self.num_envs}, got {len(seed)}")
        return [None if each is None else whole_from("seed", each, 0) for each in seed]


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
    """Return the infos of SAME_STEP about the episodes that just ended."""
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
    """Return the info of a batch of one row, as numbers or arrays of numpy.

    The keys are always the same, and each value has a type of numpy, as libraries that stack infos
    need it. A column that is not valid yet has the value that its batch gives it.
    """
    return {key: column[0] for key, column in outcome.info.items()}


def num_rows_of(env: Any) -> int:
    """Return how many episodes an environment plays at once; a scalar one has no `num_envs`."""
    return int(getattr(env, "num_envs", 1))


def row_of(observation: Any, row: int) -> Any:
    """Return a copy of the observation of one row."""
    if isinstance(observation, dict):
        return {key: each[row].copy() for key, each in observation.items()}
    part = observation[row]
    return part.copy() if isinstance(part, np.ndarray) else part  # of a ragged view it is a copy
