"""The sequence that a backbone reads: which tokens a step has, in what order, and who sees whom.

One layout and one mask serve training and acting. A *chunk* is what one decision adds: the tokens
known only after the decision before (the action), then those known before this one (return,
state). Training lays T chunks side by side, acting adds one at a time to a cache; the first
chunk's after-tokens belong to no step and are invalid. So a token's place in a chunk is fixed and
heads gather by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from netllm_gym.errors import InputError


@dataclass(frozen=True)
class TokenSpec:
    """One kind of token within a step.

    Attributes:
        name: By which encoders and heads know it.
        features: Whose embeddings are summed into it; the problem's encoders know the names.
        count: Tokens of this name in a step.
        when: "before" the decision of its step or only "after" it.
    """

    name: str
    features: tuple[str, ...]
    count: int = 1
    when: str = "before"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"count must be at least 1, got {self.count}")
        if self.when not in ("before", "after"):
            raise InputError(f"when must be before or after, got {self.when!r}")


class TokenTable(NamedTuple):
    """Where each token of a sequence stands."""

    place: Tensor  # (B, N) int64: step * tokens_per_step + slot; below 0 only where invalid
    valid: Tensor  # (B, N) bool


@dataclass(frozen=True)
class TokenLayout:
    """The tokens of one step, those before the decision first.

    Attributes:
        tokens: In the order in which the backbone reads them.
        reads: Name of the token at which the head reads.
    """

    tokens: tuple[TokenSpec, ...]
    reads: str

    def __post_init__(self) -> None:
        names = [token.name for token in self.tokens]
        if len(set(names)) != len(names):
            raise InputError(f"tokens must have different names, got {names}")
        if [t.when for t in self.tokens] != sorted((t.when for t in self.tokens), reverse=True):
            raise InputError(f"tokens known before the decision must come first, got {names}")
        if self.reads not in [t.name for t in self.tokens if t.when == "before"]:
            raise InputError(f"reads must name a token before the decision, got {self.reads!r}")

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step, which is also the length of a chunk."""
        return sum(token.count for token in self.tokens)

    @property
    def after_count(self) -> int:
        """Tokens of one step that are known only after its decision."""
        return sum(token.count for token in self.tokens if token.when == "after")

    def in_chunk(self, name: str) -> slice:
        """Return the places of a kind of token within a chunk."""
        start = 0
        for token in sorted(self.tokens, key=lambda token: token.when):  # "after" < "before"
            if token.name == name:
                return slice(start, start + token.count)
            start += token.count
        raise InputError(f"token must be in the layout, got {name!r}")

    def arrange(self, embedded: Mapping[str, Tensor]) -> Tensor:
        """Lay the tokens out, chunk by chunk.

        Args:
            embedded: name -> (B, T, count, d); at place t of an "after" token stands that of the
                step before.

        Returns:
            (B, T * tokens_per_step, d).
        """
        in_order = sorted(self.tokens, key=lambda token: token.when)
        chunks = torch.cat([embedded[token.name] for token in in_order], dim=2)
        return chunks.flatten(1, 2)

    def table(
        self,
        steps: Tensor,
        valid: Tensor,
        previous_valid: Tensor,
        exists: Mapping[str, Tensor] | None = None,
    ) -> TokenTable:
        """Return where each token of `arrange` stands.

        Args:
            steps: (B, T) step within the episode.
            valid: (B, T) bool, false in padding.
            previous_valid: (B, T) bool, whether the step before is part of the sequence too.
            exists: name -> (B, T, count) bool for variable tokens.
        """
        after, size = self.after_count, self.tokens_per_step
        slots = torch.arange(size, device=steps.device)
        # A chunk of step t: the last `after` slots of step t - 1, then the first ones of step t.
        place = (steps * size - after).unsqueeze(-1) + slots  # (B, T, size)
        valid_chunks = torch.where(slots < after, previous_valid.unsqueeze(-1), True)
        valid_chunks = valid_chunks & valid.unsqueeze(-1)  # (B, T, size)
        for name, mask in (exists or {}).items():
            valid_chunks[:, :, self.in_chunk(name)] &= mask
        return TokenTable(place.flatten(1), valid_chunks.flatten(1))

    def steps_of(self, place: Tensor) -> Tensor:
        """Return the step of each token, 0 where the place is below 0."""
        return place.clamp(min=0) // self.tokens_per_step

    def positions(self, place: Tensor, rule: str) -> Tensor:
        """Return (B, N) positions for the backbone: "native", "slot" or "none"."""
        if rule == "native":
            return place.clamp(min=0)
        if rule == "slot":
            return place % self.tokens_per_step
        return torch.zeros_like(place)

    def mask(self, queries: TokenTable, keys: TokenTable, own: Tensor, band_steps: int) -> Tensor:
        """Say who sees whom; the one rule for training and acting.

        A token sees the valid tokens up to itself whose step is less than `band_steps` before
        its own. It always sees itself: a row of all False would turn padding into NaN.

        Args:
            queries: (B, Q) tokens that look.
            keys: (B, K) tokens that are looked at.
            own: (Q,) int64, the column of each query among the keys.
            band_steps: Steps in sight, the own one included.

        Returns:
            (B, 1, Q, K) bool, or (1, 1, Q, K) where all rows are alike.
        """
        queries, keys = _once_if_alike(queries, keys)
        size = self.tokens_per_step
        seeing, seen = queries.place.unsqueeze(-1), keys.place.unsqueeze(-2)
        near = torch.div(seeing, size, rounding_mode="floor") - band_steps < torch.div(
            seen, size, rounding_mode="floor"
        )
        allowed = keys.valid.unsqueeze(-2) & (seen <= seeing) & near
        columns = torch.arange(keys.place.shape[1], device=own.device)
        return (allowed | (own.unsqueeze(-1) == columns)).unsqueeze(1)

    def gather(self, hidden: Tensor, name: str) -> Tensor:
        """Return (B, T, count, d): the hidden states of one kind of token, of (B, N, d)."""
        B, N, d = hidden.shape
        chunks = hidden.reshape(B, N // self.tokens_per_step, self.tokens_per_step, d)
        return chunks[:, :, self.in_chunk(name)]


def _once_if_alike(queries: TokenTable, keys: TokenTable) -> tuple[TokenTable, TokenTable]:
    """Return only the first row of tables whose rows are all alike: full batches, equal starts."""
    tables = (*queries, *keys)
    if all(bool((each == each[:1]).all()) for each in tables):
        return TokenTable(*(each[:1] for each in queries)), TokenTable(*(e[:1] for e in keys))
    return queries, keys
