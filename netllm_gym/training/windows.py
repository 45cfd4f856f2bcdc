"""What a method that learns from windows is given: windows, validation, provenance."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from netllm_gym.configs import check
from netllm_gym.data.vp.viewport import MOST_SAMPLES, ViewportWindows
from netllm_gym.errors import InputError
from netllm_gym.evaluation.prediction import predict
from netllm_gym.problems.index import find_prediction
from netllm_gym.problems.problem import PredictionProblem
from netllm_gym.training.methods import TrainRequest
from netllm_gym.training.run import TrainingRun


@dataclass(frozen=True, kw_only=True)
class WindowTrainingData:
    """What is learned from, and on what the best predictor is chosen.

    Attributes:
        problem: The problem.
        windows: Learned from; they go from end to end of each trace.
        validation: On which the best predictor is chosen.
        trained_on: Where both came from, as JSON values.
    """

    problem: PredictionProblem
    windows: ViewportWindows
    validation: ViewportWindows
    trained_on: Mapping[str, Any]

    def run(self, request: TrainRequest) -> TrainingRun:
        """Return the run in the request's folder, new or resumed, that learns from these."""
        return TrainingRun(
            request.out,
            validate=self.score,
            trained_on={**self.trained_on, "method": request.method},
            progress=request.on_progress,
            resume=True,
        )

    def score(self, factory: Callable[[Any], Any]) -> float:
        """Return how good a predictor is in validation; higher is better."""
        predictions = predict(factory(self.validation), self.validation).predictions
        scores = self.problem.score_predictions(predictions, self.validation)
        return self.problem.score(float(scores.per_window.mean()))


def window_training_data(request: TrainRequest, train_stride: int) -> WindowTrainingData:
    """Return the windows of a request's case to learn from, and those of its validation.

    Args:
        request: Its case says the data set and the windows of the validation.
        train_stride: Samples from one window to learn from to the next.

    Raises:
        InputError: If the case or the validation does not fit.
    """
    problem = find_prediction(request.problem.name)
    holds = 1 <= train_stride <= MOST_SAMPLES
    check(holds, "train_stride", f"be in 1..{MOST_SAMPLES}", train_stride)
    arguments = {**problem.default_case, **problem.checked_case(**request.case)}
    whole = problem.make_windows(**arguments)
    validated_on = problem.validation_dataset(arguments, request.validate_on)
    validation = problem.make_windows(**{**arguments, problem.dataset_option: validated_on})
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
        "windows": asdict(windows.config),
        "validated_on": validated_on,
        "validation_recordings": chosen_on["recordings"],
        "validation_sha256": chosen_on["sha256"],
        "validation_windows": asdict(validation.config),
    }
    return WindowTrainingData(
        problem=problem, windows=windows, validation=validation, trained_on=trained_on
    )
