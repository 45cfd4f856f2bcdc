"""Constants of the player and its link, and the noise on download times."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from netllm_gym.configs import check, from_json
from netllm_gym.errors import InputError

T = TypeVar("T")
_LONGEST_RTT_S = 10.0  # more is a time in milliseconds
_LEAST_PAYLOAD = 0.01


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
            check(_is_number(value), name, "be a number", value)
        is_rung = isinstance(self.first_rung, Integral) and not isinstance(self.first_rung, bool)
        rule = "be a whole number of at least 0"
        check(is_rung and self.first_rung >= 0, "first_rung", rule, self.first_rung)
        moves = self.rtt_moves_clock
        check(isinstance(moves, bool | np.bool_), "rtt_moves_clock", "be True or False", moves)
        rule = f"be in 0..{_LONGEST_RTT_S:g} s"
        check(0 <= self.rtt_s <= _LONGEST_RTT_S, "rtt_s", rule, self.rtt_s)
        check(self.buffer_cap_s > 0, "buffer_cap_s", "be above 0", self.buffer_cap_s)
        rule = f"be in 0..{self.buffer_cap_s:g} s, up to buffer_cap_s"  # else buffers end below 0
        fits = math.isfinite(self.pause_step_s) and 0 <= self.pause_step_s <= self.buffer_cap_s
        check(fits, "pause_step_s", rule, self.pause_step_s)
        rule = f"be in {_LEAST_PAYLOAD:g}..1"
        fits = _LEAST_PAYLOAD <= self.payload_fraction <= 1
        check(fits, "payload_fraction", rule, self.payload_fraction)

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


def noises_of(noise: Any, noise_range: Any, num_rows: int) -> tuple[DownloadNoise, ...]:
    """Return the noise on the downloads of N rows.

    Args:
        noise: Off (False), the reference's (True: 0.9, 1.1), a range, or one of these per row.
        noise_range: A range that replaces it; None, none.
        num_rows: N.
    """
    if noise_range is not None:
        is_told_once = isinstance(noise, bool)
        check(is_told_once, "noise", "be True or False where noise_range is given", noise)
        check(_is_range(noise_range), "noise_range", "be two factors", noise_range)
        noise = noise_range
    if isinstance(noise, bool):
        noise = DownloadNoise(0.9, 1.1) if noise else DownloadNoise()
    elif _is_range(noise):
        noise = DownloadNoise(float(noise[0]), float(noise[1]))
    elif not isinstance(noise, DownloadNoise | list | tuple | Mapping):
        raise InputError(f"noise must be True, False or (low, high), got {noise!r}")
    return _per_row("noise", noise, DownloadNoise, num_rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_range(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))


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
