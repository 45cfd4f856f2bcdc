"""What all learned predictors of viewports share: what they see, what they are asked for, the loss.

A model sees where the head was relative to its last sample, how it moved, and roll and pitch as
they are; of yaw no more than differences, so that a head that has turned is predicted to do the
same, turned. It answers with offsets from the last sample, the short way round. The loss is the
mean error with wrap-around, as the metric is. In training, histories are mirrored left to right
half of the time.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netllm_gym.data.angles import wrapped_deg
from netllm_gym.data.viewport import ViewportWindows
from netllm_gym.data.windows import draw_windows
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import check_device
from netllm_gym.policies.configs import to_json
from netllm_gym.policies.policy import FloatArray, TrainedPolicyFactory
from netllm_gym.policies.runs import (
    Learner,
    Rates,
    TrainingRun,
    TrainResult,
    cpu_threads,
    learning_rate_share,
)
from netllm_gym.policies.runs import Schedule as RunSchedule

NUM_FEATURES = 8  # of a sample of the history
OFFSET_DEG = 10.0  # of an answer of 1
PLACE_DEG = 20.0  # of a place of 1
_OF_CHANGE, _LIMIT = 5.0, 12.0  # degrees that count 1; beyond so many is not told
_MIRRORED = np.array([-1.0, 1.0, -1.0])  # left for right: roll and yaw change their sign

Forecast = Callable[[Tensor, Tensor | None], Tensor]  # features, content -> (B, future, 3)


class Shape(Protocol):
    """What a learned predictor was made for; its config has these.

    Attributes:
        history: Samples that are seen.
        future: Samples that are predicted.
        euler_order: Of the angles.
        content_size: Features of a frame; 0 for a model that sees none.
    """

    @property
    def history(self) -> int: ...  # noqa: D102
    @property
    def future(self) -> int: ...  # noqa: D102
    @property
    def euler_order(self) -> str: ...  # noqa: D102
    @property
    def content_size(self) -> int: ...  # noqa: D102


def seen(history: FloatArray) -> NDArray[np.float32]:
    """Return (B, history, 8) features of (B, history, 3) angles in degrees."""
    place = wrapped_deg(history - history[:, -1:]) / PLACE_DEG
    change = np.zeros_like(history)
    change[:, 1:] = wrapped_deg(np.diff(history, axis=1)) / _OF_CHANGE
    tilt = history[..., :2] / PLACE_DEG  # roll and pitch
    features = np.concatenate([place, change, tilt], axis=-1)
    return features.clip(-_LIMIT, _LIMIT).astype(np.float32)


def silent_linear(size: int, answers: int) -> nn.Linear:
    """Return a layer that says 0 until it has learned, so that a predictor begins as hold_last."""
    layer = nn.Linear(size, answers)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def check_shape(shape: Shape, windows: ViewportWindows) -> None:
    """Refuse windows that a predictor was not made for."""
    features = windows.dataset.features
    size = 0 if features is None or not shape.content_size else features.size
    for name, wanted, found in (
        ("history", shape.history, windows.config.history),
        ("future", shape.future, windows.config.future),
        ("euler_order", shape.euler_order, windows.dataset.euler_order),
        ("features", shape.content_size, size),
    ):
        if wanted != found:
            raise InputError(
                f"{name} must be {wanted}, which the predictor was trained for, got {found}"
            )


class LearnedPredictor:
    """Keeps the `Predictor` protocol.

    Args:
        forecast: A model in eval mode.
        content_size: Features of a frame that it sees.
        name: What tables call it.
        device: Where it runs.
    """

    def __init__(self, forecast: Forecast, content_size: int, name: str, device: str) -> None:
        self.name, self._forecast = name, forecast
        self._content_size, self._device = content_size, device

    def predict(self, history: FloatArray, content: NDArray[np.float32] | None) -> FloatArray:
        """Return (N, F, 3) angles; see the protocol."""
        features = torch.from_numpy(seen(history)).to(self._device)
        shown = None
        if self._content_size and content is not None:
            shown = torch.from_numpy(content).to(self._device)
        with torch.inference_mode():
            offsets = self._forecast(features, shown).double().cpu().numpy()
        return np.asarray(history[:, -1:] + OFFSET_DEG * offsets, np.float64)


class PredictorFactory(TrainedPolicyFactory):
    """Builds predictors that share a model.

    Args:
        model: In eval mode.
        forecast: What it says of features and content.
        config: Its config, a `Shape` that names its problem.
        sampled: Must not be asked for: nothing is drawn.
        name: What tables call it.
        trained_on: Where the training data came from, as the trainer was told.
    """

    def __init__(
        self,
        model: nn.Module,
        forecast: Forecast,
        config: Any,
        *,
        sampled: bool | None = None,
        name: str,
        trained_on: Mapping[str, Any] | None = None,
    ) -> None:
        if sampled:
            raise InputError(f"policy {name} must be named without :sampled, it draws nothing")
        super().__init__(name, False, sampled, trained_on)
        self.model, self.forecast, self.config = model, forecast, config

    def __call__(self, env: Any) -> LearnedPredictor:
        """Build the predictor for a case's windows; see the base."""
        check_shape(self.config, env)
        device = str(next(self.model.parameters()).device)
        return LearnedPredictor(self.forecast, self.config.content_size, self.name, device)


