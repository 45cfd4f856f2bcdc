"""Which episodes to play: a list that training, collection and evaluation all speak."""

from collections.abc import Mapping
from typing import NamedTuple


class PlannedEpisode(NamedTuple):
    """One episode, named so that any environment of the problem plays the same one."""

    seed: int  # source of every random number of the episode
    options: Mapping[str, int] = {}  # what `reset(options=)` takes; empty leaves it to the seed
