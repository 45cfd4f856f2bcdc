"""Features of mean 0 and spread 1, as learned from a pool."""

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import Float32Array


class Normal(nn.Module):
    """Takes features to mean 0 and spread 1, as in training; one that never moved there to 0."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, features: Float32Array) -> None:
        """Learn from (M, size)."""
        spread = features.std(axis=0, dtype=np.float64)
        moves = spread > 1e-3
        self.mean.copy_(torch.from_numpy(features.mean(axis=0, dtype=np.float64)))
        self.scale.copy_(torch.from_numpy(moves / np.where(moves, spread, 1.0)))

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., size)."""
        return ((features - self.mean) * self.scale).clamp(-10.0, 10.0)
