"""Plans: lists of episodes for training, collection and evaluation."""

from collections.abc import Mapping
from typing import NamedTuple

from netllm_gym.errors import InputError


class PlannedEpisode(NamedTuple):
    """One episode, described so that every environment of the problem plays the same one."""

    seed: int  # source of every random number of the episode
    options: Mapping[str, int] = {}  # of `reset(options=...)`; if empty, the seed draws everything


def check_seeds(first: int, count: int) -> None:
    """Refuse seeds `first` to `first + count - 1` that no episode can have."""
    if first < 0:
        raise InputError(f"seed must be at least 0, got {first}")
    if first + count >= 2**63:
        raise InputError(f"seed plus episodes must be below 2**63, got {first} + {count}")
