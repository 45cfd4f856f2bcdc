"""Options of online RL: PPO, and methods that extend it.

They are apart from the training itself, so that a command line needs no torch to offer them.
"""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

from netllm_gym.configs import check, option
from netllm_gym.schedules import Schedule

OF_PRETRAINING = (
    *("pretrain_teacher", "pretrain_episodes", "pretrain_learning_rate", "pretrain_max_grad_norm"),
)


@dataclass(frozen=True, kw_only=True)
class PPOConfig(Schedule):
    """Proximal policy optimisation (PPO) in any control problem.

    Attributes:
        updates: Rounds of playing and learning.
        episodes: Episodes of each update. They are played side by side. With the baseline rollouts
            they must be a multiple of rollouts.
        epochs: Passes over the decisions of an update, at most.
        minibatch: Decisions of one optimizer step.
        learning_rate: Learning rate at first; left out, 0.001, or 0.0001 with --init-from. It
            falls linearly.
        final_fraction: Share of the learning rate that is left in the last update.
        clip: Range around 1 in which the probability ratio is rewarded.
        target_kl: KL divergence, in nats, that ends an update early. 0 never does.
        entropy_coef: Entropy bonus at first; left out, 0.05, or 0.004 with --init-from. It
            changes linearly.
        final_entropy_coef: Weight of the entropy bonus in the last update.
        gamma: Discount factor of rewards. In CJS it is used only with the baseline critic; with
            rollouts, rewards are discounted by simulated time.
        gae_lambda: Lambda of generalised advantage estimation. It is used only with the baseline
            critic.
        value_coef: Weight of the value loss. It is used only with the baseline critic.
        advantage_scaling_power: Power of the return's estimated deviation that divides advantages.
            At 0 the states with the widest returns decide; at 1 all states count alike. It is used
            only with the baseline critic.
        advantage_limit: Standard deviations at which advantages are clipped.
        reward_scale: Factor of rewards, so that returns are of the order of 1. It is used only with
            the baseline critic.
        reward_floor: Reward below which differences count a tenth. Without it, one stall of minutes
            would outweigh everything else. It is used only with the baseline critic.
        max_grad_norm: Norm to which gradients are clipped.
        ema_decay: Decay of the average of the weights, which is the policy that is kept. After k
            updates it is k / (k + 10), if that is less. 0 keeps the newest weights.
        baseline: What returns are compared with: critic or rollouts. A critic estimates the return
            of each state; rollouts are other episodes with the same random input, such as arrivals.
            Left out, it is critic for abr and rollouts for cjs.
        rollouts: Episodes with the same random input, for the baseline rollouts.
        init_from: Trained policy to start from. It is the name or the folder of a network or a
            language model; left out, a new network begins with random weights.
        critic: With a language model: the network whose critic PPO starts from. It is a name or a
            folder; left out, the problem's own choice.
        pretrain_updates: Updates of pretraining, the first ones. They imitate pretrain_teacher, by
            behaviour cloning.
        pretrain_teacher: Policy that pretraining imitates.
        pretrain_episodes: Episodes of each update of pretraining.
        pretrain_learning_rate: Learning rate of pretraining at first. It falls linearly to 0.
        pretrain_max_grad_norm: Norm to which gradients are clipped in pretraining.
        seed: Seed of weights, episodes and minibatches.
    """

    sizes: ClassVar[tuple[str, ...]] = ("episodes", "minibatch", "pretrain_episodes")

    updates: int = 300
    episodes: int = 512
    epochs: int = field(default=2, metadata=option(advanced=True))
    minibatch: int = field(default=6016, metadata=option(advanced=True))
    learning_rate: float | None = None
    final_fraction: float = field(default=0.05, metadata=option(advanced=True))
    clip: float = field(default=0.2, metadata=option(advanced=True))
    target_kl: float = field(default=0.03, metadata=option(advanced=True))
    entropy_coef: float | None = None
    final_entropy_coef: float = field(default=0.002, metadata=option(advanced=True))
    gamma: float = field(default=1.0, metadata=option(advanced=True))
    gae_lambda: float = field(default=0.95, metadata=option(advanced=True))
    value_coef: float = field(default=0.5, metadata=option(advanced=True))
    advantage_scaling_power: float = field(default=0.5, metadata=option(advanced=True))
    advantage_limit: float = field(default=6.0, metadata=option(advanced=True))
    reward_scale: float = field(default=0.2, metadata=option(advanced=True))
    reward_floor: float = field(default=-10.0, metadata=option(advanced=True))
    max_grad_norm: float = field(default=0.5, metadata=option(advanced=True))
    ema_decay: float = field(default=0.98, metadata=option(advanced=True))
    baseline: Literal["critic", "rollouts"] | None = field(
        default=None, metadata=option(advanced=True)
    )
    rollouts: int = field(default=6, metadata=option(advanced=True))
    init_from: str | None = None
    critic: str | None = None
    pretrain_updates: int = 0
    pretrain_teacher: str | None = None
    pretrain_episodes: int = field(default=96, metadata=option(advanced=True))
    pretrain_learning_rate: float = field(default=3e-3, metadata=option(advanced=True))
    pretrain_max_grad_norm: float = field(default=1.0, metadata=option(advanced=True))
    validate_every: int = 10
    checkpoint_every: int = field(default=10, metadata=option(advanced=True))
    threads: int = field(default=1, metadata=option(advanced=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_from(1, "epochs")
        self.check_from(2, "rollouts")
        self.check_from(0, "pretrain_updates")
        known = self.baseline in (None, "critic", "rollouts")
        check(known, "baseline", "be critic or rollouts", self.baseline)
        self.check_above_0("clip", "advantage_limit", "reward_scale", "max_grad_norm")
        self.check_above_0("learning_rate", "pretrain_learning_rate", "pretrain_max_grad_norm")
        self.check_at_least_0("target_kl", "entropy_coef", "final_entropy_coef", "value_coef")
        holds = -math.inf < self.reward_floor < math.inf
        check(holds, "reward_floor", "be finite", self.reward_floor)
        self.check_shares("final_fraction", "gamma", "gae_lambda", "advantage_scaling_power")
        check(0 <= self.ema_decay < 1, "ema_decay", "lie in [0, 1)", self.ema_decay)
        self._check_start()

    def _check_start(self) -> None:
        """Refuse options of the first weights that contradict each other."""
        if self.critic is not None:
            rule = "be left out without init_from, which it belongs to"
            check(self.init_from is not None, "critic", rule, self.critic)
        cloned = self.pretrain_updates
        if not cloned:
            self.check_left_out(OF_PRETRAINING, "without pretrain_updates, which it belongs to")
        if cloned:
            check(self.init_from is None, "pretrain_updates", "be 0 with init_from", cloned)
            named = self.pretrain_teacher is not None
            check(named, "pretrain_teacher", "be named for pretraining", self.pretrain_teacher)
            rule = f"be above the {cloned} of pretrain_updates"
            check(self.updates > cloned, "updates", rule, self.updates)

    @property
    def first_learning_rate(self) -> float:
        """The learning rate of the first update."""
        if self.learning_rate is not None:
            return self.learning_rate
        # A trained policy has little left to learn, and would forget much at the full rate.
        return 1e-3 if self.init_from is None else 1e-4

    @property
    def first_entropy_coef(self) -> float:
        """The weight of the entropy bonus in the first update."""
        if self.entropy_coef is not None:
            return self.entropy_coef
        return 0.05 if self.init_from is None else 0.004


RANGES = ("min_mbps", "max_mbps", "max_hold", "rtt_s", "buffer_cap_s")  # of `LinkRanges`
Heuristic = Literal["robust_mpc", "bba"]


@dataclass(frozen=True)
class LinkRanges:
    """Ranges of generated links and players, each drawn anew for every episode; see `UDRConfig`.

    Draws are uniform, those of the highest level log-uniform. The lowest level of a trace is never
    above its highest.
    """

    min_mbps: tuple[float, float]
    max_mbps: tuple[float, float]
    max_hold: tuple[float, float]  # samples, of 1.8 s on average
    rtt_s: tuple[float, float]
    buffer_cap_s: tuple[float, float]
    duration_s: float = 330.0

    def __post_init__(self) -> None:
        for name in RANGES:
            low, high = getattr(self, name)
            check(0 <= low <= high < math.inf, name, "be a range from 0 up", getattr(self, name))
        check(self.max_mbps[0] > 0, "max_mbps", "be above 0", self.max_mbps)
        check(1 <= self.duration_s < math.inf, "duration_s", "be at least 1", self.duration_s)


# The ranges of GENET's uniform domain randomisation (Xia et al., SIGCOMM 2022), time in samples.
DIFFICULTIES = {
    1: LinkRanges((0.0, 3.5), (1.0, 5.0), (1, 4), (0.02, 0.03), (5.0, 10.0)),
    2: LinkRanges((0.0, 5.0), (1.0, 20.0), (0, 20), (0.02, 0.22), (5.0, 105.0)),
    3: LinkRanges((0.0, 10.0), (1.0, 100.0), (0, 100), (0.02, 1.0), (5.0, 500.0)),
}


@dataclass(frozen=True, kw_only=True)
class UDRConfig(PPOConfig):
    """PPO with uniform domain randomisation: every episode has a generated link and player.

    Attributes:
        difficulty: How widely links vary: 1, 2 or 3. So do the players.
        min_mbps: Range of a trace's lowest level, in Mbit/s. Left out, that of the difficulty.
        max_mbps: Range of a trace's highest level, in Mbit/s. Left out, that of the difficulty.
        max_hold: Range of the samples for which a level holds at most. Left out, that of the
            difficulty.
        rtt_s: Range of the round-trip time, in seconds. Left out, that of the difficulty.
        buffer_cap_s: Range of the player's largest buffer, in seconds. Left out, that of the
            difficulty.
        duration_s: Length of a generated trace, in seconds.
        real_fraction: Share of episodes over named traces. Without such traces it has no effect.
    """

    difficulty: int = 2
    min_mbps: tuple[float, float] | None = field(default=None, metadata=option(advanced=True))
    max_mbps: tuple[float, float] | None = field(default=None, metadata=option(advanced=True))
    max_hold: tuple[float, float] | None = field(default=None, metadata=option(advanced=True))
    rtt_s: tuple[float, float] | None = field(default=None, metadata=option(advanced=True))
    buffer_cap_s: tuple[float, float] | None = field(default=None, metadata=option(advanced=True))
    duration_s: float = field(default=330.0, metadata=option(advanced=True))
    real_fraction: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.difficulty in DIFFICULTIES, "difficulty", "be 1, 2 or 3", self.difficulty)
        self.check_shares("real_fraction")
        self.links()

    def links(self) -> LinkRanges:
        """Return the ranges of the difficulty, with those that are given in their place."""
        given = {name: getattr(self, name) for name in RANGES if getattr(self, name) is not None}
        return replace(DIFFICULTIES[self.difficulty], duration_s=self.duration_s, **given)


@dataclass(frozen=True, kw_only=True)
class GenetConfig(UDRConfig):
    """GENET: a curriculum of links on which a rule is far ahead of the policy.

    Attributes:
        heuristic: Rule to compare with: robust_mpc or bba.
        round_updates: Updates between searches. So many come before the first, too.
        rounds: Searches, at most.
        find_weight: Share of episodes that play the newest link that was found. It is taken from
            all others alike.
        gap_episodes: Episodes on which the gap at a point is measured.
        first_points: Random points of a search.
        guided_points: Points of a search that the model of the gap proposes.
        kappa: Weight of the uncertainty in proposing points.
    """

    heuristic: Heuristic = "robust_mpc"
    round_updates: int = 50
    rounds: int = 9
    find_weight: float = field(default=0.3, metadata=option(advanced=True))
    gap_episodes: int = field(default=10, metadata=option(advanced=True))
    first_points: int = field(default=10, metadata=option(advanced=True))
    guided_points: int = field(default=5, metadata=option(advanced=True))
    kappa: float = field(default=20.0, metadata=option(advanced=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(Heuristic)
        check(self.heuristic in known, "heuristic", f"be {' or '.join(known)}", self.heuristic)
        self.check_from(1, "round_updates", "gap_episodes", "first_points")
        self.check_from(0, "rounds", "guided_points")
        check(0 < self.find_weight < 1, "find_weight", "lie in (0, 1)", self.find_weight)
        self.check_at_least_0("kappa")


@dataclass(frozen=True, kw_only=True)
class DecimaConfig(PPOConfig):
    """Decima: PPO for clusters, after pretraining on a rule, with episodes that grow longer.

    A decision's return is compared with those of the other rollouts of the same arrivals at the
    same simulated time.

    Attributes:
        learning_rate: Learning rate at first. It falls linearly.
        entropy_coef: Weight of the entropy bonus in the first update. It changes linearly.
        first_jobs: Jobs of the first update's episodes. Their number grows linearly, and is at most
            that of the case.
        last_jobs: Jobs of the last update's episodes. They are at most those of the case.
        horizon_s: Simulated time, in seconds, after which a reward counts 1 / e.
    """

    updates: int = 100
    episodes: int = 48
    minibatch: int = field(default=2048, metadata=option(advanced=True))
    learning_rate: float | None = 5e-4
    final_fraction: float = field(default=0.1, metadata=option(advanced=True))
    entropy_coef: float | None = 0.0
    final_entropy_coef: float = field(default=0.0, metadata=option(advanced=True))
    advantage_limit: float = field(default=4.0, metadata=option(advanced=True))
    ema_decay: float = field(default=0.0, metadata=option(advanced=True))
    baseline: Literal["critic", "rollouts"] | None = field(
        default="rollouts", metadata=option(advanced=True)
    )
    pretrain_updates: int = 12
    pretrain_teacher: str | None = "tuned_srpt"
    first_jobs: int = 30
    last_jobs: int = 50
    horizon_s: float = 200.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_from(1, "first_jobs")
        holds = self.last_jobs >= self.first_jobs
        check(holds, "last_jobs", f"be at least first_jobs, {self.first_jobs}", self.last_jobs)
        self.check_above_0("horizon_s")
