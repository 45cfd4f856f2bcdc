"""Quality of experience (QoE) of one chunk: what the viewer got, less what annoyed him.

Source: the linear QoE of Pensieve (SIGCOMM 2017) and MPC (SIGCOMM 2015), in Mbit/s.
"""

import math
from dataclasses import dataclass

from netllm_gym.errors import InputError


@dataclass(frozen=True)
class LinearQoE:
    """Weights of `bitrate - rebuffer_penalty * stall - smoothness_penalty * |bitrate change|`.

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


def chunk_qoe(
    bitrate_mbps: float,
    last_bitrate_mbps: float,
    rebuffer_s: float,
    rebuffer_penalty: float,
    smoothness_penalty: float,
) -> float:
    """Return the linear QoE of one chunk; plain arithmetic, also compiled into the simulator."""
    return (
        bitrate_mbps
        - rebuffer_penalty * rebuffer_s
        - smoothness_penalty * abs(bitrate_mbps - last_bitrate_mbps)
    )
