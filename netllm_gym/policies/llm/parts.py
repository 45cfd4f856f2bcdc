"""What a problem brings to the language model: a class that its row names in `language_model`.

The model, its training and its policy are shared by all problems. A problem supplies its token
layouts, the encoders that fill them, and what is particular to its actions and its loss.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netllm_gym.arrays import IntArray
from netllm_gym.configs import check
from netllm_gym.errors import InputError
from netllm_gym.policies.llm.config import PROBLEMS_OWN, LLMConfig
from netllm_gym.policies.llm.tokens import TokenLayout
from netllm_gym.pools.windows import PaddedEpisodes
from netllm_gym.problems.index import find_control, find_prediction, find_problem
from netllm_gym.problems.problem import PredictionProblem

Batch = Mapping[str, Any]
Pick = Callable[[Tensor], IntArray]  # (N, choices) logits -> (N,) choices


class TokenModel(Protocol):
    """What parts may use of `LLMModel`; encoders and head are the modules that the parts made."""

    config: LLMConfig
    encoders: Any
    head: Any

    def __call__(self, inputs: Batch, cache: Any = None) -> Any:
        """See `LLMModel.forward`."""

    def hidden(
        self, embedded: Mapping[str, Tensor], inputs: Batch, cache: Any = None
    ) -> dict[str, Tensor]:
        """See `LLMModel`."""

    def new_cache(self, num_rows: int, num_columns: int | None = None) -> Any:
        """See `LLMModel`."""


class ModelParts(ABC):
    """What the model of any problem is made of.

    Attributes:
        layouts: Name -> token layout; `layout` of the config names one.
        config_fields: Fields of `PROBLEMS_OWN` that this problem uses.
        batch_windows: Windows of a forward pass in training by default.
    """

    layouts: ClassVar[Mapping[str, TokenLayout]]
    config_fields: ClassVar[tuple[str, ...]] = ()
    batch_windows: ClassVar[int] = 32

    @abstractmethod
    def encoders(self, config: LLMConfig, layout: TokenLayout, width: int) -> nn.Module:
        """Make the module that turns the model's inputs into tokens, (B, T, count, width) by name.

        Its method `fit` is given the training data before training begins and may learn the spread
        of its features. The layout has the tokens of a step; the class itself may stand here.
        """

    @abstractmethod
    def head(self, config: LLMConfig, layout: TokenLayout, width: int) -> nn.Module:
        """Make the module that turns name -> (B, T, count, width) and the inputs into an answer."""

    def check_config(self, config: LLMConfig) -> None:
        """Raise `InputError` if a field that belongs to another problem is set, or a layout is."""
        layouts = self.layouts
        check(config.layout in layouts, "layout", f"be one of {', '.join(layouts)}", config.layout)
        for name, unset in PROBLEMS_OWN.items():
            if name not in self.config_fields:
                value = getattr(config, name)
                check(value == unset, name, f"be {unset!r} for {config.problem}", value)


class ProblemParts(ModelParts):
    """The parts of a control problem.

    The methods here are for observations that are arrays of one shape and actions that are one of
    A choices: such a problem defines only its layouts and its encoders.

    Attributes:
        window_steps: Steps of a training window; None takes whole episodes.
    """

    window_steps: ClassVar[int | None] = None

    def head(self, config: LLMConfig, layout: TokenLayout, width: int) -> nn.Module:
        """Make the head: logits of the choices at the token that the layout reads."""
        return ChoiceHead(config.num_actions, layout, width)

    def split(self, batch: Batch, size: int) -> list[dict[str, Any]]:
        """Cut an update, (B, T, ...) as `Windows` has it, into passes of at most `size` windows.

        Each pass is cut to its longest window.
        """
        passes = []
        for first in range(0, len(batch["mask"]), size):
            rows = slice(first, first + size)
            longest = int(batch["mask"][rows].sum(axis=1).max())
            passes.append({name: each[rows, :longest] for name, each in batch.items()})
        return passes

    def tensors(self, batch: Batch) -> dict[str, Any]:
        """Turn arrays, as `Windows` cuts them out, into the tensors that the model reads."""
        return {name: torch.from_numpy(each) for name, each in batch.items()}

    def score(
        self, config: LLMConfig, output: Any, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the summed loss over the valid steps, and metrics of single answers, (K,) each.

        The output is the model's, and the batch is as `tensors` returns it.
        """
        logits, targets, mask = output, batch["targets"], batch["mask"]
        right = (logits.detach().argmax(-1) == targets)[mask]
        return masked_cross_entropy(logits, targets, mask), {"accuracy": right}

    def decide(self, model: TokenModel, inputs: Batch, cache: Any, pick: Pick) -> IntArray:
        """Return (N, ...) actions for (N, 1) steps.

        Args:
            model: In eval mode.
            inputs: As `tensors` returns them, with what came before.
            cache: Keys and values of earlier steps; None for a layout that has sets.
            pick: Chooses among (N, choices) logits.
        """
        return pick(model(inputs, cache)[:, 0, : model.config.num_actions])

    def sized(self, config: LLMConfig, env: Any, episodes: PaddedEpisodes) -> LLMConfig:
        """Return the config with the sizes of an environment and the length of the episodes."""
        return replace(
            config,
            num_actions=int(env.single_action_space.n),
            observation_shape=env.single_observation_space.shape,
            max_steps=int(episodes.mask.shape[1]),
        )

    def check_episodes(self, config: LLMConfig, episodes: PaddedEpisodes) -> None:
        """Raise `InputError` unless the episodes can be learned from."""
        shape = np.shape(episodes.observations)[2:]
        wanted = config.observation_shape
        check(shape == wanted, "observations", f"have the shape {wanted}", shape)
        for name, each in (("actions", episodes.actions), ("expert_actions", episodes.targets)):
            chosen = each[episodes.mask]
            low, high, last = chosen.min(), chosen.max(), config.num_actions - 1
            if low < 0 or high > last:
                raise InputError(f"{name} must be in 0..{last}, got {low}..{high}")
        longest, most = int(episodes.mask.sum(axis=1).max()), config.max_steps
        check(longest <= most, "episodes", f"have at most {most} steps", longest)

    def check_env(self, config: LLMConfig, env: Any) -> None:
        """Raise `InputError` unless the policy can act in the environment."""
        for name, wanted, found in (
            ("observation_shape", config.observation_shape, env.single_observation_space.shape),
            ("num_actions", config.num_actions, int(env.single_action_space.n)),
        ):
            check(wanted == found, name, f"be {wanted}, which the policy was trained for", found)


