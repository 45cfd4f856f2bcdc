"""What a language model needs to know of congestion control: its tokens, encoder and head.

Each interval is one token: the sum of the embeddings of the return that is asked for and of the
whole observation. A linear head reads the logits of the seven factors there.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from netllm_gym.data.windows import PaddedEpisodes
from netllm_gym.errors import InputError
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.tokens import TokenLayout, TokenSpec
from numpy.typing import NDArray
from torch import Tensor, nn

from congestion_control.learning import check_sizes, features_of, num_features
from congestion_control.links import NUM_INTERVALS


class CongestionEncoders(nn.Module):
    """Embeds (B, T) steps as one token each."""

    mean: Tensor  # (features,)
    std: Tensor  # (features,)

    def __init__(self, config: LLMConfig, layout: TokenLayout, width: int) -> None:
        super().__init__()
        count = num_features(config.observation_shape)
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("std", torch.ones(count))
        self.asked = nn.Linear(1, width)
        self.seen = nn.Sequential(
            nn.Linear(count, config.feature_dim), nn.GELU(), nn.Linear(config.feature_dim, width)
        )

    def fit(self, seen: NDArray[np.float32]) -> None:
        """Learn the mean and spread of the features from (M, 40) training observations."""
        features = features_of(torch.from_numpy(seen)).double()
        self.mean.copy_(features.mean(0))
        self.std.copy_(features.std(0, correction=0).clamp(min=1e-3))

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tokens, name -> (B, T, 1, width).

        Args:
            inputs: observations (B, T, 40) and returns (B, T).
        """
        normal = (features_of(inputs["observations"]) - self.mean) / self.std
        token = self.seen(normal.clamp(-10.0, 10.0)) + self.asked(inputs["returns"].unsqueeze(-1))
        return {"step": token.unsqueeze(2)}


class FactorHead(nn.Linear):
    """Logits of the factors at each step."""

    def __init__(self, config: LLMConfig, layout: TokenLayout, width: int) -> None:
        super().__init__(width, config.num_actions)

    def forward(  # type: ignore[override]
        self, hidden: Mapping[str, Tensor], inputs: Mapping[str, Any]
    ) -> Tensor:
        """Return (B, T, actions)."""
        return super().forward(hidden["step"][:, :, -1])


class CongestionParts:
    """All that the language-model policy asks of the problem."""

    layouts: Mapping[str, TokenLayout] = {
        "compact": TokenLayout((TokenSpec("step", ("return", "observation")),), reads="step")
    }
    encoders = CongestionEncoders
    head = FactorHead
    batch_windows = 16  # of a forward pass, unless told otherwise
    window_steps = None  # a window is a whole episode

    def split(self, batch: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
        """Cut an update's windows into forward passes of `size`; all episodes are equally long."""
        firsts = range(0, len(batch["mask"]), size)
        return [{name: part[at : at + size] for name, part in batch.items()} for at in firsts]

    def tensors(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Turn arrays into tensors."""
        return {name: torch.from_numpy(part) for name, part in batch.items()}

    def score(
        self, config: LLMConfig, output: Tensor, batch: Mapping[str, Any]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the summed cross-entropy and, per step, whether the teacher's factor won."""
        logits, targets = output[batch["mask"]], batch["targets"][batch["mask"]]
        loss = F.cross_entropy(logits, targets, reduction="sum")
        return loss, {"accuracy": logits.detach().argmax(-1) == targets}

    def decide(
        self,
        model: Any,
        inputs: Mapping[str, Any],
        cache: Any,
        pick: Callable[[Tensor], NDArray[np.int64]],
    ) -> NDArray[np.int64]:
        """Return (N,) actions for (N, 1) steps."""
        return pick(model(inputs, cache)[:, 0])

    def sized(self, config: LLMConfig, env: Any, episodes: PaddedEpisodes) -> LLMConfig:
        """Return the config with the sizes of the environment and of the episodes."""
        return replace(
            config,
            num_actions=int(env.single_action_space.n),
            observation_shape=env.single_observation_space.shape,
            max_steps=int(episodes.mask.shape[1]),
        )

    def check_episodes(self, config: LLMConfig, episodes: PaddedEpisodes) -> None:
        """Raise `InputError` unless the episodes can be learned from."""
        shape = np.shape(episodes.observations)[2:]
        if shape != config.observation_shape:
            raise InputError(f"observations must be {config.observation_shape}, got {shape}")
        highest = int(max(episodes.actions.max(), episodes.targets.max()))
        if highest >= config.num_actions:
            raise InputError(f"actions must be in 0..{config.num_actions - 1}, got {highest}")

    def check_env(self, config: LLMConfig, env: Any) -> None:
        """Raise `InputError` unless the policy can act in the environment."""
        check_sizes(env, config.observation_shape, config.num_actions)
        if config.max_steps < NUM_INTERVALS:
            raise InputError(
                f"max_steps must be at least {NUM_INTERVALS}, an episode's, got {config.max_steps}"
            )
