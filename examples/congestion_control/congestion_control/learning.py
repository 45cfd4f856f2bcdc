"""A small actor-critic for congestion control, and the episodes in which PPO trains it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.policies.configs import check
from netllm_gym.policies.neural.config import PPOConfig
from netllm_gym.policies.neural.networks import Judgement, Network
from netllm_gym.policies.neural.ppo import episode_seeds
from netllm_gym.policies.policy import choose
from numpy.typing import NDArray
from torch import Tensor, nn

from congestion_control.observation import COLUMNS, HISTORY
from congestion_control.simulator import FACTORS

SCHEDULE = PPOConfig(
    updates=150,
    episodes=32,
    epochs=4,
    minibatch=1600,
    learning_rate=1e-3,
    entropy=0.01,
    final_entropy=0.001,
    gamma=0.95,
    reward_scale=0.1,
)
LEAST = 0.01  # in 10 Mbit/s: added before a logarithm is taken
NUM_LOGARITHMS = 2  # throughput and rate, the first two columns, span orders of magnitude


def num_features(observation_shape: Sequence[int]) -> int:
    """Return how many numbers `features_of` gives of an observation."""
    if tuple(observation_shape) != (HISTORY * len(COLUMNS),):
        raise InputError(
            f"observation_shape must be ({HISTORY * len(COLUMNS)},), got {tuple(observation_shape)}"
        )
    return HISTORY * len(COLUMNS)


def features_of(observations: Tensor) -> Tensor:
    """Return (..., 40) observations with logarithms of throughputs and rates."""
    table = observations.reshape(*observations.shape[:-1], HISTORY, len(COLUMNS))
    logarithms = (table[..., :NUM_LOGARITHMS] + LEAST).log()
    return torch.cat([logarithms, table[..., NUM_LOGARITHMS:]], dim=-1).flatten(-2)


def check_sizes(env: Any, observation_shape: Sequence[int], num_actions: int) -> None:
    """Raise `InputError` unless an environment has the sizes that a policy was trained for."""
    batch = env.batch  # a scalar environment has one, too
    shape, actions = batch.observation_space.shape, int(batch.action_space.n)
    if (shape, actions) != (tuple(observation_shape), num_actions):
        raise InputError(
            f"env must have observations {tuple(observation_shape)} and {num_actions} actions, "
            f"as in training, got {shape} and {actions}"
        )


@dataclass(frozen=True)
class CongestionNetworkConfig:
    """Sizes of an actor and critic.

    Attributes:
        width: Units of a hidden layer.
        seed: Of the initial weights.
    """

    width: int = 64
    seed: int = 0
    problem: str = "cc"

    def __post_init__(self) -> None:
        check(1 <= self.width <= 4096, "width", "be in 1..4096", self.width)
        check(self.problem == "cc", "problem", "be cc", self.problem)


class CongestionNetwork(Network):
    """Says how good each factor is (actor) and what return is to come (critic)."""

    config: CongestionNetworkConfig

    def __init__(self, config: CongestionNetworkConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.actor = _layers(config.width, len(FACTORS))
            self.critic = _layers(config.width, 1)

    def decide(
        self, observations: NDArray[np.float32], draws: NDArray[np.float64] | None
    ) -> NDArray[np.int64]:
        """Return (N,) actions."""
        logits = self.actor(features_of(torch.from_numpy(observations)))
        return choose(logits.detach().double().numpy(), None if draws is None else draws[0])

    def judge(self, observations: NDArray[np.float32], actions: NDArray[np.int64]) -> Judgement:
        """Say of (B,) actions how likely they were, and what return was to be expected."""
        features = features_of(torch.from_numpy(observations))
        log_probs = torch.log_softmax(self.actor(features), dim=1)  # (B, 7)
        of_actions = log_probs.gather(1, torch.from_numpy(actions)[:, None])[:, 0]
        entropies = -(log_probs.exp() * log_probs).sum(1)
        return Judgement(of_actions, entropies, self.critic(features)[:, 0])

    def towers(self) -> tuple[nn.Module, nn.Module]:
        """Return actor and critic, which share no weight."""
        return self.actor, self.critic

    def check_env(self, env: Any) -> None:
        """Refuse an environment with other observations or actions."""
        check_sizes(env, (HISTORY * len(COLUMNS),), len(FACTORS))


def _layers(width: int, outputs: int) -> nn.Sequential:
    """Return two hidden layers and an output that is near zero at first."""
    last = nn.Linear(width, outputs)
    nn.init.orthogonal_(last.weight, 0.01)
    nn.init.zeros_(last.bias)
    first = nn.Linear(HISTORY * len(COLUMNS), width)
    return nn.Sequential(first, nn.Tanh(), nn.Linear(width, width), nn.Tanh(), last)


class DrawnLinks:
    """Which episodes an update of PPO plays: links that the update's seeds draw from the set.

    Args:
        env: Vector environment, autoreset disabled, with a row for each episode of an update.
        schedule: Says how many episodes an update plays, and the seed.
    """

    settings: Mapping[str, Any] = {}  # what decides them is in the schedule and in the case

    def __init__(self, env: Any, schedule: PPOConfig) -> None:
        self._env, self._schedule = env, schedule

    def episodes(
        self, update: int, policy: Callable[[], Any]
    ) -> tuple[Any, Sequence[PlannedEpisode]]:
        """Return the environment and the plan of an update."""
        seeds = episode_seeds(self._schedule.seed, update, self._schedule.episodes)
        return self._env, self._env.training_plan(seeds.tolist())

    def state(self) -> dict[str, Any]:
        """Return nothing: an update leaves nothing for later ones."""
        return {}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Put nothing back."""
