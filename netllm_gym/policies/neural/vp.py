"""Small networks that predict viewports: a GRU, and TRACK without content.

TRACK (Rondon et al., TPAMI 2021; here after its port in NetLLM, SIGCOMM 2024) is a recurrent
encoder and decoder whose outputs are summed over the steps. Differences from that port: there is no
saliency branch; the decoder begins with the last observed viewport, not with the first one that is
to be predicted; its fusion state is kept from sample to sample; inputs and outputs have one unit;
and yaw is relative to the last sample, so that no value jumps where yaw wraps around.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netllm_gym.configs import MAX_SEED, check
from netllm_gym.data.vp.angles import check_order
from netllm_gym.policies.neural.checkpoint import KeptNetwork
from netllm_gym.policies.viewport import (
    NUM_FEATURES,
    OFFSET_DEG,
    PLACE_DEG,
    PredictorFactory,
    silent_linear,
)

_PLACE = (6, 7, 2)  # of the features: roll, pitch, and yaw relative to the last sample


@dataclass(frozen=True)
class ViewportNetworkConfig:
    """Sizes of a viewport network.

    Attributes:
        kind: Architecture: "gru" or "track".
        history: Samples that the network reads.
        future: Samples that it predicts.
        euler_order: Order of the Euler angles.
        width: Units of a recurrent layer.
        seed: Seed of the initial weights.
        content_size: Features of a frame; 0, since the networks read none.
        problem: Short name of the problem.
    """

    kind: str = "gru"
    history: int = 10
    future: int = 20
    euler_order: str = "zxy"
    width: int = 64
    seed: int = 0
    content_size: int = 0
    problem: str = "vp"

    def __post_init__(self) -> None:
        check(self.kind in CORES, "kind", f"be one of {', '.join(CORES)}", self.kind)
        check(2 <= self.history <= 10_000, "history", "be in 2..10000", self.history)
        check(1 <= self.future <= 10_000, "future", "be in 1..10000", self.future)
        check_order(self.euler_order)
        check(1 <= self.width <= 2**14, "width", "be in 1..16384", self.width)
        check(0 <= self.seed <= MAX_SEED, "seed", f"be in 0..{MAX_SEED}", self.seed)
        check(self.content_size == 0, "content_size", "be 0", self.content_size)
        check(self.problem == "vp", "problem", "be vp", self.problem)


class GRUCore(nn.Module):
    """One recurrent layer reads the history; its last state gives all future samples at once."""

    def __init__(self, config: ViewportNetworkConfig) -> None:
        super().__init__()
        self.future = config.future
        self.layer = nn.GRU(NUM_FEATURES, config.width, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(config.width, config.width),
            nn.GELU(),
            silent_linear(config.width, 3 * config.future),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, F, 3) of (B, H, 8)."""
        states, _ = self.layer(features)
        return self.head(states[:, -1]).unflatten(-1, (self.future, 3))  # type: ignore[no-any-return]


class TrackCore(nn.Module):
    """Two recurrent layers, position and fusion, read the history, then predict step by step."""

    def __init__(self, config: ViewportNetworkConfig) -> None:
        super().__init__()
        self.future = config.future
        width = config.width
        self.position = nn.LSTM(3, width, batch_first=True)
        self.fusion = nn.LSTM(width, width, batch_first=True)
        self.next_position = nn.LSTM(3, width, batch_first=True)
        self.next_fusion = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Sequential(nn.Linear(width, width), silent_linear(width, 3))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, F, 3) of (B, H, 8)."""
        places = features[..., _PLACE]  # (B, H, 3)
        read, position = self.position(places)
        _, fusion = self.fusion(read)
        place, offset, answers = places[:, -1:], torch.zeros_like(places[:, -1:]), []
        for _ in range(self.future):
            read, position = self.next_position(place, position)
            read, fusion = self.next_fusion(read, fusion)
            step = self.head(read)  # (B, 1, 3), in units of an answer
            offset = offset + step
            place = place + OFFSET_DEG / PLACE_DEG * step
            answers.append(offset)
        return torch.cat(answers, dim=1)


CORES = {"gru": GRUCore, "track": TrackCore}


class ViewportNetwork(KeptNetwork):
    """A GRU or TRACK with its config."""

    kind = "viewport"
    config: ViewportNetworkConfig

    def __init__(self, config: ViewportNetworkConfig) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.core: Any = CORES[config.kind](config)

    def forecast(self, features: Tensor, content: Tensor | None) -> Tensor:
        """Return (B, F, 3) offsets of (B, H, 8) features."""
        return self.core(features)  # type: ignore[no-any-return]

    def factory(
        self, *, sampled: bool | None, name: str, trained_on: Mapping[str, Any]
    ) -> PredictorFactory:
        """Return what builds predictors that share the network; see the base."""
        options = {"sampled": sampled, "name": name, "trained_on": trained_on}
        return PredictorFactory(self, self.forecast, **options)
