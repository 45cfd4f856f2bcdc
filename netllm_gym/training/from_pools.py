"""What a method that learns from experience pools is given: episodes, validation, provenance."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.configs import check
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.pools.pool import ExperiencePool
from netllm_gym.pools.windows import PaddedEpisodes
from netllm_gym.problems.index import find_control
from netllm_gym.problems.problem import ControlProblem, imported
from netllm_gym.training.methods import TrainRequest
from netllm_gym.training.run import TrainingRun
from netllm_gym.training.validation import Validation, validation_on
from netllm_gym.typed_json import checked


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The checked episodes to learn from, the kind of returns, and the run that is made of them."""

    episodes: PaddedEpisodes
    validation: Validation
    returns: ReturnSpec
    run: TrainingRun


def training_data(request: TrainRequest, returns: ReturnSpec, *, imitates: bool) -> TrainingData:
    """Return the data of a request, checked.

    If it names no policies, the one with the highest mean return is learned from, or all policies
    where an expert was asked and is imitated.

    Raises:
        InputError: If a pool cannot be learned from, pools do not fit each other, or the returns or
            the policies do not fit the pools.
    """
    pools = open_pools(request.problem.name, request.pools)
    problem = find_control(request.problem.name)
    policies = request.policies or default_teachers(pools, imitates)
    if returns.kind == "auto":
        if returns.baseline:  # whoever names one wants it
            kind, baseline = "baseline", returns.baseline
        else:
            kind, baseline = default_returns(pools, policies)
        returns = replace(returns, kind=kind, baseline=baseline)
    follows_expert = imitates and any(pool.has_expert for pool in pools)
    rule = "be none where an expert is imitated, whose returns nobody knows"
    check(not follows_expert or returns.kind == "none", "returns", rule, returns.kind)
    _check_baseline(returns, policies, pools)
    if returns.kind == "none":
        for each in fields(returns):
            value = getattr(returns, each.name)
            option, rule = each.metadata["option"], "be left out where a policy is told no return"
            check(each.name == "kind" or value == each.default, option, rule, value)
    source = ", ".join(str(pool.folder) for pool in pools)
    episodes = replace(PaddedEpisodes.from_pools(pools, policies), source=source)
    for pool in pools:
        _check_env_spec(pool, problem)
    _check_alike(pools, problem)
    validation = validation_on(problem, pools[0].env_spec["arguments"], request.validate_on)
    run = validation.run(request, _provenance(pools, policies))
    return TrainingData(episodes=episodes, validation=validation, returns=returns, run=run)


def open_pools(problem: str, pools: Sequence[Path]) -> list[ExperiencePool]:
    """Return the pools in the folders; refuse none, and one that is named twice."""
    opened = [ExperiencePool.load(folder, problem) for folder in pools]
    if not opened or len({pool.sha256 for pool in opened}) < len(opened):
        names = ", ".join(map(str, pools)) or "none"
        raise InputError(f"pools must be one or more, all different, got {names}")
    return opened


def best_teacher(pools: Sequence[ExperiencePool], among: Sequence[str] | None = None) -> tuple[str]:
    """Return the policy of some pools with the highest mean return."""
    totals: dict[str, FloatArray] = defaultdict(lambda: np.zeros(2))  # return, episodes
    for pool in pools:
        for name, told in pool.summary().policies.items():
            totals[name] += (told.mean_return * told.num_episodes, told.num_episodes)
    found = {name: each[0] / each[1] for name, each in totals.items() if not among or name in among}
    if not found:
        raise InputError(
            f"policies must be in the pool ({', '.join(sorted(totals))}), "
            f"got {', '.join(among or ())}"
        )
    return (max(found, key=lambda name: found[name]),)


def default_teachers(pools: Sequence[ExperiencePool], imitates: bool) -> Sequence[str]:
    """Return whose episodes to learn from: the best teacher's, or all where an expert is imitated.

    The answers of an expert are as good in anybody's episodes. Where it was asked in some pools
    only, all would be too many of the others.
    """
    asked = {pool.has_expert for pool in pools} if imitates else {False}
    if len(asked) > 1:
        raise InputError(
            "policies must be named (--policies) for pools of which only some have an expert's "
            "answers, got none"
        )
    if True in asked:
        return sorted({name for pool in pools for name in pool.policies})
    return best_teacher(pools)


