"""Predictors x windows -> predictions and their errors: the one loop of all supervised problems.

What a rollout is to policies, this is to predictors: every one of them, a formula or a language
model, is shown the same histories, in the same batches, and its time is taken in the same way.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.data.vp.angles import angle_error_deg, great_circle_deg, published_error_deg
from netllm_gym.data.vp.viewport import ViewportWindows
from netllm_gym.errors import InputError
from netllm_gym.policies.policy import Predictor

BATCH = 512  # windows that are predicted side by side


class Predictions(NamedTuple):
    """What one predictor said."""

    predictions: FloatArray  # (N, future, 3)
    seconds: float  # that it took, in all


class PredictionScores(NamedTuple):
    """How far predictions were off."""

    per_window: FloatArray  # (N,) the metric
    by_step: FloatArray  # (future,) the metric at each future sample
    components: dict[str, float | None]


def predict(
    predictor: Predictor,
    windows: ViewportWindows,
    on_windows: Callable[[int], None] = lambda more: None,
) -> Predictions:
    """Show a predictor all histories.

    Args:
        predictor: Made for these windows.
        windows: Whose futures it is asked for.
        on_windows: Told how many more are done.

    Raises:
        InputError: If a prediction is not finite, or of another shape.
    """
    first = np.arange(min(2, len(windows)))
    predictor.predict(windows.history_deg(first), windows.content(first))  # to warm up
    made, seconds = [], 0.0
    for begin in range(0, len(windows), BATCH):
        which = np.arange(begin, min(begin + BATCH, len(windows)))
        seen = windows.history_deg(which), windows.content(which)
        start = time.perf_counter()
        future = predictor.predict(*seen)
        seconds += time.perf_counter() - start
        shape = (len(which), windows.config.future, 3)
        if future.shape != shape:
            raise InputError(
                f"{predictor.name} must predict angles of shape {shape}, got {future.shape}"
            )
        wrong = np.count_nonzero(~np.isfinite(future))
        if wrong:
            raise InputError(
                f"{predictor.name} must predict finite angles, got {wrong} that are not"
            )
        made.append(np.asarray(future, np.float64))
        on_windows(len(which))
    return Predictions(np.concatenate(made), seconds)


def score_viewports(predictions: FloatArray, windows: ViewportWindows) -> PredictionScores:
    """Return the errors of predicted viewports.

    The metric is `mae_deg`: mean over future samples and the three angles of the error with
    wrap-around. Beside it NetLLM's error by its own name, the root of the mean square of the error
    with wrap-around, and the angle between the directions.

    Args:
        predictions: (N, future, 3) degrees.
        windows: With what came.
    """
    truth = windows.future_deg()
    error = angle_error_deg(predictions, truth)  # (N, future, 3)
    directions = great_circle_deg(predictions, truth, windows.dataset.euler_order)
    return PredictionScores(
        per_window=error.mean(axis=(1, 2)),
        by_step=error.mean(axis=(0, 2)),
        components={
            "mae_published_deg": float(published_error_deg(predictions, truth).mean()),
            "rmse_deg": float(np.sqrt((error**2).mean())),
            "great_circle_deg": float(directions.mean()),
        },
    )
