"""The protocols of policies, predictors and limits, from a rule of three lines to a language model.

A policy acts for N environments at once; a single environment is a batch of one. A factory builds
it for one vector environment, whose public constants (ladder, chunk sizes) it may read.
`policies/custom.py` says how little of this a policy of a user needs.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

import numpy as np

from netllm_gym.arrays import Float32Array, FloatArray, IntArray
from netllm_gym.errors import InputError
from netllm_gym.files import errors_begin_with
from netllm_gym.randomness import EpisodeDraws

DECODINGS = ("sampled", "greedy")
_Built = TypeVar("_Built", bound="TrainedPolicy")


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
    """Builds policies, or predictors, that share a trained model.

    Args:
        model: In eval mode, with its config. Its attribute `draws_by_default`, if it has one, says
            whether such policies draw their actions unless told otherwise.
        sampled: Whether these policies draw their actions; None takes the default.
        name: Name in tables of the policies that are built; empty takes `usual_name`.
        trained_on: Where the training data came from, as training recorded it.

    Raises:
        InputError: If they must draw actions and cannot.
    """

    usual_name: ClassVar[str]
    sees_native = True  # its policies take the native observations of their problem

    def __init__(
        self,
        model: Any,
        *,
        sampled: bool | None = None,
        name: str = "",
        trained_on: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.config = model, model.config
        self.name, self.trained_on = name or self.usual_name, dict(trained_on or {})
        self.source = ""  # the folder that the model was read from, for errors
        self.draws_by_default: bool = getattr(model, "draws_by_default", False)
        self.sampled = self.draws_by_default if sampled is None else sampled
        if self.sampled:
            self.check_can_draw()

    def check_can_draw(self) -> None:
        """Raise `InputError` if the model's policies cannot draw their actions."""

    def build(self, kind: type[_Built], env: Any) -> _Built:
        """Return a policy of this kind for an environment's rows."""
        return kind(
            self.model, env.num_envs, sampled=self.sampled, name=self.name, source=self.source
        )

    def __call__(self, env: Any) -> Any:
        """Build the policy for an environment's rows, or the predictor for a case's windows.

        Raises:
            InputError: If the policy was trained for another kind of environment, or windows.
        """
        raise NotImplementedError


class TrainedPolicy:
    """What the policies of all kinds of models have in common; see the protocol `Policy`.

    Args:
        model: In eval mode.
        num_rows: Rows that act together.
        sampled: Draw actions by episode seed and step; else take the likeliest.
        name: Name in tables.
        source: Where the model was read from; errors begin with it, else with the name.
    """

    def __init__(
        self,
        model: Any,
        num_rows: int,
        *,
        sampled: bool = False,
        name: str = "",
        source: str = "",
    ) -> None:
        self.name, self.model, self.sampled = name, model, sampled
        self.source = source or name
        self.draws = EpisodeDraws(num_rows)

    def reset(self, rows: IntArray, seeds: IntArray) -> None:
        """Begin new episodes in the (K,) rows, of which nothing is remembered."""
        self.draws.reset(rows, seeds)

    def pick(self, scores: FloatArray) -> IntArray:
        """Return (N,) choices among (N, A) logits, -inf where not allowed; see `choose`."""
        draws = self.draws.draw() if self.sampled else None
        with errors_begin_with(self.source):
            return choose(scores, draws)


class Decoding(NamedTuple):
    """A policy's name without its suffix, and what the suffix says."""

    name: str
    sampled: bool | None  # None where it is left out


def decoding_of(text: str) -> Decoding:
    """Return what `NAME`, `NAME:sampled` or `NAME:greedy` says.

    Raises:
        InputError: If there is another suffix.
    """
    name, _, suffix = text.partition(":")
    if suffix not in ("", *DECODINGS):
        raise InputError(f"decoding must be greedy or sampled, got {suffix!r}")
    return Decoding(name, suffix == "sampled" if suffix else None)


def choose(scores: FloatArray, draws: FloatArray | None) -> IntArray:
    """Return (N,) actions, one of A in each row.

    Args:
        scores: (N, A) logits, -inf where an action is not allowed; each row allows at least one.
        draws: (N,) uniform in [0, 1), to draw from the softmax; None takes the greatest logit.

    Raises:
        InputError: If a score is NaN, as those of a broken network.
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
