"""What a small trained network is: it decides, it says how likely its decisions were, it is kept.

A network of either problem fits: observations are whatever the environment gives (an array, a
ragged view), actions whatever it takes. `ppo.py` trains one, `NetworkPolicy` lets it play,
`checkpoint.py` keeps it on disk.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netllm_gym.policies.policy import FloatArray, IntArray, TrainedPolicyFactory
from netllm_gym.randomness import EpisodeDraws


class NetworkConfig(Protocol):
    """A frozen configuration that travels as JSON.

    Attributes:
        problem: Short name of the problem that the network plays.
    """

    @property
    def problem(self) -> str: ...  # noqa: D102


class Judgement(NamedTuple):
    """What a network says of B decisions that were made."""

    log_probs: Tensor  # (B,) of the actions
    entropies: Tensor  # (B,) of all that could have been chosen
    values: Tensor | None  # (B,) return that it expects from here on; None if it expects nothing


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

    def decide(self, observations: Any, draws: FloatArray | None) -> IntArray:
        """Return (N, ...) actions.

        Args:
            observations: (N, ...) what each row sees.
            draws: (K, N) uniform in [0, 1), K of `draws_per_decision`; None takes the likeliest.
        """
        raise NotImplementedError

    def judge(self, observations: Any, actions: IntArray) -> Judgement:
        """Say of (B, ...) decisions, where there was a choice, how likely they were.

        Gradients flow.
        """
        raise NotImplementedError

    def chooses(self, observations: Any) -> NDArray[np.bool_]:
        """Return (B,) where there is a choice, from which something can be learned; everywhere."""
        return np.ones(len(observations), np.bool_)

    def towers(self) -> Sequence[nn.Module]:
        """Return parts that share no weight; the gradient of each is clipped by itself."""
        return [self]

    def check_env(self, env: Any) -> None:
        """Refuse an environment that the network cannot play."""
        raise NotImplementedError

    def factory(
        self, *, sampled: bool | None, name: str, trained_on: Mapping[str, Any]
    ) -> "NetworkPolicyFactory":
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

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Start the rows' draws anew; the network has no memory."""
        self._draws.reset(rows, seeds)

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        """Return (N, ...) actions; see the protocol."""
        draws = None
        if self.sampled:
            draws = np.stack([self._draws.draw() for _ in range(self.network.draws_per_decision)])
        with torch.inference_mode():
            return self.network.decide(observations, draws)


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
