"""What a trained network is: it decides, it says how likely its decisions were, it is kept.

A network of either problem fits: observations are whatever the environment gives (an array, a
ragged view), actions whatever it takes. `ppo.py` trains one; `NetworkPolicy` lets it play and
`checkpoint.py` keeps it on disk, unless it brings its own `player`, `write` and `read`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import BoolArray, FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import read_schema
from netllm_gym.policies.policy import Policy, TrainedPolicyFactory
from netllm_gym.randomness import EpisodeDraws


class NetworkConfig(Protocol):
    """A frozen configuration that travels as JSON.

    Attributes:
        problem: Short name of the problem that the network plays.
    """

    @property
    def problem(self) -> str: ...  # noqa: D102


class ActionEvaluation(NamedTuple):
    """What a network says of B decisions that were made."""

    log_probs: Tensor  # (B,) of the actions
    entropies: Tensor  # (B,) of all that could have been chosen
    values: Tensor | None  # (B,) return that it expects from here on; None if it expects nothing
    return_std: Tensor | None = None  # (B,) how far returns usually are from that, above 0


def together(parts: Sequence[ActionEvaluation]) -> ActionEvaluation:
    """Return what was said of several batches, end to end."""

    def joined(each: Sequence[Tensor | None]) -> Tensor | None:
        known = [part for part in each if part is not None]
        return torch.cat(known) if known else None

    return ActionEvaluation(
        torch.cat([part.log_probs for part in parts]),
        torch.cat([part.entropies for part in parts]),
        joined([part.values for part in parts]),
        joined([part.return_std for part in parts]),
    )


class Memory(Protocol):
    """What a network keeps of the episode that each row plays, beyond what an observation shows."""

    def reset(self, rows: IntArray) -> None:
        """Forget these rows: each begins a new episode with the next step."""

    def see(self, observations: Any) -> Any:
        """Take in one step of all rows; return what the network reads of it."""


class KeptNetwork(nn.Module):
    """A network that is kept on disk, and what it becomes when it is read.

    Attributes:
        config: Everything that, with the weights, rebuilds it.
    """

    config: NetworkConfig

    def factory(
        self, *, sampled: bool | None, name: str, trained_on: Mapping[str, Any]
    ) -> TrainedPolicyFactory:
        """Return what builds policies, or predictors, that share the network.

        Args:
            sampled: Draw actions instead of taking the likeliest; None does as is usual.
            name: What tables call it.
            trained_on: Where the training data came from.
        """
        raise NotImplementedError


class Network(KeptNetwork):
    """What the network of a problem that is played brings.

    Attributes:
        draws_per_decision: Uniform numbers that a sampled decision takes.
        draws_by_default: Whether policies of the problem usually draw their actions.
    """

    draws_per_decision: ClassVar[int] = 1
    draws_by_default: ClassVar[bool] = False

    @property
    def steps_together(self) -> int:
        """Decisions in a row that are judged together: 1, or all of an episode."""
        return 1

    def player(self, num_rows: int, *, sampled: bool) -> Policy:
        """Return the network at work, for so many rows."""
        return NetworkPolicy(self, num_rows, sampled=sampled, name="learner")

    def write(self, folder: Path, trained_on: Mapping[str, Any]) -> None:
        """Write the policy's files into an existing folder."""
        from netllm_gym.policies.neural.checkpoint import write_network

        write_network(folder, self, trained_on)

    def read(self, folder: Path) -> tuple["Network", dict[str, Any]]:
        """Return the network that `write` left there, and the values of its `config.json`.

        Raises:
            InputError: If the folder holds anything else.
        """
        from netllm_gym.policies.neural.checkpoint import SCHEMA, load_network

        if read_schema(folder) != SCHEMA:
            raise InputError(
                f"start must be the language model with which the run in {folder.parent} began, "
                "got another or none"
            )
        found, values = load_network(folder)
        if not isinstance(found, Network):
            raise InputError(f"{folder} must hold a network that plays, got a predictor")
        return found, values

    def decide(self, observations: Any, draws: FloatArray | None) -> IntArray:
        """Return (N, ...) actions.

        Args:
            observations: (N, ...) what each row sees, as its memory returned it if it has one.
            draws: (K, N) uniform in [0, 1), K of `draws_per_decision`; None takes the likeliest.
        """
        raise NotImplementedError

    def evaluate_actions(self, observations: Any, actions: IntArray) -> ActionEvaluation:
        """Say of (B, ...) decisions, where there was a choice, how likely they were.

        Observations are those of `decide`. Gradients flow.
        """
        raise NotImplementedError

    def chooses(self, observations: Any) -> BoolArray:
        """Return (B,) where there is a choice, from which something can be learned; everywhere."""
        return np.ones(len(observations), np.bool_)

    def new_memory(self, num_rows: int) -> Memory | None:
        """Return an empty memory of rows that act together; None if observations are enough."""
        return None

    def towers(self) -> Sequence[nn.Module]:
        """Return parts that share no weight; the gradient of each is clipped by itself."""
        return [self]

    def check_env(self, env: Any) -> None:
        """Refuse an environment that the network cannot play."""
        raise NotImplementedError

    def factory(
        self, *, sampled: bool | None, name: str, trained_on: Mapping[str, Any]
    ) -> TrainedPolicyFactory:
        """Return what builds policies that share the network."""
        return NetworkPolicyFactory(self, sampled=sampled, name=name, trained_on=trained_on)


