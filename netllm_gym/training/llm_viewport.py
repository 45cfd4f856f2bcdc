"""The method "llm" on windows: adapt a language model to predict viewports."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from netllm_gym.configs import to_json
from netllm_gym.data.vp.viewport import ViewportWindows
from netllm_gym.policies.llm.checkpoint import load_model, write_policy
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.model import LLMModel
from netllm_gym.policies.llm.parts import prediction_parts_of
from netllm_gym.policies.llm.policy import factory_of, for_acting
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.training.llm import make_optimizer
from netllm_gym.training.llm_config import LLMViewportTraining, TrainConfig
from netllm_gym.training.methods import TrainRequest
from netllm_gym.training.run import TrainResult
from netllm_gym.training.viewport import Begun, ViewportLearner, train_on_windows
from netllm_gym.training.windows import window_training_data


def train_llm_on_windows(request: TrainRequest, config: LLMViewportTraining) -> TrainResult:
    """Adapt a language model to windows of head movements.

    Raises:
        InputError: If the case, the validation or an earlier run in the folder does not fit.
    """
    data = window_training_data(request, config.train_stride)
    policy = replace(config.policy, problem=request.problem.name, seed=config.schedule.seed)
    policy = prediction_parts_of(policy.problem).sized(policy, data.windows)
    begin = partial(llm_learner, data.windows, policy, config.schedule)
    return train_on_windows(begin, config.schedule, data.run(request))


def llm_learner(
    windows: ViewportWindows, config: LLMConfig, train: TrainConfig, last: Path | None
) -> Begun:
    """Return what adapts a language model to windows.

    Args:
        windows: To learn from.
        config: The predictor, for such windows; see `PredictionParts.sized`.
        train: How it is trained; a window is an "episode" of it.
        last: Folder of the policy of the run that is resumed; None begins a new one.
    """
    if not train.batch_episodes:
        train = replace(train, batch_episodes=prediction_parts_of(config.problem).batch_windows)
    kept = None
    if last is not None:
        model, values = load_model(last)
        kept = {"config": to_json(model.config), "trained_on": values["trained_on"]}
    else:
        model = LLMModel(config)
        model.encoders.fit(windows)
    learner = _Adaptation(
        network=model,
        config=config,
        optimizer=make_optimizer(model, train),
        windows=windows,
        schedule=train,
        batch=train.batch_episodes,
        accumulate=train.accumulate,
    )
    return Begun(learner, kept)


class _Adaptation(ViewportLearner):
    """The language model, kept as its policies are."""

    network: LLMModel

    def forecast(self, features: Tensor, content: Tensor | None) -> Tensor:
        """Return (B, F, 3) offsets."""
        parts = prediction_parts_of(self.network.config.problem)
        return parts.forecast(self.network, features, content)

    def policy(self, trained_on: Mapping[str, Any]) -> TrainedPolicyFactory:
        """Return the factory of the predictor as it would act now."""
        return factory_of(for_acting(self.network), trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the predictor's files."""
        write_policy(folder, self.network, trained_on)
