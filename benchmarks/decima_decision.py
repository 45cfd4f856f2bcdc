"""What a decision of the published Decima costs here, for 1, 8 and 32 clusters at once.

The reference program takes 3.6 ms of CPU time for one, always one at a time
(measured once with that program, on one core of another machine).

    python benchmarks/decima_decision.py
"""

import time

import numpy as np
import torch

from netllm_gym.policies.loading import load_policy
from netllm_gym.problems.index import find_problem

REFERENCE_MS = 3.6
STEPS, WARM_UP = 300, 30


def decision_ms(num_rows: int) -> tuple[float, float]:
    """Return CPU milliseconds and stages in view, of one cluster and decision."""
    env = find_problem("cjs").make_env(num_rows, workload="tpch")
    policy = load_policy("decima_reference", "cjs").factory(env)
    view, infos = env.reset(seed=1)
    policy.reset(np.arange(num_rows), np.arange(num_rows))
    rewards, spent_s, stages = np.zeros(num_rows), 0.0, 0
    for step in range(WARM_UP + STEPS):
        started_s = time.process_time()
        actions = policy.act(view, rewards, infos)
        if step >= WARM_UP:
            spent_s += time.process_time() - started_s
            stages += int(view.num_stages.sum())
        view, rewards, _, _, infos = env.step(actions)
    return 1000.0 * spent_s / (STEPS * num_rows), stages / (STEPS * num_rows)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("decima_reference, sampled, one thread: CPU ms per cluster and decision")
    for num_rows in (1, 8, 32):
        spent_ms, stages = decision_ms(num_rows)
        print(
            f"{num_rows:3} at once  {spent_ms:6.3f}   1/{REFERENCE_MS / spent_ms:.0f} of the "
            f"reference's {REFERENCE_MS}   ({stages:.1f} stages in view)"
        )


if __name__ == "__main__":
    main()
