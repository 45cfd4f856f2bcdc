"""How small networks learn to predict viewports, as frozen values that travel as JSON.

Apart from the training itself so that a command line can build and check them without torch.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from netllm_gym.configs import check, option
from netllm_gym.schedules import SupervisedSchedule


@dataclass(frozen=True, kw_only=True)
class ViewportTraining(SupervisedSchedule):
    """What all networks that predict viewports are trained by.

    Attributes:
        batch_size: Windows of an update.
        width: Width of the network.
        train_stride: Samples from one window to learn from to the next.
    """

    kind: ClassVar[str]
    sizes: ClassVar[tuple[str, ...]] = ("batch_size",)

    updates: int = 800
    validate_every: int = 50
    checkpoint_every: int = field(default=50, metadata=option(advanced=True))
    threads: int = field(default=1, metadata=option(advanced=True))
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = field(default=0.01, metadata=option(advanced=True))
    width: int = 64
    train_stride: int = field(default=5, metadata=option(advanced=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.width <= 4096, "width", "be in 1..4096", self.width)


@dataclass(frozen=True, kw_only=True)
class GRUTraining(ViewportTraining):
    """All options of the method "gru"."""

    kind: ClassVar[str] = "gru"


@dataclass(frozen=True, kw_only=True)
class TrackTraining(ViewportTraining):
    """All options of the method "track"."""

    batch_size: int = 128
    learning_rate: float = 5e-4
    width: int = 256
    kind: ClassVar[str] = "track"
