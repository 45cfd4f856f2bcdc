"""Features normalised to mean 0 and standard deviation 1, as measured in a pool."""

import numpy as np
import torch
from torch import Tensor, nn

from netllm_gym.arrays import Float32Array


class Normal(nn.Module):
    """Normalises features by their mean and deviation in training; a constant one becomes 0."""

    mean: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, features: Float32Array) -> None:
        """Measure (M, size) features."""
        deviation = features.std(axis=0, dtype=np.float64)
        varies = deviation > 1e-3
        self.mean.copy_(torch.from_numpy(features.mean(axis=0, dtype=np.float64)))
        self.scale.copy_(torch.from_numpy(varies / np.where(varies, deviation, 1.0)))

    def forward(self, features: Tensor) -> Tensor:
        """Return (..., size)."""
        return ((features - self.mean) * self.scale).clamp(-10.0, 10.0)
