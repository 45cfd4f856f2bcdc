"""Constants of the player and its link, and the noise on download times."""

import math
from dataclasses import dataclass

from netllm_gym.errors import InputError


@dataclass(frozen=True)
class PlayerConfig:
    """Constants of one player and its link; the defaults are those of the reference programs.

    Attributes:
        rtt_s: Round-trip time, added to every download.
        buffer_cap_s: The player pauses its requests while its buffer is above this.
        pause_step_s: A pause lasts a multiple of this; 0 pauses for exactly as long as needed.
        payload_fraction: Share of the link's capacity that carries video.
        rtt_moves_clock: Whether the trace advances during the round trip. In the reference
            programs it does not.
    """

    rtt_s: float = 0.08
    buffer_cap_s: float = 60.0
    pause_step_s: float = 0.5
    payload_fraction: float = 0.95
    rtt_moves_clock: bool = False

    def __post_init__(self) -> None:
        for name in ("rtt_s", "pause_step_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} must be finite and at least 0, got {value}")
        if not self.buffer_cap_s > 0:
            raise InputError(f"buffer_cap_s must be above 0, got {self.buffer_cap_s}")
        if not 0 < self.payload_fraction <= 1:
            raise InputError(
                f"payload_fraction must be above 0 and at most 1, got {self.payload_fraction}"
            )


@dataclass(frozen=True)
class DownloadNoise:
    """Every download time is multiplied by a factor uniform in [low, high)."""

    low: float = 1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise InputError(
                f"noise must be two factors 0 < low <= high, got ({self.low}, {self.high})"
            )
