"""Policies x one case -> a table: the same episodes for all, with intervals and provenance."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from netllm_gym import __version__
from netllm_gym.data.episode import Episode
from netllm_gym.envs.plan import PlannedEpisode, check_seeds
from netllm_gym.errors import InputError
from netllm_gym.policies.policy import Limit, Policy
from netllm_gym.problems import LoadedPolicy, Problem, check_names, find_problem, load_policy
from netllm_gym.rollout import Rollout, rollout, warm_up

MOST_ROWS = 256  # episodes that are played side by side
RESAMPLES = 10_000  # of a bootstrap
FloatArray = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean and the 95 % interval of its bootstrap, which takes two groups or more."""

    mean: float
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Row:
    """One policy's result on a case.

    Attributes:
        policy: Its name.
        metric: What `mean` measures.
        mean: Over episodes.
        ci95: Bootstrap over groups of episodes that are not independent (recordings); none where
            all are of one group.
        n: Episodes.
        per_episode: (n,) the metric of each, in the order of the case.
        decision_ms: Wall time per decision, all episodes side by side; None of a limit.
        components: Means of what is reported beside the metric; None of a limit.
        trained_on: What a learned policy was trained on; one that saw the case, or was selected on
            it, says so.
        versus: Paired difference to the strongest baseline, by its name.
        upper_bound: Mean that no policy can exceed, where the policy certifies one.
    """

    policy: str
    metric: str
    mean: float
    ci95: tuple[float, float] | None
    n: int
    per_episode: list[float]
    decision_ms: float | None
    components: dict[str, float | None]
    trained_on: str
    versus: dict[str, Any] | None = None
    upper_bound: float | None = None


@dataclass(frozen=True)
class Table:
    """All rows of one case, and what made them."""

    problem: str
    case: dict[str, Any]
    commit: str
    rows: list[Row]

    def to_json(self) -> str:
        """Return the table as JSON text; equal tables give equal text."""
        return json.dumps(asdict(self), indent=1) + "\n"


def evaluate(
    problem: str,
    policies: Sequence[str | LoadedPolicy],
    case: Mapping[str, Any],
    seed: int = 0,
    device: str = "cpu",
    episodes: int = 1,
    on_episode: Callable[[str, int, int], None] | None = None,
) -> Table:
    """Play every episode of a case with every policy.

    Args:
        problem: Short name.
        policies: Names, folders of trained policies, or loaded ones.
        case: Arguments of the environment, such as traces and video.
        seed: Of the first episode; worlds are the same for any, policies that draw are not.
        device: Where trained policies run.
        episodes: Play at least so many; a case has a number of its own.
        on_episode: Told policy, episodes done and episodes in all.

    Raises:
        InputError: If a policy or a part of the case does not exist, or two policies have the same
            name; nothing is played then.
    """
    row = find_problem(problem)
    if not policies:
        raise InputError("policies must name at least one, got none")
    loaded = [
        load_policy(one, problem, device) if isinstance(one, str) else one for one in policies
    ]
    probe = row.make_env(1, **case)
    whole = probe.evaluation_plan(episodes)
    check_seeds(seed, len(whole))
    plan = [PlannedEpisode(seed + number, planned.options) for number, planned in enumerate(whole)]
    built = [(policy, *_build(row, policy, case, len(plan))) for policy in loaded]
    check_names(actor.name for _, actor, _ in built)
    if all(hasattr(actor, "limits") for _, actor, _ in built):
        raise InputError(f"policies must name one that plays, got {built[0][1].name}, a limit")
    results: list[_Result] = []
    for policy, actor, env in built:
        count = _Counter(actor.name, len(plan), on_episode)
        if hasattr(actor, "limits"):
            results.append(_Result(policy, actor, actor.limits(plan), None))
            count(len(plan))
            continue
        warm_up(policy.factory(probe), probe, plan[0])
        played = rollout(actor, env, plan, count, keep_observations=False)
        results.append(_Result(policy, actor, _metric(row, played.episodes), played))
        _check_finished(row, actor.name, results[-1].values)
    cases = next(result.played.episodes for result in results if result.played)
    groups = _groups(cases, row.interval_over)
    best = _strongest_baseline(row, results)
    rows = []
    for result in results:
        versus = None
        if best is not None and result is not best:
            gain = bootstrap(result.values - best.values, groups)
            versus = {"policy": best.actor.name, "mean": gain.mean, "ci95": gain.ci95}
        rows.append(_row(row, result, groups, versus))
    asked = {**row.default_case, **case}
    described = {key: _describe(_made_of(probe, key, value)) for key, value in asked.items()}
    return Table(problem, described, _commit(), rows)


