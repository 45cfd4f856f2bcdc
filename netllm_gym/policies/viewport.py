"""What all learned predictors of viewports share: what they see, what they are asked for, the loss.

A model sees where the head was relative to its last sample, how it moved, and roll and pitch as
they are; of yaw no more than differences, so that a head that has turned is predicted to do the
same, turned. It answers with offsets from the last sample, the short way round. The loss is the
mean error with wrap-around, as the metric is. In training, histories are mirrored left to right
half of the time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import Float32Array, FloatArray
from netllm_gym.configs import check
from netllm_gym.data.vp.angles import wrapped_deg
from netllm_gym.data.vp.viewport import ViewportWindows
from netllm_gym.errors import InputError
from netllm_gym.policies.policy import TrainedPolicyFactory

NUM_FEATURES = 8  # of a sample of the history
OFFSET_DEG = 10.0  # of an answer of 1
PLACE_DEG = 20.0  # of a place of 1
_OF_CHANGE, _LIMIT = 5.0, 12.0  # degrees that count 1; beyond so many is not told

Forecast = Callable[[Tensor, Tensor | None], Tensor]  # features, content -> (B, future, 3)


def seen(history: FloatArray) -> Float32Array:
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


def check_windows(config: Any, windows: ViewportWindows) -> None:
    """Refuse windows that a predictor with this config was not trained for."""
    features = windows.dataset.features
    size = 0 if features is None or not config.content_size else features.size
    for name, wanted, found in (
        ("history", config.history, windows.config.history),
        ("future", config.future, windows.config.future),
        ("euler_order", config.euler_order, windows.dataset.euler_order),
        ("features", config.content_size, size),
    ):
        rule = f"be {wanted}, which the predictor was trained for"
        check(wanted == found, name, rule, found)


class LearnedPredictor:
    """Keeps the `Predictor` protocol; a frame has `content_size` features that the model sees."""

    def __init__(self, forecast: Forecast, content_size: int, name: str, device: str) -> None:
        self.name, self._forecast = name, forecast
        self._content_size, self._device = content_size, device

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
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
        model: In eval mode; its config has the lengths `history` and `future`, `euler_order`, and
            `content_size`, the features of a frame, 0 where it sees none.
        forecast: What it says of features and content.
        options: Of the base.
    """

    usual_name = "netllm"

    def __init__(self, model: nn.Module, forecast: Forecast, **options: Any) -> None:
        super().__init__(model, **options)
        self.forecast = forecast

    def check_can_draw(self) -> None:
        """Refuse: nothing is drawn."""
        raise InputError(f"policy {self.name} must be named without :sampled, it draws nothing")

    def __call__(self, env: Any) -> LearnedPredictor:
        """Build the predictor for a case's windows; see the base."""
        check_windows(self.config, env)
        device = str(next(self.model.parameters()).device)
        return LearnedPredictor(self.forecast, self.config.content_size, self.name, device)
