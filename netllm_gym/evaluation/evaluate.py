"""Policies x one case -> a table: the same for all, with intervals and provenance."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.envs.plan import PlannedEpisode, check_seeds
from netllm_gym.errors import InputError
from netllm_gym.evaluation.prediction import predict
from netllm_gym.evaluation.rollout import Rollout, rollout, warm_up
from netllm_gym.evaluation.statistics import bootstrap
from netllm_gym.evaluation.tables import Row, Table, Versus
from netllm_gym.policies.loading import LoadedPolicy, check_names, load_policy
from netllm_gym.policies.policy import Limit, Policy
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.index import find_control, find_problem
from netllm_gym.problems.problem import ControlProblem, PredictionProblem, Problem
from netllm_gym.version import __version__

MOST_ROWS = 256  # episodes that are played side by side


def evaluate(
    problem: str,
    policies: Sequence[str | LoadedPolicy],
    case: Mapping[str, Any],
    seed: int = 0,
    device: str = "cpu",
    episodes: int = 1,
    on_episode: Callable[[str, int, int], None] | None = None,
    versus: str | None = None,
) -> Table:
    """Let every policy play every episode of a case, or predict all of its windows.

    Args:
        problem: Short name.
        policies: Names, folders of trained policies, or loaded ones.
        case: Arguments of the environment, such as traces and video; or dataset and windows.
        seed: Of the first episode; worlds are the same for any, policies that draw are not.
        device: Where trained policies run.
        episodes: Play at least so many; a case has a number of its own. Windows have no other.
        on_episode: Told policy, episodes done and episodes in all.
        versus: The one of `policies`, as given or by the name of its folder, that the others are
            compared with; None takes the best that is neither learned nor a bound.

    Raises:
        InputError: If a policy or a part of the case does not exist, two policies have the same
            name, or `versus` is none of them; nothing is played then.
    """
    row = find_problem(problem)
    if not policies:
        raise InputError("policies must name at least one, got none")
    loaded = [
        load_policy(one, problem, device) if isinstance(one, str) else one for one in policies
    ]
    names = [each.name for each in loaded]
    if versus is not None and versus not in (*policies, *names):
        raise InputError(f"versus must be one of the policies ({', '.join(names)}), got {versus!r}")
    if isinstance(row, PredictionProblem):
        if episodes != 1:
            raise InputError(f"episodes must be left out for {problem}, got {episodes}")
        found = _predicted(row, loaded, case, on_episode)
    else:
        found = _played(find_control(problem), loaded, case, seed, episodes, on_episode)
    if versus is None:
        other = _strongest_baseline(row, found.results)
    else:
        place = list(policies).index(versus) if versus in policies else names.index(versus)
        other = found.results[place]
    rows = []
    for result in found.results:
        difference: Versus | None = None
        if other is not None and result is not other:
            gain = bootstrap(result.values - other.values, *found.groups)
            difference = {"policy": other.name, "mean": gain.mean, "ci95": gain.ci95}
        rows.append(_row(row, result, found.groups, difference))
    members = [way.tolist() for way in found.groups]
    return Table(problem, found.case, _commit(), rows, found.remarks, found.groups_text, members)


class _Result(NamedTuple):
    """What one policy, or one limit, has on a case."""

    policy: LoadedPolicy
    name: str
    values: FloatArray  # (E,)
    decision_ms: float | None  # None of a limit
    components: dict[str, float | None]
    trained_on: str
    upper_bound: float | None = None
    by_step: list[float] | None = None


class _Findings(NamedTuple):
    """What all policies have on a case."""

    results: list[_Result]
    groups: tuple[IntArray, ...]  # (E,) each: of what is not independent
    case: dict[str, str]
    remarks: list[str]
    groups_text: str = ""


def _played(
    row: ControlProblem,
    loaded: Sequence[LoadedPolicy],
    case: Mapping[str, Any],
    seed: int,
    episodes: int,
    on_episode: Callable[[str, int, int], None] | None,
) -> _Findings:
    """Play every episode of a case with every policy."""
    probe = row.make_env(1, **case)
    whole = probe.evaluation_plan(episodes)
    check_seeds(seed, len(whole))
    plan = [PlannedEpisode(seed + number, planned.options) for number, planned in enumerate(whole)]
    built = [(policy, *_build(row, policy, case, len(plan))) for policy in loaded]
    check_names(actor.name for _, actor, _ in built)
    if all(hasattr(actor, "limits") for _, actor, _ in built):
        raise InputError(f"policies must name one that plays, got {built[0][1].name}, a limit")
    results: list[_Result] = []
    cases: Sequence[Episode] = ()
    for policy, actor, env in built:
        count = _Counter(actor.name, len(plan), on_episode)
        if hasattr(actor, "limits"):
            nothing = dict.fromkeys(row.components)
            results.append(
                _Result(policy, actor.name, actor.limits(plan), None, nothing, trained_on="")
            )
            count(len(plan))
            continue
        warm_up(policy.factory(probe), probe, plan[0])
        played = rollout(actor, env, plan, count, keep_observations=False)
        cases = played.episodes
        results.append(_result(row, policy, actor, played))
        _check_finished(row, actor.name, results[-1].values)
    asked = {**row.default_case, **case}
    described = {key: _describe(_made_of(probe, key, value)) for key, value in asked.items()}
    return _Findings(results, (_groups(cases, row.interval_over),), described, [])


def _result(row: ControlProblem, policy: LoadedPolicy, actor: Policy, played: Rollout) -> _Result:
    episodes = played.episodes
    values = _metric(row, episodes)
    return _Result(
        policy=policy,
        name=actor.name,
        values=values,
        decision_ms=1000.0 * played.decision_s,
        components={
            name: float(np.mean([row.value_of(name, each.infos) for each in episodes]))
            for name in row.components
        },
        trained_on=_provenance(policy, *_recordings(row, episodes)),
        upper_bound=_certified(actor, len(values)),
    )


def _predicted(
    row: PredictionProblem,
    loaded: Sequence[LoadedPolicy],
    case: Mapping[str, Any],
    on_episode: Callable[[str, int, int], None] | None,
) -> _Findings:
    """Let every predictor predict all windows of a case."""
    windows = row.make_windows(**case)
    built = [(policy, policy.factory(windows)) for policy in loaded]
    check_names(predictor.name for _, predictor in built)
    results = []
    for policy, predictor in built:
        count = _Counter(predictor.name, len(windows), on_episode)
        done = predict(predictor, windows, count)
        scores = row.score_predictions(done.predictions, windows)
        results.append(
            _Result(
                policy=policy,
                name=predictor.name,
                values=scores.per_window,
                decision_ms=1000.0 * done.seconds / len(windows),
                components=scores.components,
                trained_on=_provenance(policy, windows.recordings, "traces"),
                by_step=scores.by_step.tolist(),
            )
        )
    asked = {**row.default_case, **case}
    given = {key: value for key, value in asked.items() if value is not None}
    described = {key: _describe(value) for key, value in {**given, **windows.described}.items()}
    return _Findings(results, windows.groups, described, windows.report(), windows.groups_text)


def score(
    problem: ControlProblem,
    factory: Callable[[Any], Policy],
    env: Any,
    plan: Sequence[PlannedEpisode],
) -> float:
    """Return the mean metric with every group of episodes (recording) weighted equally."""
    episodes = rollout(factory(env), env, plan, keep_observations=False).episodes
    groups = _groups(episodes, problem.interval_over)
    sums = np.bincount(groups, weights=_metric(problem, episodes))
    return float((sums / np.bincount(groups)).mean())


def _build(
    problem: ControlProblem, policy: LoadedPolicy, case: Mapping[str, Any], episodes: int
) -> tuple[Policy | Limit, Any]:
    """Build a policy and the environment that it plays in."""
    sequential = getattr(policy.factory, "needs_sequential", False)
    env = problem.make_env(1 if sequential else min(episodes, MOST_ROWS), **case)
    return policy.factory(env), env


class _Counter:
    """Turns 'k more episodes' into 'done of all' for one policy."""

    def __init__(
        self, policy: str, total: int, tell: Callable[[str, int, int], None] | None
    ) -> None:
        self.policy, self.total, self.tell, self.done = policy, total, tell, 0

    def __call__(self, ended: int) -> None:
        self.done += ended
        if self.tell is not None:
            self.tell(self.policy, self.done, self.total)


def _row(
    problem: Problem,
    result: _Result,
    groups: tuple[IntArray, ...],
    versus: Versus | None,
) -> Row:
    interval = bootstrap(result.values, *groups)
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
        versus=versus,
        upper_bound=result.upper_bound,
        by_step=result.by_step,
    )


def _check_finished(problem: Problem, name: str, values: FloatArray) -> None:
    """Refuse results that leave an episode unfinished: its metric is no number."""
    stuck = np.count_nonzero(~np.isfinite(values))
    if stuck:
        raise InputError(
            f"{name} must finish every episode to have a {problem.metric}, "
            f"got stuck in {stuck} of {len(values)}"
        )


def _metric(problem: ControlProblem, episodes: Sequence[Episode]) -> FloatArray:
    return np.array([problem.metric_of(episode.infos) for episode in episodes])


def _certified(actor: Policy, episodes: int) -> float | None:
    bounds = getattr(actor, "upper_bounds", None)
    return float(np.mean(bounds)) if bounds is not None and len(bounds) == episodes else None


def _groups(episodes: Sequence[Episode], field: str) -> IntArray:
    """Return (E,) number of the group that each episode belongs to."""
    names = [str(episode.case[field]) for episode in episodes]
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)


def _recordings(problem: ControlProblem, episodes: Sequence[Episode]) -> tuple[list[set[str]], str]:
    """Return by what names each recording that was played is known, and their plural."""
    known: dict[str, set[str]] = {}
    for episode in episodes:
        name = str(episode.case[problem.interval_over])
        known.setdefault(name, {name}).add(str(episode.case["content"]))
    return list(known.values()), problem.groups


def _provenance(
    policy: LoadedPolicy, played: Sequence[set[str] | frozenset[str]], plural: str
) -> str:
    """Say what a policy was trained on, and how much of the case its making saw.

    Args:
        policy: The policy.
        played: Of each recording of the case, the names by which it is known.
        plural: Of these recordings.
    """
    leaks = []
    for how, known in (("saw", policy.recordings), ("selected on", policy.selected_on)):
        found = sum(bool(known & names) for names in played)
        if found:
            leaks.append(f"{how} {found} of {len(played)} {plural}")
    return f"{policy.trained_on} (leaky: {', '.join(leaks)})" if leaks else policy.trained_on


def _strongest_baseline(problem: Problem, results: Sequence[_Result]) -> _Result | None:
    """Return the best policy that is neither learned nor a bound."""
    rules = [
        result
        for result in results
        if result.decision_ms is not None
        and not result.policy.learned
        and result.policy.name != problem.bound
    ]
    return max(rules, key=lambda rule: problem.score(float(rule.values.mean())), default=None)


def _made_of(env: Any, name: str, asked: Any) -> Any:
    """Return what the environment made of a number in the case: it may have taken less."""
    made = getattr(env, name, asked)
    return made if isinstance(asked, int) and isinstance(made, int) else asked


def _describe(value: Any) -> str:
    """Name a part of the case: a set or video knows its own name."""
    if isinstance(value, str | Path):
        return str(value)
    return str(getattr(value, "name", value))


def _commit(package: Path = Path(__file__).parents[1]) -> str:
    """Return the commit of this source tree, with a mark if it was changed, else the version.

    An installed package may lie within somebody's repository (a `.venv`); that one's commit says
    nothing of this code.
    """
    root = package.resolve().parent
    top = _git(root, "rev-parse", "--show-toplevel")
    if top and Path(top).resolve() == root and (root / "pyproject.toml").is_file():
        return _git(root, "describe", "--always", "--dirty", "--abbrev=12") or __version__
    return __version__


def _git(folder: Path, *command: str) -> str:
    """Return what git answers; nothing where it fails or is missing.

    It must leave the repository alone: on a full disk it would leave a lock behind.
    """
    try:
        ran = subprocess.run(
            ["git", "--no-optional-locks", *command],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""
