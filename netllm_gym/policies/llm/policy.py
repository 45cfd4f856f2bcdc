"""The trained model as a policy: N rows act at once, each remembering its own episode."""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.policies.llm.model import LLMModel, on_device
from netllm_gym.policies.llm.parts import Pick, PredictionParts, model_parts_of, parts_of
from netllm_gym.policies.policy import TrainedPolicy, TrainedPolicyFactory
from netllm_gym.policies.returns import ReturnConditioner
from netllm_gym.policies.viewport import PredictorFactory


class LLMPolicy(TrainedPolicy):
    """The policy of a model that was made by `for_acting`."""

    def __init__(
        self,
        model: LLMModel,
        num_rows: int,
        *,
        sampled: bool = False,
        name: str = "netllm",
        source: str = "",
    ) -> None:
        super().__init__(model, num_rows, sampled=sampled, name=name, source=source)
        # Whether it reads its own last action.
        self.needs_own_episodes = any("action" in each.features for each in model.layout.tokens)
        self._device = next(model.parameters()).device
        self._parts = parts_of(model.config.problem)
        self._returns = ReturnConditioner(model.config.returns, num_rows)
        # A decision over a set of any size is made from itself alone: nothing is kept.
        self._cache = None if model.layout.has_sets else model.new_cache(num_rows)
        self._steps = np.zeros(num_rows, np.int64)  # (N,) decisions made in this episode
        self._actions = np.zeros(num_rows, np.int64)  # (N, ...) of the step before

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Forget these rows: each begins a new episode with the next `act`."""
        super().reset(rows, seeds)
        rows = np.asarray(rows, np.int64)
        self._steps[rows], self._actions[rows] = 0, 0
        self._returns.reset(rows)
        if self._cache is not None:
            self._cache.forget(torch.from_numpy(rows))

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        """Return (N, ...) actions; see the protocol."""
        self._actions = self._decide(observations, rewards, self._pick)
        self._steps += 1
        return self._actions.copy()

    def logits(self, observations: Any, rewards: FloatArray) -> FloatArray:
        """Take in one step and return (N, choices) logits of its decision, of the first part."""
        seen: list[FloatArray] = []

        def look(logits: Tensor) -> IntArray:
            seen.append(logits.double().cpu().numpy())
            return np.asarray(seen[-1].argmax(axis=1))

        self._decide(observations, rewards, look)
        return seen[0]

    def _decide(self, observations: Any, rewards: FloatArray, pick: Pick) -> IntArray:
        has_begun = self._steps > 0
        self._returns.observe(np.asarray(rewards, np.float64), has_begun)
        # A finished row may see its last observation; its action there is ignored.
        steps = self._steps.clip(max=self.model.config.max_steps - 1)
        if isinstance(observations, np.ndarray):
            observations = np.array(observations[:, None], np.float32)
        batch = {
            "observations": observations,  # (N, 1, ...), or the rows of a view
            "returns": self._returns.tokens()[:, None],  # (N, 1)
            "timesteps": steps[:, None],
            "mask": np.ones((len(steps), 1), np.bool_),
            "previous_actions": self._actions[:, None],
            "previous_mask": has_begun[:, None],
        }
        with torch.inference_mode():
            inputs = on_device(self._parts.tensors(batch), self._device)
            return self._parts.decide(self.model, inputs, self._cache, pick)

    def _pick(self, logits: Tensor) -> IntArray:
        return self.pick(logits.double().cpu().numpy())


class LLMPolicyFactory(TrainedPolicyFactory):
    """Builds policies that share a model."""

    usual_name = "netllm"

    def __call__(self, env: Any) -> LLMPolicy:
        """Build the policy for an environment's rows; see the base."""
        parts_of(self.config.problem).check_env(self.config, env)
        return self.build(LLMPolicy, env)


def factory_of(model: LLMModel, **options: Any) -> TrainedPolicyFactory:
    """Return what builds policies, or predictors, that share a model made by `for_acting`.

    The options are those of `TrainedPolicyFactory`.
    """
    parts = model_parts_of(model.config.problem)
    if isinstance(parts, PredictionParts):
        return PredictorFactory(model, partial(parts.forecast, model), **options)
    return LLMPolicyFactory(model, **options)


def for_acting(model: LLMModel) -> LLMModel:
    """Return a copy in eval mode, LoRA merged into the weights; the original stays as it is."""
    acting = copy.deepcopy(model)
    if isinstance(acting.backbone, PeftModel):
        acting.backbone = acting.backbone.merge_and_unload()
    return acting.eval().requires_grad_(False)
