"""A case of a control problem: every policy plays the same episodes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.envs.plan import PlannedEpisode, check_seeds
from netllm_gym.errors import InputError
from netllm_gym.evaluation.built import Unfit, built
from netllm_gym.evaluation.provenance import described, training_text
from netllm_gym.evaluation.rollout import OnStep, rollout, warm_up
from netllm_gym.evaluation.statistics import group_numbers
from netllm_gym.evaluation.tables import Row, row_of
from netllm_gym.policies.loading import LoadedPolicy
from netllm_gym.policies.policy import Policy
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.problem import ControlProblem

MOST_ROWS = 256  # episodes that are played side by side


class PlayedCase:
    """The episodes of a case, and the policies that play them.

    All policies are built at once. The error of one that cannot be built, because it does not fit
    the case, is raised when it is to play.

    Attributes:
        described: The parts of the case, as text.
        names: What the policies call themselves; what they were asked for as, if they do not fit.
        num_samples: E, the number of episodes.
        groups: (E,) each: the number of each episode's group, for every way in which episodes are
            not independent; known once a policy has played.
        groups_text: In words, what the groups are; empty for what the problem says.
        remarks: What was wrong with the data and was repaired or left out, a sentence each.
    """

    groups_text = ""

    def __init__(
        self,
        problem: ControlProblem,
        policies: Sequence[LoadedPolicy],
        case: Mapping[str, Any],
        seed: int,
        episodes: int,
    ) -> None:
        self._problem, self._policies = problem, policies
        self._probe = problem.make_env(1, **case)
        planned = self._probe.evaluation_plan(episodes)
        check_seeds(seed, len(planned))
        self._plan = [
            PlannedEpisode(seed + number, each.options) for number, each in enumerate(planned)
        ]
        loaded = {**case, **self._probe.loaded}
        self._envs = []
        for policy in policies:
            sequential = getattr(policy.factory, "needs_sequential", False)
            rows = 1 if sequential else min(len(self._plan), MOST_ROWS)
            self._envs.append(problem.make_env(rows, **loaded))
        self._actors = [
            built(policy, env) for policy, env in zip(policies, self._envs, strict=True)
        ]
        if all(hasattr(actor, "limits") for actor in self._actors):
            name = self._actors[0].name
            raise InputError(f"policies must name one that plays, got {name}, a limit")
        asked = {**problem.default_case, **case}
        self.described = described(as_made(self._probe, asked))
        told = (
            _trained_otherwise(problem, policy, self._probe)
            for policy, actor in zip(policies, self._actors, strict=True)
            if not isinstance(actor, Unfit)
        )
        self.remarks = [*getattr(self._probe, "remarks", ()), *filter(None, told)]
        self.names = [actor.name for actor in self._actors]
        self.num_samples = len(self._plan)
        self.groups: tuple[IntArray, ...] = ()

    def identity(self) -> Any:
        """Return JSON values that say what is played, whatever its name."""
        return [*self._plan, self._probe.provenance(self._plan)]

    def play(self, place: int, on_step: OnStep) -> Row:
        """Let one of the policies play all episodes; return its row without intervals."""
        problem, policy, actor = self._problem, self._policies[place], self._actors[place]
        if isinstance(actor, Unfit):
            raise actor.error
        if hasattr(actor, "limits"):
            nothing = dict.fromkeys(problem.components)
            return row_of(problem, actor.name, actor.limits(self._plan), components=nothing)
        warm_up(policy.factory(self._probe), self._probe, self._plan[0])
        outcome = rollout(actor, self._envs[place], self._plan, on_step, keep_observations=False)
        episodes = outcome.episodes
        values = _metric(problem, episodes)
        unfinished = np.count_nonzero(~np.isfinite(values))
        if unfinished:
            raise InputError(
                f"{actor.name} must finish every episode to have a {problem.metric}, got stuck in "
                f"{unfinished} of {len(values)}, which ended before all work was done"
            )
        names = _group_names(problem, episodes)
        self.groups = (group_numbers(names),)
        known: dict[str, set[str]] = {}  # recording -> the names by which it is known
        for name, episode in zip(names, episodes, strict=True):
            known.setdefault(name, {name}).add(str(episode.case["content"]))
        bounds = getattr(actor, "upper_bounds", ())  # of each episode, if the policy certifies any
        return row_of(
            problem,
            actor.name,
            values,
            decision_ms=1000.0 * outcome.decision_s,
            components={
                name: float(np.mean([problem.value_of(name, each.infos) for each in episodes]))
                for name in problem.components
            },
            trained_on=training_text(policy, known.values(), problem.groups),
            upper_bound=float(np.mean(bounds)) if len(bounds) == len(values) else None,
        )


def as_made(env: Any, case: Mapping[str, Any]) -> dict[str, Any]:
    """Return a case with the numbers that its environment has: it may have fewer jobs."""
    made = {name: getattr(env, name, asked) for name, asked in case.items()}
    return {
        name: made[name] if isinstance(asked, int | None) and isinstance(made[name], int) else asked
        for name, asked in case.items()
    }


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


def _metric(problem: ControlProblem, episodes: Sequence[Episode]) -> FloatArray:
    return np.array([problem.metric_of(episode.infos) for episode in episodes])


def _trained_otherwise(problem: ControlProblem, policy: LoadedPolicy, env: Any) -> str:
    """Say in which rules the case is not that of a policy's training, if that is known."""
    played = getattr(env, "unusual", {})
    names = [
        name
        for name, option in problem.case_options.items()
        if option.is_rule and played.get(name) != policy.unusual.get(name)
    ]
    if not names or not policy.sha256:
        return ""

    def told(how: Mapping[str, str]) -> str:
        special = [f"{each} {how[each]}" for each in names if each in how]
        usual = ", ".join(each for each in names if each not in how)
        return ", ".join([*special, f"the default {usual}"] if usual else special)

    return f"{policy.name} was trained with {told(policy.unusual)} and plays with {told(played)}"


def _group_names(problem: ControlProblem, episodes: Sequence[Episode]) -> list[str]:
    return [str(episode.case[problem.interval_over]) for episode in episodes]
