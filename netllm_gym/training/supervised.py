"""Train a predictor on windows: which windows, which validation, and what is remembered of both."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from netllm_gym.configs import check
from netllm_gym.data.vp.viewport import MOST_SAMPLES, ViewportWindows
from netllm_gym.errors import InputError
from netllm_gym.evaluation.prediction import predict
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import PredictionProblem
from netllm_gym.training.config import TrainConfig, ViewportSchedule

if TYPE_CHECKING:  # torch is loaded when training begins, not when this is imported
    from netllm_gym.training.run import TrainingRun, TrainResult

TRAIN_STRIDE = 5  # samples from one window to the next, in training
WIDTHS = {"gru": 64, "track": 256}
LLM_SCHEDULE = TrainConfig(updates=800, validate_every=50, checkpoint_every=50)
SCHEDULES = {
    "gru": ViewportSchedule(),
    "track": ViewportSchedule(updates=800, batch_size=128, learning_rate=5e-4),
}


class WindowTrainingData(NamedTuple):
    """What is learned from, and what on."""

    row: PredictionProblem
    windows: ViewportWindows
    validation: ViewportWindows
    trained_on: dict[str, Any]

    def run(
        self,
        method: str,
        out: Path | str,
        on_progress: Callable[[Mapping[str, Any]], None] | None,
    ) -> "TrainingRun":
        """Return the run in `out`, new or gone on with, that learns this by a method."""
        from netllm_gym.training.run import TrainingRun

        return TrainingRun(
            Path(out),
            validate=self.score,
            trained_on={**self.trained_on, "method": method},
            progress=on_progress,
            resume=True,
        )

    def score(self, factory: Callable[[Any], Any]) -> float:
        """Return how good a predictor is in validation; higher is better."""
        predictions = predict(factory(self.validation), self.validation).predictions
        scores = self.row.score_predictions(predictions, self.validation)
        return self.row.score(float(scores.per_window.mean()))


def train_predictor(
    problem: str,
    method: str,
    out: Path | str,
    case: Mapping[str, Any] | None = None,
    schedule: ViewportSchedule | None = None,
    train_stride: int = TRAIN_STRIDE,
    validate_on: str | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> "TrainResult":
    """Train a small network to predict; run again after an interruption, it goes on.

    Args:
        problem: Short name.
        method: "gru" or "track".
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        case: Dataset and windows; the windows of validation are these.
        schedule: How; None takes the method's own.
        train_stride: Samples from one window to learn from to the next; they go from end to end of
            each trace.
        validate_on: Dataset to choose the best predictor on; None takes what belongs to the case's.
        on_progress: Told the metrics of each update and each validation.

    Raises:
        InputError: If the case, the validation or an earlier run in `out` does not fit.
    """
    if method not in SCHEDULES:
        raise InputError(f"method must be one of {', '.join(SCHEDULES)}, got {method!r}")
    data = window_training_data(problem, case, train_stride, validate_on)
    if data.windows.dataset.features is not None:
        raise InputError(f"features must be left out for {method}, which sees none")
    schedule = schedule or SCHEDULES[method]
    from netllm_gym.policies.neural.vp import ViewportNetworkConfig
    from netllm_gym.training.viewport import network_learner, train_on_windows

    config = ViewportNetworkConfig(
        kind=method,
        history=data.windows.config.history,
        future=data.windows.config.future,
        euler_order=data.windows.dataset.euler_order,
        width=WIDTHS[method],
        seed=schedule.seed,
    )
    begin = partial(network_learner, data.windows, config, schedule)
    return train_on_windows(begin, schedule, data.run(method, out, on_progress))


def adapt_predictor(
    problem: str,
    out: Path | str,
    case: Mapping[str, Any] | None = None,
    config: LLMConfig | None = None,
    schedule: TrainConfig | None = None,
    train_stride: int = TRAIN_STRIDE,
    validate_on: str | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> "TrainResult":
    """Adapt a language model to predict; run again after an interruption, it goes on.

    Args:
        problem: Short name.
        out: Folder of the run; `out/best` and `out/last` are policies that `load_policy` reads.
        case: Dataset and windows; the windows of validation are these.
        config: The predictor; left out, one with a `tiny` backbone. Sizes are those of the case.
        schedule: How it is trained.
        train_stride: Samples from one window to learn from to the next.
        validate_on: Dataset to choose the best predictor on; None takes what belongs to the case's.
        on_progress: Told the metrics of each update and each validation.

    Raises:
        InputError: If the case, the validation or an earlier run in `out` does not fit.
    """
    data = window_training_data(problem, case, train_stride, validate_on)
    from netllm_gym.training.llm_viewport import llm_learner, viewport_config
    from netllm_gym.training.viewport import train_on_windows

    schedule = schedule or LLM_SCHEDULE
    config = viewport_config(config or LLMConfig(), data.windows)
    begin = partial(llm_learner, data.windows, config, schedule)
    return train_on_windows(begin, schedule, data.run("llm", out, on_progress))


def window_training_data(
    problem: str,
    case: Mapping[str, Any] | None,
    train_stride: int,
    validate_on: str | None,
) -> WindowTrainingData:
    """Return the windows of a case to learn from, and those of its validation."""
    row = find_problem(problem)
    if not isinstance(row, PredictionProblem):
        raise InputError(f"problem must be one of predictions, got {problem!r}, which is played")
    holds = 1 <= train_stride <= MOST_SAMPLES
    check(holds, "train_stride", f"be in 1..{MOST_SAMPLES}", train_stride)
    arguments = {**row.default_case, **row.checked_case(**(case or {}))}
    validated_on = row.validation_dataset(arguments, validate_on)
    whole = row.make_windows(**arguments)
    validation = row.make_windows(**{**arguments, row.dataset_option: validated_on})
    learned_in, chosen_in = (each.dataset.euler_order for each in (whole, validation))
    if learned_in != chosen_in:
        raise InputError(
            f"validation must have the euler_order of {whole.dataset.name}, {learned_in}, "
            f"got {chosen_in} of {validated_on}; name one for both"
        )
    windows = ViewportWindows(whole.dataset, whole.config.dense(train_stride))
    chosen_on = validation.dataset.provenance()
    trained_on = {
        **windows.dataset.provenance(),
        "windows": dataclasses.asdict(windows.config),
        "validated_on": validated_on,
        "validation_recordings": chosen_on["recordings"],
        "validation_sha256": chosen_on["sha256"],
        "validation_windows": dataclasses.asdict(validation.config),
    }
    return WindowTrainingData(row, windows, validation, trained_on)
