"""How a language model reads congestion control: the tokens of a step and their encoder."""

from collections.abc import Mapping

import torch
from netllm_gym.arrays import Float32Array
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.parts import ProblemParts
from netllm_gym.policies.llm.tokens import TokenLayout, TokenSpec
from torch import Tensor, nn

from congestion_control.learning import NUM_FEATURES, features_of

LAYOUTS = {"compact": TokenLayout((TokenSpec("step", ("return", "observation")),), reads="step")}


class CongestionEncoders(nn.Module):
    """Embeds each step as one token: the sum for the wanted return and for the observation."""

    mean: Tensor  # (features,)
    std: Tensor  # (features,)

    def __init__(self, feature_dim: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(NUM_FEATURES))
        self.register_buffer("std", torch.ones(NUM_FEATURES))
        self.wanted = nn.Linear(1, width)
        self.observed = nn.Sequential(
            nn.Linear(NUM_FEATURES, feature_dim), nn.GELU(), nn.Linear(feature_dim, width)
        )

    def fit(self, seen: Float32Array) -> None:
        """Learn the mean and spread of the features from (M, 40) training observations."""
        features = features_of(torch.from_numpy(seen)).double()
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0, correction=0).clamp(min=1e-3))

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tokens, name -> (B, T, 1, width).

        Args:
            inputs: observations (B, T, 40) and returns (B, T).
        """
        normal = (features_of(inputs["observations"]) - self.mean) / self.std
        observed = self.observed(normal.clamp(-10.0, 10.0))
        return {"step": (observed + self.wanted(inputs["returns"].unsqueeze(-1))).unsqueeze(2)}


class CongestionParts(ProblemParts):
    """One token for each step, at which the logits of the seven factors are read."""

    layouts = LAYOUTS
    batch_windows = 16  # an episode has 200 steps

    def encoders(self, config: LLMConfig, layout: TokenLayout, width: int) -> CongestionEncoders:
        """Return the encoder; see the base."""
        return CongestionEncoders(config.feature_dim, width)
