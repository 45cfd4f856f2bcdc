"""Constants of the player and its link, and the noise on download times."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, TypeVar

from netllm_gym.configs import from_json
from netllm_gym.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class PlayerConfig:
    """Constants of one player and its link; the defaults are those of the reference programs.

    Attributes:
        rtt_s: Round-trip time in seconds, added to every download; usually 0.08.
        buffer_cap_s: The player pauses its requests while its buffer is above this; usually 60 s.
        pause_step_s: A pause lasts a multiple of this; usually 0.5 s. 0 pauses for exactly as long
            as needed.
        payload_fraction: Share of the link's capacity that carries video; usually 0.95.
        rtt_moves_clock: Whether the trace advances during the round trip. In the reference
            programs it does not.
        first_rung: Rung of chunk 0, which no policy chooses; usually 0, the lowest. Pensieve's
            program begins at 1.
    """

    rtt_s: float = 0.08
    buffer_cap_s: float = 60.0
    pause_step_s: float = 0.5
    payload_fraction: float = 0.95
    rtt_moves_clock: bool = False
    first_rung: int = 0

    def __post_init__(self) -> None:
        for name in ("rtt_s", "buffer_cap_s", "pause_step_s", "payload_fraction"):
            value = getattr(self, name)
            if not _is_number(value):
                raise InputError(f"{name} must be a number, got {value!r}")
        if not isinstance(self.first_rung, Integral) or self.first_rung < 0:
            raise InputError(
                f"first_rung must be a whole number of at least 0, got {self.first_rung!r}"
            )
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

    @property
    def unusual(self) -> dict[str, str]:
        """Say in which options this is not the player of the reference programs."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: f"{value:g}" for name, (value, default) in values.items() if value != default}


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

    @property
    def unusual(self) -> dict[str, str]:
        """Say what the noise is, if there is any."""
        is_off = self == DownloadNoise()
        return {} if is_off else {"noise": f"{self.low:g},{self.high:g}"}


def players_of(player: Any, options: Mapping[str, Any], num_rows: int) -> tuple[PlayerConfig, ...]:
    """Return the players of N rows.

    Args:
        player: One for all rows or one per row, each a config or its fields, as JSON has them;
            None, the reference's.
        options: Fields that replace those of every player, where they are not None.
        num_rows: N.
    """
    given = {name: value for name, value in options.items() if value is not None}
    rows = _per_row("player", PlayerConfig() if player is None else player, PlayerConfig, num_rows)
    if not given:
        return rows
    anew = {each: replace(each, **given) for each in set(rows)}
    return tuple(anew[each] for each in rows)


def noises_of(noise: Any, num_rows: int) -> tuple[DownloadNoise, ...]:
    """Return the noise on the downloads of N rows.

    Args:
        noise: Off (False), the reference's (True: 0.9, 1.1), a range, or one of these per row.
        num_rows: N.
    """
    if isinstance(noise, bool):
        noise = DownloadNoise(0.9, 1.1) if noise else DownloadNoise()
    elif isinstance(noise, list | tuple) and len(noise) == 2 and all(map(_is_number, noise)):
        noise = DownloadNoise(float(noise[0]), float(noise[1]))
    elif not isinstance(noise, DownloadNoise | list | tuple | Mapping):
        raise InputError(f"noise must be True, False or (low, high), got {noise!r}")
    return _per_row("noise", noise, DownloadNoise, num_rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _per_row(name: str, value: Any, kind: type[T], num_rows: int) -> tuple[T, ...]:
    """Return a config per row; a config may also be a mapping of its fields."""

    def made(row: Any) -> T:
        return row if isinstance(row, kind) else from_json(kind, row)

    if isinstance(value, kind | Mapping):
        return (made(value),) * num_rows
    rows = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else ()
    if len(rows) != num_rows or not all(isinstance(row, kind | Mapping) for row in rows):
        raise InputError(
            f"{name} must be one {kind.__name__} or one per row, {num_rows} in all, got {value!r}"
        )
    return tuple(map(made, rows))
