"""A small actor and critic for ABR: two towers of dense layers over the observation.

Both read the whole (6, W) matrix and the rung of the newest chunk, which the matrix shows only as
a bitrate. One output a rung, so any ladder will do, each with a network of its own.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netllm_gym.envs.abr.observation import BITRATE, DOWNLOAD, HISTORY, NUM_ROWS, SIZES, THROUGHPUT
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.abr import Observations, check_trained_for
from netllm_gym.policies.configs import MAX_SEED, check
from netllm_gym.policies.neural.networks import Judgement, Network
from netllm_gym.policies.policy import FloatArray, IntArray, choose

_LOGARITHMIC = (THROUGHPUT, DOWNLOAD, SIZES)  # rows whose values span orders of magnitude
_LEAST = 0.01  # MB/s, tens of seconds, MB: what is below is told apart no more


@dataclass(frozen=True)
class ABRNetworkConfig:
    """Sizes of an actor and critic.

    Attributes:
        ladder_mbps: Bitrates of the ladder that it was trained on.
        width: Units of a hidden layer.
        depth: Hidden layers of each tower.
        foresight: Numbers about what is to come that the critic sees besides, in training.
        seed: Of the initial weights.
    """

    ladder_mbps: tuple[float, ...] = (0.3, 0.75, 1.2, 1.85, 2.85, 4.3)
    width: int = 128
    depth: int = 2
    foresight: int = 0
    seed: int = 0
    problem: str = "abr"

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in zip((0.0, *self.ladder_mbps), self.ladder_mbps, strict=False))
        check(
            len(self.ladder_mbps) >= 2 and rises,
            *("ladder_mbps", "hold 2 or more bitrates that rise from above 0", self.ladder_mbps),
        )
        check(1 <= self.width <= 2**14, "width", "be in 1..16384", self.width)
        check(0 <= self.foresight <= 64, "foresight", "be in 0..64", self.foresight)
        check(1 <= self.depth <= 64, "depth", "be in 1..64", self.depth)
        check(0 <= self.seed <= MAX_SEED, "seed", f"be in 0..{MAX_SEED}", self.seed)
        check(self.problem == "abr", "problem", "be abr", self.problem)


class ABRNetwork(Network):
    """Says how good each rung is (actor) and what return is to come (critic)."""

    config: ABRNetworkConfig

    def __init__(self, config: ABRNetworkConfig) -> None:
        super().__init__()
        self.config = config
        rungs = len(config.ladder_mbps)
        self.rungs = rungs
        self._width = max(HISTORY, rungs)
        self._shares = np.array(config.ladder_mbps) / config.ladder_mbps[-1]
        inputs = NUM_ROWS * self._width + rungs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.actor = _tower(inputs, config, rungs, gain=0.01)  # at first all rungs are alike
            self.critic = _tower(inputs + config.foresight, config, 1, gain=1.0)

    def features(self, observations: Observations) -> Tensor:
        """Return (N, inputs) of (N, 6 or more, W) observations, of which 6 rows are read."""
        observations = observations[:, :NUM_ROWS]
        share = observations[:, BITRATE, -1].astype(np.float64)
        rung = np.abs(share[:, None] - self._shares).argmin(axis=1)
        seen = np.array(observations, np.float32)
        rows = seen[:, _LOGARITHMIC]
        seen[:, _LOGARITHMIC] = np.log(np.maximum(rows, _LEAST) / _LEAST) / np.log(1 / _LEAST)
        last = np.eye(self.rungs, dtype=np.float32)[rung]
        return torch.from_numpy(np.concatenate([seen.reshape(len(seen), -1), last], axis=1))

    def decide(self, observations: Any, draws: FloatArray | None) -> IntArray:
        """Return (N,) rungs."""
        logits = self.actor(self.features(observations)).detach().double().numpy()
        return choose(logits, None if draws is None else draws[0])

    def judge(self, observations: Any, actions: IntArray) -> Judgement:
        """Say of (B,) rungs how likely they were."""
        seen = self.features(observations)
        ahead = foresight_of(observations, self.config.foresight)
        log_probs = torch.log_softmax(self.actor(seen), dim=1)
        of_actions = log_probs.gather(1, torch.from_numpy(actions)[:, None])[:, 0]
        entropies = -(log_probs.exp() * log_probs).sum(1)
        values = self.critic(torch.cat([seen, ahead], dim=1))[:, 0]
        return Judgement(of_actions, entropies, values)

    def towers(self) -> tuple[nn.Module, nn.Module]:
        """Return actor and critic."""
        return self.actor, self.critic

    def check_env(self, env: Any) -> None:
        """Refuse a video with another number of rungs."""
        check_trained_for(env, self.rungs)


def with_foresight(observations: Observations, ahead: FloatArray) -> NDArray[np.float32]:
    """Return (N, 6 + K, W) observations with (N, F) numbers in K further rows, 0 behind them."""
    width = observations.shape[2]
    rows = -(-ahead.shape[1] // width)
    below = np.zeros((len(ahead), rows * width), np.float32)
    below[:, : ahead.shape[1]] = ahead
    return np.concatenate([observations, below.reshape(-1, rows, width)], axis=1)


def foresight_of(observations: Observations, count: int) -> Tensor:
    """Return (N, count) logarithms of what `with_foresight` put there."""
    ahead = observations[:, NUM_ROWS:].reshape(len(observations), -1)[:, :count]
    if ahead.shape[1] < count:
        raise InputError(f"observations must hold {count} numbers to come, got {ahead.shape[1]}")
    return torch.from_numpy(np.log(np.maximum(ahead, _LEAST)))


def _tower(inputs: int, config: ABRNetworkConfig, outputs: int, gain: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(config.depth):
        layers += [nn.Linear(inputs, config.width), nn.Tanh()]
        inputs = config.width
    layers.append(nn.Linear(inputs, outputs))
    for layer in layers[::2]:
        assert isinstance(layer, nn.Linear)
        last = layer is layers[-1]
        nn.init.orthogonal_(layer.weight, gain if last else float(np.sqrt(2.0)))
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
