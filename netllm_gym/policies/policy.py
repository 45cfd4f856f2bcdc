"""The protocols of policies, predictors and limits, from a rule of three lines to a language model.

A policy acts for N environments at once; a single environment is a batch of one. A factory builds
it for one vector environment, whose public constants (ladder, chunk sizes) it may read.
`policies/custom.py` says how little of this a policy of a user needs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.errors import InputError


class Policy(Protocol):
    """Acts for N environments, the rows; it remembers nothing of a row's earlier episodes.

    A policy with a true attribute `needs_own_episodes` assumes that its answers are what was done.
    It cannot be asked in an episode that another policy plays.

    Attributes:
        name: Its name in tables.
    """

    name: str

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Prepare for new episodes in these rows, which begin with the next `act`.

        Args:
            rows: (K,) indices of the rows.
            seeds: (K,) seeds of their episodes, from which the policy's random draws come.
        """

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> Any:
        """Return (N, ...) actions.

        Args:
            observations: (N, ...) observation of each row.
            rewards: (N,) reward of each row's last step, 0.0 at its first.
            infos: Columns of shape (N,) that came with the observations.
        """


class Predictor(Protocol):
    """Predicts the future of windows; a factory builds it for the windows of a case.

    Attributes:
        name: Its name in tables.
    """

    name: str

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
        """Return (N, future, 3) angles in degrees; whole turns do not matter.

        Args:
            history: (N, history, 3) roll, pitch and yaw in degrees, as they were recorded.
            content: (N, history, D) features of the frames that were shown, if the case has any.
        """


class TrainedPolicyFactory:
    """Builds a trained policy for an environment, and tells what it was trained on.

    Args:
        name: Name in tables of the policies that are built.
        draws_by_default: Whether such policies draw their actions unless told otherwise.
        sampled: Whether these policies draw their actions; None takes the default.
        trained_on: Where the training data came from, as training recorded it.
    """

    sees_native = True  # its policies take the native observations of their problem

    def __init__(
        self,
        name: str,
        draws_by_default: bool,
        sampled: bool | None,
        trained_on: Mapping[str, Any] | None,
    ) -> None:
        self.name, self.draws_by_default = name, draws_by_default
        self.sampled = draws_by_default if sampled is None else sampled
        self.trained_on = dict(trained_on or {})

    def __call__(self, env: Any) -> Any:
        """Build the policy for an environment's rows, or the predictor for a case's windows.

        Raises:
            InputError: If the policy was trained for another kind of environment, or windows.
        """
        raise NotImplementedError


def choose(scores: FloatArray, draws: FloatArray | None) -> IntArray:
    """Choose one of A actions in each of N rows.

    Args:
        scores: (N, A) logits, -inf where an action is not allowed; each row allows at least one.
        draws: (N,) uniform in [0, 1), to draw from the softmax; None takes the greatest logit.

    Returns:
        (N,) actions.

    Raises:
        InputError: If a score is NaN, as of a network whose weights or settings are no good.
    """
    if np.isnan(scores).any():
        raise InputError("scores of the policy's actions must be numbers, got nan")
    if draws is None:
        return np.asarray(scores.argmax(axis=1), np.int64)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True)).cumsum(axis=1)
    # A double below 1 times the total is below the total, so the index is never out of range.
    return np.asarray((weights <= draws[:, None] * weights[:, -1:]).sum(axis=1), np.int64)


class Limit(Protocol):
    """A bound that no policy can beat; a row of a table that plays no episode.

    Attributes:
        name: Its name in tables.
    """

    name: str

    def limits(self, plan: Sequence[Any]) -> FloatArray:
        """Return (E,) for each planned episode a metric that no policy can beat."""
