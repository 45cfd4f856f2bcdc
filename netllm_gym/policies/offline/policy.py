"""A network of d3rlpy as a policy: N rows act at once, in one forward pass.

On disk it is `config.json` and `policy.safetensors`, which holds the network that acts and the mean
and spread of its features, but no critics or optimizers.
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.configs import from_json
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.policies.checkpoint import (
    check_device,
    check_tensors,
    read_config,
    read_tensors,
    write_config,
    write_tensors,
)
from netllm_gym.policies.normal import Normal
from netllm_gym.policies.offline.config import OfflineConfig
from netllm_gym.policies.offline.d3 import SCORES, new_network
from netllm_gym.policies.offline.parts import parts_of
from netllm_gym.policies.policy import TrainedPolicy, TrainedPolicyFactory
from netllm_gym.policies.returns import ReturnConditioner


def timesteps_of(step: IntArray, max_steps: int) -> IntArray:
    """Return the number of each step from 1 on, 0 before the first, at most `max_steps`."""
    return np.asarray(np.clip(step + 1, 0, max_steps), np.int64)


SCHEMA = "netllm-gym offline policy 1"
POLICY_FILE = "policy.safetensors"


class OfflineModel(nn.Module):
    """The network that acts, d3rlpy's or a new one, behind the normaliser of its features."""

    def __init__(self, config: OfflineConfig, network: nn.Module | None = None) -> None:
        super().__init__()
        self.config = config
        self.normal = Normal(config.num_features)
        self.network = new_network(config) if network is None else network

    def normalised(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the batch as the network reads it."""
        features = {
            name: self.normal(each) if name.endswith("observations") else each
            for name, each in batch.items()
        }
        if "masks" in batch:  # steps before the episode's first remain 0
            features["observations"] *= batch["masks"].unsqueeze(-1)
        return features

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return (N, A): logits, of "cql" the values of actions."""
        return SCORES[self.config.method](self.network, self.normalised(batch))


class OfflinePolicy(TrainedPolicy):
    """The policy of a model."""

    def __init__(
        self, model: OfflineModel, num_rows: int, *, sampled: bool, name: str, source: str = ""
    ) -> None:
        super().__init__(model, num_rows, sampled=sampled, name=name, source=source)
        config = model.config
        self._config, self._parts = config, parts_of(config.problem)
        self._device = model.normal.mean.device
        self.needs_own_episodes = config.is_sequence_model  # it reads its own last action
        self._recent = _Recent(config, num_rows) if config.is_sequence_model else None

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Forget these rows: each begins a new episode with the next `act`."""
        super().reset(rows, seeds)
        if self._recent is not None:
            self._recent.forget(np.asarray(rows, np.int64))

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> IntArray:
        """Return (N, ...) actions; see the protocol."""
        offered = self._parts.offered(self._config, observations)
        if self._recent is None:
            batch = {"observations": offered.features}
        else:
            batch = self._recent.take_in(offered.features, np.asarray(rewards, np.float64))
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(each) for name, each in batch.items()}
            scores = self.model({name: each.to(self._device) for name, each in tensors.items()})
        found: FloatArray = scores.double().cpu().numpy()
        actions = self.pick(np.where(offered.allowed, found, -np.inf))
        if self._recent is not None:
            self._recent.remember(actions)
        return offered.decide(actions)


class _Recent:
    """The last steps of each row as "dt" reads them, the newest at the end."""

    def __init__(self, config: OfflineConfig, num_rows: int) -> None:
        shape = (num_rows, config.context_steps)
        self._max_steps = config.max_steps
        self._features = np.zeros((*shape, config.num_features), np.float32)
        self._actions = np.zeros((*shape, 1), np.float32)
        self._tokens = np.zeros((*shape, 1), np.float32)
        self._step = np.full(num_rows, -1, np.int64)  # (N,) of the newest
        self._returns = ReturnConditioner(config.returns, num_rows)

    def forget(self, rows: IntArray) -> None:
        """Begin these rows anew."""
        for each in (self._features, self._actions, self._tokens):
            each[rows] = 0.0
        self._step[rows] = -1
        self._returns.reset(rows)

    def take_in(self, features: Float32Array, rewards: FloatArray) -> dict[str, NDArray[Any]]:
        """Take in the next step of all rows and return the batch that ends with it."""
        self._returns.observe(rewards, self._step >= 0)
        self._step += 1
        for kept, newest in (
            (self._features, features),
            (self._actions, 0.0),  # not chosen yet; the network does not look at it
            (self._tokens, self._returns.tokens()[:, None]),
        ):
            kept[:, :-1] = kept[:, 1:]
            kept[:, -1] = newest
        num_steps = self._actions.shape[1]
        step = self._step[:, None] + np.arange(1 - num_steps, 1)
        return {
            "observations": self._features,
            "actions": self._actions,
            "returns_to_go": self._tokens,
            "timesteps": timesteps_of(step, self._max_steps),
            "masks": (step >= 0).astype(np.float32),
        }

    def remember(self, actions: IntArray) -> None:
        """Put in what was chosen."""
        self._actions[:, -1, 0] = actions


class OfflinePolicyFactory(TrainedPolicyFactory):
    """Builds policies that share a model; greedy by default, as these methods are known."""

    usual_name = "offline"

    def check_can_draw(self) -> None:
        """Refuse to draw by the values of "cql"."""
        if self.config.method == "cql":
            raise InputError(
                f"decoding must be greedy for {self.name}, got sampled: cql learns what actions "
                "are worth, not how likely they are"
            )

    def __call__(self, env: Any) -> OfflinePolicy:
        """Build the policy for an environment's rows; see the base."""
        parts_of(self.config.problem).check_env(self.config, env)
        return self.build(OfflinePolicy, env)


def for_acting(model: OfflineModel) -> OfflineModel:
    """Return a copy in eval mode; the original stays as it is."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def write_policy(
    folder: Path, model: OfflineModel, trained_on: Mapping[str, Any] | None = None
) -> None:
    """Write a policy's files into an existing folder."""
    write_tensors(folder / POLICY_FILE, model.state_dict())
    write_config(folder, SCHEMA, model.config, [POLICY_FILE], trained_on)


def load_model(folder: Path) -> tuple[OfflineModel, dict[str, Any]]:
    """Return a policy's model and the values of its `config.json`; refuse broken files."""
    values = read_config(folder, SCHEMA)
    path = folder / "config.json"
    with errors_begin_with(path):
        config = from_json(OfflineConfig, values["config"])
        parts_of(config.problem)
        config.returns.constants()  # without them it could not act
    weights = folder / POLICY_FILE
    tensors = read_tensors(weights, values.get("sha256", {}).get(POLICY_FILE))
    model = OfflineModel(config)
    check_tensors(weights, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return model, values


def load_offline_policy(
    folder: Path | str, *, sampled: bool | None = None, name: str = "", device: str = "cpu"
) -> OfflinePolicyFactory:
    """Read a policy, ready to act; see `FOLDER_READERS` in `policies/loading.py`."""
    check_device(device)
    model, values = load_model(Path(folder))
    acting = for_acting(model).to(device)
    return OfflinePolicyFactory(acting, sampled=sampled, name=name, trained_on=values["trained_on"])