class Schedule(RunSchedule, Rates, Protocol):
    """What is read of a method's settings, beside what a run reads of them."""

    @property
    def updates(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def clip_norm(self) -> float: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def threads(self) -> int: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102


class ViewportLearner(Learner):
    """A model, its optimizer and the windows that it learns from; how it is kept is left open.

    Args:
        network: With a `config`, which is a `Shape`.
        config: Asked for; a resumed network has its own, which must be equal.
        optimizer: Of its weights; each group has its full rate as `initial_lr`.
        windows: To learn from.
        schedule: How.
        batch: Windows of a forward pass.
        accumulate: Forward passes of an update.
    """

    network: Any

    def __init__(
        self,
        network: Any,
        config: Any,
        optimizer: torch.optim.Optimizer,
        windows: ViewportWindows,
        schedule: Schedule,
        batch: int,
        accumulate: int = 1,
    ) -> None:
        self.network, self.optimizer = network.to(schedule.device), optimizer
        self.windows, self.schedule = windows, schedule
        self.batch, self.accumulate = batch, accumulate
        self.config = to_json(config)
        self.settings = {"train": to_json(schedule), "windows": len(windows)}

    def forecast(self, features: Tensor, content: Tensor | None) -> Tensor:
        """Return (B, F, 3) offsets, through which gradients flow."""
        return self.network.forecast(features, content)  # type: ignore[no-any-return]

    def update(self, number: int) -> dict[str, Any]:
        """Accumulate the gradient of one update, clip it once, step."""
        schedule = self.schedule
        share = learning_rate_share(number, schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
        self.network.train()
        total = self.batch * self.accumulate
        drawn = draw_windows(len(self.windows), schedule.seed, number, total)
        mirrored = np.random.default_rng([schedule.seed, number]).random(total) < 0.5
        loss_sum = 0.0
        with torch.random.fork_rng(devices=[]):  # dropout's draws belong to this update alone
            torch.manual_seed((schedule.seed << 32) + number)
            for begin in range(0, total, self.batch):
                part = slice(begin, begin + self.batch)
                loss = self._loss(drawn[part], mirrored[part])
                (loss / self.accumulate).backward()  # type: ignore[no-untyped-call]
                loss_sum += float(loss.detach())
        trained = [each for group in self.optimizer.param_groups for each in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(trained, schedule.clip_norm))
        if not math.isfinite(norm):
            raise InputError(f"gradient must be finite, got {norm} in update {number + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "loss": loss_sum / self.accumulate,
            "gradient_norm": norm,
            "learning_rate": schedule.learning_rate * share,
        }

    def _loss(self, which: NDArray[np.int64], mirrored: NDArray[np.bool_]) -> Tensor:
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


class Begun(NamedTuple):
    """What learns, and what an earlier run kept of it."""

    learner: ViewportLearner
    kept: Mapping[str, Any] | None  # config and origin of the run that is resumed; None anew


def train_on_windows(
    begin: Callable[[Path | None], Begun], schedule: Schedule, run: TrainingRun
) -> TrainResult:
    """Train a predictor on windows and keep the best and the last.

    Args:
        begin: Makes what learns, given the folder of an earlier run's last policy or None.
        schedule: How.
        run: Where it is kept, and how the best is found.

    Raises:
        InputError: If the run's folder holds something else, or a resumed run's settings or origin
            differ; nothing is written then.
    """
    check_device(schedule.device)
    with cpu_threads(schedule.threads):
        learner, kept = begin(run.open())
        return run.train(learner, kept, schedule)
