"""Language models as networks that PPO trains further.

The model acts as always, a step at a time with a cache, and its decisions are evaluated as in
training, several at once: both are the same forward pass. Where returns are compared with a
critic's estimate, a small network beside the model has the critic; the policy that is kept has
none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import IntArray
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import read_schema
from netllm_gym.policies.llm.checkpoint import SCHEMA, load_model, write_policy
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.model import LLMModel, inputs_of
from netllm_gym.policies.llm.parts import parts_of
from netllm_gym.policies.llm.policy import LLMPolicy, LLMPolicyFactory, for_acting
from netllm_gym.policies.neural.networks import ActionEvaluation, Memory, Network
from netllm_gym.policies.policy import Policy
from netllm_gym.training.ppo import Shown


class LLMNetwork(Network):
    """A language model that is given no returns, and a network whose critic it uses.

    The model's own config says which weights are trained. The actor of the other network is not
    used; where there is no critic, there is none. Subclasses say how decisions are evaluated.
    """

    config: LLMConfig

    def __init__(self, model: LLMModel, critic: Network | None) -> None:
        super().__init__()
        self.config = model.config
        self.parts = parts_of(model.config.problem)
        self.model = model.eval()  # without dropout, as the model acts
        self.critic_network = critic
        if critic is not None:
            critic.requires_grad_(False)
            part = critic.critic_part()
            assert part is not None
            part.requires_grad_(True)

    def critic_part(self) -> nn.Module | None:
        """Return the critic, if there is one."""
        return None if self.critic_network is None else self.critic_network.critic_part()

    def towers(self) -> list[nn.Module]:
        """Return the model and the critic."""
        critic = self.critic_part()
        return [self.model] if critic is None else [self.model, critic]

    def new_memory(self, num_rows: int) -> Memory | None:
        """Return an empty memory for the critic."""
        return None if self.critic_network is None else self.critic_network.new_memory(num_rows)

    def of_model(self, observations: Any) -> Any:
        """Return the part of observations that the model reads, not the critic alone."""
        return observations

    def evaluate_actions(self, observations: Any, actions: IntArray) -> ActionEvaluation:
        """Return how likely (B, ...) actions are; see the base."""
        log_probs, entropies = self.action_log_probs(self.of_model(observations), actions)
        if self.critic_network is None:
            return ActionEvaluation(log_probs, entropies, None)
        expected = self.critic_network.evaluate_actions(observations, actions)
        return ActionEvaluation(log_probs, entropies, expected.values, expected.return_std)

    def action_log_probs(self, observations: Any, actions: IntArray) -> tuple[Tensor, Tensor]:
        """Return (B,) log-probabilities of actions and (B,) entropies, by the model."""
        raise NotImplementedError

    def player(self, num_rows: int, *, sampled: bool) -> Policy:
        """Return a policy of the model for so many rows."""
        acting = LLMPolicy(for_acting(self.model), num_rows, sampled=sampled)
        return Shown(acting, self.of_model)

    def factory(
        self, *, sampled: bool | None, name: str, trained_on: Mapping[str, Any]
    ) -> LLMPolicyFactory:
        """Return a factory of policies of the model as it is now."""
        model = for_acting(self.model)
        return LLMPolicyFactory(model, sampled=sampled, name=name, trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the model's files."""
        write_policy(folder, self.model, trained_on)

    def read(self, folder: Path) -> tuple["LLMNetwork", dict[str, Any]]:
        """Return the model that `write` left in a folder, with this critic.

        The critic's own weights are read later, with the state of the optimizer.
        """
        if read_schema(folder) != SCHEMA:
            raise InputError(
                f"init_from must be that of the run in {folder.parent}, which trains a network, "
                "got a language model"
            )
        model, values = load_model(folder)
        return type(self)(model, self.critic_network), values


class EpisodeLLM(LLMNetwork):
    """A language model whose decisions follow from the whole episode so far.

    It fits every problem with one action of a fixed set in each step and episodes of equal lengths.
    Rows of an observation beyond those of the model's config are for the critic.
    """

    @property
    def steps_together(self) -> int:
        """Decisions of an episode, each of which is evaluated with those before it."""
        return self.config.max_steps

    def of_model(self, observations: Any) -> Any:
        """Return the rows that the model reads."""
        return observations[:, : self.config.observation_shape[0]]

    def action_log_probs(self, observations: Any, actions: IntArray) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies of (E * T,) decisions, episode by episode."""
        shape = (len(actions) // self.steps_together, self.steps_together)
        seen = np.ascontiguousarray(observations, np.float32)
        batch = self.parts.tensors(
            {
                "observations": seen.reshape(*shape, *seen.shape[1:]),
                "actions": actions.reshape(shape),
                "returns": np.zeros(shape, np.float32),
                "timesteps": np.tile(np.arange(self.steps_together), (shape[0], 1)),
                "mask": np.ones(shape, np.bool_),
            }
        )
        logits = self.model(inputs_of(batch))[..., : self.config.num_actions]
        log_probs = torch.log_softmax(logits, dim=-1)  # (E, T, actions)
        entropies = -(log_probs.exp() * log_probs).sum(-1)
        of_actions = log_probs.gather(-1, batch["actions"].unsqueeze(-1))
        return of_actions.flatten(), entropies.flatten()
