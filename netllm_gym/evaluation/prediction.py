"""A case of a prediction problem: predictors, their predictions and the errors.

Every predictor, a formula or a language model, is shown the same histories in the same batches, and
its time is measured in the same way.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.data.vp.angles import angle_error_deg, great_circle_deg, published_error_deg
from netllm_gym.data.vp.viewport import ViewportWindows
from netllm_gym.errors import InputError
from netllm_gym.evaluation.built import Unfit, built
from netllm_gym.evaluation.provenance import described, training_text
from netllm_gym.evaluation.rollout import OnStep
from netllm_gym.evaluation.tables import Row, row_of
from netllm_gym.policies.loading import LoadedPolicy
from netllm_gym.policies.policy import Predictor
from netllm_gym.problems.problem import PredictionProblem

BATCH = 512  # windows that are predicted side by side


class Predictions(NamedTuple):
    """What one predictor predicted."""

    predictions: FloatArray  # (N, future, 3) degrees
    seconds: float  # wall time of all predictions together


class PredictionScores(NamedTuple):
    """Errors of predictions."""

    per_window: FloatArray  # (N,) the metric
    by_step: FloatArray  # (future,) the metric at each future sample
    components: dict[str, float | None]


def predict(
    predictor: Predictor,
    windows: ViewportWindows,
    on_windows: Callable[[int], None] = lambda done: None,
) -> Predictions:
    """Show a predictor, which was built for these windows, all histories.

    `on_windows` is told how many windows are done.

    Raises:
        InputError: If a prediction is not finite, or of another shape.
    """
    first = np.arange(min(2, len(windows)))
    predictor.predict(windows.history_deg(first), windows.content(first))  # to warm up
    made, seconds = [], 0.0
    for begin in range(0, len(windows), BATCH):
        which = np.arange(begin, min(begin + BATCH, len(windows)))
        history, content = windows.history_deg(which), windows.content(which)
        start = time.perf_counter()
        future = predictor.predict(history, content)
        seconds += time.perf_counter() - start
        shape = (len(which), windows.config.future, 3)
        made.append(_checked(future, shape, predictor.name))
        on_windows(begin + len(which))
    return Predictions(np.concatenate(made), seconds)


class PredictedCase:
    """The windows of a case, and the predictors of their futures; see `control.py:PlayedCase`."""

    def __init__(
        self,
        problem: PredictionProblem,
        predictors: Sequence[LoadedPolicy],
        case: Mapping[str, Any],
    ) -> None:
        self._problem, self._policies = problem, predictors
        self._windows = windows = problem.make_windows(**case)
        self._predictors = [built(predictor, windows) for predictor in predictors]
        asked = {**problem.default_case, **case}
        given = {key: value for key, value in asked.items() if value is not None}
        self.described = described({**given, **windows.described})
        self.names = [predictor.name for predictor in self._predictors]
        self.num_samples, self.groups = len(windows), windows.groups
        self.groups_text, self.remarks = windows.groups_text, windows.report()

    def identity(self) -> Any:
        """Return JSON values that say what is predicted, whatever its name."""
        return [sorted(each) for each in self._windows.recordings]

    def play(self, place: int, on_step: OnStep) -> Row:
        """Let one of the predictors predict all windows; return its row without intervals."""
        predictor = self._predictors[place]
        if isinstance(predictor, Unfit):
            raise predictor.error
        outcome = predict(predictor, self._windows, lambda done: on_step(done, done))
        scores = self._problem.score_predictions(outcome.predictions, self._windows)
        return row_of(
            self._problem,
            predictor.name,
            scores.per_window,
            decision_ms=1000.0 * outcome.seconds / self.num_samples,
            components=scores.components,
            trained_on=training_text(self._policies[place], self._windows.recordings, "traces"),
            by_step=scores.by_step.tolist(),
        )


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


def _checked(future: Any, shape: tuple[int, ...], name: str) -> FloatArray:
    """Return a batch of predictions as an array, if it is one of finite angles."""
    try:
        angles = np.asarray(future, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{name} must predict angles of shape {shape}, got {type(future).__name__}"
        ) from None
    if angles.shape != shape:
        raise InputError(f"{name} must predict angles of shape {shape}, got {angles.shape}")
    wrong = np.count_nonzero(~np.isfinite(angles))
    if wrong:
        raise InputError(f"{name} must predict finite angles, got {wrong} that are not")
    return angles
