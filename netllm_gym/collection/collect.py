"""Experience pools: policies play training episodes, shard by shard, resumable at any moment."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from netllm_gym.collection.engines import map_in_order
from netllm_gym.collection.expert import ExpertLabelledPolicy
from netllm_gym.collection.lookahead import action_values
from netllm_gym.envs.plan import check_seeds
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.loading import LoadedPolicy, check_names, load_policy
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.pools.shard import PackedShard, codec_of, pack_shard
from netllm_gym.problems.index import find_control


class _Shard(NamedTuple):
    """What one shard holds; enough for another process to make it."""

    problem: str
    case: dict[str, Any]
    policy: str
    seeds: range
    lookahead: str | None
    expert: str | None


def collect(
    problem: str,
    policies: Sequence[str],
    episodes: int,
    out: Path | str,
    case: Mapping[str, Any],
    seed: int = 0,
    workers: int = 1,
    on_episode: Callable[[int, int], None] | None = None,
    lookahead: str | None = None,
    expert: str | None = None,
) -> ExperiencePool:
    """Let each policy play the same training episodes and write what happened.

    Every policy plays episodes `seed` to `seed + episodes - 1`, so their returns can be compared
    episode by episode. The pool's bytes depend on the arguments only, not on `workers` nor on how
    often the collection was interrupted: run it again and it goes on.

    Args:
        problem: Short name.
        policies: Names, or folders of trained policies.
        episodes: Of each policy.
        out: Folder of the pool; new, empty, or begun by the same command.
        case: Arguments of the environment, such as traces, video, noise.
        seed: Of the first episode.
        workers: Processes.
        on_episode: Told episodes done and episodes in all.
        lookahead: Name or folder of a policy that plays on after each action that could have been
            taken, so that the pool holds what each is worth (`lookahead.py`); ABR only.
        expert: Name or folder of a policy that is asked at each step what it would do, which is
            what language model and "bc" then imitate (`expert.py`).

    Raises:
        InputError: If an argument breaks a rule; nothing is written then.
        OSError: If the machine fails; the shards that are written stay.
    """
    row = find_control(problem)
    if episodes < 1:
        raise InputError(f"episodes must be at least 1, got {episodes}")
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    check_seeds(seed, episodes)
    if not policies:
        raise InputError("policies must name at least one, got none")
    probe = row.make_env(1, **case)
    teachers = [load_policy(policy, problem) for policy in policies]
    others = {  # role -> who does not play
        role: load_policy(policy, problem)
        for role, policy in (("lookahead", lookahead), ("expert", expert))
        if policy is not None
    }
    _check_roles(problem, probe, teachers, others)
    shards = [
        _Shard(
            problem,
            dict(case),
            policy,
            range(first, min(first + row.shard_episodes, seed + episodes)),
            lookahead,
            expert,
        )
        for policy in policies
        for first in range(seed, seed + episodes, row.shard_episodes)
    ]
    plan = {
        "policies": list(policies),
        "episodes": episodes,
        "seed": seed,
        "num_shards": len(shards),
        **({} if lookahead is None else {"lookahead": lookahead}),
        **({} if expert is None else {"expert": expert}),
    }
    whole = probe.training_plan(range(seed, seed + episodes))
    spec = {
        "id": row.env_id,
        "arguments": _arguments(case),
        "worlds": probe.provenance(whole),
        **_origin(teachers, others),
    }
    writer = PoolWriter(out, problem, spec, plan)
    _loaded.cache_clear()  # files may have changed since an earlier collection
    missing = writer.missing()
    total = episodes * len(policies)
    done = total - sum(len(shards[number].seeds) for number in missing)
    with closing(map_in_order(_make, [shards[number] for number in missing], workers)) as made:
        for number, packed in zip(missing, made, strict=True):
            writer.write_packed(number, packed)
            done += len(shards[number].seeds)
            if on_episode is not None:
                on_episode(done, total)
    return ExperiencePool.load(out, problem)


def _check_roles(
    problem: str,
    probe: Any,
    teachers: Sequence[LoadedPolicy],
    others: Mapping[str, LoadedPolicy],
) -> None:
    """Refuse what cannot play, or cannot go on where another did."""
    actors = [teacher.factory(probe) for teacher in teachers]
    for actor in actors:
        if hasattr(actor, "limits"):
            raise InputError(f"policies must be ones that play, got {actor.name}, a limit")
    check_names(actor.name for actor in actors)
    for role, other in others.items():
        if role == "lookahead" and not hasattr(probe.batch, "stand_as"):
            raise InputError(f"lookahead must be left out for {problem}, got {other.name!r}")
        actor = other.factory(probe)
        if hasattr(actor, "limits") or getattr(actor, "needs_own_episodes", False):
            raise InputError(
                f"{role} must be a policy that can go on where another was, got {other.name!r}"
            )


def _origin(teachers: Sequence[LoadedPolicy], others: Mapping[str, LoadedPolicy]) -> dict[str, Any]:
    """Say what made the policies."""
    everybody = [*teachers, *others.values()]
    seen = frozenset[str]().union(*(each.recordings | each.selected_on for each in everybody))
    weights = {teacher.name: teacher.sha256 for teacher in teachers if teacher.sha256}
    return {
        # Whoever learns from a trained policy inherits what made that one.
        **({"teachers_recordings": sorted(seen)} if seen else {}),
        # A folder whose policy is trained further would play other episodes.
        **({"teachers_sha256": weights} if weights else {}),
        **{f"{role}_sha256": other.sha256 for role, other in others.items() if other.sha256},
    }


def _make(shard: _Shard) -> PackedShard:
    row = find_control(shard.problem)
    factory = load_policy(shard.policy, shard.problem).factory
    rows = 1 if getattr(factory, "needs_sequential", False) else len(shard.seeds)
    named = {name: tuple(it) if isinstance(it, list) else it for name, it in shard.case.items()}
    case = _loaded(shard.problem, tuple(named.items()))
    env = row.make_env(rows, **case)
    plan = env.training_plan(shard.seeds)
    if shard.expert is None:
        played = rollout(factory(env), env, plan).episodes
    else:
        expert = load_policy(shard.expert, shard.problem).factory
        both = ExpertLabelledPolicy(factory(env), expert(env))
        played = both.answered(rollout(both, env, plan).episodes)
    # The infos can be had again by playing the episode's seed and actions; a pool keeps none.
    infos: Sequence[Mapping[str, Any]] = [{}] * len(played)
    if shard.lookahead is not None:
        plays_on = load_policy(shard.lookahead, shard.problem).factory
        infos = action_values(partial(row.make_env, **case), plays_on, plan, played)
    kept = [replace(episode, infos=each) for episode, each in zip(played, infos, strict=True)]
    return pack_shard(kept, codec_of(row))


@lru_cache(maxsize=1)
def _loaded(problem: str, case: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """Return a case whose worlds are read once for all shards that a process makes."""
    named = dict(case)
    return {**named, **find_control(problem).make_env(1, **named).loaded}


def _arguments(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return the case as JSON values; only what a command can name may make a pool."""
    for key, value in case.items():
        if not isinstance(value, str | int | float | bool | tuple | list):
            raise InputError(f"{key} must be a name or a number to collect from, got {value!r}")
    return {key: list(value) if isinstance(value, tuple) else value for key, value in case.items()}
