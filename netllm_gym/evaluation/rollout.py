"""The one loop in which every policy plays in every environment."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.policies.custom import CustomFactory
from netllm_gym.policies.loading import resolve_policy
from netllm_gym.policies.policy import Policy
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.index import problems
from netllm_gym.problems.problem import ControlEnv, ControlProblem

OnStep = Callable[[int, int], None]  # told episodes done and decisions done


class Rollout(NamedTuple):
    """Episodes in the order of their plan, and the wall time of deciding."""

    episodes: list[Episode]
    decision_s: float  # wall time of the policy per decision


class _Step(NamedTuple):
    """What all rows observed, did and received in one step."""

    observations: Any  # (N, ...) an array or a ragged view; None where they are not kept
    actions: IntArray  # (N, ...)
    rewards: FloatArray  # (N,)
    infos: Mapping[str, FloatArray]  # (N,) each


def rollout(
    policy: Any,
    env: ControlEnv,
    plan: Sequence[PlannedEpisode],
    on_step: OnStep = lambda done, decisions: None,
    keep_observations: bool = True,
) -> Rollout:
    """Play every planned episode; as soon as a row is free it takes the next one.

    Args:
        policy: A policy that was built for `env`, an object with `act`, which sees what `env`
            shows. If it has a method `end(rows, observations)`, that is told the last observations
            of the episodes that just ended. Else anything that `evaluate` takes, which is built
            here; names and folders need an environment of `ControlProblem.make_env`.
        env: Native vector environment made with `autoreset_mode="Disabled"`.
        plan: Episodes, at least one.
        on_step: Told after each step how many episodes and how many decisions are done.
        keep_observations: Whether episodes hold what was observed, or None.
    """
    loop = _Loop(_built(policy, env), env, plan, keep_observations)
    loop.begin(range(env.num_envs))
    while loop.playing:
        free = loop.step()
        on_step(len(loop.episodes), loop.decisions)
        loop.begin(free)
    episodes = [loop.episodes[position] for position in sorted(loop.episodes)]
    return Rollout(episodes, loop.spent_s / loop.decisions)


class _Loop:
    """The state of a rollout.

    Attributes:
        episodes: Position in the plan -> episode that has ended.
        playing: Row -> position in the plan of its episode, and step of its first action.
        spent_s: Wall time that the policy took.
        decisions: Decisions that it made.
    """

    def __init__(
        self,
        policy: Policy,
        env: ControlEnv,
        plan: Sequence[PlannedEpisode],
        keep_observations: bool,
    ) -> None:
        self._policy, self._env, self._plan = policy, env, plan
        self._keep_observations = keep_observations
        self.episodes: dict[int, Episode] = {}
        self.playing: dict[int, tuple[int, int]] = {}
        self.spent_s, self.decisions = 0.0, 0
        self._waiting = deque(range(len(plan)))
        self._steps: list[_Step] = []
        self._observations: Any = None
        self._rewards = np.zeros(env.num_envs)
        self._infos: Mapping[str, Any] = {}

    def begin(self, free: Iterable[int]) -> None:
        """Begin the next planned episodes, as far as there are any, in rows that are free."""
        begun = {row: self._waiting.popleft() for row in free if self._waiting}
        if not begun:
            return
        if not self.playing:
            self._steps.clear()  # they belong to episodes that have ended
        arguments = _reset_arguments(self._env.num_envs, begun, self._plan)
        self._observations, fresh = self._env.reset(**arguments)
        # What the last step told of the other rows still holds.
        self._infos = _merge(self._infos, fresh, list(begun))
        seeds = np.array([self._plan[position].seed for position in begun.values()], np.int64)
        started_s = time.perf_counter()
        self._policy.reset(np.array(list(begun), np.int64), seeds)  # some plan the episode here
        self.spent_s += time.perf_counter() - started_s
        self.playing |= {row: (position, len(self._steps)) for row, position in begun.items()}
        self._rewards[list(begun)] = 0.0

    def step(self) -> list[int]:
        """Let every row decide and step; return the rows whose episodes ended."""
        started_s = time.perf_counter()
        actions = self._policy.act(self._observations, self._rewards, self._infos)
        self.spent_s += time.perf_counter() - started_s
        self.decisions += len(self.playing)
        seen = self._observations if self._keep_observations else None
        self._observations, self._rewards, terminated, truncated, self._infos = self._env.step(
            actions
        )
        columns = _columns(self._infos, self._env.num_envs)
        self._steps.append(_Step(seen, np.asarray(actions), self._rewards.copy(), columns))
        ended = np.flatnonzero(terminated | truncated)
        free = [int(row) for row in ended if int(row) in self.playing]
        if free and hasattr(self._policy, "end"):
            self._policy.end(np.array(free), _rows_of(self._observations, free))
        self._finish(free, terminated, truncated)
        return free

    def _finish(self, rows: Sequence[int], terminated: Any, truncated: Any) -> None:
        """Cut the episodes of rows that ended out of the steps."""
        begun = {row: self.playing[row][1] for row in rows}
        for first in set(begun.values()):  # those that began together are cut at once
            together = [row for row in rows if begun[row] == first]
            index, steps = np.array(together), self._steps[first:]
            observations = _seen([step.observations for step in steps], index)
            actions = np.stack([step.actions[index] for step in steps], axis=1).astype(np.int64)
            rewards = np.stack([step.rewards[index] for step in steps], axis=1)
            infos = {
                key: np.stack([step.infos[key][index] for step in steps], axis=1)
                for key in steps[0].infos
            }
            for place, row in enumerate(together):
                position = self.playing.pop(row)[0]
                self.episodes[position] = Episode(
                    observations=observations[place],
                    actions=actions[place],
                    rewards=rewards[place],
                    terminated=bool(terminated[row]),
                    truncated=bool(truncated[row]),
                    policy=self._policy.name,
                    seed=self._plan[position].seed,
                    case=self._env.case(row),
                    infos={key: column[place] for key, column in infos.items()},
                )


def warm_up(policy: Policy, env: ControlEnv, planned: PlannedEpisode) -> None:
    """Let a throw-away policy decide once, so that no measurement includes compilation."""
    begun = dict.fromkeys(range(env.num_envs), 0)
    observations, infos = env.reset(**_reset_arguments(env.num_envs, begun, [planned]))
    seeds = np.full(env.num_envs, planned.seed, np.int64)
    policy.reset(np.arange(env.num_envs), seeds)
    policy.act(observations, np.zeros(env.num_envs), infos)


def _built(policy: Any, env: Any) -> Policy:
    """Return a policy for the environment: as it is, or built."""
    if callable(getattr(policy, "act", None)) and not isinstance(policy, type):
        return cast(Policy, policy)
    made_by = getattr(getattr(env, "spec", None), "id", None)
    for problem in problems().values():
        if isinstance(problem, ControlProblem) and problem.env_id == made_by:
            return cast(Policy, resolve_policy(policy, problem).factory(env))
    if isinstance(policy, str | os.PathLike):
        raise InputError(
            f"policy must be an object for an environment of no known problem, got {policy!r}"
        )
    return cast(Policy, CustomFactory(policy, "", predicts=False)(env))


def _rows_of(observations: Any, rows: Sequence[int]) -> Any:
    """Return what some rows observe."""
    if isinstance(observations, dict):
        return {key: part[rows] for key, part in observations.items()}
    return observations[rows]


def _merge(
    last: Mapping[str, Any], fresh: Mapping[str, Any], begun: Sequence[int]
) -> dict[str, Any]:
    """Return infos that are `fresh` in the rows just begun and `last` in the others.

    A column that one of the two lacks is zero, and its mask false, in the rows of that one.
    """
    merged: dict[str, Any] = {}
    for key in {**last, **fresh}:
        old, new = last.get(key), fresh.get(key)
        merged[key] = np.zeros_like(new) if old is None else np.array(old)
        merged[key][begun] = 0 if new is None else new[begun]
    return merged


def _reset_arguments(
    num_rows: int, begun: Mapping[int, int], plan: Sequence[PlannedEpisode]
) -> dict[str, Any]:
    """Return seed and options that begin the planned episodes in the rows of `begun`."""
    mask = np.zeros(num_rows, np.bool_)
    mask[list(begun)] = True
    seeds: list[int | None] = [None] * num_rows
    any_options = plan[next(iter(begun.values()))].options  # rows outside the mask ignore them
    options: dict[str, Any] = {key: np.full(num_rows, any_options[key]) for key in any_options}
    for row, position in begun.items():
        seeds[row] = plan[position].seed
        if set(plan[position].options) != set(options):
            raise InputError(
                f"planned episodes must name the same options, got {dict(plan[position].options)} "
                f"beside {sorted(options)}"
            )
        for key, value in plan[position].options.items():
            options[key][row] = value
    return {"seed": seeds, "options": {"reset_mask": mask, **options}}


def _columns(infos: Mapping[str, Any], num_rows: int) -> dict[str, FloatArray]:
    """Return the numbers that every step has, without masks and start-up columns."""
    return {
        key: column
        for key, column in infos.items()
        if not key.startswith(("_", "final_", "startup_")) and np.shape(column) == (num_rows,)
    }


def _seen(steps: Sequence[Any], rows: IntArray) -> Any:
    """Return, for each of some rows, what it saw over the steps."""
    if steps[0] is None:
        return [None] * len(rows)
    if isinstance(steps[0], np.ndarray):
        return np.stack([step[rows] for step in steps], axis=1)  # (rows, T, ...)
    # Ragged: the rows of all steps end to end, then those of each row.
    together, num_rows = type(steps[0]).concatenate(steps), len(steps[0])
    return [together.take(row + num_rows * np.arange(len(steps))) for row in rows]
