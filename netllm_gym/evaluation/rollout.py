"""The one loop in which every policy meets every environment."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.policies.policy import Policy
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.problem import ControlEnv


class Rollout(NamedTuple):
    """Episodes in the order of their plan, and what deciding cost."""

    episodes: list[Episode]
    decision_s: float  # wall time of the policy per decision


class _Step(NamedTuple):
    """What all rows saw, did and got in one step."""

    observations: Any  # (N, ...) an array or a ragged view; None where they are not kept
    actions: IntArray  # (N, ...)
    rewards: FloatArray  # (N,)
    infos: Mapping[str, FloatArray]  # (N,) each


def rollout(
    policy: Policy,
    env: ControlEnv,
    plan: Sequence[PlannedEpisode],
    on_episode: Callable[[int], None] | None = None,
    keep_observations: bool = True,
) -> Rollout:
    """Play every planned episode; as soon as a row is free it takes the next one.

    Args:
        policy: Built for `env`. If it has a method `end(rows, observations)`, that is told the
            last observation of the episodes that just ended.
        env: Native vector environment made with `autoreset_mode="Disabled"`.
        plan: Episodes, at least one.
        on_episode: Called with the number of episodes that just ended.
        keep_observations: Whether episodes hold what was seen, or None.
    """
    num_rows = env.num_envs
    episodes: dict[int, Episode] = {}  # position in the plan -> episode
    playing: dict[
        int, tuple[int, int]
    ] = {}  # row -> position in the plan, step of its first action
    waiting = deque(range(len(plan)))
    steps: list[_Step] = []
    infos: Mapping[str, Any] = {}
    rewards, spent_s, decisions = np.zeros(num_rows), 0.0, 0
    free = list(range(num_rows))
    while True:
        begun = {row: waiting.popleft() for row in free if waiting}
        if begun:
            observations, fresh = env.reset(**_reset_arguments(num_rows, begun, plan))
            infos = _merge(infos, fresh, list(begun))  # the other rows' last step still counts
            seeds = np.array([plan[position].seed for position in begun.values()], np.int64)
            started_s = time.perf_counter()
            policy.reset(np.array(list(begun), np.int64), seeds)  # some plan the episode here
            spent_s += time.perf_counter() - started_s
            playing |= {row: (position, len(steps)) for row, position in begun.items()}
            rewards[list(begun)] = 0.0
        if not playing:
            break
        started_s = time.perf_counter()
        actions = policy.act(observations, rewards, infos)
        spent_s += time.perf_counter() - started_s
        decisions += len(playing)
        seen = observations if keep_observations else None
        observations, rewards, terminated, truncated, infos = env.step(actions)
        steps.append(_Step(seen, np.asarray(actions), rewards.copy(), _columns(infos, num_rows)))
        ended = np.flatnonzero(terminated | truncated)
        free = [int(row) for row in ended if int(row) in playing]
        if free and hasattr(policy, "end"):
            policy.end(np.array(free), observations[free])
        for first, rows in _by_first_step(free, playing).items():
            parts = _cut(steps[first:], rows)
            for index, row in enumerate(rows):
                position = playing.pop(row)[0]
                episodes[position] = Episode(
                    observations=parts.observations[index],
                    actions=parts.actions[index],
                    rewards=parts.rewards[index],
                    terminated=bool(terminated[row]),
                    truncated=bool(truncated[row]),
                    policy=policy.name,
                    seed=plan[position].seed,
                    case=env.case(row),
                    infos={key: column[index] for key, column in parts.infos.items()},
                )
            if on_episode is not None:
                on_episode(len(rows))
        if not playing:
            steps.clear()
    return Rollout([episodes[position] for position in sorted(episodes)], spent_s / decisions)


def warm_up(policy: Policy, env: ControlEnv, planned: PlannedEpisode) -> None:
    """Let a throw-away policy decide once, so that no measurement pays for compiling."""
    begun = dict.fromkeys(range(env.num_envs), 0)
    observations, infos = env.reset(**_reset_arguments(env.num_envs, begun, [planned]))
    seeds = np.full(env.num_envs, planned.seed, np.int64)
    policy.reset(np.arange(env.num_envs), seeds)
    policy.act(observations, np.zeros(env.num_envs), infos)


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


def _by_first_step(
    rows: Sequence[int], playing: Mapping[int, tuple[int, int]]
) -> dict[int, list[int]]:
    """Group rows by the step in which their episode began, so that each group is cut at once."""
    groups: dict[int, list[int]] = {}
    for row in rows:
        groups.setdefault(playing[row][1], []).append(row)
    return groups


def _cut(steps: Sequence[_Step], rows: Sequence[int]) -> _Step:
    """Return (rows, T, ...) arrays of some rows over some steps."""
    index = np.array(rows)
    return _Step(
        observations=_seen([step.observations for step in steps], index),
        actions=np.stack([step.actions[index] for step in steps], axis=1).astype(np.int64),
        rewards=np.stack([step.rewards[index] for step in steps], axis=1),
        infos={
            key: np.stack([step.infos[key][index] for step in steps], axis=1)
            for key in steps[0].infos
        },
    )


def _seen(steps: Sequence[Any], rows: IntArray) -> Any:
    """Return, for each of some rows, what it saw over the steps."""
    if steps[0] is None:
        return [None] * len(rows)
    if isinstance(steps[0], np.ndarray):
        return np.stack([step[rows] for step in steps], axis=1)  # (rows, T, ...)
    # Ragged: the rows of all steps end to end, then those of each row.
    together, num_rows = type(steps[0]).concatenate(steps), len(steps[0])
    return [together.take(row + num_rows * np.arange(len(steps))) for row in rows]
