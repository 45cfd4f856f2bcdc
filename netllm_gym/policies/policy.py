"""The protocol that every policy keeps, from a three-line rule to a language model.

A policy acts for N environments at once; one environment is a batch of one. It is built for one
vector environment by a factory, from which it may read public constants (ladder, chunk sizes).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Policy(Protocol):
    """Acts for N rows; remembers, per row, no more than the current episode.

    Attributes:
        name: What tables call it.
    """

    name: str

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Forget these rows: each begins a new episode with the next `act`.

        Args:
            rows: (K,) indices of the rows.
            seeds: (K,) seeds of their episodes, the source of the policy's own draws.
        """

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> Any:
        """Return (N, ...) actions.

        Args:
            observations: (N, ...) what each row sees now.
            rewards: (N,) reward of each row's last step, 0.0 at its first.
            infos: (N,) columns that came with the observations.
        """


class Limit(Protocol):
    """What no policy can beat; a row of a table that nobody plays.

    Attributes:
        name: What tables call it.
    """

    name: str

    def limits(self, plan: Sequence[Any]) -> FloatArray:
        """Return (E,) the best metric that each planned episode allows, or better."""
