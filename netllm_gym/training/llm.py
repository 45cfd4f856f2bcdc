"""The method "llm": a language model imitates episodes of pools, or learns to predict viewports."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netllm_gym.configs import to_json
from netllm_gym.data.vp.viewport import ViewportWindows
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.policies.llm.checkpoint import load_model, write_policy
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.model import LLMModel, inputs_of, on_device
from netllm_gym.policies.llm.parts import parts_of, prediction_parts_of
from netllm_gym.policies.llm.policy import factory_of, for_acting
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.pools.windows import PaddedEpisodes, Windows
from netllm_gym.training.from_pools import training_data
from netllm_gym.training.llm_config import LLMTraining, LLMViewportTraining, TrainConfig
from netllm_gym.training.methods import TrainRequest, TrainResult
from netllm_gym.training.run import Learner, SupervisedLearner, TrainingRun, kept_of
from netllm_gym.training.viewport import ViewportLearner, window_training_data


def train_llm(request: TrainRequest, config: LLMTraining) -> TrainResult:
    """Adapt a language model to the episodes of experience pools."""
    policy, schedule = config.policy, config.schedule
    imitates = schedule.objective == "imitate"
    data = training_data(request, policy.returns, imitates=imitates)
    policy = replace(policy, problem=request.problem.name, returns=data.returns, seed=schedule.seed)
    policy = parts_of(policy.problem).sized(policy, data.validation.env, data.episodes)
    return fit_llm(data.episodes, policy, schedule, data.run)


def train_llm_on_windows(request: TrainRequest, config: LLMViewportTraining) -> TrainResult:
    """Adapt a language model to windows of head movements."""
    data = window_training_data(request, config.train_stride)
    policy = replace(config.policy, problem=request.problem.name, seed=config.schedule.seed)
    policy = prediction_parts_of(policy.problem).sized(policy, data.windows)
    begin = partial(llm_learner, data.windows, policy, config.schedule)
    return data.run(request).train(begin, config.schedule)


def fit_llm(
    episodes: PaddedEpisodes, config: LLMConfig, train: TrainConfig, run: TrainingRun
) -> TrainResult:
    """Train a policy on episodes and keep the best and the last.

    The constants of the `returns` in its config are fitted here if they are not yet.

    Raises:
        InputError: If the episodes do not fit the config, or see `TrainingRun.train`.
    """
    parts = parts_of(config.problem)
    parts.check_config(config)
    with errors_begin_with(episodes.source):
        parts.check_episodes(config, episodes)
    if train.objective == "imitate":
        episodes = replace(episodes, values=None)
    elif episodes.values is None:
        raise InputError(
            "objective must be imitate for a pool without values of actions, got 'value': collect "
            "it with --lookahead"
        )
    if not config.returns.is_fitted:
        config = replace(config, returns=config.returns.fit(episodes))
    if not train.batch_episodes:
        train = replace(train, batch_episodes=parts.batch_windows)

    def begin(last: Path | None) -> Learner:
        return _Imitation(episodes, config, train, last)

    return run.train(begin, train)


def llm_learner(
    windows: ViewportWindows, config: LLMConfig, train: TrainConfig, last: Path | None
) -> Learner:
    """Return what adapts a language model to windows, resumed from `last` if that is given."""
    if not train.batch_episodes:
        train = replace(train, batch_episodes=prediction_parts_of(config.problem).batch_windows)
    return _Prediction(windows, config, train, last)


class _LLMLearner(SupervisedLearner):
    """The model and its optimizer."""

    network: LLMModel

    def begin(self, seen: Any, config: LLMConfig, train: TrainConfig, last: Path | None) -> None:
        """Take the model of an earlier run, or a new one, fitted to what is seen."""
        if last is None:
            model = LLMModel(config)
            model.encoders.fit(seen)
        else:
            model, values = load_model(last)
            self.kept = kept_of(model, values)
        self.network, self.schedule = model.to(train.device), train
        self.optimizer = make_optimizer(model, train)
        self.config = to_json(config)

    def policy(self, trained_on: Mapping[str, Any]) -> TrainedPolicyFactory:
        return factory_of(for_acting(self.network), trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        write_policy(folder, self.network, trained_on)


class _Imitation(_LLMLearner):
    """Learns from the episodes of a pool."""

    def __init__(
        self, episodes: PaddedEpisodes, config: LLMConfig, train: TrainConfig, last: Path | None
    ) -> None:
        self.begin(episodes.seen, config, train, last)
        self.parts, self.train = parts_of(config.problem), train
        self.settings = {"train": to_json(train), "episodes": len(episodes)}
        # A window is a whole episode: the band, not the cut, says how far a decision sees. Where
        # that is the decision itself, each makes a window, so that long episodes are mixed.
        num_steps = self.parts.window_steps or episodes.mask.shape[1]
        self.windows = Windows(episodes, config.returns.tokens(episodes), num_steps, num_steps)

    def add_gradients(self, number: int) -> dict[str, float]:
        train = self.train
        drawn = self.windows.sample(train.seed, number, train.batch_episodes * train.accumulate)
        cut: Mapping[str, Any] = self.windows.batch(drawn)
        batches = [
            on_device(self.parts.tensors(part), train.device)
            for part in self.parts.split(cut, train.batch_episodes)
        ]
        steps = max(1, sum(int(batch["mask"].sum()) for batch in batches))
        loss_sum, right = 0.0, defaultdict[str, list[Tensor]](list)
        for batch in batches:
            output = self.network(inputs_of(batch))
            loss, answers = self.parts.score(self.network.config, output, batch)
            (loss / steps).backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach())
            for name, each in answers.items():
                right[name].append(each)
        shares = {
            name: float(sum(each.sum() for each in found)) / max(1, sum(map(len, found)))
            for name, found in right.items()
        }
        return {"loss": loss_sum / steps, **shares}


class _Prediction(ViewportLearner, _LLMLearner):
    """Learns from windows of head movements."""

    def __init__(
        self, windows: ViewportWindows, config: LLMConfig, train: TrainConfig, last: Path | None
    ) -> None:
        self.begin(windows, config, train, last)
        self.learn_from(windows, train.batch_episodes, train.accumulate)

    def forecast(self, features: Tensor, content: Tensor | None) -> Tensor:
        parts = prediction_parts_of(self.network.config.problem)
        return parts.forecast(self.network, features, content)


def make_optimizer(model: LLMModel, train: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over what is trained: the backbone's part at its own rate, no decay on 1-D."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, each in model.named_parameters():
        if each.requires_grad:
            groups.setdefault((name.startswith("backbone."), each.ndim >= 2), []).append(each)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": train.adapter_learning_rate if inside else train.learning_rate,
                "initial_lr": train.adapter_learning_rate if inside else train.learning_rate,
                "weight_decay": train.weight_decay if decays else 0.0,
            }
            for (inside, decays), parameters in groups.items()
        ],
        fused=True,
    )
