"""Pretraining by behaviour cloning: a network learns to act as another policy while it plays.

Source: learning from another policy's decisions in the states that the learner itself reaches is
DAgger (Ross, Gordon, Bagnell, AISTATS 2011).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.neural.networks import Network
from netllm_gym.policies.policy import Policy
from netllm_gym.problems.problem import PolicyFactory
from netllm_gym.randomness import EpisodeDraws
from netllm_gym.training.online_config import PPOConfig
from netllm_gym.training.ppo import EpisodeSource, mean_rewards


class BehaviourCloning:
    """Trains a network to act as a teacher does, wherever the network gets to.

    At first the teacher plays. From update to update the network makes more of the decisions, and
    from half of the updates on all of them. Each step of the environments is one step of Adam.
    """

    def __init__(self, source: EpisodeSource, teacher: PolicyFactory, config: PPOConfig) -> None:
        self._source, self._teacher, self._config = source, teacher, config

    def update(
        self, number: int, network: Network, optimizer: torch.optim.Optimizer
    ) -> dict[str, Any]:
        """Play and learn at once; return the update's metrics."""
        env, plan = self._source.episodes(
            number, lambda: network.factory(sampled=None, name="learner", trained_on={})
        )
        updates = self._config.pretrain_updates
        rate = self._config.pretrain_learning_rate * (1.0 - (number + 0.5) / updates)
        for group in optimizer.param_groups:
            group["lr"] = rate
        teacher_share = max(0.0, 1.0 - 2.0 * number / updates)
        limit = self._config.pretrain_max_grad_norm
        teacher = self._teacher(env)
        apprentice = _Apprentice(network, optimizer, teacher, env.num_envs, teacher_share, limit)
        episodes = rollout(apprentice, env, plan, keep_observations=False).episodes
        return {
            **mean_rewards(episodes),
            **apprentice.metrics(),
            "teacher_share": teacher_share,
            "learning_rate": rate,
        }


class _Apprentice:
    """Acts as the network or the teacher, and trains the network with the teacher's decisions."""

    name = "apprentice"

    def __init__(
        self,
        network: Network,
        optimizer: torch.optim.Optimizer,
        teacher: Policy,
        num_rows: int,
        teacher_share: float,
        max_grad_norm: float,
    ) -> None:
        self._network, self._optimizer, self._teacher = network, optimizer, teacher
        self._teacher_share, self._max_grad_norm = teacher_share, max_grad_norm
        self._draws, self._memory = EpisodeDraws(num_rows), network.new_memory(num_rows)
        self._loss = 0.0
        self._decisions = self._agreed = 0

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        self._teacher.reset(rows, seeds)
        self._draws.reset(rows, seeds)
        if self._memory is not None:
            self._memory.reset(rows)

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        actions = np.array(self._teacher.act(observations, rewards, infos))
        draws = [self._draws.draw() for _ in range(self._network.draws_per_decision + 1)]
        read = observations if self._memory is None else self._memory.see(observations)
        rows = np.flatnonzero(self._network.chooses(read))
        if not len(rows):
            return actions
        with torch.no_grad():
            own = self._network.decide(read, np.stack(draws[:-1]))[rows]
        # A negative action of the teacher means that it chooses nothing, so nothing is learned.
        known = actions[rows].reshape(len(rows), -1)[:, 0] >= 0
        targets = own.copy()
        targets[known] = actions[rows][known]
        losses, agrees = self._network.imitation(read[rows], targets)
        self._agreed += int(agrees[known].sum())
        self._learn(losses[torch.from_numpy(known)])
        plays = draws[-1][rows] >= self._teacher_share
        actions[rows[plays]] = own[plays]
        return actions

    def end(self, rows: IntArray, observations: Any) -> None:
        if hasattr(self._teacher, "end"):
            self._teacher.end(rows, observations)

    def _learn(self, losses: Tensor) -> None:
        if not len(losses):
            return
        self._optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(self._network.parameters(), self._max_grad_norm))
        if not math.isfinite(norm):
            raise InputError(f"gradient must be finite, got {norm} in pretraining")
        self._optimizer.step()
        self._loss += float(losses.detach().sum())
        self._decisions += len(losses)

    def metrics(self) -> dict[str, float]:
        """Return the number of decisions, the mean loss and the share of equal decisions."""
        count = max(1, self._decisions)
        return {
            "decisions": self._decisions,
            "cloning_loss": self._loss / count,
            "agreement": self._agreed / count,
        }
