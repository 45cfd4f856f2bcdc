"""The mean of policies that differ by their training seed alone, and what it is ahead of others by.

Intervals resample training seeds and recordings (ABR) or arrival seeds (CJS) at once.

    python benchmarks/training_seeds.py abr --policies runs/ppo-0,runs/ppo-1,runs/ppo-2 \
        --versus robust_mpc --traces fcc-test --video video1
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from netllm_gym.data.episode import Episode
from netllm_gym.evaluation import bootstrap
from netllm_gym.problems import find_control, load_policy
from netllm_gym.rollout import rollout


def main() -> None:
    """Print the mean and the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problem", nargs="?", default="abr")
    parser.add_argument("--policies", default="bba,bola")
    parser.add_argument("--versus", default="lowest", help="if several, their mean")
    for name in ("traces", "video", "workload"):
        parser.add_argument(f"--{name}")
    for name in ("num-executors", "num-jobs"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--episodes", type=int, default=1, help="at least so many")
    asked = parser.parse_args()
    problem = find_control(asked.problem)
    given = {name: value for name, value in vars(asked).items() if value is not None}
    case = problem.checked_case(**{k: v for k, v in given.items() if k in problem.case_options})

    def played(names: str) -> list[list[Episode]]:
        """Return the episodes of each policy."""
        found = []
        for name in names.split(","):
            plan = problem.make_env(1, **case).evaluation_plan(asked.episodes)
            env = problem.make_env(len(plan), **case)
            policy = load_policy(name, problem.name).factory(env)
            found.append(rollout(policy, env, plan, keep_observations=False).episodes)
        return found

    def metric(episodes: list[list[Episode]]) -> NDArray[np.float64]:
        """Return (policies, episodes)."""
        return np.array([[problem.metric_of(each) for each in row] for row in episodes])

    episodes = played(asked.policies)
    ours, other = metric(episodes), metric(played(asked.versus)).mean(axis=0)
    seeds = np.repeat(np.arange(len(ours)), ours.shape[1])
    worlds = [str(each.case[problem.interval_over]) for row in episodes for each in row]
    groups = np.unique(worlds, return_inverse=True)[1]
    for title, values in (("mean", ours), (f"less {asked.versus}", ours - other)):
        mean, ci95 = bootstrap(values.ravel(), seeds, groups)
        low, high = ci95 or (np.nan, np.nan)
        each = ", ".join(f"{one:.4f}" for one in values.mean(axis=1))
        print(f"{title:20} {mean:+.4f} [{low:+.4f}, {high:+.4f}]   each: {each}")


if __name__ == "__main__":
    main()
