"""How predictors of viewports learn from windows: which windows, the loss, one update."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netllm_gym.arrays import BoolArray, IntArray
from netllm_gym.configs import check, to_json
from netllm_gym.data.vp.angles import wrapped_deg
from netllm_gym.data.vp.viewport import MOST_SAMPLES, ViewportWindows
from netllm_gym.errors import InputError
from netllm_gym.evaluation.prediction import predict
from netllm_gym.policies.neural.checkpoint import load_network, write_network
from netllm_gym.policies.neural.vp import ViewportNetwork, ViewportNetworkConfig
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.policies.viewport import OFFSET_DEG, seen
from netllm_gym.pools.windows import draw_windows
from netllm_gym.problems.index import find_prediction
from netllm_gym.problems.problem import PredictionProblem
from netllm_gym.training.methods import TrainRequest, TrainResult
from netllm_gym.training.run import (
    SupervisedLearner,
    TrainingRun,
    kept_of,
    run_of,
    validated_on,
)
from netllm_gym.training.viewport_config import ViewportTraining

_MIRRORED = np.array([-1.0, 1.0, -1.0])  # left for right: roll and yaw change their sign


@dataclass(frozen=True, kw_only=True)
class WindowTrainingData:
    """The windows to learn from and those on which the best predictor is chosen.

    `trained_on` says where both come from, as JSON values.
    """

    problem: PredictionProblem
    windows: ViewportWindows
    validation: ViewportWindows
    trained_on: Mapping[str, Any]

    def run(self, request: TrainRequest) -> TrainingRun:
        """Return the run in the request's folder, new or resumed, that learns from these."""
        trained_on = {**self.trained_on, "method": request.method}
        return run_of(request, self.score, trained_on)

    def score(self, factory: Callable[[Any], Any]) -> float:
        """Return how good a predictor is in validation; higher is better."""
        predictions = predict(factory(self.validation), self.validation).predictions
        scores = self.problem.score_predictions(predictions, self.validation)
        return self.problem.score(float(scores.per_window.mean()))


def window_training_data(request: TrainRequest, train_stride: int) -> WindowTrainingData:
    """Return the windows to learn from, one every `train_stride` samples, and the validation."""
    problem = find_prediction(request.problem.name)
    holds = 1 <= train_stride <= MOST_SAMPLES
    check(holds, "train_stride", f"be in 1..{MOST_SAMPLES}", train_stride)
    arguments = {**problem.default_case, **request.case}
    whole = problem.make_windows(**arguments)
    dataset = problem.validation_dataset(arguments, request.validate_on)
    validation = problem.make_windows(**{**arguments, problem.dataset_option: dataset})
    learned_in, chosen_in = (each.dataset.euler_order for each in (whole, validation))
    if learned_in != chosen_in:
        raise InputError(
            f"validation must have the euler_order of {whole.dataset.name}, {learned_in}, "
            f"got {chosen_in} of {dataset}; name one for both"
        )
    windows = ViewportWindows(whole.dataset, whole.config.dense(train_stride))
    trained_on = {
        **windows.dataset.provenance(),
        "windows": asdict(windows.config),
        **validated_on(dataset, validation.dataset.provenance()),
        "validation_windows": asdict(validation.config),
    }
    return WindowTrainingData(
        problem=problem, windows=windows, validation=validation, trained_on=trained_on
    )


class ViewportLearner(SupervisedLearner):
    """A model that learns from windows; its `config` has a `content_size`."""

    network: Any

    def learn_from(self, windows: ViewportWindows, batch: int, accumulate: int = 1) -> None:
        """Learn from windows, so many in a forward pass, in so many passes of an update."""
        self.windows, self.batch, self.accumulate = windows, batch, accumulate
        self.settings = {"train": to_json(self.schedule), "windows": len(windows)}

    def forecast(self, features: Tensor, content: Tensor | None) -> Tensor:
        """Return (B, F, 3) offsets, through which gradients flow."""
        return self.network.forecast(features, content)  # type: ignore[no-any-return]

    def add_gradients(self, number: int) -> dict[str, float]:
        """Add up the gradients of an update's batches, half of their windows mirrored."""
        total, seed = self.batch * self.accumulate, self.schedule.seed
        drawn = draw_windows(len(self.windows), seed, number, total)
        mirrored = np.random.default_rng([seed, number]).random(total) < 0.5
        loss_sum = 0.0
        for begin in range(0, total, self.batch):
            part = slice(begin, begin + self.batch)
            loss = self._loss(drawn[part], mirrored[part])
            (loss / self.accumulate).backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach())
        return {"loss": loss_sum / self.accumulate}

    def _loss(self, which: IntArray, mirrored: BoolArray) -> Tensor:
        """Return the mean error of some windows in degrees."""
        device, size = self.schedule.device, self.network.config.content_size
        content = self.windows.content(which) if size else None
        history, future = self.windows.history_deg(which), self.windows.future_deg(which)
        if content is None:  # frames are not mirrored, so then neither are heads
            sign = np.where(mirrored[:, None, None], _MIRRORED, 1.0)
            history, future = history * sign, future * sign
        offsets = wrapped_deg(future - history[:, -1:])
        shown = None if content is None else torch.from_numpy(content).to(device)
        features = torch.from_numpy(seen(history)).to(device)
        answer = OFFSET_DEG * self.forecast(features, shown)  # (B, F, 3)
        apart = answer - torch.from_numpy(offsets.astype(np.float32)).to(device)
        return (torch.remainder(apart + 180.0, 360.0) - 180.0).abs().mean()


def train_viewport_network(request: TrainRequest, config: ViewportTraining) -> TrainResult:
    """Train a small network on windows."""
    data = window_training_data(request, config.train_stride)
    if data.windows.dataset.features is not None:
        raise InputError(
            f"features must be left out for the method {request.method}, which sees none"
        )
    network_config = ViewportNetworkConfig(
        kind=config.kind,
        history=data.windows.config.history,
        future=data.windows.config.future,
        euler_order=data.windows.dataset.euler_order,
        width=config.width,
        seed=config.seed,
    )
    begin = partial(NetworkLearner, data.windows, network_config, config)
    return data.run(request).train(begin, config)


class NetworkLearner(ViewportLearner):
    """Trains a small network on windows, resumed from `last` if that is given."""

    def __init__(
        self,
        windows: ViewportWindows,
        config: ViewportNetworkConfig,
        schedule: ViewportTraining,
        last: Path | None,
    ) -> None:
        if last is None:
            network: Any = ViewportNetwork(config)
        else:
            network, values = load_network(last)
            self.kept = kept_of(network, values)
        self.network, self.schedule = network.to(schedule.device), schedule
        groups = [{"params": [*network.parameters()], "initial_lr": schedule.learning_rate}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
        )
        self.config = to_json(config)
        self.learn_from(windows, schedule.batch_size)

    def policy(self, trained_on: Mapping[str, Any]) -> TrainedPolicyFactory:
        """Return the factory of predictors; see the base."""
        network = self.network.eval()
        name = network.config.kind
        return network.factory(sampled=None, name=name, trained_on=trained_on)  # type: ignore[no-any-return]

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the network's files."""
        write_network(folder, self.network, trained_on)
