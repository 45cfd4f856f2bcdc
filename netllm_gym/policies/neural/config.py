"""How small networks are trained, as frozen values that travel as JSON.

Apart from the trainers so that a command line can build and check them without loading torch.
"""

import math
from dataclasses import dataclass

from netllm_gym.policies.configs import MAX_SEED, check


@dataclass(frozen=True)
class PPOConfig:
    """Proximal policy optimisation; the schedule counts updates, never seconds.

    Attributes:
        updates: Rounds of playing and learning.
        episodes: Played in each update, side by side.
        epochs: Times that an update learns from what it played, at most.
        minibatch: Decisions of one optimizer step.
        learning_rate: Of Adam at first; it falls in a line,
        final_fraction: to this share of it.
        clip: Farthest that the probability ratio of a decision is rewarded to move from 1.
        kl_limit: An update ends once its decisions are this far, in nats, from the policy that
            made them; 0 never.
        entropy: Weight of the policy's entropy at first; it falls in a line,
        final_entropy: to this.
        gamma: Discount of rewards.
        gae_lambda: Of generalised advantage estimation.
        value_weight: Of the error of the expected return.
        reward_scale: Rewards are multiplied by this, so that returns are of the order of 1.
        reward_floor: What a reward is below it counts a tenth: one stall of minutes would drown all
            else.
        clip_norm: Most that the gradient's norm may be.
        validate_every: Updates between validations; 0 validates only at the end.
        checkpoint_every: Updates between checkpoints; 0 keeps only the end.
        seed: Of initial weights, episodes and minibatches.
        threads: CPU threads of torch; 0 leaves its setting.
    """

    updates: int = 300
    episodes: int = 512
    epochs: int = 2
    minibatch: int = 6016
    learning_rate: float = 1e-3
    final_fraction: float = 0.05
    clip: float = 0.2
    kl_limit: float = 0.03
    entropy: float = 0.05
    final_entropy: float = 0.002
    gamma: float = 1.0
    gae_lambda: float = 0.95
    value_weight: float = 0.5
    reward_scale: float = 0.2
    reward_floor: float = -10.0
    clip_norm: float = 0.5
    validate_every: int = 10
    checkpoint_every: int = 10
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("updates", "episodes", "epochs", "minibatch"):
            check(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        for name in ("validate_every", "checkpoint_every", "threads"):
            check(getattr(self, name) >= 0, name, "be at least 0", getattr(self, name))
        for name in ("learning_rate", "clip", "reward_scale", "clip_norm"):
            holds = 0 < getattr(self, name) < math.inf
            check(holds, name, "be above 0 and finite", getattr(self, name))
        holds = -math.inf < self.reward_floor < math.inf
        check(holds, "reward_floor", "be finite", self.reward_floor)
        for name in ("kl_limit", "entropy", "final_entropy", "value_weight"):
            holds = 0 <= getattr(self, name) < math.inf
            check(holds, name, "be at least 0 and finite", getattr(self, name))
        for name in ("final_fraction", "gamma", "gae_lambda"):
            check(0 <= getattr(self, name) <= 1, name, "lie in [0, 1]", getattr(self, name))
        check(0 <= self.seed <= MAX_SEED, "seed", f"be in 0..{MAX_SEED}", self.seed)


@dataclass(frozen=True)
class AugmentConfig:
    """Worlds around the traces that are trained on, so that more are seen than are tested on.

    Attributes:
        copies: Of each trace, its capacity and its time stretched; 0 turns all of this off.
        generated: Traces of the generated families, their parameters drawn too.
        capacity: Range of the factor on a copy's capacity; its logarithm is uniform.
        time: Range of the factor on a copy's time, likewise.
        noisy_fraction: Share of the players whose download times are multiplied by 0.9 to 1.1.
    """

    copies: int = 12
    generated: int = 400
    capacity: tuple[float, float] = (0.5, 2.0)
    time: tuple[float, float] = (0.5, 2.0)
    noisy_fraction: float = 0.5

    def __post_init__(self) -> None:
        for name in ("copies", "generated"):
            check(0 <= getattr(self, name) <= 10_000, name, "be in 0..10000", getattr(self, name))
        for name in ("capacity", "time"):
            low, high = getattr(self, name)
            check(0 < low <= high < math.inf, name, "be a range above 0", getattr(self, name))
        check(0 <= self.noisy_fraction <= 1, "noisy_fraction", "lie in [0, 1]", self.noisy_fraction)
