"""Settings of the offline learners: what a policy is, and how it is trained."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from netllm_gym.configs import MAX_SEED, check, check_schedule
from netllm_gym.policies.returns import ReturnSpec

GAMMA = 0.99  # discount of "cql"; 0.99 is d3rlpy's


class MethodDefaults(NamedTuple):
    """What a method takes unless told otherwise; those of d3rlpy where nothing else is said."""

    hidden_units: tuple[int, ...]  # [256, 256]; of "dt", whose tokens are as wide as the last
    updates: int
    batch_size: int  # 100, 32 and 128
    learning_rate: float  # 1e-3, 6.25e-5 and 6e-4
    every: int  # updates between validations, and between checkpoints


# Of "cql" d3rlpy's are for millions of updates of images; these are for the minutes that we have.
METHODS = {
    "bc": MethodDefaults((256, 256), 20_000, 256, 1e-3, 1000),
    "cql": MethodDefaults((256, 256), 20_000, 256, 3e-4, 1000),
    "dt": MethodDefaults((128, 64), 2_000, 64, 6e-4, 100),
}


@dataclass(frozen=True)
class OfflineConfig:
    """A whole policy: together with its weights, everything that a rollout needs.

    Attributes:
        problem: Short name.
        method: "bc": imitate; "cql": conservative Q-learning; "dt": decision transformer.
        num_features: Of an observation.
        num_actions: Of the fixed set.
        hidden_units: Of the encoder's layers; () takes the method's.
        context_steps: Steps that a decision of "dt" sees, its own included.
        num_layers: Blocks of "dt".
        num_heads: Of each block's attention.
        max_steps: Steps of an episode that "dt" tells apart; 1 tells it nothing of when it is.
        returns: What "dt" is told.
        seed: Of every random initial weight.
    """

    problem: str
    method: str
    num_features: int
    num_actions: int
    hidden_units: tuple[int, ...] = ()
    context_steps: int = 20
    num_layers: int = 3
    num_heads: int = 4
    max_steps: int = 1
    returns: ReturnSpec = field(default_factory=ReturnSpec)
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.method in METHODS, "method", f"be one of {', '.join(METHODS)}", self.method)
        if not self.hidden_units:
            object.__setattr__(self, "hidden_units", METHODS[self.method].hidden_units)
        # Bounds, for a config.json may come from anywhere: a number must not ask for all memory.
        for name, low, high in (
            ("num_features", 1, 2**14),
            ("num_actions", 2, 2**12),
            ("context_steps", 1, 512),
            ("num_layers", 1, 32),
            ("num_heads", 1, 64),
            ("max_steps", 1, 2**16),
            ("seed", 0, MAX_SEED),
        ):
            value = getattr(self, name)
            check(low <= value <= high, name, f"be in {low}..{high}", value)
        for size in self.hidden_units:
            check(1 <= size <= 4096, "hidden_units", "be in 1..4096", size)
        check(
            self.method != "dt" or self.hidden_units[-1] % self.num_heads == 0,
            *("num_heads", f"divide the width {self.hidden_units[-1]}", self.num_heads),
        )


@dataclass(frozen=True)
class OfflineSchedule:
    """How a policy is trained; `of` gives a method's own numbers.

    Attributes:
        updates: Gradient steps in all.
        batch_size: Decisions of one; of "dt" windows of `context_steps`.
        learning_rate: Of Adam; "dt" warms it up and lets it fall, as d3rlpy does.
        validate_every: Updates between validations; 0 validates only at the end.
        checkpoint_every: Updates between checkpoints; 0 keeps only the end.
        imitation_penalty: Weight of the mean square of the logits of "bc".
        conservative_weight: Of the penalty on what the teachers did not do, of "cql".
        target_every: Updates between copies to the target network of "cql"; d3rlpy takes 8000.
        counts_padding: Whether the loss of "dt" counts the padding before an episode's first
            steps, as d3rlpy's does.
        seed: Of batches and dropout.
        threads: CPU threads of torch, whose networks here are too small for two; 0 leaves its
            setting.
        device: Where it runs.
    """

    updates: int
    batch_size: int
    learning_rate: float
    validate_every: int
    checkpoint_every: int
    imitation_penalty: float = 0.5
    conservative_weight: float = 1.0
    target_every: int = 1000
    counts_padding: bool = True
    seed: int = 0
    threads: int = 1
    device: str = "cpu"

    @classmethod
    def of(cls, method: str, **changes: Any) -> "OfflineSchedule":
        """Return a method's own schedule, but for the changes."""
        check(method in METHODS, "method", f"be one of {', '.join(METHODS)}", method)
        own = METHODS[method]
        numbers = {
            "updates": own.updates,
            "batch_size": own.batch_size,
            "learning_rate": own.learning_rate,
            "validate_every": own.every,
            "checkpoint_every": own.every,
        }
        return cls(**{**numbers, **changes})

    def __post_init__(self) -> None:
        check_schedule(self, "batch_size")
        check(self.target_every >= 1, "target_every", "be at least 1", self.target_every)
        rate = self.learning_rate
        check(0 < rate < math.inf, "learning_rate", "be above 0 and finite", rate)
        for name in ("imitation_penalty", "conservative_weight"):
            value = getattr(self, name)
            check(0 <= value < math.inf, name, "be at least 0 and finite", value)
