"""VP's parts of the language-model predictor: its tokens, encoders and head.

There is a token for each sample of the history, and before it, where features of the frames are
known, one for what was on the screen (layout `content`). The head reads the last token and predicts
all future samples in one pass, as offsets from the last viewport. The features of a sample and the
loss are those of all learned predictors, in `policies/viewport.py`.

NetLLM (SIGCOMM 2024) differs: it generates one future sample after the other from absolute angles,
so that the error of a sample is passed on to the next, and a yaw that wraps around jumps.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from netllm_gym.configs import check
from netllm_gym.data.vp.angles import check_order
from netllm_gym.data.vp.viewport import ViewportWindows
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.parts import PredictionParts, TokenModel
from netllm_gym.policies.llm.tokens import TokenLayout, TokenSpec
from netllm_gym.policies.normal import Normal
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.policies.viewport import NUM_FEATURES, silent_linear

_FITTED_ON = 2000  # windows, of whose frames the spread is learned
LAYOUTS = {
    "compact": TokenLayout((TokenSpec("viewport", ("viewport",)),), reads="viewport"),
    "content": TokenLayout(
        (TokenSpec("content", ("content",)), TokenSpec("viewport", ("viewport",))),
        reads="viewport",
    ),
}


class ViewportEncoders(nn.Module):
    """Embeds samples of the history, and frames."""

    def __init__(self, config: LLMConfig, layout: TokenLayout, width: int) -> None:
        super().__init__()
        sees = "content" in layout.sizes
        rule = "be above 0 for the layout content, and 0 for compact"
        check((config.content_size > 0) == sees, "content_size", rule, config.content_size)
        check(config.future >= 1, "future", "be at least 1", config.future)
        check_order(config.euler_order)
        self.viewport = nn.Sequential(
            nn.Linear(NUM_FEATURES, config.feature_dim),
            nn.GELU(),
            nn.Linear(config.feature_dim, width),
        )
        self.normal = Normal(config.content_size) if sees else None
        self.content = nn.Linear(config.content_size, width) if sees else None

    def fit(self, windows: ViewportWindows) -> None:
        """Learn the mean and spread of frames' features."""
        if self.normal is not None:
            shown = windows.content(slice(0, len(windows), 1 + len(windows) // _FITTED_ON))
            assert shown is not None, "the config was made for these windows"
            self.normal.fit(shown.reshape(-1, shown.shape[-1]))

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return token name -> (B, H, 1, d) of observations, (B, H, 8), and content, (B, H, D)."""
        tokens = {"viewport": self.viewport(inputs["observations"]).unsqueeze(2)}
        if self.content is not None and self.normal is not None:
            tokens["content"] = self.content(self.normal(inputs["content"])).unsqueeze(2)
        return tokens


class FutureHead(nn.Module):
    """All future samples at once, at the last token."""

    def __init__(self, config: LLMConfig, layout: TokenLayout, width: int) -> None:
        super().__init__()
        self.reads, self.future = layout.reads, config.future
        self.layer = silent_linear(width, 3 * config.future)

    def forward(self, hidden: Mapping[str, Tensor], inputs: Mapping[str, Any]) -> Tensor:
        """Return (B, F, 3)."""
        answer = self.layer(hidden[self.reads][:, -1, -1])  # (B, 3 F)
        return answer.unflatten(-1, (self.future, 3))  # type: ignore[no-any-return]


class VPParts(PredictionParts):
    """The parts of VP, named by its row."""

    layouts = LAYOUTS
    config_fields = ("future", "euler_order", "content_size")
    batch_windows = 256
    encoders = ViewportEncoders
    head = FutureHead

    def sized(self, config: LLMConfig, windows: ViewportWindows) -> LLMConfig:
        """Return the config for windows: their sizes, and a token for frames if there are any."""
        features = windows.dataset.features
        return replace(
            config,
            layout="compact" if features is None else "content",
            max_steps=windows.config.history,
            num_actions=0,
            observation_shape=(),
            returns=ReturnSpec(kind="none", center=0.0, scale=1.0, target=0.0),
            future=windows.config.future,
            euler_order=windows.dataset.euler_order,
            content_size=0 if features is None else features.size,
        )

    def forecast(self, model: TokenModel, features: Tensor, content: Tensor | None) -> Tensor:
        """Return (B, F, 3) offsets; see the base."""
        batch, steps = features.shape[:2]
        places = torch.arange(steps, device=features.device)
        whole = torch.ones(batch, steps, dtype=torch.bool, device=features.device)
        inputs = {
            "observations": features,
            "timesteps": places.expand(batch, -1),  # (B, H)
            "mask": whole,
            "previous_mask": whole & (places > 0),
        }
        if content is not None:
            inputs["content"] = content
        return model(inputs)  # type: ignore[no-any-return]
