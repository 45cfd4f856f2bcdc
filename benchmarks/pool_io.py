"""Size and speed of experience pools on disk, and the memory that reading one takes.

Plays a million ABR steps, then times writing them, opening and reading them. A second process then
streams a pool whose episodes, decoded, are ten times what its memory may grow by; the limit is the
system's own (RLIMIT_DATA), so one byte more would be a MemoryError.

    python benchmarks/pool_io.py [--steps N]
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.baselines.abr import BBA
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.problems.index import find_problem

EPISODE_STEPS = 47
TIMES_THE_LIMIT = 10


def timed(run):
    """Return what `run` returns, and its wall and CPU seconds."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = run()
    return result, time.perf_counter() - wall_s, time.process_time() - cpu_s


def played_shards(steps):
    """Yield shards of episodes as `collect` plays and keeps them."""
    episodes = -(-steps // EPISODE_STEPS)
    problem = find_problem("abr")
    env = problem.make_env(problem.shard_episodes)
    for first in range(0, episodes, problem.shard_episodes):
        seeds = range(first, min(first + problem.shard_episodes, episodes))
        plan = [PlannedEpisode(seed) for seed in seeds]
        played = rollout(BBA(env), env, plan).episodes
        yield [replace(episode, infos={}) for episode in played]


def write(folder, shards):
    writer = PoolWriter(folder, "abr", {}, {"num_shards": len(shards)})
    for number, episodes in enumerate(shards):
        writer.write(number, episodes)


def read_columns(folder):
    pool = ExperiencePool.load(folder)
    columns = [f"column.{name}" for name in next(pool.shards()).columns]
    return pool.columns("actions", "rewards", *columns)


def read_episodes(pool):
    """Rebuild every episode; return the bytes that all of them would take."""
    return sum(
        episode.observations.nbytes + episode.actions.nbytes + episode.rewards.nbytes
        for episode in pool.episodes
    )


def stream(folder, most_bytes):
    """Read all episodes while this process may grow by so many bytes and no more."""
    pool = ExperiencePool.load(folder)
    held_bytes = int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held_bytes + most_bytes, hard))
    decoded_bytes = read_episodes(pool)
    print(
        f"streamed {decoded_bytes / 1e6:.0f} MB of episodes "
        f"while memory could grow by {most_bytes / 1e6:.0f} MB"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--stream", nargs=2, metavar=("POOL", "BYTES"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stream:
        stream(asked.stream[0], int(asked.stream[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool"
        shards = list(played_shards(asked.steps))
        steps = sum(episode.num_steps for shard in shards for episode in shard)
        _, wall_s, cpu_s = timed(lambda: write(pool, shards))
        megabytes = sum(path.stat().st_size for path in pool.iterdir()) / 1e6
        print(f"{steps:,} steps: {megabytes:.1f} MB, written in {wall_s:.2f} s ({cpu_s:.2f} CPU)")
        read_columns(pool)
        _, wall_s, cpu_s = timed(lambda: read_columns(pool))
        print(f"read as columns in {wall_s:.2f} s ({cpu_s:.2f} CPU)")
        decoded, wall_s, cpu_s = timed(lambda: read_episodes(ExperiencePool.load(pool)))
        print(f"read as episodes, observations rebuilt, in {wall_s:.2f} s ({cpu_s:.2f} CPU)")
        most_bytes = decoded // TIMES_THE_LIMIT
        asked = [sys.executable, __file__, "--stream", str(pool), str(most_bytes)]
        subprocess.run(asked, check=True)


if __name__ == "__main__":
    main()
