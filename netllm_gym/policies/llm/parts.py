"""What each problem brings to the language model: one row per problem.

The token layouts, the encoders that fill them, the loss of its head, and the check that an
environment is one that the policy can act in. Everything else is shared.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from netllm_gym.errors import InputError
from netllm_gym.policies.llm import abr
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.tokens import TokenLayout


class ProblemParts(NamedTuple):
    """One row."""

    layouts: Mapping[str, TokenLayout]
    encoders: Callable[[LLMConfig, TokenLayout, int], abr.ABREncoders]  # config, layout, width
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]  # logits, actions, mask -> sum over steps
    check_env: Callable[[LLMConfig, Any], None]  # raises InputError


PARTS = {
    "abr": ProblemParts(abr.LAYOUTS, abr.ABREncoders, abr.masked_cross_entropy, abr.check_env),
}


def parts_of(problem: str) -> ProblemParts:
    """Return a problem's row."""
    if problem not in PARTS:
        raise InputError(f"problem must be one of {', '.join(PARTS)}, got {problem!r}")
    return PARTS[problem]
