"""The sequence that a backbone reads: the tokens of a step, their order, and the attention mask.

Training and acting use the same layout and the same mask. A *chunk* holds the tokens that one
decision adds: first those that are known only after the previous decision (its action), then those
that are known before this one (return and state). Training places T chunks one after the other;
acting adds one chunk at a time to a cache. The first chunk's action tokens belong to no step and
are invalid. Every kind of token has a fixed place within a chunk, so heads find it by its name.

Some decisions have parts, for example a stage and then a number of executors. Acting then adds a
chunk in pieces, each with what is known by then. A *set* is a kind of token with one token for each
thing that can be chosen; its tokens share one place, so they have no order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from netllm_gym.configs import check


@dataclass(frozen=True)
class TokenSpec:
    """One kind of token within a step.

    Attributes:
        name: Name by which encoders and heads refer to it.
        features: Features whose embeddings are summed into it, by the names of the encoders.
        count: Tokens of this name in a step; 0 for a set of any size, all at one place.
        when: Whether it is known "before" the decision of its step or only "after" it.
    """

    name: str
    features: tuple[str, ...]
    count: int = 1
    when: str = "before"

    def __post_init__(self) -> None:
        check(self.count >= 0, "count", "be at least 0", self.count)
        check(self.when in ("before", "after"), "when", "be before or after", self.when)

    @property
    def places(self) -> int:
        """Places that it takes within a step: a set takes one."""
        return max(self.count, 1)


class TokenTable(NamedTuple):
    """The place of each token of a sequence."""

    place: Tensor  # (B, N) int64: step * places_per_step + slot; below 0 only where invalid
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
        check(len(set(names)) == len(names), "tokens", "have different names", names)
        before = [token.name for token in self.tokens if token.when == "before"]
        rule = "come first"
        check(names[: len(before)] == before, "tokens known before the decision", rule, names)
        check(self.reads in before, "reads", "name a token before the decision", self.reads)

    @property
    def has_sets(self) -> bool:
        """Whether a step may be of any size."""
        return any(not token.count for token in self.tokens)

    @property
    def sizes(self) -> dict[str, int]:
        """Name -> tokens of a whole chunk of a layout of no sets."""
        assert not self.has_sets, "a set is of any size"
        return {token.name: token.count for token in self.tokens}

    @property
    def places_per_step(self) -> int:
        """Places of one step: one for each token, one for a whole set."""
        return sum(token.places for token in self.tokens)

    def in_chunk(self, name: str, sizes: Mapping[str, int]) -> slice:
        """Return the columns of a kind of token within a chunk with tokens of these sizes."""
        names = [token.name for token in self._in_order(sizes)]
        start = sum(sizes[each] for each in names[: names.index(name)])
        return slice(start, start + sizes[name])

    def arrange(self, embedded: Mapping[str, Tensor]) -> Tensor:
        """Lay the tokens out, chunk by chunk.

        Args:
            embedded: name -> (B, T, count, d); place t of an "after" token holds that of the
                previous step. Names that are missing are not part of the chunks.

        Returns:
            (B, T * tokens of a chunk, d).
        """
        chunks = torch.cat([embedded[token.name] for token in self._in_order(embedded)], dim=2)
        return chunks.flatten(1, 2)

    def table(
        self,
        steps: Tensor,
        valid: Tensor,
        previous_valid: Tensor,
        sizes: Mapping[str, int],
        exists: Mapping[str, Tensor],
    ) -> TokenTable:
        """Return the place of each token of `arrange`.

        Args:
            steps: (B, T) step within the episode.
            valid: (B, T) bool, false in padding.
            previous_valid: (B, T) bool, whether the step before is part of the sequence too.
            sizes: Name -> tokens in a chunk, which may hold only some of the kinds.
            exists: name -> (B, T, count) bool for tokens of which some are padding.
        """
        # A chunk of step t: the last places of step t - 1, then the first ones of step t.
        place = -sum(token.places for token in self.tokens if token.when == "after")
        offsets: list[int] = []
        for token in self._in_order({token.name: 1 for token in self.tokens}):
            count = sizes.get(token.name, 0)
            offsets += range(place, place + count) if token.count else [place] * count
            place += token.places
        offset = torch.tensor(offsets, device=steps.device)
        places = (steps * self.places_per_step).unsqueeze(-1) + offset  # (B, T, chunk)
        valid_chunks = torch.where(offset < 0, previous_valid.unsqueeze(-1), True)
        valid_chunks = valid_chunks & valid.unsqueeze(-1)  # (B, T, chunk)
        for name, mask in exists.items():
            valid_chunks[:, :, self.in_chunk(name, sizes)] &= mask
        return TokenTable(places.flatten(1), valid_chunks.flatten(1))

    def steps_of(self, place: Tensor) -> Tensor:
        """Return the step of each token, 0 where the place is below 0."""
        return place.clamp(min=0) // self.places_per_step

    def positions(self, place: Tensor, rule: str) -> Tensor:
        """Return (B, N) positions for the backbone: "native", "slot" or "none"."""
        if rule == "native":
            return place.clamp(min=0)
        if rule == "slot":
            return place % self.places_per_step
        return torch.zeros_like(place)

    def mask(self, queries: TokenTable, keys: TokenTable, own: Tensor, band_steps: int) -> Tensor:
        """Return the attention mask, (B, 1, Q, K) bool, or (1, 1, Q, K) where all rows are alike.

        A token attends to the valid tokens up to its place whose step is less than `band_steps`
        before its own; tokens of a set attend to each other. It always attends to itself, since a
        row of all False would turn padding into NaN.

        Args:
            queries: (B, Q) tokens that attend.
            keys: (B, K) tokens that are attended to.
            own: (Q,) int64, the column of each query among the keys.
            band_steps: Steps that are attended to, the token's own included.
        """
        queries, keys = _once_if_alike(queries, keys)
        size = self.places_per_step
        seeing, seen = queries.place.unsqueeze(-1), keys.place.unsqueeze(-2)
        near = torch.div(seeing, size, rounding_mode="floor") - band_steps < torch.div(
            seen, size, rounding_mode="floor"
        )
        allowed = keys.valid.unsqueeze(-2) & (seen <= seeing) & near
        columns = torch.arange(keys.place.shape[1], device=own.device)
        return (allowed | (own.unsqueeze(-1) == columns)).unsqueeze(1)

    def gather(self, hidden: Tensor, name: str, sizes: Mapping[str, int]) -> Tensor:
        """Return (B, T, count, d): the hidden states of one kind of token, of (B, N, d)."""
        chunks = hidden.reshape(len(hidden), -1, sum(sizes.values()), hidden.shape[-1])
        return chunks[:, :, self.in_chunk(name, sizes)]

    def _in_order(self, names: Mapping[str, object]) -> list[TokenSpec]:
        """Return the tokens of these names as a chunk holds them."""
        held = [token for token in self.tokens if token.name in names]
        return sorted(held, key=lambda token: token.when)  # "after" < "before"


def _once_if_alike(queries: TokenTable, keys: TokenTable) -> tuple[TokenTable, TokenTable]:
    """Return only the first row of tables whose rows are all alike: full batches, equal starts."""
    tables = (*queries, *keys)
    if all(bool((each == each[:1]).all()) for each in tables):
        return TokenTable(*(each[:1] for each in queries)), TokenTable(*(e[:1] for e in keys))
    return queries, keys
