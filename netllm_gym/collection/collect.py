"""Experience pools: policies play training episodes, shard by shard; it can be interrupted."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from netllm_gym.collection.engines import map_in_order
from netllm_gym.collection.expert import ExpertLabelledPolicy
from netllm_gym.collection.lookahead import action_values
from netllm_gym.configs import check
from netllm_gym.envs.plan import check_seeds
from netllm_gym.errors import InputError
from netllm_gym.evaluation.control import as_made
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.files import locked
from netllm_gym.policies.loading import LoadedPolicy, check_names, resolve_policy
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.pools.shard import PackedShard, codec_of, pack_shard
from netllm_gym.problems.index import find_control
from netllm_gym.problems.problem import ControlProblem


@dataclass(frozen=True)
class _Setting:
    """What all shards of a collection have in common.

    Attributes:
        problem_name: Of the problem, which tells settings apart together with `case`.
        case: Arguments of the environment, by their names.
        problem: Its row, which a worker process needs: there nobody may have registered it.
        others: Role, `lookahead` or `expert` -> the policy that has it.
    """

    problem_name: str
    case: tuple[tuple[str, Any], ...]
    problem: ControlProblem = field(compare=False)
    others: Mapping[str, str | LoadedPolicy] = field(compare=False)


class _Shard(NamedTuple):
    """What one shard holds; enough for another process to make it."""

    setting: _Setting
    policy: str | LoadedPolicy
    seeds: range


def collect(
    problem: str,
    policies: Sequence[Any],
    episodes: int,
    out: Path | str,
    case: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    workers: int = 1,
    on_episode: Callable[[int, int], None] | None = None,
    lookahead: Any = None,
    expert: Any = None,
) -> ExperiencePool:
    """Let each policy play the same training episodes and write what happened.

    Every policy plays episodes `seed` to `seed + episodes - 1`, so their returns can be compared
    episode by episode. The bytes of the pool depend on the arguments only, not on `workers` or on
    how often the collection was interrupted. Run it again to continue after an interruption.

    Args:
        problem: Short name of the problem.
        policies: Names, folders of trained policies, "package.module:Name", or classes, functions
            and objects of your own; see `policies/custom.py`.
        episodes: Of each policy.
        out: Folder of the pool; new, empty, or begun by the same command.
        case: Arguments of the environment, such as traces, video, noise. Parts that are left out
            are those of the problem's default case, which is for training.
        seed: Of the first episode.
        workers: Processes. With two or more, every policy must be one that can be imported.
        on_episode: Told episodes done and episodes in all.
        lookahead: Policy that plays on after each action that could have been taken, so that the
            pool holds the value of each (`lookahead.py`); ABR only.
        expert: Policy that is asked at each step what it would do. Language models and "bc" then
            imitate its answers (`expert.py`).

    Raises:
        InputError: If an argument breaks a rule; nothing is written then.
        OSError: If the machine fails; the shards that are written stay.
    """
    found = find_control(problem)
    policies = [policies] if isinstance(policies, str) else policies
    for name, value in (("episodes", episodes), ("workers", workers)):
        check(type(value) is int and value >= 1, name, "be at least 1", value)
    check_seeds(seed, episodes)
    if not policies:
        raise InputError("policies must name at least one, got none")
    case = {**found.default_case, **(case or {})}
    probe = found.make_env(1, **case)
    case = as_made(probe, case)
    teachers = [resolve_policy(policy, found) for policy in policies]
    asked = {"lookahead": lookahead, "expert": expert}  # role -> who does not play
    asked = {role: policy for role, policy in asked.items() if policy is not None}
    others = {role: resolve_policy(policy, found) for role, policy in asked.items()}
    names = _check_roles(found, probe, teachers, others)
    setting = _setting_of(found, case, others, workers)
    shards = [
        _Shard(setting, policy, range(first, min(first + found.shard_episodes, seed + episodes)))
        for policy in [_for_workers(teacher, workers) for teacher in teachers]
        for first in range(seed, seed + episodes, found.shard_episodes)
    ]
    plan = {
        "policies": [_text_of(*pair) for pair in zip(policies, teachers, strict=True)],
        "episodes": episodes,
        "seed": seed,
        "num_shards": len(shards),
        **{role: _text_of(policy, others[role]) for role, policy in asked.items()},
    }
    spec = {
        "id": found.env_id,
        "arguments": named_arguments(case),
        "worlds": probe.provenance(probe.training_plan(range(seed, seed + episodes))),
        **_origin(dict(zip(names, teachers, strict=True)), others),
    }
    with locked(Path(out)):
        writer = PoolWriter(out, problem, spec, plan)
        _loaded.cache_clear()  # files may have changed since an earlier collection
        missing = writer.missing()
        total = episodes * len(teachers)
        done = total - sum(len(shards[number].seeds) for number in missing)
        with closing(map_in_order(_make, [shards[number] for number in missing], workers)) as made:
            for number, packed in zip(missing, made, strict=True):
                writer.write_packed(number, packed)
                done += len(shards[number].seeds)
                if on_episode is not None:
                    on_episode(done, total)
    return ExperiencePool.load(out, problem)


def _setting_of(
    problem: ControlProblem, case: Mapping[str, Any], others: Mapping[str, Any], workers: int
) -> _Setting:
    """Return what all shards have in common, as the processes that make them can take it."""
    if workers > 1:  # registered policies that cannot be imported stay in this process
        known = problem.policies.items()
        importable = {name: entry for name, entry in known if isinstance(entry.target, str)}
        problem = replace(problem, policies=importable)
    return _Setting(
        problem_name=problem.name,
        case=tuple((key, tuple(it) if isinstance(it, list) else it) for key, it in case.items()),
        problem=problem,
        others={role: _for_workers(policy, workers) for role, policy in others.items()},
    )


def _check_roles(
    problem: ControlProblem,
    probe: Any,
    teachers: Sequence[LoadedPolicy],
    others: Mapping[str, LoadedPolicy],
) -> list[str]:
    """Refuse what cannot play, or cannot continue another's episode; return the players' names."""
    actors = [teacher.factory(probe) for teacher in teachers]
    for actor in actors:
        if hasattr(actor, "limits"):
            raise InputError(f"policies must be ones that play, got {actor.name}, a limit")
    check_names(actor.name for actor in actors)
    for role, other in others.items():
        if role == "lookahead" and not hasattr(probe.batch, "stand_as"):
            raise InputError(f"lookahead must be left out for {problem.name}, got {other.name!r}")
        check_answers_anywhere(role, other, probe)
    return [actor.name for actor in actors]


def check_answers_anywhere(role: str, policy: LoadedPolicy, env: Any) -> None:
    """Refuse a policy that cannot be asked in an episode that another policy plays.

    It is built for `env`, an environment of one row; an error calls it by its `role`.
    """
    actor = policy.factory(env)
    if hasattr(actor, "limits") or getattr(actor, "needs_own_episodes", False):
        raise InputError(
            f"{role} must be a policy that can go on where another was, got {policy.name!r}"
        )


def _for_workers(policy: LoadedPolicy, workers: int) -> str | LoadedPolicy:
    """Return a policy as the process that makes a shard can take it."""
    if workers == 1:
        return policy
    if not policy.spec:
        raise InputError(
            f"workers must be 1 for the policy {policy.name}, which another process cannot import, "
            f"got {workers}"
        )
    return policy.spec


def _text_of(policy: Any, loaded: LoadedPolicy) -> str:
    """Return what the plan of a pool calls a policy: what was asked for, if that is text."""
    return policy if isinstance(policy, str) else loaded.asked_for


def _origin(
    teachers: Mapping[str, LoadedPolicy], others: Mapping[str, LoadedPolicy]
) -> dict[str, Any]:
    """Say which recordings, weights and code of users the policies come from, where any do."""
    everybody = {**teachers, **others}
    seen = [each.recordings | each.selected_on for each in everybody.values()]
    told: dict[str, Any] = {
        # A policy that learns from a trained policy inherits what that one was trained on.
        "teachers_recordings": sorted(frozenset[str]().union(*seen)),
        # A folder whose policy is trained further would play other episodes.
        "teachers_sha256": {each.name: each.sha256 for each in teachers.values() if each.sha256},
        **{f"{role}_sha256": other.sha256 for role, other in others.items()},
        "custom_policies": {
            name: {"made_by": policy.made_by, "trained_on": policy.trained_on}
            for name, policy in everybody.items()
            if policy.made_by
        },
    }
    return {name: value for name, value in told.items() if value}


def _make(shard: _Shard) -> PackedShard:
    """Play the episodes of a shard."""
    problem, others, case = shard.setting.problem, shard.setting.others, _loaded(shard.setting)
    factory = resolve_policy(shard.policy, problem).factory
    rows = 1 if getattr(factory, "needs_sequential", False) else len(shard.seeds)
    env = problem.make_env(rows, **case)
    plan = env.training_plan(shard.seeds)
    if "expert" not in others:
        played = rollout(factory(env), env, plan).episodes
    else:
        expert = resolve_policy(others["expert"], problem).factory
        both = ExpertLabelledPolicy(factory(env), expert(env))
        played = both.answered(rollout(both, env, plan).episodes)
    # Playing an episode's seed and actions again gives its infos; a pool does not keep them.
    infos: Sequence[Mapping[str, Any]] = [{}] * len(played)
    if "lookahead" in others:
        plays_on = resolve_policy(others["lookahead"], problem).factory
        infos = action_values(partial(problem.make_env, **case), plays_on, plan, played)
    kept = [replace(episode, infos=each) for episode, each in zip(played, infos, strict=True)]
    return pack_shard(kept, codec_of(problem))


@lru_cache(maxsize=1)
def _loaded(setting: _Setting) -> dict[str, Any]:
    """Return a case whose data are read once for all shards that a process makes."""
    case = dict(setting.case)
    return {**case, **setting.problem.make_env(1, **case).loaded}


def named_arguments(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return the case as JSON values; only what a command can name may make a pool or a run."""
    for key, value in case.items():
        if not isinstance(value, str | int | float | bool | tuple | list):
            raise InputError(f"{key} must be a name or a number to collect from, got {value!r}")
    return {key: list(value) if isinstance(value, tuple) else value for key, value in case.items()}
