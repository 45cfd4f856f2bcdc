"""A language model that goes on learning by playing: what `ppo.py` needs of it.

The model acts as it always does, a step at a time with a cache, and is judged as it is trained, a
whole episode at once: both run the same forward pass. What it should expect is said by the critic
of a small network, which sees the link's future besides; the policy that is kept has none.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.envs.abr.observation import NUM_ROWS
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.abr import Observations
from netllm_gym.policies.checkpoint import read_schema
from netllm_gym.policies.llm.checkpoint import SCHEMA, load_model, write_policy
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.model import LLMModel, inputs_of
from netllm_gym.policies.llm.policy import LLMPolicy, LLMPolicyFactory, for_acting
from netllm_gym.policies.neural.abr_mlp import ABRNetwork, LinkMemory
from netllm_gym.policies.neural.networks import ActionEvaluation, Network


class PlayingLLM(Network):
    """An ABR language model beside a critic.

    Args:
        model: That acts, told no returns; what of it is trained is for its own config to say.
        network: Of the same ladder, whose critic judges; its actor is not used.
    """

    config: LLMConfig

    def __init__(self, model: LLMModel, network: ABRNetwork) -> None:
        super().__init__()
        self.config = model.config
        self.model = model.eval()  # no dropout: judging must agree with what was played
        self.reader = network.requires_grad_(False)
        self.reader.critic.requires_grad_(True)

    @property
    def steps_together(self) -> int:
        """Decisions of an episode: each is judged with all before it in sight."""
        return self.config.max_steps

    def new_memory(self, num_rows: int) -> LinkMemory:
        """Return an empty memory, for the critic."""
        return LinkMemory(num_rows)

    def player(self, num_rows: int, *, sampled: bool) -> "_Player":
        """Return the model at work."""
        return _Player(for_acting(self.model), num_rows, sampled=sampled)

    def evaluate_actions(self, observations: Observations, actions: IntArray) -> ActionEvaluation:
        """Say of (E * T,) rungs, episode by episode, how likely they were."""
        steps = self.steps_together
        shape = (len(actions) // steps, steps)
        seen = np.ascontiguousarray(observations[:, :NUM_ROWS], np.float32)
        batch = {
            "observations": torch.from_numpy(seen.reshape(*shape, *seen.shape[1:])),
            "actions": torch.from_numpy(actions).view(shape),  # (E, T)
            "returns": torch.zeros(shape),
            "timesteps": torch.arange(steps).expand(shape),
            "mask": torch.ones(shape, dtype=torch.bool),
        }
        logits = self.model(inputs_of(batch))[..., : self.config.num_actions]
        log_probs = torch.log_softmax(logits, dim=-1)  # (E, T, rungs)
        entropies = -(log_probs.exp() * log_probs).sum(-1)
        of_actions = log_probs.gather(-1, batch["actions"].unsqueeze(-1))
        values, return_std = self.reader.expected(observations)
        return ActionEvaluation(of_actions.flatten(), entropies.flatten(), values, return_std)

    def towers(self) -> tuple[nn.Module, nn.Module]:
        """Return model and critic."""
        return self.model, self.reader.critic

    def factory(
        self, *, sampled: bool | None, name: str, trained_on: Mapping[str, Any]
    ) -> LLMPolicyFactory:
        """Return what builds policies of the model as it is now."""
        model = for_acting(self.model)
        return LLMPolicyFactory(model, sampled=sampled, name=name, trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the model's files."""
        write_policy(folder, self.model, trained_on)

    def read(self, folder: Path) -> tuple["PlayingLLM", dict[str, Any]]:
        """Return the model that `write` left there, beside this critic; see the base."""
        if read_schema(folder) != SCHEMA:
            raise InputError(
                f"start must be that of the run in {folder.parent}, which trains a network, "
                "got a language model"
            )
        model, values = load_model(folder)
        return PlayingLLM(model, self.reader), values  # the run's own critic is with its moments


class _Player(LLMPolicy):
    """Plays where more is shown than a player sees."""

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        """Return (N,) rungs."""
        return super().act(observations[:, :NUM_ROWS], rewards, infos)
