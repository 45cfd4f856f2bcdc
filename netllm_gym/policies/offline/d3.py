"""The adapter to d3rlpy, whose networks, losses and updates are used; no other file imports it.

Not used are its training loop (with its log, progress bars and folder `d3rlpy_logs`), its replay
buffer (batches are made elsewhere from a seed and a number, so that a run can be resumed), its
actors, which handle one row each, and its files, which are pickles.

d3rlpy draws initial weights and dropout from torch's global generator. Each use is wrapped, so that
the draws depend on our seed alone and the generator is left as it was.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netllm_gym.policies.offline.config import TRAININGS, OfflineConfig

with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # it greets, as does gym
    from d3rlpy.algos import (
        DiscreteBCConfig,
        DiscreteCQLConfig,
        DiscreteDecisionTransformerConfig,
    )
    from d3rlpy.models.encoders import VectorEncoderFactory
    from d3rlpy.torch_utility import TorchMiniBatch, TorchTrajectoryMiniBatch

Batch = Mapping[str, Tensor]
Scores = Callable[[nn.Module, Batch], Tensor]

_ACTING = {"bc": "imitator", "cql": "q_funcs", "dt": "transformer"}  # of `networks`


class D3Algorithm:
    """One of d3rlpy's algorithms, its weights drawn from a seed.

    Attributes:
        networks: By d3rlpy's names, all that an update changes.
        network: Of these the one that acts.
        optimizer: Of the weights of `network`.
    """

    def __init__(self, config: OfflineConfig, schedule: Any) -> None:
        encoder = VectorEncoderFactory(list(config.hidden_units))
        with drawing_from(config.seed):
            algorithm = _configured(config, schedule, encoder).create(device=schedule.device)
            algorithm.create_impl((config.num_features,), config.num_actions)
        self._implementation: Any = algorithm.impl
        modules = self._implementation.modules
        self.networks: dict[str, nn.Module] = modules.get_torch_modules()
        acting = self.networks[_ACTING[config.method]]
        self.network = acting[0] if isinstance(acting, nn.ModuleList) else acting
        self.optimizer: torch.optim.Optimizer = modules.optim.optim
        self._schedule = schedule
        if config.method == "dt" and schedule.ignore_padding:
            self._implementation.compute_loss = self._loss_of_steps

    def update(self, batch: Batch, number: int) -> dict[str, float]:
        """Make one update and return d3rlpy's metrics; dropout is drawn from seed and number."""
        kind = TorchMiniBatch if "next_observations" in batch else TorchTrajectoryMiniBatch
        with drawing_from((self._schedule.seed << 32) + number):
            whole = kind(**batch, device=self._schedule.device)
            metrics = self._implementation.update(whole, number)
        return {name: float(value) for name, value in metrics.items()}

    @property
    def tokens_seen(self) -> int:
        """Steps of the batches so far, from which "dt" takes its learning rate."""
        return int(getattr(self._implementation, "_tokens", 0))

    def recall(self, tokens_seen: int, learning_rate: float) -> None:
        """Put back where the learning rate of "dt" was; d3rlpy's own files forget it."""
        if hasattr(self._implementation, "_tokens"):
            self._implementation._tokens = tokens_seen
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def _loss_of_steps(self, batch: Any) -> Tensor:
        """Return d3rlpy's loss of "dt", the mean over the real steps instead of all."""
        logits = _logits_of_steps(self.network, vars(batch))
        real = batch.masks > 0
        return F.cross_entropy(logits[real], batch.actions[..., 0][real].long())


def new_network(config: OfflineConfig) -> nn.Module:
    """Return the network that acts, its weights to be filled in."""
    return D3Algorithm(config, TRAININGS[config.method]()).network


def _configured(config: OfflineConfig, schedule: Any, encoder: VectorEncoderFactory) -> Any:
    """Return d3rlpy's config; what is not named here is as d3rlpy has it."""
    shared = {"learning_rate": schedule.learning_rate, "encoder_factory": encoder}
    if config.method == "bc":
        return DiscreteBCConfig(beta=schedule.imitation_penalty, **shared)
    if config.method == "cql":
        return DiscreteCQLConfig(
            alpha=schedule.conservative_weight,
            gamma=schedule.gamma,
            target_update_interval=schedule.target_every,
            **shared,
        )
    return DiscreteDecisionTransformerConfig(
        context_size=config.context_steps,
        max_timestep=config.max_steps,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        final_tokens=schedule.updates * schedule.batch_size * config.context_steps,
        **shared,
    )


def _logits_of_steps(transformer: nn.Module, batch: Batch) -> Tensor:
    """Return (B, T, A) logits of "dt"."""
    names = ("observations", "actions", "returns_to_go", "timesteps")
    _, logits = transformer(*(batch[name] for name in names), 1 - batch["masks"])
    return logits  # type: ignore[no-any-return]


# (N, A) of what each action is worth: logits, of "cql" values.
SCORES: Mapping[str, Scores] = {
    "bc": lambda network, batch: network(batch["observations"]).logits,
    "cql": lambda network, batch: network(batch["observations"]).q_value,
    "dt": lambda network, batch: _logits_of_steps(network, batch)[:, -1],
}


@contextmanager
def drawing_from(seed: int) -> Iterator[None]:
    """Let torch's global generator begin at a seed meanwhile, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