def default_returns(pools: Sequence[ExperiencePool], policies: Sequence[str]) -> tuple[str, str]:
    """Return kind and baseline of the returns that suit some policies of some pools.

    With several policies, a policy is told its gain over the best of them. With one policy it is
    told nothing; likewise with the answers of an expert, which are those of one policy, and with
    several pools, where an episode has no counterpart to compare it with.
    """
    if len(policies) < 2 or len(pools) > 1 or pools[0].has_expert:
        return "none", ""
    return "baseline", best_teacher(pools, policies)[0]


def _check_alike(pools: Sequence[ExperiencePool], problem: ControlProblem) -> None:
    """Refuse pools in which an action or a reward does not mean the same."""
    cases = {json.dumps(pool.env_spec["arguments"]): None for pool in pools}
    if len(cases) == 1 or not problem.action_meaning:
        return
    meaning_of = imported(problem.action_meaning)
    found = {meaning_of(problem.make_env(1, **json.loads(case))): None for case in cases}
    if len(found) > 1:
        raise InputError(
            f"actions and rewards must mean the same in all pools, got {' and '.join(found)}"
        )


@dataclass(frozen=True)
class _Played:
    """Where the episodes of a pool come from, as far as training reads it."""

    recordings: list[str]


@dataclass(frozen=True)
class _EnvSpec:
    """What `collect` writes of the environment, as far as training reads it."""

    id: str
    arguments: dict[str, Any]
    worlds: _Played
    teachers_recordings: list[str] = field(default_factory=list)


def _check_env_spec(pool: ExperiencePool, problem: ControlProblem) -> None:
    """Refuse a pool that does not say, as `collect` does, what was played."""
    with errors_begin_with(pool.folder / "meta.json"):
        if missing := {"arguments", "worlds"} - pool.env_spec.keys():
            raise InputError(
                f"env_spec must hold {' and '.join(sorted(missing))}, as `collect` writes them, "
                "got none"
            )
        spec = checked(_EnvSpec, dict(pool.env_spec), "env_spec", ignore_unknown=True)
        check(spec.id == problem.env_id, "id", f"be {problem.env_id}", spec.id)
        known = {*problem.case_options}
        rule = f"have no other names than {', '.join(problem.case_options)}"
        check(spec.arguments.keys() <= known, "arguments", rule, spec.arguments)


def _check_baseline(
    returns: ReturnSpec, policies: Sequence[str], pools: Sequence[ExperiencePool]
) -> None:
    """Refuse a baseline that is left out of the training, or whose episodes have no like."""
    name = returns.baseline
    if returns.kind == "baseline" and len(pools) > 1:
        # An episode's seed finds its like, and the same seed plays other things in another pool.
        raise InputError(f"returns must be none or return_to_go for several pools, got {name!r}")
    if returns.kind == "baseline" and name in pools[0].policies and name not in policies:
        raise InputError(
            f"baseline must be among the teachers ({', '.join(policies)}), got {name!r}, "
            "which is in the pool: name it in --policies too"
        )


def _provenance(pools: Sequence[ExperiencePool], policies: Sequence[str]) -> dict[str, Any]:
    """Return what is learned from, as JSON; a run is resumed only with an equal one."""
    recordings, names = set[str](), defaultdict[str, list[str]](list)
    told = dict.fromkeys(option for pool in pools for option in pool.env_spec["worlds"])
    for spec in (pool.env_spec for pool in pools):
        # A policy that imitates a teacher has indirectly seen what the teacher was trained on.
        recordings |= {*spec["worlds"]["recordings"], *spec.get("teachers_recordings", ())}
        for option in told:  # what a pool does not tell is as usual
            value = spec["worlds"].get(option, "default")
            if option != "recordings" and value not in names[option]:
                names[option].append(value)
    plans = [pool.plan for pool in pools]
    return {
        **{option: " + ".join(map(str, values)) for option, values in names.items()},
        "recordings": sorted(recordings),
        "policies": list(policies),
        "plan": plans[0] if len(plans) == 1 else plans,
        "pool_sha256": " + ".join(pool.sha256 for pool in pools),
    }