class PredictionParts(ModelParts):
    """The parts of a prediction problem."""

    @abstractmethod
    def sized(self, config: LLMConfig, windows: Any) -> LLMConfig:
        """Return the config of a predictor for windows such as these."""

    @abstractmethod
    def forecast(self, model: TokenModel, features: Tensor, content: Tensor | None) -> Tensor:
        """Return (B, F, 3) offsets from the last sample.

        Features of the history are (B, H, ...), those of the frames, if it sees any, (B, H, D).
        """


class ChoiceHead(nn.Linear):
    """Numbers (B, T, size) at the token that a layout reads: logits of the choices, or more."""

    def __init__(self, size: int, layout: TokenLayout, width: int) -> None:
        super().__init__(width, size)
        self.reads = layout.reads

    def forward(  # type: ignore[override]
        self, hidden: Mapping[str, Tensor], inputs: Batch
    ) -> Tensor:
        """Return (B, T, K)."""
        return super().forward(hidden[self.reads][:, :, -1])


def masked_cross_entropy(logits: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
    """Return the summed cross-entropy of (B, T, A) logits over the valid steps of (B, T) labels.

    It is a sum, so that several forward passes can be divided by the steps of all of them.
    """
    return F.cross_entropy(logits[mask], actions[mask], reduction="sum")


def parts_of(problem: str) -> ProblemParts:
    """Return the parts of a control problem; raise `InputError` if its row names none."""
    parts: ProblemParts = find_control(problem).part("language_model", ProblemParts)
    return parts


def prediction_parts_of(problem: str) -> PredictionParts:
    """Return the parts of a prediction problem; see `parts_of`."""
    parts: PredictionParts = find_prediction(problem).part("language_model", PredictionParts)
    return parts


def model_parts_of(problem: str) -> ProblemParts | PredictionParts:
    """Return the parts of a problem of either kind; see `parts_of`."""
    if isinstance(find_problem(problem), PredictionProblem):
        return prediction_parts_of(problem)
    return parts_of(problem)
