"""The protocols that every policy keeps, from a three-line rule to a language model.

A policy acts for N environments at once; one environment is a batch of one. It is built for one
vector environment by a factory, from which it may read public constants (ladder, chunk sizes).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from netllm_gym.arrays import Float32Array, FloatArray, IntArray


class Policy(Protocol):
    """Acts for N rows; remembers, per row, no more than the current episode.

    One whose attribute `needs_own_episodes` is true takes what it answered for what was done: it
    cannot be asked in an episode that another plays.

    Attributes:
        name: What tables call it.
    """

    name: str

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Forget these rows: each begins a new episode with the next `act`.

        Args:
            rows: (K,) indices of the rows.
            seeds: (K,) seeds of their episodes, the source of the policy's own draws.
        """

    def act(self, observations: Any, rewards: FloatArray, infos: Mapping[str, Any]) -> Any:
        """Return (N, ...) actions.

        Args:
            observations: (N, ...) what each row sees now.
            rewards: (N,) reward of each row's last step, 0.0 at its first.
            infos: (N,) columns that came with the observations.
        """


class Predictor(Protocol):
    """Says what comes next, of supervised problems; it is built for a case's windows by a factory.

    Attributes:
        name: What tables call it.
    """

    name: str

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
        """Return (N, future, 3) angles in degrees, whatever turns they count.

        Args:
            history: (N, history, 3) roll, pitch and yaw in degrees, as they were recorded.
            content: (N, history, D) features of what was shown, where the case has any.
        """


class TrainedPolicyFactory:
    """Builds a trained policy for an environment, and says what it was trained on.

    Args:
        name: What tables call the policies that are built.
        draws_by_default: Whether such policies usually draw their actions.
        sampled: Whether these draw theirs; None does as is usual.
        trained_on: Where the training data came from, as the trainer was told.
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
            InputError: If they are not of the kind that the policy was trained for.
        """
        raise NotImplementedError


def choose(scores: FloatArray, draws: FloatArray | None) -> IntArray:
    """Choose one of A actions in each of N rows.

    Args:
        scores: (N, A) logits, -inf where an action is not allowed; one is in each row.
        draws: (N,) uniform in [0, 1), to draw from the softmax; None takes the greatest.

    Returns:
        (N,) actions.
    """
    if draws is None:
        return np.asarray(scores.argmax(axis=1), np.int64)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True)).cumsum(axis=1)
    # A double below 1 times the total is below the total, so nothing behind it is ever drawn.
    return np.asarray((weights <= draws[:, None] * weights[:, -1:]).sum(axis=1), np.int64)


class Limit(Protocol):
    """What no policy can beat; a row of a table that nobody plays.

    Attributes:
        name: What tables call it.
    """

    name: str

    def limits(self, plan: Sequence[Any]) -> FloatArray:
        """Return (E,) the best metric that each planned episode allows, or better."""
