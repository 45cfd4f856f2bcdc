"""A small actor and critic for congestion control, which PPO trains."""

from dataclasses import dataclass

import torch
from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.configs import check
from netllm_gym.policies.neural.networks import ActionEvaluation, Network
from netllm_gym.policies.policy import choose
from netllm_gym.training.online import OnlineParts
from torch import Tensor, nn

from congestion_control.observation import HISTORY, NUM_COLUMNS
from congestion_control.simulator import FACTORS

LEAST = 0.01  # in 10 Mbit/s: added before a logarithm is taken
NUM_LOGARITHMS = 2  # throughput and rate, the first two columns, span orders of magnitude
NUM_FEATURES = HISTORY * NUM_COLUMNS


def features_of(observations: Tensor) -> Tensor:
    """Return (..., 40) observations with logarithms of throughputs and rates."""
    table = observations.reshape(*observations.shape[:-1], HISTORY, NUM_COLUMNS)
    logarithms = (table[..., :NUM_LOGARITHMS] + LEAST).log()
    return torch.cat([logarithms, table[..., NUM_LOGARITHMS:]], dim=-1).flatten(-2)


@dataclass(frozen=True)
class CongestionNetworkConfig:
    """Sizes of an actor and critic.

    Attributes:
        width: Units of a hidden layer.
        seed: Seed of the initial weights.
        problem: Short name of the problem.
    """

    width: int = 64
    seed: int = 0
    problem: str = "cc"

    def __post_init__(self) -> None:
        check(1 <= self.width <= 4096, "width", "be in 1..4096", self.width)
        check(self.problem == "cc", "problem", "be cc", self.problem)


class CongestionNetwork(Network):
    """Rates each factor (actor) and estimates the return to come (critic)."""

    kind = "cc-mlp"
    config: CongestionNetworkConfig

    def __init__(self, config: CongestionNetworkConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.actor = _layers(config.width, len(FACTORS))
            self.critic = _layers(config.width, 1)

    def decide(self, observations: Float32Array, draws: FloatArray | None) -> IntArray:
        """Return (N,) actions; see the base."""
        logits = self.actor(features_of(torch.from_numpy(observations)))
        return choose(logits.detach().double().numpy(), None if draws is None else draws[0])

    def evaluate_actions(self, observations: Float32Array, actions: IntArray) -> ActionEvaluation:
        """Return how likely (B,) actions are; see the base."""
        features = features_of(torch.from_numpy(observations))
        log_probs = torch.log_softmax(self.actor(features), dim=1)  # (B, 7)
        of_actions = log_probs.gather(1, torch.from_numpy(actions)[:, None])[:, 0]
        entropies = -(log_probs.exp() * log_probs).sum(1)
        return ActionEvaluation(of_actions, entropies, self.critic(features)[:, 0])

    def critic_part(self) -> nn.Module:
        """Return the critic."""
        return self.critic

    def towers(self) -> tuple[nn.Module, nn.Module]:
        """Return actor and critic, which share no weight."""
        return self.actor, self.critic

    def check_env(self, env: object) -> None:
        """Accept every environment of the problem: all have the same observations and actions."""


def _layers(width: int, outputs: int) -> nn.Sequential:
    """Return two hidden layers and an output that is near zero at first."""
    last = nn.Linear(width, outputs)
    nn.init.orthogonal_(last.weight, 0.01)
    nn.init.zeros_(last.bias)
    first = nn.Linear(NUM_FEATURES, width)
    return nn.Sequential(first, nn.Tanh(), nn.Linear(width, width), nn.Tanh(), last)


class CongestionOnline(OnlineParts):
    """What PPO needs of congestion control."""

    def new_network(self, seed: int) -> Network:
        """Return a network with random weights."""
        return CongestionNetwork(CongestionNetworkConfig(seed=seed))
