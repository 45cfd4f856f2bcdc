"""What the configs of all training methods have in common.

Schedules count updates, never seconds, so that a run does not depend on the machine's speed.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from netllm_gym.configs import MAX_SEED, check, option

MOST_AT_ONCE = 1_000_000  # windows, episodes or passes of an update
MOST_THREADS = 1024
MOST_UPDATES = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a run trains, and how often its policy is validated and written.

    Attributes:
        updates: Updates in all.
        validate_every: Updates between validations. With 0 there is only one, at the end.
        checkpoint_every: Updates between checkpoints. With 0 only the end is kept.
        seed: Seed of weights and batches.
        threads: CPU threads of torch. Sums are rounded differently with another number, so equal
            seeds give equal weights only with equal threads. With 0 torch chooses.
    """

    sizes: ClassVar[tuple[str, ...]] = ()  # fields that say how much an update takes

    updates: int
    validate_every: int
    checkpoint_every: int = field(metadata=option(advanced=True))
    seed: int = 0
    threads: int = field(default=2, metadata=option(advanced=True))

    def __post_init__(self) -> None:
        self.check_from(1, "updates", *self.sizes)
        self.check_from(0, "validate_every", "checkpoint_every", "threads")
        self.check_most(updates=MOST_UPDATES, threads=MOST_THREADS)
        self.check_most(**dict.fromkeys(self.sizes, MOST_AT_ONCE))
        check(0 <= self.seed <= MAX_SEED, "seed", f"be in 0..{MAX_SEED}", self.seed)

    def check_from(self, least: int, *names: str) -> None:
        """Refuse a field below the least that it may be."""
        self._check(lambda value: value >= least, f"be at least {least}", names)

    def check_most(self, **most: int) -> None:
        """Refuse a field above the most that it may be."""
        for name, bound in most.items():
            value = getattr(self, name)
            check(value <= bound, name, f"be at most {bound}", value)

    def check_above_0(self, *names: str) -> None:
        """Refuse a field that is not a finite number above 0, unless it is None."""
        self._check(lambda value: 0 < value < math.inf, "be above 0 and finite", names)

    def check_at_least_0(self, *names: str) -> None:
        """Refuse a field that is not a finite number from 0 up, unless it is None."""
        self._check(lambda value: 0 <= value < math.inf, "be at least 0 and finite", names)

    def check_left_out(
        self, names: Iterable[str], where: str, defaults: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse options that have no effect, unless they have their defaults, or these."""
        for name in names:
            value, default = getattr(self, name), getattr(type(self), name)
            left_out = value in (default, (defaults or {}).get(name, default))
            check(left_out, name, f"be left out {where}", value)

    def check_shares(self, *names: str) -> None:
        """Refuse a field outside [0, 1]."""
        self._check(lambda value: 0 <= value <= 1, "lie in [0, 1]", names)

    def _check(self, holds: Callable[[Any], bool], rule: str, names: Iterable[str]) -> None:
        for name in names:
            value = getattr(self, name)
            check(value is None or holds(value), name, rule, value)


@dataclass(frozen=True, kw_only=True)
class SupervisedSchedule(Schedule):
    """A schedule whose learning rate rises in a line and then falls as a cosine.

    Attributes:
        learning_rate: Highest learning rate of AdamW.
        weight_decay: Weight decay of AdamW.
        warmup_fraction: Share of the updates over which the learning rate rises.
        final_fraction: Share of the learning rate at the end.
        max_grad_norm: Largest norm of an update's gradient.
        device: Device, such as cpu or cuda.
    """

    learning_rate: float
    weight_decay: float = field(metadata=option(advanced=True))
    warmup_fraction: float = field(default=0.05, metadata=option(advanced=True))
    final_fraction: float = field(default=0.0, metadata=option(advanced=True))
    max_grad_norm: float = field(default=1.0, metadata=option(advanced=True))
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_above_0("learning_rate", "max_grad_norm")
        self.check_shares("warmup_fraction", "final_fraction")
        self.check_at_least_0("weight_decay")

    def share(self, update: int) -> float:
        """Return the share of the learning rate in update 0, 1, ..."""
        rise = self.warmup_fraction * self.updates
        if update < rise:
            return (update + 1) / (math.ceil(rise) + 1)
        done = (update - rise) / max(1.0, self.updates - rise)
        cosine = 0.5 * (1.0 + math.cos(math.pi * done))
        return self.final_fraction + (1.0 - self.final_fraction) * cosine
