"""Policies x a case of a control problem: every policy plays the same episodes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.envs.plan import PlannedEpisode, check_seeds
from netllm_gym.errors import InputError
from netllm_gym.evaluation.provenance import described, training_text
from netllm_gym.evaluation.results import CaseResults, Counter, OnEpisode, PolicyResult
from netllm_gym.evaluation.rollout import Rollout, rollout, warm_up
from netllm_gym.evaluation.statistics import group_numbers
from netllm_gym.policies.loading import LoadedPolicy, check_names
from netllm_gym.policies.policy import Limit, Policy
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.problem import ControlProblem

MOST_ROWS = 256  # episodes that are played side by side


def play_case(
    problem: ControlProblem,
    policies: Sequence[LoadedPolicy],
    case: Mapping[str, Any],
    seed: int,
    episodes: int,
    on_episode: OnEpisode | None,
) -> CaseResults:
    """Play every episode of a case with every policy.

    Args:
        problem: The problem.
        policies: At least one.
        case: Arguments of the environment.
        seed: Of the first episode.
        episodes: Play at least so many; a case has a number of its own.
        on_episode: Told policy, episodes done and episodes in all.
    """
    probe = problem.make_env(1, **case)
    planned = probe.evaluation_plan(episodes)
    check_seeds(seed, len(planned))
    plan = [PlannedEpisode(seed + number, each.options) for number, each in enumerate(planned)]
    built = []  # all of them before any plays, so that a wrong one is refused at once
    for policy in policies:
        sequential = getattr(policy.factory, "needs_sequential", False)
        env = problem.make_env(1 if sequential else min(len(plan), MOST_ROWS), **case)
        built.append((policy, policy.factory(env), env))
    check_names(actor.name for _, actor, _ in built)
    if all(hasattr(actor, "limits") for _, actor, _ in built):
        raise InputError(f"policies must name one that plays, got {built[0][1].name}, a limit")
    results: list[PolicyResult] = []
    played: Sequence[Episode] = ()
    for policy, actor, env in built:
        count = Counter(actor.name, len(plan), on_episode)
        if hasattr(actor, "limits"):
            results.append(_result_of_limit(problem, policy, actor, plan))
            count(len(plan))
            continue
        warm_up(policy.factory(probe), probe, plan[0])
        outcome = rollout(actor, env, plan, count, keep_observations=False)
        played = outcome.episodes
        results.append(_result(problem, policy, actor, outcome))
    asked = {**problem.default_case, **case}
    return CaseResults(
        results=results,
        groups=(group_numbers(_group_names(problem, played)),),
        case=described(as_made(probe, asked)),
        remarks=[*getattr(probe, "remarks", ())],
    )


def score(
    problem: ControlProblem,
    factory: Callable[[Any], Policy],
    env: Any,
    plan: Sequence[PlannedEpisode],
) -> float:
    """Return the mean metric with every group of episodes (recording) weighted equally."""
    episodes = rollout(factory(env), env, plan, keep_observations=False).episodes
    groups = group_numbers(_group_names(problem, episodes))
    sums = np.bincount(groups, weights=_metric(problem, episodes))
    return float((sums / np.bincount(groups)).mean())


def _result(
    problem: ControlProblem, policy: LoadedPolicy, actor: Policy, outcome: Rollout
) -> PolicyResult:
    episodes = outcome.episodes
    values = _metric(problem, episodes)
    unfinished = np.count_nonzero(~np.isfinite(values))
    if unfinished:
        raise InputError(
            f"{actor.name} must finish every episode to have a {problem.metric}, "
            f"got stuck in {unfinished} of {len(values)}, which ended before all work was done"
        )
    bounds = getattr(actor, "upper_bounds", ())  # of each episode, if the policy certifies any
    return PolicyResult(
        policy=policy,
        name=actor.name,
        values=values,
        decision_ms=1000.0 * outcome.decision_s,
        components={
            name: float(np.mean([problem.value_of(name, each.infos) for each in episodes]))
            for name in problem.components
        },
        trained_on=training_text(policy, _recordings(problem, episodes), problem.groups),
        upper_bound=float(np.mean(bounds)) if len(bounds) == len(values) else None,
    )


def _result_of_limit(
    problem: ControlProblem, policy: LoadedPolicy, limit: Limit, plan: Sequence[PlannedEpisode]
) -> PolicyResult:
    return PolicyResult(
        policy=policy,
        name=limit.name,
        values=limit.limits(plan),
        decision_ms=None,
        components=dict.fromkeys(problem.components),
        trained_on="",
    )


def _metric(problem: ControlProblem, episodes: Sequence[Episode]) -> FloatArray:
    return np.array([problem.metric_of(episode.infos) for episode in episodes])


def _group_names(problem: ControlProblem, episodes: Sequence[Episode]) -> list[str]:
    return [str(episode.case[problem.interval_over]) for episode in episodes]


def _recordings(problem: ControlProblem, episodes: Sequence[Episode]) -> list[set[str]]:
    """Return, for each recording that was played, the names by which it is known."""
    known: dict[str, set[str]] = {}
    for name, episode in zip(_group_names(problem, episodes), episodes, strict=True):
        known.setdefault(name, {name}).add(str(episode.case["content"]))
    return list(known.values())


def as_made(env: Any, case: Mapping[str, Any]) -> dict[str, Any]:
    """Return a case with the numbers that its environment has: it may have fewer jobs."""
    made = {name: getattr(env, name, asked) for name, asked in case.items()}
    return {
        name: made[name] if isinstance(asked, int | None) and isinstance(made[name], int) else asked
        for name, asked in case.items()
    }
