"""The delays of a cluster, and the rules of the reference simulator that can be changed."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from netllm_gym.errors import InputError

INTERPOLATIONS = ("inverted", "linear")
BACKUPS = ("last", "first")


@dataclass(frozen=True)
class ClusterConfig:
    """How executors move, and how long tasks take.

    Attributes:
        moving_delay_s: Time that an executor needs to move to another job.
        warmup_delay_s: Added to an executor's first task if no duration with warm-up is known.
        interpolation: Between two known executor levels a duration is drawn from one of them.
            "inverted" (the reference's rule) makes the further level more likely, "linear" the
            nearer one.
        backup: Stage that an executor turns to if its own has no task left: the "last" or the
            "first" schedulable one.
        supply_forgets_idle: Whether executors that went back to the common pool no longer count as
            the supply of the job that they worked for. In the reference they still count.
        reoffer_idle: Whether idle executors of the common pool are offered again after every
            completion of a task. In the reference they are only when a job arrives.
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
    """Return a whole number; refuse other values, and those outside `low` to `high`."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise InputError(f"{name} must be a whole number, got {value!r}")
    if not low <= value <= high:
        raise InputError(f"{name} must be in {low}..{high}, got {value}")
    return int(value)
