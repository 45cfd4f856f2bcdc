"""How small networks are trained, as frozen values that travel as JSON.

Apart from the trainers so that a command line can build and check them without loading torch.
"""

import math
from dataclasses import dataclass

from netllm_gym.configs import check, check_schedule


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
        target_kl: An update ends once its decisions are this far, in nats, from the policy that
            made them; 0 never.
        entropy_coef: Weight of the policy's entropy at first; it falls in a line,
        final_entropy_coef: to this.
        gamma: Discount of rewards.
        gae_lambda: Of generalised advantage estimation.
        value_coef: Of the error of the expected return.
        advantage_scaling_power: Power of the standard deviation of returns around their expected
            value by which advantages are divided. At 0 the states with the widest returns decide;
            at 1 all states count alike.
        advantage_limit: Advantages beyond so many standard deviations count as at it.
        reward_scale: Rewards are multiplied by this, so that returns are of the order of 1.
        reward_floor: What a reward is below it counts a tenth: one stall of minutes would drown all
            else.
        max_grad_norm: Most that the gradient's norm may be.
        ema_decay: Share of the mean of the weights, which is what is validated and kept, that an
            update leaves as it was, at most: k / (k + 10) after k updates, if that is less. 0 keeps
            the newest weights.
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
    target_kl: float = 0.03
    entropy_coef: float = 0.05
    final_entropy_coef: float = 0.002
    gamma: float = 1.0
    gae_lambda: float = 0.95
    value_coef: float = 0.5
    advantage_scaling_power: float = 0.5
    advantage_limit: float = 6.0
    reward_scale: float = 0.2
    reward_floor: float = -10.0
    max_grad_norm: float = 0.5
    ema_decay: float = 0.98
    validate_every: int = 10
    checkpoint_every: int = 10
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        check_schedule(self, "episodes", "minibatch")
        check(self.epochs >= 1, "epochs", "be at least 1", self.epochs)
        for name in ("learning_rate", "clip", "advantage_limit", "reward_scale", "max_grad_norm"):
            holds = 0 < getattr(self, name) < math.inf
            check(holds, name, "be above 0 and finite", getattr(self, name))
        holds = -math.inf < self.reward_floor < math.inf
        check(holds, "reward_floor", "be finite", self.reward_floor)
        for name in ("target_kl", "entropy_coef", "final_entropy_coef", "value_coef"):
            holds = 0 <= getattr(self, name) < math.inf
            check(holds, name, "be at least 0 and finite", getattr(self, name))
        for name in ("final_fraction", "gamma", "gae_lambda", "advantage_scaling_power"):
            check(0 <= getattr(self, name) <= 1, name, "lie in [0, 1]", getattr(self, name))
        check(0 <= self.ema_decay < 1, "ema_decay", "lie in [0, 1)", self.ema_decay)


@dataclass(frozen=True)
class LinkRanges:
    """Generated links and players, each drawn anew: uniform, the highest level log-uniform.

    The lowest level of a trace is never above its highest.

    Attributes:
        min_mbps: Lowest level of a trace.
        max_mbps: Highest level.
        max_hold: Samples, of 1.8 s on average, for which a level holds at most.
        rtt_s: Round trip.
        buffer_cap_s: Above this buffer the player pauses.
        duration_s: Length of a trace.
    """

    min_mbps: tuple[float, float]
    max_mbps: tuple[float, float]
    max_hold: tuple[float, float]
    rtt_s: tuple[float, float]
    buffer_cap_s: tuple[float, float]
    duration_s: float = 330.0

    def __post_init__(self) -> None:
        for name in ("min_mbps", "max_mbps", "max_hold", "rtt_s", "buffer_cap_s"):
            low, high = getattr(self, name)
            check(0 <= low <= high < math.inf, name, "be a range from 0 up", getattr(self, name))
        check(self.max_mbps[0] > 0, "max_mbps", "be above 0", self.max_mbps)
        check(1 <= self.duration_s < math.inf, "duration_s", "be at least 1", self.duration_s)


# The ranges of GENET's uniform domain randomisation, its time in samples, `spec/abr.md` 4.3.
DIFFICULTIES = {
    1: LinkRanges((0.0, 3.5), (1.0, 5.0), (1, 4), (0.02, 0.03), (5.0, 10.0)),
    2: LinkRanges((0.0, 5.0), (1.0, 20.0), (0, 20), (0.02, 0.22), (5.0, 105.0)),
    3: LinkRanges((0.0, 10.0), (1.0, 100.0), (0, 100), (0.02, 1.0), (5.0, 500.0)),
}


