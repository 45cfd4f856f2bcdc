"""Experience pools: policies play training episodes, shard by shard, resumable at any moment."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from netllm_gym.data.pool import ExperiencePool, PoolWriter
from netllm_gym.data.shard import CODECS, PackedShard, pack_shard
from netllm_gym.envs.plan import PlannedEpisode, check_seeds
from netllm_gym.errors import InputError
from netllm_gym.problems import check_names, find_problem, load_policy
from netllm_gym.rollout import rollout

SHARD_EPISODES = 250


class _Shard(NamedTuple):
    """What one shard holds; enough for another process to make it."""

    problem: str
    case: dict[str, Any]
    policy: str
    seeds: range


def collect(
    problem: str,
    policies: Sequence[str],
    episodes: int,
    out: Path | str,
    case: Mapping[str, Any],
    seed: int = 0,
    workers: int = 1,
    on_episode: Callable[[int, int], None] | None = None,
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

    Raises:
        InputError: If an argument breaks a rule; nothing is written then.
    """
    row = find_problem(problem)
    if episodes < 1:
        raise InputError(f"episodes must be at least 1, got {episodes}")
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    check_seeds(seed, episodes)
    if not policies:
        raise InputError("policies must name at least one, got none")
    probe = row.make_env(1, **case)
    teachers = [load_policy(policy, problem) for policy in policies]
    check_names(teacher.factory(probe).name for teacher in teachers)
    shards = [
        _Shard(
            problem, dict(case), policy, range(first, min(first + SHARD_EPISODES, seed + episodes))
        )
        for policy in policies
        for first in range(seed, seed + episodes, SHARD_EPISODES)
    ]
    plan = {
        "policies": list(policies),
        "episodes": episodes,
        "seed": seed,
        "num_shards": len(shards),
    }
    spec = {"id": row.env_id, "arguments": _arguments(case), "worlds": probe.provenance()}
    seen = frozenset[str]().union(*(t.recordings | t.selected_on for t in teachers))
    if seen:  # whoever learns from a trained policy inherits what made that one
        spec["teachers_recordings"] = sorted(seen)
    weights = {teacher.name: teacher.sha256 for teacher in teachers if teacher.sha256}
    if weights:  # a folder that was trained on would give other episodes
        spec["teachers_sha256"] = weights
    writer = PoolWriter(out, problem, spec, plan)
    missing = writer.missing()
    total = episodes * len(policies)
    done = total - sum(len(shards[number].seeds) for number in missing)
    for number, packed in _play(shards, missing, workers):
        writer.write_packed(number, packed)
        done += len(shards[number].seeds)
        if on_episode is not None:
            on_episode(done, total)
    return ExperiencePool.load(out, problem)


def _play(
    shards: Sequence[_Shard], missing: Sequence[int], workers: int
) -> Iterator[tuple[int, PackedShard]]:
    """Yield (number, packed shard) in order, made here or in other processes."""
    wanted = [shards[number] for number in missing]
    if workers == 1:
        yield from zip(missing, map(_make, wanted), strict=True)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from zip(missing, pool.map(_make, wanted), strict=True)


def _make(shard: _Shard) -> PackedShard:
    row = find_problem(shard.problem)
    factory = load_policy(shard.policy, shard.problem).factory
    rows = 1 if getattr(factory, "needs_sequential", False) else len(shard.seeds)
    env = row.make_env(rows, **shard.case)
    played = rollout(factory(env), env, [PlannedEpisode(seed) for seed in shard.seeds]).episodes
    # The infos can be had again by playing the episode's seed and actions; a pool keeps none.
    return pack_shard([replace(episode, infos={}) for episode in played], CODECS[shard.problem])


def _arguments(case: Mapping[str, Any]) -> dict[str, Any]:
    """Return the case as JSON values; only what a command can name may make a pool."""
    for key, value in case.items():
        if not isinstance(value, str | int | float | bool | tuple | list):
            raise InputError(f"{key} must be a name or a number to collect from, got {value!r}")
    return {key: list(value) if isinstance(value, tuple) else value for key, value in case.items()}