def score(
    problem: Problem, factory: Callable[[Any], Policy], env: Any, plan: Sequence[PlannedEpisode]
) -> float:
    """Return the mean metric with every group of episodes (recording) weighted equally."""
    episodes = rollout(factory(env), env, plan, keep_observations=False).episodes
    groups = _groups(episodes, problem.interval_over)
    sums = np.bincount(groups, weights=_metric(problem, episodes))
    return float((sums / np.bincount(groups)).mean())


def _build(
    problem: Problem, policy: LoadedPolicy, case: Mapping[str, Any], episodes: int
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


class _Result(NamedTuple):
    """What one policy, or one limit, has on a case."""

    policy: LoadedPolicy
    actor: Any  # a Policy, or a Limit
    values: FloatArray  # (E,)
    played: Rollout | None  # None of a limit


def _row(
    problem: Problem,
    result: _Result,
    groups: NDArray[np.int64],
    versus: dict[str, Any] | None,
) -> Row:
    policy, actor, values, played = result
    interval = bootstrap(values, groups)
    return Row(
        policy=actor.name,
        metric=problem.metric,
        mean=interval.mean,
        ci95=interval.ci95,
        n=len(values),
        per_episode=values.tolist(),
        decision_ms=1000.0 * played.decision_s if played else None,
        components={
            name: float(np.mean([problem.value_of(name, each) for each in played.episodes]))
            if played
            else None
            for name in problem.components
        },
        trained_on=_provenance(policy, played.episodes, problem.interval_over) if played else "",
        versus=versus,
        upper_bound=_certified(actor, len(values)),
    )


def _check_finished(problem: Problem, name: str, values: FloatArray) -> None:
    """Refuse results that leave an episode unfinished: its metric is no number."""
    stuck = np.count_nonzero(~np.isfinite(values))
    if stuck:
        raise InputError(
            f"{name} must finish every episode to have a {problem.metric}, "
            f"got stuck in {stuck} of {len(values)}"
        )


def _metric(problem: Problem, episodes: Sequence[Episode]) -> FloatArray:
    return np.array([problem.metric_of(episode) for episode in episodes])


def _certified(actor: Policy, episodes: int) -> float | None:
    bounds = getattr(actor, "upper_bounds", None)
    return float(np.mean(bounds)) if bounds is not None and len(bounds) == episodes else None


def _groups(episodes: Sequence[Episode], field: str) -> NDArray[np.int64]:
    """Return (E,) number of the group that each episode belongs to."""
    names = [str(episode.case[field]) for episode in episodes]
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)


def _provenance(policy: LoadedPolicy, episodes: Sequence[Episode], field: str) -> str:
    """Say what a policy was trained on, and how much of the case its making saw."""
    played, plural = (
        {str(episode.case[field]) for episode in episodes},
        field.removesuffix("s") + "s",
    )
    leaks = []
    for how, known in (("saw", policy.recordings), ("selected on", policy.selected_on)):
        found = {
            str(episode.case[field])
            for episode in episodes
            if known & {str(episode.case[field]), str(episode.case["content"])}
        }
        if found:
            leaks.append(f"{how} {len(found)} of {len(played)} {plural}")
    return f"{policy.trained_on} (leaky: {', '.join(leaks)})" if leaks else policy.trained_on


def _strongest_baseline(problem: Problem, results: Sequence[_Result]) -> _Result | None:
    """Return the best policy that is neither learned nor a bound."""
    rules = [
        result
        for result in results
        if result.played and not result.policy.learned and result.policy.name != problem.bound
    ]
    return max(rules, key=lambda rule: problem.goodness(float(rule.values.mean())), default=None)


def bootstrap(values: FloatArray, groups: NDArray[np.int64]) -> Interval:
    """Return the mean and its 95 % interval, resampling whole groups of episodes.

    One group says nothing of how groups differ, so it gives no interval.

    Args:
        values: (E,) one per episode.
        groups: (E,) group of each, 0 to G - 1.
    """
    sums, counts = np.bincount(groups, weights=values), np.bincount(groups)
    if len(sums) < 2:
        return Interval(float(values.mean()), None)
    rng = np.random.default_rng(0)  # equal inputs give equal intervals
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=RESAMPLES)
    low, high = np.percentile((drawn @ sums) / (drawn @ counts), [2.5, 97.5])
    return Interval(float(values.mean()), (float(low), float(high)))


def _made_of(env: Any, name: str, asked: Any) -> Any:
    """Return what the environment made of a number in the case: it may have taken less."""
    made = getattr(env, name, asked)
    return made if isinstance(asked, int) and isinstance(made, int) else asked


def _describe(value: Any) -> str:
    """Name a part of the case: a set or video knows its own name."""
    if isinstance(value, str | Path):
        return str(value)
    return str(getattr(value, "name", value))


def _commit(package: Path = Path(__file__).parent) -> str:
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
