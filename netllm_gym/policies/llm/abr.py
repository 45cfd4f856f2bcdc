"""ABR's parts of the language-model policy: its tokens, encoders, head and loss.

There are three layouts. `netllm` has eight tokens a step (return, six for the state, action), with
the encoders of the NetLLM paper (SIGCOMM 2024), which read the observation as it is. `compact` has
one token a step, the sum of the embeddings of the return and the whole observation, whose newest
bitrate already is the last action. `pair` has a token for each of the two.

The observation's rows are those of `envs/abr/env.py`: history of six in the last six columns of
rows 0 to 3 and 5, sizes of the next chunk in row 4.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netllm_gym.configs import check
from netllm_gym.envs.abr.observation import (
    BITRATE,
    BUFFER,
    DOWNLOAD,
    HISTORY,
    NUM_ROWS,
    REMAINING,
    SIZES,
    THROUGHPUT,
)
from netllm_gym.policies.baselines.abr import check_trained_for
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.parts import Batch, ChoiceHead, ProblemParts
from netllm_gym.policies.llm.tokens import TokenLayout, TokenSpec

MOST_REGRET = 8.0  # QoE that counts of one decision
LEAST = 0.01  # MB/s, tens of seconds, MB: added before a logarithm is taken
LAYOUTS = {
    "netllm": TokenLayout(
        (
            TokenSpec("return", ("return",)),
            TokenSpec("bitrate", ("bitrate",)),
            TokenSpec("buffer", ("buffer",)),
            TokenSpec("throughput", ("throughput",)),
            TokenSpec("download", ("download",)),
            TokenSpec("sizes", ("sizes",)),
            TokenSpec("remaining", ("remaining",)),
            TokenSpec("action", ("action",), when="after"),
        ),
        reads="remaining",
    ),
    "compact": TokenLayout((TokenSpec("step", ("return", "observation")),), reads="step"),
    "pair": TokenLayout(
        (TokenSpec("return", ("return",)), TokenSpec("observation", ("observation",))),
        reads="observation",
    ),
}


class ABREncoders(nn.Module):
    """Embeds each token of a layout as the sum of its features' embeddings."""

    def __init__(self, config: LLMConfig, layout: TokenLayout, width: int) -> None:
        super().__init__()
        rungs, shape = config.num_actions, config.observation_shape
        wanted = (NUM_ROWS, max(HISTORY, rungs))
        check(shape == wanted, "observation_shape", f"be {wanted} for {rungs} rungs", shape)
        self.layout, self.rungs = layout, rungs
        self.features = nn.ModuleDict(
            {
                feature: _encoder(feature, rungs, config.feature_dim, width)
                for token in layout.tokens
                for feature in token.features
            }
        )

    def fit(self, seen: Any) -> None:
        """Learn the mean and spread of the features from (M, 6, W) training observations."""
        for encoder in self.features.values():
            if isinstance(encoder, ObservationEncoder):
                encoder.fit(torch.as_tensor(seen))

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return token name -> (B, T, 1, d) of observations, returns and previous_actions."""
        observations = inputs["observations"]
        raw = {
            "return": inputs["returns"].unsqueeze(-1),  # (B, T, 1)
            "bitrate": observations[..., BITRATE, -1:],  # (B, T, 1)
            "buffer": observations[..., BUFFER, -1:],
            "throughput": observations[..., THROUGHPUT, -HISTORY:],  # (B, T, 6)
            "download": observations[..., DOWNLOAD, -HISTORY:],
            "sizes": observations[..., SIZES, : self.rungs],  # (B, T, rungs)
            "remaining": observations[..., REMAINING, -1:],
            "observation": observations,  # (B, T, 6, W)
            # The rung as one number in (0, 1], so that neighbours lie side by side.
            "action": ((inputs["previous_actions"] + 1) / self.rungs).unsqueeze(-1),
        }
        embedded = {name: self.features[name](raw[name]) for name in self.features}  # (B, T, d)
        return {
            token.name: reduce(torch.add, [embedded[name] for name in token.features]).unsqueeze(2)
            for token in self.layout.tokens
        }


class SeriesEncoder(nn.Module):
    """(B, T, K) series to (B, T, d): one convolution, then a projection of its flat output."""

    def __init__(self, length: int, kernel: int, feature_dim: int, width: int) -> None:
        super().__init__()
        self.kernel = kernel
        # A convolution over one channel is a linear map of each window, and faster as one.
        self.convolution = nn.Linear(kernel, feature_dim)
        self.projection = nn.Linear(feature_dim * (length - kernel + 1), width)

    def forward(self, series: Tensor) -> Tensor:
        """Return (B, T, d)."""
        windows = series.unfold(-1, self.kernel, 1)  # (B, T, K - kernel + 1, kernel)
        filtered = F.leaky_relu(self.convolution(windows))  # (B, T, K - kernel + 1, F)
        return self.projection(filtered.flatten(-2))  # type: ignore[no-any-return]


class ObservationEncoder(nn.Module):
    """(B, T, 6, W) observations to (B, T, d): everything at once, normalised.

    Throughputs, download times and sizes have heavy tails and matter as ratios (a download takes
    size / throughput), so their logarithms are features too.
    """

    mean: Tensor  # (features,)
    std: Tensor  # (features,)

    def __init__(self, rungs: int, feature_dim: int, width: int) -> None:
        super().__init__()
        self.rungs = rungs
        size = 5 * HISTORY + rungs + 2 * HISTORY + rungs
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.layers = nn.Sequential(
            nn.Linear(size, feature_dim),
            nn.GELU(),
            nn.Linear(feature_dim, feature_dim),
            nn.GELU(),
            nn.Linear(feature_dim, width),
        )

    def fit(self, observations: Tensor) -> None:
        """Learn mean and spread from (M, 6, W)."""
        features = self._features(observations).double()  # (M, features)
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0, correction=0).clamp(min=1e-3))

    def forward(self, observations: Tensor) -> Tensor:
        """Return (B, T, d)."""
        normal = (self._features(observations) - self.mean) / self.std
        return self.layers(normal.clamp(-10.0, 10.0))  # type: ignore[no-any-return]

    def _features(self, observations: Tensor) -> Tensor:
        history = observations[..., [BITRATE, BUFFER, THROUGHPUT, DOWNLOAD, REMAINING], -HISTORY:]
        sizes = observations[..., SIZES, : self.rungs]
        tailed = observations[..., [THROUGHPUT, DOWNLOAD], -HISTORY:]
        logarithms = (tailed + LEAST).log().flatten(-2), (sizes + LEAST).log()
        return torch.cat([history.flatten(-2), sizes, *logarithms], dim=-1)


def _encoder(feature: str, rungs: int, feature_dim: int, width: int) -> nn.Module:
    """Return the module that embeds one feature into `width`."""
    if feature in ("return", "action"):
        return nn.Linear(1, width)
    if feature in ("throughput", "download"):
        return SeriesEncoder(HISTORY, 4, feature_dim, width)
    if feature == "sizes":
        return SeriesEncoder(rungs, rungs, feature_dim, width)
    if feature == "observation":
        return ObservationEncoder(rungs, feature_dim, width)
    assert feature in ("bitrate", "buffer", "remaining")
    return nn.Sequential(nn.Linear(1, feature_dim), nn.LeakyReLU(), nn.Linear(feature_dim, width))


class ABRParts(ProblemParts):
    """The parts of ABR, named by its row."""

    layouts = LAYOUTS
    config_fields = ("throughput_weight",)
    encoders = ABREncoders

    def head(self, config: LLMConfig, layout: TokenLayout, width: int) -> nn.Module:
        """Make the head: logits of the rungs, and where it is asked for one number more.

        That number is the logarithm of the throughput of the next download.
        """
        return ChoiceHead(config.num_actions + (config.throughput_weight > 0), layout, width)

    def score(
        self, config: LLMConfig, output: Tensor, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the summed loss, and at valid steps which answers were the teacher's.

        Where throughput is predicted, its error at each known step is added to both. Where the
        batch holds the values of actions, the loss is the expected regret, and the best action of
        the known future takes the teacher's place.
        """
        logits = output[..., : config.num_actions]
        if "values" in batch:
            mask, best = batch["mask"], batch["values"].argmax(-1)
            loss = expected_regret(logits[mask], batch["values"][mask]).sum()
            metrics = {"accuracy": (logits.detach().argmax(-1) == best)[mask]}
        else:
            loss, metrics = super().score(config, logits, batch)
        if config.throughput_weight > 0:
            forecast = output[..., config.num_actions]
            errors = throughput_errors(forecast, batch["observations"], batch["mask"])
            loss = loss + config.throughput_weight * errors.sum()
            metrics["throughput_error"] = errors.detach()
        return loss, metrics

    def check_env(self, config: LLMConfig, env: Any) -> None:
        """Raise `InputError` unless the environment has the ladder of the policy's training."""
        check_trained_for(env, config.num_actions, config.max_steps)


def throughput_errors(forecast: Tensor, observations: Tensor, mask: Tensor) -> Tensor:
    """Return (K,) how far off, as a smooth L1 distance, the next download's throughput was.

    It is part of the next observation of the episode, so that of the last download is not known.
    The (B, T) forecasts are logarithms, in MB/s, with `LEAST` added; observations are (B, T, 6, W).
    """
    known = mask[:, 1:]
    reached = (observations[:, 1:, THROUGHPUT, -1] + LEAST).log()
    return F.smooth_l1_loss(forecast[:, :-1][known], reached[known], reduction="none")


def expected_regret(logits: Tensor, values: Tensor) -> Tensor:
    """Return (B,) how much less than the best action a draw from the logits is worth.

    Linear in the probabilities, so that values which know the future are averaged over it, and
    bounded, since no more can be learned from a stall of minutes than from one of seconds. Both
    logits and values, in QoE, are (B, A).
    """
    regret = (values.max(-1, keepdim=True).values - values).clamp(max=MOST_REGRET)
    return (torch.softmax(logits, -1) * regret).sum(-1)
