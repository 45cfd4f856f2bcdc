"""Policies x one case -> a table: the same for all, with intervals and provenance."""

from collections.abc import Mapping, Sequence
from typing import Any

from netllm_gym.arrays import IntArray
from netllm_gym.configs import check
from netllm_gym.errors import InputError
from netllm_gym.evaluation.control import play_case
from netllm_gym.evaluation.prediction import predict_case
from netllm_gym.evaluation.provenance import code_version
from netllm_gym.evaluation.results import OnEpisode, PolicyResult
from netllm_gym.evaluation.statistics import bootstrap
from netllm_gym.evaluation.tables import Row, Table, Versus
from netllm_gym.policies.loading import resolve_policy
from netllm_gym.problems.index import find_control, find_problem
from netllm_gym.problems.problem import PredictionProblem, Problem


def evaluate(
    problem: str,
    policies: Sequence[Any],
    case: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    episodes: int = 1,
    on_episode: OnEpisode | None = None,
    versus: Any = None,
) -> Table:
    """Let every policy play every episode of a case, or predict all of its windows.

    Args:
        problem: Short name of the problem.
        policies: Names, folders of trained policies, "package.module:Name", or classes, functions
            and objects of your own; see `policies/custom.py`.
        case: Arguments of the environment, such as traces and video, or of the windows. Parts that
            are left out are those of the problem's default case with its test data.
        seed: Of the first episode. Policies that draw depend on it; what is played does not.
        device: Where trained policies run.
        episodes: Play at least so many; a case has a number of its own. Windows have no other.
        on_episode: Told policy, episodes done and episodes in all.
        versus: The one of `policies`, as given or by its name, that the others are compared with.
            None takes the best of those that are known as baselines: neither learned, nor a bound,
            nor a policy of your own that is not registered.

    Raises:
        InputError: If a policy or a part of the case does not exist, two policies have the same
            name, or `versus` is not among the policies; nothing is played then.
    """
    found = find_problem(problem)
    policies = [policies] if isinstance(policies, str) else policies
    check(type(episodes) is int and episodes >= 1, "episodes", "be 1 or more", episodes)
    if not policies:
        raise InputError("policies must name at least one, got none")
    loaded = [resolve_policy(each, found, device) for each in policies]
    compared = None if versus is None else _place_of(versus, policies, [p.name for p in loaded])
    case = {**found.test_case, **(case or {})}
    if not isinstance(found, PredictionProblem):
        control = find_control(problem)
        outcome = play_case(control, loaded, case, seed, episodes, on_episode)
    elif episodes != 1:
        raise InputError(f"episodes must be left out for {problem}, got {episodes}")
    else:
        outcome = predict_case(found, loaded, case, on_episode)
    results = outcome.results
    other = _strongest_baseline(found, results) if compared is None else results[compared]
    return Table(
        problem=problem,
        case=outcome.case,
        commit=code_version(),
        rows=[_table_row(found, result, outcome.groups, other) for result in results],
        remarks=outcome.remarks,
        groups=outcome.groups_text,
        members=[way.tolist() for way in outcome.groups],
    )


def _place_of(versus: Any, policies: Sequence[Any], names: Sequence[str]) -> int:
    """Return the place of the policy that the others are compared with."""
    for place, (policy, name) in enumerate(zip(policies, names, strict=True)):
        if policy is versus or (isinstance(versus, str) and versus in (policy, name)):
            return place
    raise InputError(f"versus must be one of the policies ({', '.join(names)}), got {versus!r}")


def _strongest_baseline(problem: Problem, results: Sequence[PolicyResult]) -> PolicyResult | None:
    """Return the best policy that is neither learned nor a bound."""
    baselines = [
        result
        for result in results
        if result.decision_ms is not None
        and not result.policy.learned
        and result.policy.name != problem.bound
    ]
    return max(
        baselines, key=lambda result: problem.score(float(result.values.mean())), default=None
    )


def _table_row(
    problem: Problem,
    result: PolicyResult,
    groups: tuple[IntArray, ...],
    other: PolicyResult | None,
) -> Row:
    """Return a policy's row, with its paired difference to the policy that it is compared with."""
    interval = bootstrap(result.values, *groups)
    difference: Versus | None = None
    if other is not None and result is not other:
        gain = bootstrap(result.values - other.values, *groups)
        difference = {"policy": other.name, "mean": gain.mean, "ci95": gain.ci95}
    return Row(
        policy=result.name,
        metric=problem.metric,
        mean=interval.mean,
        ci95=interval.ci95,
        n=len(result.values),
        per_episode=result.values.tolist(),
        decision_ms=result.decision_ms,
        components=result.components,
        trained_on=result.trained_on,
        versus=difference,
        upper_bound=result.upper_bound,
        by_step=result.by_step,
    )
