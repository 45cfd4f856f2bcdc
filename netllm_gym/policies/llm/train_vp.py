"""Adapt a language model to predict viewports: its learner, around the loss that all share."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from netllm_gym.data.viewport import ViewportWindows
from netllm_gym.policies.checkpoint import check_device
from netllm_gym.policies.llm.checkpoint import load_model, write_policy
from netllm_gym.policies.llm.config import LLMConfig, TrainConfig
from netllm_gym.policies.llm.model import LLMModel
from netllm_gym.policies.llm.policy import factory_of, for_acting
from netllm_gym.policies.llm.train import make_optimizer
from netllm_gym.policies.llm.vp import BATCH_WINDOWS, forecast
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.policies.runs import Progress, TrainingRun, TrainResult, Validate, cpu_threads
from netllm_gym.policies.viewport_learning import ViewportLearner


def train_llm_predictor(
    windows: ViewportWindows,
    config: LLMConfig,
    train: TrainConfig,
    out: Path | str,
    *,
    validate: Validate | None = None,
    trained_on: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    resume: bool = False,
    stop_after: int | None = None,
) -> TrainResult:
    """Train on windows and keep the best and the last.

    Args:
        windows: To learn from.
        config: The predictor, for such windows; see `viewport_config`.
        train: How; a window is an "episode" of it.
        out: Folder of the run; new, empty or that of an earlier run.
        validate: Scores a policy, given its factory; higher is better; None keeps only the last.
        trained_on: Where the windows and the validation came from, as JSON values.
        progress: Told the metrics of each update and validation.
        resume: Go on from `out/last` if there is one.
        stop_after: Leave off after this update, as an interrupted run would; for tests.

    Raises:
        InputError: If `out` holds something else, or a resumed run's settings or origin differ;
            nothing is written then.
    """
    check_device(train.device)
    run = TrainingRun(
        *(Path(out), train),
        validate=validate,
        trained_on=trained_on,
        progress=progress,
        resume=resume,
    )
    if not train.batch_episodes:
        train = dataclasses.replace(train, batch_episodes=BATCH_WINDOWS)
    with cpu_threads(train.threads):
        kept = None
        if run.resumes:
            model, values = load_model(run.last)
            kept = {"config": values["config"], "trained_on": values["trained_on"]}
        else:
            model = LLMModel(config)
            model.encoders.fit(windows)
        learner = _Adaptation(
            *(model, config, make_optimizer(model, train), windows, train),
            batch=train.batch_episodes,
            accumulate=train.accumulate,
        )
        return run.train(learner, kept, stop_after)


def viewport_config(config: LLMConfig, windows: ViewportWindows) -> LLMConfig:
    """Return the config for some windows: their sizes, and a token for frames if there are any."""
    features = windows.dataset.features
    return dataclasses.replace(
        config,
        problem="vp",
        layout="compact" if features is None else "content",
        max_steps=windows.config.history,
        num_actions=0,
        observation_shape=(),
        returns=ReturnSpec(kind="none", center=0.0, scale=1.0, target=0.0),
        future=windows.config.future,
        euler_order=windows.dataset.euler_order,
        content_size=0 if features is None else features.size,
    )


class _Adaptation(ViewportLearner):
    """The language model, kept as its policies are."""

    network: LLMModel

    def forecast(self, features: Tensor, content: Tensor | None) -> Tensor:
        """Return (B, F, 3) offsets."""
        return forecast(self.network, features, content)

    def policy(self, trained_on: Mapping[str, Any]) -> TrainedPolicyFactory:
        """Return the factory of the predictor as it would act now."""
        return factory_of(for_acting(self.network), trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the predictor's files."""
        write_policy(folder, self.network, trained_on)
