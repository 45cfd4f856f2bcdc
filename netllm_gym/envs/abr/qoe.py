"""Quality of experience (QoE): the reward of ABR.

This file is the only one that knows the formula. The simulator compiles `linear_qoe`, and all that
plans with the QoE (MPC and the offline optimum) compiles the same function. Another QoE with linear
penalties is a subclass of `LinearQoE` with another `quality`, for example its logarithm.

Source: the linear QoE of MPC (SIGCOMM 2015) and Pensieve (SIGCOMM 2017), in Mbit/s.
"""

import math
from dataclasses import dataclass

from netllm_gym.arrays import FloatArray
from netllm_gym.errors import InputError


@dataclass(frozen=True)
class LinearQoE:
    """Weights of `quality - rebuffer_penalty * stall - smoothness_penalty * |quality change|`.

    Attributes:
        rebuffer_penalty: QoE lost per second of stall, in Mbit/s per second.
        smoothness_penalty: QoE lost per Mbit/s of change between two chunks.
    """

    rebuffer_penalty: float = 4.3
    smoothness_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rebuffer_penalty", "smoothness_penalty"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} must be finite and at least 0, got {value}")

    def quality(self, ladder_mbps: FloatArray) -> FloatArray:
        """Return (rungs,) the quality of a chunk on each rung, at least 0 and rising.

        Args:
            ladder_mbps: (rungs,) bitrates, which are the quality of the linear QoE.
        """
        return ladder_mbps


def linear_qoe(
    quality: float,
    rebuffer_s: float,
    quality_change: float,
    rebuffer_penalty: float,
    smoothness_penalty: float,
) -> float:
    """Return the QoE of one chunk, or of several chunks from their sums.

    Args:
        quality: Of the chunk, or its sum over the chunks.
        rebuffer_s: Stall before the chunk was there.
        quality_change: Absolute difference to the chunk before.
        rebuffer_penalty: Of `LinearQoE`.
        smoothness_penalty: Of `LinearQoE`.
    """
    return quality - rebuffer_penalty * rebuffer_s - smoothness_penalty * quality_change
