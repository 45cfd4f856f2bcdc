"""How predictors of viewports learn from windows: the loss, mirroring, one update."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import BoolArray, IntArray
from netllm_gym.configs import to_json
from netllm_gym.data.vp.angles import wrapped_deg
from netllm_gym.data.vp.viewport import ViewportWindows
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import check_device
from netllm_gym.policies.neural.checkpoint import load_network, write_network
from netllm_gym.policies.neural.vp import ViewportNetwork, ViewportNetworkConfig
from netllm_gym.policies.viewport import (
    OFFSET_DEG,
    PredictorFactory,
    seen,
)
from netllm_gym.pools.windows import draw_windows
from netllm_gym.schedules import SupervisedSchedule
from netllm_gym.training.methods import TrainRequest
from netllm_gym.training.run import (
    Learner,
    TrainingRun,
    TrainResult,
    cpu_threads,
)
from netllm_gym.training.viewport_config import ViewportTraining
from netllm_gym.training.windows import window_training_data

_MIRRORED = np.array([-1.0, 1.0, -1.0])  # left for right: roll and yaw change their sign


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
        schedule: SupervisedSchedule,
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
        share = schedule.share(number)
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
        norm = float(nn.utils.clip_grad_norm_(trained, schedule.max_grad_norm))
        if not math.isfinite(norm):
            raise InputError(f"gradient must be finite, got {norm} in update {number + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "loss": loss_sum / self.accumulate,
            "gradient_norm": norm,
            "learning_rate": schedule.learning_rate * share,
        }

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


class Begun(NamedTuple):
    """What learns, and what an earlier run kept of it."""

    learner: ViewportLearner
    kept: Mapping[str, Any] | None  # config and origin of the run that is resumed; None anew


def train_on_windows(
    begin: Callable[[Path | None], Begun], schedule: SupervisedSchedule, run: TrainingRun
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


def train_viewport_network(request: TrainRequest, config: ViewportTraining) -> TrainResult:
    """Train a small network on windows.

    Raises:
        InputError: If the case, the validation or an earlier run in the folder does not fit.
    """
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
    begin = partial(network_learner, data.windows, network_config, config)
    return train_on_windows(begin, config, data.run(request))


def network_learner(
    windows: ViewportWindows,
    config: ViewportNetworkConfig,
    schedule: ViewportTraining,
    last: Path | None,
) -> Begun:
    """Return what trains a network on windows; from `last`, an earlier run's, it is resumed."""
    network: Any = ViewportNetwork(config)
    kept = None
    if last is not None:
        network, values = load_network(last)
        kept = {"config": values["config"], "trained_on": values["trained_on"]}
    learner = _NetworkLearner(
        network=network,
        config=config,
        optimizer=_optimizer(network, schedule),
        windows=windows,
        schedule=schedule,
        batch=schedule.batch_size,
    )
    return Begun(learner, kept)


def _optimizer(network: nn.Module, schedule: ViewportTraining) -> torch.optim.AdamW:
    rate = schedule.learning_rate
    groups = [{"params": [*network.parameters()], "initial_lr": rate}]
    return torch.optim.AdamW(groups, lr=rate, weight_decay=schedule.weight_decay, fused=True)


class _NetworkLearner(ViewportLearner):
    """A network, kept as the others are."""

    def policy(self, trained_on: Mapping[str, Any]) -> PredictorFactory:
        """Return the factory of the predictor as it would act now."""
        name = self.network.config.kind
        factory = self.network.eval().factory(sampled=None, name=name, trained_on=trained_on)
        return factory  # type: ignore[no-any-return]

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the predictor's files."""
        write_network(folder, self.network, trained_on)
