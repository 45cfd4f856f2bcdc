"""Advantages: how much better than expected the return of each decision was.

The expected return is either a critic's estimate or the mean over rollouts, other episodes with the
same random input.

Sources: Schulman et al., High-Dimensional Continuous Control Using Generalized Advantage Estimation
(ICLR 2016); for rollouts, the input-dependent baseline of Decima (Mao et al., SIGCOMM 2019).
"""

from collections.abc import Callable, Sequence

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.pools.episode import Episode

Advantages = Callable[[Sequence[Episode]], Sequence[FloatArray]]
"""Returns (T,) advantages of each episode's decisions."""


def compressed(rewards: FloatArray, floor: float) -> FloatArray:
    """Return rewards in which differences below the floor count a tenth."""
    return np.asarray(np.maximum(rewards, floor + 0.1 * (rewards - floor)))


def scaled(advantages: FloatArray, return_std: FloatArray, power: float) -> FloatArray:
    """Return advantages divided by a power of the expected deviation of returns."""
    return np.asarray(advantages / return_std**power)


def standardised(advantages: FloatArray, limit: float) -> FloatArray:
    """Return advantages of mean 0 and standard deviation 1, clipped at the limit."""
    standard = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    return np.asarray(standard.clip(-limit, limit))


def generalised_advantages(
    rewards: FloatArray, values: FloatArray, gamma: float, gae_lambda: float
) -> FloatArray:
    """Return (E, T) generalised advantages of episodes that end within T steps.

    A truncated episode counts as ended, since its further rewards are not known.

    Args:
        rewards: (E, T), 0 after the end.
        values: (E, T) expected returns, 0 after the end.
        gamma: Discount factor.
        gae_lambda: Weight of longer sums of rewards against the expected returns.
    """
    advantages = np.zeros_like(rewards)
    later, next_values = np.zeros(len(rewards)), np.zeros(len(rewards))
    for step in reversed(range(rewards.shape[1])):
        error = rewards[:, step] + gamma * next_values - values[:, step]
        later = error + gamma * gae_lambda * later
        advantages[:, step], next_values = later, values[:, step]
    return advantages


def discounted_returns(rewards: FloatArray, discounts: FloatArray) -> FloatArray:
    """Return (T,) returns for (T,) rewards and (T,) factors of the next decision's return."""
    returns, later = np.empty(len(rewards)), 0.0
    for step in reversed(range(len(rewards))):
        later = rewards[step] + discounts[step] * later
        returns[step] = later
    return returns


class RolloutAdvantages:
    """Compares a decision's return with those of other episodes with the same random input.

    The expected return is the mean of the other episodes' returns at the same time: between their
    decisions interpolated linearly, after their last one 0.

    Args:
        rollouts: Episodes with the same random input, side by side.
        times: Returns the (T,) times of an episode's decisions.
        discount: Returns the discount factors of (T,) durations, each from a decision to the next.
    """

    def __init__(
        self,
        rollouts: int,
        times: Callable[[Episode], FloatArray],
        discount: Callable[[FloatArray], FloatArray],
    ) -> None:
        self._rollouts, self._times, self._discount = rollouts, times, discount

    def __call__(self, episodes: Sequence[Episode]) -> list[FloatArray]:
        """Return (T,) advantages of each episode."""
        advantages: list[FloatArray] = []
        for first in range(0, len(episodes), self._rollouts):
            advantages += self._of_rollouts(episodes[first : first + self._rollouts])
        return advantages

    def _of_rollouts(self, episodes: Sequence[Episode]) -> list[FloatArray]:
        times = [self._times(episode) for episode in episodes]
        returns = [
            discounted_returns(episode.rewards, self._discount(np.diff(time, append=time[-1])))
            for episode, time in zip(episodes, times, strict=True)
        ]
        advantages = []
        for own, (time, own_returns) in enumerate(zip(times, returns, strict=True)):
            others = [
                np.interp(time, times[other], returns[other], right=0.0)
                for other in range(len(episodes))
                if other != own
            ]
            advantages.append(own_returns - np.mean(others, axis=0))
        return advantages
