"""The method "llm" on pools: imitate the actions of episodes, given the return of each.

A plain loop; `run.py` has its files, its validation and its resumption.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netllm_gym.configs import to_json
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import check_device
from netllm_gym.policies.llm.checkpoint import load_model, write_policy
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.model import LLMModel, inputs_of, on_device
from netllm_gym.policies.llm.parts import parts_of
from netllm_gym.policies.llm.policy import LLMPolicyFactory, for_acting
from netllm_gym.pools.windows import PaddedEpisodes, Windows
from netllm_gym.training.from_pools import training_data
from netllm_gym.training.llm_config import LLMTraining, TrainConfig
from netllm_gym.training.methods import TrainRequest
from netllm_gym.training.run import (
    Learner,
    TrainingRun,
    TrainResult,
    cpu_threads,
)


def train_llm(request: TrainRequest, config: LLMTraining) -> TrainResult:
    """Adapt a language model to the episodes of experience pools.

    Raises:
        InputError: If the pools, the validation or an earlier run in the folder does not fit.
    """
    policy, schedule = config.policy, config.schedule
    imitates = schedule.objective == "imitate"
    data = training_data(request, policy.returns, imitates=imitates)
    policy = replace(policy, problem=request.problem.name, returns=data.returns, seed=schedule.seed)
    policy = parts_of(policy.problem).sized(policy, data.validation.env, data.episodes)
    return fit_llm(data.episodes, policy, schedule, data.run)


def fit_llm(
    episodes: PaddedEpisodes, config: LLMConfig, train: TrainConfig, run: TrainingRun
) -> TrainResult:
    """Train a policy on episodes and keep the best and the last.

    Args:
        episodes: What is learned from.
        config: The policy; the constants of its `returns` are fitted here if they are not yet.
        train: How it is trained.
        run: Where it is kept, and how the best is found.

    Raises:
        InputError: If the episodes do not fit the config, the run's folder holds something else,
            the device is missing, or a resumed run's settings or origin differ; nothing is written
            then.
    """
    parts = parts_of(config.problem)
    parts.check_config(config)
    parts.check_episodes(config, episodes)
    if train.objective == "imitate":
        episodes = replace(episodes, values=None)
    elif episodes.values is None:
        raise InputError(
            "objective must be imitate for a pool without values of actions, got 'value': collect "
            "it with --lookahead"
        )
    last = run.open()
    check_device(train.device)
    if not config.returns.is_fitted:
        config = replace(config, returns=config.returns.fit(episodes))
    if not train.batch_episodes:
        train = replace(train, batch_episodes=parts.batch_windows)
    with cpu_threads(train.threads):
        kept = None
        if last is not None:
            model, values = load_model(last)
            kept = {"config": to_json(model.config), "trained_on": values["trained_on"]}
        else:
            model = LLMModel(config)
            model.encoders.fit(episodes.seen)
        return run.train(_Imitation(episodes, config, train, model), kept, train)


class _Imitation(Learner):
    """The model, its optimizer and the pool."""

    network: LLMModel

    def __init__(
        self, episodes: PaddedEpisodes, config: LLMConfig, train: TrainConfig, model: LLMModel
    ) -> None:
        self.parts = parts_of(config.problem)
        self.train, self.network = train, model.to(train.device)
        self.optimizer = make_optimizer(model, train)
        self.config = to_json(config)
        self.settings = {"train": to_json(train), "episodes": len(episodes)}
        # A window is a whole episode: the band, not the cut, says how far a decision sees. Where
        # that is the decision itself, each makes a window, so that long episodes are mixed.
        num_steps = self.parts.window_steps or episodes.mask.shape[1]
        self.windows = Windows(episodes, config.returns.tokens(episodes), num_steps, num_steps)

    def update(self, number: int) -> dict[str, Any]:
        """Accumulate the gradient of one update, clip it once, step."""
        train = self.train
        share = train.share(number)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share
        self.network.train()
        drawn = self.windows.sample(train.seed, number, train.batch_episodes * train.accumulate)
        cut: Mapping[str, Any] = self.windows.batch(drawn)
        batches = [
            on_device(self.parts.tensors(part), train.device)
            for part in self.parts.split(cut, train.batch_episodes)
        ]
        steps = max(1, sum(int(batch["mask"].sum()) for batch in batches))
        loss_sum, right = 0.0, defaultdict[str, list[Tensor]](list)
        with torch.random.fork_rng(devices=[]):  # dropout's draws belong to this update alone
            torch.manual_seed((train.seed << 32) + number)
            for batch in batches:
                output = self.network(inputs_of(batch))
                loss, answers = self.parts.score(self.network.config, output, batch)
                (loss / steps).backward()  # type: ignore[no-untyped-call]
                loss_sum += float(loss.detach())
                for name, each in answers.items():
                    right[name].append(each)
        trained = [each for group in self.optimizer.param_groups for each in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(trained, train.max_grad_norm))
        if not math.isfinite(norm):
            raise InputError(f"gradient must be finite, got {norm} in update {number + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {
            "loss": loss_sum / steps,
            **{
                name: float(sum(each.sum() for each in found)) / max(1, sum(map(len, found)))
                for name, found in right.items()
            },
            "gradient_norm": norm,
            "learning_rate": train.learning_rate * share,
        }

    def policy(self, trained_on: Mapping[str, Any]) -> LLMPolicyFactory:
        """Return the factory of the policy as it would act now."""
        return LLMPolicyFactory(for_acting(self.network), trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the policy's files."""
        write_policy(folder, self.network, trained_on)


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
