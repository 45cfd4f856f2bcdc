"""The language model of CJS as a network that PPO trains further."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from netllm_gym.arrays import BoolArray, IntArray
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.policies.llm.model import inputs_of
from netllm_gym.policies.neural.cjs import offers_choice
from netllm_gym.training.llm_ppo import LLMNetwork


class ClusterLLM(LLMNetwork):
    """A language model that chooses a stage, and then a number of executors for it.

    A decision follows from the current observation alone, so decisions are evaluated in any order.
    """

    def chooses(self, observations: ClusterView) -> BoolArray:
        """Return (B,) whether there are a stage and executors for it."""
        return offers_choice(observations)

    def action_log_probs(
        self, observations: ClusterView, actions: IntArray
    ) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies, each the sum over both parts of (B, 2) actions.

        The entropy of the executors is that for the stage that was chosen.
        """
        count = len(actions)
        batch: dict[str, Any] = {
            "observations": observations,
            "returns": np.zeros((count, 1), np.float32),
            "targets": actions[:, None],
            "decision": np.arange(count),
        }
        # Decisions with similar numbers of stages go together, which saves padding.
        order, log_probs, entropies = [], [], []
        for part in self.parts.split(batch, self.parts.batch_windows):
            order.append(part.pop("decision"))
            inputs = self.parts.tensors(part)
            logits = self.model(inputs_of(inputs))
            chosen = inputs["actions"][:, 0].unbind(1)
            evaluated = [
                _evaluated(of_part, each)
                for of_part, each in zip((logits.choice, logits.executors), chosen, strict=True)
            ]
            log_probs.append(evaluated[0][0] + evaluated[1][0])
            entropies.append(evaluated[0][1] + evaluated[1][1])
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        return torch.cat(log_probs)[back], torch.cat(entropies)[back]


def _evaluated(logits: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return (B,) log-probabilities of choices and entropies of (B, C) logits, some -inf."""
    log_probs = torch.log_softmax(logits, dim=1)
    finite = log_probs.masked_fill(log_probs == -torch.inf, 0.0)  # their probability is 0
    entropies = -(log_probs.exp() * finite).sum(1)
    return log_probs.gather(1, chosen.unsqueeze(1)).squeeze(1), entropies
