"""Speed of the ABR simulator: steps per CPU second, side by side with a slow obvious loop.

Both play random low rungs over the same traces and video, make the observation and the reward, and
are timed in turns in one run, so the ratio holds under any load; it differs between processors.

    python benchmarks/abr_speed.py [--plain PATH]

`--plain` names a program with `load_folder`, `load_sizes` and `Loop(t, bw, sizes, pointer).step`;
without it the scalar environment is the slower side.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np

import netllm_gym  # noqa: F401
from netllm_gym.data.abr.sets import trace_set_names
from netllm_gym.data.datasets import data_folder

ROUNDS, EPISODES, BATCH = 7, 100, 1024
REAL = "fcc-test" in trace_set_names()
CASE = {"traces": "fcc-test", "video": "video1"} if REAL else {}


def plain_steps(path: Path) -> Callable[[], int]:
    """Return a function that plays EPISODES episodes in the plain loop and counts its steps."""
    spec = importlib.util.spec_from_file_location("plain", path)
    plain = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plain)
    folder = data_folder() / "abr"
    traces = plain.load_folder(folder / "traces" / "fcc-test")
    sizes = plain.load_sizes(folder / "videos" / "video1")
    actions = np.random.default_rng(0).integers(0, 3, 48 * EPISODES).tolist()

    def run() -> int:
        step = 0
        for episode in range(EPISODES):
            _, time_s, mbps = traces[episode % len(traces)]
            loop = plain.Loop(time_s, mbps, sizes, 5)
            for _ in range(48):
                loop.step(actions[step])
                step += 1
        return step

    return run


def scalar_steps() -> Callable[[], int]:
    """Return a function that plays EPISODES episodes in the scalar environment."""
    env = gym.make("NetLLM-ABR-v0", disable_env_checker=True, **CASE).unwrapped
    actions = np.random.default_rng(0).integers(0, 3, 47 * EPISODES).tolist()

    def run() -> int:
        step = 0
        for episode in range(EPISODES):
            env.reset(seed=episode)
            for _ in range(47):
                env.step(actions[step])
                step += 1
        return step + EPISODES  # chunk 0 of each episode is downloaded in reset

    return run


def vector_steps(num_envs: int) -> Callable[[], int]:
    """Return a function that plays 8 episodes in each of `num_envs` rows."""
    env = gym.make_vec("NetLLM-ABR-v0", num_envs=num_envs, **CASE)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(0, 3, (48, num_envs))

    def run() -> int:
        for _ in range(8):
            for row in actions:
                env.step(row)
        return 8 * 48 * num_envs

    return run


def steps_per_cpu_second(run: Callable[[], int]) -> float:
    started_s = time.process_time()
    steps = run()
    return steps / (time.process_time() - started_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", type=Path)
    plain = parser.parse_args().plain
    sides = {"plain loop": plain_steps(plain)} if plain else {}
    sides |= {"scalar env": scalar_steps()}
    sides |= {f"vector env, {rows} rows": vector_steps(rows) for rows in (BATCH, 4 * BATCH)}
    for run in sides.values():
        run()  # compile and warm up
    speeds = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, run in sides.items():
            speeds[name].append(steps_per_cpu_second(run))
    first = next(iter(sides))
    print(f"{CASE or 'synthetic x synthetic'}: median of {ROUNDS} rounds, steps per CPU second")
    for name, found in speeds.items():
        ratios = [one / slow for one, slow in zip(found, speeds[first], strict=True)]
        print(
            f"{name:24} {statistics.median(found):>12,.0f}   "
            f"{statistics.median(ratios):6.1f} times the {first} "
            f"({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
