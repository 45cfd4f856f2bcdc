"""Return tokens: what a policy is told of the return that is wanted of it.

A raw return mostly says how good the network was, not how well the policy did. So there are two
kinds besides none: the return still to come, and the episode's advantage over a named policy on
the same episode, which takes the network out. Every constant is fitted once to the training pool
and travels in the checkpoint; acting never needs the pool.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from netllm_gym.arrays import BoolArray, Float32Array, FloatArray, IntArray
from netllm_gym.configs import check, option
from netllm_gym.errors import InputError
from netllm_gym.pools.windows import PaddedEpisodes

KINDS = ("auto", "none", "return_to_go", "baseline")


@dataclass(frozen=True)
class ReturnSpec:
    """How a return becomes a token: (return - center) / scale.

    Attributes:
        kind: auto, none, return_to_go or baseline. It says what the policy is told. "none" is plain
            behaviour cloning, a constant zero; "return_to_go" is the sum of discounted rewards from
            a step on, that step included; "baseline" is the episode's return minus that of a named
            policy on the same episode, the same at every step; "auto" is decided by the method from
            its data before training.
        gamma: Discount of the returns to go.
        baseline: Policy of the pool whose return is subtracted, for the kind "baseline".
        clip: Bounds put on each reward before it counts, low and high; none if left out.
        quantile: Quantile of the pool's first tokens that is asked for when acting.
        factor: Factor by which that quantile is multiplied.
        center: Subtracted from returns; if left out, their mean (0 for the kind "baseline").
        scale: Returns are divided by it; if left out, their standard deviation at the first step.
        target: Token that is asked for at the first step; if left out, the quantile says it.
    """

    kind: str = field(default="none", metadata=option("returns"))
    gamma: float = field(default=1.0, metadata=option("return_gamma", advanced=True))
    baseline: str = field(default="", metadata=option("return_baseline", advanced=True))
    clip: tuple[float, float] | None = field(
        default=None, metadata=option("reward_clip", advanced=True)
    )
    quantile: float = field(default=0.9, metadata=option("target_quantile", advanced=True))
    factor: float = field(default=1.0, metadata=option("target_factor", advanced=True))
    center: float | None = field(default=None, metadata=option("return_center", advanced=True))
    scale: float | None = field(default=None, metadata=option("return_scale", advanced=True))
    target: float | None = field(default=None, metadata=option("target_return", advanced=True))

    def __post_init__(self) -> None:
        check(self.kind in KINDS, "kind", f"be one of {', '.join(KINDS)}", self.kind)
        if self.kind == "baseline" and not self.baseline:
            raise InputError("baseline must name a policy of the pool, got none")
        check(0 < self.gamma <= 1, "gamma", "lie in (0, 1]", self.gamma)
        check(0 <= self.quantile <= 1, "quantile", "lie in [0, 1]", self.quantile)
        check(bool(np.isfinite(self.factor)), "factor", "be finite", self.factor)
        check(self.scale is None or self.scale > 0, "scale", "be above 0", self.scale)
        rises = self.clip is None or self.clip[0] < self.clip[1]
        check(rises, "clip", "be a rising pair", self.clip)

    @property
    def is_fitted(self) -> bool:
        """Whether the constants are known."""
        return None not in (self.center, self.scale, self.target)

    def fit(self, episodes: PaddedEpisodes) -> "ReturnSpec":
        """Return this spec with the constants of a pool; constants already given stay."""
        rule = "be decided before the returns are fitted"
        check(self.kind != "auto", "kind", rule, self.kind)
        raw = self._raw(episodes)[:, 0]
        spread = float(raw.std())
        scale = self.scale if self.scale is not None else (spread if spread > 1e-9 else 1.0)
        center = self.center
        if center is None:
            center = float(raw.mean()) if self.kind == "return_to_go" else 0.0
        target = self.target
        if target is None:
            target = float(np.quantile((raw - center) / scale, self.quantile)) * self.factor
        return dataclasses.replace(self, center=center, scale=scale, target=target)

    def tokens(self, episodes: PaddedEpisodes) -> FloatArray:
        """Return (E, T) tokens for training, 0 in the padding."""
        center, scale, _ = self.constants()
        return np.where(episodes.mask, (self._raw(episodes) - center) / scale, 0.0)

    def constants(self) -> tuple[float, float, float]:
        """Return center, scale and target; raise `InputError` before they were fitted."""
        if self.center is None or self.scale is None or self.target is None:
            raise InputError("returns must be fitted to a pool first, got no constants")
        return self.center, self.scale, self.target

    def reward(self, rewards: FloatArray) -> FloatArray:
        """Return the rewards as they count."""
        return rewards if self.clip is None else np.clip(rewards, *self.clip)

    def _raw(self, episodes: PaddedEpisodes) -> FloatArray:
        """Return (E, T) returns before centring and scaling."""
        mask = episodes.mask
        rewards = np.where(mask, self.reward(episodes.rewards), 0.0)
        if self.kind == "none":
            return np.zeros_like(rewards)
        if self.kind == "return_to_go":
            return dataclasses.replace(episodes, rewards=rewards).returns_to_go(self.gamma)
        totals = rewards.sum(axis=1)  # (E,)
        names = np.array(episodes.policies)[episodes.policy]  # (E,)
        theirs = _baseline_returns(totals, names, episodes.seed, self.baseline)
        return np.where(mask, (totals - theirs)[:, None], 0.0)


def _baseline_returns(
    totals: FloatArray, names: NDArray[np.str_], seeds: IntArray, baseline: str
) -> FloatArray:
    """Return (E,) the baseline's return on each episode's seed."""
    is_baseline = names == baseline
    if not is_baseline.any():
        raise InputError(
            f"baseline must be a policy of the pool ({', '.join(sorted(set(names.tolist())))}), "
            f"got {baseline!r}"
        )
    by_seed = dict(zip(seeds[is_baseline].tolist(), totals[is_baseline].tolist(), strict=True))
    missing = sorted(set(seeds.tolist()) - set(by_seed))
    if missing:
        raise InputError(
            f"pool must hold an episode of the baseline {baseline} for every seed, "
            f"got none for {len(missing)} of them, {missing[0]} the first"
        )
    return np.array([by_seed[seed] for seed in seeds.tolist()])


class ReturnConditioner:
    """The return token of each row while acting."""

    def __init__(self, spec: ReturnSpec, num_rows: int) -> None:
        self._center, self._scale, target = spec.constants()
        self._spec = spec
        self._target = target * self._scale + self._center
        self._wanted = np.full(num_rows, self._target)  # (N,) return still wanted

    def reset(self, rows: IntArray) -> None:
        """Ask the target of these rows."""
        self._wanted[rows] = self._target

    def observe(self, rewards: FloatArray, has_begun: BoolArray) -> None:
        """Take (N,) rewards of the last step off what is still wanted in rows that have begun."""
        if self._spec.kind == "return_to_go":
            left = (self._wanted - self._spec.reward(rewards)) / self._spec.gamma
            self._wanted = np.where(has_begun, left, self._wanted)

    def tokens(self) -> Float32Array:
        """Return (N,) tokens."""
        return ((self._wanted - self._center) / self._scale).astype(np.float32)