@dataclass(frozen=True)
class UDRConfig:
    """Uniform domain randomisation: every episode plays a link and a player of its own.

    Attributes:
        links: What they are drawn from.
        real_fraction: Share of the episodes that play the traces that are named, if any are.
    """

    links: LinkRanges = DIFFICULTIES[2]
    real_fraction: float = 0.5

    def __post_init__(self) -> None:
        check(0 <= self.real_fraction <= 1, "real_fraction", "lie in [0, 1]", self.real_fraction)


@dataclass(frozen=True)
class GenetConfig:
    """GENET's curriculum: again and again, the links on which a rule is farthest ahead come in.

    Attributes:
        udr: The worlds at first, and the ranges in which it searches.
        heuristic: The rule: robust_mpc or bba.
        round_updates: Updates from one search to the next, and to the first.
        rounds: Searches at most.
        weight: Share of the episodes that the newest find gets, taken from all others alike.
        traces: Episodes on which a point's gap is measured.
        first_points: Points of a search that are drawn,
        guided_points: and that its model of the gap proposes.
        kappa: How much the model's doubt draws it.
    """

    udr: UDRConfig = UDRConfig()
    heuristic: str = "robust_mpc"
    round_updates: int = 50
    rounds: int = 9
    weight: float = 0.3
    traces: int = 10
    first_points: int = 10
    guided_points: int = 5
    kappa: float = 20.0

    def __post_init__(self) -> None:
        known = ("robust_mpc", "bba")
        check(self.heuristic in known, "heuristic", f"be {' or '.join(known)}", self.heuristic)
        for name in ("round_updates", "traces", "first_points"):
            check(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        for name in ("rounds", "guided_points"):
            check(getattr(self, name) >= 0, name, "be at least 0", getattr(self, name))
        check(0 < self.weight < 1, "weight", "lie in (0, 1)", self.weight)
        check(0 <= self.kappa < math.inf, "kappa", "be at least 0 and finite", self.kappa)


@dataclass(frozen=True)
class DecimaConfig:
    """Decima: it clones a rule, then plays the same arrivals several times over.

    A decision's return is compared with those of the other rollouts of its arrivals at the same
    simulated time. Episodes are shorter than those of an evaluation and grow, in a line, over the
    updates that play.

    Attributes:
        rollouts: Of each arrival seed in an update.
        first_jobs: Of an episode at first; the case's own number, if that is less,
        last_jobs: and in the last update, likewise.
        horizon_s: Rewards this far ahead, in simulated time, count 1 / e.
        clone_updates: First updates of the run, which learn to do as the teacher would.
        clone_episodes: Played in each of them, side by side, each of other arrivals.
        clone_learning_rate: Of Adam at first; it falls in a line to 0.
        clone_max_grad_norm: Most that the gradient's norm may be there.
        teacher: The rule that is cloned: tuned_srpt or srpt.
    """

    rollouts: int = 6
    first_jobs: int = 30
    last_jobs: int = 50
    horizon_s: float = 200.0
    clone_updates: int = 12
    clone_episodes: int = 96
    clone_learning_rate: float = 3e-3
    clone_max_grad_norm: float = 1.0
    teacher: str = "tuned_srpt"

    def __post_init__(self) -> None:
        check(self.rollouts >= 2, "rollouts", "be at least 2", self.rollouts)
        check(self.first_jobs >= 1, "first_jobs", "be at least 1", self.first_jobs)
        holds = self.last_jobs >= self.first_jobs
        check(holds, "last_jobs", f"be at least first_jobs, {self.first_jobs}", self.last_jobs)
        check(self.clone_updates >= 0, "clone_updates", "be at least 0", self.clone_updates)
        check(self.clone_episodes >= 1, "clone_episodes", "be at least 1", self.clone_episodes)
        for name in ("horizon_s", "clone_learning_rate", "clone_max_grad_norm"):
            holds = 0 < getattr(self, name) < math.inf
            check(holds, name, "be above 0 and finite", getattr(self, name))
        known = ("tuned_srpt", "srpt")
        check(self.teacher in known, "teacher", f"be {' or '.join(known)}", self.teacher)


DECIMA_SCHEDULE = PPOConfig(
    updates=100,
    episodes=48,
    epochs=2,
    minibatch=2048,
    learning_rate=5e-4,
    final_fraction=0.1,
    entropy_coef=0.0,
    final_entropy_coef=0.0,
    advantage_limit=4.0,
    ema_decay=0.0,
)

EpisodesConfig = UDRConfig | GenetConfig | DecimaConfig
