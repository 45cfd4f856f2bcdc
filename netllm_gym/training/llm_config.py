"""How a language model is adapted, as frozen values that travel as JSON.

Apart from the training itself so that a command line can build and check them without torch.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from netllm_gym.configs import check, option
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.schedules import MOST_AT_ONCE, SupervisedSchedule

OBJECTIVES = ("imitate", "value")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(SupervisedSchedule):
    """How a language model is trained.

    Attributes:
        objective: imitate or value. "imitate" learns the actions of the pool; "value" learns to
            choose the action worth most, of a pool that was collected with `collect --lookahead`.
        batch_episodes: Windows of a forward pass; 0: the problem's own number. A window is an
            episode in ABR (32), a decision in CJS (512) and a history with its future in VP.
        accumulate: Forward passes of one update.
        learning_rate: Highest learning rate outside the backbone.
        adapter_learning_rate: Highest learning rate inside the backbone.
        weight_decay: Weight decay of matrices; vectors have none.
    """

    sizes: ClassVar[tuple[str, ...]] = ("accumulate",)

    updates: int = 2000
    validate_every: int = 200
    checkpoint_every: int = field(default=200, metadata=option(advanced=True))
    objective: str = "imitate"
    batch_episodes: int = 0
    accumulate: int = field(default=1, metadata=option(advanced=True))
    learning_rate: float = 1e-3
    adapter_learning_rate: float = field(default=5e-4, metadata=option(advanced=True))
    weight_decay: float = field(default=1e-4, metadata=option(advanced=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        rule = f"be {' or '.join(OBJECTIVES)}"
        check(self.objective in OBJECTIVES, "objective", rule, self.objective)
        self.check_at_least_0("batch_episodes")
        self.check_most(batch_episodes=MOST_AT_ONCE)
        self.check_above_0("adapter_learning_rate")


@dataclass(frozen=True)
class LLMTraining:
    """All options of the method "llm".

    Attributes:
        policy: The policy; its sizes and its seed follow from the data and the schedule.
        schedule: How it is trained.
    """

    policy: LLMConfig = field(default_factory=lambda: LLMConfig(returns=ReturnSpec(kind="auto")))
    schedule: TrainConfig = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class LLMViewportTraining(LLMTraining):
    """All options of the method "llm" for windows of a prediction problem.

    Attributes:
        train_stride: Samples from one window to learn from to the next.
    """

    train_stride: int = field(default=5, metadata=option(advanced=True))
