"""Speed of the CJS simulator: decisions per CPU second, side by side with a slow obvious loop.

All sides play whole episodes of 200 jobs on 50 executors, share executors out fairly, see what a
scheduler sees at each decision, and are timed in turns in one run, so the ratio holds on any
machine and under any load. Beginning the episodes is timed too.

    python benchmarks/cjs_speed.py [--plain PATH]

`--plain` names a program with `arrivals`, `rng_sampler`, `heuristic` and `Sim(...).obs/.step`;
without it the scalar environment is the slower side. The last line is how much memory one episode
takes, numba and the workload included, from a process of its own (Linux).
"""

import argparse
import importlib.util
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np

import netllm_gym  # noqa: F401
from netllm_gym.data.datasets import data_folder
from netllm_gym.envs.cjs.vector_env import CJSVectorEnv
from netllm_gym.policies.baselines.cjs import Fair

ROUNDS, FIRST_SEED = 5, 1
EXECUTORS, JOBS = 50, 200
MEMORY = "--memory"
WORKLOAD = "tpch" if (data_folder() / "cjs" / "tpch").is_dir() else "synthetic"


def plain_decisions(path: Path) -> Callable[[], int]:
    """Return a function that plays an episode in the plain loop and counts its decisions."""
    spec = importlib.util.spec_from_file_location("plain", path)
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)

    def run() -> int:
        sampler = plain.rng_sampler(random.Random(FIRST_SEED))
        loop = plain.Sim(plain.arrivals(FIRST_SEED, JOBS), EXECUTORS, sampler)
        decisions, done = 0, False
        while not done:
            loop.obs()
            _, done = loop.step(plain.heuristic(loop, "fair"))
            decisions += 1
        return decisions

    return run


def scalar_decisions(workload: str) -> Callable[[], int]:
    """Return a function that plays an episode in the scalar environment, padded."""
    env = gym.make("NetLLM-CJS-v0", workload=workload, disable_env_checker=True).unwrapped

    def run() -> int:
        observation, _ = env.reset(seed=FIRST_SEED)
        decisions, done = 0, False
        while not done:
            observation, _, done, _, _ = env.step(fair(observation))
            decisions += 1
        return decisions

    return run


def fair(observation: dict[str, np.ndarray]) -> np.ndarray:
    """Return what `Fair` would, from the padded observation."""
    offered = np.flatnonzero(observation["stage_mask"])
    waits = np.isin(offered, observation["edges"][:, 1])
    supply, job_of = observation["job_executors"], observation["stage_job"]
    cap = -(-EXECUTORS // max(1, int((supply >= 0).sum())))
    source, committable = int(observation["source_job"][0]), int(observation["committable"][0])
    jobs = job_of[offered]
    room = np.where(jobs == source, committable, cap - supply[jobs])
    if not (room > 0).any():
        return np.array([len(job_of), committable - 1])
    job = source if (jobs == source).any() else jobs[room > 0].min()
    own = np.flatnonzero(jobs == job)
    stage = own[np.argmin(waits[own])]
    return np.array([offered[stage], min(committable, room[stage]) - 1])


def vector_decisions(workload: str, num_envs: int) -> Callable[[], int]:
    """Return a function that plays an episode in each of `num_envs` rows, unpadded."""
    env = CJSVectorEnv(num_envs, workload, padded=False, autoreset_mode="Disabled")
    policy = Fair(env)

    def run() -> int:
        view, infos = env.reset(seed=FIRST_SEED)
        decisions, ended, rewards = 0, np.zeros(num_envs, bool), np.zeros(num_envs)
        while not ended.all():
            decisions += num_envs - int(ended.sum())
            view, rewards, terminated, truncated, infos = env.step(policy.act(view, rewards, infos))
            ended = terminated | truncated
        return decisions

    return run


def decisions_per_cpu_second(run: Callable[[], int]) -> float:
    started_s = time.process_time()
    decisions = run()
    return decisions / (time.process_time() - started_s)


def peak_mb() -> float:
    # Of getrusage the peak would be the parent's, which a new program inherits.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024.0


def print_memory() -> None:
    """Play one episode and print by how many MB it raised the peak of this process."""
    before_mb = peak_mb()
    scalar_decisions(WORKLOAD)()
    print(f"{peak_mb() - before_mb:.0f} MB over the {before_mb:.0f} MB of the package")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", type=Path)
    parser.add_argument(MEMORY, action="store_true", help="only one episode's memory")
    asked = parser.parse_args()
    if asked.memory:
        print_memory()
        return
    sides = {"plain loop": plain_decisions(asked.plain)} if asked.plain else {}
    sides |= {"scalar env, padded": scalar_decisions(WORKLOAD)}
    sides |= {f"vector env, {rows} rows": vector_decisions(WORKLOAD, rows) for rows in (32, 128)}
    for run in sides.values():
        run()  # compile and warm up
    speeds = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            speeds[name].append(decisions_per_cpu_second(run))
    first = next(iter(sides))
    print(
        f"{WORKLOAD}, {JOBS} jobs, {EXECUTORS} executors: median of {ROUNDS} rounds, "
        "decisions per CPU second"
    )
    for name, found in speeds.items():
        ratios = [one / slow for one, slow in zip(found, speeds[first], strict=True)]
        print(
            f"{name:24} {statistics.median(found):>12,.0f}   "
            f"{statistics.median(ratios):6.1f} times the {first} "
            f"({min(ratios):.1f} to {max(ratios):.1f})"
        )
    alone = subprocess.run(
        [sys.executable, __file__, MEMORY], check=True, capture_output=True, text=True
    )
    print(f"one episode of the scalar env: {alone.stdout.strip()}")


if __name__ == "__main__":
    main()
