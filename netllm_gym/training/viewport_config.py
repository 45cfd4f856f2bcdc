"""How small networks learn to predict viewports, as frozen values that travel as JSON.

Apart from the training itself so that a command line can build and check them without torch.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from netllm_gym.configs import check, check_schedule, option


@dataclass(frozen=True)
class ViewportTraining:
    """What all networks that predict viewports are trained by; the schedule counts updates.

    Attributes:
        updates: Optimizer steps in all.
        batch_size: Windows of an update.
        learning_rate: Highest learning rate of AdamW. It rises in a line, then falls as a cosine.
        warmup_fraction: Share of the updates over which the learning rate rises.
        final_fraction: Share of the learning rate at the end.
        weight_decay: Weight decay of all weights.
        max_grad_norm: Largest norm of an update's gradient.
        validate_every: Updates between validations. With 0 there is only one, at the end.
        checkpoint_every: Updates between checkpoints. With 0 only the end is kept.
        seed: Seed of weights and batches.
        threads: CPU threads of torch. With 0 torch chooses.
        device: Device, such as cpu or cuda.
        width: Width of the network.
        train_stride: Samples from one window to learn from to the next.
    """

    kind: ClassVar[str]

    updates: int = 800
    batch_size: int = 256
    learning_rate: float = 2e-3
    warmup_fraction: float = field(default=0.05, metadata=option(advanced=True))
    final_fraction: float = field(default=0.0, metadata=option(advanced=True))
    weight_decay: float = field(default=0.01, metadata=option(advanced=True))
    max_grad_norm: float = field(default=1.0, metadata=option(advanced=True))
    validate_every: int = 50
    checkpoint_every: int = field(default=50, metadata=option(advanced=True))
    seed: int = 0
    threads: int = field(default=1, metadata=option(advanced=True))
    device: str = "cpu"
    width: int = 64
    train_stride: int = field(default=5, metadata=option(advanced=True))

    def __post_init__(self) -> None:
        check_schedule(self, "batch_size")
        check(1 <= self.width <= 4096, "width", "be in 1..4096", self.width)
        for name in ("learning_rate", "max_grad_norm"):
            holds = 0 < getattr(self, name) < math.inf
            check(holds, name, "be above 0 and finite", getattr(self, name))
        for name in ("warmup_fraction", "final_fraction", "weight_decay"):
            check(0 <= getattr(self, name) <= 1, name, "lie in [0, 1]", getattr(self, name))


@dataclass(frozen=True)
class GRUTraining(ViewportTraining):
    """All options of the method "gru"."""

    kind: ClassVar[str] = "gru"


@dataclass(frozen=True)
class TrackTraining(ViewportTraining):
    """All options of the method "track"."""

    batch_size: int = 128
    learning_rate: float = 5e-4
    width: int = 256
    kind: ClassVar[str] = "track"
