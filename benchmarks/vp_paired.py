"""How much better a predictor is than others, window by window, on one case.

The table of `bench` compares every row with the strongest formula; this compares the first that is
named with each of the others. Intervals resample videos and people at once.

    python benchmarks/vp_paired.py --policies runs/viewport,runs/gru,hold_last \
        --dataset jin2022-test --trim-tail 60
"""

import argparse

import numpy as np

from netllm_gym.evaluation.prediction import predict
from netllm_gym.evaluation.statistics import bootstrap
from netllm_gym.policies.loading import load_policy
from netllm_gym.problems.index import find_problem


def main() -> None:
    """Print the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policies", default="damped_velocity,hold_last,velocity")
    parser.add_argument("--dataset", default="synthetic-test")
    parser.add_argument("--history", type=int, default=10)
    parser.add_argument("--future", type=int, default=20)
    parser.add_argument("--trim-tail", type=int, default=30)
    asked = parser.parse_args()
    problem = find_problem("vp")
    windows = problem.make_windows(
        dataset=asked.dataset,
        history=asked.history,
        future=asked.future,
        trim_tail=asked.trim_tail,
    )
    errors = {}
    for name in asked.policies.split(","):
        predictor = load_policy(name, "vp").factory(windows)
        predictions = predict(predictor, windows).predictions
        errors[predictor.name] = problem.score_predictions(predictions, windows).per_window
    first, *others = errors
    print(
        f"{asked.dataset}, trim tail {asked.trim_tail}, {len(windows)} windows: {first} less than"
    )
    for other in others:
        ahead = errors[other] - errors[first]
        mean, ci95 = bootstrap(ahead, *windows.groups)
        low, high = ci95 or (np.nan, np.nan)
        videos = [ahead[windows.video == video].mean() for video in np.unique(windows.video)]
        print(
            f"  {other:20} by {mean:+.4f} [{low:+.3f}, {high:+.3f}] degrees, ahead on "
            f"{sum(each > 0 for each in videos)} of {len(videos)} videos"
        )


if __name__ == "__main__":
    main()
