"""Networks of control problems: how they decide, evaluate decisions and are trained further.

A network of any control problem fits: observations are whatever the environment returns (an array,
a ragged view), actions whatever it takes. `training/ppo.py` trains a network and `NetworkPolicy`
lets it act.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import BoolArray, FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.policies.checkpoint import read_schema
from netllm_gym.policies.neural.checkpoint import (
    SCHEMA,
    KeptNetwork,
    load_network,
    write_network,
)
from netllm_gym.policies.policy import Policy, TrainedPolicy, TrainedPolicyFactory


class ActionEvaluation(NamedTuple):
    """What a network says of B decisions that were made."""

    log_probs: Tensor  # (B,) of the actions
    entropies: Tensor  # (B,) of the distributions from which the actions were drawn
    values: Tensor | None  # (B,) expected returns; None without a critic
    return_std: Tensor | None = None  # (B,) expected deviations of returns from values, above 0


def concatenated(parts: Sequence[ActionEvaluation]) -> ActionEvaluation:
    """Return the evaluations of several batches as one."""

    def joined(each: Sequence[Tensor | None]) -> Tensor | None:
        known = [part for part in each if part is not None]
        return torch.cat(known) if known else None

    return ActionEvaluation(
        torch.cat([part.log_probs for part in parts]),
        torch.cat([part.entropies for part in parts]),
        joined([part.values for part in parts]),
        joined([part.return_std for part in parts]),
    )


class Imitation(NamedTuple):
    """How well a network imitates B decisions of another policy."""

    losses: Tensor  # (B,) in nats
    agrees: BoolArray  # (B,) whether the network's likeliest decision is the same


class Memory(Protocol):
    """What a network keeps of each row's episode beyond the current observation."""

    def reset(self, rows: IntArray) -> None:
        """Forget these rows: each begins a new episode with the next step."""

    def see(self, observations: Any) -> Any:
        """Take in one step of all rows; return what the network reads of it."""


def dense(
    inputs: int, hidden: Sequence[int], outputs: int, activation: Callable[[], nn.Module]
) -> nn.Sequential:
    """Return dense layers with biases of 0, an activation behind each but the last."""
    layers: list[nn.Module] = []
    for before, after in pairwise((inputs, *hidden, outputs)):
        linear = nn.Linear(before, after)
        nn.init.zeros_(linear.bias)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


class Network(KeptNetwork):
    """A network that acts in a control problem.

    Attributes:
        draws_per_decision: Uniform numbers that a sampled decision takes.
        draws_by_default: Whether policies of the network draw their actions by default.
    """

    draws_per_decision: ClassVar[int] = 1
    draws_by_default: ClassVar[bool] = False

    def decide(self, observations: Any, draws: FloatArray | None) -> IntArray:
        """Return (N, ...) actions.

        Args:
            observations: (N, ...) observations, as the memory returned them if there is one.
            draws: (K, N) uniform in [0, 1), K of `draws_per_decision`; None takes the likeliest.
        """
        raise NotImplementedError

    def evaluate_actions(self, observations: Any, actions: IntArray) -> ActionEvaluation:
        """Return how likely (B, ...) actions are, with gradients, where there was a choice.

        Observations are (B, ...), as in `decide`.
        """
        raise NotImplementedError

    def check_env(self, env: Any) -> None:
        """Raise `InputError` for an environment in which the network cannot act."""
        raise NotImplementedError

    def chooses(self, observations: Any) -> BoolArray:
        """Return (B,) whether there is a choice, from which something can be learned."""
        return np.ones(len(observations), np.bool_)

    def imitation(self, observations: Any, actions: IntArray) -> Imitation:
        """Return how well the network imitates (B, ...) actions of another policy."""
        losses = -self.evaluate_actions(observations, actions).log_probs
        with torch.no_grad():
            same = self.decide(observations, None) == actions
        return Imitation(losses, same.reshape(len(same), -1).all(axis=1))

    @property
    def steps_together(self) -> int:
        """Consecutive decisions that must be evaluated together: 1, or all of an episode."""
        return 1

    def new_memory(self, num_rows: int) -> Memory | None:
        """Return an empty memory of rows that act together; None if observations are enough."""
        return None

    def critic_part(self) -> nn.Module | None:
        """Return the part that estimates returns; None if there is no critic."""
        return None

    def towers(self) -> Sequence[nn.Module]:
        """Return parts without common weights, whose gradients are clipped one by one."""
        return [self]

    def player(self, num_rows: int, *, sampled: bool) -> Policy:
        """Return a policy of the network for so many rows."""
        return NetworkPolicy(self, num_rows, sampled=sampled, name="learner")

    def factory(
        self, *, sampled: bool | None, name: str, trained_on: Mapping[str, Any]
    ) -> TrainedPolicyFactory:
        """Return a factory of policies that share the network; see the base."""
        return NetworkPolicyFactory(self, sampled=sampled, name=name, trained_on=trained_on)

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the policy's files into an existing folder."""
        write_network(folder, self, trained_on)

    def read(self, folder: Path) -> tuple["Network", dict[str, Any]]:
        """Return the network that `write` left in a folder, and the values of its `config.json`."""
        if read_schema(folder) != SCHEMA:
            raise InputError(
                f"init_from must be the language model with which the run in {folder.parent} "
                "began, got another or none"
            )
        found, values = load_network(folder)
        if not isinstance(found, Network):
            raise InputError(f"{folder} must hold a network that acts, got a predictor")
        return found, values


class NetworkPolicy(TrainedPolicy):
    """The policy of a network."""

    def __init__(
        self, network: Network, num_rows: int, *, sampled: bool, name: str, source: str = ""
    ) -> None:
        super().__init__(network, num_rows, sampled=sampled, name=name, source=source)
        self._memory = network.new_memory(num_rows)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Start the rows' draws anew and forget their episodes."""
        super().reset(rows, seeds)
        if self._memory is not None:
            self._memory.reset(rows)

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        """Return (N, ...) actions; see the protocol."""
        draws = None
        if self._memory is not None:
            observations = self._memory.see(observations)
        if self.sampled:
            draws = np.stack([self.draws.draw() for _ in range(self.model.draws_per_decision)])
        with errors_begin_with(self.source), torch.inference_mode():
            actions: IntArray = self.model.decide(observations, draws)
        return actions


def remembered(network: Network, observations: Sequence[Any]) -> Sequence[Any]:
    """Return what a network reads in each step of whole episodes, each of (T, ...) observations."""
    memory = network.new_memory(len(observations))
    if memory is None:
        return observations
    lengths = [len(each) for each in observations]
    # An episode that has ended repeats its last step, which is cut off below.
    steps = [
        memory.see(np.stack([each[min(step, len(each) - 1)] for each in observations]))
        for step in range(max(lengths))
    ]
    read = np.stack(steps, axis=1)
    return [row[:length] for row, length in zip(read, lengths, strict=True)]


class NetworkPolicyFactory(TrainedPolicyFactory):
    """Builds policies that share a network."""

    usual_name = "ppo"

    def __call__(self, env: Any) -> NetworkPolicy:
        """Build the policy for an environment's rows; see the base."""
        self.model.check_env(env)
        return self.build(NetworkPolicy, env)
