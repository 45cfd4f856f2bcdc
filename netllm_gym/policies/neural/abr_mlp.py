"""A small actor and critic for ABR: two towers of dense layers over observation and memory.

Both read the whole (6, W) observation, the rung of the newest chunk (the observation has only its
bitrate) and what `LinkMemory` keeps of earlier chunks. The actor has one output for each rung, so
a network is made for one ladder.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.configs import MAX_SEED, check
from netllm_gym.envs.abr.observation import BITRATE, DOWNLOAD, HISTORY, NUM_ROWS, SIZES, THROUGHPUT
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.abr import Observations, check_trained_for
from netllm_gym.policies.neural.networks import ActionEvaluation, Network, dense
from netllm_gym.policies.policy import choose

_LOGARITHMIC = (THROUGHPUT, DOWNLOAD, SIZES)  # rows whose values span orders of magnitude
_LEAST = 0.01  # MB/s, tens of seconds, MB: smaller values count as this
_DECAYS = np.array([0.6, 0.85, 0.95, 1.0])  # a chunk's weight in each mean after one more chunk
_CHANGE_DECAY = 0.9
REMEMBERED = 2 * len(_DECAYS) + 4  # numbers that `LinkMemory` gives of a row
_MIN_RETURN_STD = 0.05  # of scaled returns; advantages are divided by no less


@dataclass(frozen=True)
class ABRNetworkConfig:
    """Sizes of an actor and critic.

    Attributes:
        ladder_mbps: Bitrates of the ladder, in Mbit/s.
        width: Units of a hidden layer.
        depth: Hidden layers of each tower.
        foresight: Numbers about the link's future that the critic reads in training.
        seed: Seed of the initial weights.
        problem: Short name of the problem.
    """

    ladder_mbps: tuple[float, ...] = (0.3, 0.75, 1.2, 1.85, 2.85, 4.3)
    width: int = 128
    depth: int = 2
    foresight: int = 0
    seed: int = 0
    problem: str = "abr"

    def __post_init__(self) -> None:
        rises = all(a < b for a, b in zip((0.0, *self.ladder_mbps), self.ladder_mbps, strict=False))
        holds, rule = len(self.ladder_mbps) >= 2 and rises, "hold 2 or more rising bitrates above 0"
        check(holds, "ladder_mbps", rule, self.ladder_mbps)
        check(1 <= self.width <= 2**14, "width", "be in 1..16384", self.width)
        check(0 <= self.foresight <= 64, "foresight", "be in 0..64", self.foresight)
        check(1 <= self.depth <= 64, "depth", "be in 1..64", self.depth)
        check(0 <= self.seed <= MAX_SEED, "seed", f"be in 0..{MAX_SEED}", self.seed)
        check(self.problem == "abr", "problem", "be abr", self.problem)


class ABRNetwork(Network):
    """Actor and critic for ABR."""

    kind = "abr-memory"
    config: ABRNetworkConfig

    def __init__(self, config: ABRNetworkConfig) -> None:
        super().__init__()
        self.config = config
        rungs = len(config.ladder_mbps)
        self.rungs = rungs
        self._width = max(HISTORY, rungs)
        self._below = _rows_for(REMEMBERED, self._width)  # rows that the memory adds
        self._shares = np.array(config.ladder_mbps) / config.ladder_mbps[-1]
        inputs = NUM_ROWS * self._width + rungs + REMEMBERED
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.actor = _tower(inputs, config, rungs, gain=0.01)  # nearly uniform at first
            self.critic = _tower(inputs + config.foresight, config, 2, gain=1.0)

    def new_memory(self, num_rows: int) -> "LinkMemory":
        """Return an empty memory."""
        return LinkMemory(num_rows)

    def features(self, read: Observations) -> Tensor:
        """Return (N, inputs) of observations that went through the memory."""
        foresight = _rows_for(self.config.foresight, self._width)
        if read.shape[1] - NUM_ROWS - self._below not in (0, foresight):
            raise InputError(
                f"observations must have gone through the memory, got {read.shape[1]} rows"
            )
        observations = read[:, :NUM_ROWS]
        rung = self._rungs_of(observations[:, BITRATE, -1].astype(np.float64))
        seen = np.array(observations, np.float32)
        seen[:, _LOGARITHMIC] = _logarithm(seen[:, _LOGARITHMIC])
        last = np.eye(self.rungs, dtype=np.float32)[rung]
        kept = read[:, -self._below :].reshape(len(read), -1)
        parts = [seen.reshape(len(seen), -1), last, kept[:, :REMEMBERED]]
        return torch.from_numpy(np.concatenate(parts, axis=1))

    def decide(self, observations: Any, draws: FloatArray | None) -> IntArray:
        """Return (N,) rungs."""
        logits = self.actor(self.features(observations)).detach().double().numpy()
        return choose(logits, None if draws is None else draws[0])

    def evaluate_actions(self, observations: Any, actions: IntArray) -> ActionEvaluation:
        """Return how likely (B,) rungs are; see the base."""
        seen = self.features(observations)
        log_probs = torch.log_softmax(self.actor(seen), dim=1)
        of_actions = log_probs.gather(1, torch.from_numpy(actions)[:, None])[:, 0]
        entropies = -(log_probs.exp() * log_probs).sum(1)
        ahead = foresight_of(observations[:, : -self._below], self.config.foresight)
        values, raw_std = self.critic(torch.cat([seen, ahead], dim=1)).unbind(1)
        return_std = F.softplus(raw_std) + _MIN_RETURN_STD
        return ActionEvaluation(of_actions, entropies, values, return_std)

    def critic_part(self) -> nn.Module:
        """Return the critic."""
        return self.critic

    def towers(self) -> tuple[nn.Module, nn.Module]:
        """Return actor and critic."""
        return self.actor, self.critic

    def _rungs_of(self, shares: FloatArray) -> IntArray:
        """Return the rungs of bitrates, which are shares of the highest one."""
        return np.asarray(np.abs(shares[:, None] - self._shares).argmin(axis=1), np.int64)

    def check_env(self, env: Any) -> None:
        """Refuse a video with another number of rungs, or whose rungs look like others."""
        check_trained_for(env, self.rungs)
        ladder_mbps = env.video.ladder_mbps
        if not np.array_equal(self._rungs_of(ladder_mbps / ladder_mbps[-1]), range(self.rungs)):
            of_env, own = (
                ", ".join(f"{each:g}" for each in ladder)
                for ladder in (ladder_mbps, self.config.ladder_mbps)
            )
            raise InputError(
                f"env must have a ladder like {own} Mbit/s, as in training, got {of_env}"
            )


class LinkMemory:
    """A summary of the throughput of all chunks of the episode.

    It has, of the throughput's logarithm: weighted means and standard deviations with four decays,
    from the last few chunks to all of them; the minimum and maximum; and the mean change from chunk
    to chunk. It also has the number of chunks. An observation alone shows only six chunks, in which
    a link that has been steady for minutes looks like one that is steady for the moment.
    """

    def __init__(self, num_rows: int) -> None:
        self._sums = np.zeros((num_rows, 3, len(_DECAYS)))  # of 1, x and x^2, weighted
        self._range = np.empty((num_rows, 2))
        self._changes = np.empty((num_rows, 2))  # sums of 1 and of changes, weighted
        self._last = np.empty(num_rows)
        self.reset(np.arange(num_rows))

    def reset(self, rows: IntArray) -> None:
        """Forget these rows."""
        self._sums[rows], self._changes[rows] = 0.0, 0.0
        self._range[rows] = np.inf, -np.inf
        self._last[rows] = np.nan

    def see(self, observations: Observations) -> Float32Array:
        """Take in (N, R, W) observations; return them with the numbers in further rows."""
        x = _logarithm(observations[:, THROUGHPUT, -1].astype(np.float64))
        powers = np.stack([np.ones_like(x), x, x**2], axis=1)
        self._sums = self._sums * _DECAYS + powers[:, :, None]
        self._range[:, 0] = np.minimum(self._range[:, 0], x)
        self._range[:, 1] = np.maximum(self._range[:, 1], x)
        known = ~np.isnan(self._last)
        change = np.stack([known, np.where(known, np.abs(x - self._last), 0.0)], axis=1)
        self._changes = self._changes * _CHANGE_DECAY + change
        self._last = x
        weight, mean, square = self._sums.transpose(1, 0, 2)  # (N, 4) each
        mean, square = mean / weight, square / weight
        numbers = [  # each of the order of 1
            mean,
            4.0 * np.sqrt(np.maximum(square - mean**2, 0.0)),
            self._range,
            4.0 * self._changes[:, 1:] / np.maximum(self._changes[:, :1], 1.0),  # at first 0 / 1
            np.log(weight[:, -1:]) / 4.0,
        ]
        return with_rows(observations, np.concatenate(numbers, axis=1))


def with_rows(observations: Observations, numbers: FloatArray) -> Float32Array:
    """Return (N, R + K, W) observations with (N, F) numbers in K further rows, 0 behind them."""
    width = observations.shape[2]
    rows = _rows_for(numbers.shape[1], width)
    below = np.zeros((len(numbers), rows * width), np.float32)
    below[:, : numbers.shape[1]] = numbers
    return np.concatenate([observations, below.reshape(-1, rows, width)], axis=1)


def _rows_for(count: int, width: int) -> int:
    return -(-count // width)


def foresight_of(observations: Observations, count: int) -> Tensor:
    """Return (N, count) logarithms of the numbers in the rows that follow the observation."""
    ahead = observations[:, NUM_ROWS:].reshape(len(observations), -1)[:, :count]
    if ahead.shape[1] < count:
        raise InputError(
            f"observations must hold {count} numbers of foresight, got {ahead.shape[1]}"
        )
    return torch.from_numpy(np.log(np.maximum(ahead, _LEAST)))


def _logarithm(values: NDArray[Any]) -> NDArray[Any]:
    """Return logarithms scaled so that `_LEAST` and less become 0, and 1 becomes 1."""
    return np.asarray(np.log(np.maximum(values, _LEAST) / _LEAST) / np.log(1 / _LEAST))


def _tower(inputs: int, config: ABRNetworkConfig, outputs: int, gain: float) -> nn.Sequential:
    tower = dense(inputs, [config.width] * config.depth, outputs, nn.Tanh)
    for layer in list(tower)[::2]:
        assert isinstance(layer, nn.Linear)
        nn.init.orthogonal_(layer.weight, gain if layer is tower[-1] else float(np.sqrt(2.0)))
    return tower
