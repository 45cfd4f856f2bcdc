"""The language-model policy as one network: encoders, token layout, backbone and head.

Training and acting run the same method, `hidden`. Training gives it whole episodes, or all parts of
a decision at once; acting gives it one step, or one part, and a cache of what came before.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netllm_gym.policies.llm.backbone import load_backbone, position_rule
from netllm_gym.policies.llm.cache import StepCache
from netllm_gym.policies.llm.config import LLMConfig
from netllm_gym.policies.llm.parts import model_parts_of


class LLMModel(nn.Module):
    """Encoders -> token layout -> LayerNorm -> backbone -> head; for `stored` see the backbone."""

    def __init__(self, config: LLMConfig, stored: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        parts = model_parts_of(config.problem)
        parts.check_config(config)
        self.config, self.layout = config, parts.layouts[config.layout]
        loaded = load_backbone(config.backbone, config.seed, stored)
        self.backbone, self.backbone_config, width, self.num_layers, self.base_sha256 = loaded
        self.position_rule = position_rule(self.backbone, config.backbone.positions)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.encoders: Any = parts.encoders(config, self.layout, width)
            self.timestep = nn.Embedding(config.max_steps, width)
            nn.init.normal_(self.timestep.weight, std=0.1)
            self.norm = nn.LayerNorm(width)
            self.head = parts.head(config, self.layout, width)

    def forward(self, inputs: Mapping[str, Any], cache: StepCache | None = None) -> Any:
        """Return the logits of the decisions, (B, T, actions) or what the problem's head gives.

        Args:
            inputs: observations (B, T, ...), returns (B, T), timesteps (B, T) int64, mask (B, T)
                bool (padding behind), previous_actions (B, T) int64, previous_mask (B, T) bool
                (whether the step before is part of the episode); see `inputs_of`.
            cache: Steps before these; None if there are none.
        """
        return self.head(self.hidden(self.encoders(inputs), inputs, cache), inputs)

    def hidden(
        self,
        embedded: Mapping[str, Tensor],
        inputs: Mapping[str, Any],
        cache: StepCache | None = None,
    ) -> dict[str, Tensor]:
        """Run tokens through the backbone; return name -> (B, T, count, d) hidden states.

        Args:
            embedded: name -> (B, T, count, d) tokens of the layout, all or some of a step's.
            inputs: timesteps, mask and previous_mask as of `forward`; `exists`, name -> (B, T,
                count) bool, where some tokens are padding.
            cache: Tokens before these; None if there are none.
        """
        layout = self.layout
        sizes = {name: each.shape[2] for name, each in embedded.items()}
        exists = {name: each for name, each in inputs.get("exists", {}).items() if name in sizes}
        steps_and_masks = (inputs["timesteps"], inputs["mask"], inputs["previous_mask"])
        table = layout.table(*steps_and_masks, sizes, exists)
        tokens = layout.arrange(embedded)  # (B, N, d), N = T * tokens of a chunk
        steps = layout.steps_of(table.place).clamp(max=self.config.max_steps - 1)  # (B, N)
        tokens = self.norm(tokens + self.timestep(steps))  # (B, N, d)
        if cache is None:
            keys, own = table, torch.arange(tokens.shape[1], device=tokens.device)
        else:
            keys, own = cache.append(table)
        allowed = layout.mask(table, keys, own, self.config.band_steps)  # (B or 1, 1, N, K)
        output = self.backbone(
            inputs_embeds=tokens.to(self.dtype),
            # An explicit mask: without one, transformers takes our positions for packed sequences.
            attention_mask=added(allowed, self.dtype),
            position_ids=layout.positions(table.place, self.position_rule),  # (B, N)
            past_key_values=cache,
            use_cache=cache is not None,
        )
        hidden = output.last_hidden_state.to(tokens.dtype)  # (B, N, d)
        return {name: layout.gather(hidden, name, sizes) for name in sizes}

    @property
    def dtype(self) -> torch.dtype:
        """Of the backbone."""
        return torch.bfloat16 if self.config.backbone.dtype == "bfloat16" else torch.float32

    def new_cache(self, num_rows: int, num_columns: int | None = None) -> StepCache:
        """Return an empty cache for rows that act together, with columns for so many tokens.

        None has room for the steps in sight and one more: an action's token comes a step late, and
        still sees the step that is about to leave.
        """
        if num_columns is None:
            num_columns = (self.config.band_steps + 1) * sum(self.layout.sizes.values())
        return StepCache(self.num_layers, num_rows, num_columns)

    def outside(self) -> dict[str, Tensor]:
        """Return the weights and constants around the backbone, by name."""
        state = self.state_dict()
        return {name: value for name, value in state.items() if not name.startswith("backbone.")}


def added(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a mask as numbers to add to the scores: once, not in each block."""
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, -torch.inf)


OF_TEACHERS = ("actions", "targets", "values")  # of a batch; what a model must not see


def inputs_of(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the model may see of a batch of episodes: actions only a step late."""
    inputs = {name: value for name, value in batch.items() if name not in OF_TEACHERS}
    for name, each in (("actions", batch["actions"]), ("mask", batch["mask"])):  # 0 at the first
        late = torch.cat([torch.zeros_like(each[:, :1]), each[:, :-1]], dim=1)
        inputs[f"previous_{name}"] = late
    return inputs


def on_device(values: Any, device: torch.device | str) -> Any:
    """Return inputs on a device: tensors, alone or in dicts, lists and named tuples."""
    if isinstance(values, Tensor):
        return values.to(device)
    if isinstance(values, dict):
        return {name: on_device(each, device) for name, each in values.items()}
    if isinstance(values, list):
        return [on_device(each, device) for each in values]
    return type(values)(*(on_device(each, device) for each in values))


def devices() -> list[str]:
    """Return what torch can use here, in words."""
    cuda = range(torch.cuda.device_count())
    return [
        f"cpu ({torch.get_num_threads()} threads)",
        *(f"cuda:{index} ({torch.cuda.get_device_name(index)})" for index in cuda),
        *(["mps"] if torch.backends.mps.is_available() else []),
    ]
