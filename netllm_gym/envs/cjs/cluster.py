"""The constants of a cluster, and the rules of the reference simulator that can be exchanged."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from netllm_gym.errors import InputError

INTERPOLATIONS = ("inverted", "linear")
BACKUPS = ("last", "first")


@dataclass(frozen=True)
class ClusterConfig:
    """How executors move and how long they take.

    Attributes:
        moving_delay_s: An executor that changes its job is away this long.
        warmup_delay_s: Added to an executor's first task where no duration with warm-up is known.
        interpolation: Between two known executor levels a duration is drawn from one of them:
            "inverted" takes the lower one the more likely the nearer the higher one is (the
            reference's rule), "linear" the less likely.
        backup: Which stage an executor turns to whose stage has no task left: the "last" or the
            "first" that is schedulable.
        supply_forgets_idle: Whether executors that went back to the common pool leave the supply of
            the job they worked for; the reference goes on counting them.
        reoffer_idle: Whether idle executors of the common pool are offered again after every
            completion of a task; the reference offers them only when a job arrives.
    """

    moving_delay_s: float = 2.0
    warmup_delay_s: float = 1.0
    interpolation: str = "inverted"
    backup: str = "last"
    supply_forgets_idle: bool = False
    reoffer_idle: bool = False

    def __post_init__(self) -> None:
        for name in ("moving_delay_s", "warmup_delay_s"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise InputError(f"{name} must be at least 0 and finite, got {value}")
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"interpolation must be {' or '.join(INTERPOLATIONS)}, got {self.interpolation!r}"
            )
        if self.backup not in BACKUPS:
            raise InputError(f"backup must be {' or '.join(BACKUPS)}, got {self.backup!r}")


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    """Return a setting that is a whole number within its limits, or refuse it by its name."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    if not low <= value <= high:
        raise InputError(f"{name} must be in {low}..{high}, got {value}")
    return int(value)
