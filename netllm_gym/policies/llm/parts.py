"""What each problem brings to the language model: one row per problem.

The token layouts, the encoders that fill them, the heads and their loss, how observations become
tensors and logits an action, and what config, episodes and environment fit. All else is shared.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from netllm_gym.arrays import IntArray
from netllm_gym.errors import InputError
from netllm_gym.policies.llm import abr, cjs, vp
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.tokens import TokenLayout
from netllm_gym.pools.windows import PaddedEpisodes

if TYPE_CHECKING:
    from netllm_gym.policies.llm.model import LLMModel

Make = Callable[[LLMConfig, TokenLayout, int], nn.Module]  # config, layout, width of the tokens
Batch = Mapping[str, Any]
Pick = Callable[[Tensor], IntArray]  # (N, choices) logits -> (N,)


class ProblemParts(NamedTuple):
    """A row of a problem that is played."""

    layouts: Mapping[str, TokenLayout]
    encoders: Make  # inputs -> name -> (B, T, count, d); `fit` learns the features' spread
    head: Make  # name -> (B, T, count, d) and the inputs -> logits
    split: Callable[[Batch, int], list[dict[str, Any]]]  # an update's windows -> forward passes
    tensors: Callable[[Batch], dict[str, Any]]  # arrays as `Windows` cuts them -> tensors
    score: Callable[[LLMConfig, Any, Batch], tuple[Tensor, dict[str, Tensor]]]  # loss, metrics
    decide: Callable[["LLMModel", Batch, Any, Pick], IntArray]  # inputs, cache -> actions
    sized: Callable[[LLMConfig, Any, PaddedEpisodes], LLMConfig]  # sizes of the environment
    check_episodes: Callable[[LLMConfig, PaddedEpisodes], None]  # raises InputError
    check_env: Callable[[LLMConfig, Any], None]  # raises InputError
    batch_windows: int  # of a forward pass, unless told otherwise
    window_steps: int | None = None  # None: a window is a whole episode


PARTS = {
    "abr": ProblemParts(
        layouts=abr.LAYOUTS,
        encoders=abr.ABREncoders,
        head=abr.RungHead,
        split=abr.split,
        tensors=abr.tensors,
        score=abr.score,
        decide=abr.decide,
        sized=abr.sized,
        check_episodes=abr.check_episodes,
        check_env=abr.check_env,
        batch_windows=32,
    ),
    "cjs": ProblemParts(
        layouts=cjs.LAYOUTS,
        encoders=cjs.CJSEncoders,
        head=cjs.CJSHead,
        split=cjs.split,
        tensors=cjs.tensors,
        score=cjs.score,
        decide=cjs.decide,
        sized=cjs.sized,
        check_episodes=cjs.check_episodes,
        check_env=cjs.check_env,
        batch_windows=512,
        window_steps=1,
    ),
}


class PredictionParts(NamedTuple):
    """A row of a problem of predictions."""

    layouts: Mapping[str, TokenLayout]
    encoders: Make
    head: Make
    forecast: Callable[["LLMModel", Tensor, Tensor | None], Tensor]  # features, content -> offsets


PREDICTION_PARTS = {
    "vp": PredictionParts(
        layouts=vp.LAYOUTS,
        encoders=vp.ViewportEncoders,
        head=vp.FutureHead,
        forecast=vp.forecast,
    )
}


def model_parts_of(problem: str) -> ProblemParts | PredictionParts:
    """Return the row of a problem of either kind: what its model is made of."""
    return PREDICTION_PARTS[problem] if problem in PREDICTION_PARTS else parts_of(problem)


def parts_of(problem: str) -> ProblemParts:
    """Return the row of a problem that is played."""
    if problem not in PARTS:
        raise InputError(f"problem must be one of {', '.join(PARTS)}, got {problem!r}")
    return PARTS[problem]
