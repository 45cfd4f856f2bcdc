"""Keys and values of past steps, kept while acting, for many rows at once.

All rows write the same columns at the same time, and the columns form a ring. A table says which
step of a row each column holds, so a row that begins a new episode only marks its columns as empty
and nothing is moved. Keys are stored after the rotary rotation; hence their order in the ring does
not matter, only the mask does, which is made from the table.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from netllm_gym.policies.llm.tokens import TokenTable


class _RingLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one block: (rows, heads, columns, head width)."""

    def __init__(self, ring: "StepCache") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ring = ring

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, heads, _, width = key_states.shape
        columns = self.ring.num_columns
        self.keys = key_states.new_zeros(rows, heads, columns, width)
        self.values = value_states.new_zeros(rows, heads, columns, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None
        assert self.values is not None
        written, used = self.ring.written, self.ring.used
        self.keys[:, :, written] = key_states
        self.values[:, :, written] = value_states
        return self.keys[:, :, :used], self.values[:, :, :used]

    def get_seq_length(self) -> int:
        return self.ring.written.start

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.ring.used, 0

    def get_max_length(self) -> int:
        return self.ring.num_columns


class StepCache(Cache):
    """A ring of columns, one for each token, for each row; what is appended must fill it."""

    def __init__(self, num_layers: int, num_rows: int, num_columns: int) -> None:
        super().__init__(layers=[_RingLayer(self) for _ in range(num_layers)])
        self.num_columns = num_columns
        self.used = 0  # columns that have been written since all rows were last empty
        self.written = slice(0, 0)  # columns of the newest chunk
        self._place = torch.zeros(num_rows, self.num_columns, dtype=torch.int64)
        self._valid = torch.zeros(num_rows, self.num_columns, dtype=torch.bool)

    def forget(self, rows: Tensor) -> None:
        """Mark all columns of these rows empty."""
        self._valid[rows.to(self._valid.device)] = False
        if not self._valid.any():  # all begin together: begin at the ring's start again
            self.used, self.written = 0, slice(0, 0)

    def append(self, chunk: TokenTable) -> tuple[TokenTable, Tensor]:
        """Make room for a chunk of (rows, Q) tokens; the next forward writes its keys there.

        Returns:
            (rows, used) places of all cached tokens, and (Q,) the columns of the chunk.
        """
        if self._place.device != chunk.place.device:
            self._place = self._place.to(chunk.place.device)
            self._valid = self._valid.to(chunk.place.device)
        size = chunk.place.shape[1]
        start = self.written.stop % self.num_columns
        assert start + size <= self.num_columns, "chunks must fill the ring without a rest"
        self.written = slice(start, start + size)
        self.used = max(self.used, self.written.stop)
        self._place[:, self.written] = chunk.place
        self._valid[:, self.written] = chunk.valid
        own = torch.arange(start, start + size, device=chunk.place.device)
        return TokenTable(self._place[:, : self.used], self._valid[:, : self.used]), own