class NetworkPolicy:
    """A network at work; keeps `policies/policy.py`'s protocol.

    Args:
        network: In eval mode.
        num_rows: Rows that act together.
        sampled: Draw actions, by episode seed and step; else take the likeliest.
        name: What tables call it.
    """

    def __init__(self, network: Network, num_rows: int, *, sampled: bool, name: str) -> None:
        self.name, self.network, self.sampled = name, network, sampled
        self._draws = EpisodeDraws(num_rows)
        self._memory = network.new_memory(num_rows)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Start the rows' draws anew and forget their episodes."""
        self._draws.reset(rows, seeds)
        if self._memory is not None:
            self._memory.reset(rows)

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        """Return (N, ...) actions; see the protocol."""
        draws = None
        if self._memory is not None:
            observations = self._memory.see(observations)
        if self.sampled:
            draws = np.stack([self._draws.draw() for _ in range(self.network.draws_per_decision)])
        with torch.inference_mode():
            return self.network.decide(observations, draws)


def remembered(network: Network, seen: Sequence[Any]) -> Sequence[Any]:
    """Return what the network read at every step of whole episodes.

    Args:
        network: That played them, or could have.
        seen: (T, ...) observations of each.
    """
    memory = network.new_memory(len(seen))
    if memory is None:
        return seen
    lengths = [len(each) for each in seen]
    after = range(max(lengths))  # a row that has ended repeats its last step, which nobody reads
    steps = [memory.see(np.stack([each[min(t, len(each) - 1)] for each in seen])) for t in after]
    read = np.stack(steps, axis=1)
    return [row[:length] for row, length in zip(read, lengths, strict=True)]


class NetworkPolicyFactory(TrainedPolicyFactory):
    """Builds policies that share a network."""

    def __init__(
        self,
        network: Network,
        *,
        sampled: bool | None = None,
        name: str = "ppo",
        trained_on: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name, network.draws_by_default, sampled, trained_on)
        self.network = network

    @property
    def config(self) -> NetworkConfig:
        """The network's config."""
        return self.network.config

    def __call__(self, env: Any) -> NetworkPolicy:
        """Build the policy for an environment's rows; see the base."""
        self.network.check_env(env)
        return NetworkPolicy(self.network, env.num_envs, sampled=self.sampled, name=self.name)
