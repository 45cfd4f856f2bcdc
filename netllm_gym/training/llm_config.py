"""How a language model is adapted, as frozen values that travel as JSON.

Apart from the training itself so that a command line can build and check them without torch.
"""

import math
from dataclasses import dataclass, field

from netllm_gym.configs import MOST_AT_ONCE, check, check_most, check_schedule, option
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.returns import ReturnSpec

OBJECTIVES = ("imitate", "value")


@dataclass(frozen=True)
class TrainConfig:
    """How a language model is trained; the schedule counts updates, never seconds.

    Attributes:
        updates: Optimizer steps in all.
        objective: imitate or value. "imitate" learns the actions of the pool;
            "value" learns to choose the action worth most, of a pool that was collected with
            `collect --lookahead`.
        batch_episodes: Windows of a forward pass. 0 takes the problem's own number. A window is an
            episode in ABR (32), a decision in CJS (512) and a history with its future in VP.
        accumulate: Forward passes of one update.
        adapter_learning_rate: Learning rate inside the backbone.
        learning_rate: Learning rate of all else that is trained.
        weight_decay: Weight decay of matrices; vectors have none.
        warmup_fraction: Share of the updates over which the learning rates rise.
        final_fraction: Share of the learning rates at the end of the cosine.
        max_grad_norm: Largest norm of an update's gradient.
        validate_every: Updates between validations. With 0 there is only one, at the end.
        checkpoint_every: Updates between checkpoints. With 0 only the end is kept.
        seed: Seed of weights and batches.
        threads: CPU threads of torch. With 0 torch chooses.
        device: Device, such as cpu or cuda.
    """

    updates: int = 2000
    objective: str = "imitate"
    batch_episodes: int = 0
    accumulate: int = field(default=1, metadata=option(advanced=True))
    adapter_learning_rate: float = 5e-4
    learning_rate: float = 1e-3
    weight_decay: float = field(default=1e-4, metadata=option(advanced=True))
    warmup_fraction: float = field(default=0.05, metadata=option(advanced=True))
    final_fraction: float = field(default=0.0, metadata=option(advanced=True))
    max_grad_norm: float = field(default=1.0, metadata=option(advanced=True))
    validate_every: int = 200
    checkpoint_every: int = field(default=200, metadata=option(advanced=True))
    seed: int = 0
    threads: int = field(default=0, metadata=option(advanced=True))
    device: str = "cpu"

    def __post_init__(self) -> None:
        rule = f"be {' or '.join(OBJECTIVES)}"
        check(self.objective in OBJECTIVES, "objective", rule, self.objective)
        check_schedule(self, "accumulate")
        for name in ("batch_episodes", "weight_decay"):
            check(getattr(self, name) >= 0, name, "be at least 0", getattr(self, name))
        check_most(self, batch_episodes=MOST_AT_ONCE)
        for name in ("adapter_learning_rate", "learning_rate", "max_grad_norm"):
            holds = 0 < getattr(self, name) < math.inf
            check(holds, name, "be above 0 and finite", getattr(self, name))
        for name in ("warmup_fraction", "final_fraction"):
            check(0 <= getattr(self, name) <= 1, name, "lie in [0, 1]", getattr(self, name))


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
