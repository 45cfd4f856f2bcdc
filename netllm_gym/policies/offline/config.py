"""Settings of the offline methods: what a policy is, and how it is trained."""

from dataclasses import dataclass, field
from typing import ClassVar

from netllm_gym.configs import MAX_SEED, check, option
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class OfflineTraining(Schedule):
    """What the offline methods of d3rlpy have in common.

    Attributes:
        batch_size: Decisions of an update.
        learning_rate: Learning rate of Adam.
        hidden_units: Width of each layer of the encoder.
        device: Device, such as cpu or cuda.
    """

    method: ClassVar[str]
    sizes: ClassVar[tuple[str, ...]] = ("batch_size",)

    updates: int = 20_000
    validate_every: int = 1000
    checkpoint_every: int = field(default=1000, metadata=option(advanced=True))
    threads: int = field(default=1, metadata=option(advanced=True))
    batch_size: int = 256
    learning_rate: float = 1e-3
    hidden_units: tuple[int, ...] = (256, 256)
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_above_0("learning_rate")


@dataclass(frozen=True, kw_only=True)
class BCTraining(OfflineTraining):
    """All options of behaviour cloning, "bc"; d3rlpy's batch has 100 decisions.

    Attributes:
        imitation_penalty: Weight of the mean square of the logits.
    """

    method: ClassVar[str] = "bc"

    imitation_penalty: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_at_least_0("imitation_penalty")


@dataclass(frozen=True, kw_only=True)
class CQLTraining(OfflineTraining):
    """All options of conservative Q-learning, "cql".

    d3rlpy's numbers (batches of 32, a learning rate of 6.25e-5, a target network every 8,000
    updates) are for millions of updates on images. These are for minutes on one core.

    Attributes:
        conservative_weight: Weight of the penalty on what the teachers did not do.
        target_every: Updates between copies to the target network.
        gamma: Discount of rewards.
    """

    method: ClassVar[str] = "cql"

    learning_rate: float = 3e-4
    conservative_weight: float = 1.0
    target_every: int = 1000
    gamma: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.target_every >= 1, "target_every", "be at least 1", self.target_every)
        self.check_shares("gamma")
        self.check_at_least_0("conservative_weight")


@dataclass(frozen=True, kw_only=True)
class DTTraining(OfflineTraining):
    """All options of the decision transformer, "dt"; its learning rate follows d3rlpy's schedule.

    A decision is a window of `context_steps` steps. Tokens are as wide as the last hidden layer.

    Attributes:
        context_steps: Steps that a decision sees, its own included.
        num_layers: Blocks of the transformer.
        num_heads: Heads of the attention of each block.
        ignore_padding: Leave the padding before an episode's first steps out of the loss. d3rlpy
            counts it.
        returns: What the policy is told of the return that is wanted.
    """

    method: ClassVar[str] = "dt"

    updates: int = 2_000
    validate_every: int = 100
    checkpoint_every: int = field(default=100, metadata=option(advanced=True))
    batch_size: int = 64
    learning_rate: float = 6e-4
    hidden_units: tuple[int, ...] = (128, 64)
    context_steps: int = 20
    num_layers: int = 3
    num_heads: int = 4
    ignore_padding: bool = False
    returns: ReturnSpec = field(default_factory=lambda: ReturnSpec(kind="return_to_go"))


TRAININGS: dict[str, type[OfflineTraining]] = {
    each.method: each for each in (BCTraining, CQLTraining, DTTraining)
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
        check(self.method in TRAININGS, "method", f"be one of {', '.join(TRAININGS)}", self.method)
        if not self.hidden_units:
            object.__setattr__(self, "hidden_units", TRAININGS[self.method]().hidden_units)
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
        width, heads = self.hidden_units[-1], self.num_heads
        if self.is_sequence_model:
            check(width % heads == 0, "num_heads", f"divide the width {width}", heads)

    @property
    def is_sequence_model(self) -> bool:
        """Whether a decision sees the steps before it, and is told their numbers."""
        return self.method == "dt"
