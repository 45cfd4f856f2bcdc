"""The mean of policies that differ by their training seed alone, from a table of `bench --json`.

Intervals resample the training seeds and the table's own groups (recordings, arrival seeds) at
once. Of two or three seeds they are still too narrow: how far seeds differ is hardly known then.

    netllm-gym bench abr --policies runs/ppo-0,runs/ppo-1,runs/ppo-2,robust_mpc --json table.json
    python benchmarks/training_seeds.py table.json --policies ppo-0,ppo-1,ppo-2 --versus robust_mpc
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from netllm_gym.errors import InputError
from netllm_gym.evaluation.statistics import bootstrap
from netllm_gym.evaluation.tables import read_table


def main() -> None:
    """Print the mean and the difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--policies", required=True, help="rows of the table")
    parser.add_argument("--versus", required=True, help="a row, or one for each of the policies")
    asked = parser.parse_args()
    table = read_table(asked.table)
    values = {row.policy: np.array(row.per_episode) for row in table.rows}
    names, versus = asked.policies.split(","), asked.versus.split(",")
    for name in (*names, *versus):
        if name not in values:
            raise InputError(f"policies must be rows of {asked.table}, got {name!r}")
    if len(versus) not in (1, len(names)):
        raise InputError(f"versus must name one row or {len(names)}, got {asked.versus!r}")
    if len(table.members) != 1:
        raise InputError(f"{asked.table} must group its episodes in one way: bench it again")
    ours, other = (np.array([values[name] for name in each]) for each in (names, versus))
    seeds = np.repeat(np.arange(len(names)), ours.shape[1])
    groups = np.tile(np.array(table.members[0]), len(names))
    print(f"{len(names)} training seeds")
    for title, each in (("mean", ours), (f"less {asked.versus}", ours - other)):
        mean, ci95 = bootstrap(each.ravel(), seeds, groups)
        low, high = ci95 or (np.nan, np.nan)
        of_seeds = ", ".join(f"{one:.4f}" for one in each.mean(axis=1))
        print(f"{title:20} {mean:.4f} [{low:.4f}, {high:.4f}]   of each: {of_seeds}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"training_seeds: {error}")
